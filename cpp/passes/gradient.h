// Gradient (ai.onnx.preview.training) as a rewriting of the graph: reverse-mode differentiation.
#pragma once
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// A Gradient node becomes the nodes that compute it. Before constants are folded: what is differentiated may be one.
bool expand_gradient(const Graph& graph, NodeId id, Patch& patch);

// One node on the way back: from the gradients of its outputs to those of its inputs.
struct BackwardNode {
    const Graph& graph;
    Patch& patch;
    const Node& node;
    std::vector<ValueId> dy;   // of each output; kNoValue: zero
    std::vector<ValueId> dx;   // to be set for each input that is wanted; kNoValue: zero
    std::vector<bool> wanted;  // the input depends on what is differentiated by

    ValueId x(size_t i) const { return node.inputs[i]; }
    ValueId y(size_t i) const { return node.outputs[i]; }
    int64_t opset() const { return graph.lowered ? kMaxOpset : graph.opset(""); }
    ValueId op(std::string_view type, const ValueIds& inputs, Attributes attributes = {}) const {
        return patch.node(type, inputs, std::move(attributes));
    }
    ValueId shape_of(ValueId v) const { return op("Shape", {v}); }
    ValueId reshape_as(ValueId v, ValueId like) const {
        Attributes zeros;  // are sizes
        if (opset() >= 14) zeros.set("allowzero", int64_t{1});
        return op("Reshape", {v, shape_of(like)}, std::move(zeros));
    }
    ValueId cast(ValueId v, DType to) const;
    ValueId number(double value, DType dtype) const;                      // a scalar
    ValueId filled(ValueId like, double value) const;                     // of the shape and type of `like`
    ValueId sum(ValueId v, const std::vector<int64_t>& axes) const;       // keeps them, as 1
    ValueId transposed(ValueId v, std::vector<int64_t> perm = {}) const;  // default: the last two axes change places
    // A gradient that has the shape of the broadcast x becomes one of the shape of x.
    ValueId unbroadcast(ValueId gradient, ValueId x) const;
    // The number of axes; an error when it is not known.
    int64_t rank(ValueId v) const;
};

// Null when no derivative of the operator is known.
void (*backward_of(const Node& node))(BackwardNode&);

}  // namespace linnet
