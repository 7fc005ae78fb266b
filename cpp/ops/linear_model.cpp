// ai.onnx.ml: LinearClassifier and LinearRegressor (1). Scores are x * coefficients' + intercepts in float32.
#include <algorithm>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/ml.h"

namespace linnet {
namespace {

struct Linear {
    std::vector<float> coefficients, intercepts;  // [scores, features], [scores]
    int64_t scores = 1, features = 1;
    PostTransform transform = PostTransform::none;
    ClassLabels labels;
    bool two_classes = false;  // of which the one score is the second's
};

// `features` < 0: not known yet.
Linear parse(const Attributes& attributes, int64_t scores, int64_t features) {
    Linear linear;
    linear.coefficients = attributes.floats("coefficients");
    linear.intercepts = attributes.floats("intercepts");
    linear.scores = scores;
    linear.features = features;
    linear.transform = post_transform_of(attributes);
    const auto count = static_cast<int64_t>(linear.coefficients.size());
    require(scores > 0, "the number of scores is ", scores);
    require(count >= scores, count, " coefficients for ", scores, " scores");
    if (linear.intercepts.empty()) linear.intercepts.assign(static_cast<size_t>(scores), 0.0f);
    require(static_cast<int64_t>(linear.intercepts.size()) == scores, linear.intercepts.size(),
            " intercepts, expected ", scores);
    if (features < 0) linear.features = count / scores;
    else if (features > count / scores)  // what is left over is not used
        fail(ErrorKind::invalid_argument, "the input has ", features, " features, the coefficients are for ",
             count / scores);
    return linear;
}

ClassLabels labels_of(const Attributes& attributes) {
    return class_labels(attributes, "classlabels_ints", "classlabels_strings");
}

// Intercepts tell the number of scores: one for two classes is enough.
int64_t class_scores(const Attributes& attributes, const ClassLabels& labels) {
    const auto intercepts = static_cast<int64_t>(attributes.floats("intercepts").size());
    const int64_t scores = intercepts > 0 ? intercepts : std::max<int64_t>(1, labels.count());
    require(scores == 1 || scores == labels.count(), scores, " scores for ", labels.count(), " class labels");
    return scores;
}

int64_t columns_of(const Fact& x) { return x.ranked && is_number(x.shape.back()) ? x.shape.back() : -1; }

void infer_classifier(InferContext& ctx) {
    int64_t rows;
    const Fact& x = features_input(ctx, rows);
    const ClassLabels labels = labels_of(ctx.attributes);
    const int64_t scores = class_scores(ctx.attributes, labels);
    parse(ctx.attributes, scores, columns_of(x));
    ctx.output(0, labels.dtype(), {rows});
    ctx.output(1, DType::f32, {rows, scores == 1 && labels.count() == 2 ? 2 : scores});
}

void infer_regressor(InferContext& ctx) {
    int64_t rows;
    const Fact& x = features_input(ctx, rows);
    const int64_t targets = ctx.attributes.i("targets", 1);
    parse(ctx.attributes, targets, columns_of(x));
    ctx.output(0, DType::f32, {rows, targets});
}

std::shared_ptr<const void> prepare_classifier(PrepareContext& ctx) {
    ClassLabels labels = labels_of(ctx.attributes);
    auto linear = std::make_shared<Linear>(
        parse(ctx.attributes, class_scores(ctx.attributes, labels), feature_rows(ctx.input(0).shape).columns));
    linear->two_classes = labels.count() == 2;
    // One label says nothing of two classes: they are called 0 and 1.
    if (linear->scores == 1 && labels.count() != 2)
        labels = labels.text() ? ClassLabels{{"0", "1"}, {}} : ClassLabels{{}, {0, 1}};
    linear->labels = std::move(labels);
    return linear;
}

std::shared_ptr<const void> prepare_regressor(PrepareContext& ctx) {
    return std::make_shared<Linear>(
        parse(ctx.attributes, ctx.attributes.i("targets", 1), feature_rows(ctx.input(0).shape).columns));
}

// Calls fn(row, scores): memory for one score more is behind them.
template <class Fn>
void for_rows(const RunContext& ctx, const Linear& linear, const Fn& fn) {
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    const int64_t n = linear.scores, c = linear.features;
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n * c));
    parallel_ranges(ctx.parallel(), feature_rows(x.shape).rows, grain, [&](int64_t begin, int64_t end) {
        std::vector<float> scores(static_cast<size_t>(n) + 1);
        const auto& k = kernels::kernels();
        for (int64_t r = begin; r < end; ++r) {
            for (int64_t j = 0; j < n; ++j)
                scores[static_cast<size_t>(j)] =
                    k.dot_f32(static_cast<size_t>(c), x.as<float>() + r * c, linear.coefficients.data() + j * c) +
                    linear.intercepts[static_cast<size_t>(j)];
            fn(r, scores.data());
        }
    });
}

void run_classifier(RunContext& ctx) {
    const Linear& linear = *ctx.state<Linear>();
    const int64_t n = linear.scores;
    const bool two = n == 1 && linear.two_classes;
    for_rows(ctx, linear, [&](int64_t row, float* scores) {
        const int64_t best = n == 1 ? (scores[0] > 0 ? 1 : 0) : std::max_element(scores, scores + n) - scores;
        if (ctx.has_output(0)) linear.labels.write(ctx.output(0), row, best);
        finish_scores(linear.transform, two ? SecondScore::complement : SecondScore::none, n, scores);
        if (ctx.has_output(1)) std::copy_n(scores, two ? 2 : n, ctx.output(1).as<float>() + row * (two ? 2 : n));
    });
}

void run_regressor(RunContext& ctx) {
    const Linear& linear = *ctx.state<Linear>();
    for_rows(ctx, linear, [&](int64_t row, float* scores) {
        finish_scores(linear.transform, SecondScore::none, linear.scores, scores);
        std::copy_n(scores, linear.scores, ctx.output(0).as<float>() + row * linear.scores);
    });
}

}  // namespace

std::span<const OpDef> linear_model_ops() {
    static const OpDef rows[] = {
        {.name = "LinearClassifier",
         .domain = "ai.onnx.ml",
         .infer = infer_classifier,
         .run = run_classifier,
         .prepare = prepare_classifier,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "LinearRegressor",
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
