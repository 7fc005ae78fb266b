// com.microsoft Attention and MultiHeadAttention: rewritten into ONNX's Attention, projections and masks around it.
//
// Attention: x [batch, sequence, width], weights [width, q + k + v], bias, mask_index, past [2, batch, heads, past,
// head], attention_bias; outputs y, present. MultiHeadAttention: query, key, value, bias [q + k + v], key_padding_mask,
// attention_bias, past_key, past_value; outputs y, present_key, present_value. Attributes num_heads, unidirectional
// (0), scale, mask_filter_value (-10000), qkv_hidden_sizes. Masks: int32, [batch, keys] or [batch, sequence, keys] with
// 0 where masked, or [batch] lengths.
#include <cmath>

#include "graph/op.h"

namespace linnet {
namespace {

bool given(const Node& node, size_t i) { return i < node.inputs.size() && node.inputs[i] != kNoValue; }

int64_t heads_of(const Attributes& attributes) {
    const int64_t heads = attributes.i("num_heads", 0);
    require(heads > 0 && heads < (1 << 20), "num_heads is ", heads);
    return heads;
}

// Widths of q, k and v; the total is that of the weights.
Shape widths_of(const Attributes& attributes, int64_t total) {
    const auto sizes = attributes.ints("qkv_hidden_sizes");
    if (!sizes.empty()) {
        require(sizes.size() == 3, "qkv_hidden_sizes has ", sizes.size(), " elements, expected 3");
        for (int64_t size : sizes) require(size > 0 && size < (int64_t{1} << 31), "qkv_hidden_sizes holds ", size);
        require(!is_number(total) || sizes[0] + sizes[1] + sizes[2] == total, "weights have ", total, " columns");
        return Shape(sizes.begin(), sizes.end());
    }
    require(!is_number(total) || total % 3 == 0, "weights have ", total, " columns: no multiple of 3");
    const int64_t third = is_number(total) ? total / 3 : kUnknownDim;
    return {third, third, third};
}

void refuse(const InferContext& ctx, std::initializer_list<int> inputs, const char* what) {
    for (int i : inputs)
        if (ctx.has_input(i)) fail(ErrorKind::not_implemented, what);
}

void infer_attention(InferContext& ctx) {
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    const int64_t heads = heads_of(ctx.attributes);
    require(is_float(x.dtype) && w.dtype == x.dtype, "x is ", dtype_name(x.dtype), ", weights are ",
            dtype_name(w.dtype));
    require(ctx.attributes.i("do_rotary", 0) == 0, "do_rotary is not supported");
    refuse(ctx, {6}, "past_sequence_length (a shared buffer) is not supported");
    if (!x.ranked || !w.ranked) {
        ctx.output_unranked(0, x.dtype);
        return ctx.output_unranked(1, x.dtype);
    }
    require(x.rank() == 3 && w.rank() == 2, "x has rank ", x.rank(), ", weights rank ", w.rank());
    const Shape widths = widths_of(ctx.attributes, w.shape[1]);
    require(widths[0] == widths[1], "q and k have different widths");
    ctx.output(0, x.dtype, {x.shape[0], x.shape[1], widths[2]});
    int64_t keys = x.shape[1];
    if (ctx.has_input(4)) {
        const Fact& past = ctx.input(4);
        require(past.dtype == x.dtype, "past is ", dtype_name(past.dtype));
        require(!past.ranked || past.rank() == 5, "past has rank ", past.rank(), ", expected 5");
        keys = past.ranked ? ctx.dims.add(past.shape[3], keys) : kUnknownDim;
    }
    require(widths[1] == widths[2] || !ctx.has_output(1), "present needs k and v of one width");
    ctx.output(1, x.dtype, {2, x.shape[0], heads, keys, ctx.dims.floor_div(widths[1], heads)});
}

void infer_multi_head(InferContext& ctx) {
    const int64_t heads = heads_of(ctx.attributes);
    const Fact& q = ctx.input(0);
    require(is_float(q.dtype), "query is ", dtype_name(q.dtype));
    if (!ctx.has_input(1) || !ctx.has_input(2))
        fail(ErrorKind::not_implemented, "packed queries, keys and values are not supported");
    refuse(ctx, {8, 9}, "past_sequence_length and cache_indirection are not supported");
    const Fact &k = ctx.input(1), &v = ctx.input(2);
    require(k.dtype == q.dtype && v.dtype == q.dtype, "query is ", dtype_name(q.dtype), ", key ", dtype_name(k.dtype));
    for (int i = 0; i < 3; ++i)
        if (const Fact& fact = ctx.input(i); fact.ranked && fact.rank() != 3)
            fail(ErrorKind::not_implemented, "input ", i, " has rank ", fact.rank(), ", only 3 is supported");
    if (!q.ranked || !k.ranked || !v.ranked) {
        for (int i = 0; i < 3; ++i) ctx.output_unranked(i, q.dtype);
        return;
    }
    int64_t keys = k.shape[1];
    require(ctx.has_input(6) == ctx.has_input(7), "past_key and past_value must be given together");
    if (ctx.has_input(6)) {
        const Fact& past = ctx.input(6);
        require(!past.ranked || past.rank() == 4, "past_key has rank ", past.rank(), ", expected 4");
        keys = past.ranked ? ctx.dims.add(past.shape[2], keys) : kUnknownDim;
    }
    ctx.output(0, q.dtype, {q.shape[0], q.shape[1], v.shape[2]});
    ctx.output(1, q.dtype, {q.shape[0], heads, keys, ctx.dims.floor_div(k.shape[2], heads)});
    ctx.output(2, q.dtype, {q.shape[0], heads, keys, ctx.dims.floor_div(v.shape[2], heads)});
}

// Columns [begin, end) of the last axis: a constant's at once.
ValueId columns(const Graph& graph, Patch& patch, ValueId value, int64_t begin, int64_t end) {
    const Tensor* constant = graph.constant(value);
    if (!constant)
        return patch.node("Slice",
                          {value, patch.constant_ints({begin}), patch.constant_ints({end}), patch.constant_ints({-1})});
    Shape shape = constant->shape;
    require(!shape.empty() && end <= shape.back(), "weights or bias of shape ", shape_text(shape), " have no ", end,
            " columns");
    const int64_t width = shape.back(), rows = width ? constant->count() / width : 0;
    shape.back() = end - begin;
    Tensor out = Tensor::allocate(constant->dtype, shape);
    const size_t size = dtype_size(constant->dtype);
    for (int64_t i = 0; i < rows; ++i)
        std::copy_n(constant->as<char>() + static_cast<size_t>(i * width + begin) * size,
                    static_cast<size_t>(end - begin) * size,
                    out.as<char>() + static_cast<size_t>(i * (end - begin)) * size);
    return patch.constant(std::move(out));
}

Attributes cast_to(DType type) { return Attributes().set("to", static_cast<int64_t>(type)); }

// The float mask that an int32 mask and an attention bias make, or kNoValue. `keys` is [batch, keys, ...].
ValueId mask_of(const Graph& graph, Patch& patch, const Node& node, ValueId mask, ValueId bias, ValueId keys, DType d) {
    ValueId out = kNoValue;
    if (mask != kNoValue) {
        const Fact& fact = graph.fact(mask);
        if (!fact.ranked || fact.rank() < 1 || fact.rank() > 3)
            fail(ErrorKind::not_implemented, "a mask of unknown rank or of 4 axes is not supported");
        ValueId keep;
        if (fact.rank() == 1) {
            if (!graph.fact(keys).ranked || fact.shape[0] != graph.fact(keys).shape[0])
                fail(ErrorKind::not_implemented, "a mask of one axis must hold a length per batch");
            const ValueId count = patch.node(
                "Squeeze", {patch.node("Shape", {keys}, Attributes().set("start", int64_t{1}).set("end", int64_t{2}))});
            const ValueId places =
                patch.node("Range", {patch.constant_ints({0}, true), count, patch.constant_ints({1}, true)});
            const ValueId lengths =
                patch.node("Unsqueeze", {patch.node("Cast", {mask}, cast_to(DType::i64)), patch.constant_ints({1})});
            keep = patch.node("Unsqueeze", {patch.node("Less", {places, lengths}), patch.constant_ints({1, 2})});
        } else {
            keep = patch.node("Cast", {mask}, cast_to(DType::boolean));
            keep = patch.node("Unsqueeze",
                              {keep, fact.rank() == 2 ? patch.constant_ints({1, 2}) : patch.constant_ints({1})});
        }
        const float filter = node.attributes.f("mask_filter_value", -10000.0f);
        out = patch.node("Where", {keep, patch.constant_float(0, d), patch.constant_float(filter, d)});
    }
    if (bias == kNoValue) return out;
    return out == kNoValue ? bias : patch.node("Add", {out, bias});
}

Attributes attention_attributes(const Node& node) {
    Attributes attributes;
    const int64_t heads = heads_of(node.attributes);
    attributes.set("q_num_heads", heads).set("kv_num_heads", heads);
    attributes.set("is_causal", node.attributes.i("unidirectional", 0));
    const float scale = node.attributes.f("scale", 0);
    if (scale != 0) attributes.set("scale", scale);
    return attributes;
}

// Present keys and values are made only when the node has them as outputs.
ValueIds attention_node(Patch& patch, const Node& node, const ValueIds& inputs) {
    bool present = false;
    for (size_t i = 1; i < node.outputs.size(); ++i) present |= node.outputs[i] != kNoValue;
    Node attention;
    attention.name = node.name;
    attention.op_type = "Attention";
    attention.op = find_op("", "Attention", kMaxOpset);
    attention.inputs = inputs;
    attention.attributes = attention_attributes(node);
    return patch.node(std::move(attention), present ? 3 : 1);
}

bool lower_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact &w = graph.fact(node.inputs[1]), &x = graph.fact(node.inputs[0]);
    if (!w.ranked || !x.ranked) fail(ErrorKind::not_implemented, "weights of unknown rank");
    const Shape widths = widths_of(node.attributes, w.shape[1]);
    require(is_number(widths[0]), "the weights' width is not known");
    ValueIds inputs;
    int64_t begin = 0;
    for (int64_t width : widths) {
        const int64_t end = begin + width;
        ValueId part = patch.node("MatMul", {node.inputs[0], columns(graph, patch, node.inputs[1], begin, end)});
        if (given(node, 2)) part = patch.node("Add", {part, columns(graph, patch, node.inputs[2], begin, end)});
        inputs.push_back(part);
        begin = end;
    }
    inputs.push_back(mask_of(graph, patch, node, given(node, 3) ? node.inputs[3] : kNoValue,
                             given(node, 5) ? node.inputs[5] : kNoValue, node.inputs[0], x.dtype));
    if (given(node, 4)) {
        if (given(node, 3) && graph.fact(node.inputs[3]).rank() == 1)
            fail(ErrorKind::not_implemented, "a mask of lengths with past is not supported");
        for (int64_t i : {0, 1})
            inputs.push_back(patch.node("Gather", {node.inputs[4], patch.constant_ints({i}, true)},
                                        Attributes().set("axis", int64_t{0})));
    }
    const ValueIds out = attention_node(patch, node, inputs);
    patch.replace(node.outputs[0], out[0]);
    if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) {
        ValueIds halves;
        for (size_t i : {1, 2}) halves.push_back(patch.node("Unsqueeze", {out[i], patch.constant_ints({0})}));
        patch.replace(node.outputs[1], patch.node("Concat", halves, Attributes().set("axis", int64_t{0})));
    }
    return true;
}

