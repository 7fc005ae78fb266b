// Gradient (ai.onnx.preview.training) as a rewriting of the graph: reverse-mode differentiation.
#pragma once
#include <vector>

#include "ops/shared/compose.h"

namespace linnet {

// A Gradient node becomes the nodes that compute it. Before constants are folded: what is differentiated may be one.
bool expand_gradient(const Graph& graph, NodeId id, Patch& patch);

// One node on the way back: from the gradients of its outputs to those of its inputs.
struct BackwardNode : Compose {
    const Graph& graph;
    const Node& node;
    ValueIds dy;        // of each output; kNoValue: zero
    ValueIds dx;        // to be set for each input that is wanted; kNoValue: zero
    ValueIds wanted{};  // the inputs that depend on what is differentiated by; kNoValue for the others

    BackwardNode(const Graph& g, Patch& p, const Node& n) : Compose{p}, graph(g), node(n) {}
    ValueId x(size_t i) const { return node.inputs[i]; }
    int64_t opset() const { return graph.lowered ? kMaxOpset : graph.opset(""); }
    ValueId reshape_as(ValueId v, ValueId like) const;
    ValueId filled(ValueId like, double value) const;                // of the shape and type of `like`
    ValueId sum(ValueId v, const std::vector<int64_t>& axes) const;  // keeps them, as 1
    ValueId transposed(ValueId v) const;                             // the last two axes
    // A gradient that has the shape of the broadcast x becomes one of the shape of x.
    ValueId unbroadcast(ValueId gradient, ValueId x) const;
    // The number of axes; an error when it is not known.
    int64_t rank(ValueId v) const;
    // Throws not_implemented.
    [[noreturn]] static void refuse(const char* why);
};

// False when no derivative of the operator is known.
bool differentiate(BackwardNode& node);

}  // namespace linnet
