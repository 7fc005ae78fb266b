// Rules of lowering that merge nodes into the internal Conv, MatMul and Attention. Each rewrites one node.
#pragma once
#include "graph/op.h"

namespace linnet {

// float32 [N, H, W, C], where only N may be unknown.
inline bool is_image(const Fact& fact) {
    if (!fact.ranked || fact.rank() != 4 || fact.dtype != DType::f32) return false;
    return is_number(fact.shape[1]) && is_number(fact.shape[2]) && is_number(fact.shape[3]);
}

// Elementwise readers of a convolution or product become steps of its epilogue.
bool fuse_epilogue(const Graph& graph, NodeId id, Patch& patch);
// A large 1x1 convolution and the depthwise one behind it become PointwiseDepthwise. After fuse_epilogue.
bool fuse_depthwise(const Graph& graph, NodeId id, Patch& patch);
// A factor per image and channel in front of a 1x1 convolution becomes its "gate".
bool fuse_gate(const Graph& graph, NodeId id, Patch& patch);
// Transposes around a product become strides; Reshapes that only merge its rows vanish.
bool absorb_layout(const Graph& graph, NodeId id, Patch& patch);
// Products and recurrent layers whose weights are dequantized constants keep them narrow. Before constants are folded.
bool narrow_products(const Graph& graph, NodeId id, Patch& patch);
// MatMul, scale, mask, Softmax, MatMul become Attention. Before MatMul is lowered.
bool fuse_attention(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
