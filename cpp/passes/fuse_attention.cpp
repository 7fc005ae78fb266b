// Recognises attention written out: MatMul(Softmax([mask] [where] [scale] MatMul(q, k')), v).
#include <cmath>
#include <limits>

#include "passes/fuse.h"

namespace linnet {
namespace {

bool same(int64_t a, int64_t b) { return a == b && a != kUnknownDim; }

const Tensor* scalar_f32(const Graph& graph, ValueId value) {
    const Tensor* t = graph.constant(value);
    return t && t->dtype == DType::f32 && t->count() == 1 ? t : nullptr;
}

// If `value` is x times or divided by a constant scalar: takes the factor in and gives x.
bool strip_scale(const Graph& graph, ValueId& value, float& scale) {
    for (const bool multiply : {true, false}) {
        const Node* node = graph.producer(value, multiply ? "Mul" : "Div");
        if (!node || node->inputs.size() != 2) continue;
        for (size_t side = 0; side < (multiply ? 2u : 1u); ++side) {
            const Tensor* factor = scalar_f32(graph, node->inputs[1 - side]);
            const Fact& x = graph.fact(node->inputs[side]);
            if (!factor || !x.ranked || factor->rank() > x.rank()) continue;
            const float f = multiply ? *factor->as<float>() : 1 / *factor->as<float>();
            if (!std::isfinite(f) || f == 0) continue;
            scale *= f;
            value = node->inputs[side];
            return true;
        }
    }
    return false;
}

// A value that broadcasts to the scores without making them larger.
bool is_mask(const Graph& graph, ValueId value, DType dtype, const Shape& scores) {
    const Fact& fact = graph.fact(value);
    if (!fact.ranked || fact.dtype != dtype || fact.rank() > static_cast<int64_t>(scores.size())) return false;
    for (size_t i = 0; i < fact.shape.size(); ++i) {
        const int64_t dim = fact.shape[fact.shape.size() - 1 - i];
        if (dim != 1 && !same(dim, scores[scores.size() - 1 - i])) return false;
    }
    return true;
}

}  // namespace

bool fuse_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "MatMul" || !node.domain.empty()) return false;
    const ValueId v = node.inputs[1];
    ValueId x = node.inputs[0];
    if (!graph.single_use(x)) return false;

    // Rows without a key: exporters put zeros where Softmax says NaN, as the internal Attention does by itself.
    if (const Node* where = graph.producer(x, "Where")) {
        const Node* is_nan = graph.producer(where->inputs[0], "IsNaN");
        const Tensor* zero = scalar_f32(graph, where->inputs[1]);
        if (!is_nan || !zero || *zero->as<float>() != 0 || is_nan->inputs[0] != where->inputs[2] ||
            graph.value(where->inputs[2]).users.size() != 2 || graph.is_output(where->inputs[2]))
            return false;
        x = where->inputs[2];
    }
    const Node* softmax = graph.producer(x, "Softmax");
    if (!softmax) return false;
    x = softmax->inputs[0];
    const Fact& scores = graph.fact(x);
    if (!scores.ranked || scores.dtype != DType::f32 || scores.rank() < 2 || scores.rank() > 4) return false;
    const int64_t axis = softmax->attributes.i("axis", softmax->op->since < 13 ? 1 : -1);
    if (axis != -1 && axis != scores.rank() - 1) return false;
    const Shape shape = scores.shape;

    ValueId mask = kNoValue, keep = kNoValue;
    float scale = 1, fill = -std::numeric_limits<float>::infinity();
    if (const Node* add = graph.producer(x, "Add"); add && graph.single_use(x) && add->inputs.size() == 2) {
        for (size_t side = 0; side < 2 && mask == kNoValue; ++side) {
            const Fact& other = graph.fact(add->inputs[side]);
            if (!is_mask(graph, add->inputs[1 - side], DType::f32, shape) || !other.ranked || !(other.shape == shape))
                continue;
            // The scores are the side that a product makes.
            ValueId inner = add->inputs[side];
            float ignored = 1;
            while (strip_scale(graph, inner, ignored)) {
            }
            if (!graph.producer(inner, "MatMul") && !graph.producer(inner, "Where")) continue;
            mask = add->inputs[1 - side];
            x = add->inputs[side];
        }
        if (mask == kNoValue) return false;
    }
    if (const Node* where = graph.producer(x, "Where"); where && graph.single_use(x)) {
        const Fact &kept = graph.fact(where->inputs[1]), &other = graph.fact(where->inputs[2]);
        const bool plain = kept.ranked && kept.shape == shape && scalar_f32(graph, where->inputs[2]);
        const bool inverted = other.ranked && other.shape == shape && scalar_f32(graph, where->inputs[1]);
        if ((!plain && !inverted) || !is_mask(graph, where->inputs[0], DType::boolean, shape)) return false;
        fill = *scalar_f32(graph, where->inputs[plain ? 2 : 1])->as<float>();
        keep = plain ? where->inputs[0] : patch.node("Not", {where->inputs[0]});
        x = where->inputs[plain ? 1 : 2];
    }
    while (graph.single_use(x) && strip_scale(graph, x, scale)) {
    }
    const Node* product = graph.producer(x, "MatMul");
    if (!product || !graph.single_use(x)) return false;
    ValueId q = product->inputs[0], kt = product->inputs[1];
    while (strip_scale(graph, q, scale)) {
    }
    while (strip_scale(graph, kt, scale)) {
    }

    // No broadcasting between the three, and nothing that a mask has made larger.
    const Fact &fq = graph.fact(q), &fk = graph.fact(kt), &fv = graph.fact(v), &fs = graph.fact(x);
    const size_t rank = shape.size();
    if (!fq.ranked || !fk.ranked || !fv.ranked || fq.shape.size() != rank || fk.shape.size() != rank ||
        fv.shape.size() != rank || !(fs.shape == shape) || fv.dtype != DType::f32)
        return false;
    for (size_t i = 0; i + 2 < rank; ++i)
        if (!same(fq.shape[i], fk.shape[i]) || !same(fq.shape[i], fv.shape[i]) || !same(fq.shape[i], shape[i]))
            return false;
    if (!same(fk.shape[rank - 1], fv.shape[rank - 2]) || !same(fq.shape[rank - 1], fk.shape[rank - 2])) return false;

    std::vector<int64_t> swap(rank);
    for (size_t i = 0; i < rank; ++i) swap[i] = static_cast<int64_t>(i);
    std::swap(swap[rank - 1], swap[rank - 2]);
    const ValueId k = patch.node("Transpose", {kt}, Attributes().set("perm", swap));
    Attributes attributes;
    attributes.set("scale", scale);
    if (keep != kNoValue) attributes.set("fill", fill);
    ValueIds inputs{q, k, v};
    if (mask != kNoValue || keep != kNoValue) inputs.push_back(mask);
    if (keep != kNoValue) inputs.push_back(keep);
    patch.replace(node.outputs[0], patch.node("Attention", inputs, attributes, "linnet"));
    return true;
}

}  // namespace linnet
