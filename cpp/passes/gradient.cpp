// A Gradient node names values of its graph: y, and what y is a function of. Building has appended them to its inputs:
// [a value for each name in xs, then zs] [the values so named] [y]. Nodes between them and y are copied, unless they
// are fed with themselves; then the gradients of y run back through them.
#include "passes/gradient.h"

#include "graph/infer.h"

namespace linnet {
namespace {

// Something about values, or about nodes.
struct Notes {
    std::vector<int32_t> notes;
    int32_t absent = kNoValue;
    int32_t get(int32_t id) const {
        const auto at = static_cast<size_t>(id);
        return id >= 0 && at < notes.size() ? notes[at] : absent;
    }
    bool has(int32_t id) const { return get(id) != absent; }
    void set(int32_t id, int32_t note) {
        const auto at = static_cast<size_t>(id);
        if (at >= notes.size()) notes.resize(at + 1, absent);
        notes[at] = note;
    }
    int32_t get_or(int32_t id, int32_t other) const { return has(id) ? get(id) : other; }
};

// The nodes that make `y` out of `stops` and of what needs no node, in an order that can run.
std::vector<NodeId> nodes_between(const Graph& graph, ValueId y, const Notes& stops) {
    std::vector<NodeId> order, stack;
    Notes walked;  // inputs of a node that are done
    const auto enter = [&](ValueId v) {
        if (v == kNoValue || stops.has(v)) return;
        const NodeId producer = graph.value(v).producer;
        if (producer == kNoNode || walked.has(producer)) return;
        walked.set(producer, 0);
        stack.push_back(producer);
    };
    enter(y);
    while (!stack.empty()) {
        const NodeId id = stack.back();
        const int32_t next = walked.get(id);
        const ValueIds& inputs = graph.node(id).inputs;
        if (static_cast<size_t>(next) < inputs.size()) {
            walked.set(id, next + 1);
            enter(inputs[static_cast<size_t>(next)]);
        } else {
            order.push_back(id);
            stack.pop_back();
        }
    }
    return order;
}

// Copies the nodes that depend on a replaced value; `values` learns what they make.
void feed(const Graph& graph, std::vector<NodeId>& order, Notes& values, Patch& patch) {
    for (NodeId& id : order) {
        bool changed = false;
        for (ValueId v : graph.node(id).inputs) changed = changed || values.has(v);
        if (!changed) continue;
        Node copy = graph.node(id);
        for (ValueId& v : copy.inputs) v = values.get_or(v, v);
        const ValueIds old = copy.outputs, made = patch.node(std::move(copy), static_cast<int>(old.size()));
        for (size_t i = 0; i < old.size(); ++i)
            if (old[i] != kNoValue) values.set(old[i], made[i]);
        id = graph.value(made[0]).producer;
    }
}

}  // namespace

bool expand_gradient(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op_type != "Gradient" || node.domain != "ai.onnx.preview.training") return false;
    const size_t xs = node.attributes.strings("xs").size(), all = (node.inputs.size() - 1) / 2;
    Notes values, stops, active, gradients;  // active: depends on xs
    for (size_t i = 0; i < all; ++i) {
        const ValueId given = node.inputs[i], named = node.inputs[all + i];
        stops.set(named, 0);
        if (given != named) values.set(named, given);
        if (i < xs) active.set(given, 0);
    }
    std::vector<NodeId> order = nodes_between(graph, node.inputs.back(), stops);
    feed(graph, order, values, patch);
    for (NodeId n : order)
        for (ValueId v : graph.node(n).inputs)
            if (active.has(v))
                for (ValueId out : graph.node(n).outputs)
                    if (out != kNoValue) active.set(out, 0);

    const ValueId y = values.get_or(node.inputs.back(), node.inputs.back());
    require(is_float(graph.fact(y).dtype), "y has element type ", dtype_name(graph.fact(y).dtype),
            " when the model is loaded, expected a float type");
    const BackwardNode start(graph, patch, node);
    gradients.set(y, start.filled(y, 1));
    for (size_t i = order.size(); i-- > 0;) {
        BackwardNode back(graph, patch, graph.node(order[i]));
        bool reached = false, wanted = false;
        for (ValueId v : back.node.outputs) {
            back.dy.push_back(gradients.get(v));
            reached = reached || gradients.has(v);
        }
        for (ValueId v : back.node.inputs) {
            const bool is_wanted = active.has(v) && is_float(graph.fact(v).dtype);
            back.wanted.push_back(is_wanted ? v : kNoValue);
            back.dx.push_back(kNoValue);
            wanted = wanted || is_wanted;
        }
        if (!reached || !wanted) continue;
        try {
            if (!differentiate(back)) BackwardNode::refuse("not known; docs/conformance.md lists those that are");
        } catch (Error& e) {
            e.add_context("the derivative of " + node_text(back.node));
            throw;
        }
        for (size_t k = 0; k < back.dx.size(); ++k) {
            const ValueId v = back.wanted[k], own = back.dx[k];
            if (v == kNoValue || own == kNoValue) continue;
            gradients.set(v, gradients.has(v) ? back.op("Add", {gradients.get(v), own}) : own);
        }
    }
    for (size_t i = 0; i < node.outputs.size(); ++i) {
        const ValueId x = node.inputs[i];
        if (node.outputs[i] != kNoValue)
            patch.replace(node.outputs[i], gradients.has(x) ? gradients.get(x) : start.filled(x, 0));
    }
    return true;
}

void BackwardNode::refuse(const char* why) { fail(ErrorKind::not_implemented, why); }

ValueId BackwardNode::reshape_as(ValueId v, ValueId like) const {
    if (opset() < 14) return op("Reshape", {v, shape(like)});
    return op("Reshape", {v, shape(like)}, "allowzero", 1);  // zeros are sizes
}

ValueId BackwardNode::filled(ValueId like, double value) const {
    return cast(op("Expand", {number(value, DType::f32), shape(like)}), patch.fact(like).dtype);
}

ValueId BackwardNode::sum(ValueId v, const std::vector<int64_t>& axes) const {
    if (axes.empty()) return v;
    return opset() < 13 ? op("ReduceSum", {v}, "axes", axes) : op("ReduceSum", {v, patch.constant_ints(axes)});
}

ValueId BackwardNode::transposed(ValueId v) const {
    std::vector<int64_t> perm;
    for (int64_t i = 0; i < rank(v); ++i) perm.push_back(i);
    std::swap(perm.at(perm.size() - 2), perm.back());
    return op("Transpose", {v}, "perm", perm);
}

int64_t BackwardNode::rank(ValueId v) const {
    if (!patch.fact(v).ranked) refuse("it needs numbers of axes that are not known when the model is loaded");
    return patch.fact(v).rank();
}

ValueId BackwardNode::unbroadcast(ValueId gradient, ValueId x) const {
    const int64_t own = rank(x), lead = rank(gradient) - own;
    const Shape from = patch.fact(gradient).shape, to = patch.fact(x).shape;
    std::vector<int64_t> axes, ones;
    bool known = true;
    for (int64_t i = 0; i < lead; ++i) {
        axes.push_back(i);
        ones.push_back(1);
    }
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
    if (opset() < 13) refuse("it needs opset 13 where it is not known what is broadcast");
    // Axes that are 1 in x: where they are in the gradient too, their sum is themselves.
    const ValueId found = op("NonZero", {op("Equal", {join({patch.constant_ints(ones), shape(x)}), ints({1})})});
    const ValueId at = op("Reshape", {found, ints({-1})});
    return reshape_as(op("ReduceSum", {gradient, at}, "noop_with_empty_axes", 1), x);
}

}  // namespace linnet
