// Weights that the model holds in 4 or 8 bits, with a scale per column or per block of rows, stay so: DequantizeLinear
// of a constant, a Transpose perhaps, and the internal MatMul become MatMulBits.
#include "passes/fuse.h"

namespace linnet {
namespace {

bool is_identity(const Attributes& attributes, const char* name) {
    const auto perm = attributes.ints(name);
    for (size_t i = 0; i < perm.size(); ++i)
        if (perm[i] != static_cast<int64_t>(i)) return false;
    return true;
}

bool is_swap(const std::vector<int64_t>& perm) { return perm.size() == 2 && perm[0] == 1; }

}  // namespace

bool narrow_weights(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "MatMul" || node.domain != "linnet" || node.inputs.size() > 2) return false;
    if (!is_identity(node.attributes, "perm_a") || !is_identity(node.attributes, "perm_c")) return false;
    ValueId b = node.inputs[1];
    bool swapped = is_swap(node.attributes.ints("perm_b"));
    while (const Node* transpose = graph.producer(b, "Transpose")) {
        const auto perm = transpose->attributes.ints("perm");
        swapped ^= perm.empty() || is_swap(perm);
        b = transpose->inputs[0];
    }
    const Node* dequantize = graph.producer(b, "DequantizeLinear");
    if (!dequantize) dequantize = graph.producer(b, "DequantizeLinear", "com.microsoft");
    if (!dequantize || graph.fact(b).dtype != DType::f32) return false;
    const ValueIds& inputs = dequantize->inputs;
    const ValueId zero = inputs.size() > 2 ? inputs[2] : kNoValue;
    const Tensor *weights = graph.constant(inputs[0]), *scale = graph.constant(inputs[1]);
    if (!weights || !scale || (zero != kNoValue && !graph.constant(zero)) || weights->rank() != 2) return false;
    const DType d = weights->dtype;
    const bool four = d == DType::i4 || d == DType::u4;
    if (!four && d != DType::i8 && d != DType::u8) return false;

    const int64_t k_axis = swapped ? 1 : 0;
    const int64_t k = weights->shape[static_cast<size_t>(k_axis)], n = weights->shape[static_cast<size_t>(1 - k_axis)];
    if (k == 0 || n == 0) return false;
    int64_t block = dequantize->attributes.i("block_size", 0);
    const int64_t axis = normal_axis(dequantize->attributes.i("axis", 1), 2);
    if (block > 0) {
        if (axis != k_axis || (block % 8 && block < k)) return false;
        block = std::min(block, k);
    } else {
        if (scale->count() != 1 && axis == k_axis) return false;  // a scale per row
        block = k;
    }
    Attributes attributes;
    attributes.set("K", k)
        .set("N", n)
        .set("bits", int64_t{four ? 4 : 8})
        .set("block_size", block)
        .set("k_axis", k_axis);
    const auto epilogue = node.attributes.strings("epilogue");
    if (!epilogue.empty()) attributes.set("epilogue", epilogue);
    patch.replace(node.outputs[0],
                  patch.node("MatMulBits", {node.inputs[0], inputs[0], inputs[1], zero}, attributes, "linnet"));
    return true;
}

}  // namespace linnet
