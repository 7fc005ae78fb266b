// Recognises attention written out: MatMul(Softmax([mask] [where] [scale] MatMul(q, k')), v).
#include <cmath>
#include <limits>
#include <optional>

#include "passes/fuse.h"

namespace linnet {
namespace {

bool same(int64_t a, int64_t b) { return a == b && a != kUnknownDim; }

// Types whose attention is computed in float32.
bool is_short(DType dtype) { return dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16; }

std::optional<float> scalar(const Graph& graph, ValueId value) {
    const Tensor* t = graph.constant(value);
    if (!t || !is_short(t->dtype) || t->count() != 1) return {};
    return static_cast<float>(double_at(*t, 0));
}

// If `value` is a cast between float types that nothing else reads: gives what is cast.
bool strip_cast(const Graph& graph, ValueId& value) {
    const Node* cast = graph.producer(value, "Cast");
    if (!cast || !graph.single_use(value) || !is_short(graph.fact(value).dtype) ||
        !is_short(graph.fact(cast->inputs[0]).dtype))
        return false;
    value = cast->inputs[0];
    return true;
}

// If `value` is x times or divided by a constant scalar: takes the factor in and gives x.
bool strip_scale(const Graph& graph, ValueId& value, float& scale) {
    for (const bool multiply : {true, false}) {
        const Node* node = graph.producer(value, multiply ? "Mul" : "Div");
        if (!node || node->inputs.size() != 2) continue;
        for (size_t side = 0; side < (multiply ? 2u : 1u); ++side) {
            const std::optional<float> factor = scalar(graph, node->inputs[1 - side]);
            const Fact& x = graph.fact(node->inputs[side]);
            if (!factor || !x.ranked || graph.fact(node->inputs[1 - side]).rank() > x.rank()) continue;
            const float f = multiply ? *factor : 1 / *factor;
            if (!std::isfinite(f) || f == 0) continue;
            scale *= f;
            value = node->inputs[side];
            return true;
        }
    }
    return false;
}

// A value that broadcasts to the scores without making them larger.
bool is_mask(const Graph& graph, ValueId value, bool added, const Shape& scores) {
    const Fact& fact = graph.fact(value);
    if (!fact.ranked || fact.rank() > static_cast<int64_t>(scores.size())) return false;
    if (added ? !is_short(fact.dtype) : fact.dtype != DType::boolean) return false;
    for (size_t i = 0; i < fact.shape.size(); ++i) {
        const int64_t dim = fact.shape[fact.shape.size() - 1 - i];
        if (dim != 1 && !same(dim, scores[scores.size() - 1 - i])) return false;
    }
    return true;
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// True when `condition` tells for each row of the mask whether all of it is -inf.
bool tells_masked_rows(const Graph& graph, ValueId condition, ValueId mask) {
    if (mask == kNoValue) return false;
    const Tensor *told = graph.constant(condition), *known = graph.constant(mask);
    if (told && known) {
        const int64_t keys = known->rank() > 0 ? known->shape.back() : 0;
        if (keys == 0 || told->rank() == 0 || told->shape.back() != 1 || told->count() != known->count() / keys)
            return false;
        for (int64_t i = 0; i < told->count(); ++i) {
            bool all = true;
            for (int64_t j = 0; j < keys; ++j) all = all && double_at(*known, i * keys + j) == -kInfinity;
            if (all != (int_at(*told, i) != 0)) return false;
        }
        return true;
    }
    const Node* equal = graph.producer(condition, "Equal");
    if (!equal || scalar(graph, equal->inputs[1]) != -kInfinity) return false;
    const Node* most = graph.producer(equal->inputs[0], "ReduceMax");
    if (!most || most->inputs[0] != mask || most->attributes.i("keepdims", 1) == 0) return false;
    const Tensor* axes = most->inputs.size() > 1 ? graph.constant(most->inputs[1]) : nullptr;
    return axes && axes->count() == 1 && (int_at(*axes, 0) == -1 || int_at(*axes, 0) == graph.fact(mask).rank() - 1);
}

}  // namespace

bool fuse_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "MatMul" || !node.domain.empty()) return false;
    const ValueId v = node.inputs[1];
    ValueId x = node.inputs[0];
    if (!graph.single_use(x)) return false;

