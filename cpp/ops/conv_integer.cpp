// ConvInteger (ai.onnx 10) and QLinearConv (10): attributes of Conv. Inputs x, w, x_zero_point 0, w_zero_point 0; or
// x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias. Sums are exact in int32 (modulo
// 2^32); then QLinearConv is float(sum) * (x_scale * w_scale / y_scale), rounded half to even, saturated.
//
// Lowered to internal, channels-last operators of the same names (ops/spatial/conv_plan_s8.h). The internal QLinearConv
// has more attributes: lo and hi clamp the byte; table (256 elements, of the result's dtype) is applied to it; and with
// own_scale, own_zero, add_scale, add_zero, sum_zero, sum_lo, sum_hi the bytes of input 9, of the output's shape, are
// added to it (kernels::ToBytes has the formula).
#include "graph/op.h"
#include "ops/spatial/conv_plan_s8.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

bool is_byte(DType d) { return d == DType::u8 || d == DType::i8; }

void check_parameter(const InferContext& ctx, int i, const char* name, DType dtype, int64_t channels) {
    if (i < 0 || !ctx.has_input(i)) return;
    const Fact& f = ctx.input(i);
    require(f.dtype == dtype, name, " is ", dtype_name(f.dtype), ", expected ", dtype_name(dtype));
    if (!f.ranked || f.rank() == 0) return;
    require(f.rank() == 1, name, " has rank ", f.rank(), ", expected 0 or 1");
    const int64_t size = f.shape[0];
    require(!is_number(size) || size == 1 || !is_number(channels) || size == channels, name, " has ", size,
            " elements, expected 1", channels == 1 ? "" : " or one per filter");
}

void infer(InferContext& ctx, const ConvOperands& at, size_t first, bool linear) {
    const Fact &x = ctx.input(at.x), &w = ctx.input(at.w);
    require(is_byte(x.dtype), "x is ", dtype_name(x.dtype), ", expected int8 or uint8");
    require(is_byte(w.dtype), "w is ", dtype_name(w.dtype), ", expected int8 or uint8");
    const DType out_dtype = !linear ? DType::i32 : ctx.has_input(at.y_zero) ? ctx.input(at.y_zero).dtype : x.dtype;
    require(!linear || is_byte(out_dtype), "y_zero_point is ", dtype_name(out_dtype), ", expected int8 or uint8");
    const int64_t spatial = spatial_rank(ctx.attributes, x, &w);
    if (spatial < 0) return ctx.output_unranked(0, out_dtype);
    require(spatial >= 1, "x has rank ", spatial + 2, ", expected at least 3");
    const int64_t rank = spatial + 2, group = ctx.attributes.i("group", 1);
    require(group >= 1, "group is ", group);
    require(!x.ranked || x.rank() == rank, "x has rank ", x.rank(), ", expected ", rank);
    require(!w.ranked || w.rank() == rank, "w has rank ", w.rank(), ", x has rank ", rank);
    const auto axes = static_cast<size_t>(spatial);
    const Shape kernel = w.ranked ? Shape(w.shape.begin() + 2, w.shape.end()) : Shape(axes, kUnknownDim);
    const WindowAttributes window = read_window(ctx.attributes, axes, &kernel);
    Shape out(static_cast<size_t>(rank), kUnknownDim);
    const size_t channel = first == 2 ? 1 : out.size() - 1;
    const int64_t filters = w.ranked ? w.shape[0] : kUnknownDim;
    require(!is_number(filters) || filters % group == 0, filters, " filters do not split into ", group, " groups");
    out[channel] = filters;
    if (x.ranked) {
        out[0] = x.shape[0];
        const int64_t given = x.shape[channel];
        if (w.ranked && is_number(given) && is_number(w.shape[1]))
            require(given == checked_mul(w.shape[1], group), "x has ", given, " channels, the weights expect ",
                    w.shape[1], " x ", group, " groups");
        for (size_t i = 0; i < axes; ++i) out[first + i] = window_output(ctx.dims, window, i, x.shape[first + i]);
    }
    check_parameter(ctx, at.x_zero, "x_zero_point", x.dtype, 1);
    check_parameter(ctx, at.w_zero, "w_zero_point", w.dtype, filters);
    check_parameter(ctx, at.x_scale, "x_scale", DType::f32, 1);
    check_parameter(ctx, at.w_scale, "w_scale", DType::f32, filters);
    check_parameter(ctx, at.y_scale, "y_scale", DType::f32, 1);
    check_parameter(ctx, at.y_zero, "y_zero_point", out_dtype, 1);
    if (at.bias >= 0 && ctx.has_input(at.bias)) {
        const Fact& bias = ctx.input(at.bias);
        require(bias.dtype == DType::i32, "bias is ", dtype_name(bias.dtype), ", expected int32");
        require(!bias.ranked || (bias.rank() == 1 &&
                                 (!is_number(bias.shape[0]) || !is_number(filters) || bias.shape[0] == filters)),
                "bias must have one element per filter");
    }
    const Tensor* table = ctx.attributes.t("table");
    ctx.output(0, table ? table->dtype : out_dtype, out);
}

