// A Gradient node names values of its graph: y, and what y is a function of. Building has appended them to its inputs:
// [a value for each name in xs, then zs] [the values so named] [y]. Nodes between them and y are copied, unless they
// are fed with themselves; then the gradients of y run back through them.
#include "passes/gradient.h"

#include <unordered_map>
#include <unordered_set>

#include "graph/infer.h"

namespace linnet {
namespace {

constexpr std::string_view kDomain = "ai.onnx.preview.training";

// The nodes that make `y` out of `stops` and of what needs no node, in an order that can run.
std::vector<NodeId> nodes_between(const Graph& graph, ValueId y, const std::unordered_set<ValueId>& stops) {
    std::vector<NodeId> order;
    std::unordered_set<NodeId> seen;
    std::vector<std::pair<NodeId, size_t>> stack;  // a node, and how many of its inputs have been walked
    const auto enter = [&](ValueId v) {
        if (v == kNoValue || stops.count(v)) return;
        const NodeId producer = graph.value(v).producer;
        if (producer != kNoNode && seen.insert(producer).second) stack.emplace_back(producer, 0);
    };
    enter(y);
    while (!stack.empty()) {
        auto& [id, next] = stack.back();
        const Node& node = graph.node(id);
        if (next < node.inputs.size()) {
            enter(node.inputs[next++]);
        } else {
            order.push_back(id);
            stack.pop_back();
        }
    }
    return order;
}

using Values = std::unordered_map<ValueId, ValueId>;

ValueId look_up(const Values& values, ValueId v) {
    const auto it = values.find(v);
    return it == values.end() ? v : it->second;
}

// Copies the nodes that depend on a replaced value; `values` learns what they make.
void feed(const Graph& graph, std::vector<NodeId>& order, Values& values, Patch& patch) {
    for (NodeId& id : order) {
        const Node& node = graph.node(id);
        bool changed = false;
        for (ValueId v : node.inputs) changed = changed || look_up(values, v) != v;
        if (!changed) continue;
        Node copy = node;
        for (ValueId& v : copy.inputs) v = look_up(values, v);
        const ValueIds old = node.outputs, made = patch.node(std::move(copy), static_cast<int>(old.size()));
        for (size_t i = 0; i < old.size(); ++i)
            if (old[i] != kNoValue) values[old[i]] = made[i];
        id = graph.value(made[0]).producer;
    }
}

}  // namespace

bool expand_gradient(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "Gradient" || node.domain != kDomain) return false;
    const size_t xs = node.attributes.strings("xs").size(), all = (node.inputs.size() - 1) / 2;
    Values values;
    std::unordered_set<ValueId> stops;
    for (size_t i = 0; i < all; ++i) {
        stops.insert(node.inputs[all + i]);
        if (node.inputs[i] != node.inputs[all + i]) values[node.inputs[all + i]] = node.inputs[i];
    }
    std::vector<NodeId> order = nodes_between(graph, node.inputs.back(), stops);
    feed(graph, order, values, patch);
    const ValueId y = look_up(values, node.inputs.back());

    std::unordered_set<ValueId> active;  // depends on xs
    for (size_t i = 0; i < xs; ++i) active.insert(node.inputs[i]);
    for (NodeId n : order) {
        const Node& forward = graph.node(n);
        bool depends = false;
        for (ValueId v : forward.inputs) depends = depends || active.count(v);
        if (depends)
            for (ValueId v : forward.outputs) active.insert(v);
    }

