// Folding of per-channel scales and shifts, and of Pads, into convolutions and pools: see conv_fold.h.
#include "ops/spatial/conv_fold.h"

#include <cmath>
#include <limits>
#include <vector>

#include "base/half.h"

namespace linnet {
namespace {

// y[c] = x[c] * scale[c] + shift[c].
struct Affine {
    std::vector<double> scale, shift;
    bool shifts() const {
        for (double v : shift)
            if (v != 0) return true;
        return false;
    }
};

// A constant that is one number, or one per channel (axis 1 of `rank`).
bool per_channel(const Tensor& constant, int64_t rank, int64_t channels, std::vector<double>& out) {
    if (!is_float(constant.dtype) || constant.rank() > rank) return false;
    const int64_t skipped = rank - constant.rank();
    for (int64_t i = 0; i < constant.rank(); ++i) {
        const int64_t size = constant.shape[static_cast<size_t>(i)];
        if (size != 1 && (i + skipped != 1 || size != channels)) return false;
    }
    const bool single = constant.count() == 1;
    out.resize(static_cast<size_t>(channels));
    for (int64_t c = 0; c < channels; ++c) out[static_cast<size_t>(c)] = double_at(constant, single ? 0 : c);
    return true;
}

bool batch_norm(const Graph& graph, const Node& node, int64_t channels, Affine& out) {
    if (node.attributes.i("training_mode", 0) != 0 || node.attributes.i("spatial", 1) != 1 || node.inputs.size() != 5)
        return false;
    for (size_t i = 1; i < node.outputs.size(); ++i)
        if (node.outputs[i] != kNoValue &&
            (graph.is_output(node.outputs[i]) || !graph.value(node.outputs[i]).users.empty()))
            return false;
    const Tensor* parts[4];
    for (size_t i = 0; i < 4; ++i) {
        parts[i] = graph.constant(node.inputs[i + 1]);
        if (!parts[i] || parts[i]->count() != channels) return false;
    }
    const double epsilon = static_cast<double>(node.attributes.f("epsilon", 1e-5f));
    for (int64_t c = 0; c < channels; ++c) {
        const double scale = double_at(*parts[0], c) / std::sqrt(double_at(*parts[3], c) + epsilon);
        out.scale.push_back(scale);
        out.shift.push_back(double_at(*parts[1], c) - double_at(*parts[2], c) * scale);
    }
    return true;
}

// What `node` does to its input `data`, when that is one scale and shift per channel.
bool affine_of(const Graph& graph, const Node& node, ValueId data, int64_t rank, int64_t channels, Affine& out) {
    if (!node.domain.empty()) return false;
    if (node.op_type == "BatchNormalization") return node.inputs[0] == data && batch_norm(graph, node, channels, out);
    const bool add = node.op_type == "Add", sub = node.op_type == "Sub", mul = node.op_type == "Mul",
               div = node.op_type == "Div";
    if (!(add || sub || mul || div) || node.inputs.size() != 2) return false;
    if (node.attributes.has("axis") || node.attributes.has("broadcast")) return false;  // opset 6: other axes
    const size_t side = node.inputs[0] == data ? 0 : 1;
    const Tensor* constant = graph.constant(node.inputs[1 - side]);
    std::vector<double> values;
    if (!constant || (div && side == 1) || !per_channel(*constant, rank, channels, values)) return false;
    // The constant may not broadcast the data itself to more axes.
    out.scale.assign(values.size(), sub && side == 1 ? -1.0 : 1.0);
    out.shift.assign(values.size(), 0.0);
    for (size_t c = 0; c < values.size(); ++c) {
        if (mul) out.scale[c] = values[c];
        if (div) out.scale[c] = 1 / values[c];
        if (add) out.shift[c] = values[c];
        if (sub) out.shift[c] = side == 1 ? values[c] : -values[c];
    }
    return true;
}

Tensor from_doubles(DType dtype, const Shape& shape, const std::vector<double>& values) {
    Tensor t = Tensor::allocate(dtype, shape);
    for (size_t i = 0; i < values.size(); ++i) {
        const auto value = static_cast<float>(values[i]);
        switch (dtype) {
            case DType::f32: t.as<float>()[i] = value; break;
            case DType::f64: t.as<double>()[i] = values[i]; break;
            case DType::f16: t.as<Half>()[i] = to_half(value); break;
            default: t.as<BFloat16>()[i] = to_bfloat16(value); break;
        }
    }
    return t;
}

// Weights times factor(first axis, second axis); `taps` elements share one. Not copied where all factors are 1.
template <class Factor>
Tensor scaled(const Tensor& weights, const Factor& factor, const std::vector<double>& factors) {
    if (std::all_of(factors.begin(), factors.end(), [](double f) { return f == 1; })) return weights;
    const int64_t first = weights.shape[0], second = weights.shape[1];
    const int64_t taps = product(weights.shape, 2, weights.shape.size());
    if (weights.dtype == DType::f32) {
        Tensor out = Tensor::allocate(DType::f32, weights.shape);
        const auto* from = weights.as<float>();
        auto* to = out.as<float>();
        for (int64_t a = 0; a < first; ++a)
            for (int64_t b = 0; b < second; ++b) {
                const double f = factor(a, b);
                for (int64_t t = 0; t < taps; ++t, ++from, ++to)
                    *to = static_cast<float>(static_cast<double>(*from) * f);
            }
        return out;
    }
    std::vector<double> values(static_cast<size_t>(weights.count()));
    for (size_t i = 0; i < values.size(); ++i) {
        const auto row = static_cast<int64_t>(i) / taps;
        values[i] = double_at(weights, static_cast<int64_t>(i)) * factor(row / second, row % second);
    }
    return from_doubles(weights.dtype, weights.shape, values);
}

// Constant weights and bias (or none) of a convolution.
bool constant_weights(const Graph& graph, const Node& node, const Tensor*& weights, const Tensor*& bias) {
    weights = graph.constant(node.inputs[1]);
    const bool has_bias = node.inputs.size() > 2 && node.inputs[2] != kNoValue;
    bias = has_bias ? graph.constant(node.inputs[2]) : nullptr;
    return weights && weights->rank() >= 3 && is_float(weights->dtype) && (bias || !has_bias);
}

void replace_conv(const Node& node, ValueId data, Tensor weights, Tensor bias, ValueId result, Patch& patch) {
    Node made = copy_of(node);
    made.inputs = {data, patch.constant(std::move(weights), "weights"), patch.constant(std::move(bias), "bias")};
    patch.replace(result, patch.node(std::move(made), 1)[0]);
}

bool fold_behind(const Graph& graph, NodeId id, Patch& patch, bool transposed) {
    const Node node = graph.node(id);
    const Tensor *weights = nullptr, *bias = nullptr;
    const ValueId result = node.outputs[0];
    if (!graph.single_use(result) || !constant_weights(graph, node, weights, bias)) return false;
    const Node user = graph.node(graph.value(result).users[0]);
    const int64_t group = node.attributes.i("group", 1);
    const int64_t channels = transposed ? weights->shape[1] * group : weights->shape[0];
    Affine affine;
    if (!affine_of(graph, user, result, weights->rank(), channels, affine)) return false;
    for (int64_t c = 0; c < channels; ++c)
        if (!std::isfinite(affine.scale[static_cast<size_t>(c)]) ||
            !std::isfinite(affine.shift[static_cast<size_t>(c)]))
            return false;
    std::vector<double> shifts = affine.shift;
    for (size_t c = 0; bias && c < shifts.size(); ++c)
        shifts[c] += double_at(*bias, static_cast<int64_t>(c)) * affine.scale[c];
    const int64_t first = weights->shape[0], second = weights->shape[1];
    const int64_t in_group = std::max<int64_t>(1, first / group);
    Tensor made =
        transposed
            ? scaled(
                  *weights,
                  [&](int64_t a, int64_t b) { return affine.scale[static_cast<size_t>(a / in_group * second + b)]; },
                  affine.scale)
            : scaled(
                  *weights, [&](int64_t a, int64_t) { return affine.scale[static_cast<size_t>(a)]; }, affine.scale);
    Tensor new_bias = from_doubles(weights->dtype, {channels}, shifts);
    replace_conv(node, node.inputs[0], std::move(made), std::move(new_bias), user.outputs[0], patch);
    return true;
}

bool unpadded(const Attributes& attributes) {
    const std::string auto_pad = attributes.s("auto_pad", "NOTSET");
    if (auto_pad == "VALID") return true;
    if (auto_pad != "NOTSET" && !auto_pad.empty()) return false;
    for (int64_t pad : attributes.ints("pads"))
        if (pad != 0) return false;
    return true;
}

bool fold_in_front(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const Tensor *weights = nullptr, *bias = nullptr;
    const ValueId data = node.inputs[0];
    if (graph.value(data).producer == kNoNode || !graph.single_use(data)) return false;
    if (!constant_weights(graph, node, weights, bias)) return false;
    const Node before = graph.node(graph.value(data).producer);
    if (before.inputs.empty()) return false;
    const int64_t group = node.attributes.i("group", 1);
    const int64_t filters = weights->shape[0], depth = weights->shape[1], channels = depth * group;
    size_t side = 0;
    if (before.inputs.size() == 2 && graph.constant(before.inputs[0])) side = 1;
    const ValueId source = before.inputs[side];
    // The constant must not be what gives the data its shape.
    const Fact &in = graph.fact(source), &out = graph.fact(data);
    if (graph.constant(source) || !in.ranked || !out.ranked || !(in.shape == out.shape)) return false;
    if (in.rank() != weights->rank() || in.shape[1] != channels) return false;
    Affine affine;
    if (!affine_of(graph, before, source, weights->rank(), channels, affine)) return false;
    for (size_t c = 0; c < affine.scale.size(); ++c)
        if (!std::isfinite(affine.scale[c]) || !std::isfinite(affine.shift[c])) return false;
    if (affine.shifts() && !unpadded(node.attributes)) return false;
    const int64_t filters_in_group = std::max<int64_t>(1, filters / group);
    auto channel = [&](int64_t filter, int64_t j) {
        return static_cast<size_t>(filter / filters_in_group * depth + j);
    };
    std::vector<double> shifts(static_cast<size_t>(filters), 0.0);
    for (int64_t o = 0; bias && o < filters; ++o) shifts[static_cast<size_t>(o)] = double_at(*bias, o);
    if (affine.shifts()) {
        const int64_t taps = product(weights->shape, 2, weights->shape.size());
        for (int64_t o = 0; o < filters; ++o)
            for (int64_t j = 0; j < depth; ++j)
                for (int64_t t = 0; t < taps; ++t)
                    shifts[static_cast<size_t>(o)] +=
                        double_at(*weights, (o * depth + j) * taps + t) * affine.shift[channel(o, j)];
    }
    Tensor made = scaled(
        *weights, [&](int64_t o, int64_t j) { return affine.scale[channel(o, j)]; }, affine.scale);
    Tensor new_bias = from_doubles(weights->dtype, {filters}, shifts);
    replace_conv(node, source, std::move(made), std::move(new_bias), node.outputs[0], patch);
    return true;
}

// Spatial pads of a Pad in constant mode, and its value. False when there is anything else about it.
bool constant_pads(const Graph& graph, const Node& node, int64_t rank, std::vector<int64_t>& pads, double& value) {
    if (node.op_type != "Pad" || !node.domain.empty() || node.attributes.s("mode", "constant") != "constant")
        return false;
    std::vector<int64_t> given;
    value = 0;
    std::vector<int64_t> axes;
    if (node.inputs.size() == 1) {  // before opset 11
        given = node.attributes.ints("pads", node.attributes.ints("paddings"));
        value = static_cast<double>(node.attributes.f("value", 0));
    } else {
        const Tensor* constant = graph.constant(node.inputs[1]);
        if (!constant) return false;
        const Shape list = ints_of(*constant);
        given.assign(list.begin(), list.end());
        if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
            const Tensor* filler = graph.constant(node.inputs[2]);
            if (!filler || filler->count() != 1 || filler->dtype == DType::string) return false;
            value = double_at(*filler, 0);
        }
        if (node.inputs.size() > 3 && node.inputs[3] != kNoValue) {
            const Tensor* which = graph.constant(node.inputs[3]);
            if (!which) return false;
            for (int64_t axis : ints_of(*which)) axes.push_back(axis < 0 ? axis + rank : axis);
        }
    }
    if (axes.empty())
        for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
    if (given.size() != 2 * axes.size()) return false;
    pads.assign(static_cast<size_t>(2 * (rank - 2)), 0);
    for (size_t i = 0; i < given.size(); ++i) {
        const int64_t axis = axes[i % axes.size()];
        if (given[i] == 0) continue;
        if (given[i] < 0 || axis < 2 || axis >= rank) return false;
        pads[static_cast<size_t>(axis - 2 + (i < axes.size() ? 0 : rank - 2))] = given[i];
    }
    return true;
}

// Adds the pads of a Pad in front to the node's own. `accept` judges the padding's value and may change attributes.
template <class Accept>
bool fold_pad(const Graph& graph, NodeId id, Patch& patch, const Accept& accept) {
    const Node node = graph.node(id);
    const Fact& in = graph.fact(node.inputs[0]);
    if (!in.ranked || in.rank() < 3 || graph.value(node.inputs[0]).producer == kNoNode) return false;
    const std::string auto_pad = node.attributes.s("auto_pad", "NOTSET");
    if (!auto_pad.empty() && auto_pad != "NOTSET" && auto_pad != "VALID") return false;
    std::vector<int64_t> pads;
    double value = 0;
    const Node& before = graph.node(graph.value(node.inputs[0]).producer);
    if (!constant_pads(graph, before, in.rank(), pads, value)) return false;
    Node made = copy_of(node);
    made.inputs[0] = before.inputs[0];
    const std::vector<int64_t> own = node.attributes.ints("pads");
    const bool none = auto_pad == "VALID" || own.empty();
    if (!none && own.size() != pads.size()) return false;
    for (size_t i = 0; !none && i < pads.size(); ++i) pads[i] = checked_add(pads[i], own[i]);
    if (!accept(value, pads, made.attributes)) return false;
    made.attributes.erase("auto_pad");
    made.attributes.set("pads", pads);
    const ValueIds outputs = node.outputs;
    const ValueIds fresh = patch.node(std::move(made), static_cast<int>(outputs.size()));
    for (size_t i = 0; i < outputs.size(); ++i)
        if (outputs[i] != kNoValue) patch.replace(outputs[i], fresh[i]);
    return true;
}

// Other runtimes refuse a pool whose window may lie in the padding alone.
bool below_kernel(const std::vector<int64_t>& pads, const Attributes& attributes) {
    const std::vector<int64_t> kernel = attributes.ints("kernel_shape");
    for (size_t i = 0; i < pads.size(); ++i)
        if (2 * kernel.size() != pads.size() || pads[i] >= kernel[i % kernel.size()]) return false;
    return true;
}

}  // namespace

