// Transposes that choose_layouts could not remove, absorbed by what reads them: constant weights behind a flattening
// Reshape, reductions that drop axes, Shape.
#include <algorithm>

#include "ops/shared/copy.h"
#include "passes/layout.h"

namespace linnet {
namespace {

using Perm = std::vector<int64_t>;

// The Transpose that makes `value`, with its permutation; null when there is none.
const Node* transpose_of(const Graph& graph, ValueId value, Perm& perm) {
    const Node* node = graph.producer(value, "Transpose");
    if (!node || !graph.fact(node->inputs[0]).ranked) return nullptr;
    Perm reversed;
    for (int64_t i = graph.fact(node->inputs[0]).rank(); i-- > 0;) reversed.push_back(i);
    perm = node->attributes.ints("perm", reversed);
    return node;
}

// Shape(Transpose(x)) is a Gather of Shape(x).
bool shape_of(const Graph& graph, const Node& node, Patch& patch) {
    Perm perm;
    const Node* transpose = transpose_of(graph, node.inputs[0], perm);
    if (!transpose) return false;
    const auto rank = static_cast<int64_t>(perm.size());
    auto clamp = [&](int64_t at) { return std::clamp<int64_t>(at < 0 ? at + rank : at, 0, rank); };
    const int64_t start = clamp(node.attributes.i("start", 0)), end = clamp(node.attributes.i("end", rank));
    Perm axes;
    for (int64_t i = start; i < end; ++i) axes.push_back(perm[static_cast<size_t>(i)]);
    const ValueId source = transpose->inputs[0], result = node.outputs[0];
    const ValueId shape = patch.node("Shape", {source});
    patch.replace(result, patch.node("Gather", {shape, patch.constant_ints(axes)}));
    return true;
}

// A reduction that drops axes of a transposed value becomes one that keeps them (so that it may be permuted) and a
// Reshape.
bool reduction(const Graph& graph, const Node& node, Patch& patch) {
    if (node.attributes.i("keepdims", 1) != 0 || node.outputs.size() != 1) return false;
    Perm perm;
    if (!transpose_of(graph, node.inputs[0], perm)) return false;
    Perm axes = node.attributes.ints("axes");
    if (node.inputs.size() > 1 && node.inputs[1] != kNoValue) {
        const Tensor* constant = graph.constant(node.inputs[1]);
        if (!constant) return false;
        const Shape list = ints_of(*constant);
        axes.assign(list.begin(), list.end());
    }
    if (axes.empty()) return false;
    Node made;
    made.name = node.name;
    made.op_type = node.op_type;
    made.domain = node.domain;
    made.op = node.op;
    made.inputs = node.inputs;
    made.attributes = node.attributes;
    made.attributes.set("keepdims", int64_t{1});
    const ValueId result = node.outputs[0];
    const ValueId kept = patch.node(std::move(made), 1)[0];
    patch.replace(result, patch.node("Squeeze", {kept, patch.constant_ints(axes)}));
    return true;
}

// The weights of a product whose rows (K) were in the order of `shape`, with rows in the order of its permuted form.
Tensor reordered_rows(const Tensor& weights, bool rows_last, const Shape& shape, const Perm& order) {
    const int64_t columns = weights.shape[rows_last ? 0 : 1];
    Shape sizes, from;
    const Shape strides = strides_of(shape);
    const int64_t unit = rows_last ? 1 : columns;
    for (int64_t axis : order) {
        sizes.push_back(shape[static_cast<size_t>(axis)]);
        from.push_back(strides[static_cast<size_t>(axis)] * unit);
    }
    Tensor out = Tensor::allocate(weights.dtype, weights.shape);
    if (rows_last) {
        sizes.insert(sizes.begin(), columns);
        from.insert(from.begin(), element_count(shape));
    } else {
        sizes.push_back(columns);
        from.push_back(1);
    }
    copy_box(Parallel{}, weights.dtype, sizes, weights.data, from, out.data, strides_of(sizes));
    return out;
}

// Transpose, Reshape to [N, K], product with constant weights, input b: the weights' rows are put in the other order.
bool flattened(const Graph& graph, const Node& product, size_t b, Patch& patch) {
    if (!product.attributes.ints("perm_a").empty()) return false;
    const ValueId flat = product.inputs[0];
    const Node* reshape = graph.producer(flat, "Reshape");
    if (!reshape) reshape = graph.producer(flat, "Flatten");
    if (!reshape) return false;
    Perm perm;
    const ValueId spread = reshape->inputs[0];
    const Node* transpose = transpose_of(graph, spread, perm);
    const Tensor* weights = graph.constant(product.inputs[b]);
    const Fact &x = graph.fact(spread), &a = graph.fact(flat);
    if (!transpose || !weights || weights->rank() != 2 || !x.ranked || x.rank() < 2 || !a.ranked || a.rank() != 2 ||
        perm[0] != 0)
        return false;
    Shape inner;
    for (size_t i = 1; i < x.shape.size(); ++i) {
        if (!is_number(x.shape[i])) return false;
        inner.push_back(x.shape[i]);
    }
    const Perm perm_b = product.attributes.ints("perm_b");
    const bool rows_last = perm_b == Perm{1, 0};
    if (!perm_b.empty() && !rows_last && perm_b != Perm{0, 1}) return false;
    const int64_t k = element_count(inner);
    if (weights->shape[rows_last ? 1 : 0] != k || a.shape[1] != k) return false;
    // inner's axes in the order in which the source has them.
    Perm order(perm.size() - 1);
    for (size_t i = 1; i < perm.size(); ++i) order[static_cast<size_t>(perm[i]) - 1] = static_cast<int64_t>(i) - 1;
    const ValueId source = transpose->inputs[0], result = product.outputs[0];
    Node made;
    made.name = product.name;
    made.op_type = product.op_type;
    made.domain = product.domain;
    made.op = product.op;
    made.inputs = product.inputs;
    made.attributes = product.attributes;
    made.inputs[0] = patch.node("Reshape", {source, patch.constant_ints({0, k})});
    made.inputs[b] = patch.constant(reordered_rows(*weights, rows_last, inner, order), "weights");
    patch.replace(result, patch.node(std::move(made), 1)[0]);
    return true;
}

// A Reshape that splits or merges axes of a transposed value, each for itself, is done before the Transpose instead:
// [N, H, W, C] -> Transpose -> [N, C, H, W] -> [N, C, H * W] is [N, H * W, C], then Transpose. Where axes that a
// Transpose brought together are merged (a channel shuffle), the Transpose is done in two: one within the axes, one
// that makes the result channels-first, which is what the next convolution undoes.
bool reshaped(const Graph& graph, const Node& node, Patch& patch) {
    Perm perm;
    const Node* transpose = transpose_of(graph, node.inputs[0], perm);
    if (!transpose || !graph.single_use(node.inputs[0])) return false;
    const Shape in = graph.fact(node.inputs[0]).shape, source = graph.fact(transpose->inputs[0]).shape;
    const Fact& result = graph.fact(node.outputs[0]);
    if (!result.ranked || in.size() < 3 || result.shape.size() < 2 || in[0] != result.shape[0] ||
        in[0] == kUnknownDim || perm[0] != 0)
        return false;
    const Shape out = result.shape;
    for (size_t i = 1; i < in.size(); ++i)
        if (!is_number(in[i]) || in[i] == 0) return false;
    for (size_t i = 1; i < out.size(); ++i)
        if (!is_number(out[i]) || out[i] == 0) return false;
    // Groups of axes with equal products; each has one axis before or one after.
    struct Group {
        size_t in, in_end, out, out_end;
    };
    std::vector<Group> groups{{0, 1, 0, 1}};
    for (size_t i = 1, o = 1; i < in.size() || o < out.size();) {
        Group g{i, i, o, o};
        int64_t a = 1, b = 1;
        do {
            if ((a <= b && i < in.size()) || o >= out.size()) {
                if (i >= in.size()) return false;
                a = checked_mul(a, in[i++]);
            } else {
                b = checked_mul(b, out[o++]);
            }
        } while (a != b || i == g.in || o == g.out);
        g.in_end = i;
        g.out_end = o;
        if (g.in_end - g.in > 1 && g.out_end - g.out > 1) return false;
        groups.push_back(g);
    }
    if (groups.size() < 3) return false;  // everything is merged: nothing is left to transpose
    // The groups in the order in which the source has their first axes.
    std::vector<size_t> order(groups.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    const auto first_axis = [&](size_t g) {
        int64_t first = perm[groups[g].in];
        for (size_t i = groups[g].in; i < groups[g].in_end; ++i) first = std::min(first, perm[i]);
        return first;
    };
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return first_axis(a) < first_axis(b); });
    Perm inner;  // within the source
    std::vector<int64_t> sizes;
    Perm starts(groups.size(), 0);
    for (size_t g : order) {
        for (size_t i = groups[g].in; i < groups[g].in_end; ++i) inner.push_back(perm[i]);
        starts[g] = static_cast<int64_t>(sizes.size());
        for (size_t o = groups[g].out; o < groups[g].out_end; ++o) sizes.push_back(out[o]);
    }
    Perm outer;
    for (size_t g = 0; g < groups.size(); ++g)
        for (size_t o = groups[g].out; o < groups[g].out_end; ++o)
            outer.push_back(starts[g] + static_cast<int64_t>(o - groups[g].out));
    if (std::is_sorted(outer.begin(), outer.end())) return false;
    if (!std::is_sorted(inner.begin(), inner.end())) {
        Perm channels_first{0, static_cast<int64_t>(out.size()) - 1};
        for (size_t i = 1; i + 1 < out.size(); ++i) channels_first.push_back(static_cast<int64_t>(i));
        if (out.size() < 4 || outer != channels_first) return false;
    }
    sizes[0] = 0;  // as it is
    ValueId value = transpose->inputs[0];
    const ValueId replaced = node.outputs[0];
    if (!std::is_sorted(inner.begin(), inner.end()))
        value = patch.node("Transpose", {value}, Attributes().set("perm", inner));
    value = patch.node("Reshape", {value, patch.constant_ints(sizes)});
    patch.replace(replaced, patch.node("Transpose", {value}, Attributes().set("perm", outer)));
    return true;
}

}  // namespace

bool absorb_transpose(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    if (node.inputs.empty() || node.inputs[0] == kNoValue) return false;
    if (node.domain == "linnet" && (node.op_type == "MatMul" || node.op_type == "MatMulIntegerToFloat"))
        return flattened(graph, node, 1, patch);
    if (node.domain == "linnet" && node.op_type == "QLinearMatMul") return flattened(graph, node, 3, patch);
    if (!node.domain.empty()) return false;
    if (node.op_type == "Reshape") return reshaped(graph, node, patch);
    if (node.op_type == "Shape") return shape_of(graph, node, patch);
    if (node.op_type.rfind("Reduce", 0) == 0) return reduction(graph, node, patch);
    return false;
}

}  // namespace linnet
