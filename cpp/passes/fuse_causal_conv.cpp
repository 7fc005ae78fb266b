// Recognises CausalConvWithState written out: Conv(Concat(past, x), w, bias), one channel a group, without padding.
#include <algorithm>

#include "passes/fuse.h"

namespace linnet {

bool fuse_causal_conv(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "Conv" || !node.domain.empty()) return false;
    const Node* concat = graph.producer(node.inputs[0], "Concat");
    if (!concat || concat->inputs.size() != 2) return false;
    const ValueId past = concat->inputs[0], x = concat->inputs[1];
    const Fact &fx = graph.fact(x), &fp = graph.fact(past), &fw = graph.fact(node.inputs[1]);
    if (!fx.ranked || !fp.ranked || !fw.ranked || fx.rank() != 3 || fw.rank() != 3 || fx.dtype == DType::f64)
        return false;
    // Where positions come first in memory, the convolution needs no Transpose.
    if (graph.producer(x, "Transpose")) return false;
    const int64_t axis = concat->attributes.i("axis", 1), channels = fw.shape[0], taps = fw.shape[2];
    if ((axis != 2 && axis != -1) || !is_number(channels) || !is_number(taps) || taps < 1) return false;
    if (fx.shape[1] != channels || fw.shape[1] != 1 || node.attributes.i("group", 1) != channels ||
        fp.shape[2] != taps - 1)
        return false;
    const std::string pad = node.attributes.s("auto_pad", "NOTSET");
    if (pad != "NOTSET" && pad != "VALID") return false;
    const auto all = [&](const char* name, int64_t value) {
        const std::vector<int64_t> given = node.attributes.ints(name);
        return std::all_of(given.begin(), given.end(), [&](int64_t v) { return v == value; });
    };
    if (!all("strides", 1) || !all("dilations", 1) || (pad == "NOTSET" && !all("pads", 0))) return false;
    const ValueId bias = node.inputs.size() > 2 ? node.inputs[2] : kNoValue;
    patch.replace(node.outputs[0], patch.node("CausalConvWithState", {x, node.inputs[1], bias, past}));
    return true;
}

}  // namespace linnet
