// MaxUnpool (ai.onnx 9, 11, 22): attributes kernel_shape, pads 0, strides 1. Inputs x, the indices of MaxPool into the
// (unpadded) tensor that was pooled, and output_shape, which pads that tensor at its end.
#include <atomic>

#include "graph/op.h"
#include "ops/shared/indices.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

// The shape that indices count in.
Shape pooled_from(DimTable& dims, const Attributes& attributes, const Shape& x) {
    require(x.size() >= 3, "x has rank ", x.size(), ", expected at least 3");
    const WindowAttributes w = read_window(attributes, x.size() - 2, nullptr);
    Shape shape = x;
    for (size_t i = 0; i < w.spatial; ++i)
        shape[2 + i] =
            dims.add(dims.mul(dims.sub(x[2 + i], 1), w.stride[i]), w.kernel[i] - w.pad_begin[i] - w.pad_end[i]);
    return shape;
}

void infer(InferContext& ctx) {
    const Fact &x = ctx.input(0), &indices = ctx.input(1);
    require(is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    require(indices.dtype == DType::i64, "indices are ", dtype_name(indices.dtype), ", expected int64");
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    if (indices.ranked && is_known(indices.shape) && is_known(x.shape))
        require(indices.shape == x.shape, "indices have shape ", shape_text(indices.shape), ", x ",
                shape_text(x.shape));
    Shape out = pooled_from(ctx.dims, ctx.attributes, x.shape);
    for (int64_t d : out) require(!is_number(d) || d >= 0, "the output would have a size of ", d);
    if (ctx.has_input(2)) {
        if (const Shape* given = ctx.ints(2)) {
            require(given->size() == out.size(), "output_shape has ", given->size(), " entries, expected ", out.size());
            for (size_t i = 0; i < out.size(); ++i)
                if (is_number((*given)[i]) && is_number(out[i]))
                    require((*given)[i] >= out[i], "output_shape entry ", (*given)[i], " is less than ", out[i]);
            out = *given;
        } else {
            out = Shape(out.size(), kUnknownDim);
        }
    }
    ctx.output(0, x.dtype, out);
}

// Indices may name any place, and one place twice: the last one wins, so there is one thread.
template <class T>
void scatter_anywhere(const T* x, const int64_t* indices, int64_t count, const Shape& from, const Shape& shape, T* y) {
    const Shape strides = strides_of(shape);
    const int64_t places = element_count(from);
    for (int64_t i = 0; i < count; ++i) {
        int64_t rest = indices[i], at = 0;
        if (rest < 0 || rest >= places)
            fail(ErrorKind::invalid_argument, "index ", rest, " is outside [0, ", places - 1, "]");
        for (size_t axis = from.size(); axis-- > 0; rest /= from[axis]) at += rest % from[axis] * strides[axis];
        y[at] = x[i];
    }
}

// MaxPool's indices stay within their channel, where the output has the shape that was pooled: false if they do not,
// and y is then unfinished.
template <class T>
bool scatter_channels(const Parallel& parallel, int64_t channels, int64_t pooled, int64_t pixels, const T* x,
                      const int64_t* indices, T* y) {
    std::atomic<bool> stay = true;
    parallel_ranges(parallel, channels, row_grain(pixels + 2 * pooled), [&](int64_t begin, int64_t end) {
        for (int64_t c = begin; c < end && stay; ++c) {
            const int64_t* at = indices + c * pooled;
            const T* source = x + c * pooled;
            T* target = y + c * pixels;
            const IndexRange range = range_of(at, pooled);
            if (pooled > 0 && (range.least < c * pixels || range.largest >= (c + 1) * pixels)) {
                stay = false;
                return;
            }
            __builtin_memset(target, 0, static_cast<size_t>(pixels) * sizeof(T));
            for (int64_t i = 0; i < pooled; ++i) target[at[i] - c * pixels] = source[i];
        }
    });
    return stay;
}

void run(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (!(indices.shape == x.shape))
        fail(ErrorKind::invalid_argument, "indices have shape ", shape_text(indices.shape), ", x ",
             shape_text(x.shape));
    DimTable numbers;
    const Shape from = pooled_from(numbers, ctx.attributes, x.shape);
    const auto* at = indices.as<int64_t>();
    const int64_t channels = x.shape[0] * x.shape[1];
    const auto scatter = [&]<class T>(TypeTag<T>) {
        const T* source = static_cast<const T*>(x.data);
        T* target = static_cast<T*>(y.data);
        if (from == y.shape && y.count() > 0 &&
            scatter_channels(ctx.parallel(), channels, x.count() / channels, y.count() / channels, source, at, target))
            return;
        __builtin_memset(y.data, 0, y.bytes());
        scatter_anywhere(source, at, x.count(), from, y.shape, target);
    };
    switch (dtype_size(x.dtype)) {
        case 2: return scatter(TypeTag<uint16_t>{});
        case 4: return scatter(TypeTag<uint32_t>{});
        default: return scatter(TypeTag<uint64_t>{});
    }
}

}  // namespace

std::span<const OpDef> max_unpool_ops() {
    static const OpDef rows[] = {
        {.name = "MaxUnpool", .infer = infer, .run = run, .min_inputs = 2, .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
