// What operators with a body have in common (Loop, Scan, SequenceMap): facts of what goes round, results of no round.
#pragma once
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// Nothing is known, not even that it is a tensor (a body's input without a declared type).
inline bool says_nothing(const Fact& fact) {
    return fact.kind == Value::Kind::tensor && fact.dtype == DType::undefined && !fact.ranked;
}

// A fact without the value: what stays true when the next round brings another one.
Fact without_value(Fact fact);

// Facts of a body whose outputs [first_state, first_state + states) come back as inputs [first_formal, ...): inferred
// until they hold for every round. Gives the body's outputs.
std::vector<Fact> settle_body(const InferContext& ctx, std::string_view attribute, std::vector<Fact> formal,
                              size_t first_formal, size_t first_state, size_t states);

// The subgraph of a node.
const Graph& body_of(const Node& node, std::string_view attribute);

// An empty stack of what output `index` of a body makes, `axis` being the stack's axis: sizes that are not known are 0.
Tensor empty_stack(const Graph& body, size_t index, int64_t axis = 0);

// A scalar, or a tensor of one element where the body declares its input so.
Tensor as_declared(Tensor scalar, const Graph& body, size_t input);

// Adds copies of a body's nodes and constants to the graph, of which these values are the inputs (formal, then captured
// ones); gives its outputs.
ValueIds copy_body(Patch& patch, const Graph& body, const ValueIds& inputs);

}  // namespace linnet
