// Passes of lowering that move data types and layouts around operators.
#pragma once
#include <cstdint>

#include "graph/op.h"

namespace linnet {

// Casts around an operator that computes in float32 only (kFloat32Only).
bool cast_float32_only(const Graph& graph, NodeId id, Patch& patch);

// Chooses, for every value that may have either, between its own axis order and a permuted one, so that as few bytes
// as possible are transposed; moves the Transposes accordingly.
bool choose_layouts(Graph& graph);

// What remains: a Reshape to [N, everything] of a transposed value that meets constant weights, Shape of a transposed
// value, a reduction without keepdims of one.
bool absorb_transpose(const Graph& graph, NodeId id, Patch& patch);

// Transposes that move data (more than axes of size 1).
int count_layout_changes(const Graph& graph);

}  // namespace linnet
