// Adagrad, Adam, Momentum (ai.onnx.preview.training 1): one step of an optimizer. Inputs: learning rate R, step T, then
// the tensors X, their gradients G, and the optimizer's memories of them; outputs: the new X, then the new memories.
#include <cmath>

#include "ops/elementwise.h"
#include "ops/shared/numbers.h"

namespace linnet {
namespace {

constexpr DTypes kTypes = set_of({DType::f32, DType::f64});
constexpr int kFirst = 2;  // inputs in front of the tensors

// Tensors that an optimizer keeps for each X.
int memories_of(const OpDef& op) { return op.name == "Adam" ? 2 : 1; }

void infer_optimizer(InferContext& ctx) {
    check_dtype(ctx, 0, kTypes);
    check_dtype(ctx, 1, set_of({DType::i64}));
    for (int i = 0; i < kFirst; ++i) {
        const Fact& f = ctx.input(i);
        if (!f.ranked || !is_known(f.shape)) continue;
        require(element_count(f.shape) == 1, i == 0 ? "R" : "T", " has shape ", shape_text(f.shape),
                ", expected a scalar");
    }
    const int each = 2 + memories_of(ctx.op()), given = ctx.inputs() - kFirst, tensors = given / each;
    require(given > 0 && given % each == 0, given, " tensors given, expected a multiple of ", each,
            ": those to optimize, their gradients and what is kept of them");
    if (ctx.op().name == "Momentum") {
        const std::string mode = ctx.attributes.s("mode", "");
        require(mode == "standard" || mode == "nesterov", "mode is '", mode, "', expected 'standard' or 'nesterov'");
        for (const char* name : {"alpha", "beta", "norm_coefficient"})
            require(ctx.attributes.has(name), "the attribute '", name, "' is missing");
    }
    for (int i = 0; i < tensors; ++i) {
        const Fact& x = ctx.input(kFirst + i);
        check_dtype(ctx, kFirst + i, kTypes);
        Fact same = x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype);
        for (int j = 1; j < each; ++j) {
            const int at = kFirst + j * tensors + i;
            const Fact& f = ctx.input(at);
            require(f.dtype == x.dtype || f.dtype == DType::undefined || x.dtype == DType::undefined, "input ", at,
                    " is ", dtype_name(f.dtype), ", the tensor it belongs to ", dtype_name(x.dtype));
            if (!f.ranked || !x.ranked) continue;
            if (is_known(f.shape) && is_known(x.shape) && !(f.shape == x.shape))
                fail(ErrorKind::invalid_argument, "input ", at, " has shape ", shape_text(f.shape),
                     ", the tensor it belongs to ", shape_text(x.shape));
        }
        for (int j = 0; j + 1 < each; ++j) ctx.output(j * tensors + i, same);
    }
}

template <class T>
struct Step {
    const T *x, *g, *v, *h;  // h: Adam only
    T *x_new, *v_new, *h_new;
};

struct Adagrad {
    double rate, epsilon, norm;
    Adagrad(const Attributes& attributes, double r, int64_t t)
        : rate(r / (1 + static_cast<double>(t) * static_cast<double>(attributes.f("decay_factor", 0)))),
          epsilon(static_cast<double>(attributes.f("epsilon", 1e-6f))),
          norm(static_cast<double>(attributes.f("norm_coefficient", 0))) {}
    template <class T>
    void at(const Step<T>& s, int64_t i) const {
        const T g = static_cast<T>(norm) * s.x[i] + s.g[i], h = s.v[i] + g * g;
        s.x_new[i] = s.x[i] - static_cast<T>(rate) * g / (std::sqrt(h) + static_cast<T>(epsilon));
        s.v_new[i] = h;
    }
};

struct Adam {
    double rate, alpha, beta, epsilon, norm, after;
    Adam(const Attributes& attributes, double r, int64_t t)
        : rate(r),
          alpha(static_cast<double>(attributes.f("alpha", 0.9f))),
          beta(static_cast<double>(attributes.f("beta", 0.999f))),
          epsilon(static_cast<double>(attributes.f("epsilon", 1e-6f))),
          norm(static_cast<double>(attributes.f("norm_coefficient", 0))),
          after(static_cast<double>(attributes.f("norm_coefficient_post", 0))) {
        const auto steps = static_cast<double>(t);
        if (t > 0) rate *= std::sqrt(1 - std::pow(beta, steps)) / (1 - std::pow(alpha, steps));
    }
    template <class T>
    void at(const Step<T>& s, int64_t i) const {
        const T g = static_cast<T>(norm) * s.x[i] + s.g[i];
        const T v = static_cast<T>(alpha) * s.v[i] + static_cast<T>(1 - alpha) * g;
        const T h = static_cast<T>(beta) * s.h[i] + static_cast<T>(1 - beta) * g * g;
        const T x = s.x[i] - static_cast<T>(rate) * v / (std::sqrt(h) + static_cast<T>(epsilon));
        s.x_new[i] = static_cast<T>(1 - after) * x;
        s.v_new[i] = v;
        s.h_new[i] = h;
    }
};

struct Momentum {
    double rate, alpha, beta, norm;
    bool nesterov;
    Momentum(const Attributes& attributes, double r, int64_t t)
        : rate(r),
          alpha(static_cast<double>(attributes.f("alpha", 0))),
          beta(t > 0 ? static_cast<double>(attributes.f("beta", 0)) : 1),
          norm(static_cast<double>(attributes.f("norm_coefficient", 0))),
          nesterov(attributes.s("mode", "") == "nesterov") {}
    template <class T>
    void at(const Step<T>& s, int64_t i) const {
        const T g = static_cast<T>(norm) * s.x[i] + s.g[i];
        const T v = static_cast<T>(alpha) * s.v[i] + static_cast<T>(beta) * g;
        s.x_new[i] = s.x[i] - static_cast<T>(rate) * (nesterov ? g + static_cast<T>(alpha) * v : v);
        s.v_new[i] = v;
    }
};

template <class Optimizer>
void run_optimizer(RunContext& ctx) {
    const int memories = memories_of(*ctx.node.op), tensors = (ctx.inputs() - kFirst) / (2 + memories);
    const Optimizer optimizer(ctx.attributes, double_at(ctx.input(0), 0), int_at(ctx.input(1), 0));
    for (int i = 0; i < tensors; ++i) {
        const Tensor& x = ctx.input(kFirst + i);
        for_float(x.dtype, [&](auto tag) {
            using T = typename decltype(tag)::type;
            const auto in = [&](int j) { return ctx.input(kFirst + j * tensors + i).template as<T>(); };
            // An output that the node leaves out is computed all the same.
            Tensor unused[3];
            const auto out = [&](int j) {
                const int at = j * tensors + i;
                if (ctx.has_output(at)) return ctx.output(at).template as<T>();
                unused[j] = Tensor::allocate(x.dtype, x.shape);
                return unused[j].template as<T>();
            };
            Step<T> step{in(0), in(1), in(2), nullptr, out(0), out(1), nullptr};
            if (memories > 1) {
                step.h = in(3);
                step.h_new = out(2);
            }
            parallel_ranges(ctx.parallel(), x.count(), kCostlyGrain, [&](int64_t begin, int64_t end) {
                for (int64_t e = begin; e < end; ++e) optimizer.at(step, e);
            });
        });
    }
}

constexpr OpDef row(std::string_view name, void (*run)(RunContext&)) {
    return {.name = name, .domain = "ai.onnx.preview.training", .infer = infer_optimizer, .run = run, .min_inputs = 5};
}

}  // namespace

std::span<const OpDef> training_ops() {
    static const OpDef rows[] = {
        row("Adagrad", run_optimizer<Adagrad>),
        row("Adam", run_optimizer<Adam>),
        row("Momentum", run_optimizer<Momentum>),
    };
    return rows;
}

}  // namespace linnet