void infer_integer_first(InferContext& ctx) { infer(ctx, kConvInteger, 2, false); }
void infer_integer_last(InferContext& ctx) { infer(ctx, kConvInteger, 1, false); }
void infer_linear_first(InferContext& ctx) { infer(ctx, kQLinearConv, 2, true); }
void infer_linear_last(InferContext& ctx) { infer(ctx, kQLinearConv, 1, true); }

bool lower(const Graph& graph, NodeId id, const ConvOperands& at, Patch& patch) {
    const Node node = graph.node(id);
    const auto input = [&](int i) -> const Fact& { return graph.fact(node.inputs[static_cast<size_t>(i)]); };
    const int64_t spatial = spatial_rank(node.attributes, input(at.x), &input(at.w));
    if (spatial <= 0) return false;
    Node made = copy_of(node);
    made.domain = "linnet";
    made.op = find_op("linnet", node.op_type, kMaxOpset);
    narrow_weights(graph, patch, made.inputs, at);
    made.inputs[0] = transpose(patch, node.inputs[0], to_channels_last(spatial));
    patch.replace(node.outputs[0], transpose(patch, patch.node(std::move(made), 1)[0], to_channels_first(spatial)));
    return true;
}
bool lower_integer(const Graph& graph, NodeId id, Patch& patch) { return lower(graph, id, kConvInteger, patch); }
bool lower_linear(const Graph& graph, NodeId id, Patch& patch) { return lower(graph, id, kQLinearConv, patch); }

// onnxruntime's QLinearConv has the attribute channels_last (0).
void infer_linear_either(InferContext& ctx) {
    infer(ctx, kQLinearConv, ctx.attributes.i("channels_last", 0) ? 1 : 2, true);
}
bool lower_linear_either(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const bool last = node.attributes.i("channels_last", 0) != 0;
    Attributes attributes = node.attributes;
    attributes.erase("channels_last");
    patch.replace(node.outputs[0], patch.node("QLinearConv", node.inputs, std::move(attributes), last ? "linnet" : ""));
    return true;
}

}  // namespace

std::span<const OpDef> conv_integer_ops() {
    static const OpDef rows[] = {
        {.name = "ConvInteger", .infer = infer_integer_first, .lower = lower_integer, .min_inputs = 2, .max_inputs = 4},
        {.name = "QLinearConv", .infer = infer_linear_first, .lower = lower_linear, .min_inputs = 8, .max_inputs = 9},
        {.name = "QLinearConv",
         .domain = "com.microsoft",
         .infer = infer_linear_either,
         .lower = lower_linear_either,
         .min_inputs = 8,
         .max_inputs = 9},
        {.name = "ConvInteger",
         .domain = "linnet",
         .infer = infer_integer_last,
         .run = run_conv_integer,
         .prepare = prepare_conv_integer,
         .min_inputs = 2,
         .max_inputs = 4},
        {.name = "QLinearConv",
         .domain = "linnet",
         .infer = infer_linear_last,
         .run = run_qlinear_conv,
         .prepare = prepare_qlinear_conv,
         .min_inputs = 8,
         .max_inputs = 10,
         .may_omit = 1u << 5},
    };
    return rows;
}

}  // namespace linnet
