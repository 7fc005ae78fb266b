// What Conv and ConvTranspose require of their operands: x, weights and bias.
#pragma once
#include "graph/op.h"

namespace linnet {

// Checks types and ranks of x and the weights, and `group`; the number of spatial axes, negative when not known.
int64_t check_operands(const InferContext& ctx);
// x's channels make `group` groups, and are as many as the weights expect: `per_group` in each. Either may be a symbol.
void check_channels(int64_t channels, int64_t per_group, int64_t group);
// The bias, if there is one, has x's type and one element per filter.
void check_bias(const InferContext& ctx, int64_t filters);

}  // namespace linnet
