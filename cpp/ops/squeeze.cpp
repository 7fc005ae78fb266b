// Squeeze and Unsqueeze (1, 11: attribute `axes`; 13 ... 25: input `axes`).
#include <algorithm>

#include "ops/shared/facts.h"
#include "ops/shared/views.h"

namespace linnet {
namespace {

std::optional<IntList> axes_operand(const InferContext& ctx) {
    return ctx.op().since < 13 ? int_list(ctx.attributes, "axes") : int_list(ctx, 1);
}

void infer_squeeze(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto axes = axes_operand(ctx);
    const bool all = !axes && !(ctx.op().since >= 13 && ctx.has_input(1));
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    Shape shape;
    if (all) {
        if (!is_known(data.shape)) return ctx.output_unranked(0, data.dtype);
        for (int64_t size : data.shape)
            if (size != 1) shape.push_back(size);
    } else if (!axes) {
        return ctx.output_unranked(0, data.dtype);
    } else if (!axes->all_known()) {
        const int64_t rank = data.rank() - static_cast<int64_t>(axes->values.size());
        require(rank >= 0, "more axes than the input's rank ", data.rank());
        // A scalar's shape is known, but not yet whether all axes have size 1: the step has to look.
        if (rank == 0) return ctx.output_unranked(0, data.dtype);
        return ctx.output(0, data.dtype, unknown_shape(rank));
    } else {
        const Shape normal = normal_axes(axes->values, data.rank());
        for (int64_t i = 0; i < data.rank(); ++i) {
            const int64_t size = data.shape[static_cast<size_t>(i)];
            if (std::find(normal.begin(), normal.end(), i) == normal.end()) shape.push_back(size);
            else if (is_number(size) && size != 1)
                fail(ErrorKind::invalid_argument, "cannot squeeze axis ", i, " of size ", size);
        }
    }
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints) out.ints = data.ints;
    ctx.output(0, std::move(out));
}

void infer_unsqueeze(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto axes = axes_operand(ctx);
    if (ctx.op().since < 13) require(axes.has_value(), "attribute axes is missing");
    if (!data.ranked || !axes) return ctx.output_unranked(0, data.dtype);
    const int64_t rank = data.rank() + static_cast<int64_t>(axes->values.size());
    if (!axes->all_known()) return ctx.output(0, data.dtype, unknown_shape(rank));
    const Shape normal = normal_axes(axes->values, rank);
    Shape shape;
    size_t next = 0;
    for (int64_t i = 0; i < rank; ++i)
        shape.push_back(std::find(normal.begin(), normal.end(), i) == normal.end() ? data.shape[next++] : 1);
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints && rank <= 1) out.ints = data.ints;
    ctx.output(0, std::move(out));
}

constexpr OpDef row(std::string_view name, int since, void (*infer)(InferContext&), int min_inputs, int max_inputs) {
    return {.name = name,
            .since = since,
            .infer = infer,
            .run = run_view,
            .simplify = simplify_view,
            .flags = kView,
            .min_inputs = min_inputs,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> squeeze_ops() {
    static const OpDef rows[] = {
        row("Squeeze", 1, infer_squeeze, 1, 1),
        row("Squeeze", 13, infer_squeeze, 1, 2),
        row("Unsqueeze", 1, infer_unsqueeze, 1, 1),
        row("Unsqueeze", 13, infer_unsqueeze, 2, 2),
    };
    return rows;
}

}  // namespace linnet
