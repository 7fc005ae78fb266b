// The quantized operators of com.microsoft that are not products: QLinearAdd, QLinearMul, QLinearWhere, QLinearSigmoid,
// QLinearLeakyRelu, QLinearSoftmax, QLinearConcat, QLinearGlobalAveragePool, QLinearAveragePool. Each means what its
// QDQ form says (dequantize, the float operator, quantize), and becomes that. So does QLinearReduceMean (attributes
// axes, keepdims).
#include <string>
#include <vector>

#include "ops/elementwise.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

constexpr DTypes kBytes = set_of({DType::u8, DType::i8});

ValueId operand(const Node& node, size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; }

ValueId dequantize(Patch& patch, ValueId x, ValueId scale, ValueId zero) {
    return zero == kNoValue ? patch.node("DequantizeLinear", {x, scale})
                            : patch.node("DequantizeLinear", {x, scale, zero});
}

// Quantizes and becomes the node's output. Without a zero point the dtype of the inputs stays.
bool finish(const Graph& graph, const Node& node, Patch& patch, ValueId real, ValueId scale, ValueId zero) {
    const DType dtype = graph.fact(node.outputs[0]).dtype;
    if (zero == kNoValue) {
        Tensor nothing = Tensor::allocate(dtype, {});
        *nothing.as<uint8_t>() = 0;
        zero = patch.constant(std::move(nothing));
    }
    patch.replace(node.outputs[0], patch.node("QuantizeLinear", {real, scale, zero}));
    return true;
}

void check_bytes(const InferContext& ctx, int i) { check_dtype(ctx, i, kBytes); }

// Scale (float32) and zero point (as x) of one tensor: single elements.
void check_parameters(const InferContext& ctx, int scale, int zero, DType dtype) {
    check_dtype(ctx, scale, set_of({DType::f32}));
    for (int i : {scale, zero}) {
        if (!ctx.has_input(i)) continue;
        const Fact& fact = ctx.input(i);
        if (fact.is_static() && element_count(fact.shape) != 1)
            fail(ErrorKind::invalid_graph, "input ", i, " is ", shape_text(fact.shape), ", expected one element");
    }
    if (ctx.has_input(zero) && ctx.input(zero).dtype != dtype && dtype != DType::undefined)
        fail(ErrorKind::invalid_graph, "input ", zero, " is ", dtype_name(ctx.input(zero).dtype), ", expected ",
             dtype_name(dtype));
}

// a, a_scale, a_zero, b, b_scale, b_zero, c_scale, c_zero
void infer_two(InferContext& ctx) {
    check_bytes(ctx, 0);
    check_bytes(ctx, 3);
    const DType dtype = ctx.input(0).dtype;
    if (ctx.input(3).dtype != dtype) fail(ErrorKind::invalid_graph, "the operands differ in dtype");
    check_parameters(ctx, 1, 2, dtype);
    check_parameters(ctx, 4, 5, dtype);
    check_parameters(ctx, 6, 7, dtype);
    Shape shape;
    ctx.output(0, ctx.broadcast({0, 3}, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype));
}
bool lower_two(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId a = dequantize(patch, node.inputs[0], node.inputs[1], operand(node, 2));
    const ValueId b = dequantize(patch, node.inputs[3], node.inputs[4], operand(node, 5));
    const std::string op = node.op_type == "QLinearAdd" ? "Add" : "Mul";
    return finish(graph, node, patch, patch.node(op, {a, b}), node.inputs[6], operand(node, 7));
}

// condition, x, x_scale, x_zero, y, y_scale, y_zero, z_scale, z_zero
void infer_where(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::boolean}));
    check_bytes(ctx, 1);
    check_bytes(ctx, 4);
    const DType dtype = ctx.input(1).dtype;
    if (ctx.input(4).dtype != dtype) fail(ErrorKind::invalid_graph, "the operands differ in dtype");
    for (int i : {2, 5, 7}) check_parameters(ctx, i, i + 1, dtype);
    Shape shape;
    ctx.output(0, ctx.broadcast({0, 1, 4}, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype));
}
bool lower_where(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId x = dequantize(patch, node.inputs[1], node.inputs[2], node.inputs[3]);
    const ValueId y = dequantize(patch, node.inputs[4], node.inputs[5], node.inputs[6]);
    return finish(graph, node, patch, patch.node("Where", {node.inputs[0], x, y}), node.inputs[7], node.inputs[8]);
}

