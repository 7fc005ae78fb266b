// Shape (1, 13; 15 ... 25 with `start` and `end`) and Size (1 ... 25).
#include <algorithm>

#include "ops/shared/facts.h"

namespace linnet {
namespace {

// The axes [first, last) that Shape gives.
std::pair<int64_t, int64_t> axis_range(const Attributes& attributes, int64_t rank) {
    int64_t first = attributes.i("start", 0), last = attributes.i("end", rank);
    if (first < 0) first += rank;
    if (last < 0) last += rank;
    first = std::clamp<int64_t>(first, 0, rank);
    last = std::clamp<int64_t>(last, first, rank);
    return {first, last};
}

void infer_shape(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    if (!data.ranked) return ctx.output(0, DType::i64, {kUnknownDim});
    const auto [first, last] = axis_range(ctx.attributes, data.rank());
    ctx.output(0, ints_fact(DType::i64, {last - first}, Shape(data.shape.begin() + first, data.shape.begin() + last)));
}

void run_shape(RunContext& ctx) {
    const Shape& shape = ctx.input(0).shape;
    const auto [first, last] = axis_range(ctx.attributes, ctx.input(0).rank());
    std::copy(shape.begin() + first, shape.begin() + last, ctx.output(0).as<int64_t>());
}

void infer_size(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const int64_t size = data.ranked ? product_of(ctx.dims, data.shape, 0, data.shape.size()) : kUnknownDim;
    ctx.output(0, ints_fact(DType::i64, {}, {size}));
}

void run_size(RunContext& ctx) { *ctx.output(0).as<int64_t>() = ctx.input(0).count(); }

}  // namespace

std::span<const OpDef> shape_ops() {
    static const OpDef rows[] = {
        {.name = "Shape", .infer = infer_shape, .run = run_shape, .min_inputs = 1, .max_inputs = 1},
        {.name = "Size", .infer = infer_size, .run = run_size, .min_inputs = 1, .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
