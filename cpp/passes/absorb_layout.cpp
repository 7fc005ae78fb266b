// Products and attention read and write through strides, so that Transposes around them (the split and the merge of
// heads, a transposed weight) cost nothing; and they take any number of leading axes, so that Reshapes which only merge
// and split these vanish.
#include <algorithm>
#include <numeric>

#include "passes/fuse.h"

namespace linnet {
namespace {

using Perm = std::vector<int64_t>;

Perm identity(size_t rank) {
    Perm perm(rank);
    std::iota(perm.begin(), perm.end(), 0);
    return perm;
}

// Empty when the rank is not known.
Perm perm_of_transpose(const Graph& graph, const Node& node) {
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked) return {};
    Perm reversed = identity(static_cast<size_t>(x.rank()));
    std::reverse(reversed.begin(), reversed.end());
    return node.attributes.ints("perm", reversed);
}

// first, then second: axis i of the result is axis first[second[i]] of the source.
Perm composed(const Perm& first, const Perm& second) {
    if (second.empty()) return first;
    Perm out;
    for (int64_t axis : second) out.push_back(first[static_cast<size_t>(axis)]);
    return out;
}

// The names of the permutations of inputs 0, 1 ..., and the inputs whose rows must stay contiguous.
struct Host {
    std::string_view op_type;
    std::string_view inputs[3];
    bool rows[3];
    std::string_view output;
};
constexpr Host kHosts[] = {
    {"MatMul", {"perm_a", "perm_b", ""}, {false, false, false}, "perm_c"},
    {"Attention", {"perm_q", "perm_k", "perm_v"}, {true, true, true}, "perm_o"},
};

bool absorb_input(const Graph& graph, const Node& node, const Host& host, size_t i, Patch& patch) {
    const ValueId value = node.inputs[i];
    const Node* transpose = graph.producer(value, "Transpose");
    if (!transpose) return false;
    const Perm inner = perm_of_transpose(graph, *transpose);
    if (inner.size() < 2) return false;
    const std::string name(host.inputs[i]);
    const Perm all = composed(inner, node.attributes.ints(name));
    const int64_t last = static_cast<int64_t>(all.size()) - 1;
    // The last axis of the source must be one of the matrix's two, else no direction is contiguous.
    if (all.back() != last && (host.rows[i] || all[all.size() - 2] != last)) return false;
    Node merged = copy_of(node);
    merged.inputs[i] = transpose->inputs[0];
    merged.attributes.set(name, all);
    patch.replace(node.outputs[0], patch.node(std::move(merged), 1)[0]);
    return true;
}

// `node` is the Transpose behind the host.
bool absorb_output(const Graph& graph, const Node& node, Patch& patch) {
    const ValueId value = node.inputs[0];
    if (!graph.single_use(value) || graph.value(value).producer == kNoNode) return false;
    const Node& product = graph.node(graph.value(value).producer);
    for (const Host& host : kHosts) {
        if (product.domain != "linnet" || product.op_type != host.op_type) continue;
        const Perm outer = perm_of_transpose(graph, node);
        if (outer.size() < 2 || outer.back() != static_cast<int64_t>(outer.size()) - 1) return false;
        for (size_t i = 0; i < 2 && host.op_type == "MatMul"; ++i) {
            const Fact& fact = graph.fact(product.inputs[i]);
            if (!fact.ranked || fact.rank() < 2) return false;
        }
        // Operands have the shape of the output before the permutation: vectors alone do not mind.
        for (size_t i = 3; host.op_type == "MatMul" && i < product.inputs.size(); ++i) {
            const Fact& fact = graph.fact(product.inputs[i]);
            if (!fact.ranked) return false;
            for (int64_t axis = 0; axis + 1 < fact.rank(); ++axis)
                if (fact.shape[static_cast<size_t>(axis)] != 1) return false;
        }
        Node merged = copy_of(product);
        const std::string name(host.output);
        const Perm before = product.attributes.ints(name);
        merged.attributes.set(name, composed(before.empty() ? identity(outer.size()) : before, outer));
        patch.replace(node.outputs[0], patch.node(std::move(merged), 1)[0]);
        return true;
    }
    return false;
}

// Reshape [..., K] -> [M, K], product with [K, N], Reshape -> [..., N]: the product of [..., K] itself. What is
// reshaped first may also hold K as several axes (heads).
bool absorb_reshapes(const Graph& graph, const Node& node, Patch& patch) {
    const ValueId value = node.inputs[0];
    const Node* product = graph.producer(value, "MatMul", "linnet");
    if (!product || !graph.single_use(value) || product->attributes.has("perm_c") ||
        !product->attributes.ints("perm_a").empty())
        return false;
    const Node* inner = graph.producer(product->inputs[0], "Reshape");
    if (!inner) return false;
    const Fact &x = graph.fact(inner->inputs[0]), &a = graph.fact(product->inputs[0]);
    const Fact &c = graph.fact(value), &y = graph.fact(node.outputs[0]), &b = graph.fact(product->inputs[1]);
    if (!x.ranked || !a.ranked || !b.ranked || !y.ranked || !c.ranked || b.rank() != 2 || a.rank() < 2 ||
        y.rank() < 2 || x.rank() < y.rank())
        return false;
    auto same = [](int64_t p, int64_t q) { return p == q && p != kUnknownDim; };
    const size_t leading = y.shape.size() - 1;
    int64_t columns = 1;  // of x behind the leading axes
    for (size_t i = 0; i < x.shape.size(); ++i) {
        if (i < leading && !same(x.shape[i], y.shape[i])) return false;
        if (i >= leading) columns = is_number(x.shape[i]) && columns >= 0 ? checked_mul(columns, x.shape[i]) : -1;
    }
    if (columns < 0 || columns != a.shape.back() || !same(y.shape.back(), c.shape.back())) return false;
    for (size_t i = 3; i < product->inputs.size(); ++i) {  // operands: vectors only
        const Fact& fact = graph.fact(product->inputs[i]);
        if (!fact.ranked || fact.rank() > y.rank()) return false;
        for (int64_t axis = 0; axis + 1 < fact.rank(); ++axis)
            if (fact.shape[static_cast<size_t>(axis)] != 1) return false;
    }
    Node merged = copy_of(*product);
    merged.inputs[0] = inner->inputs[0];
    if (x.shape.size() != y.shape.size()) {
        std::vector<int64_t> shape(leading, 0);  // 0: as it was
        shape.push_back(columns);
        merged.inputs[0] = patch.node("Reshape", {inner->inputs[0], patch.constant_ints(shape)});
    }
    patch.replace(node.outputs[0], patch.node(std::move(merged), 1)[0]);
    return true;
}

// Reshape [..., S, D] -> [N, S, D], Transpose [0, 2, 1], Reshape -> [..., D, S]: a Transpose of the last two axes.
bool transpose_in_place(const Graph& graph, const Node& node, Patch& patch) {
    const Node* transpose = graph.producer(node.inputs[0], "Transpose");
    const Node* inner = transpose ? graph.producer(transpose->inputs[0], "Reshape") : nullptr;
    if (!inner || perm_of_transpose(graph, *transpose) != Perm{0, 2, 1}) return false;
    const Fact &x = graph.fact(inner->inputs[0]), &middle = graph.fact(transpose->inputs[0]);
    const Fact& y = graph.fact(node.outputs[0]);
    if (!x.ranked || !y.ranked || x.rank() < 3 || y.rank() != x.rank()) return false;
    const size_t rank = x.shape.size();
    auto same = [](int64_t p, int64_t q) { return p == q && p != kUnknownDim; };
    if (!same(x.shape[rank - 1], middle.shape[2]) || !same(x.shape[rank - 2], middle.shape[1]) ||
        !same(x.shape[rank - 1], y.shape[rank - 2]) || !same(x.shape[rank - 2], y.shape[rank - 1]))
        return false;
    for (size_t i = 0; i + 2 < rank; ++i)
        if (!same(x.shape[i], y.shape[i])) return false;
    Perm swapped = identity(rank);
    std::swap(swapped[rank - 1], swapped[rank - 2]);
    patch.replace(node.outputs[0],
                  patch.node("Transpose", {inner->inputs[0]}, Attributes().set("perm", std::move(swapped))));
    return true;
}

}  // namespace

bool absorb_layout(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.domain.empty() && node.op_type == "Transpose") return absorb_output(graph, node, patch);
    if (node.domain.empty() && node.op_type == "Reshape")
        return absorb_reshapes(graph, node, patch) || transpose_in_place(graph, node, patch);
    if (node.domain != "linnet") return false;
    for (const Host& host : kHosts)
        for (size_t i = 0; node.op_type == host.op_type && i < 3 && i < node.inputs.size(); ++i)
            if (!host.inputs[i].empty() && absorb_input(graph, node, host, i, patch)) return true;
    return false;
}

}  // namespace linnet
