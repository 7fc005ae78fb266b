// ai.onnx.ml: TreeEnsembleClassifier, TreeEnsembleRegressor (1, 3: also with numbers in tensors) and TreeEnsemble (5).
// float64 inputs are compared and summed in float64, everything else in float32.
#include <algorithm>

#include "ops/convert.h"
#include "ops/shared/facts.h"
#include "ops/shared/ml.h"
#include "ops/shared/trees.h"

namespace linnet {
namespace {

ClassLabels labels_of(const Attributes& attributes) {
    ClassLabels labels = class_labels(attributes, "classlabels_int64s", "classlabels_strings");
    require(labels.count() > 0, "classlabels_int64s or classlabels_strings must be given");
    return labels;
}

void infer_classifier(InferContext& ctx) {
    int64_t rows;
    features_input(ctx, rows);
    const ClassLabels labels = labels_of(ctx.attributes);
    post_transform_of(ctx.attributes);
    ctx.output(0, labels.dtype(), {rows});
    ctx.output(1, DType::f32, {rows, labels.count()});
}

void infer_regressor(InferContext& ctx) {
    int64_t rows;
    features_input(ctx, rows);
    const int64_t targets = ctx.attributes.i("n_targets", 1);
    require(targets > 0, "n_targets is ", targets);
    post_transform_of(ctx.attributes);
    ctx.output(0, DType::f32, {rows, targets});
}

void infer_ensemble(InferContext& ctx) {
    int64_t rows;
    const DType dtype = features_input(ctx, rows).dtype;
    const int64_t targets = ctx.attributes.i("n_targets", 1), transform = ctx.attributes.i("post_transform", 0);
    require(targets > 0, "n_targets is ", targets);
    require(transform >= 0 && transform <= 4, "post_transform is ", transform, ", expected 0 to 4");
    ctx.output(0, dtype, {rows, targets});
}

template <class T>
struct Walk {
    Forest<T> forest;
    PostTransform transform = PostTransform::none;
    ClassLabels labels;        // of a classifier
    bool one_score = false;    // two classes, and all weights are of one of them
    bool all_positive = true;  // no weight is negative
};

struct State {
    std::shared_ptr<const Walk<float>> f32;
    std::shared_ptr<const Walk<double>> f64;
};

template <class T>
std::shared_ptr<const Walk<T>> make_walk(const ForestPlan& plan, PostTransform transform, ClassLabels labels) {
    auto walk = std::make_shared<Walk<T>>(Walk<T>{Forest<T>(plan), transform, std::move(labels)});
    bool used[2] = {false, false};  // of two targets
    for (const auto& leaf : plan.leaves)
        for (const auto& weight : leaf) {
            if (weight.target < 2) used[weight.target] = true;
            if (weight.value < 0) walk->all_positive = false;
        }
    walk->one_score = plan.targets == 2 && used[0] != used[1];
    return walk;
}

std::shared_ptr<const void> make_state(const PrepareContext& ctx, const ForestPlan& plan, PostTransform transform,
                                       ClassLabels labels = {}) {
    const FeatureRows x = feature_rows(ctx.input(0).shape);
    if (features_of(plan) > x.columns)
        fail(ErrorKind::invalid_argument, "the trees ask for ", features_of(plan), " features, the input has ",
             x.columns);
    auto state = std::make_shared<State>();
    if (ctx.input(0).dtype == DType::f64) state->f64 = make_walk<double>(plan, transform, std::move(labels));
    else state->f32 = make_walk<float>(plan, transform, std::move(labels));
    return state;
}

std::shared_ptr<const void> prepare_classifier(PrepareContext& ctx) {
    ClassLabels labels = labels_of(ctx.attributes);
    const ForestPlan plan = parse_forest(ctx.attributes, "class", labels.count());
    return make_state(ctx, plan, post_transform_of(ctx.attributes), std::move(labels));
}

std::shared_ptr<const void> prepare_regressor(PrepareContext& ctx) {
    const ForestPlan plan = parse_forest(ctx.attributes, "target", ctx.attributes.i("n_targets", 1));
    return make_state(ctx, plan, post_transform_of(ctx.attributes));
}

std::shared_ptr<const void> prepare_ensemble(PrepareContext& ctx) {
    return make_state(ctx, parse_tree_ensemble(ctx.attributes),
                      static_cast<PostTransform>(ctx.attributes.i("post_transform", 0)));
}

// Calls fn(row, scores, scored) for every row, with the sums of its trees.
template <class T, class Fn>
void for_rows(const RunContext& ctx, const Forest<T>& forest, const T* x, const FeatureRows& view, const Fn& fn) {
    constexpr int64_t kBlock = 32;
    const int64_t targets = forest.targets();
    const int64_t grain = std::max<int64_t>(1, 2048 / std::max<int64_t>(1, forest.trees()));
    parallel_ranges(ctx.parallel(), view.rows, grain, [&](int64_t begin, int64_t end) {
        const auto size = static_cast<size_t>(std::min(kBlock, end - begin) * targets);
        std::vector<T> scores(size + 1);  // a single score may become two
        std::vector<uint8_t> scored(size + 1);
        for (int64_t first = begin; first < end; first += kBlock) {
            const int64_t rows = std::min(kBlock, end - first);
            forest.evaluate(x + first * view.columns, rows, view.columns, scores.data(), scored.data());
            for (int64_t r = 0; r < rows; ++r) fn(first + r, scores.data() + r * targets, scored.data() + r * targets);
        }
    });
}

// More than two classes: the largest score wins.
template <class T>
int64_t choose_of_many(const Walk<T>& walk, T* scores, const uint8_t* scored) {
    const auto& base = walk.forest.base();
    const int64_t n = walk.forest.targets();
    for (size_t k = 0; k < std::min(base.size(), static_cast<size_t>(n)); ++k) scores[k] += base[k];
    int64_t best = -1;
    for (int64_t k = 0; k < n; ++k) {
        const bool counts = scored[k] || static_cast<size_t>(k) < base.size();
        if (counts && (best < 0 || scores[k] > scores[best])) best = k;
    }
    finish_scores(walk.transform, SecondScore::none, n, scores);
    return std::max<int64_t>(best, 0);
}

// Two classes (or one), where the specification is vague: this is what onnxruntime does. A class of which no tree said
// anything keeps 0, whatever its base value.
template <class T>
int64_t choose_of_two(const Walk<T>& walk, T* scores, const uint8_t* scored) {
    const auto& base = walk.forest.base();
    const int64_t n = walk.forest.targets();
    int64_t left = n;
    if (base.size() == 2 && n == 2) {
        if (scored[1]) {
            scores[1] = base[1] + scores[0];
            scores[0] = -scores[1];
        } else {
            scores[0] += base[0];
        }
    } else {
        if (base.size() == 1) scores[0] += base[0];
        if (n == 2 && !scored[1]) left = 1;
    }
    for (int64_t k = 0; k < left && n == 2; ++k)
        if (!scored[k]) scores[k] = 0;
    const bool shares = walk.one_score && walk.all_positive;  // the scores are probabilities
    const T positive = n == 2 && scored[1] ? scores[1] : scores[0];
    const SecondScore second = n == 1 ? SecondScore::none : shares ? SecondScore::complement : SecondScore::opposite;
    finish_scores(walk.transform, left == 2 ? SecondScore::none : second, left, scores);
    return positive > (shares ? T(0.5) : T(0)) ? 1 : 0;
}

template <class T>
void classify(RunContext& ctx, const Walk<T>& walk, const T* x, const FeatureRows& view) {
    const int64_t n = walk.forest.targets();
    for_rows(ctx, walk.forest, x, view, [&](int64_t row, T* scores, uint8_t* scored) {
        // A block's scores are neighbours: what may write one more gets a copy.
        T pair[2] = {scores[0], n > 1 ? scores[1] : T(0)};
        const uint8_t pair_scored[2] = {scored[0], n > 1 ? scored[1] : uint8_t(0)};
        T* out = n > 2 ? scores : pair;
        const int64_t best = n > 2 ? choose_of_many(walk, scores, scored) : choose_of_two(walk, pair, pair_scored);
        if (ctx.has_output(0)) walk.labels.write(ctx.output(0), row, best);
        if (ctx.has_output(1)) std::copy_n(out, n, ctx.output(1).template as<float>() + row * n);
    });
}

void run_classifier(RunContext& ctx) {
    const auto* state = ctx.state<State>();
    const FeatureRows view = feature_rows(ctx.input(0).shape);
    if (state->f64) return classify(ctx, *state->f64, ctx.input(0).as<double>(), view);
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    classify(ctx, *state->f32, x.as<float>(), view);
}

template <class T, class Out>
void regress(RunContext& ctx, const Walk<T>& walk, const T* x, const FeatureRows& view, Out* y) {
    const int64_t n = walk.forest.targets();
    const auto& base = walk.forest.base();
    for_rows(ctx, walk.forest, x, view, [&](int64_t row, T* scores, uint8_t*) {
        if (static_cast<int64_t>(base.size()) == n)
            for (int64_t k = 0; k < n; ++k) scores[k] += base[static_cast<size_t>(k)];
        finish_scores(walk.transform, SecondScore::none, n, scores);
        std::copy_n(scores, n, y + row * n);
    });
}

void run_regressor(RunContext& ctx) {
    const auto* state = ctx.state<State>();
    const FeatureRows view = feature_rows(ctx.input(0).shape);
    Tensor& y = ctx.output(0);
    if (state->f64) {
        const double* x = ctx.input(0).as<double>();
        if (y.dtype == DType::f64) return regress(ctx, *state->f64, x, view, y.as<double>());
        return regress(ctx, *state->f64, x, view, y.as<float>());
    }
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    if (y.dtype == DType::f32) return regress(ctx, *state->f32, x.as<float>(), view, y.as<float>());
    Tensor full = Tensor::allocate(DType::f32, y.shape);
    regress(ctx, *state->f32, x.as<float>(), view, full.as<float>());
    convert_elements(DType::f32, full.data, y.dtype, y.data, y.count(), {}, ctx.parallel());
}

}  // namespace

std::span<const OpDef> tree_ensemble_ops() {
    static const OpDef rows[] = {
        {.name = "TreeEnsembleClassifier",
         .domain = "ai.onnx.ml",
         .infer = infer_classifier,
         .run = run_classifier,
         .prepare = prepare_classifier,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "TreeEnsembleRegressor",
         .domain = "ai.onnx.ml",
         .infer = infer_regressor,
         .run = run_regressor,
         .prepare = prepare_regressor,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "TreeEnsemble",
         .domain = "ai.onnx.ml",
         .since = 5,
         .infer = infer_ensemble,
         .run = run_regressor,
         .prepare = prepare_ensemble,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
