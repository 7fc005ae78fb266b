// com.microsoft Attention, MultiHeadAttention and DecoderMaskedMultiHeadAttention: rewritten into ONNX's Attention,
// projections and masks around it.
//
// Attention: x [batch, sequence, width], weights [width, q + k + v], bias, mask_index, past [2, batch, heads, past,
//   head], attention_bias, past_sequence_length; outputs y, present.
// MultiHeadAttention: query, key, value (or query [batch, sequence, heads, 3, head], or key [batch, keys, heads, 2,
//   head], which hold several; or key and value [batch, heads, keys, head], which take no bias), bias [q + k + v],
//   key_padding_mask, attention_bias, past_key, past_value, past_sequence_length; outputs y, present_key,
//   present_value, qk.
// DecoderMaskedMultiHeadAttention: query, key, value, mask, attention_bias, past_key, past_value,
//   past_sequence_length, beam_width, cache_indirection (not supported), bias; outputs as MultiHeadAttention's.
//
// Attributes num_heads, unidirectional (0), scale, mask_filter_value (-10000), qkv_hidden_sizes. With
// past_sequence_length past and present are buffers of one length, of which so many rows are in use. Masks are int32:
// [batch, keys], [batch, sequence, keys] or [batch, 1, rows, columns] (of which the last queries of all keys are used)
// with 0 where masked; lengths [batch]; [2 batch], ends and then beginnings; [3 batch + 2], which begins with lengths.
#include <cmath>

#include "ops/shared/compose.h"
#include "ops/shared/facts.h"

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
    if (ctx.attributes.i("do_rotary", 0) != 0)
        fail(ErrorKind::not_implemented, "do_rotary is not supported: use RotaryEmbedding and MultiHeadAttention");
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
        keys = !past.ranked ? kUnknownDim : ctx.has_input(6) ? past.shape[3] : ctx.dims.add(past.shape[3], keys);
    }
    require(widths[1] == widths[2] || !ctx.has_output(1), "present needs k and v of one width");
    ctx.output(1, x.dtype, {2, x.shape[0], heads, keys, ctx.dims.floor_div(widths[1], heads)});
}

// Where MultiHeadAttention and DecoderMaskedMultiHeadAttention have their inputs.
struct Ports {
    int bias, mask, added, past, used, indirection;
};
Ports ports(const Node& node) {
    return node.op_type == "MultiHeadAttention" ? Ports{3, 4, 5, 6, 8, 9} : Ports{10, 3, 4, 5, 7, 9};
}

