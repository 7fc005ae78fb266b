// com.microsoft GatherBlockQuantized (1): Gather from integers with a scale (and a zero point) per block, dequantized.
// Inputs data (int4, uint4; or uint8 holding `bits` (4) of 2, 4 or 8 each, lowest first along the last axis), indices,
// scales (float32, float16), zero_points (as data; absent: 0, for uint8 2^(bits-1)). Attributes gather_axis 0,
// quantize_axis 1, block_size 128. An index outside gives zeros.
#include "ops/shared/facts.h"
#include "ops/shared/product.h"

namespace linnet {
namespace {

struct Table {
    int64_t bits, block, gather, quantize;
    Shape shape;  // of the integers
    Table(const Attributes& attributes, DType dtype, const Shape& data)
        : bits(dtype == DType::u8 ? attributes.i("bits", 4) : 8),
          block(attributes.i("block_size", 128)),
          gather(normal_axis(attributes.i("gather_axis", 0), static_cast<int64_t>(data.size()))),
          quantize(normal_axis(attributes.i("quantize_axis", 1), static_cast<int64_t>(data.size()))),
          shape(data) {
        require(bits == 2 || bits == 4 || bits == 8, "bits is ", bits, ", expected 2, 4 or 8");
        require(block >= 16 && (block & (block - 1)) == 0, "block_size is ", block,
                ", expected a power of two from 16 on");
        require(gather != quantize, "gather_axis and quantize_axis are both ", gather);
        require(bits == 8 || gather + 1 < static_cast<int64_t>(data.size()),
                "packed integers are gathered along the last axis");
    }
};

void infer(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1), &scales = tensor_input(ctx, 2);
    require(data.dtype == DType::u8 || data.dtype == DType::u4 || data.dtype == DType::i4, "data are ",
            dtype_name(data.dtype), ", expected uint8, uint4 or int4");
    require_index_type(indices);
    require(scales.dtype == DType::f32 || scales.dtype == DType::f16 || scales.dtype == DType::bf16, "scales are ",
            dtype_name(scales.dtype));
    if (ctx.has_input(3)) require(ctx.input(3).dtype == data.dtype, "zero_points are ", dtype_name(ctx.input(3).dtype));
    if (!data.ranked || !indices.ranked) return ctx.output_unranked(0, scales.dtype);
    const Table table(ctx.attributes, data.dtype, data.shape);
    Shape shape;
    for (int64_t i = 0; i < data.rank(); ++i) {
        if (i != table.gather) shape.push_back(data.shape[static_cast<size_t>(i)]);
        else
            for (int64_t size : indices.shape) shape.push_back(size);
    }
    if (table.bits < 8) shape.back() = ctx.dims.mul(shape.back(), 8 / table.bits);
    ctx.output(0, scales.dtype, shape);
}

void run(RunContext& ctx) {
    const Tensor &data = ctx.input(0), &indices = ctx.input(1);
    const Tensor scales = ctx.input(2).dtype == DType::f32 ? ctx.input(2) : convert_float(ctx.input(2), DType::f32);
    const Tensor* const zeros = ctx.has_input(3) ? &ctx.input(3) : nullptr;
    Table table(ctx.attributes, data.dtype, data.shape);
    const int64_t per_byte = 8 / table.bits;
    table.shape.back() = checked_mul(table.shape.back(), per_byte);
    const auto gather = static_cast<size_t>(table.gather), quantize = static_cast<size_t>(table.quantize);
    Shape blocks = table.shape;
    blocks[quantize] = (blocks[quantize] + table.block - 1) / table.block;
    Shape packed = blocks;
    packed.back() = (packed.back() + per_byte - 1) / per_byte;
    if (!(scales.shape == blocks) || (zeros && !(zeros->shape == packed)))
        fail(ErrorKind::invalid_argument, "scales ", shape_text(scales.shape), zeros ? " and zero_points " : "",
             zeros ? shape_text(zeros->shape) : "", " for blocks ", shape_text(blocks));
    Tensor& y = ctx.output(0);
    Tensor out = y.dtype == DType::f32 ? y : Tensor::allocate(DType::f32, y.shape);
    const int64_t rows = table.shape[gather], inner = product(table.shape, gather + 1, table.shape.size());
    const int64_t count = indices.count(), within = product(table.shape, quantize + 1, table.shape.size());
    const int64_t width = table.shape.back(), mask = (int64_t{1} << table.bits) - 1;
    // Field i of rows of bytes, each row of `columns` fields from a new byte on.
    const auto field = [&](const Tensor& bytes, int64_t i, int64_t columns) -> int64_t {
        if (bytes.dtype == DType::i4) return bytes.as<int8_t>()[i];
        if (per_byte == 1) return bytes.as<uint8_t>()[i];
        const int64_t column = i % columns, row = i / columns * ((columns + per_byte - 1) / per_byte);
        return bytes.as<uint8_t>()[row + column / per_byte] >> column % per_byte * table.bits & mask;
    };
    const int64_t middle = data.dtype == DType::u8 ? int64_t{1} << (table.bits - 1) : 0;
    parallel_for(ctx.parallel(), inner == 0 ? 0 : out.count() / inner, [&](int64_t task) {
        float* const to = out.as<float>() + task * inner;
        int64_t row = int_at(indices, task % count);
        if (row < 0) row += rows;
        if (row < 0 || row >= rows) return static_cast<void>(std::fill_n(to, inner, 0.0f));
        const int64_t first = (task / count * rows + row) * inner;
        for (int64_t i = 0; i < inner; ++i) {
            const int64_t at = first + i, line = at / within, length = table.shape[quantize];
            const int64_t block =
                (line / length * blocks[quantize] + line % length / table.block) * within + at % within;
            const int64_t zero = zeros ? field(*zeros, block, blocks.back()) : middle;
            to[i] = static_cast<float>(field(data, at, width) - zero) * scales.as<float>()[block];
        }
    });
    if (y.dtype != DType::f32) copy_elements(convert_float(out, y.dtype), y);
}

}  // namespace

std::span<const OpDef> gather_block_quantized_ops() {
    static const OpDef rows[] = {
        {.name = "GatherBlockQuantized",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .min_inputs = 3,
         .max_inputs = 4},
    };
    return rows;
}

}  // namespace linnet