// x, x_scale, x_zero, y_scale, y_zero
void check_one(InferContext& ctx) {
    check_bytes(ctx, 0);
    check_parameters(ctx, 1, 2, ctx.input(0).dtype);
    check_parameters(ctx, 3, 4, ctx.input(0).dtype);
}
void infer_one(InferContext& ctx) {
    check_one(ctx);
    infer_same(ctx);
}
ValueId real_input(const Node& node, Patch& patch) {
    return dequantize(patch, node.inputs[0], node.inputs[1], operand(node, 2));
}
bool finish_one(const Graph& graph, const Node& node, Patch& patch, ValueId real) {
    return finish(graph, node, patch, real, node.inputs[3], operand(node, 4));
}
bool lower_sigmoid(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    return finish_one(graph, node, patch, patch.node("Sigmoid", {real_input(node, patch)}));
}
bool lower_leaky_relu(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    Attributes attributes;
    attributes.set("alpha", node.attributes.f("alpha", 0.01f));
    return finish_one(graph, node, patch, patch.node("LeakyRelu", {real_input(node, patch)}, std::move(attributes)));
}

// The attribute `opset` tells which Softmax is meant: before 13 it runs over all axes from `axis` on.
bool lower_softmax(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked) return false;
    const bool flat = node.attributes.i("opset", 13) < 13;
    int64_t axis = node.attributes.i("axis", flat ? 1 : -1);
    ValueId real = real_input(node, patch);
    Attributes last;
    if (flat && normal_axis(axis, x.rank()) + 1 < x.rank()) {
        const ValueId shape = patch.node("Shape", {node.inputs[0]});
        real = patch.node("Flatten", {real}, Attributes().set("axis", axis));
        real = patch.node("Softmax", {real}, last.set("axis", int64_t{-1}));
        real = patch.node("Reshape", {real, shape});
    } else {
        real = patch.node("Softmax", {real}, last.set("axis", axis));
    }
    return finish_one(graph, node, patch, real);
}

bool channels_last(const Attributes& attributes) { return attributes.i("channels_last", 0) != 0; }

