// Operators of com.microsoft (1) that are a few of ONNX's in one, taken apart again:
// BiasAdd: x + bias + skip. BiasSoftmax: Softmax of data + bias over all axes from `axis` (1) on.
// BiasSplitGelu: of the halves a, b of the last axis of x + bias, a * Gelu(b).
// GroupNorm: x, gamma, beta; SkipGroupNorm: x, gamma, beta, skip, bias? -> y, x + skip + bias. Attributes groups,
//   epsilon (1e-5), activation (1: SiLU), channels_last (1).
// Trilu: ONNX's. UnfoldTensor: slices of `size` elements, `step` (1) apart, along axis `dim` (-1); the last axis of the
//   result is that within a slice.
#include "ops/shared/compose.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"
#include "ops/spatial/layouts.h"

namespace linnet {
namespace {

bool has(const Node& node, size_t i) { return i < node.inputs.size() && node.inputs[i] != kNoValue; }

int64_t rank_of(const Graph& graph, const Node& node) {
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked) fail(ErrorKind::not_implemented, node.op_type, " of an input whose rank is not known");
    return x.rank();
}

bool finish(const Node& node, ValueId y, Patch& patch) {
    patch.replace(node.outputs[0], y);
    return true;
}

bool lower_bias_add(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    return finish(node, make.op("Add", {make.op("Add", {node.inputs[0], node.inputs[1]}), node.inputs[2]}), patch);
}

bool lower_bias_softmax(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const int64_t rank = rank_of(graph, node), axis = normal_axis(node.attributes.i("axis", 1), rank);
    ValueId y = make.op("Add", {node.inputs[0], node.inputs[1]});
    const bool flat = axis + 1 < rank;
    if (flat) y = make.op("Flatten", {y}, "axis", axis);
    y = make.op("Softmax", {y}, "axis", int64_t{-1});
    if (flat) y = make.op("Reshape", {y, make.shape(node.inputs[0])});
    return finish(node, y, patch);
}

void infer_split_gelu(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    require(x.rank() >= 1 && (!is_number(x.shape.back()) || x.shape.back() % 2 == 0), "x is ", shape_text(x.shape),
            ", expected an even last axis");
    Shape shape = x.shape;
    shape.back() = ctx.dims.floor_div(shape.back(), 2);
    ctx.output(0, x.dtype, shape);
}

bool lower_split_gelu(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const ValueId sum = make.op("Add", {node.inputs[0], node.inputs[1]});
    const ValueId left = patch.node("Split", {sum}, Attributes().set("axis", int64_t{-1}), "", 2);
    return finish(node, make.op("Mul", {left, make.op("Gelu", {left + 1})}), patch);
}

void infer_group_norm(InferContext& ctx) {
    infer_float_like_input(ctx);
    const Fact& x = ctx.input(0);
    require(ctx.attributes.i("groups", 0) > 0, "groups is ", ctx.attributes.i("groups", 0));
    require(!x.ranked || x.rank() == 4, "x has rank ", x.rank(), ", expected 4");
    ctx.output(1, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

bool lower_group_norm(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const bool last = node.attributes.i("channels_last", 1) != 0;
    const DType dtype = graph.fact(node.inputs[0]).dtype;
    rank_of(graph, node);
    ValueId sum = node.inputs[0];
    if (has(node, 3)) {
        ValueId skip = node.inputs[3];
        if (graph.fact(skip).rank() == 2)
            skip = make.op("Unsqueeze", {skip, last ? make.ints({1, 2}) : make.ints({2, 3})});
        sum = make.op("Add", {sum, skip});
    }
    if (has(node, 4)) {
        ValueId bias = node.inputs[4];
        if (!last) bias = make.op("Unsqueeze", {bias, make.ints({1, 2})});
        sum = make.op("Add", {sum, bias});
    }
    ValueId y = make.cast(sum, DType::f32);
    if (last) y = transpose(patch, y, to_channels_first(2));
    Attributes attributes;
    attributes.set("num_groups", node.attributes.i("groups", 0)).set("epsilon", node.attributes.f("epsilon", 1e-5f));
    y = patch.node("GroupNormalization",
                   {y, make.cast(node.inputs[1], DType::f32), make.cast(node.inputs[2], DType::f32)}, attributes);
    if (node.attributes.i("activation", 0) == 1)
        y = patch.node("QuickGelu", {y}, Attributes().set("alpha", 1.0f), "com.microsoft");
    if (last) y = transpose(patch, y, to_channels_last(2));
    if (node.outputs.size() > 1 && node.outputs[1] != kNoValue) patch.replace(node.outputs[1], sum);
    return finish(node, make.cast(y, dtype), patch);
}

void infer_like_input(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    ctx.output(0, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

bool lower_trilu(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    return finish(node, patch.node("Trilu", node.inputs, node.attributes), patch);
}

void infer_unfold(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    const int64_t size = ctx.attributes.i("size", 0), step = ctx.attributes.i("step", 1);
    require(size > 0 && step > 0, "size is ", size, ", step ", step);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    Shape shape = x.shape;
    int64_t& length = shape[static_cast<size_t>(normal_axis(ctx.attributes.i("dim", -1), x.rank()))];
    require(!is_number(length) || length >= size, "slices of ", size, " from an axis of ", length);
    length = ctx.dims.add(ctx.dims.floor_div(ctx.dims.sub(length, size), step), 1);
    shape.push_back(size);
    ctx.output(0, x.dtype, shape);
}

bool lower_unfold(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const int64_t rank = rank_of(graph, node), axis = normal_axis(node.attributes.i("dim", -1), rank);
    const auto number = [&](int64_t value) { return patch.constant_ints({value}, true); };
    const auto range = [&](ValueId end, int64_t step) { return make.op("Range", {number(0), end, number(step)}); };
    const ValueId size = number(node.attributes.i("size", 0));
    const ValueId length = make.op("Squeeze", {make.shape(node.inputs[0], axis, axis + 1)});
    const ValueId end = make.op("Add", {make.op("Sub", {length, size}), number(1)});
    const ValueId starts = make.op("Unsqueeze", {range(end, node.attributes.i("step", 1)), make.ints({1})});
    const ValueId y = make.op("Gather", {node.inputs[0], make.op("Add", {starts, range(size, 1)})}, "axis", axis);
    std::vector<int64_t> perm;
    for (int64_t i = 0; i <= rank; ++i)
        if (i != axis + 1) perm.push_back(i);
    perm.push_back(axis + 1);
    return finish(node, transpose(patch, y, perm), patch);
}

constexpr OpDef row(std::string_view name, void (*infer)(InferContext&), bool (*lower)(const Graph&, NodeId, Patch&),
                    int fewest, int most) {
    return {.name = name,
            .domain = "com.microsoft",
            .infer = infer,
            .lower = lower,
            .min_inputs = fewest,
            .max_inputs = most};
}

}  // namespace

std::span<const OpDef> fused_ops() {
    static const OpDef rows[] = {
        row("BiasAdd", infer_float_like_input, lower_bias_add, 3, 3),
        row("BiasSoftmax", infer_float_like_input, lower_bias_softmax, 2, 2),
        row("BiasSplitGelu", infer_split_gelu, lower_split_gelu, 2, 2),
        row("GroupNorm", infer_group_norm, lower_group_norm, 3, 3),
        row("SkipGroupNorm", infer_group_norm, lower_group_norm, 4, 5),
        row("Trilu", infer_like_input, lower_trilu, 1, 2),
        row("UnfoldTensor", infer_unfold, lower_unfold, 1, 1),
    };
    return rows;
}

}  // namespace linnet
