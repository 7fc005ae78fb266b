// What a node costs in multiply-adds, for profiles and for the inspect command.
#pragma once
#include <cstdint>
#include <span>

#include "graph/graph.h"

namespace linnet {

// Multiply-adds of a node, from the shapes of its inputs and outputs (null where left out or no tensor). 0 for
// operators whose work is not multiply-adds, and where a shape that is needed is not known.
int64_t count_macs(const Node& node, std::span<const Shape* const> inputs, std::span<const Shape* const> outputs);

}  // namespace linnet