void infer_multi_head(InferContext& ctx) {
    const Ports at = ports(ctx.node());
    const int64_t heads = heads_of(ctx.attributes);
    const Fact& q = ctx.input(0);
    require(is_float(q.dtype), "query is ", dtype_name(q.dtype));
    refuse(ctx, {at.indirection}, "cache_indirection is not supported");
    require(!ctx.has_input(2) || ctx.has_input(1), "a value without a key");
    for (int i : {1, 2})
        require(!ctx.has_input(i) || ctx.input(i).dtype == q.dtype, "query is ", dtype_name(q.dtype), ", input ", i,
                " differs");
    require(ctx.has_input(at.past) == ctx.has_input(at.past + 1), "past_key and past_value must be given together");
    const auto unknown = [&] {
        for (int i = 0; i < ctx.outputs(); ++i) ctx.output_unranked(i, q.dtype);
    };
    // [batch, length, heads, depth] of each.
    Shape sizes[3];
    const bool one = !ctx.has_input(1), two = !one && !ctx.has_input(2);
    bool known = true;
    for (int i = 0; i < 3; ++i) {
        const Fact& fact = ctx.input(one ? 0 : two && i == 2 ? 1 : i);
        known = known && fact.ranked;
        if (!fact.ranked) continue;
        const Shape& d = fact.shape;
        if (one || (two && i > 0)) {
            require(d.size() == 5 && (!is_number(d[3]) || d[3] == (one ? 3 : 2)), "packed inputs are ", shape_text(d),
                    ", expected [batch, length, heads, ", one ? 3 : 2, ", head]");
            sizes[i] = {d[0], d[1], d[2], d[4]};
        } else if (i > 0 && d.size() == 4) {
            sizes[i] = {d[0], d[2], d[1], d[3]};
        } else {
            require(d.size() == 3, "input ", i, " has rank ", d.size(), ", expected 3");
            sizes[i] = {d[0], d[1], heads, ctx.dims.floor_div(d[2], heads)};
        }
        same_dim(ctx.dims, sizes[i][2], heads, "heads of an input against num_heads");
    }
    if (!known) return unknown();
    int64_t keys = sizes[1][1], rows = keys;
    if (ctx.has_input(at.past)) {
        const Fact& past = ctx.input(at.past);
        require(!past.ranked || past.rank() == 4, "past_key has rank ", past.rank(), ", expected 4");
        const bool shared = ctx.has_input(at.used);
        keys = past.ranked && !shared ? ctx.dims.add(past.shape[2], keys) : kUnknownDim;
        rows = past.ranked && shared ? past.shape[2] : keys;
    }
    ctx.output(0, q.dtype, {sizes[0][0], sizes[0][1], ctx.dims.mul(heads, sizes[2][3])});
    for (int i : {1, 2}) ctx.output(i, q.dtype, {sizes[0][0], heads, rows, sizes[static_cast<size_t>(i)][3]});
    ctx.output(3, q.dtype, {sizes[0][0], heads, sizes[0][1], keys});
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

// The float mask that an int32 mask and an attention bias make, or kNoValue. `total` is the number of keys with those
// of the past, `queries` that of queries, both int64 [1].
ValueId mask_of(const Graph& graph, Patch& patch, const Node& node, ValueId mask, ValueId bias, ValueId total,
                ValueId queries) {
    const Compose make{patch};
    const DType dtype = graph.fact(node.inputs[0]).dtype;
    ValueId out = kNoValue;
    if (mask != kNoValue) {
        const Fact& fact = graph.fact(mask);
        if (!fact.ranked || fact.rank() < 1 || fact.rank() > 4)
            fail(ErrorKind::not_implemented, "a mask of unknown rank is not supported");
        ValueId keep;
        if (fact.rank() == 1) {
            const Fact& x = graph.fact(node.inputs[0]);
            const int64_t batch = x.ranked ? x.shape[0] : kUnknownDim, count = fact.shape[0];
            const bool numbers = is_number(batch) && is_number(count);
            const auto times = [&](int64_t factor, int64_t more) {  // count == factor * batch + more, of any size
                return numbers && (count - more) % factor == 0 && (count - more) / factor == batch;
            };
            const bool both = times(2, 0);
            if (!(count == batch || both || times(3, 2)))
                fail(ErrorKind::not_implemented,
                     "a mask of one axis must hold a length per batch, or the batch must be known");
            const ValueId places = make.op(
                "Range", {patch.constant_ints({0}, true), make.op("Squeeze", {total}), patch.constant_ints({1}, true)});
            const ValueId all = make.cast(mask, DType::i64);
            const auto part = [&](int64_t first) {
                const ValueId some =
                    count == batch
                        ? all
                        : make.op("Slice", {all, make.ints({first * batch}), make.ints({(first + 1) * batch})});
                return make.op("Unsqueeze", {some, make.ints({1})});
            };
            keep = make.op("Less", {places, part(0)});
            if (both) keep = make.op("And", {keep, make.op("GreaterOrEqual", {places, part(1)})});
            keep = make.op("Unsqueeze", {keep, make.ints({1, 2})});
        } else {
            keep = make.cast(mask, DType::boolean);
            if (fact.rank() == 4)
                keep = make.op("Slice", {keep, make.join({make.op("Sub", {total, queries}), make.ints({0})}),
                                         make.join({total, total}), make.ints({2, 3})});
            else keep = make.op("Unsqueeze", {keep, fact.rank() == 2 ? make.ints({1, 2}) : make.ints({1})});
        }
        const float filter = node.attributes.f("mask_filter_value", -10000.0f);
        out = make.op("Where", {keep, patch.constant_float(0, dtype), patch.constant_float(filter, dtype)});
    }
    if (bias == kNoValue) return out;
    return out == kNoValue ? bias : make.op("Add", {out, bias});
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

// int64 [1]: axis `axis` of a value.
ValueId size_of(const Compose& make, ValueId value, int64_t axis) { return make.shape(value, axis, axis + 1); }

// The node, with the past's rows that are in use: all of it, or as many as `used` says. Gives y, the present keys and
// values where they are wanted, in buffers as long as the past where `used` is given, and the scores.
ValueIds attention_node(Patch& patch, const Node& node, ValueIds inputs, ValueId past_key, ValueId past_value,
                        ValueId used, ValueId fresh, bool wants_present, bool wants_scores) {
    const Compose make{patch};
    const ValueId pasts[] = {past_key, past_value};
    ValueId end = kNoValue;
    if (past_key != kNoValue) {
        if (used != kNoValue) end = make.op("Reshape", {make.cast(used, DType::i64), make.ints({1})});
        for (ValueId past : pasts)
            inputs.push_back(end == kNoValue ? past : make.op("Slice", {past, make.ints({0}), end, make.ints({2})}));
    }
    Node attention = copy_of(node);  // its name stays
    attention.op_type = "Attention";
    attention.domain = "";
    attention.op = find_op("", "Attention", kMaxOpset);
    attention.inputs = std::move(inputs);
    attention.attributes = attention_attributes(node);
    if (wants_scores) attention.attributes.set("qk_matmul_output_mode", int64_t{3});
    ValueIds out = patch.node(std::move(attention), wants_scores ? 4 : wants_present ? 3 : 1);
    if (end != kNoValue && wants_present) {
        const ValueId rest = make.op("Add", {end, fresh});
        for (size_t i : {0, 1}) {
            const ValueId tail = make.op("Slice", {pasts[i], rest, size_of(make, pasts[i], 2), make.ints({2})});
            out[1 + i] = make.op("Concat", {out[1 + i], tail}, "axis", int64_t{2});
        }
    }
    return out;
}

bool wanted(const Node& node, size_t i) { return i < node.outputs.size() && node.outputs[i] != kNoValue; }

// The number of keys with those of the past, int64 [1].
ValueId total_of(const Compose& make, ValueId fresh, ValueId past, int64_t axis, ValueId used) {
    if (past == kNoValue) return fresh;
    const ValueId before = used == kNoValue ? size_of(make, past, axis)
                                            : make.op("Reshape", {make.cast(used, DType::i64), make.ints({1})});
    return make.op("Add", {before, fresh});
}

bool lower_attention(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const Fact &w = graph.fact(node.inputs[1]), &x = graph.fact(node.inputs[0]);
    if (!w.ranked || !x.ranked) fail(ErrorKind::not_implemented, "weights of unknown rank");
    const Shape widths = widths_of(node.attributes, w.shape[1]);
    require(is_number(widths[0]), "the weights' width is not known");
    const auto input = [&](size_t i) { return given(node, i) ? node.inputs[i] : kNoValue; };
    ValueIds inputs;
    int64_t begin = 0;
    for (int64_t width : widths) {
        const int64_t end = begin + width;
        ValueId part = make.op("MatMul", {node.inputs[0], columns(graph, patch, node.inputs[1], begin, end)});
        if (given(node, 2)) part = make.op("Add", {part, columns(graph, patch, node.inputs[2], begin, end)});
        inputs.push_back(part);
        begin = end;
    }
    const ValueId length = given(node, 3) || given(node, 6) ? size_of(make, node.inputs[0], 1) : kNoValue;
    const ValueId total = given(node, 3) ? total_of(make, length, input(4), 3, input(6)) : kNoValue;
    inputs.push_back(mask_of(graph, patch, node, input(3), input(5), total, length));
    ValueId halves[2] = {kNoValue, kNoValue};
    for (int64_t i = 0; i < 2 && given(node, 4); ++i)
        halves[i] = make.op("Gather", {node.inputs[4], patch.constant_ints({i}, true)}, "axis", int64_t{0});
    const ValueIds out =
        attention_node(patch, node, inputs, halves[0], halves[1], input(6), length, wanted(node, 1), false);
    patch.replace(node.outputs[0], out[0]);
    if (wanted(node, 1)) {
        ValueIds parts;
        for (size_t i : {1, 2}) parts.push_back(make.op("Unsqueeze", {out[i], make.ints({0})}));
        patch.replace(node.outputs[1], make.op("Concat", {parts[0], parts[1]}, "axis", int64_t{0}));
    }
    return true;
}

bool lower_multi_head(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const Ports at = ports(node);
    const int64_t heads = heads_of(node.attributes);
    const auto input = [&](int i) {
        return given(node, static_cast<size_t>(i)) ? node.inputs[static_cast<size_t>(i)] : kNoValue;
    };
    ValueIds inputs;
    const bool one = input(1) == kNoValue, two = !one && input(2) == kNoValue;
    for (int i = 0; i < 3; ++i) {
        const bool packed = one || (two && i > 0);
        ValueId value = packed ? input(one ? 0 : 1) : input(i);
        if (packed) {  // [batch, length, heads, 3 or 2, head]
            value = make.op("Gather", {value, patch.constant_ints({one ? i : i - 1}, true)}, "axis", int64_t{3});
            value = make.op("Reshape", {value, make.ints({0, 0, -1})});
        }
        inputs.push_back(value);
    }
    const bool cross = graph.fact(inputs[1]).rank() == 4;
    if (input(at.bias) != kNoValue) {
        int64_t begin = 0;
        for (int i = 0; i < (cross ? 1 : 3); ++i) {
            ValueId& value = inputs[static_cast<size_t>(i)];
            const Fact& fact = patch.fact(value);
            if (!fact.ranked || !is_number(fact.shape.back()))
                fail(ErrorKind::not_implemented, "a bias for inputs of unknown width");
            const int64_t end = begin + fact.shape.back();
            value = make.op("Add", {value, columns(graph, patch, input(at.bias), begin, end)});
            begin = end;
        }
    }
    const ValueId queries = size_of(make, inputs[0], 1), fresh = size_of(make, inputs[1], cross ? 2 : 1);
    if (cross) {  // all in the order of key and value
        inputs[0] = make.op("Reshape", {inputs[0], make.ints({0, 0, heads, -1})});
        inputs[0] = make.op("Transpose", {inputs[0]}, "perm", std::vector<int64_t>{0, 2, 1, 3});
    }
    const ValueId past = input(at.past), used = past == kNoValue ? kNoValue : input(at.used);
    const ValueId total = input(at.mask) == kNoValue ? kNoValue : total_of(make, fresh, past, 2, used);
    inputs.push_back(mask_of(graph, patch, node, input(at.mask), input(at.added), total, queries));
    ValueIds out = attention_node(patch, node, inputs, past, past == kNoValue ? kNoValue : input(at.past + 1), used,
                                  fresh, wanted(node, 1) || wanted(node, 2), wanted(node, 3));
    if (cross) {
        out[0] = make.op("Transpose", {out[0]}, "perm", std::vector<int64_t>{0, 2, 1, 3});
        out[0] = make.op("Reshape", {out[0], make.ints({0, 0, -1})});
    }
    for (size_t i = 0; i < node.outputs.size(); ++i)
        if (wanted(node, i)) patch.replace(node.outputs[i], out[i]);
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
        {.name = "DecoderMaskedMultiHeadAttention",
         .domain = "com.microsoft",
         .infer = infer_multi_head,
         .lower = lower_multi_head,
         .min_inputs = 1,
         .max_inputs = 11},
    };
    return rows;
}

}  // namespace linnet
