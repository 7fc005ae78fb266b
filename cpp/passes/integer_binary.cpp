// QuantizeLinear(clamp(DequantizeLinear a + DequantizeLinear b)) is linnet.QLinearAdd; so are differences, and products
// are linnet.QLinearMul. Pools of averages are linnet.QLinearAveragePool and QLinearGlobalAveragePool,
// linear and cubic Resize is linnet.QLinearResize.
#include <algorithm>

#include "ops/spatial/layouts.h"
#include "passes/integer.h"

namespace linnet {
namespace {

bool is_spatial_mean(const Graph& graph, const Node& node, int64_t rank) {
    if (node.op_type == "GlobalAveragePool") return true;
    if (node.op_type != "ReduceMean") return false;
    std::vector<int64_t> axes = node.attributes.ints("axes");
    if (node.inputs.size() > 1 && node.inputs[1] != kNoValue) {
        const Tensor* given = graph.constant(node.inputs[1]);
        if (!given) return false;
        axes.clear();
        for (int64_t i = 0; i < given->count(); ++i) axes.push_back(int_at(*given, i));
    }
    for (int64_t& axis : axes) axis += axis < 0 ? rank : 0;
    std::sort(axes.begin(), axes.end());
    for (int64_t i = 0; i < rank - 2; ++i)
        if (i >= static_cast<int64_t>(axes.size()) || axes[static_cast<size_t>(i)] != i + 2) return false;
    return static_cast<int64_t>(axes.size()) == rank - 2;
}

}  // namespace

bool integer_binary(const Graph& graph, const Node& quantize, Patch& patch, std::string& why) {
    const Quantization y = *quantization(graph, quantize);
    int32_t lo = y.lowest(), hi = y.highest();
    const ValueId value = skip_clamps(graph, quantize.inputs[0], y, lo, hi);
    if (graph.value(value).producer == kNoNode) return false;
    const Node node = graph.node(graph.value(value).producer);
    const bool add = node.op_type == "Add", sub = node.op_type == "Sub", mul = node.op_type == "Mul";
    if (!(add || sub || mul) || !node.domain.empty()) return false;
    if (node.attributes.has("axis") || node.attributes.has("broadcast"))
        return why = "it broadcasts as operators of opset 6 do", false;
    const auto a = dequantized(graph, node.inputs[0]), b = dequantized(graph, node.inputs[1]);
    if (!a || !b) return why = "an operand is not quantized to bytes by one known scale", false;
    if (!graph.fact(a->value).ranked || !graph.fact(b->value).ranked) return why = "its rank is not known", false;
    Attributes attributes;
    set_result(attributes, y, lo, hi);
    attributes.set("a_scale", a->real.scale).set("a_zero", static_cast<int64_t>(a->real.zero));
    attributes.set("b_scale", sub ? -b->real.scale : b->real.scale);
    attributes.set("b_zero", static_cast<int64_t>(b->real.zero));
    Node made;
    made.name = node.name;
    made.op_type = mul ? "QLinearMul" : "QLinearAdd";
    made.domain = "linnet";
    made.op = find_op("linnet", made.op_type, kMaxOpset);
    made.inputs = {a->value, b->value};
    made.attributes = std::move(attributes);
    patch.replace(quantize.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

bool integer_pool(const Graph& graph, const Node& quantize, Patch& patch, std::string& why) {
    const Quantization y = *quantization(graph, quantize);
    int32_t lo = y.lowest(), hi = y.highest();
    const ValueId value = skip_clamps(graph, quantize.inputs[0], y, lo, hi);
    if (graph.value(value).producer == kNoNode) return false;
    const Node node = graph.node(graph.value(value).producer);
    const bool window = node.op_type == "AveragePool" && node.domain.empty();
    const Fact input = graph.fact(node.inputs.empty() ? value : node.inputs[0]);
    if (!input.ranked || input.rank() < 3 || input.rank() > 5 || !node.domain.empty()) return false;
    if (!window && !is_spatial_mean(graph, node, input.rank())) return false;
    const auto x = dequantized(graph, node.inputs[0]);
    if (!x) return why = "its input is not quantized to bytes by one known scale", false;
    Attributes attributes = window ? node.attributes : Attributes();
    set_result(attributes, y, lo, hi);
    attributes.set("x_scale", x->real.scale).set("x_zero", static_cast<int64_t>(x->real.zero));
    Node made;
    made.name = node.name;
    made.op_type = window ? "QLinearAveragePool" : "QLinearGlobalAveragePool";
    made.domain = "linnet";
    made.op = find_op("linnet", made.op_type, kMaxOpset);
    made.inputs = {transpose(patch, x->value, to_channels_last(input.rank() - 2))};
    made.attributes = std::move(attributes);
    ValueId result = transpose(patch, patch.node(std::move(made), 1)[0], to_channels_first(input.rank() - 2));
    if (node.op_type == "ReduceMean" && node.attributes.i("keepdims", 1) == 0) {
        std::vector<int64_t> axes;
        for (int64_t i = 2; i < input.rank(); ++i) axes.push_back(i);
        result = patch.node("Squeeze", {result, patch.constant_ints(axes)});
    }
    patch.replace(quantize.outputs[0], result);
    return true;
}

bool integer_resize(const Graph& graph, const Node& quantize, Patch& patch, std::string& why) {
    const Quantization y = *quantization(graph, quantize);
    int32_t lo = y.lowest(), hi = y.highest();
    const ValueId value = skip_clamps(graph, quantize.inputs[0], y, lo, hi);
    if (graph.value(value).producer == kNoNode) return false;
    const Node node = graph.node(graph.value(value).producer);
    if (node.op_type != "Resize" || !node.domain.empty() || node.attributes.s("mode", "nearest") == "nearest")
        return false;
    if (node.op->since < 11) return why = "it is a Resize of opset 10", false;
    const auto x = dequantized(graph, node.inputs[0]);
    if (!x) return why = "its input is not quantized to bytes by one known scale", false;
    Node made = copy_of(node);
    set_result(made.attributes, y, lo, hi);
    made.attributes.set("x_scale", x->real.scale).set("x_zero", static_cast<int64_t>(x->real.zero));
    made.op_type = "QLinearResize";
    made.domain = "linnet";
    made.op = find_op("linnet", made.op_type, kMaxOpset);
    made.inputs[0] = x->value;
    patch.replace(quantize.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

}  // namespace linnet
