// Conv (ai.onnx 1, 11, 22): attributes auto_pad "NOTSET", dilations 1, group 1, kernel_shape (of w), pads 0, strides 1.
// Lowered to the internal, channels-last Conv (ops/spatial/conv_plan.h). Convolutions, too, with their patterns:
// a per-channel scale or shift behind, in front, and a Pad in front belong into the weights and pads (conv_fold.h).
#include <algorithm>
#include <limits>

#include "graph/op.h"
#include "ops/shared/compose.h"
#include "ops/shared/facts.h"
#include "ops/spatial/conv_fold.h"
#include "ops/spatial/conv_plan.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/operands.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

// `first` is the first spatial axis of x: 2 channels-first, 1 channels-last.
void infer(InferContext& ctx, size_t first) {
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    const int64_t group = ctx.attributes.i("group", 1), axes = check_operands(ctx);
    if (axes < 0) return ctx.output_unranked(0, x.dtype);
    const auto spatial = static_cast<size_t>(axes);
    const Shape kernel = w.ranked ? Shape(w.shape.begin() + 2, w.shape.end()) : Shape(spatial, kUnknownDim);
    const WindowAttributes window = read_window(ctx.attributes, spatial, &kernel);
    Shape out(spatial + 2, kUnknownDim);
    const size_t channel = first == 2 ? 1 : out.size() - 1;
    if (w.ranked) {
        const int64_t filters = w.shape[0];
        require(!is_number(filters) || filters % group == 0, filters, " filters do not split into ", group, " groups");
        out[channel] = filters;
    }
    if (x.ranked) {
        out[0] = x.shape[0];
        check_channels(x.shape[channel], w.ranked ? w.shape[1] : kUnknownDim, group);
        for (size_t i = 0; i < spatial; ++i) out[first + i] = window_output(ctx.dims, window, i, x.shape[first + i]);
    }
    check_bias(ctx, out[channel]);
    ctx.output(0, x.dtype, out);
}

void infer_first(InferContext& ctx) { infer(ctx, 2); }
void infer_last(InferContext& ctx) { infer(ctx, 1); }

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const int64_t spatial = spatial_rank(node.attributes, graph.fact(node.inputs[0]), &graph.fact(node.inputs[1]));
    return spatial > 0 && lower_channels_last(graph, id, "Conv", spatial, patch);
}

// com.microsoft FusedConv and the channels-last NhwcFusedConv (1): inputs x, w, bias, z (added before the activation);
// activation "" with activation_params.
bool unfuse(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const std::string activation = node.attributes.s("activation", "");
    const std::vector<float> params = node.attributes.floats("activation_params");
    Attributes attributes = node.attributes;
    attributes.erase("activation");
    attributes.erase("activation_params");
    ValueIds inputs = node.inputs;
    const ValueId z = inputs.size() > 3 ? inputs[3] : kNoValue;
    if (inputs.size() > 3) inputs.resize(3);
    const bool last = node.op_type == "NhwcFusedConv";
    ValueId y = patch.node("Conv", inputs, std::move(attributes), last ? "linnet" : "");
    if (z != kNoValue) y = make.op("Add", {y, z});
    if (activation == "Clip") {
        const auto bound = [&](size_t i, float absent) {
            return patch.constant_float(i < params.size() ? params[i] : absent);
        };
        y = make.op("Clip",
                    {y, bound(0, std::numeric_limits<float>::lowest()), bound(1, std::numeric_limits<float>::max())});
    } else if (!activation.empty()) {
        constexpr std::string_view kKnown[] = {"LeakyRelu", "HardSigmoid", "Relu", "Tanh", "Sigmoid", "HardSwish"};
        if (std::find(std::begin(kKnown), std::end(kKnown), activation) == std::end(kKnown))
            fail(ErrorKind::not_implemented, "activation '", activation, "'");
        Attributes given;
        if (!params.empty()) given.set("alpha", params[0]);
        if (params.size() > 1) given.set("beta", params[1]);
        y = patch.node(activation, {y}, std::move(given));
    }
    patch.replace(node.outputs[0], y);
    return true;
}

// com.microsoft NhwcConv (1): x and w [M, kernel ..., C / group] are channels-last.
void infer_nhwc(InferContext& ctx) {
    const Fact &x = tensor_input(ctx, 0), &w = tensor_input(ctx, 1);
    require(w.dtype == x.dtype && (x.dtype == DType::undefined || is_float(x.dtype)), "x is ", dtype_name(x.dtype),
            ", w is ", dtype_name(w.dtype), ": expected one float type");
    if (!x.ranked || !w.ranked) return ctx.output_unranked(0, x.dtype);
    const auto spatial = static_cast<size_t>(std::max<int64_t>(0, x.rank() - 2));
    require(spatial >= 1 && spatial <= kMaxSpatial && w.rank() == x.rank(), "x has rank ", x.rank(), ", w rank ",
            w.rank());
    const Shape kernel(w.shape.begin() + 1, w.shape.end() - 1);
    const WindowAttributes window = read_window(ctx.attributes, spatial, &kernel);
    check_channels(x.shape.back(), w.shape.back(), ctx.attributes.i("group", 1));
    Shape out{x.shape[0]};
    for (size_t i = 0; i < spatial; ++i) out.push_back(window_output(ctx.dims, window, i, x.shape[1 + i]));
    out.push_back(w.shape[0]);
    check_bias(ctx, w.shape[0]);
    ctx.output(0, x.dtype, out);
}

bool lower_nhwc(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact& w = graph.fact(node.inputs[1]);
    if (!w.ranked) fail(ErrorKind::not_implemented, "weights of unknown rank");
    ValueIds inputs = node.inputs;
    inputs[1] = transpose(patch, inputs[1], to_channels_first(w.rank() - 2));
    patch.replace(node.outputs[0], patch.node("Conv", inputs, node.attributes, "linnet"));
    return true;
}

}  // namespace

std::span<const OpDef> conv_ops() {
    static const OpDef rows[] = {
        {.name = "Conv",
         .infer = infer_first,
         .simplify = fold_around_conv,
         .lower = lower,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "FusedConv",
         .domain = "com.microsoft",
         .infer = infer_first,
         .lower = unfuse,
         .min_inputs = 2,
         .max_inputs = 4},
        {.name = "NhwcFusedConv",
         .domain = "com.microsoft",
         .infer = infer_last,
         .lower = unfuse,
         .min_inputs = 2,
         .max_inputs = 4},
        {.name = "NhwcConv",
         .domain = "com.microsoft",
         .infer = infer_nhwc,
         .lower = lower_nhwc,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "Conv",
         .domain = "linnet",
         .infer = infer_last,
         .run = run_conv,
         .prepare = prepare_conv,
         .flags = kFloat32Only | kEpilogue,
         .min_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
