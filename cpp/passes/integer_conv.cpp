// QuantizeLinear(clamp(Conv(DequantizeLinear x, DequantizeLinear w, bias))) is linnet.QLinearConv.
#include <algorithm>
#include <cmath>

#include "ops/spatial/conv_plan_s8.h"
#include "ops/spatial/layouts.h"
#include "passes/integer.h"

namespace linnet {
namespace {

// How far, in output steps, a bias may be from the nearest multiple of x_scale * w_scale.
constexpr double kBiasError = 1.0 / 64;

// Element i, or the only one.
double element(const Tensor& t, int64_t i) { return double_at(t, t.count() == 1 ? 0 : i); }

struct Weights {
    ValueId value, scale, zero;  // zero: kNoValue if none
};

std::optional<Weights> weights(const Graph& graph, ValueId value, std::string& why) {
    if (value == kNoValue || graph.value(value).producer == kNoNode)
        return why = "its weights are not quantized", std::nullopt;
    const Node& node = graph.node(graph.value(value).producer);
    if (!is_dequantize(node)) return why = "its weights are not quantized", std::nullopt;
    const Tensor* w = graph.constant(node.inputs[0]);
    if (!w) return why = "its weights are not constant", std::nullopt;
    if (w->dtype != DType::i8 && w->dtype != DType::u8) return why = "its weights are not of 8 bits", std::nullopt;
    const Tensor* scale = graph.constant(node.inputs[1]);
    if (!scale || scale->dtype != DType::f32 || node.attributes.i("block_size", 0) != 0)
        return why = "the scales of its weights are not constant float32", std::nullopt;
    const bool single = scale->count() == 1 && scale->rank() <= 1;
    int64_t axis = node.attributes.i("axis", 1);
    if (axis < 0) axis += w->rank();
    if (!single && (scale->rank() != 1 || axis != 0))
        return why = "its weights have scales along another axis than the filters", std::nullopt;
    for (int64_t i = 0; i < scale->count(); ++i)
        if (!(scale->as<float>()[i] > 0) || !std::isnormal(scale->as<float>()[i]))
            return why = "a scale of its weights is not a positive number", std::nullopt;
    Weights out{node.inputs[0], node.inputs[1], node.inputs.size() > 2 ? node.inputs[2] : kNoValue};
    if (out.zero != kNoValue && !graph.constant(out.zero))
        return why = "the zero points of its weights are not constant", std::nullopt;
    return out;
}

// The bias in steps of x_scale * w_scale; kNoValue with `why` set if it has no such form.
ValueId integer_bias(const Graph& graph, ValueId bias, int64_t filters, float x_scale, const Tensor& w_scale,
                     float y_scale, Patch& patch, std::string& why) {
    const Tensor* real = graph.constant(bias);
    const Tensor *steps = nullptr, *scale = nullptr, *zero = nullptr;
    if (!real && graph.value(bias).producer != kNoNode) {
        const Node& node = graph.node(graph.value(bias).producer);
        if (is_dequantize(node) && graph.constant(node.inputs[0]) && graph.constant(node.inputs[1])) {
            steps = graph.constant(node.inputs[0]), scale = graph.constant(node.inputs[1]);
            if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
                zero = graph.constant(node.inputs[2]);
                if (!zero) return why = "the zero point of its bias is not constant", kNoValue;
            }
        }
    }
    if (!real && !steps) return why = "its bias is not constant", kNoValue;
    if (real && (real->dtype != DType::f32 || real->count() != filters))
        return why = "its bias is not one float32 a filter", kNoValue;
    if (steps && (steps->count() != filters || (scale->count() != 1 && scale->count() != filters) ||
                  (zero && zero->count() != 1 && zero->count() != filters)))
        return why = "its bias has not one scale, or one a filter", kNoValue;
    Tensor out = Tensor::allocate(DType::i32, {filters});
    for (int64_t i = 0; i < filters; ++i) {
        const double step = static_cast<double>(x_scale) * element(w_scale, i);
        const double value = real ? static_cast<double>(real->as<float>()[i])
                                  : (element(*steps, i) - (zero ? element(*zero, i) : 0.0)) * element(*scale, i);
        const double rounded = std::nearbyint(value / step);
        if (!(std::fabs(rounded) <= 2147483647.0)) return why = "its bias is too large for int32", kNoValue;
        if (!(std::fabs(rounded * step - value) <= kBiasError * static_cast<double>(y_scale)))
            return why = "its bias is no multiple of x_scale * w_scale", kNoValue;
        out.as<int32_t>()[i] = static_cast<int32_t>(rounded);
    }
    return patch.constant(std::move(out), "bias");
}

ValueId zero_point(Patch& patch, const Quantization& real) {
    Tensor t = Tensor::allocate(real.dtype, {});
    *t.as<uint8_t>() = static_cast<uint8_t>(real.zero);
    return patch.constant(std::move(t), "zero_point");
}

}  // namespace

bool integer_conv(const Graph& graph, const Node& quantize, Patch& patch, std::string& why) {
    const Quantization y = *quantization(graph, quantize);
    int32_t lo = y.lowest(), hi = y.highest();
    const ValueId value = skip_clamps(graph, quantize.inputs[0], y, lo, hi);
    const Node* found = graph.producer(value, "Conv");
    if (!found) return false;
    const Node conv = *found;
    if (!graph.single_use(value)) return why = "its result is read as float as well", false;
    const auto x = dequantized(graph, conv.inputs[0]);
    if (!x) return why = "its input is not quantized to bytes by one known scale", false;
    const auto w = weights(graph, conv.inputs[1], why);
    if (!w) return false;
    const int64_t rank = graph.fact(w->value).rank();
    if (rank < 3 || rank > 5) return why = cat("it has ", rank - 2, " spatial axes"), false;
    const Tensor& w_scale = *graph.constant(w->scale);
    ValueId bias = conv.inputs.size() > 2 ? conv.inputs[2] : kNoValue;
    if (bias != kNoValue) {
        bias = integer_bias(graph, bias, graph.fact(w->value).shape[0], x->real.scale, w_scale, y.scale, patch, why);
        if (bias == kNoValue) return false;
    }
    Node made;
    made.name = conv.name;
    made.op_type = "QLinearConv";
    made.domain = "linnet";
    made.op = find_op("linnet", "QLinearConv", kMaxOpset);
    made.attributes = conv.attributes;
    if (lo > y.lowest()) made.attributes.set("lo", static_cast<int64_t>(lo));
    if (hi < y.highest()) made.attributes.set("hi", static_cast<int64_t>(hi));
    made.inputs = {transpose(patch, x->value, to_channels_last(rank - 2)),
                   patch.constant_float(x->real.scale),
                   zero_point(patch, x->real),
                   w->value,
                   w->scale,
                   w->zero,
                   patch.constant_float(y.scale),
                   zero_point(patch, y)};
    if (bias != kNoValue) made.inputs.push_back(bias);
    narrow_weights(graph, patch, made.inputs, kQLinearConv);
    const ValueId result = patch.node(std::move(made), 1)[0];
    patch.replace(quantize.outputs[0], transpose(patch, result, to_channels_first(rank - 2)));
    return true;
}

}  // namespace linnet
