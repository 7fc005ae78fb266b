// ai.onnx.ml: SVMClassifier and SVMRegressor (1), in float32. Attributes kernel_type "LINEAR", kernel_params (gamma,
// coef0, degree), support_vectors, coefficients, rho, post_transform "NONE"; vectors_per_class, prob_a, prob_b and
// classlabels_ints or classlabels_strings of the classifier; n_supports, one_class 0 of the regressor.
//
// Without support vectors the coefficients are those of linear models, one for a class. With them every two classes
// have a machine of their own, and the class with the most votes wins. Its scores are those of the machines ([-s, s]
// for two classes), or with prob_a and prob_b the probability of each class.
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/ml.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

enum class KernelType : uint8_t { linear, poly, rbf, sigmoid };

// k(x, v) for `count` vectors v of `features` numbers.
struct Machine {
    KernelType type = KernelType::linear;
    float gamma = 0, coef0 = 0, degree = 0;
    std::vector<float> vectors;  // [count, features]
    int64_t count = 0, features = 0;

    // `difference` has room for a row of features.
    void evaluate(const float* x, float* difference, float* out) const {
        const auto& k = kernels::kernels();
        const auto n = static_cast<size_t>(features);
        for (int64_t v = 0; v < count; ++v) {
            const float* vector = vectors.data() + v * features;
            if (type == KernelType::rbf) {
                for (size_t f = 0; f < n; ++f) difference[f] = x[f] - vector[f];
                out[v] = std::exp(-gamma * k.dot_f32(n, difference, difference));
                continue;
            }
            const float dot = k.dot_f32(n, x, vector);
            if (type == KernelType::linear) out[v] = dot;
            else if (type == KernelType::poly) out[v] = std::pow(gamma * dot + coef0, degree);
            else out[v] = std::tanh(gamma * dot + coef0);
        }
    }
};

struct Svm {
    Machine machine;
    std::vector<float> coefficients, rho, prob_a, prob_b;
    std::vector<int64_t> first;  // of each class's support vectors, and the end
    PostTransform transform = PostTransform::none;
    ClassLabels labels;
    bool linear = false;        // no support vectors
    bool one_class = false;     // says 1 or -1
    bool all_positive = false;  // no coefficient is negative
    int64_t classes() const noexcept { return labels.count(); }
    int64_t pairs() const noexcept { return classes() * (classes() - 1) / 2; }
    int64_t scores() const noexcept { return linear || !prob_a.empty() ? classes() : classes() > 2 ? pairs() : 2; }
};

KernelType kernel_type_of(const Attributes& attributes) {
    const std::string& name = attributes.s("kernel_type", "LINEAR");
    if (name == "LINEAR") return KernelType::linear;
    if (name == "POLY") return KernelType::poly;
    if (name == "RBF") return KernelType::rbf;
    if (name == "SIGMOID") return KernelType::sigmoid;
    fail(ErrorKind::invalid_graph, "kernel_type '", name, "' is none of LINEAR, POLY, RBF, SIGMOID");
}

// What both operators have, for `supports` support vectors, or `linear` models where there are none. `x` is the input,
// as far as it is known.
Svm parse(const Attributes& attributes, int64_t supports, int64_t models, const Fact& x) {
    Svm svm;
    svm.coefficients = attributes.floats("coefficients");
    svm.rho = attributes.floats("rho");
    svm.transform = post_transform_of(attributes);
    svm.linear = supports == 0;
    svm.all_positive = std::all_of(svm.coefficients.begin(), svm.coefficients.end(), [](float c) { return c >= 0; });
    Machine& machine = svm.machine;
    machine.type = svm.linear ? KernelType::linear : kernel_type_of(attributes);
    if (const std::vector<float> params = attributes.floats("kernel_params"); !params.empty()) {
        require(params.size() == 3, "kernel_params has ", params.size(), " elements, expected 3");
        machine.gamma = params[0], machine.coef0 = params[1], machine.degree = params[2];
    }
    machine.vectors = svm.linear ? svm.coefficients : attributes.floats("support_vectors");
    machine.count = svm.linear ? models : supports;
    const auto numbers = static_cast<int64_t>(machine.vectors.size());
    require(numbers > 0 && numbers % machine.count == 0, numbers,
            svm.linear ? " coefficients for " : " numbers in support_vectors for ", machine.count,
            svm.linear ? " linear models" : " vectors");
    machine.features = numbers / machine.count;
    require(!svm.rho.empty(), "rho is empty");
    if (x.ranked && is_number(x.shape.back()) && x.shape.back() != machine.features)
        fail(ErrorKind::invalid_argument, "the input has ", x.shape.back(), " features, expected ", machine.features);
    return svm;
}

