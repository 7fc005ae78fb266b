// Trilu (14) and EyeLike (9, 22).
#include <algorithm>

#include "base/half.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_trilu(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    if (ctx.has_input(1)) {
        const Fact& k = tensor_input(ctx, 1);
        require(k.dtype == DType::i64 || k.dtype == DType::undefined, "k must be int64, not ", dtype_name(k.dtype));
        if (k.ranked && is_known(k.shape)) require(element_count(k.shape) == 1, "k must be one number");
    }
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    require(data.rank() >= 2, "the input must have rank 2 or more, not ", data.rank());
    ctx.output(0, data.dtype, data.shape);
}

void run_trilu(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t cols = x.shape[x.shape.size() - 1], height = x.shape[x.shape.size() - 2];
    if (x.count() == 0) return;
    const bool upper = ctx.attributes.i("upper", 1) != 0;
    // Beyond the matrix, one diagonal is as good as another.
    const int64_t k = ctx.has_input(1) ? std::clamp(*ctx.input(1).as<int64_t>(), -height - 1, cols + 1) : 0;
    const auto clear = [&](int64_t first, int64_t count) {
        if (x.dtype == DType::string) std::fill_n(y.as<std::string>() + first, count, std::string());
        else __builtin_memset(element(y.data, x.dtype, first), 0, static_cast<size_t>(count) * dtype_size(x.dtype));
    };
    parallel_ranges(ctx.parallel(), x.count() / cols, std::max<int64_t>(1, 16384 / cols),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t row = begin; row < end; ++row) {
                            const int64_t edge = std::clamp<int64_t>(row % height + k + (upper ? 0 : 1), 0, cols);
                            const int64_t first = upper ? edge : 0, last = upper ? cols : edge, base = row * cols;
                            copy_run(x.dtype, last - first, element(x.data, x.dtype, base + first),
                                     element(y.data, x.dtype, base + first));
                            clear(base, first);
                            clear(base + last, cols - last);
                        }
                    });
}

void infer_eye_like(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto number = ctx.attributes.i("dtype", static_cast<int64_t>(data.dtype));
    require(number >= 0 && number < kDTypeCount, "dtype ", number, " is no element type");
    const auto dtype = static_cast<DType>(number);
    require(is_float(dtype) || is_int(dtype) || dtype == DType::boolean || dtype == DType::undefined, "EyeLike of ",
            dtype_name(dtype));
    require(!data.ranked || data.rank() == 2, "the input must have rank 2, not ", data.rank());
    ctx.output(0, dtype, data.ranked ? data.shape : unknown_shape(2));
}

void run_eye_like(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    const int64_t height = y.shape[0], cols = y.shape[1], k = ctx.attributes.i("k", 0);
    if (y.count() == 0) return;
    __builtin_memset(y.data, 0, y.bytes());
    if (k >= cols || k <= -height) return;
    for (int64_t row = std::max<int64_t>(0, -k); row < height && row + k < cols; ++row) {
        const int64_t at = row * cols + row + k;
        switch (y.dtype) {
            case DType::f32: y.as<float>()[at] = 1; break;
            case DType::f64: y.as<double>()[at] = 1; break;
            case DType::f16: y.as<Half>()[at] = to_half(1); break;
            case DType::bf16: y.as<BFloat16>()[at] = to_bfloat16(1); break;
            default:  // little-endian integers: the first byte
                *static_cast<uint8_t*>(element(y.data, y.dtype, at)) = 1;
        }
    }
}

}  // namespace

std::span<const OpDef> triangle_ops() {
    static const OpDef rows[] = {
        {.name = "Trilu", .since = 14, .infer = infer_trilu, .run = run_trilu, .min_inputs = 1, .max_inputs = 2},
        {.name = "EyeLike", .since = 9, .infer = infer_eye_like, .run = run_eye_like, .min_inputs = 1, .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
