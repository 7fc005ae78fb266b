// onnxruntime's fused normalisations (com.microsoft 1), taken apart into Add, Gather and the normalisation itself:
// SkipLayerNormalization: input, skip, gamma, beta?, bias? -> output, mean?, inv_std_var?, sum?
// SkipSimplifiedLayerNormalization: input, skip, gamma, bias? -> the same
// EmbedLayerNormalization: input_ids, segment_ids?, word, position, segment embeddings, gamma, beta, mask?,
//   position_ids? -> output, mask_index?, embedding_sum?
#include "ops/shared/compose.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool simplified(const OpDef& op) { return op.name == "SkipSimplifiedLayerNormalization"; }

void infer_skip(InferContext& ctx) {
    const Fact &x = tensor_input(ctx, 0), &skip = tensor_input(ctx, 1);
    require(x.dtype == DType::undefined || is_float(x.dtype), "input is ", dtype_name(x.dtype));
    for (int i = 1; i < ctx.inputs(); ++i)
        if (ctx.has_input(i))
            require(tensor_input(ctx, i).dtype == x.dtype, "input ", i, " is ", dtype_name(ctx.input(i).dtype),
                    ", input 0 is ", dtype_name(x.dtype));
    if (!x.ranked) {
        for (int i = 0; i < ctx.outputs(); ++i) ctx.output_unranked(i, i == 1 || i == 2 ? DType::f32 : x.dtype);
        return;
    }
    require(x.rank() >= 2, "input has rank ", x.rank(), ", expected at least 2");
    if (skip.ranked) require(skip.rank() <= x.rank(), "skip has rank ", skip.rank(), ", input has rank ", x.rank());
    Shape statistics = x.shape;
    statistics.back() = 1;
    ctx.output(0, x.dtype, x.shape);
    if (ctx.has_output(1)) ctx.output(1, DType::f32, statistics);
    if (ctx.has_output(2)) ctx.output(2, DType::f32, statistics);
    if (ctx.has_output(3)) ctx.output(3, x.dtype, x.shape);
}

ValueId part(const ValueIds& values, size_t i) { return i < values.size() ? values[i] : kNoValue; }

// The first of the normalisation's outputs.
ValueId normalise(Patch& patch, const Node& node, const char* type, const ValueIds& inputs, int outputs) {
    Attributes attributes;
    attributes.set("axis", int64_t{-1}).set("epsilon", node.attributes.f("epsilon", 1e-12f));
    return patch.node(type, inputs, std::move(attributes), "", outputs);
}

bool lower_skip(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const ValueIds in = node.inputs, out = node.outputs;
    const bool simple = simplified(*node.op);
    const ValueId bias = part(in, simple ? 3 : 4);
    ValueId sum = make.op("Add", {in[0], in[1]});
    if (bias != kNoValue) sum = make.op("Add", {sum, bias});
    ValueId results[4] = {kNoValue, kNoValue, kNoValue, sum};
    if (simple) {  // nothing is subtracted; the mean as such is not computed elsewhere either
        results[0] = normalise(patch, node, "SimplifiedLayerNormalization", {sum, in[2]}, 2);
        results[2] = results[0] + 1;
        if (part(out, 1) != kNoValue) results[1] = make.cast(make.op("ReduceMean", {sum, make.ints({-1})}), DType::f32);
    } else {
        results[0] = normalise(patch, node, "LayerNormalization", {sum, in[2], part(in, 3)}, 3);
        results[1] = results[0] + 1;
        results[2] = results[0] + 2;
    }
    for (size_t i = 0; i < out.size(); ++i)
        if (out[i] != kNoValue) patch.replace(out[i], results[i]);
    return true;
}

void infer_embed(InferContext& ctx) {
    const Fact &ids = tensor_input(ctx, 0), &words = tensor_input(ctx, 2), &positions = tensor_input(ctx, 3);
    require(ids.dtype == DType::i32 || ids.dtype == DType::i64 || ids.dtype == DType::undefined, "input_ids is ",
            dtype_name(ids.dtype));
    if (ids.ranked) require(ids.rank() == 2, "input_ids has rank ", ids.rank(), ", expected 2");
    for (int i : {2, 3, 4}) {
        if (!ctx.has_input(i)) continue;
        const Fact& table = tensor_input(ctx, i);
        if (table.ranked) require(table.rank() == 2, "input ", i, " has rank ", table.rank(), ", expected 2");
    }
    require(positions.dtype == words.dtype, "embeddings differ in dtype");
    require(ctx.has_input(1) == ctx.has_input(4), "segment_ids and segment_embedding come together");
    const int64_t batch = ids.ranked ? ids.shape[0] : kUnknownDim, length = ids.ranked ? ids.shape[1] : kUnknownDim;
    const int64_t hidden = words.ranked ? words.shape[1] : kUnknownDim;
    ctx.output(0, words.dtype, {batch, length, hidden});
    if (ctx.has_output(1)) ctx.output(1, DType::i32, {batch});
    if (ctx.has_output(2)) ctx.output(2, words.dtype, {batch, length, hidden});
}

bool lower_embed(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const ValueIds in = node.inputs, out = node.outputs;
    const auto number = [&](int64_t value) { return patch.constant_ints({value}, true); };
    ValueId positions = part(in, 8);
    if (positions == kNoValue) {  // 0 ... length - 1
        const ValueId length = make.op("Gather", {make.shape(in[0]), number(1)});
        positions = make.op("Range", {number(0), length, number(1)});
    }
    ValueId sum = make.op("Add", {make.op("Gather", {in[2], in[0]}), make.op("Gather", {in[3], positions})});
    if (in[1] != kNoValue) sum = make.op("Add", {sum, make.op("Gather", {in[4], in[1]})});
    patch.replace(out[0], normalise(patch, node, "LayerNormalization", {sum, in[5], in[6]}, 1));
    if (part(out, 1) != kNoValue) {
        // The number of words that the mask leaves in, 0 without a mask.
        ValueId mask = part(in, 7);
        if (mask == kNoValue) mask = make.op("Mul", {in[0], make.cast(number(0), patch.fact(in[0]).dtype)});
        mask = make.op("ReduceSum", {make.cast(mask, DType::i32), make.ints({1})}, "keepdims", int64_t{0});
        patch.replace(out[1], mask);
    }
    if (part(out, 2) != kNoValue) patch.replace(out[2], sum);
    return true;
}

}  // namespace

std::span<const OpDef> skip_norm_ops() {
    static const OpDef rows[] = {
        {.name = "SkipLayerNormalization",
         .domain = "com.microsoft",
         .infer = infer_skip,
         .lower = lower_skip,
         .min_inputs = 3,
         .max_inputs = 5},
        {.name = "SkipSimplifiedLayerNormalization",
         .domain = "com.microsoft",
         .infer = infer_skip,
         .lower = lower_skip,
         .min_inputs = 3,
         .max_inputs = 4},
        {.name = "EmbedLayerNormalization",
         .domain = "com.microsoft",
         .infer = infer_embed,
         .lower = lower_embed,
         .min_inputs = 7,
         .max_inputs = 9,
         .may_omit = 1u << 1 | 1u << 4},
    };
    return rows;
}

}  // namespace linnet