    Values gradients;
    require(is_float(graph.fact(y).dtype), "y has element type ", dtype_name(graph.fact(y).dtype),
            " when the model is loaded, expected a float type");
    BackwardNode start{graph, patch, node, {}, {}, {}};
    gradients[y] = start.filled(y, 1);
    for (size_t i = order.size(); i-- > 0;) {
        const Node& forward = graph.node(order[i]);
        BackwardNode back{graph, patch, forward, {}, std::vector<ValueId>(forward.inputs.size(), kNoValue), {}};
        bool reached = false, wanted = false;
        for (ValueId v : forward.outputs) {
            const auto it = gradients.find(v);
            back.dy.push_back(it == gradients.end() ? kNoValue : it->second);
            reached = reached || it != gradients.end();
        }
        for (ValueId v : forward.inputs) {
            back.wanted.push_back(v != kNoValue && active.count(v) && is_float(graph.fact(v).dtype));
            wanted = wanted || back.wanted.back();
        }
        if (!reached || !wanted) continue;
        const auto backward = backward_of(forward);
        if (!backward)
            fail(ErrorKind::not_implemented, "the path from y back to xs passes ", node_text(forward),
                 ", of which no derivative is known; docs/conformance.md lists the operators that have one");
        try {
            backward(back);
        } catch (Error& e) {
            e.add_context(cat("the derivative of ", node_text(forward)));
            throw;
        }
        for (size_t k = 0; k < back.dx.size(); ++k) {
            if (back.dx[k] == kNoValue || !back.wanted[k]) continue;
            const auto [it, fresh] = gradients.try_emplace(forward.inputs[k], back.dx[k]);
            if (!fresh) it->second = patch.node("Add", {it->second, back.dx[k]});
        }
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        const auto it = gradients.find(node.inputs[i]);
        patch.replace(node.outputs[i], it == gradients.end() ? start.filled(node.inputs[i], 0) : it->second);
    }
    return true;
}

ValueId BackwardNode::cast(ValueId v, DType to) const {
    if (patch.fact(v).dtype == to) return v;
    return op("Cast", {v}, Attributes().set("to", static_cast<int64_t>(to)));
}

ValueId BackwardNode::number(double value, DType dtype) const {
    if (dtype != DType::f64) return patch.constant_float(static_cast<float>(value), dtype);
    return patch.constant(Tensor::scalar<double>(value));
}

ValueId BackwardNode::filled(ValueId like, double value) const {
    Tensor one = Tensor::allocate(DType::f32, {1});
    *one.as<float>() = static_cast<float>(value);
    const ValueId made = op("ConstantOfShape", {shape_of(like)}, Attributes().set("value", std::move(one)));
    return cast(made, patch.fact(like).dtype);
}

ValueId BackwardNode::sum(ValueId v, const std::vector<int64_t>& axes) const {
    if (axes.empty()) return v;
    if (opset() >= 13) return op("ReduceSum", {v, patch.constant_ints(axes)});
    return op("ReduceSum", {v}, Attributes().set("axes", axes));
}

ValueId BackwardNode::transposed(ValueId v, std::vector<int64_t> perm) const {
    if (perm.empty()) {
        for (int64_t i = 0; i < rank(v); ++i) perm.push_back(i);
        std::swap(perm.at(perm.size() - 2), perm.back());
    }
    return op("Transpose", {v}, Attributes().set("perm", std::move(perm)));
}

int64_t BackwardNode::rank(ValueId v) const {
    const Fact& fact = patch.fact(v);
    if (!fact.ranked)
        fail(ErrorKind::not_implemented, "the number of axes of '", graph.value(v).name,
             "' is not known when the model is loaded");
    return fact.rank();
}

ValueId BackwardNode::unbroadcast(ValueId gradient, ValueId x) const {
    const int64_t own = rank(x), lead = rank(gradient) - own;
    const Shape from = patch.fact(gradient).shape, to = patch.fact(x).shape;
    std::vector<int64_t> axes;
    bool known = true;
    for (int64_t i = 0; i < lead; ++i) axes.push_back(i);
    for (int64_t i = 0; i < own; ++i) {
        const int64_t a = from[static_cast<size_t>(i + lead)], b = to[static_cast<size_t>(i)];
        if (a == b && a != kUnknownDim) continue;
        if (b == 1) axes.push_back(i + lead);
        else if (!is_number(b)) known = false;
    }
    if (known) {
        const ValueId summed = sum(gradient, axes);
        return lead > 0 ? reshape_as(summed, x) : summed;
    }
    if (opset() < 13)
        fail(ErrorKind::not_implemented, "'", graph.value(x).name,
             "' may be broadcast, which is not known when the model is loaded: this needs opset 13");
    // Axes that are 1 in x: where they are in the gradient too, their sum is themselves.
    const ValueId one = patch.constant_ints({1});
    const ValueId padded =
        op("Concat", {patch.constant_ints(std::vector<int64_t>(static_cast<size_t>(lead), 1)), shape_of(x)},
           Attributes().set("axis", int64_t{0}));
    const ValueId found = op("Reshape", {op("NonZero", {op("Equal", {padded, one})}), patch.constant_ints({-1})});
    const ValueId summed = op("ReduceSum", {gradient, found}, Attributes().set("noop_with_empty_axes", int64_t{1}));
    return reshape_as(summed, x);
}

}  // namespace linnet
