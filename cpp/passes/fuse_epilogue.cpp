// Elementwise operators that are the only reader of a convolution's or product's result move into its epilogue.
#include <cmath>
#include <limits>
#include <optional>

#include "ops/epilogue.h"
#include "passes/fuse.h"

namespace linnet {
namespace {

using kernels::Unary;

struct Parameter {
    const char* name = nullptr;
    float absent = 0;
};
struct Activation {
    std::string_view op_type, domain;
    Unary fn;
    Parameter a = {}, b = {};
};
constexpr Activation kActivations[] = {
    {"Abs", "", Unary::abs},
    {"Neg", "", Unary::neg},
    {"Sqrt", "", Unary::sqrt},
    {"Exp", "", Unary::exp},
    {"Erf", "", Unary::erf},
    {"Relu", "", Unary::relu},
    {"LeakyRelu", "", Unary::leaky_relu, {"alpha", 0.01f}},
    {"ThresholdedRelu", "", Unary::thresholded_relu, {"alpha", 1.0f}},
    {"Elu", "", Unary::elu, {"alpha", 1.0f}},
    {"Celu", "", Unary::celu, {"alpha", 1.0f}},
    {"Sigmoid", "", Unary::sigmoid},
    {"Tanh", "", Unary::tanh},
    {"Softplus", "", Unary::softplus},
    {"Softsign", "", Unary::softsign},
    {"HardSigmoid", "", Unary::hard_sigmoid, {"alpha", 0.2f}, {"beta", 0.5f}},
    {"HardSwish", "", Unary::hard_swish},
    {"Mish", "", Unary::mish},
    {"Swish", "", Unary::quick_gelu, {"alpha", 1.0f}},
    {"Gelu", "", Unary::gelu_erf},
    {"Gelu", "com.microsoft", Unary::gelu_erf},
    {"QuickGelu", "com.microsoft", Unary::quick_gelu, {"alpha", 1.702f}},
};

// A scalar constant of float32, if it is one.
std::optional<float> scalar(const Graph& graph, ValueId value) {
    const Tensor* t = graph.constant(value);
    if (!t || t->dtype != DType::f32 || t->count() != 1) return std::nullopt;
    return *t->as<float>();
}

// The step of a one-input operator (further inputs constant), or nothing.
std::optional<std::string> unary_step(const Graph& graph, const Node& node) {
    if (node.op_type == "Clip" && node.domain.empty()) {
        constexpr float kMost = std::numeric_limits<float>::infinity();
        float low = node.attributes.f("min", -kMost), high = node.attributes.f("max", kMost);
        for (size_t i = 1; i < node.inputs.size(); ++i) {
            if (node.inputs[i] == kNoValue) continue;
            const auto value = scalar(graph, node.inputs[i]);
            if (!value) return std::nullopt;
            (i == 1 ? low : high) = *value;
        }
        if (!(low <= high)) return std::nullopt;  // an empty range: leave it to the operator
        return epilogue_text(Unary::clip, low, high);
    }
    if (node.op_type == "Selu" && node.domain.empty()) {
        const bool old = node.op->since < 6;
        return epilogue_text(Unary::selu, node.attributes.f("alpha", old ? 1.6732f : 1.67326319217681884765625f),
                             node.attributes.f("gamma", old ? 1.0507f : 1.05070102214813232421875f));
    }
    for (const Activation& row : kActivations) {
        if (row.op_type != node.op_type || row.domain != node.domain || node.inputs.size() != 1) continue;
        const float a = row.a.name ? node.attributes.f(row.a.name, row.a.absent) : 0;
        const float b = row.b.name ? node.attributes.f(row.b.name, row.b.absent) : 0;
        if (row.fn == Unary::quick_gelu && a == 1.0f) return epilogue_text(Unary::silu);
        if (row.fn == Unary::gelu_erf && node.attributes.s("approximate", "none") == "tanh")
            return epilogue_text(Unary::gelu_tanh);
        return epilogue_text(row.fn, a, b);
    }
    return std::nullopt;
}

bool same_shape(const Fact& a, const Fact& b) {
    if (!a.ranked || !b.ranked || !(a.shape == b.shape)) return false;
    for (int64_t d : a.shape)
        if (d == kUnknownDim) return false;
    return true;
}

// Whether `operand` has one of the forms of ops/epilogue.h against the output.
bool fits(const Node& host, const Fact& output, const Fact& operand) {
    if (operand.dtype != DType::f32 || !output.ranked || !operand.ranked || output.rank() == 0) return false;
    if (same_shape(output, operand)) return true;
    const int64_t columns = output.shape.back();
    if (operand.rank() == 0 || operand.rank() > output.rank() || columns == kUnknownDim ||
        operand.shape.back() != columns)
        return false;
    bool vector = true;
    for (int64_t i = 0; i + 1 < operand.rank(); ++i) vector &= operand.shape[static_cast<size_t>(i)] == 1;
    if (vector) return true;
    if (host.op_type == "MatMul" || operand.rank() != output.rank()) return false;
    bool batch = operand.shape[0] == output.shape[0] && operand.shape[0] != kUnknownDim;
    for (int64_t i = 1; i + 1 < operand.rank(); ++i) batch &= operand.shape[static_cast<size_t>(i)] == 1;
    return batch;
}

// The product or convolution that makes `value` for one reader only and has room for another step.
const Node* host_of(const Graph& graph, ValueId value) {
    if (value == kNoValue || !graph.single_use(value)) return nullptr;
    const NodeId id = graph.value(value).producer;
    if (id == kNoNode) return nullptr;
    const Node& host = graph.node(id);
    if (!(host.op->flags & kEpilogue) || host.outputs.size() != 1 || host.captures) return nullptr;
    if (graph.fact(value).dtype != DType::f32) return nullptr;
    return &host;
}

// A copy of the host with further steps; `operand`, if any, is what the last step of kind "add:" ... works with.
bool extend(const Graph& graph, Patch& patch, const Node& node, const Node& host, std::vector<std::string> steps,
            std::string_view kind = {}, ValueId operand = kNoValue) {
    auto all = host.attributes.strings("epilogue");
    if (all.size() + steps.size() + 1 > kMaxEpilogue) return false;
    Node merged = copy_of(host);
    all.insert(all.end(), steps.begin(), steps.end());
    if (operand != kNoValue) {
        while (merged.inputs.size() < 3) merged.inputs.push_back(kNoValue);  // input 2 is a bias
        all.push_back(epilogue_operand(kind, merged.inputs.size()));
        merged.inputs.push_back(operand);
    }
    merged.attributes.set("epilogue", std::move(all));
    // The reader must not have changed the shape.
    const Fact &before = graph.fact(host.outputs[0]), &after = graph.fact(node.outputs[0]);
    if (operand != kNoValue && !(before.ranked && after.ranked && before.rank() == after.rank())) return false;
    patch.replace(node.outputs[0], patch.node(std::move(merged), 1)[0]);
    return true;
}

ValueId mapped_constant(Patch& patch, const Tensor& tensor, float (*fn)(float)) {
    Tensor out = tensor.clone();
    for (int64_t i = 0; i < out.count(); ++i) out.as<float>()[i] = fn(out.as<float>()[i]);
    return patch.constant(std::move(out));
}

bool fuse_binary(const Graph& graph, const Node& node, size_t side, Patch& patch) {
    const ValueId x = node.inputs[side], other = node.inputs[1 - side];
    const Node* host = host_of(graph, x);
    if (!host || x == other) return false;
    const std::string_view type = node.op_type;
    const Tensor* constant = graph.constant(other);
    if (constant && constant->dtype != DType::f32) return false;
    if (const auto value = scalar(graph, other)) {
        // A scalar of higher rank would raise the result's.
        if (graph.fact(x).ranked && constant->rank() > graph.fact(x).rank()) return false;
        std::vector<std::string> steps;
        if (type == "Add") steps = {epilogue_text(Unary::add_scalar, *value)};
        if (type == "Mul") steps = {epilogue_text(Unary::mul_scalar, *value)};
        if (type == "Sub" && side == 0) steps = {epilogue_text(Unary::add_scalar, -*value)};
        if (type == "Sub" && side == 1) steps = {epilogue_text(Unary::neg), epilogue_text(Unary::add_scalar, *value)};
        if (type == "Div" && side == 0 && std::isnormal(*value) && std::isnormal(1 / *value))
            steps = {epilogue_text(Unary::mul_scalar, 1 / *value)};
        if (type == "PRelu" && side == 0) steps = {epilogue_text(Unary::leaky_relu, *value)};
        return !steps.empty() && extend(graph, patch, node, *host, std::move(steps));
    }
    if (!fits(*host, graph.fact(x), graph.fact(other))) return false;
    if (type == "Add") return extend(graph, patch, node, *host, {}, "add", other);
    if (type == "Mul") return extend(graph, patch, node, *host, {}, "mul", other);
    if (type == "PRelu" && side == 0) return extend(graph, patch, node, *host, {}, "prelu", other);
    if (type == "Sub" && side == 1) return extend(graph, patch, node, *host, {epilogue_text(Unary::neg)}, "add", other);
    if (type == "Sub" && constant)
        return extend(graph, patch, node, *host, {}, "add",
                      mapped_constant(patch, *constant, [](float v) { return -v; }));
    if (type == "Div" && side == 0 && constant) {
        for (int64_t i = 0; i < constant->count(); ++i)
            if (!std::isnormal(constant->as<float>()[i]) || !std::isnormal(1 / constant->as<float>()[i])) return false;
        return extend(graph, patch, node, *host, {}, "mul",
                      mapped_constant(patch, *constant, [](float v) { return 1 / v; }));
    }
    return false;
}

}  // namespace

bool fuse_epilogue(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.inputs.empty() || node.outputs.size() != 1 || node.captures) return false;
    if (node.domain.empty() && node.inputs.size() == 2 &&
        (node.op_type == "Add" || node.op_type == "Mul" || node.op_type == "Sub" || node.op_type == "Div" ||
         node.op_type == "PRelu")) {
        if (node.attributes.has("axis") || node.attributes.has("broadcast")) return false;  // opset 6
        return fuse_binary(graph, node, 0, patch) || fuse_binary(graph, node, 1, patch);
    }
    const Node* host = host_of(graph, node.inputs[0]);
    if (!host) return false;
    const auto step = unary_step(graph, node);
    return step && extend(graph, patch, node, *host, {*step});
}

}  // namespace linnet
