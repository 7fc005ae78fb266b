// Going between ONNX's channels-first and our channels-last order.
#pragma once
#include <string_view>

#include "graph/op.h"

namespace linnet {

// The number of spatial axes of a convolution or pool, from x, the weights (or null) or kernel_shape; -1: not known.
int64_t spatial_rank(const Attributes& attributes, const Fact& x, const Fact* weights);

// NCHW -> NHWC: {0, 2, 3, 1}; and back: {0, 3, 1, 2}, for any number of spatial axes.
std::vector<int64_t> to_channels_last(int64_t spatial);
std::vector<int64_t> to_channels_first(int64_t spatial);
ValueId transpose(Patch& patch, ValueId value, std::vector<int64_t> perm);

// Replaces a node by the internal operator `op_type` on a channels-last input 0, with Transposes around; every output
// is channels-last, all other inputs stay, and the attributes, unless others are given.
bool lower_channels_last(const Graph& graph, NodeId id, std::string_view op_type, int64_t spatial, Patch& patch,
                         const Attributes* attributes = nullptr);

}  // namespace linnet
