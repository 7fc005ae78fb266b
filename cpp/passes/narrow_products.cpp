// Weights that the model holds in 4 or 8 bits stay so where the activations are float32: MatMul and Gemm by
// DequantizeLinear of a constant, a Transpose perhaps between them, become MatMulBits; LSTM, GRU and RNN keep R.
#include <algorithm>

#include "ops/epilogue.h"
#include "ops/shared/recurrent.h"
#include "passes/fuse.h"

namespace linnet {
namespace {

bool is_swap(const std::vector<int64_t>& perm) { return perm.size() == 2 && perm[0] == 1; }

const Node* dequantizer(const Graph& graph, ValueId value) {
    const Node* node = graph.producer(value, "DequantizeLinear");
    return node ? node : graph.producer(value, "DequantizeLinear", "com.microsoft");
}

// LSTM, GRU and RNN: R.
bool narrow_recurrence(const Graph& graph, const Node& node, Patch& patch) {
    const Node* dequantize = node.inputs.size() > 2 ? dequantizer(graph, node.inputs[2]) : nullptr;
    if (!dequantize || graph.fact(node.inputs[0]).dtype != DType::f32) return false;
    const ValueIds& inputs = dequantize->inputs;
    const bool zero = inputs.size() > 2 && inputs[2] != kNoValue;
    const Tensor *r = graph.constant(inputs[0]), *scale = graph.constant(inputs[1]);
    const Tensor* zeros = zero ? graph.constant(inputs[2]) : nullptr;
    if (!r || !scale || (zero && !zeros) || dequantize->attributes.i("block_size", 0) != 0) return false;
    if (scale->count() != 1 && normal_axis(dequantize->attributes.i("axis", 1), 3) != 1) return false;
    auto narrow = narrow_recurrent(*r, *scale, zeros, false, false);
    if (!narrow) return false;
    Node made = copy_of(node);
    made.domain = "linnet";
    made.op = find_op("linnet", node.op_type, kMaxOpset);
    while (made.inputs.size() < kRecurrentScale) made.inputs.push_back(kNoValue);
    made.inputs[2] = patch.constant(std::move(narrow->r));
    made.inputs.push_back(patch.constant(std::move(narrow->scale)));
    const ValueIds outputs = patch.node(std::move(made), static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < outputs.size(); ++i)
        if (node.outputs[i] != kNoValue) patch.replace(node.outputs[i], outputs[i]);
    return true;
}

// a times a dequantized constant, which may be transposed (once more if `swapped`); kNoValue if it has no narrow form.
ValueId narrow_product(const Graph& graph, ValueId a, ValueId b, bool swapped, Attributes attributes, Patch& patch) {
    while (const Node* transpose = graph.producer(b, "Transpose")) {
        const auto perm = transpose->attributes.ints("perm");
        swapped ^= perm.empty() || is_swap(perm);
        b = transpose->inputs[0];
    }
    const Node* dequantize = dequantizer(graph, b);
    if (!dequantize || graph.fact(b).dtype != DType::f32) return kNoValue;
    const ValueIds& inputs = dequantize->inputs;
    const ValueId zero = inputs.size() > 2 ? inputs[2] : kNoValue;
    const Tensor *weights = graph.constant(inputs[0]), *scale = graph.constant(inputs[1]);
    if (!weights || !scale || (zero != kNoValue && !graph.constant(zero)) || weights->rank() != 2) return kNoValue;
    const DType d = weights->dtype;
    const bool four = d == DType::i4 || d == DType::u4;
    if (!four && d != DType::i8 && d != DType::u8) return kNoValue;

    const int64_t k_axis = swapped ? 1 : 0;
    const int64_t k = weights->shape[static_cast<size_t>(k_axis)], n = weights->shape[static_cast<size_t>(1 - k_axis)];
    if (k == 0 || n == 0) return kNoValue;
    int64_t block = dequantize->attributes.i("block_size", 0);
    const int64_t axis = normal_axis(dequantize->attributes.i("axis", 1), 2);
    if (block > 0) {
        if (axis != k_axis || (block % 8 && block < k)) return kNoValue;
        block = std::min(block, k);
    } else {
        if (scale->count() != 1 && axis == k_axis) return kNoValue;  // a scale per row
        block = k;
    }
    attributes.set("K", k);
    attributes.set("N", n);
    attributes.set("bits", int64_t{four ? 4 : 8});
    attributes.set("block_size", block);
    attributes.set("k_axis", k_axis);
    return patch.node("MatMulBits", {a, inputs[0], inputs[1], zero}, attributes, "linnet");
}

bool narrow_gemm(const Graph& graph, const Node& node, Patch& patch) {
    if (node.attributes.i("transA", 0) != 0) return false;
    const float alpha = node.attributes.f("alpha", 1), beta = node.attributes.f("beta", 1);
    Attributes attributes;
    if (alpha != 1)
        attributes.set("epilogue", std::vector<std::string>{epilogue_text(kernels::Unary::mul_scalar, alpha)});
    const bool swapped = node.attributes.i("transB", 0) != 0;
    ValueId y = narrow_product(graph, node.inputs[0], node.inputs[1], swapped, std::move(attributes), patch);
    if (y == kNoValue) return false;
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue && beta != 0) {
        ValueId c = node.inputs[2];
        if (beta != 1) c = patch.node("Mul", {c, patch.constant_float(beta)});
        y = patch.node("Add", {y, c});
    }
    patch.replace(node.outputs[0], y);
    return true;
}

}  // namespace

bool narrow_products(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (!node.domain.empty()) return false;
    if (node.op_type == "LSTM" || node.op_type == "GRU" || node.op_type == "RNN")
        return narrow_recurrence(graph, node, patch);
    if (node.op_type == "Gemm") return narrow_gemm(graph, node, patch);
    if (node.op_type != "MatMul") return false;
    const ValueId y = narrow_product(graph, node.inputs[0], node.inputs[1], false, {}, patch);
    if (y == kNoValue) return false;
    patch.replace(node.outputs[0], y);
    return true;
}

}  // namespace linnet
