// What the integer rules share, and the passes that try them.
#include "passes/integer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace linnet {
namespace {

bool is_quant_domain(const Node& node) { return node.domain.empty() || node.domain == "com.microsoft"; }

constexpr std::array<IntegerForm, 7> kForms{integer_table, integer_conv,     integer_product, integer_binary,
                                            integer_pool,  quantize_earlier, integer_resize};

}  // namespace

int32_t Quantization::quantize(float x) const {
    const float steps = std::nearbyint(x / scale);
    if (std::isnan(steps)) return zero;
    return static_cast<int32_t>(
        std::clamp(static_cast<double>(steps) + zero, static_cast<double>(lowest()), static_cast<double>(highest())));
}

bool is_quantize(const Node& node) { return node.op_type == "QuantizeLinear" && is_quant_domain(node); }
bool is_dequantize(const Node& node) { return node.op_type == "DequantizeLinear" && is_quant_domain(node); }

std::optional<Quantization> quantization(const Graph& graph, const Node& node) {
    const ValueId real = is_quantize(node) ? node.inputs[0] : node.outputs[0];
    const ValueId bytes = is_quantize(node) ? node.outputs[0] : node.inputs[0];
    const Tensor* scale = graph.constant(node.inputs[1]);
    if (graph.fact(real).dtype != DType::f32 || !scale || scale->dtype != DType::f32 || scale->count() != 1 ||
        scale->rank() > 1 || node.attributes.i("block_size", 0) != 0)
        return std::nullopt;
    Quantization out{*scale->as<float>(), 0, graph.fact(bytes).dtype};
    if (!(out.dtype == DType::u8 || out.dtype == DType::i8) || !(out.scale > 0) || !std::isnormal(out.scale))
        return std::nullopt;
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
        const Tensor* zero = graph.constant(node.inputs[2]);
        if (!zero || zero->count() != 1 || zero->dtype != out.dtype) return std::nullopt;
        out.zero = static_cast<int32_t>(int_at(*zero, 0));
    }
    return out;
}

std::optional<Bytes> dequantized(const Graph& graph, ValueId value) {
    if (value == kNoValue || graph.value(value).producer == kNoNode) return std::nullopt;
    const Node& node = graph.node(graph.value(value).producer);
    if (!is_dequantize(node)) return std::nullopt;
    const auto real = quantization(graph, node);
    if (!real) return std::nullopt;
    return Bytes{node.inputs[0], *real};
}

void set_result(Attributes& attributes, const Quantization& y, int32_t lo, int32_t hi) {
    attributes.set("y_scale", y.scale).set("y_zero", static_cast<int64_t>(y.zero));
    attributes.set("lo", static_cast<int64_t>(lo)).set("hi", static_cast<int64_t>(hi));
    attributes.set("dtype", static_cast<int64_t>(y.dtype));
}

ValueId skip_clamps(const Graph& graph, ValueId value, const Quantization& real, int32_t& lo, int32_t& hi) {
    while (graph.single_use(value) && graph.value(value).producer != kNoNode) {
        const Node& node = graph.node(graph.value(value).producer);
        constexpr float kMost = std::numeric_limits<float>::infinity();
        float low = -kMost, high = kMost;
        if (node.op_type == "Relu" && node.domain.empty()) {
            low = 0;
        } else if (node.op_type == "Clip" && node.domain.empty()) {
            low = node.attributes.f("min", -kMost), high = node.attributes.f("max", kMost);
            for (size_t i = 1; i < node.inputs.size(); ++i) {
                if (node.inputs[i] == kNoValue) continue;
                const Tensor* bound = graph.constant(node.inputs[i]);
                if (!bound || bound->dtype != DType::f32 || bound->count() != 1) return value;
                (i == 1 ? low : high) = *bound->as<float>();
            }
            if (!(low <= high)) return value;
        } else {
            return value;
        }
        // What comes later clamps what comes earlier. Quantizing is monotone.
        lo = std::clamp(real.quantize(low), lo, hi);
        hi = std::clamp(real.quantize(high), lo, hi);
        value = node.inputs[0];
    }
    return value;
}

