// Normalisations and softmax spelled out in small operators, found from the reduction in their middle.
#pragma once
#include "graph/op.h"

namespace linnet {

// For a ReduceMean that makes a variance or a mean of squares: LayerNormalization or RMSNormalization.
bool match_normalization(const Graph& graph, NodeId id, Patch& patch);
// For a ReduceSum of exponentials: Softmax.
bool match_softmax(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