Svm parse_classifier(const Attributes& attributes, const Fact& x) {
    ClassLabels labels = class_labels(attributes, "classlabels_ints", "classlabels_strings");
    require(labels.count() > 0, "neither classlabels_ints nor classlabels_strings are given");
    std::vector<int64_t> first{0};
    for (int64_t n : attributes.ints("vectors_per_class")) {
        require(n >= 0, "vectors_per_class has a negative number, ", n);
        first.push_back(checked_add(first.back(), n));
    }
    Svm svm = parse(attributes, first.back(), labels.count(), x);
    svm.labels = std::move(labels);
    if (svm.linear) return svm;
    svm.first = std::move(first);
    const auto classes = static_cast<size_t>(svm.classes()), pairs = static_cast<size_t>(svm.pairs());
    require(svm.first.size() == classes + 1, "vectors_per_class has ", svm.first.size() - 1, " elements for ", classes,
            " class labels");
    require(classes >= 2, "support vectors for one class only");
    const auto supports = static_cast<size_t>(svm.machine.count);
    require(svm.coefficients.size() / supports >= classes - 1, svm.coefficients.size(), " coefficients, expected ",
            classes - 1, " times ", supports);
    require(svm.rho.size() >= pairs, "rho has ", svm.rho.size(), " elements, expected ", pairs);
    svm.prob_a = attributes.floats("prob_a");
    svm.prob_b = attributes.floats("prob_b");
    require(svm.prob_a.size() == svm.prob_b.size() && (svm.prob_a.empty() || svm.prob_a.size() >= pairs), "prob_a and ",
            "prob_b have ", svm.prob_a.size(), " and ", svm.prob_b.size(), " elements, expected none or ", pairs);
    return svm;
}

Svm parse_regressor(const Attributes& attributes, const Fact& x) {
    const int64_t supports = attributes.i("n_supports", 0);
    require(supports >= 0, "n_supports is ", supports);
    Svm svm = parse(attributes, supports, 1, x);
    require(svm.linear || static_cast<int64_t>(svm.coefficients.size()) >= supports, svm.coefficients.size(),
            " coefficients for ", supports, " support vectors");
    svm.one_class = attributes.i("one_class", 0) != 0;
    return svm;
}

void infer_classifier(InferContext& ctx) {
    int64_t rows;
    const Svm svm = parse_classifier(ctx.attributes, features_input(ctx, rows));
    ctx.output(0, svm.labels.dtype(), {rows});
    ctx.output(1, DType::f32, {rows, svm.scores()});
}

void infer_regressor(InferContext& ctx) {
    int64_t rows;
    parse_regressor(ctx.attributes, features_input(ctx, rows));
    ctx.output(0, DType::f32, {rows, 1});
}

std::shared_ptr<const void> prepare_classifier(PrepareContext& ctx) {
    return std::make_shared<Svm>(parse_classifier(ctx.attributes, ctx.input(0)));
}

std::shared_ptr<const void> prepare_regressor(PrepareContext& ctx) {
    return std::make_shared<Svm>(parse_regressor(ctx.attributes, ctx.input(0)));
}

