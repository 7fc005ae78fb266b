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

// ---- lowering to linnet.TreeClassifier and linnet.TreeRegressor, which carry the forest in its form to walk
// ----------
Attributes walk_attributes(const Graph& graph, const Node& node, const ForestPlan& plan, PostTransform transform) {
    // Where the element type is not known, float32: so are the attributes of nearly all models.
    const DType dtype = graph.fact(node.inputs[0]).dtype == DType::f64 ? DType::f64 : DType::f32;
    Attributes attributes;
    save_forest(compile_forest(plan, dtype), attributes);
    std::vector<float> base_f32(plan.base.begin(), plan.base.end());
    attributes.set("base", dtype == DType::f64 ? Tensor::vector(plan.base) : Tensor::vector(base_f32));
    return attributes.set("transform", static_cast<int64_t>(transform));
}

bool lower_to(std::string_view op_type, const Node& node, Attributes attributes, Patch& patch) {
    const Node made = [&] {
        Node out;
        out.op_type = op_type;
        out.domain = "linnet";
        out.op = find_op("linnet", op_type, 1);
        out.inputs = node.inputs;
        out.attributes = std::move(attributes);
        return out;
    }();
    const ValueIds outputs = patch.node(made, static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < outputs.size(); ++i)
        if (node.outputs[i] != kNoValue) patch.replace(node.outputs[i], outputs[i]);
    return true;
}

bool lower_classifier(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ClassLabels labels = labels_of(node.attributes);
    const ForestPlan plan = parse_forest(node.attributes, "class", labels.count());
    Attributes attributes = walk_attributes(graph, node, plan, post_transform_of(node.attributes));
    bool used[2] = {false, false}, all_positive = true;
    for (const auto& leaf : plan.leaves)
        for (const auto& weight : leaf) {
            if (weight.target < 2) used[weight.target] = true;
            if (weight.value < 0) all_positive = false;
        }
    attributes.set("one_score", int64_t{plan.targets == 2 && used[0] != used[1]})
        .set("positive", int64_t{all_positive});
    if (labels.text()) attributes.set("classlabels_strings", labels.strings);
    else attributes.set("classlabels_int64s", labels.ints);
    return lower_to("TreeClassifier", node, std::move(attributes), patch);
}

bool lower_regressor(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ForestPlan plan = parse_forest(node.attributes, "target", node.attributes.i("n_targets", 1));
    return lower_to("TreeRegressor", node, walk_attributes(graph, node, plan, post_transform_of(node.attributes)),
                    patch);
}

bool lower_ensemble(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ForestPlan plan = parse_tree_ensemble(node.attributes);
    const auto transform = static_cast<PostTransform>(node.attributes.i("post_transform", 0));
    Attributes attributes = walk_attributes(graph, node, plan, transform);
    attributes.set("like_input", int64_t{1});
    return lower_to("TreeRegressor", node, std::move(attributes), patch);
}

// ---- running them
// ----------------------------------------------------------------------------------------------------
void infer_lowered(InferContext& ctx) {
    int64_t rows;
    const Fact& x = features_input(ctx, rows);
    const int64_t features = ctx.attributes.i("features", 0), targets = ctx.attributes.i("targets", 1);
    if (x.ranked && is_number(x.shape[x.shape.size() - 1]) && x.shape[x.shape.size() - 1] < features)
        fail(ErrorKind::invalid_argument, "the trees ask for ", features, " features, the input has ",
             x.shape[x.shape.size() - 1]);
    if (!ctx.attributes.has("one_score"))
        return ctx.output(0, ctx.attributes.i("like_input", 0) ? x.dtype : DType::f32, {rows, targets});
    ctx.output(0, ctx.attributes.has("classlabels_strings") ? DType::string : DType::i64, {rows});
    ctx.output(1, DType::f32, {rows, targets});
}

struct Walk {
    Forest forest;
    Tensor base;
    PostTransform transform = PostTransform::none;
    ClassLabels labels;  // of a classifier
    bool one_score;      // two classes, and all weights are of one of them
    bool all_positive;   // no weight is negative

    template <class T>
    std::span<const T> bases() const {
        return {base.as<T>(), static_cast<size_t>(base.count())};
    }
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    const Attributes& a = ctx.attributes;
    return std::make_shared<const Walk>(Walk{load_forest(a), *a.t("base"),
                                             static_cast<PostTransform>(a.i("transform", 0)),
                                             class_labels(a, "classlabels_int64s", "classlabels_strings"),
                                             a.i("one_score", 0) != 0, a.i("positive", 0) != 0});
}

