// onnxruntime's fused normalisations (com.microsoft 1), taken apart into Add, Gather and the normalisation itself:
// SkipLayerNormalization: input, skip, gamma, beta?, bias? -> output, mean?, inv_std_var?, sum?
// SkipSimplifiedLayerNormalization: input, skip, gamma, bias? -> the same
// EmbedLayerNormalization: input_ids, segment_ids?, word, position, segment embeddings, gamma, beta, mask?,
//   position_ids? -> output, mask_index?, embedding_sum?
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

bool has(const ValueIds& values, size_t i) { return i < values.size() && values[i] != kNoValue; }

bool lower_skip(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const bool simple = simplified(*node.op);
    const size_t bias = simple ? 3 : 4;
    ValueId sum = patch.node("Add", {node.inputs[0], node.inputs[1]});
    if (has(node.inputs, bias)) sum = patch.node("Add", {sum, node.inputs[bias]});
    Attributes attributes;
    attributes.set("axis", int64_t{-1}).set("epsilon", node.attributes.f("epsilon", 1e-12f));
    if (simple) {
        Node norm;
        norm.op_type = "SimplifiedLayerNormalization";
        norm.op = find_op("", norm.op_type, kMaxOpset);
        norm.inputs = {sum, node.inputs[2]};
        norm.attributes = attributes;
        const ValueIds made = patch.node(std::move(norm), has(node.outputs, 2) ? 2 : 1);
        patch.replace(node.outputs[0], made[0]);
        if (has(node.outputs, 1))  // nothing is subtracted; the mean as such is not computed elsewhere either
            patch.replace(node.outputs[1],
                          patch.node("Cast", {patch.node("ReduceMean", {sum, patch.constant_ints({-1})})},
                                     Attributes().set("to", static_cast<int64_t>(DType::f32))));
        if (has(node.outputs, 2)) patch.replace(node.outputs[2], made[1]);
    } else {
        Node norm;
        norm.op_type = "LayerNormalization";
        norm.op = find_op("", norm.op_type, kMaxOpset);
        norm.inputs = {sum, node.inputs[2]};
        if (has(node.inputs, 3)) norm.inputs.push_back(node.inputs[3]);
        norm.attributes = attributes;
        const int outputs = has(node.outputs, 2) ? 3 : has(node.outputs, 1) ? 2 : 1;
        const ValueIds made = patch.node(std::move(norm), outputs);
        patch.replace(node.outputs[0], made[0]);
        for (size_t i = 1; i < 3; ++i)
            if (has(node.outputs, i)) patch.replace(node.outputs[i], made[i]);
    }
    if (has(node.outputs, 3)) patch.replace(node.outputs[3], sum);
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
    const Node node = graph.node(id);
    const auto look_up = [&](size_t table, ValueId ids) { return patch.node("Gather", {node.inputs[table], ids}); };
    ValueId positions;
    if (has(node.inputs, 8)) {
        positions = look_up(3, node.inputs[8]);
    } else {  // 0 ... length - 1
        const ValueId length =
            patch.node("Gather", {patch.node("Shape", {node.inputs[0]}), patch.constant_ints({1}, true)});
        positions =
            look_up(3, patch.node("Range", {patch.constant_ints({0}, true), length, patch.constant_ints({1}, true)}));
    }
    ValueId sum = patch.node("Add", {look_up(2, node.inputs[0]), positions});
    if (has(node.inputs, 1)) sum = patch.node("Add", {sum, look_up(4, node.inputs[1])});
    ValueIds inputs{sum, node.inputs[5]};
    if (has(node.inputs, 6)) inputs.push_back(node.inputs[6]);
    Attributes attributes;
    attributes.set("axis", int64_t{-1}).set("epsilon", node.attributes.f("epsilon", 1e-12f));
    patch.replace(node.outputs[0], patch.node("LayerNormalization", inputs, attributes));
    if (has(node.outputs, 1)) {
        // The number of words that the mask leaves in, 0 without a mask.
        const Attributes to = Attributes().set("to", static_cast<int64_t>(DType::i32));
        ValueId mask = has(node.inputs, 7) ? patch.node("Cast", {node.inputs[7]}, to)
                                           : patch.node("Mul", {patch.node("Cast", {node.inputs[0]}, to),
                                                                patch.constant(Tensor::scalar<int32_t>(0))});
        Attributes keep;
        keep.set("keepdims", int64_t{0});
        patch.replace(node.outputs[1], patch.node("ReduceSum", {mask, patch.constant_ints({1})}, keep));
    }
    if (has(node.outputs, 2)) patch.replace(node.outputs[2], sum);
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
