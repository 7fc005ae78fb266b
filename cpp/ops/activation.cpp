// Activations that exporters spell out in arithmetic, recognised whatever the grouping: the expression is expanded into
// a polynomial in x and t, where t is the one transcendental or clipping step in it, and compared with the definition.
// Also the operators FastGelu and BiasGelu (com.microsoft) and SwiGLU.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "ops/binary.h"
#include "ops/patterns.h"

namespace linnet {

std::optional<double> scalar_constant(const Graph& graph, ValueId id) {
    const Tensor* t = graph.constant(id);
    if (!t || !is_float(t->dtype) || t->count() != 1) return std::nullopt;
    return double_at(*t, 0);
}

namespace {

// The sum of c[j][i] x^i t^j.
constexpr int kDegree = 4;
struct Polynomial {
    std::array<std::array<double, kDegree>, 2> c{};
};

std::optional<Polynomial> times(const Polynomial& a, const Polynomial& b) {
    Polynomial y;
    for (int ja = 0; ja < 2; ++ja)
        for (int ia = 0; ia < kDegree; ++ia)
            for (int jb = 0; jb < 2; ++jb)
                for (int ib = 0; ib < kDegree; ++ib) {
                    const double product = a.c[size_t(ja)][size_t(ia)] * b.c[size_t(jb)][size_t(ib)];
                    if (product == 0) continue;
                    if (ja + jb > 1 || ia + ib >= kDegree) return std::nullopt;
                    y.c[size_t(ja + jb)][size_t(ia + ib)] += product;
                }
    return y;
}

struct Expression {
    const Graph& graph;
    ValueId x, t;

    std::optional<Polynomial> expand(ValueId id, int depth = 0) const {
        Polynomial y;
        if (id == x) {
            y.c[0][1] = 1;
            return y;
        }
        if (id == t) {
            y.c[1][0] = 1;
            return y;
        }
        if (const auto value = scalar_constant(graph, id)) {
            y.c[0][0] = *value;
            return y;
        }
        if (depth > 8 || id == kNoValue || graph.value(id).producer == kNoNode) return std::nullopt;
        const Node& node = graph.node(graph.value(id).producer);
        if (!node.domain.empty() || node.op->since < 6) return std::nullopt;
        if (node.op_type == "Neg") {
            const auto a = expand(node.inputs[0], depth + 1);
            y.c[0][0] = -1;
            return a ? times(*a, y) : std::nullopt;
        }
        if (node.inputs.size() != 2) return std::nullopt;
        if (node.op_type == "Pow") {
            const auto a = expand(node.inputs[0], depth + 1);
            const auto e = scalar_constant(graph, node.inputs[1]);
            if (!a || !e || (*e != 2 && *e != 3)) return std::nullopt;
            auto square = times(*a, *a);
            return square && *e == 3 ? times(*square, *a) : square;
        }
        const bool add = node.op_type == "Add", sub = node.op_type == "Sub", mul = node.op_type == "Mul",
                   div = node.op_type == "Div";
        if (!add && !sub && !mul && !div) return std::nullopt;
        auto a = expand(node.inputs[0], depth + 1);
        if (!a) return std::nullopt;
        if (div) {
            const auto by = scalar_constant(graph, node.inputs[1]);
            if (!by || *by == 0) return std::nullopt;
            y.c[0][0] = 1 / *by;
            return times(*a, y);
        }
        const auto b = expand(node.inputs[1], depth + 1);
        if (!b) return std::nullopt;
        if (mul) return times(*a, *b);
        for (size_t j = 0; j < 2; ++j)
            for (size_t i = 0; i < kDegree; ++i) a->c[j][i] += sub ? -b->c[j][i] : b->c[j][i];
        return a;
    }
};

bool close(const Polynomial& a, const Polynomial& b, double tolerance) {
    for (size_t j = 0; j < 2; ++j)
        for (size_t i = 0; i < kDegree; ++i)
            if (!(std::fabs(a.c[j][i] - b.c[j][i]) <= tolerance * std::fabs(b.c[j][i]))) return false;
    return true;
}
Polynomial of_x(double c0, double c1, double c2, double c3) {
    Polynomial p;
    p.c[0] = {c0, c1, c2, c3};
    return p;
}
Polynomial of_xt(double x, double xt) {  // x * x + xt * x t
    Polynomial p;
    p.c[0][1] = x;
    p.c[1][1] = xt;
    return p;
}

// Nodes between `root` and its leaves, nearest first, through arithmetic only.
std::vector<ValueId> reachable(const Graph& graph, ValueId root, size_t most) {
    std::vector<ValueId> found{root};
    for (size_t i = 0; i < found.size() && found.size() < most; ++i) {
        const NodeId producer = graph.value(found[i]).producer;
        if (producer == kNoNode) continue;
        const Node& node = graph.node(producer);
        if (!node.domain.empty() || (node.op_type != "Mul" && node.op_type != "Add" && node.op_type != "Sub" &&
                                     node.op_type != "Div" && node.op_type != "Pow" && node.op_type != "Neg"))
            continue;
        for (ValueId in : node.inputs)
            if (in != kNoValue && !graph.constant(in) && std::find(found.begin(), found.end(), in) == found.end())
                found.push_back(in);
    }
    return found;
}

// Bounds of a Clip; false when they are not known.
bool clip_bounds(const Graph& graph, const Node& clip, double& lo, double& hi) {
    constexpr double kInf = std::numeric_limits<double>::infinity();
    lo = -kInf, hi = kInf;
    if (clip.op->since < 11) {
        lo = static_cast<double>(clip.attributes.f("min", -std::numeric_limits<float>::max()));
        hi = static_cast<double>(clip.attributes.f("max", std::numeric_limits<float>::max()));
        return true;
    }
    for (size_t i = 1; i < 3 && i < clip.inputs.size(); ++i) {
        if (clip.inputs[i] == kNoValue) continue;
        const auto value = scalar_constant(graph, clip.inputs[i]);
        if (!value) return false;
        (i == 1 ? lo : hi) = *value;
    }
    return true;
}

struct Match {
    const Graph& graph;
    const Node& root;
    Patch& patch;
    double tolerance;