// More than two classes: the largest score wins.
template <class T>
int64_t choose_of_many(const Walk& walk, T* scores, const uint8_t* scored) {
    const auto base = walk.bases<T>();
    const int64_t n = walk.forest.targets;
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
int64_t choose_of_two(const Walk& walk, T* scores, const uint8_t* scored) {
    const auto base = walk.bases<T>();
    const int64_t n = walk.forest.targets;
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
void classify(RunContext& ctx, const Walk& walk, const Tensor& x) {
    const int64_t n = walk.forest.targets;
    const FeatureRows view = feature_rows(x.shape);
    const UseScores<T> use = [&](int64_t row, T* scores, const uint8_t* scored) {
        // A single score may become two, and the next row's follow behind it.
        T pair[2] = {scores[0], n > 1 ? scores[1] : T(0)};
        const uint8_t pair_scored[2] = {scored[0], n > 1 ? scored[1] : uint8_t(0)};
        const int64_t best = n > 2 ? choose_of_many(walk, scores, scored) : choose_of_two(walk, pair, pair_scored);
        if (ctx.has_output(0)) walk.labels.write(ctx.output(0), row, best);
        if (ctx.has_output(1)) std::copy_n(n > 2 ? scores : pair, n, ctx.output(1).template as<float>() + row * n);
    };
    walk_forest<T>(ctx.parallel(), walk.forest, x.as<T>(), view.rows, view.columns, use);
}

void run_classifier(RunContext& ctx) {
    const Walk& walk = *ctx.state<Walk>();
    if (walk.forest.dtype == DType::f64) return classify<double>(ctx, walk, ctx.input(0));
    classify<float>(ctx, walk, as_f32(ctx.parallel(), ctx.input(0)));
}

template <class T, class Out>
void regress(RunContext& ctx, const Walk& walk, const Tensor& x, Out* y) {
    const int64_t n = walk.forest.targets;
    const FeatureRows view = feature_rows(x.shape);
    const auto base = walk.bases<T>();
    const UseScores<T> use = [&](int64_t row, T* scores, const uint8_t*) {
        if (static_cast<int64_t>(base.size()) == n)
            for (int64_t k = 0; k < n; ++k) scores[k] += base[static_cast<size_t>(k)];
        finish_scores(walk.transform, SecondScore::none, n, scores);
        std::copy_n(scores, n, y + row * n);
    };
    walk_forest<T>(ctx.parallel(), walk.forest, x.as<T>(), view.rows, view.columns, use);
}

void run_regressor(RunContext& ctx) {
    const Walk& walk = *ctx.state<Walk>();
    Tensor& y = ctx.output(0);
    if (walk.forest.dtype == DType::f64) {
        if (y.dtype == DType::f64) return regress<double>(ctx, walk, ctx.input(0), y.as<double>());
        return regress<double>(ctx, walk, ctx.input(0), y.as<float>());
    }
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    if (y.dtype == DType::f32) return regress<float>(ctx, walk, x, y.as<float>());
    Tensor full = Tensor::allocate(DType::f32, y.shape);
    regress<float>(ctx, walk, x, full.as<float>());
    convert_elements(DType::f32, full.data, y.dtype, y.data, y.count(), {}, ctx.parallel());
}

constexpr OpDef row(std::string_view name, void (*infer)(InferContext&), bool (*lower)(const Graph&, NodeId, Patch&),
                    int since = 1) {
    return {.name = name,
            .domain = "ai.onnx.ml",
            .since = since,
            .infer = infer,
            .lower = lower,
            .min_inputs = 1,
            .max_inputs = 1};
}

constexpr OpDef lowered(std::string_view name, void (*run)(RunContext&)) {
    return {.name = name,
            .domain = "linnet",
            .infer = infer_lowered,
            .run = run,
            .prepare = prepare,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> tree_ensemble_ops() {
    static const OpDef rows[] = {row("TreeEnsembleClassifier", infer_classifier, lower_classifier),
                                 row("TreeEnsembleRegressor", infer_regressor, lower_regressor),
                                 row("TreeEnsemble", infer_ensemble, lower_ensemble, 5),
                                 lowered("TreeClassifier", run_classifier), lowered("TreeRegressor", run_regressor)};
    return rows;
}

}  // namespace linnet
