// Tensors that a model holds as a codebook and indices.
#pragma once
#include <optional>
#include <vector>

#include "graph/op.h"

namespace linnet {

// What the operator Codebook takes, and the nodes that it replaces.
struct CodedTensor {
    ValueId codes = kNoValue, book = kNoValue;
    int64_t pairs = 0, axis = 0;  // its attributes
    std::vector<NodeId> nodes;
};
// The tensor that a Gather makes, if it is one of these. Its operators are left alone until lowering.
std::optional<CodedTensor> coded_tensor(const Graph& graph, NodeId gather);

// Rules of lowering, before constants are folded.
bool read_codes(const Graph& graph, NodeId id, Patch& patch);
// Gather of rows of a coded tensor.
bool gather_codes(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
