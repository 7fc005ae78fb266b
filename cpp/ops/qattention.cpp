// onnxruntime's quantized transformer operators (com.microsoft 1): Attention and EmbedLayerNormalization on dequantized
// operands.
// QAttention: input [batch, sequence, width], weights [width, q + k + v], bias, input_scale, weight_scale, mask_index?,
//   input_zero_point?, weight_zero_point? (weights: one for all or one a column), past? -> output, present?
// QEmbedLayerNormalization: input_ids, segment_ids?, word, position, segment embeddings?, gamma, beta, mask?, then five
//   scales and five zero points, of word, position, segment embeddings?, gamma, beta -> output, mask_index?
#include "ops/elementwise.h"

namespace linnet {
namespace {

constexpr DTypes kBytes = set_of({DType::u8, DType::i8});
constexpr size_t kScales = 8, kZeros = 13, kTables = 2;  // inputs of QEmbedLayerNormalization

ValueId operand(const Node& node, size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; }

ValueId dequantize(const Node& node, size_t x, size_t scale, size_t zero, Patch& patch) {
    ValueIds inputs{node.inputs[x], node.inputs[scale]};
    if (operand(node, zero) != kNoValue) inputs.push_back(node.inputs[zero]);
    return patch.node("DequantizeLinear", inputs, Attributes().set("axis", patch.fact(inputs[0]).rank() - 1));
}

// Becomes the operator `op` of onnxruntime on these inputs.
bool become(const Node& node, const char* op, ValueIds inputs, Patch& patch) {
    const auto outputs = static_cast<int>(node.outputs.size());
    ValueId made = patch.node(op, inputs, node.attributes, "com.microsoft", outputs);
    for (ValueId output : node.outputs) {
        if (output != kNoValue) patch.replace(output, made);
        ++made;
    }
    return true;
}

void infer_attention(InferContext& ctx) {
    check_dtype(ctx, 0, kBytes);
    check_dtype(ctx, 1, kBytes);
    for (int i : {2, 3, 4}) check_dtype(ctx, i, set_of({DType::f32}));
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    const int64_t heads = ctx.attributes.i("num_heads", 0);
    require(heads > 0, "num_heads is ", heads);
    require(x.ranked && x.rank() == 3 && w.ranked && w.rank() == 2, "the input must have rank 3, the weights 2");
    const int64_t width = ctx.dims.floor_div(w.shape[1], 3);
    int64_t keys = x.shape[1];
    if (ctx.has_input(8)) {
        const Fact& past = ctx.input(8);
        require(past.ranked && past.rank() == 5, "past must have rank 5");
        keys = ctx.dims.add(past.shape[3], keys);
    }
    ctx.output(0, DType::f32, {x.shape[0], x.shape[1], width});
    ctx.output(1, DType::f32, {2, x.shape[0], heads, keys, ctx.dims.floor_div(width, heads)});
}

bool lower_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId x = dequantize(node, 0, 3, 6, patch), w = dequantize(node, 1, 4, 7, patch);
    return become(node, "Attention", {x, w, node.inputs[2], operand(node, 5), operand(node, 8)}, patch);
}

void infer_embed(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::i32, DType::i64}));
    for (size_t i = kTables; i < kTables + 5; ++i) {
        const bool table = i < 5;
        if (i == 4 && !ctx.has_input(4)) continue;
        check_dtype(ctx, static_cast<int>(i), kBytes);
        const Fact& fact = ctx.input(static_cast<int>(i));
        require(fact.ranked && fact.rank() == (table ? 2 : 1), "input ", i, " must have rank ", table ? 2 : 1);
        const auto scale = static_cast<int>(i - kTables + kScales);
        require(ctx.has_input(scale), "input ", scale, ", the scale of input ", i, ", is left out");
    }
    const Fact& ids = ctx.input(0);
    require(!ids.ranked || ids.rank() == 2, "the ids must have rank 2");
    const int64_t batch = ids.ranked ? ids.shape[0] : kUnknownDim, length = ids.ranked ? ids.shape[1] : kUnknownDim;
    ctx.output(0, DType::f32, {batch, length, ctx.input(2).shape[1]});
    if (ctx.has_output(1)) ctx.output(1, DType::i32, {batch});
}

bool lower_embed(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueIds inputs{node.inputs[0], node.inputs[1]};
    for (size_t i = kTables; i < kTables + 5; ++i)
        inputs.push_back(node.inputs[i] == kNoValue
                             ? kNoValue
                             : dequantize(node, i, i - kTables + kScales, i - kTables + kZeros, patch));
    inputs.push_back(node.inputs[7]);
    return become(node, "EmbedLayerNormalization", std::move(inputs), patch);
}

}  // namespace

std::span<const OpDef> qattention_ops() {
    static const OpDef rows[] = {
        {.name = "QAttention",
         .domain = "com.microsoft",
         .infer = infer_attention,
         .lower = lower_attention,
         .min_inputs = 5,
         .max_inputs = 9},
        {.name = "QEmbedLayerNormalization",
         .domain = "com.microsoft",
         .infer = infer_embed,
         .lower = lower_embed,
         .min_inputs = 1,
         .max_inputs = 18},
    };
    return rows;
}

}  // namespace linnet
