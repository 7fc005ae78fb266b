// What Reshape, Flatten, Squeeze and Unsqueeze share: the elements stay, the shape changes.
#pragma once
#include <optional>

#include "graph/op.h"

namespace linnet {

// Copies input 0 to output 0 (where the executor could not share the memory).
void run_view(RunContext& ctx);

// Views of views become one; views that change nothing go.
bool simplify_view(const Graph& graph, NodeId id, Patch& patch);

// The `shape` operand with which Reshape turns `from` into `to`: known sizes, 0 for a size that stays in place and at
// most one -1. Nothing when that cannot say it.
std::optional<std::vector<int64_t>> reshape_operand(const Shape& from, const Shape& to);

// A Reshape node, in the form of the graph's opset.
ValueId add_reshape(Patch& patch, ValueId input, const std::vector<int64_t>& shape);

// Equal for sure: no unknown sizes.
bool same_shape(const Fact& a, const Fact& b);

}  // namespace linnet
