// Checks of the operands of convolutions: see operands.h.
#include "ops/spatial/operands.h"

#include "ops/spatial/layouts.h"

namespace linnet {

int64_t check_operands(const InferContext& ctx) {
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    require(is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    require(w.dtype == x.dtype, "weights are ", dtype_name(w.dtype), ", x is ", dtype_name(x.dtype));
    const int64_t spatial = spatial_rank(ctx.attributes, x, &w), group = ctx.attributes.i("group", 1);
    require(group >= 1, "group is ", group);
    if (spatial < 0) return spatial;
    const int64_t rank = spatial + 2;
    require(spatial >= 1, "x has rank ", rank, ", expected at least 3");
    require(!x.ranked || x.rank() == rank, "x has rank ", x.rank(), ", expected ", rank);
    require(!w.ranked || w.rank() == rank, "weights have rank ", w.rank(), ", x has rank ", rank);
    return spatial;
}

void check_channels(int64_t channels, int64_t per_group, int64_t group) {
    if (!is_number(channels)) return;
    require(channels % group == 0, channels, " channels do not split into ", group, " groups");
    if (is_number(per_group))
        require(channels / group == per_group, "x has ", channels, " channels, the weights expect ", per_group, " x ",
                group, " groups");
}

void check_bias(const InferContext& ctx, int64_t filters) {
    if (!ctx.has_input(2)) return;
    const Fact &x = ctx.input(0), &bias = ctx.input(2);
    require(bias.dtype == x.dtype, "bias is ", dtype_name(bias.dtype), ", x is ", dtype_name(x.dtype));
    require(!bias.ranked || bias.rank() == 1, "bias has rank ", bias.rank(), ", expected 1");
    if (bias.ranked && is_number(bias.shape[0]) && is_number(filters))
        require(bias.shape[0] == filters, "bias has ", bias.shape[0], " elements, expected ", filters);
}

}  // namespace linnet