    bool replace(ValueId x, std::string_view op, Attributes attributes = {}) const {
        const Fact &in = graph.fact(x), &out = graph.fact(root.outputs[0]);
        if (!in.ranked || !out.ranked || !(in.shape == out.shape) || in.dtype != out.dtype) return false;
        if (!patch.available(op)) return false;
        patch.replace(root.outputs[0], patch.node(op, {x}, std::move(attributes)));
        return true;
    }

    // `step` makes t; try x as the variable.
    bool attempt(const Node& step, ValueId t, ValueId x) const {
        constexpr double kRoot2 = 1.41421356237309504880, kTanhScale = 0.79788456080286535588;
        const auto whole = Expression{graph, x, t}.expand(root.outputs[0]);
        if (!whole) return false;
        if (step.op_type == "HardSigmoid") {
            const bool sixth = std::fabs(step.attributes.f("alpha", 0.2f) - 1.0f / 6) < 1e-5f &&
                               step.attributes.f("beta", 0.5f) == 0.5f;
            return sixth && step.inputs[0] == x && close(*whole, of_xt(0, 1), tolerance) && replace(x, "HardSwish");
        }
        if (step.op_type == "Tanh") {
            const Node* softplus = graph.producer(step.inputs[0], "Softplus");
            if (softplus && softplus->inputs[0] == x && close(*whole, of_xt(0, 1), tolerance))
                return replace(x, "Mish");
        }
        const auto inner = Expression{graph, x, kNoValue}.expand(step.inputs[0]);
        if (!inner) return false;
        const Polynomial cubic = of_x(0, kTanhScale, 0, kTanhScale * 0.044715);
        if (step.op_type == "Erf")
            return close(*whole, of_xt(0.5, 0.5), tolerance) && close(*inner, of_x(0, 1 / kRoot2, 0, 0), tolerance) &&
                   replace(x, "Gelu");
        if (step.op_type == "Tanh")
            return close(*whole, of_xt(0.5, 0.5), tolerance) && close(*inner, cubic, tolerance) &&
                   replace(x, "Gelu", Attributes().set("approximate", std::string("tanh")));
        if (step.op_type == "Sigmoid") {
            if (!close(*whole, of_xt(0, 1), tolerance)) return false;
            Polynomial doubled = cubic;
            for (double& c : doubled.c[0]) c *= 2;
            if (close(*inner, doubled, tolerance))
                return replace(x, "Gelu", Attributes().set("approximate", std::string("tanh")));
            const double alpha = inner->c[0][1];
            if (!close(*inner, of_x(0, alpha, 0, 0), 0)) return false;
            if (alpha == 1) return replace(x, "Swish");
            return replace(x, "Swish", Attributes().set("alpha", static_cast<float>(alpha)));
        }
        // clip(a x + b, 0, h) / h is HardSigmoid; times x, with a / h = 1/6 and b / h = 1/2, HardSwish.
        double lo, hi;
        if (!clip_bounds(graph, step, lo, hi) || lo != 0 || !(hi > 0) || std::isinf(hi)) return false;
        const double a = inner->c[0][1] / hi, b = inner->c[0][0] / hi;
        if (!(a > 0) || !close(*inner, of_x(inner->c[0][0], inner->c[0][1], 0, 0), 0)) return false;
        if (close(*whole, of_xt(0, 1 / hi), tolerance) && std::fabs(a - 1.0 / 6) < tolerance &&
            std::fabs(b - 0.5) < tolerance)
            return replace(x, "HardSwish");
        Polynomial scaled;
        scaled.c[1][0] = 1 / hi;
        return close(*whole, scaled, tolerance) &&
               replace(x, "HardSigmoid",
                       Attributes().set("alpha", static_cast<float>(a)).set("beta", static_cast<float>(b)));
    }
};

}  // namespace

bool match_activation(const Graph& graph, NodeId id, Patch& patch) {
    const Node& root = graph.node(id);
    const DType dtype = graph.fact(root.outputs[0]).dtype;
    if (!is_float(dtype)) return false;
    const Match match{graph, root, patch, dtype == DType::f32 || dtype == DType::f64 ? 1e-4 : 4e-3};
    for (ValueId t : reachable(graph, root.outputs[0], 12)) {
        const NodeId producer = graph.value(t).producer;
        if (producer == kNoNode || !graph.single_use(t)) continue;
        const Node& step = graph.node(producer);
        if (!step.domain.empty() || (step.op_type != "Erf" && step.op_type != "Tanh" && step.op_type != "Sigmoid" &&
                                     step.op_type != "Clip" && step.op_type != "HardSigmoid"))
            continue;
        // x is somewhere in front of the step; the farthest first, so that all scaling and shifting is taken in.
        std::vector<ValueId> candidates = reachable(graph, step.inputs[0], 12);
        if (const Node* softplus = graph.producer(step.inputs[0], "Softplus"))
            candidates.push_back(softplus->inputs[0]);
        for (size_t i = candidates.size(); i-- > 0;)
            if (match.attempt(step, t, candidates[i])) return true;
    }
    return false;
}

bool match_softplus(const Graph& graph, NodeId id, Patch& patch) {
    const Node& root = graph.node(id);
    const Node* add = graph.producer(root.inputs[0], "Add");
    if (!add || !patch.available("Softplus")) return false;
    for (size_t i = 0; i < 2; ++i) {
        const Node* exp = graph.producer(add->inputs[i], "Exp");
        const auto one = scalar_constant(graph, add->inputs[1 - i]);
        if (!exp || !one || *one != 1) continue;
        const Fact &in = graph.fact(exp->inputs[0]), &out = graph.fact(root.outputs[0]);
        if (!in.ranked || !out.ranked || !(in.shape == out.shape)) continue;
        patch.replace(root.outputs[0], patch.node("Softplus", {exp->inputs[0]}));
        return true;
    }
    return false;
}

namespace {

// True when operand `side` is a constant whose every element is `neutral` and the other operand is the result as it is.
bool drops(const Graph& graph, const Node& node, size_t side, double neutral, Patch& patch) {
    const Tensor* c = graph.constant(node.inputs[side]);
    const ValueId x = node.inputs[1 - side];
    if (!c || c->dtype == DType::string || (!is_float(c->dtype) && !is_int(c->dtype)) || c->count() == 0 ||
        c->count() > 4096)
        return false;
    const Fact &in = graph.fact(x), &out = graph.fact(node.outputs[0]);
    if (!in.ranked || !out.ranked || !(in.shape == out.shape) || in.dtype != out.dtype) return false;
    for (int64_t d : in.shape)
        if (d == kUnknownDim && c->count() != 1) return false;
    if (c->rank() > in.rank()) return false;
    for (int64_t i = 0; i < c->count(); ++i)
        if (double_at(*c, i) != neutral) return false;
    patch.replace(node.outputs[0], x);
    return true;
}

}  // namespace

bool simplify_add(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    return drops(graph, node, 0, 0, patch) || drops(graph, node, 1, 0, patch) || match_activation(graph, id, patch);
}
bool simplify_sub(const Graph& graph, NodeId id, Patch& patch) { return drops(graph, graph.node(id), 1, 0, patch); }
bool simplify_mul(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    return drops(graph, node, 0, 1, patch) || drops(graph, node, 1, 1, patch) || match_activation(graph, id, patch);
}
bool simplify_div(const Graph& graph, NodeId id, Patch& patch) {
    return drops(graph, graph.node(id), 1, 1, patch) || match_activation(graph, id, patch);
}

namespace {

constexpr double kFastGeluA = 0.79788456080286535588;

// FastGelu(x, bias): Gelu's tanh form of x + bias. BiasGelu(x, bias): its erf form. The bias has the last axis' size.
void infer_bias_gelu(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    if (ctx.has_input(1)) {
        check_dtype(ctx, 1, kFloatTypes);
        common_dtype(ctx, 0, 2);
        const Fact &x = ctx.input(0), &bias = ctx.input(1);
        if (bias.ranked && bias.rank() != 1)
            fail(ErrorKind::invalid_graph, "bias has rank ", bias.rank(), ", expected 1");
        if (bias.ranked && x.ranked &&
            (x.rank() < 1 ||
             (is_number(x.shape.back()) && is_number(bias.shape[0]) && x.shape.back() != bias.shape[0])))
            fail(ErrorKind::invalid_argument, "bias is ", shape_text(bias.shape), " for an input of ",
                 shape_text(x.shape));
    }
    infer_same(ctx);
}

template <kernels::Unary fn>
void run_bias_gelu(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const Tensor* bias = ctx.has_input(1) ? &ctx.input(1) : nullptr;
    const int64_t width = x.shape.empty() ? 1 : x.shape[x.shape.size() - 1];
    if (x.count() == 0) return;
    const auto& k = kernels::kernels();
    parallel_ranges(
        ctx.parallel(), x.count() / width, std::max<int64_t>(1, kCostlyGrain / width), [&](int64_t begin, int64_t end) {
            float block[kHalfBlock], shift[kHalfBlock];
            for (int64_t row = begin; row < end; ++row)
                for (int64_t col = 0; col < width; col += kHalfBlock) {
                    const size_t n = std::min(kHalfBlock, static_cast<size_t>(width - col));
                    const int64_t at = row * width + col;
                    if (x.dtype == DType::f32) {
                        const float* in = x.as<float>() + at;
                        if (bias)
                            k.binary_f32(kernels::Binary::add, n, in, 1, bias->as<float>() + col, 1, block), in = block;
                        k.map_f32(fn, n, in, y.as<float>() + at, 0, 0);
                    } else if (x.dtype == DType::f64) {
                        for (size_t i = 0; i < n; ++i) {
                            const double v =
                                x.as<double>()[at + int64_t(i)] + (bias ? bias->as<double>()[col + int64_t(i)] : 0);
                            const double gate = fn == kernels::Unary::gelu_tanh
                                                    ? std::tanh(kFastGeluA * (v + 0.044715 * v * v * v))
                                                    : std::erf(v * 0.70710678118654752440);
                            y.as<double>()[at + int64_t(i)] = 0.5 * v * (1 + gate);
                        }
                    } else {
                        half_to_f32(x.dtype, n, x.as<uint16_t>() + at, block);
                        if (bias) {
                            half_to_f32(x.dtype, n, bias->as<uint16_t>() + col, shift);
                            k.binary_f32(kernels::Binary::add, n, block, 1, shift, 1, block);
                        }
                        k.map_f32(fn, n, block, block, 0, 0);
                        f32_to_half(x.dtype, n, block, y.as<uint16_t>() + at);
                    }
                }
        });
}

// Add and Gelu, which fuse with what comes before.
template <bool tanh>
bool lower_bias_gelu(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueId x = node.inputs[0];
    if (node.inputs.size() > 1 && node.inputs[1] != kNoValue) x = patch.node("Add", {x, node.inputs[1]});
    Attributes attributes;
    if (tanh) attributes.set("approximate", std::string("tanh"));
    patch.replace(node.outputs[0], patch.node("Gelu", {x}, std::move(attributes)));
    return true;
}

void infer_swiglu(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    check_dtype(ctx, 1, kFloatTypes);
    common_dtype(ctx, 0, 2);
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    if (a.ranked && b.ranked) {
        bool equal = a.rank() == b.rank();
        for (size_t i = 0; equal && i < a.shape.size(); ++i)
            equal = !is_number(a.shape[i]) || !is_number(b.shape[i]) || a.shape[i] == b.shape[i];
        if (!equal)
            fail(ErrorKind::invalid_argument, "A is ", shape_text(a.shape), " but B is ", shape_text(b.shape),
                 ", expected equal shapes");
    }
    infer_same(ctx);
}
void run_swiglu(RunContext& ctx) {
    const Tensor &a = ctx.input(0), &b = ctx.input(1);
    Tensor& y = ctx.output(0);
    const float alpha = ctx.attributes.f("alpha", 1.0f);
    const auto& k = kernels::kernels();
    parallel_ranges(
        ctx.parallel(), a.count(), kCostlyGrain,
        [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i += kHalfBlock) {
                const size_t n = std::min(kHalfBlock, static_cast<size_t>(end - i));
                float gate[kHalfBlock], value[kHalfBlock];
                if (a.dtype == DType::f32) {
                    k.map_f32(kernels::Unary::quick_gelu, n, a.as<float>() + i, gate, alpha, 0);
                    k.binary_f32(kernels::Binary::mul, n, gate, 1, b.as<float>() + i, 1, y.as<float>() + i);
                } else if (a.dtype == DType::f64) {
                    for (int64_t j = i; j < i + static_cast<int64_t>(n); ++j) {
                        const double x = a.as<double>()[j];
                        y.as<double>()[j] = x / (1 + std::exp(-static_cast<double>(alpha) * x)) * b.as<double>()[j];
                    }
                } else {
                    half_to_f32(a.dtype, n, a.as<uint16_t>() + i, gate);
                    half_to_f32(a.dtype, n, b.as<uint16_t>() + i, value);
                    k.map_f32(kernels::Unary::quick_gelu, n, gate, gate, alpha, 0);
                    k.binary_f32(kernels::Binary::mul, n, gate, 1, value, 1, gate);
                    f32_to_half(a.dtype, n, gate, y.as<uint16_t>() + i);
                }
            }
        },
        64);
}

}  // namespace

std::span<const OpDef> activation_ops() {
    static const OpDef rows[] = {
        {.name = "SwiGLU",
         .since = 28,
         .infer = infer_swiglu,
         .run = run_swiglu,
         .layout_inputs = ~0u,
         .flags = kElementwise | kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "FastGelu",
         .domain = "com.microsoft",
         .infer = infer_bias_gelu,
         .run = run_bias_gelu<kernels::Unary::gelu_tanh>,
         .lower = lower_bias_gelu<true>,
         .flags = kInPlace,
         .min_inputs = 1,
         .max_inputs = 2},
        {.name = "BiasGelu",
         .domain = "com.microsoft",
         .infer = infer_bias_gelu,
         .run = run_bias_gelu<kernels::Unary::gelu_erf>,
         .lower = lower_bias_gelu<false>,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
