// A squeeze-and-excite gate in front of a 1x1 convolution scales its weights, which are fewer than the pixels.
#include "ops/spatial/window.h"
#include "passes/fuse.h"

namespace linnet {
namespace {

constexpr int64_t kPixelsPerFilter = 8;  // from here on scaling the weights in each run is the smaller work

}  // namespace

bool fuse_gate(const Graph& graph, NodeId id, Patch& patch) {
    const Node& conv = graph.node(id);
    if (conv.op_type != "Conv" || conv.domain != "linnet" || conv.captures || conv.attributes.has("gate")) return false;
    const Tensor* w = graph.constant(conv.inputs[1]);
    const Node* mul = graph.producer(conv.inputs[0], "Mul");
    if (!w || w->rank() != 4 || !mul || !graph.single_use(conv.inputs[0])) return false;
    if (!is_pointwise_conv(conv.attributes, w->shape)) return false;
    const Fact& scaled = graph.fact(conv.inputs[0]);
    if (!is_image(scaled) || scaled.shape[1] * scaled.shape[2] < kPixelsPerFilter * w->shape[0]) return false;
    for (size_t side = 0; side < 2; ++side) {
        const Fact &x = graph.fact(mul->inputs[side]), &gate = graph.fact(mul->inputs[1 - side]);
        if (!is_image(x) || !gate.ranked || !(x.shape == scaled.shape) || x.shape[0] == kUnknownDim) continue;
        if (!(gate.shape == Shape{x.shape[0], 1, 1, x.shape[3]})) continue;
        Node gated = copy_of(conv);
        gated.inputs[0] = mul->inputs[side];
        while (gated.inputs.size() < 3) gated.inputs.push_back(kNoValue);  // input 2 is a bias
        gated.attributes.set("gate", static_cast<int64_t>(gated.inputs.size()));
        gated.inputs.push_back(mul->inputs[1 - side]);
        patch.replace(conv.outputs[0], patch.node(std::move(gated), 1)[0]);
        return true;
    }
    return false;
}

}  // namespace linnet