// Calls fn(row, kernels).
template <class Fn>
void for_rows(const RunContext& ctx, const Machine& machine, const Fn& fn) {
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    parallel_ranges(ctx.parallel(), feature_rows(x.shape).rows, row_grain(machine.count * machine.features),
                    [&](int64_t begin, int64_t end) {
                        std::vector<float> difference(static_cast<size_t>(machine.features));
                        std::vector<float> kernels(static_cast<size_t>(machine.count));
                        for (int64_t r = begin; r < end; ++r) {
                            machine.evaluate(x.as<float>() + r * machine.features, difference.data(), kernels.data());
                            fn(r, kernels.data());
                        }
                    });
}

double weighted(const float* coefficients, const float* kernels, int64_t begin, int64_t end) {
    double sum = 0;
    for (int64_t v = begin; v < end; ++v) sum += static_cast<double>(coefficients[v] * kernels[v]);
    return sum;
}

// The score of each pair of classes; a positive one votes for the first.
void score_pairs(const Svm& svm, const float* kernels, float* scores, int64_t* votes) {
    const int64_t supports = svm.machine.count;
    size_t pair = 0;
    for (int64_t i = 0; i < svm.classes(); ++i)
        for (int64_t j = i + 1; j < svm.classes(); ++j, ++pair) {
            const auto a = static_cast<size_t>(i), b = static_cast<size_t>(j);
            // A class's vectors have a coefficient against each other class: its own row is left out.
            const float *against_j = svm.coefficients.data() + (j - 1) * supports,
                        *against_i = svm.coefficients.data() + i * supports;
            const double score = weighted(against_j, kernels, svm.first[a], svm.first[a + 1]) +
                                 weighted(against_i, kernels, svm.first[b], svm.first[b + 1]) +
                                 static_cast<double>(svm.rho[pair]);
            scores[pair] = static_cast<float>(score);
            ++votes[score > 0 ? i : j];
        }
}

// Class probabilities p from those of pairs, r[i, j] = P(i | i or j): the second method of Wu, Lin and Weng,
// "Probability Estimates for Multi-class Classification by Pairwise Coupling", 2004, with the limits that LIBSVM gives
// it.
void couple(int64_t n, const std::vector<float>& r, float* p) {
    std::vector<float> q(static_cast<size_t>(n * n)), qp(static_cast<size_t>(n));
    auto at = [n](int64_t i, int64_t j) { return static_cast<size_t>(i * n + j); };
    for (int64_t i = 0; i < n; ++i) {
        p[i] = 1.0f / static_cast<float>(n);
        for (int64_t j = 0; j < n; ++j) {
            if (i == j) continue;
            q[at(i, i)] += r[at(j, i)] * r[at(j, i)];
            q[at(i, j)] = -r[at(j, i)] * r[at(i, j)];
        }
    }
    const float near = 0.005f / static_cast<float>(n);
    for (int64_t round = 0; round < std::max<int64_t>(100, n); ++round) {
        float pqp = 0, error = 0;
        for (int64_t i = 0; i < n; ++i) {
            float sum = 0;
            for (int64_t j = 0; j < n; ++j) sum += q[at(i, j)] * p[j];
            qp[static_cast<size_t>(i)] = sum;
            pqp += p[i] * sum;
        }
        for (float v : qp) error = std::max(error, std::fabs(v - pqp));
        if (error < near) return;
        for (int64_t i = 0; i < n; ++i) {
            const float step = (pqp - qp[static_cast<size_t>(i)]) / q[at(i, i)], shrink = 1 / (1 + step);
            p[i] += step;
            pqp = (pqp + step * (step * q[at(i, i)] + 2 * qp[static_cast<size_t>(i)])) * shrink * shrink;
            for (int64_t j = 0; j < n; ++j) {
                qp[static_cast<size_t>(j)] = (qp[static_cast<size_t>(j)] + step * q[at(i, j)]) * shrink;
                p[j] *= shrink;
            }
        }
    }
}

