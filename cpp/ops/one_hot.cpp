// OneHot (9; 11 and 28 with negative indices): `values` is [off, on].
#include <cmath>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_one_hot(InferContext& ctx) {
    const Fact &indices = tensor_input(ctx, 0), &depth = tensor_input(ctx, 1), &values = tensor_input(ctx, 2);
    require(!values.ranked || (values.rank() == 1 && (!is_number(values.shape[0]) || values.shape[0] == 2)),
            "values must have shape [2]");
    int64_t size = kUnknownDim;
    if (const Tensor* constant = ctx.constant(1)) {
        require(constant->count() == 1, "depth must be one number, not ", constant->count());
        const double number = double_at(*constant, 0);
        if (!(number >= 0 && number < static_cast<double>(int64_t{1} << 48)))
            fail(ErrorKind::invalid_argument, "a depth of ", number);
        size = static_cast<int64_t>(number);
    } else if (depth.ranked && depth.rank() <= 1 && ctx.ints(1) && ctx.ints(1)->size() == 1) {
        size = (*ctx.ints(1))[0];
    }
    if (!indices.ranked) return ctx.output_unranked(0, values.dtype);
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), indices.rank() + 1);
    Shape shape = indices.shape;
    shape.insert(shape.begin() + axis, size);
    ctx.output(0, values.dtype, shape);
}

void run_one_hot(RunContext& ctx) {
    const Tensor &indices = ctx.input(0), &values = ctx.input(2);
    Tensor& y = ctx.output(0);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", -1), y.rank()));
    const int64_t depth = y.shape[axis], inner = product(y.shape, axis + 1, y.shape.size()), count = indices.count();
    const bool integers = !is_float(indices.dtype), negative = ctx.node.op->since >= 11;
    fill_flat(ctx.parallel(), y.dtype, y.count(), values.data, y.data);
    const void* on = element(values.data, values.dtype, 1);
    for (int64_t i = 0; i < count; ++i) {
        int64_t at = 0;
        if (integers) {
            at = int_at(indices, i);
            // An unsigned index that does not fit is outside, not negative.
            if (at < 0 && is_unsigned_int(indices.dtype)) continue;
        } else {
            const double number = double_at(indices, i);
            if (!(std::fabs(number) < static_cast<double>(int64_t{1} << 62))) continue;
            at = static_cast<int64_t>(number);
        }
        if (at < 0 && negative) at += depth;
        if (at < 0 || at >= depth) continue;
        copy_run(y.dtype, 1, on, element(y.data, y.dtype, (i / inner * depth + at) * inner + i % inner));
    }
}

constexpr OpDef row(int since) {
    return {
        .name = "OneHot", .since = since, .infer = infer_one_hot, .run = run_one_hot, .min_inputs = 3, .max_inputs = 3};
}

}  // namespace

std::span<const OpDef> one_hot_ops() {
    static const OpDef rows[] = {row(9), row(11)};
    return rows;
}

}  // namespace linnet
