// NonZero (9, 13) and Compress (9, 11, 28): how many elements there are depends on the data.
#include <algorithm>

#include "base/half.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_nonzero(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    require(data.dtype != DType::c64 && data.dtype != DType::c128, "NonZero of ", dtype_name(data.dtype));
    ctx.output(0, DType::i64, {data.ranked ? data.rank() : kUnknownDim, kUnknownDim});
}

template <class T>
bool not_zero(const T& value) {
    return value != T{};
}
bool not_zero(Half value) { return (value.bits & 0x7fff) != 0; }
bool not_zero(BFloat16 value) { return (value.bits & 0x7fff) != 0; }

template <class T>
void nonzero(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const T* data = x.as<T>();
    const int64_t count = x.count();
    int64_t found = 0;
    for (int64_t i = 0; i < count; ++i) found += not_zero(data[i]);
    int64_t* out = ctx.allocate(0, DType::i64, {x.rank(), found}).as<int64_t>();
    if (found == 0) return;
    constexpr int64_t kChunk = 256;
    const size_t rank = x.shape.size(), last = rank - 1;
    if (rank == 0) return;
    const int64_t width = x.shape[last];
    Shape index(rank, 0);
    int64_t at = 0;
    for (int64_t row = 0; row < count; row += width) {
        for (int64_t first = 0; first < width; first += kChunk) {
            int64_t places[kChunk], held = 0;
            const int64_t end = std::min(width, first + kChunk);
            for (int64_t i = first; i < end; ++i) {
                places[held] = i;
                held += not_zero(data[row + i]);
            }
            for (size_t axis = 0; axis < last; ++axis)
                std::fill_n(out + static_cast<int64_t>(axis) * found + at, held, index[axis]);
            std::copy_n(places, held, out + static_cast<int64_t>(last) * found + at);
            at += held;
        }
        for (size_t axis = last; axis-- > 0;) {
            if (++index[axis] < x.shape[axis]) break;
            index[axis] = 0;
        }
    }
}

void run_nonzero(RunContext& ctx) {
    switch (ctx.input(0).dtype) {
        case DType::f32: return nonzero<float>(ctx);
        case DType::f64: return nonzero<double>(ctx);
        case DType::f16: return nonzero<Half>(ctx);
        case DType::bf16: return nonzero<BFloat16>(ctx);
        case DType::string: return nonzero<std::string>(ctx);
        default: break;
    }
    switch (dtype_size(ctx.input(0).dtype)) {
        case 1: return nonzero<uint8_t>(ctx);
        case 2: return nonzero<uint16_t>(ctx);
        case 4: return nonzero<uint32_t>(ctx);
        default: return nonzero<uint64_t>(ctx);
    }
}

void infer_compress(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &condition = tensor_input(ctx, 1);
    require(condition.dtype == DType::boolean || condition.dtype == DType::undefined, "condition must be bool, not ",
            dtype_name(condition.dtype));
    require(!condition.ranked || condition.rank() == 1, "condition must have rank 1, not ", condition.rank());
    if (!ctx.attributes.has("axis")) return ctx.output(0, data.dtype, {kUnknownDim});
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    Shape shape = data.shape;
    shape[static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()))] = kUnknownDim;
    ctx.output(0, data.dtype, shape);
}

void run_compress(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &condition = ctx.input(1);
    if (condition.dtype != DType::boolean || condition.rank() != 1)
        fail(ErrorKind::invalid_argument, "condition must be bool of rank 1, not ", dtype_name(condition.dtype), " ",
             shape_text(condition.shape));
    const bool flat = !ctx.attributes.has("axis");
    const auto axis = flat ? 0 : static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    const int64_t size = flat ? x.count() : x.shape[axis];
    const int64_t outer = flat ? 1 : product(x.shape, 0, axis);
    const int64_t inner = flat ? 1 : product(x.shape, axis + 1, x.shape.size());
    // Places beyond the condition are not taken; conditions beyond the places must not ask for them.
    int64_t kept = 0;
    for (int64_t i = 0; i < condition.count(); ++i) {
        if (!condition.as<uint8_t>()[i]) continue;
        if (i >= size) fail(ErrorKind::invalid_argument, "condition ", i, " is set, the input has ", size, " slices");
        ++kept;
    }
    Shape shape = flat ? Shape{kept} : x.shape;
    shape[axis] = kept;
    Tensor& y = ctx.allocate(0, x.dtype, shape);
    const int64_t last = std::min(size, condition.count());
    for (int64_t o = 0, to = 0; o < outer; ++o)
        for (int64_t i = 0; i < last; ++i) {
            const int64_t first = i;
            while (i < last && condition.as<uint8_t>()[i]) ++i;
            const int64_t count = (i - first) * inner;
            copy_run(x.dtype, count, element(x.data, x.dtype, (o * size + first) * inner),
                     element(y.data, x.dtype, to));
            to += count;
        }
}

}  // namespace

std::span<const OpDef> select_ops() {
    static const OpDef rows[] = {
        {.name = "NonZero",
         .since = 9,
         .infer = infer_nonzero,
         .run = run_nonzero,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Compress",
         .since = 9,
         .infer = infer_compress,
         .run = run_compress,
         .flags = kDynamic,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