bool lower_multi_head(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueIds inputs{node.inputs[0], node.inputs[1], node.inputs[2]};
    if (given(node, 3)) {
        int64_t begin = 0;
        for (size_t i = 0; i < 3; ++i) {
            const Fact& fact = graph.fact(node.inputs[i]);
            if (!fact.ranked || !is_number(fact.shape.back()))
                fail(ErrorKind::not_implemented, "a bias for inputs of unknown width");
            const int64_t end = begin + fact.shape.back();
            inputs[i] = patch.node("Add", {inputs[i], columns(graph, patch, node.inputs[3], begin, end)});
            begin = end;
        }
    }
    if (given(node, 4) && given(node, 6) && graph.fact(node.inputs[4]).rank() == 1)
        fail(ErrorKind::not_implemented, "a mask of lengths with past is not supported");
    inputs.push_back(mask_of(graph, patch, node, given(node, 4) ? node.inputs[4] : kNoValue,
                             given(node, 5) ? node.inputs[5] : kNoValue, node.inputs[1],
                             graph.fact(node.inputs[0]).dtype));
    if (given(node, 6)) {
        inputs.push_back(node.inputs[6]);
        inputs.push_back(node.inputs[7]);
    }
    const ValueIds out = attention_node(patch, node, inputs);
    for (size_t i = 0; i < node.outputs.size() && i < 3; ++i)
        if (node.outputs[i] != kNoValue) patch.replace(node.outputs[i], out[i]);
    return true;
}

}  // namespace

std::span<const OpDef> multi_head_attention_ops() {
    static const OpDef rows[] = {
        {.name = "Attention",
         .domain = "com.microsoft",
         .infer = infer_attention,
         .lower = lower_attention,
         .min_inputs = 2,
         .max_inputs = 7},
        {.name = "MultiHeadAttention",
         .domain = "com.microsoft",
         .infer = infer_multi_head,
         .lower = lower_multi_head,
         .min_inputs = 1,
         .max_inputs = 10},
    };
    return rows;
}

}  // namespace linnet
