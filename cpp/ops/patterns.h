// Patterns rooted at arithmetic operators that are recognised as something with a name. Each returns false when nothing
// matches.
#pragma once
#include <optional>

#include "graph/op.h"

namespace linnet {

bool simplify_add(const Graph& graph, NodeId id, Patch& patch);
bool simplify_sub(const Graph& graph, NodeId id, Patch& patch);
bool simplify_mul(const Graph& graph, NodeId id, Patch& patch);
bool simplify_div(const Graph& graph, NodeId id, Patch& patch);

// Gelu, Swish, HardSwish, HardSigmoid and Mish spelled out, with this node as the last step.
bool match_activation(const Graph& graph, NodeId id, Patch& patch);

// log(1 + exp(x)) is Softplus; for the node Log.
bool match_softplus(const Graph& graph, NodeId id, Patch& patch);

// The value of a float constant of one element.
std::optional<double> scalar_constant(const Graph& graph, ValueId id);

}  // namespace linnet
