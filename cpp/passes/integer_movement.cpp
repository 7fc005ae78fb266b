// Operators that only move, repeat or select elements do the same with bytes: QuantizeLinear goes in front of them,
// DequantizeLinear behind them.
#include <algorithm>

#include "passes/integer.h"

namespace linnet {
namespace {

enum class Reads : uint8_t { first, all };
struct Movement {
    std::string_view op_type;
    Reads reads = Reads::first;
    bool grows = false;  // the result has more elements
};
// Maxima and minima are here because quantizing is monotone.
constexpr Movement kMovements[] = {
    {"Reshape"},
    {"Flatten"},
    {"Transpose"},
    {"Slice"},
    {"Split"},
    {"Squeeze"},
    {"Unsqueeze"},
    {"Gather"},
    {"Identity"},
    {"DepthToSpace"},
    {"SpaceToDepth"},
    {"GatherElements"},
    {"MaxPool"},
    {"ReduceMax"},
    {"ReduceMin"},
    {"Concat", Reads::all},
    {"GatherND"},
    {"Expand", Reads::first, true},
    {"Tile", Reads::first, true},
    {"Resize", Reads::first, true},
    {"Upsample", Reads::first, true},
    {"Pad", Reads::first, true},
};

const Movement* movement(const Graph& graph, const Node& node) {
    if (!node.domain.empty() || node.captures || node.inputs.empty()) return nullptr;
    if (node.outputs.size() != 1 && node.op_type != "Split") return nullptr;
    if ((node.op_type == "Resize" || node.op_type == "Upsample") &&
        (node.attributes.s("mode", "nearest") != "nearest" ||
         node.attributes.s("coordinate_transformation_mode", "") == "tf_crop_and_resize"))
        return nullptr;
    for (const Movement& m : kMovements)
        if (m.op_type == node.op_type) return graph.fact(node.outputs[0]).dtype == DType::f32 ? &m : nullptr;
    return nullptr;
}

size_t data_inputs(const Movement& m, const Node& node) { return m.reads == Reads::all ? node.inputs.size() : 1; }

// Whether a QuantizeLinear of this value may become part of what makes it.
bool may_absorb(const Graph& graph, ValueId value) {
    if (graph.constant(value)) return true;
    if (graph.value(value).producer == kNoNode) return false;
    const Node& node = graph.node(graph.value(value).producer);
    return dequantized(graph, value) || movement(graph, node) || (node.op->flags & kElementwise) ||
           node.op_type == "Conv" || node.op_type == "AveragePool" || node.op_type == "GlobalAveragePool" ||
           node.op_type == "ReduceMean";
}

// The padding of a Pad in steps of the quantization; false if it is not known.
bool quantize_padding(const Graph& graph, Node& pad, const Quantization& real, Patch& patch) {
    if (pad.attributes.s("mode", "constant") != "constant") return true;
    if (pad.op->since < 11) return false;
    float value = 0;
    if (pad.inputs.size() > 2 && pad.inputs[2] != kNoValue) {
        const Tensor* constant = graph.constant(pad.inputs[2]);
        if (!constant || constant->dtype != DType::f32 || constant->count() != 1) return false;
        value = *constant->as<float>();
    }
    Tensor byte = Tensor::allocate(real.dtype, {});
    *byte.as<uint8_t>() = static_cast<uint8_t>(real.quantize(value));
    if (pad.inputs.size() < 3) pad.inputs.push_back(kNoValue);
    pad.inputs[2] = patch.constant(std::move(byte));
    return true;
}

}  // namespace

bool quantize_earlier(const Graph& graph, const Node& quantize, Patch& patch, std::string&) {
    const ValueId value = quantize.inputs[0];
    if (graph.value(value).producer == kNoNode || !graph.single_use(value)) return false;
    const Node node = graph.node(graph.value(value).producer);
    const Movement* m = movement(graph, node);
    if (!m || node.outputs.size() != 1) return false;
    const size_t data = data_inputs(*m, node);
    for (size_t i = 0; i < data; ++i)
        if (!may_absorb(graph, node.inputs[i])) return false;
    Node made = copy_of(node);
    if (node.op_type == "Pad" && !quantize_padding(graph, made, *quantization(graph, quantize), patch)) return false;
    for (size_t i = 0; i < data; ++i) {
        Node part = copy_of(quantize);
        part.name.clear();
        part.inputs[0] = node.inputs[i];
        made.inputs[i] = patch.node(std::move(part), 1)[0];
    }
    patch.replace(quantize.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

bool dequantize_later(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const Movement* m = movement(graph, node);
    if (!m || m->grows) return false;
    Node made = copy_of(node);
    std::optional<Quantization> common;
    for (size_t i = 0; i < data_inputs(*m, node); ++i) {
        const auto x = dequantized(graph, node.inputs[i]);
        if (!x || (common && !(*common == x->real))) return false;
        common = x->real;
        made.inputs[i] = x->value;
    }
    Node last = copy_of(graph.node(graph.value(node.inputs[0]).producer));
    last.attributes.erase("axis");
    const ValueIds moved = patch.node(std::move(made), static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < moved.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        Node back = copy_of(last);
        back.name.clear();
        back.inputs[0] = moved[i];
        patch.replace(node.outputs[i], patch.node(std::move(back), 1)[0]);
    }
    return true;
}

}  // namespace linnet