    // Rows without a key: exporters put zeros where Softmax says NaN, as the internal Attention does by itself.
    ValueId masked_rows = kNoValue;
    strip_cast(graph, x);
    if (const Node* where = graph.producer(x, "Where")) {
        const ValueId kept = where->inputs[2];
        const Node* is_nan = graph.producer(where->inputs[0], "IsNaN");
        if (scalar(graph, where->inputs[1]) != 0.0f || graph.is_output(kept)) return false;
        if (!is_nan) masked_rows = where->inputs[0];
        else if (is_nan->inputs[0] != kept) return false;
        if (graph.value(kept).users.size() != (is_nan ? 2u : 1u)) return false;
        x = kept;
        strip_cast(graph, x);
    }
    const Node* softmax = graph.producer(x, "Softmax");
    if (!softmax) return false;
    x = softmax->inputs[0];
    const Fact& scores = graph.fact(x);
    if (!scores.ranked || !is_short(scores.dtype) || scores.rank() < 2 || scores.rank() > 4) return false;
    const int64_t axis = softmax->attributes.i("axis", softmax->op->since < 13 ? 1 : -1);
    if (axis != -1 && axis != scores.rank() - 1) return false;
    const Shape shape = scores.shape;

    ValueId mask = kNoValue, keep = kNoValue;
    float scale = 1, fill = -kInfinity;
    strip_cast(graph, x);
    if (const Node* add = graph.producer(x, "Add"); add && graph.single_use(x) && add->inputs.size() == 2) {
        for (size_t side = 0; side < 2 && mask == kNoValue; ++side) {
            const Fact& other = graph.fact(add->inputs[side]);
            if (!is_mask(graph, add->inputs[1 - side], true, shape) || !other.ranked || !(other.shape == shape))
                continue;
            // The scores are the side that a product makes.
            ValueId inner = add->inputs[side];
            float ignored = 1;
            while (strip_cast(graph, inner) || strip_scale(graph, inner, ignored)) {
            }
            if (!graph.producer(inner, "MatMul") && !graph.producer(inner, "Where")) continue;
            mask = add->inputs[1 - side];
            x = add->inputs[side];
        }
        if (mask == kNoValue) return false;
    }
    if (masked_rows != kNoValue && !tells_masked_rows(graph, masked_rows, mask)) return false;
    strip_cast(graph, x);
    if (const Node* where = graph.producer(x, "Where"); where && graph.single_use(x)) {
        const Fact &kept = graph.fact(where->inputs[1]), &other = graph.fact(where->inputs[2]);
        const bool plain = kept.ranked && kept.shape == shape && scalar(graph, where->inputs[2]);
        const bool inverted = other.ranked && other.shape == shape && scalar(graph, where->inputs[1]);
        if ((!plain && !inverted) || !is_mask(graph, where->inputs[0], false, shape)) return false;
        fill = *scalar(graph, where->inputs[plain ? 2 : 1]);
        keep = plain ? where->inputs[0] : patch.node("Not", {where->inputs[0]});
        x = where->inputs[plain ? 1 : 2];
    }
    while (strip_cast(graph, x) || (graph.single_use(x) && strip_scale(graph, x, scale))) {
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
        fv.shape.size() != rank || !(fs.shape == shape) || !is_short(fv.dtype) || !is_short(fq.dtype))
        return false;
    for (size_t i = 0; i + 2 < rank; ++i)
        if (!same(fq.shape[i], fk.shape[i]) || !same(fq.shape[i], fv.shape[i]) || !same(fq.shape[i], shape[i]))
            return false;
    if (!same(fk.shape[rank - 1], fv.shape[rank - 2]) || !same(fq.shape[rank - 1], fk.shape[rank - 2])) return false;

    std::vector<int64_t> swap(rank);
    for (size_t i = 0; i < rank; ++i) swap[i] = static_cast<int64_t>(i);
    std::swap(swap[rank - 1], swap[rank - 2]);
    const auto cast = [&](ValueId value, DType to) {
        if (value == kNoValue || patch.fact(value).dtype == to) return value;
        return patch.node("Cast", {value}, Attributes().set("to", static_cast<int64_t>(to)));
    };
    const DType dtype = fv.dtype;
    const ValueId k = patch.node("Transpose", {cast(kt, DType::f32)}, Attributes().set("perm", swap));
    Attributes attributes;
    attributes.set("scale", scale);
    if (keep != kNoValue) attributes.set("fill", fill);
    ValueIds inputs{cast(q, DType::f32), k, cast(v, DType::f32)};
    if (mask != kNoValue || keep != kNoValue) inputs.push_back(cast(mask, DType::f32));
    if (keep != kNoValue) inputs.push_back(keep);
    patch.replace(node.outputs[0], cast(patch.node("Attention", inputs, attributes, "linnet"), dtype));
    return true;
}

}  // namespace linnet
