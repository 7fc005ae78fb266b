// MaxUnpool (ai.onnx 9, 11, 22): attributes kernel_shape, pads 0, strides 1. Inputs x, the indices of MaxPool into the
// (unpadded) tensor that was pooled, and output_shape, which pads that tensor at its end.
#include "graph/op.h"
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
void scatter(const Tensor& x, const int64_t* indices, const Shape& from, Tensor& y) {
    const Shape strides = strides_of(y.shape);
    const int64_t count = x.count(), places = element_count(from);
    const bool same = from == y.shape;
    const T* source = static_cast<const T*>(x.data);
    T* target = static_cast<T*>(y.data);
    for (int64_t i = 0; i < count; ++i) {
        int64_t rest = indices[i], at = rest;
        if (rest < 0 || rest >= places)
            fail(ErrorKind::invalid_argument, "index ", rest, " is outside [0, ", places - 1, "]");
        if (!same) {
            at = 0;
            for (size_t axis = from.size(); axis-- > 0; rest /= from[axis]) at += rest % from[axis] * strides[axis];
        }
        target[at] = source[i];
    }
}

void run(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (!(indices.shape == x.shape))
        fail(ErrorKind::invalid_argument, "indices have shape ", shape_text(indices.shape), ", x ",
             shape_text(x.shape));
    DimTable numbers;
    const Shape from = pooled_from(numbers, ctx.attributes, x.shape);
    parallel_ranges(ctx.parallel(), static_cast<int64_t>(y.bytes()), 1 << 18, [&](int64_t begin, int64_t end) {
        __builtin_memset(static_cast<char*>(y.data) + begin, 0, static_cast<size_t>(end - begin));
    });
    const auto* at = indices.as<int64_t>();
    switch (dtype_size(x.dtype)) {
        case 2: return scatter<uint16_t>(x, at, from, y);
        case 4: return scatter<uint32_t>(x, at, from, y);
        default: return scatter<uint64_t>(x, at, from, y);
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