bool integer_forms(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    if (!is_quantize(node) || !quantization(graph, node)) return false;
    std::string why;
    for (IntegerForm form : kForms)
        if (form(graph, node, patch, why)) return true;
    return false;
}

bool unfold_qlinear(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    return node.domain == "com.microsoft" && node.op_type.rfind("QLinear", 0) == 0 && node.op->lower &&
           node.op->lower(graph, id, patch);
}

namespace {

bool is_byte(DType dtype) { return dtype == DType::u8 || dtype == DType::i8; }

bool has_constant_inputs_only(const Graph& graph, const Node& node) {
    for (ValueId v : node.inputs)
        if (v != kNoValue && !graph.constant(v)) return false;
    return true;
}

// The reason why a float operator has no integer form here.
std::string reason(Graph& graph, const Node& node) {
    bool quantized_input = false;
    for (ValueId v : node.inputs) quantized_input |= dequantized(graph, v).has_value();
    for (ValueId out : node.outputs) {
        if (out == kNoValue) continue;
        if (graph.is_output(out)) return "its result is an output of the model, as float";
        ValueId v = out;
        // Through the activation to the QuantizeLinear.
        for (int steps = 0; steps < 2; ++steps) {
            const std::vector<NodeId>& users = graph.value(v).users;
            if (users.empty()) break;
            const Node& user = graph.node(users[0]);
            if (users.size() > 1) {
                for (NodeId u : users)
                    if (!is_quantize(graph.node(u)))
                        return cat("its result is read as float by ", graph.node(u).op_type, " '", graph.node(u).name,
                                   "'");
                return "its result is quantized in several ways";
            }
            if (is_quantize(user)) {
                if (!quantization(graph, user)) return "its result is not quantized to bytes by one known scale";
                const size_t before = graph.nodes.size();
                std::string why;
                Patch patch(graph);
                for (IntegerForm form : kForms) {
                    if (!why.empty()) break;
                    form(graph, user, patch, why);
                }
                for (size_t n = graph.nodes.size(); n-- > before;)
                    if (graph.nodes[n].alive) graph.remove_node(static_cast<NodeId>(n));
                if (!why.empty()) return why;
                return quantized_input ? cat("no integer form of ", node.op_type)
                                       : std::string("its inputs are not quantized");
            }
            if (user.op->flags & kElementwise && user.outputs.size() == 1 && steps == 0) {
                v = user.outputs[0];
                continue;
            }
            return cat("its result is read as float by ", user.op_type, " '", user.name, "'");
        }
    }
    return cat("no integer form of ", node.op_type);
}

}  // namespace

bool explain_float_nodes(Graph& graph) {
    for (NodeId id : std::vector<NodeId>(graph.order)) {
        const Node& node = graph.node(id);
        const auto same = [&](const FloatNode& noted) { return noted.name == node.name; };
        if (std::any_of(graph.float_nodes.begin(), graph.float_nodes.end(), same)) continue;
        if (is_quantize(node) || is_dequantize(node) || node.domain == "linnet" ||
            has_constant_inputs_only(graph, node))
            continue;
        bool quantized = false, floats = false;
        for (ValueId v : node.inputs) {
            if (v == kNoValue || graph.value(v).producer == kNoNode) continue;
            const Node& maker = graph.node(graph.value(v).producer);
            quantized |= is_dequantize(maker) && is_byte(graph.fact(maker.inputs[0]).dtype);
        }
        for (ValueId v : node.outputs) {
            if (v == kNoValue) continue;
            floats |= is_float(graph.fact(v).dtype);
            for (NodeId user : graph.value(v).users) quantized |= is_quantize(graph.node(user));
        }
        if (quantized && floats) graph.float_nodes.push_back({node.name, node.op_type, reason(graph, node)});
    }
    return false;  // nothing that runs has changed
}

}  // namespace linnet
