// Portable patterns around convolutions and pools.
#pragma once
#include "graph/op.h"

namespace linnet {

// For Conv: a BatchNormalization, or a Mul, Div, Add or Sub by one constant per channel, behind it goes into weights
// and bias; a scale in front of it into the weights, a shift in front of it into the bias where nothing is padded; a
// Pad of zeros in front into the pads.
bool fold_around_conv(const Graph& graph, NodeId id, Patch& patch);
// For ConvTranspose: what stands behind it.
bool fold_behind_conv_transpose(const Graph& graph, NodeId id, Patch& patch);
// For MaxPool: a Pad of minus infinity in front; for AveragePool with count_include_pad: of zeros.
bool fold_pad_into_pool(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
