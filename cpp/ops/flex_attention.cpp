// FlexAttention (ai.onnx.preview 1): softmax(scale q k') v with two graphs of the model's own between: score_mod
// changes the scores, prob_mod the probabilities. q [B, Hq, L, E], k [B, H, S, E], v [B, H, S, Ev], Hq a multiple of H;
// attributes scale (1 / sqrt(E)), softmax_precision (float64 for float64, else float32). It is lowered to Attention,
// or, with graphs or in float64, to products and Softmax with the graphs' nodes between them.
#include "ops/elementwise.h"
#include "ops/shared/body.h"
#include "ops/shared/compose.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

constexpr const char* kGraphs[] = {"score_mod", "prob_mod"};

// The type that Softmax and the graphs work in.
DType precision_of(const Attributes& attributes, DType q) {
    const auto given = attributes.i("softmax_precision", 0);
    if (given == 0) return q == DType::f64 ? DType::f64 : DType::f32;
    if (given < 0 || given >= kDTypeCount || !is_float(static_cast<DType>(given)))
        fail(ErrorKind::invalid_graph, "softmax_precision is data type ", given, ", expected a float type");
    return static_cast<DType>(given);
}

void infer_flex_attention(InferContext& ctx) {
    const Fact &q = ctx.input(0), &k = ctx.input(1), &v = ctx.input(2);
    for (int i = 0; i < 3; ++i) {
        check_dtype(ctx, i, kFloatTypes);
        require(!ctx.input(i).ranked || ctx.input(i).rank() == 4, "input ", i, " has rank ", ctx.input(i).rank(),
                ", expected 4: [batch, heads, length, depth]");
    }
    const DType dtype = common_dtype(ctx, 0, 3);
    const auto dims_of = [](const Fact& f) { return f.ranked ? f.shape : unknown_shape(4); };
    const Shape sq = dims_of(q), sk = dims_of(k), sv = dims_of(v);
    const int64_t batch =
        same_dim(ctx.dims, same_dim(ctx.dims, sq[0], sk[0], "batches of q and k"), sv[0], "batches of q and v");
    const int64_t heads = same_dim(ctx.dims, sk[1], sv[1], "heads of k and v");
    const int64_t keys = same_dim(ctx.dims, sk[2], sv[2], "lengths of k and v");
    same_dim(ctx.dims, sq[3], sk[3], "depths of q and k");
    if (is_number(sq[1]) && is_number(heads))
        require(heads > 0 ? sq[1] % heads == 0 : sq[1] == 0, sq[1], " heads of q are no multiple of ", heads, " of k");
    const Shape scores{batch, sq[1], sq[2], keys};
    for (const char* name : kGraphs) {
        if (!ctx.attributes.has(name)) continue;
        const Graph& body = body_of(ctx.node(), name);
        const size_t formal = body.inputs.size() - static_cast<size_t>(ctx.node().captures);
        require(formal == 1 && body.outputs.size() == 1, name, " has ", formal, " inputs and ", body.outputs.size(),
                " outputs, expected one of each");
        const DType precision = precision_of(ctx.attributes, dtype);
        const Fact made = ctx.subgraph(name, {Fact::of(precision, scores)}).at(0);
        require(made.dtype == precision || made.dtype == DType::undefined, name, " gives ", dtype_name(made.dtype),
                ", expected ", dtype_name(precision), " as it is given");
        if (!made.ranked) continue;
        require(made.rank() == 4, name, " gives rank ", made.rank(), ", expected 4");
        for (size_t i = 0; i < 4; ++i) same_dim(ctx.dims, made.shape[i], scores[i], name);
    }
    ctx.output(0, dtype, {batch, sq[1], sq[2], sv[3]});
}

bool lower_flex_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId q = node.inputs[0], k = node.inputs[1], v = node.inputs[2];
    const DType dtype = graph.fact(node.outputs[0]).dtype;
    require(dtype != DType::undefined, "the element type of q, k and v is not known when the model is loaded");
    const DType precision = precision_of(node.attributes, dtype);
    const bool scaled = node.attributes.has("scale");
    if (!node.attributes.has(kGraphs[0]) && !node.attributes.has(kGraphs[1]) && dtype != DType::f64 &&
        precision != DType::f64) {
        Attributes attributes;
        if (scaled) attributes.set("scale", node.attributes.f("scale", 1));
        patch.replace(node.outputs[0], patch.node("Attention", {q, k, v}, attributes));
        return true;
    }
    const Compose make{patch};
    const auto reshape = [&](ValueId x, ValueId shape) { return make.op("Reshape", {x, shape}, "allowzero", 1); };
    const auto inlined = [&](const char* name, ValueId x) {
        if (!node.attributes.has(name)) return x;
        ValueIds inputs{x};
        for (size_t i = node.inputs.size() - static_cast<size_t>(node.captures); i < node.inputs.size(); ++i)
            inputs.push_back(node.inputs[i]);
        return copy_body(patch, body_of(node, name), inputs)[0];
    };
    // The queries of heads that share keys stand below each other: [B, H, Hq / H * L, E].
    const Shape &sq = graph.fact(q).shape, &sk = graph.fact(k).shape;
    const bool grouped = !graph.fact(q).ranked || !graph.fact(k).ranked || sq[1] != sk[1] || sq[1] == kUnknownDim;
    ValueId rows = kNoValue;
    if (grouped) {
        const ValueId group = make.op("Div", {make.shape(q, 1, 2), make.shape(k, 1, 2)});
        rows = make.join({make.shape(k, 0, 2), make.op("Mul", {group, make.shape(q, 2, 3)})});
    }
    const auto fold = [&](ValueId x, ValueId like) {
        return grouped ? reshape(x, make.join({rows, make.shape(like, 3, 4)})) : x;
    };
    const auto unfold = [&](ValueId x, ValueId width) {
        return grouped ? reshape(x, make.join({make.shape(q, 0, 3), width})) : x;
    };
    const DType wide = dtype == DType::f64 ? DType::f64 : DType::f32;
    const ValueId turned = make.op("Transpose", {make.cast(k, wide)}, "perm", {0, 1, 3, 2});
    ValueId x = make.op("MatMul", {fold(make.cast(q, wide), q), turned});
    const ValueId factor = scaled ? make.number(static_cast<double>(node.attributes.f("scale", 1)), wide)
                                  : make.op("Reciprocal", {make.op("Sqrt", {make.cast(make.shape(q, 3, 4), wide)})});
    x = inlined(kGraphs[0], unfold(make.cast(make.op("Mul", {x, factor}), precision), make.shape(k, 2, 3)));
    x = inlined(kGraphs[1], make.op("Softmax", {x}, "axis", -1));
    x = make.op("MatMul", {fold(x, x), make.cast(v, precision)});
    patch.replace(node.outputs[0], make.cast(unfold(x, make.shape(v, 3, 4)), dtype));
    return true;
}

}  // namespace

std::span<const OpDef> flex_attention_ops() {
    static const OpDef rows[] = {
        {.name = "FlexAttention",
         .domain = "ai.onnx.preview",
         .infer = infer_flex_attention,
         .lower = lower_flex_attention,
         .min_inputs = 3,
         .max_inputs = -1},
    };
    return rows;
}

}  // namespace linnet