void infer_global_pool(InferContext& ctx) {
    check_one(ctx);
    const Fact& x = ctx.input(0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    if (x.rank() < 3) fail(ErrorKind::invalid_graph, "the input has rank ", x.rank(), ", expected at least 3");
    Shape shape = x.shape;
    const size_t first = channels_last(ctx.attributes) ? 1 : 2;
    for (size_t i = first; i < first + shape.size() - 2; ++i) shape[i] = 1;
    ctx.output(0, x.dtype, shape);
}

void infer_pool(InferContext& ctx) {
    check_one(ctx);
    const Fact& x = ctx.input(0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    if (x.rank() < 3 || x.rank() > 2 + static_cast<int64_t>(kMaxSpatial))
        fail(ErrorKind::invalid_graph, "the input has rank ", x.rank(), ", expected 3 to ", 2 + kMaxSpatial);
    const auto spatial = static_cast<size_t>(x.rank() - 2);
    const WindowAttributes window = read_window(ctx.attributes, spatial, nullptr);
    Shape shape = x.shape;
    const size_t first = channels_last(ctx.attributes) ? 1 : 2;
    for (size_t i = 0; i < spatial; ++i) shape[first + i] = window_output(ctx.dims, window, i, x.shape[first + i]);
    ctx.output(0, x.dtype, shape);
}

bool lower_pool(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked) return false;
    const bool last = channels_last(node.attributes);
    ValueId real = real_input(node, patch);
    if (last) real = transpose(patch, real, to_channels_first(x.rank() - 2));
    if (node.op_type == "QLinearGlobalAveragePool") {
        real = patch.node("GlobalAveragePool", {real});
    } else {
        Attributes attributes = node.attributes;
        attributes.erase("channels_last");
        real = patch.node("AveragePool", {real}, std::move(attributes));
    }
    if (last) real = transpose(patch, real, to_channels_last(x.rank() - 2));
    return finish_one(graph, node, patch, real);
}

void infer_mean(InferContext& ctx) {
    check_one(ctx);
    const Fact& x = ctx.input(0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    Shape shape = x.shape, kept;
    const std::vector<int64_t> axes = ctx.attributes.ints("axes");
    if (axes.empty()) std::fill(shape.begin(), shape.end(), 1);
    std::vector<bool> gone(shape.size(), axes.empty());
    for (int64_t given : axes) {
        const auto axis = static_cast<size_t>(normal_axis(given, x.rank()));
        shape[axis] = 1;
        gone[axis] = true;
    }
    for (size_t i = 0; i < shape.size(); ++i)
        if (!gone[i] || ctx.attributes.i("keepdims", 1)) kept.push_back(shape[i]);
    ctx.output(0, x.dtype, kept);
}
bool lower_mean(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueIds inputs{real_input(node, patch), patch.constant_ints(node.attributes.ints("axes"))};
    return finish_one(graph, node, patch,
                      patch.node("ReduceMean", inputs, Attributes().set("keepdims", node.attributes.i("keepdims", 1))));
}

// y_scale, y_zero, then x, x_scale, x_zero of each part
void infer_concat(InferContext& ctx) {
    if (ctx.inputs() < 5 || (ctx.inputs() - 2) % 3 != 0)
        fail(ErrorKind::invalid_graph, "got ", ctx.inputs(), " inputs, expected two and three for each part");
    const DType dtype = ctx.input(2).dtype;
    check_parameters(ctx, 0, 1, dtype);
    bool ranked = true;
    for (int i = 2; i < ctx.inputs(); i += 3) {
        check_bytes(ctx, i);
        check_parameters(ctx, i + 1, i + 2, ctx.input(i).dtype);
        ranked = ranked && ctx.input(i).ranked;
    }
    const DType result = ctx.has_input(1) ? ctx.input(1).dtype : dtype;
    if (!ranked) return ctx.output_unranked(0, result);
    Shape shape = ctx.input(2).shape;
    const int64_t rank = ctx.input(2).rank();
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), rank));
    for (int i = 5; i < ctx.inputs(); i += 3) {
        const Fact& x = ctx.input(i);
        if (x.rank() != rank) fail(ErrorKind::invalid_graph, "parts of rank ", rank, " and ", x.rank());
        for (size_t d = 0; d < shape.size(); ++d) {
            if (d == axis) shape[d] = ctx.dims.add(shape[d], x.shape[d]);
            else if (is_number(shape[d]) && is_number(x.shape[d]) && shape[d] != x.shape[d])
                fail(ErrorKind::invalid_argument, "parts of sizes ", shape[d], " and ", x.shape[d], " on axis ", d);
            else if (!is_number(shape[d])) shape[d] = x.shape[d];
        }
    }
    ctx.output(0, result, shape);
}
bool lower_concat(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueIds parts;
    for (size_t i = 2; i + 2 < node.inputs.size(); i += 3)
        parts.push_back(dequantize(patch, node.inputs[i], node.inputs[i + 1], node.inputs[i + 2]));
    const ValueId real = patch.node("Concat", parts, Attributes().set("axis", node.attributes.i("axis", 0)));
    return finish(graph, node, patch, real, node.inputs[0], node.inputs[1]);
}

}  // namespace

std::span<const OpDef> qlinear_ops() {
    static constexpr std::string_view kDomain = "com.microsoft";
    static const OpDef rows[] = {
        {.name = "QLinearAdd",
         .domain = kDomain,
         .infer = infer_two,
         .lower = lower_two,
         .min_inputs = 7,
         .max_inputs = 8,
         .may_omit = 1u << 2 | 1u << 5},
        {.name = "QLinearMul",
         .domain = kDomain,
         .infer = infer_two,
         .lower = lower_two,
         .min_inputs = 7,
         .max_inputs = 8,
         .may_omit = 1u << 2 | 1u << 5},
        {.name = "QLinearWhere",
         .domain = kDomain,
         .infer = infer_where,
         .lower = lower_where,
         .min_inputs = 9,
         .max_inputs = 9},
        {.name = "QLinearSigmoid",
         .domain = kDomain,
         .infer = infer_one,
         .lower = lower_sigmoid,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearLeakyRelu",
         .domain = kDomain,
         .infer = infer_one,
         .lower = lower_leaky_relu,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearSoftmax",
         .domain = kDomain,
         .infer = infer_one,
         .lower = lower_softmax,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearGlobalAveragePool",
         .domain = kDomain,
         .infer = infer_global_pool,
         .lower = lower_pool,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearAveragePool",
         .domain = kDomain,
         .infer = infer_pool,
         .lower = lower_pool,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearReduceMean",
         .domain = kDomain,
         .infer = infer_mean,
         .lower = lower_mean,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1u << 2},
        {.name = "QLinearConcat", .domain = kDomain, .infer = infer_concat, .lower = lower_concat, .min_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
