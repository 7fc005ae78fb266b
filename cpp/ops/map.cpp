// Unary elementwise operators: one loop, one table row per operator. float32 runs through the kernel table, 16-bit
// floats through float32, float64 through the row's function.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "ops/elementwise.h"
#include "ops/patterns.h"

namespace linnet {
namespace {

using kernels::Unary;

// An attribute that becomes the parameter a or b; a null name is no parameter.
struct Parameter {
    const char* name = nullptr;
    float absent = 0;
};

struct Map {
    const char* name;
    Unary fn;
    double (*f64)(double x, double a, double b);
    Parameter a = {}, b = {};
    int since = 1;
    bool cheap = false;
    const char* domain = "";
};

double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::fabs(x))); }
double keep_nan(double x, double y) { return std::isnan(x) ? x : y; }
double gelu_erf(double x, double, double) { return 0.5 * x * (1 + std::erf(x * 0.70710678118654752440)); }
double gelu_tanh(double x, double, double) {
    return 0.5 * x * (1 + std::tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

// Formulas as in the ONNX operator specification.
constexpr Map kMaps[] = {
    {"Sqrt", Unary::sqrt, [](double x, double, double) { return std::sqrt(x); }, {}, {}, 1, true},
    {"Exp", Unary::exp, [](double x, double, double) { return std::exp(x); }},
    {"Log", Unary::log, [](double x, double, double) { return std::log(x); }},
    {"Reciprocal", Unary::reciprocal, [](double x, double, double) { return 1 / x; }, {}, {}, 1, true},
    {"Floor", Unary::floor, [](double x, double, double) { return std::floor(x); }, {}, {}, 1, true},
    {"Ceil", Unary::ceil, [](double x, double, double) { return std::ceil(x); }, {}, {}, 1, true},
    {"Round", Unary::round, [](double x, double, double) { return std::nearbyint(x); }, {}, {}, 11, true},
    {"Sin", Unary::sin, [](double x, double, double) { return std::sin(x); }},
    {"Cos", Unary::cos, [](double x, double, double) { return std::cos(x); }},
    {"Tan", Unary::tan, [](double x, double, double) { return std::tan(x); }},
    {"Asin", Unary::asin, [](double x, double, double) { return std::asin(x); }},
    {"Acos", Unary::acos, [](double x, double, double) { return std::acos(x); }},
    {"Atan", Unary::atan, [](double x, double, double) { return std::atan(x); }},
    {"Sinh", Unary::sinh, [](double x, double, double) { return std::sinh(x); }},
    {"Cosh", Unary::cosh, [](double x, double, double) { return std::cosh(x); }},
    {"Tanh", Unary::tanh, [](double x, double, double) { return std::tanh(x); }},
    {"Asinh", Unary::asinh, [](double x, double, double) { return std::asinh(x); }},
    {"Acosh", Unary::acosh, [](double x, double, double) { return std::acosh(x); }},
    {"Atanh", Unary::atanh, [](double x, double, double) { return std::atanh(x); }},
    {"Erf", Unary::erf, [](double x, double, double) { return std::erf(x); }, {}, {}, 9},
    {"Sigmoid", Unary::sigmoid, [](double x, double, double) { return sigmoid(x); }},
    {"LeakyRelu",
     Unary::leaky_relu,
     [](double x, double a, double) { return x < 0 ? a * x : x; },
     {"alpha", 0.01f},
     {},
     1,
     true},
    {"Elu", Unary::elu, [](double x, double a, double) { return x < 0 ? a * std::expm1(x) : x; }, {"alpha", 1.0f}},
    {"Selu",
     Unary::selu,
     [](double x, double a, double b) { return b * (x > 0 ? x : a * std::expm1(x)); },
     {"alpha", 1.67326319217681884765625f},
     {"gamma", 1.05070102214813232421875f},
     6},
    {"Selu",
     Unary::selu,
     [](double x, double a, double b) { return b * (x > 0 ? x : a * std::expm1(x)); },
     {"alpha", 1.6732f},
     {"gamma", 1.0507f},
     1},
    {"Celu",
     Unary::celu,
     [](double x, double a, double) { return x > 0 ? x : keep_nan(x, a * std::expm1(x / a)); },
     {"alpha", 1.0f},
     {},
     12},
    {"Softplus", Unary::softplus, [](double x, double, double) { return softplus(x); }},
    {"Softsign", Unary::softsign, [](double x, double, double) { return x / (1 + std::fabs(x)); }, {}, {}, 1, true},
    {"HardSigmoid",
     Unary::hard_sigmoid,
     [](double x, double a, double b) { return keep_nan(x, std::max(0.0, std::min(1.0, a * x + b))); },
     {"alpha", 0.2f},
     {"beta", 0.5f},
     1,
     true},
    {"HardSwish",
     Unary::hard_swish,
     [](double x, double, double) { return keep_nan(x, x * std::max(0.0, std::min(1.0, x / 6 + 0.5))); },
     {},
     {},
     14,
     true},
    {"ThresholdedRelu",
     Unary::thresholded_relu,
     [](double x, double a, double) { return x <= a ? 0.0 : x; },
     {"alpha", 1.0f},
     {},
     1,
     true},
    {"Mish", Unary::mish, [](double x, double, double) { return x * std::tanh(softplus(x)); }, {}, {}, 18},
    {"Swish",
     Unary::quick_gelu,
     [](double x, double a, double) { return x * sigmoid(a * x); },
     {"alpha", 1.0f},
     {},
     24},
    {"QuickGelu",
     Unary::quick_gelu,
     [](double x, double a, double) { return x * sigmoid(a * x); },
     {"alpha", 1.702f},
     {},
     1,
     false,
     "com.microsoft"},
    {"Gelu", Unary::gelu_erf, gelu_erf, {}, {}, 1, false, "com.microsoft"},
    // ONNX's Gelu: prepare() looks at the attribute `approximate`.
    {"Gelu", Unary::gelu_erf, gelu_erf, {}, {}, 20},
};

struct MapState {
    Unary fn = Unary::identity;
    double (*f64)(double, double, double) = nullptr;
    float a = 0, b = 0;
    int64_t grain = kCostlyGrain;
};

const Map& find_map(const Node& node) {
    for (const Map& map : kMaps)
        if (node.op_type == map.name && node.domain == map.domain && node.op->since == map.since) return map;
    fail(ErrorKind::not_implemented, "no elementwise function ", node.op_type);
}

void infer_map(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    infer_same(ctx);
}

void infer_gelu(InferContext& ctx) {
    const std::string approximate = ctx.attributes.s("approximate", "none");
    if (approximate != "none" && approximate != "tanh")
        fail(ErrorKind::invalid_graph, "approximate is '", approximate, "', expected 'none' or 'tanh'");
    infer_map(ctx);
}

std::shared_ptr<const void> prepare_map(PrepareContext& ctx) {
    const Map& map = find_map(ctx.node);
    auto state = std::make_shared<MapState>();
    state->fn = map.fn;
    state->f64 = map.f64;
    if (map.a.name) state->a = ctx.attributes.f(map.a.name, map.a.absent);
    if (map.b.name) state->b = ctx.attributes.f(map.b.name, map.b.absent);
    state->grain = map.cheap ? kCheapGrain : kCostlyGrain;
    if (map.fn == Unary::quick_gelu && state->a == 1.0f) state->fn = Unary::silu;
    if (map.fn == Unary::gelu_erf && ctx.attributes.s("approximate", "none") == "tanh") {
        state->fn = Unary::gelu_tanh;
        state->f64 = gelu_tanh;
    }
    return state;
}

void run_map(RunContext& ctx) {
    const MapState& state = *ctx.state<MapState>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    parallel_ranges(
        ctx.parallel(), x.count(), state.grain,
        [&](int64_t begin, int64_t end) {
            if (x.dtype == DType::f32) {
                kernels::kernels().map_f32(state.fn, static_cast<size_t>(end - begin), x.as<float>() + begin,
                                           y.as<float>() + begin, state.a, state.b);
            } else if (x.dtype == DType::f64) {
                for (int64_t i = begin; i < end; ++i)
                    y.as<double>()[i] = state.f64(x.as<double>()[i], state.a, state.b);
            } else {
                float block[kHalfBlock];
                for (int64_t i = begin; i < end; i += kHalfBlock) {
                    const size_t n = std::min(kHalfBlock, static_cast<size_t>(end - i));
                    half_to_f32(x.dtype, n, x.as<uint16_t>() + i, block);
                    kernels::kernels().map_f32(state.fn, n, block, block, state.a, state.b);
                    f32_to_half(x.dtype, n, block, y.as<uint16_t>() + i);
                }
            }
        },
        64);
}

std::vector<OpDef> make_rows() {
    std::vector<OpDef> rows;
    for (const Map& map : kMaps) {
        OpDef row;
        row.name = map.name;
        row.domain = map.domain;
        row.since = map.since;
        row.infer = map.fn == Unary::gelu_erf ? infer_gelu : infer_map;
        row.run = run_map;
        row.prepare = prepare_map;
        if (map.fn == Unary::log) row.simplify = match_softplus;
        row.flags = kElementwise | kInPlace;
        row.min_inputs = row.max_inputs = 1;
        rows.push_back(row);
    }
    return rows;
}

}  // namespace

std::span<const OpDef> map_ops() {
    static const std::vector<OpDef> rows = make_rows();
    return rows;
}

}  // namespace linnet
