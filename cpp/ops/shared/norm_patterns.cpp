// Normalisations and softmax spelled out: see norm_patterns.h.
#include "ops/shared/norm_patterns.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "base/half.h"
#include "ops/patterns.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

bool is(const Node* node, std::string_view op_type) { return node && node->domain.empty() && node->op_type == op_type; }

// The node that uses the value, when there is only one use.
const Node* only_user(const Graph& graph, ValueId v) {
    return graph.single_use(v) ? &graph.node(graph.value(v).users[0]) : nullptr;
}

// The operand of a node of two inputs that is not `v`; kNoValue when v is not among them, or both.
ValueId other_operand(const Node& node, ValueId v) {
    if (node.inputs.size() != 2 || (node.inputs[0] == v) == (node.inputs[1] == v)) return kNoValue;
    return node.inputs[0] == v ? node.inputs[1] : node.inputs[0];
}

// The axes of a reduction that keeps them, sorted; nothing when they are not known.
std::optional<Shape> kept_axes(const Graph& graph, const Node& node) {
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked || node.attributes.i("keepdims", 1) == 0) return std::nullopt;
    Shape axes;
    if (node.attributes.has("axes")) {
        for (int64_t axis : node.attributes.ints("axes")) axes.push_back(axis);
    } else if (node.inputs.size() > 1 && node.inputs[1] != kNoValue) {
        const Tensor* constant = graph.constant(node.inputs[1]);
        if (!constant) return std::nullopt;
        axes = ints_of(*constant);
    }
    if (axes.empty()) return std::nullopt;
    Shape normal = normal_axes(axes, x.rank());
    std::sort(normal.begin(), normal.end());
    return normal;
}

// x when v is x squared, else kNoValue.
ValueId square_root_of(const Graph& graph, ValueId v) {
    if (const Node* mul = graph.producer(v, "Mul"))
        return mul->inputs.size() == 2 && mul->inputs[0] == mul->inputs[1] ? mul->inputs[0] : kNoValue;
    if (const Node* pow = graph.producer(v, "Pow"))
        return scalar_constant(graph, pow->inputs[1]) == 2.0 ? pow->inputs[0] : kNoValue;
    return kNoValue;
}

// v = x - mean(x) over the axes.
struct Centred {
    ValueId x = kNoValue, mean = kNoValue;
};
Centred centred(const Graph& graph, ValueId v, const Shape& axes) {
    const Node* sub = graph.producer(v, "Sub");
    if (!sub || sub->inputs.size() != 2) return {};
    const Node* mean = graph.producer(sub->inputs[1], "ReduceMean");
    if (!mean || mean->inputs[0] != sub->inputs[0]) return {};
    const auto own = kept_axes(graph, *mean);
    if (!own || !(*own == axes)) return {};
    return {sub->inputs[0], sub->inputs[1]};
}

// A value that may be a scale or bias of the last `n` axes of x: of exactly that shape, 1s in front dropped.
ValueId parameter(const Graph& graph, ValueId v, const Fact& x, int64_t axis, Patch& patch) {
    const Fact& fact = graph.fact(v);
    const size_t n = static_cast<size_t>(x.rank() - axis);
    if (!fact.ranked || fact.shape.size() < n || fact.dtype != x.dtype) return kNoValue;
    const size_t extra = fact.shape.size() - n;
    if (fact.shape.size() > x.shape.size()) return kNoValue;
    for (size_t i = 0; i < fact.shape.size(); ++i) {
        const int64_t wanted = i < extra ? 1 : x.shape[static_cast<size_t>(axis) + i - extra];
        if (!is_number(wanted) || fact.shape[i] != wanted) return kNoValue;
    }
    if (extra == 0) return v;
    const Tensor* constant = graph.constant(v);
    if (!constant) return kNoValue;
    Tensor view = *constant;
    view.shape = Shape(fact.shape.begin() + static_cast<ptrdiff_t>(extra), fact.shape.end());
    return patch.constant(std::move(view), graph.value(v).name);
}

