// Products of quantized operands become integer products:
//   QuantizeLinear(clamp(MatMul(DequantizeLinear a, DequantizeLinear w) + bias))  is linnet.QLinearMatMul,
//   MatMul(DequantizeLinear a, DequantizeLinear w) that is read as float, and
//   Cast(MatMulInteger(a, w)) * (a_scale * w_scale), what dynamic quantization writes,
// are linnet.MatMulIntegerToFloat; Gemm where MatMul is. w is a constant matrix.
#include <algorithm>
#include <optional>

#include "passes/integer.h"

namespace linnet {
namespace {

struct Operands {
    ValueId a, a_scale, a_zero, b, b_scale, b_zero;
    float scale;   // a's
    bool swapped;  // b is [n, k]
    int64_t columns;
    ValueId bias;  // of Gemm
};

ValueId input(const Node& node, size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; }

const Node* producer(const Graph& graph, ValueId value) {
    if (value == kNoValue || graph.value(value).producer == kNoNode) return nullptr;
    return &graph.node(graph.value(value).producer);
}

bool all_zero(const Tensor& integers) {
    for (int64_t i = 0; i < integers.count(); ++i)
        if (int_at(integers, i) != 0) return false;
    return true;
}

// The operands of a MatMul or Gemm; nothing, with the reason in `why`, if they are not quantized so.
std::optional<Operands> operands_of(const Graph& graph, const Node& node, std::string& why) {
    const bool gemm = node.op_type == "Gemm";
    if (gemm &&
        (node.attributes.i("transA", 0) || node.attributes.f("alpha", 1) != 1 || node.attributes.f("beta", 1) != 1))
        return why = "its attributes have no integer form", std::nullopt;
    const auto a = dequantized(graph, node.inputs[0]);
    if (!a) return why = "its first input is not quantized to bytes by one known scale", std::nullopt;
    const Node& from_a = *producer(graph, node.inputs[0]);
    bool swapped = gemm && node.attributes.i("transB", 0) != 0;
    const Node* from_b = producer(graph, node.inputs[1]);
    if (from_b && from_b->op_type == "Transpose" && from_b->domain.empty() &&
        graph.fact(from_b->inputs[0]).rank() == 2) {
        const auto perm = from_b->attributes.ints("perm");
        swapped ^= perm.empty() || perm[0] == 1;
        from_b = producer(graph, from_b->inputs[0]);
    }
    if (!from_b || !is_dequantize(*from_b)) return why = "its weights are not quantized", std::nullopt;
    const ValueId b = from_b->inputs[0], scale = from_b->inputs[1];
    ValueId zero = input(*from_b, 2);
    const Tensor *weights = graph.constant(b), *scales = graph.constant(scale);
    if (!weights || !scales || (zero != kNoValue && !graph.constant(zero)))
        return why = "its weights are not constant", std::nullopt;
    if (weights->rank() != 2 || !(weights->dtype == DType::i8 || weights->dtype == DType::u8))
        return why = "its weights are not a matrix of 8 bits", std::nullopt;
    const int64_t columns = weights->shape[swapped ? 0 : 1];
    if (scales->dtype != DType::f32 || from_b->attributes.i("block_size", 0) != 0 ||
        (scales->count() != 1 &&
         (normal_axis(from_b->attributes.i("axis", 1), 2) != (swapped ? 0 : 1) || scales->count() != columns)))
        return why = "its weights have scales along another axis than the columns", std::nullopt;
    if (zero != kNoValue && all_zero(*graph.constant(zero))) zero = kNoValue;  // or each run would look
    return Operands{a->value, from_a.inputs[1], input(from_a, 2), b,       scale,
                    zero,     a->real.scale,    swapped,          columns, gemm ? input(node, 2) : kNoValue};
}

Attributes attributes_of(const Operands& operands) {
    Attributes attributes;
    if (operands.swapped) attributes.set("perm_b", std::vector<int64_t>{1, 0});
    return attributes;
}

bool is_product(const Node* node) {
    return node && node->domain.empty() && (node->op_type == "MatMul" || node->op_type == "Gemm");
}

ValueId to_float(const Operands& o, Patch& patch) {
    return patch.node("MatMulIntegerToFloat", {o.a, o.b, o.a_scale, o.b_scale, o.a_zero, o.b_zero}, attributes_of(o),
                      "linnet");
}

// Cast(MatMulInteger(a, w)) * (a_scale * w_scale)
bool dynamic_product(const Graph& graph, const Node& node, size_t side, Patch& patch) {
    const Node* cast = graph.producer(node.inputs[side], "Cast");
    const Node* product = cast ? graph.producer(cast->inputs[0], "MatMulInteger") : nullptr;
    const Node* scales = graph.producer(node.inputs[1 - side], "Mul");
    if (!product || !scales || graph.fact(node.outputs[0]).dtype != DType::f32) return false;
    if (!graph.single_use(node.inputs[side]) || !graph.single_use(cast->inputs[0])) return false;
    const Fact &b = graph.fact(product->inputs[1]), &c = graph.fact(product->outputs[0]);
    if (!b.ranked || b.rank() != 2 || !is_number(b.shape[1]) || !c.ranked || c.rank() < 1) return false;
    for (size_t first = 0; first < 2; ++first) {
        const ValueId a_scale = scales->inputs[first], b_scale = scales->inputs[1 - first];
        const Fact &of_a = graph.fact(a_scale), &of_b = graph.fact(b_scale);
        if (!of_a.is_static() || element_count(of_a.shape) != 1 || of_a.rank() > 1) continue;
        if (!of_b.is_static() || of_b.rank() > 1) continue;
        const int64_t count = element_count(of_b.shape);
        if (count != 1 && count != b.shape[1]) continue;
        patch.replace(node.outputs[0], patch.node("MatMulIntegerToFloat",
                                                  {product->inputs[0], product->inputs[1], a_scale, b_scale,
                                                   input(*product, 2), input(*product, 3)},
                                                  {}, "linnet"));
        return true;
    }
    return false;
}

}  // namespace

bool integer_product(const Graph& graph, const Node& quantize, Patch& patch, std::string& why) {
    const Quantization y = *quantization(graph, quantize);
    int32_t lo = y.lowest(), hi = y.highest();
    ValueId value = skip_clamps(graph, quantize.inputs[0], y, lo, hi);
    ValueId bias = kNoValue;
    if (const Node* add = graph.producer(value, "Add"); add && graph.single_use(value))
        for (size_t side = 0; side < 2; ++side)
            if (is_product(producer(graph, add->inputs[side])) && graph.fact(add->inputs[1 - side]).rank() == 1) {
                bias = add->inputs[1 - side];
                value = add->inputs[side];
                break;
            }
    const Node* found = producer(graph, value);
    if (!is_product(found)) return false;
    if (!graph.single_use(value)) return why = "its result is read as float as well", false;
    const auto o = operands_of(graph, *found, why);
    if (!o) return false;
    if (o->bias != kNoValue) {
        if (bias != kNoValue) return why = "it has two biases", false;
        bias = o->bias;
    }
    Node made;
    made.name = found->name;
    made.op_type = "QLinearMatMul";
    made.domain = "linnet";
    made.op = find_op("linnet", "QLinearMatMul", kMaxOpset);
    made.attributes = attributes_of(*o);
    if (lo > y.lowest()) made.attributes.set("lo", static_cast<int64_t>(lo));
    if (hi < y.highest()) made.attributes.set("hi", static_cast<int64_t>(hi));
    made.inputs = {o->a, o->a_scale, o->a_zero, o->b, o->b_scale, o->b_zero, quantize.inputs[1], input(quantize, 2)};
    if (made.inputs[7] == kNoValue) made.inputs[7] = patch.constant(Tensor::scalar<uint8_t>(0));
    if (bias != kNoValue) {
        bias = integer_bias(graph, bias, o->columns, o->scale, *graph.constant(o->b_scale), y.scale, patch, why);
        if (bias == kNoValue) return false;
        made.inputs.push_back(bias);
    }
    patch.replace(quantize.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

bool float_products(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type == "Mul" && node.domain.empty())
        return dynamic_product(graph, node, 0, patch) || dynamic_product(graph, node, 1, patch);
    if (!is_product(&node)) return false;
    std::string why;
    const auto o = operands_of(graph, node, why);
    if (!o) return false;
    ValueId y = to_float(*o, patch);
    if (o->bias != kNoValue) y = patch.node("Add", {y, o->bias});
    patch.replace(node.outputs[0], y);
    return true;
}

}  // namespace linnet
