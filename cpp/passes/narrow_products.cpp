// Weights that the model holds in 4 or 8 bits stay so where the activations are float32: MatMul and Gemm by
// DequantizeLinear of a constant, a Transpose perhaps between them, become MatMulBits; LSTM, GRU and RNN keep R. So do
// products by a Codebook of up to 16 values, where that is faster.
#include <algorithm>

#include "ops/epilogue.h"
#include "ops/shared/codebook.h"
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

// From so large a share of zeros on the sparse form may be faster.
constexpr double kManyZeros = 0.5;

// The share of zeros among some of the codes.
double zeros(const Tensor& codes, const Tensor& book) {
    const int64_t step = std::max<int64_t>(1, codes.count() / 4096) | 1;
    int64_t seen = 0, zero = 0;
    for (int64_t i = 0; i < codes.count(); i += step) {
        const uint8_t code = codes.as<uint8_t>()[i];
        for (const int at : {code & 15, code >> 4}) zero += at < book.count() && book.as<float>()[at] == 0;
        seen += 2;
    }
    return static_cast<double>(zero) / static_cast<double>(std::max<int64_t>(1, seen));
}

int64_t coded_weights(const Graph& graph) {
    int64_t count = 0;
    for (NodeId id : graph.order) {
        const Node& node = graph.node(id);
        if (node.op_type == "Codebook" && graph.fact(node.outputs[0]).is_static())
            count += element_count(graph.fact(node.outputs[0]).shape);
        if (node.op_type == "MatMulBits" && node.attributes.i("book", 0))
            count += node.attributes.i("K", 0) * node.attributes.i("N", 0);
    }
    return count;
}

bool codes_pay(const Graph& graph, ValueId a, const Tensor& codes, const Tensor& book) {
    if (!codes.data || !book.data || book.count() > kNibbleCodes) return false;
    const kernels::BookGain gain = kernels::kernels().book_gain;
    const Fact& fact = graph.fact(a);
    if (gain.rows == 0 || fact.dtype != DType::f32 || !fact.ranked || fact.rank() < 1) return false;
    int64_t rows = 1;
    for (size_t i = 0; i + 1 < fact.shape.size(); ++i) {
        const int64_t dim = fact.shape[i];
        if (is_number(dim)) rows = checked_mul(rows, dim);
    }
    return rows <= static_cast<int64_t>(gain.rows) && coded_weights(graph) >= static_cast<int64_t>(gain.weights) &&
           zeros(codes, book) < kManyZeros;
}

// a times a tensor of codes, as below.
ValueId coded_product(const Graph& graph, ValueId a, const Node& codebook, bool swapped, Attributes attributes,
                      Patch& patch) {
    const ValueIds& inputs = codebook.inputs;
    const Tensor *codes = graph.constant(inputs[0]), *book = graph.constant(inputs[1]);
    const Fact& b = graph.fact(codebook.outputs[0]);
    if (!codes || !book || b.rank() != 2 || codebook.attributes.has("axis") || !codes_pay(graph, a, *codes, *book))
        return kNoValue;
    const size_t k_axis = swapped ? 1 : 0;
    const int64_t k = b.shape[k_axis], n = b.shape[1 - k_axis];
    if (k == 0 || n < static_cast<int64_t>(kernels::kernels().gemm_cols)) return kNoValue;
    attributes.set("K", k);
    attributes.set("N", n);
    attributes.set("bits", int64_t{4});
    attributes.set("block_size", k);
    attributes.set("k_axis", static_cast<int64_t>(k_axis));
    attributes.set("pairs", codebook.attributes.i("pairs", kNoPairs));
    attributes.set("book", int64_t{1});
    return patch.node("MatMulBits", {a, inputs[0], inputs[1], kNoValue}, attributes, "linnet");
}

// a times a dequantized constant, which may be transposed (once more if `swapped`); kNoValue if it has no narrow form.
ValueId narrow_product(const Graph& graph, ValueId a, ValueId b, bool swapped, Attributes attributes, Patch& patch) {
    while (const Node* transpose = graph.producer(b, "Transpose")) {
        const auto perm = transpose->attributes.ints("perm");
        swapped ^= perm.empty() || is_swap(perm);
        b = transpose->inputs[0];
    }
    if (const Node* codebook = graph.producer(b, "Codebook", "linnet"))
        return coded_product(graph, a, *codebook, swapped, std::move(attributes), patch);
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