ValueId ones(const Fact& x, int64_t axis, Patch& patch) {
    Tensor t = Tensor::allocate(x.dtype, Shape(x.shape.begin() + axis, x.shape.end()));
    for (int64_t i = 0, n = t.count(); i < n; ++i) {
        if (x.dtype == DType::f64) t.as<double>()[i] = 1;
        else if (x.dtype == DType::f32) t.as<float>()[i] = 1;
        else if (x.dtype == DType::f16) t.as<Half>()[i] = to_half(1.0f);
        else t.as<BFloat16>()[i] = to_bfloat16(1.0f);
    }
    return patch.constant(std::move(t), "ones");
}

// What the pattern has come to.
struct Match {
    ValueId x = kNoValue, scale = kNoValue, bias = kNoValue, result = kNoValue;
};

// result = normalised [* scale [+ bias]], as far as the graph goes.
void take_parameters(const Graph& graph, const Fact& x, int64_t axis, bool biased, Match& m, Patch& patch) {
    const Node* mul = only_user(graph, m.result);
    if (!is(mul, "Mul")) return;
    const ValueId scale = other_operand(*mul, m.result);
    if (scale == kNoValue) return;
    m.scale = parameter(graph, scale, x, axis, patch);
    if (m.scale == kNoValue) return;
    m.result = mul->outputs[0];
    const Node* add = biased ? only_user(graph, m.result) : nullptr;
    if (!is(add, "Add")) return;
    const ValueId bias = other_operand(*add, m.result);
    if (bias == kNoValue) return;
    m.bias = parameter(graph, bias, x, axis, patch);
    if (m.bias != kNoValue) m.result = add->outputs[0];
}

// x (r gamma) + (beta - mean (r gamma)), r the reciprocal deviation: how TensorFlow writes it.
bool match_folded(const Graph& graph, const Centred& c, ValueId r, const Fact& x, int64_t axis, Match& m,
                  Patch& patch) {
    ValueId factor = r, gamma = kNoValue;
    if (const Node* mul = only_user(graph, r); is(mul, "Mul")) {
        gamma = other_operand(*mul, r);
        factor = mul->outputs[0];
        if (gamma == kNoValue) return false;
    }
    const auto& users = graph.value(factor).users;
    if (users.size() != 2 || graph.is_output(factor)) return false;
    const Node *of_x = nullptr, *of_mean = nullptr;
    for (NodeId user : users) {
        const Node& node = graph.node(user);
        if (!is(&node, "Mul")) return false;
        const ValueId other = other_operand(node, factor);
        if (other == c.x) of_x = &node;
        else if (other == c.mean) of_mean = &node;
    }
    if (!of_x || !of_mean) return false;
    const Node* sub = only_user(graph, of_mean->outputs[0]);
    if (!is(sub, "Sub") || sub->inputs[1] != of_mean->outputs[0]) return false;
    const Node* add = only_user(graph, of_x->outputs[0]);
    if (!is(add, "Add") || other_operand(*add, of_x->outputs[0]) != sub->outputs[0]) return false;
    m.bias = parameter(graph, sub->inputs[0], x, axis, patch);
    if (m.bias == kNoValue) return false;
    if (gamma != kNoValue) {
        m.scale = parameter(graph, gamma, x, axis, patch);
        if (m.scale == kNoValue) return false;
    }
    m.result = add->outputs[0];
    return true;
}

bool finish(const Fact& x, int64_t axis, double epsilon, bool centre, const Match& m, Patch& patch) {
    const std::string_view name = centre ? "LayerNormalization" : "RMSNormalization";
    const ValueId scale = m.scale != kNoValue ? m.scale : ones(x, axis, patch);
    ValueIds inputs{m.x, scale};
    if (m.bias != kNoValue) inputs.push_back(m.bias);
    Attributes attributes;
    attributes.set("axis", axis - x.rank()).set("epsilon", static_cast<float>(epsilon));
    patch.replace(m.result, patch.node(name, inputs, attributes));
    return true;
}

}  // namespace

