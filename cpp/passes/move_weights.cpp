// Weights whose axes a Transpose or Reshape reorders behind DequantizeLinear, as graphs of channels-last frameworks
// have them, are reordered as integers: DequantizeLinear moves behind it, and constant folding does the rest. Matrices
// stay, since products read them either way.
#include <algorithm>
#include <optional>

#include "graph/op.h"
#include "passes/integer.h"

namespace linnet {
namespace {

// Where the axis of the scales is in the result; nothing if it is not an axis there.
std::optional<int64_t> moved_axis(const Node& node, const Shape& from, const Shape& to, int64_t axis) {
    const auto rank = static_cast<int64_t>(from.size());
    if (node.op_type == "Transpose") {
        const auto perm = node.attributes.ints("perm");
        if (perm.empty()) return rank - 1 - axis;
        const auto place = std::find(perm.begin(), perm.end(), axis);
        if (place == perm.end()) return std::nullopt;
        return place - perm.begin();
    }
    const auto at = static_cast<size_t>(axis);
    for (size_t i = 0; i < to.size(); ++i)
        if (to[i] == from[at] && product(to, 0, i) == product(from, 0, at)) return static_cast<int64_t>(i);
    return std::nullopt;
}

}  // namespace

bool move_weights(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (!node.domain.empty() || (node.op_type != "Transpose" && node.op_type != "Reshape")) return false;
    const ValueId value = node.inputs[0];
    if (graph.value(value).producer == kNoNode) return false;
    const Node& dequantize = graph.node(graph.value(value).producer);
    if (!is_dequantize(dequantize) || dequantize.attributes.i("block_size", 0) != 0) return false;
    const Tensor *bytes = graph.constant(dequantize.inputs[0]), *scale = graph.constant(dequantize.inputs[1]);
    const Fact& result = graph.fact(node.outputs[0]);
    if (!bytes || !scale || !result.is_static() || result.rank() < 3) return false;

    Node last = copy_of(dequantize);
    if (scale->count() == 1) {
        last.attributes.erase("axis");
    } else if (scale->rank() != 1) {
        return false;
    } else {
        const int64_t axis = normal_axis(dequantize.attributes.i("axis", 1), bytes->rank());
        const auto moved = moved_axis(node, bytes->shape, result.shape, axis);
        if (!moved) return false;
        last.attributes.set("axis", *moved);
    }
    Node first = copy_of(node);
    first.inputs[0] = dequantize.inputs[0];
    last.inputs[0] = patch.node(std::move(first), 1)[0];
    patch.replace(node.outputs[0], patch.node(std::move(last), 1)[0]);
    return true;
}

}  // namespace linnet
