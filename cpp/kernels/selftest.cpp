// linnet-kernel-test [--isa NAME] [--bench [--sparse] [--json]]: runs every kernel of every table this CPU can run
// against plain loops in double, over odd sizes and wide strides; with --bench it times them instead (--json: an object
// a line).
#include "kernels/selftest.h"

#include <algorithm>

namespace linnet::kernels::test {

double reference_unary(Unary fn, double x, double a, double b) {
    const auto clip = [](double v, double lo, double hi) { return v != v ? v : std::min(hi, std::max(lo, v)); };
    const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
    switch (fn) {
        case Unary::identity: return x;
        case Unary::abs: return std::fabs(x);
        case Unary::neg: return -x;
        case Unary::sign: return x != x ? x : x > 0 ? 1 : x < 0 ? -1 : 0;
        case Unary::floor: return std::floor(x);
        case Unary::ceil: return std::ceil(x);
        case Unary::round: return std::nearbyint(x);
        case Unary::reciprocal: return 1 / x;
        case Unary::sqrt: return std::sqrt(x);
        case Unary::exp: return std::exp(x);
        case Unary::log: return std::log(x);
        case Unary::sin: return std::sin(x);
        case Unary::cos: return std::cos(x);
        case Unary::tan: return std::tan(x);
        case Unary::asin: return std::asin(x);
        case Unary::acos: return std::acos(x);
        case Unary::atan: return std::atan(x);
        case Unary::sinh: return std::sinh(x);
        case Unary::cosh: return std::cosh(x);
        case Unary::asinh: return std::asinh(x);
        case Unary::acosh: return std::acosh(x);
        case Unary::atanh: return std::atanh(x);
        case Unary::erf: return std::erf(x);
        case Unary::relu: return x != x ? x : std::max(0.0, x);
        case Unary::clip: return clip(x, a, b);
        case Unary::leaky_relu: return x < 0 ? a * x : x;
        case Unary::thresholded_relu: return x <= a ? 0 : x;
        case Unary::shrink: return x < -a ? x + b : x > a ? x - b : x != x ? x : 0;
        case Unary::elu: return x < 0 ? a * std::expm1(x) : x;
        case Unary::selu: return b * (x < 0 ? a * std::expm1(x) : x);
        case Unary::celu: return x < 0 ? a * std::expm1(x / a) : x;
        case Unary::sigmoid: return sigmoid(x);
        case Unary::tanh: return std::tanh(x);
        case Unary::softplus: return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x));
        case Unary::softsign: return x / (1 + std::fabs(x));
        case Unary::hard_sigmoid: return clip(a * x + b, 0, 1);
        case Unary::hard_swish: return x * clip(x / 6 + 0.5, 0, 1);
        case Unary::silu: return x * sigmoid(x);
        case Unary::mish: return x * std::tanh(std::log1p(std::exp(std::min(x, 700.0))));
        case Unary::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
        case Unary::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
        case Unary::quick_gelu: return x * sigmoid(a * x);
        case Unary::add_scalar: return x + a;
        case Unary::mul_scalar: return x * a;
        case Unary::count: break;
    }
    return 0;
}

double reference_epilogue(const Epilogue& e, double x, size_t row, size_t col) {
    for (size_t i = 0; i < e.count; ++i) {
        const EpilogueStep& s = e.steps[i];
        if (s.kind == EpilogueStep::Kind::unary) {
            x = reference_unary(s.fn, x, s.a, s.b);
            continue;
        }
        const double d = s.data[(ptrdiff_t)row * s.stride + (ptrdiff_t)col];
        x = s.kind == EpilogueStep::Kind::add ? x + d : s.kind == EpilogueStep::Kind::mul ? x * d : x < 0 ? x * d : x;
    }
    return x;
}

std::vector<EpilogueStep> epilogue_variant(size_t variant, const float* per_column, const float* tensor,
                                           ptrdiff_t stride) {
    using Kind = EpilogueStep::Kind;
    const EpilogueStep bias{Kind::add, Unary::identity, 0, 0, per_column, 0};
    const EpilogueStep add{Kind::add, Unary::identity, 0, 0, tensor, stride};
    const EpilogueStep gate{Kind::mul, Unary::identity, 0, 0, per_column, 0};
    const EpilogueStep mul{Kind::mul, Unary::identity, 0, 0, tensor, stride};
    const EpilogueStep prelu{Kind::prelu, Unary::identity, 0, 0, per_column, 0};
    const auto fn = [](Unary u, float a = 0, float b = 0) { return EpilogueStep{Kind::unary, u, a, b, nullptr, 0}; };
    switch (variant) {
        case 0: return {};
        case 1: return {bias, fn(Unary::relu)};
        case 2: return {bias, add, fn(Unary::clip, -0.5f, 0.75f)};
        case 3: return {bias, fn(Unary::silu), add};
        case 4: return {gate, fn(Unary::hard_swish), mul};
        case 5: return {add, prelu, fn(Unary::mul_scalar, 0.25f)};
        default: return {bias, fn(Unary::gelu_erf)};
    }
}

}  // namespace linnet::kernels::test

int main(int argc, char** argv) {
    using namespace linnet::kernels;
    const char* only = nullptr;
    bool benchmark = false, sparse = false, json = false;
    for (int i = 1; i < argc; ++i) {
        if (!std::strcmp(argv[i], "--bench")) benchmark = true;
        else if (!std::strcmp(argv[i], "--sparse")) sparse = true;
        else if (!std::strcmp(argv[i], "--json")) json = true;
        else if (!std::strcmp(argv[i], "--isa") && i + 1 < argc) only = argv[++i];
        else {
            std::fprintf(stderr, "usage: %s [--isa NAME] [--bench [--sparse] [--json]]\n", argv[0]);
            return 2;
        }
    }
    if (only && !kernels_for(only)) {
        std::fprintf(stderr, "this CPU cannot run '%s', or there is no such table\n", only);
        return 2;
    }
    size_t failures = 0;
    for (const char* const* name = kernel_names(); *name; ++name) {
        const Kernels* table = kernels_for(*name);
        if (only && std::strcmp(only, *name)) continue;
        if (!table) {
            if (!json) std::printf("%-9s skipped: not supported by this CPU\n", *name);
            continue;
        }
        if (benchmark) {
            if (sparse) test::bench_sparse(*table, json);
            else test::bench(*table, json);
            continue;
        }
        test::Tally tally;
        test::test_gemm(*table, tally);
        test::test_sparse(*table, tally);
        test::test_gemm_s8(*table, tally);
        test::test_bytes(*table, tally);
        test::test_bits(*table, tally);
        test::test_conv(*table, tally);
        test::test_elementwise(*table, tally);
        test::test_rows(*table, tally);
        test::test_recurrent(*table, tally);
        test::test_causal(*table, tally);
        test::test_convert(*table, tally);
        std::printf("%-9s %zu checks, %s\n", *name, tally.checks,
                    tally.failures ? (std::to_string(tally.failures) + " FAILED").c_str() : "ok");
        failures += tally.failures;
    }
    return failures ? 1 : 0;
}