// Scores of the machines to class probabilities (Platt's).
void probabilities(const Svm& svm, const float* scores, float* out) {
    const int64_t n = svm.classes();
    std::vector<float> r(static_cast<size_t>(n * n));
    size_t pair = 0;
    for (int64_t i = 0; i < n; ++i)
        for (int64_t j = i + 1; j < n; ++j, ++pair) {
            const float p = 1 / (1 + std::exp(scores[pair] * svm.prob_a[pair] + svm.prob_b[pair]));
            r[static_cast<size_t>(i * n + j)] = std::clamp(p, 1e-7f, 1 - 1e-7f);
            r[static_cast<size_t>(j * n + i)] = 1 - r[static_cast<size_t>(i * n + j)];
        }
    couple(n, r, out);
}

// The class that linear models choose.
int64_t best_class(const Svm& svm, const float* scores) {
    const int64_t n = svm.classes();
    const int64_t best = std::max_element(scores, scores + n) - scores;
    // Of two, the second is the one meant when any score says yes: so other runtimes have it.
    if (n == 2 && (svm.all_positive ? scores[best] >= 0.5f : scores[best] > 0)) return 1;
    return best;
}

void run_classifier(RunContext& ctx) {
    const Svm& svm = *ctx.state<Svm>();
    const int64_t n = svm.scores();
    for_rows(ctx, svm.machine, [&](int64_t row, float* kernels) {
        std::vector<float> scores(static_cast<size_t>(std::max(n, svm.pairs())) + 1), shares;
        float* out = scores.data();
        int64_t best = 0;
        if (svm.linear) {
            for (int64_t i = 0; i < n; ++i) out[i] = kernels[i] + svm.rho[0];
            best = best_class(svm, out);
        } else {
            std::vector<int64_t> votes(static_cast<size_t>(svm.classes()));
            score_pairs(svm, kernels, out, votes.data());
            best = std::max_element(votes.begin(), votes.end()) - votes.begin();
        }
        if (!svm.prob_a.empty()) {
            shares.resize(static_cast<size_t>(n));
            probabilities(svm, out, shares.data());
            out = shares.data();
        }
        if (ctx.has_output(0)) svm.labels.write(ctx.output(0), row, best);
        const bool single = !svm.linear && svm.prob_a.empty() && svm.pairs() == 1;
        const SecondScore second = !single                                ? SecondScore::none
                                   : svm.transform == PostTransform::none ? SecondScore::opposite
                                                                          : SecondScore::complement;
        finish_scores(svm.transform, second, single ? 1 : n, out);
        if (ctx.has_output(1)) std::copy_n(out, n, ctx.output(1).as<float>() + row * n);
    });
}

void run_regressor(RunContext& ctx) {
    const Svm& svm = *ctx.state<Svm>();
    for_rows(ctx, svm.machine, [&](int64_t row, const float* kernels) {
        const double sum = svm.linear ? static_cast<double>(kernels[0])
                                      : weighted(svm.coefficients.data(), kernels, 0, svm.machine.count);
        float y = static_cast<float>(sum + static_cast<double>(svm.rho[0]));
        if (svm.one_class) y = y > 0 ? 1.0f : -1.0f;
        else finish_scores(svm.transform, SecondScore::none, 1, &y);
        ctx.output(0).as<float>()[row] = y;
    });
}

}  // namespace

std::span<const OpDef> svm_ops() {
    static const OpDef rows[] = {
        {.name = "SVMClassifier",
         .domain = "ai.onnx.ml",
         .infer = infer_classifier,
         .run = run_classifier,
         .prepare = prepare_classifier,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "SVMRegressor",
         .domain = "ai.onnx.ml",
         .infer = infer_regressor,
         .run = run_regressor,
         .prepare = prepare_regressor,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