bool fold_around_conv(const Graph& graph, NodeId id, Patch& patch) {
    if (fold_pad(graph, id, patch, [](double value, const std::vector<int64_t>&, Attributes&) { return value == 0; }))
        return true;
    return fold_behind(graph, id, patch, false) || fold_in_front(graph, id, patch);
}

bool fold_behind_conv_transpose(const Graph& graph, NodeId id, Patch& patch) {
    return fold_behind(graph, id, patch, true);
}

bool fold_pad_into_pool(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.attributes.i("ceil_mode", 0) != 0) return false;
    if (node.op_type == "MaxPool") {
        if (node.outputs.size() > 1) return false;  // indices count from the padded input
        return fold_pad(graph, id, patch, [](double value, const std::vector<int64_t>& pads, Attributes& attributes) {
            return value == -std::numeric_limits<double>::infinity() && below_kernel(pads, attributes);
        });
    }
    return fold_pad(graph, id, patch, [](double value, const std::vector<int64_t>& pads, Attributes& attributes) {
        if (value != 0 || !below_kernel(pads, attributes)) return false;
        if (attributes.i("count_include_pad", 0) == 0 && !unpadded(attributes)) return false;
        attributes.set("count_include_pad", int64_t{1});
        return true;
    });
}

}  // namespace linnet
