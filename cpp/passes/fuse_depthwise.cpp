// A 1x1 convolution whose result only a depthwise convolution reads, and which is too large for a cache, becomes one
// node with it: PointwiseDepthwise.
#include "ops/epilogue.h"
#include "ops/spatial/window.h"
#include "passes/fuse.h"

namespace linnet {
namespace {

constexpr int64_t kMiddleBytes = 1 << 20;  // smaller ones stay in a cache by themselves

bool is_conv(const Node& node) {
    return node.op_type == "Conv" && node.domain == "linnet" && node.inputs.size() <= 3 && !node.captures;
}

}  // namespace

bool fuse_depthwise(const Graph& graph, NodeId id, Patch& patch) {
    const Node& depthwise = graph.node(id);
    if (!is_conv(depthwise) || !graph.single_use(depthwise.inputs[0])) return false;
    const Node* pointwise = graph.producer(depthwise.inputs[0], "Conv", "linnet");
    if (!pointwise || !is_conv(*pointwise)) return false;
    const Fact& middle = graph.fact(depthwise.inputs[0]);
    const Tensor *w1 = graph.constant(pointwise->inputs[1]), *w2 = graph.constant(depthwise.inputs[1]);
    if (!middle.is_static() || middle.dtype != DType::f32 || middle.rank() != 4 || !w1 || !w2 || w1->rank() != 4 ||
        w2->rank() != 4)
        return false;
    const int64_t channels = middle.shape[3];
    if (depthwise.attributes.i("group", 1) != channels || w2->shape[0] != channels || w2->shape[1] != 1 ||
        !is_pointwise_conv(pointwise->attributes, w1->shape))
        return false;
    const int64_t image = middle.shape[1] * middle.shape[2] * channels * static_cast<int64_t>(sizeof(float));
    if (image <= kMiddleBytes) return false;

    Node fused;
    fused.name = depthwise.name;
    fused.op_type = "PointwiseDepthwise";
    fused.domain = "linnet";
    fused.op = find_op(fused.domain, fused.op_type, 1);
    const auto bias = [](const Node& node) { return node.inputs.size() > 2 ? node.inputs[2] : kNoValue; };
    fused.inputs = {pointwise->inputs[0], pointwise->inputs[1], bias(*pointwise), depthwise.inputs[1]};
    if (bias(depthwise) != kNoValue) fused.inputs.push_back(bias(depthwise));
    fused.attributes = depthwise.attributes;
    fused.attributes.erase("group");
    fused.attributes.set("pointwise_epilogue", pointwise->attributes.strings("epilogue"));
    patch.replace(depthwise.outputs[0], patch.node(std::move(fused), 1)[0]);
    return true;
}

}  // namespace linnet