bool match_normalization(const Graph& graph, NodeId id, Patch& patch) {
    const Node& variance = graph.node(id);
    const auto axes = kept_axes(graph, variance);
    const ValueId root = square_root_of(graph, variance.inputs[0]);
    if (!axes || root == kNoValue) return false;
    const Fact x = graph.fact(root);
    if (!is_float(x.dtype) || !x.ranked) return false;
    const int64_t axis = axes->front();
    if (axes->back() != x.rank() - 1 || static_cast<int64_t>(axes->size()) != x.rank() - axis) return false;
    for (int64_t i = axis; i < x.rank(); ++i)
        if (!is_number(x.shape[static_cast<size_t>(i)])) return false;

    const Centred c = centred(graph, root, *axes);
    const bool centre = c.x != kNoValue;
    if (!patch.available(centre ? "LayerNormalization" : "RMSNormalization")) return false;

    const Node* add = only_user(graph, variance.outputs[0]);
    if (!is(add, "Add")) return false;
    const ValueId eps = other_operand(*add, variance.outputs[0]);
    const auto epsilon = eps == kNoValue ? std::nullopt : scalar_constant(graph, eps);
    if (!epsilon || !(*epsilon >= 0)) return false;
    if (graph.fact(add->outputs[0]).rank() != x.rank()) return false;
    const Node* step = only_user(graph, add->outputs[0]);
    if (!step) return false;
    const bool half_power =
        is(step, "Pow") && step->inputs[0] == add->outputs[0] && scalar_constant(graph, step->inputs[1]) == 0.5;
    const bool inverse_power =
        is(step, "Pow") && step->inputs[0] == add->outputs[0] && scalar_constant(graph, step->inputs[1]) == -0.5;
    Match m;
    m.x = centre ? c.x : root;
    const auto is_numerator = [&](ValueId v) { return v == root || (centre && centred(graph, v, *axes).x == c.x); };
    ValueId reciprocal = kNoValue;
    if (is(step, "Sqrt") || half_power) {
        const ValueId deviation = step->outputs[0];
        const Node* user = only_user(graph, deviation);
        if (is(user, "Div") && user->inputs[1] == deviation) {
            if (is_numerator(user->inputs[0])) m.result = user->outputs[0];
            else if (scalar_constant(graph, user->inputs[0]) == 1.0) reciprocal = user->outputs[0];
        } else if (is(user, "Reciprocal")) {
            reciprocal = user->outputs[0];
        }
    } else if (inverse_power) {
        reciprocal = step->outputs[0];
    }
    if (reciprocal != kNoValue) {
        const Node* mul = only_user(graph, reciprocal);
        if (is(mul, "Mul") && is_numerator(other_operand(*mul, reciprocal))) {
            m.result = mul->outputs[0];
        } else if (centre && match_folded(graph, c, reciprocal, x, axis, m, patch)) {
            return finish(x, axis, *epsilon, centre, m, patch);
        }
    }
    if (m.result == kNoValue) return false;
    take_parameters(graph, x, axis, centre, m, patch);
    return finish(x, axis, *epsilon, centre, m, patch);
}

bool match_softmax(const Graph& graph, NodeId id, Patch& patch) {
    const Node& sum = graph.node(id);
    const auto axes = kept_axes(graph, sum);
    if (!axes || axes->size() != 1) return false;
    const int64_t axis = axes->front(), rank = graph.fact(sum.inputs[0]).rank();
    // Up to opset 12 the last axis only means the same.
    if (!graph.lowered && graph.opset("") < 13 && axis != rank - 1) return false;
    const Node* exp = graph.producer(sum.inputs[0], "Exp");
    if (!exp) return false;
    const Node* sub = graph.producer(exp->inputs[0], "Sub");
    if (!sub || sub->inputs.size() != 2) return false;
    const Node* top = graph.producer(sub->inputs[1], "ReduceMax");
    if (!top || top->inputs[0] != sub->inputs[0]) return false;
    const auto own = kept_axes(graph, *top);
    if (!own || !(*own == *axes) || !is_float(graph.fact(sub->inputs[0]).dtype)) return false;
    const Node* div = only_user(graph, sum.outputs[0]);
    if (!is(div, "Div") || div->inputs[0] != exp->outputs[0] || div->inputs[1] != sum.outputs[0]) return false;
    const ValueId x = sub->inputs[0], result = div->outputs[0];  // new nodes may move the old ones
    patch.replace(result, patch.node("Softmax", {x}, Attributes().set("axis", axis)));
    return true;
}

}  // namespace linnet
