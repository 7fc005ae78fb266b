// BatchNormalization (1, 6, 7, 9, 14, 15): attributes epsilon 1e-5, momentum 0.9; spatial 1 (up to 8; 0: statistics for
// every element of an image); is_test 0 (1, 6); training_mode 0 (from 14). Up to 13 a node computes statistics when it
// has more outputs than one (and is_test is 0): mean, var, saved_mean, saved_var; from 14 on running_mean, running_var.
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/channels.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool trains(const Attributes& attributes, const OpDef& op, const ValueIds& outputs) {
    if (op.since >= 14) return attributes.i("training_mode", 0) != 0;
    if (op.since < 7 && attributes.i("is_test", 0) != 0) return false;
    return std::any_of(outputs.begin() + (outputs.empty() ? 0 : 1), outputs.end(),
                       [](ValueId v) { return v != kNoValue; });
}

bool is_spatial(const Attributes& attributes, const OpDef& op) {
    return op.since >= 9 || attributes.i("spatial", 1) != 0;
}

void infer_batch_norm(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    infer_float_like_input(ctx);
    const bool spatial = is_spatial(ctx.attributes, ctx.op());
    Fact parameter = Fact::unranked(x.dtype);
    if (x.ranked) {
        require(x.rank() >= 1, "x is a scalar");
        parameter = Fact::of(x.dtype, {});
        if (!spatial) parameter.shape = Shape(x.shape.begin() + 1, x.shape.end());
        else if (x.rank() == 1) parameter.shape = {1};
        else parameter.shape = {x.shape[static_cast<size_t>(channel_axis(ctx.attributes, x.rank()))]};
    }
    for (int i = 1; i < 5; ++i) {
        const Fact& fact = tensor_input(ctx, i);
        require(fact.dtype == DType::undefined || is_float(fact.dtype), "input ", i, " is ", dtype_name(fact.dtype));
        if (!fact.ranked || !parameter.ranked) continue;
        require(fact.rank() == parameter.rank(), "input ", i, " has rank ", fact.rank(), ", expected ",
                parameter.rank());
        for (size_t j = 0; j < fact.shape.size(); ++j)
            parameter.shape[j] = same_dim(ctx.dims, parameter.shape[j], fact.shape[j], "statistics against channels");
    }
    for (int i = 1; i < ctx.outputs(); ++i) {
        Fact fact = parameter;
        fact.dtype = ctx.input(3).dtype;
        ctx.output(i, std::move(fact));
    }
}

// x as images of channels. Without `spatial` every element of an image is a channel.
ChannelView view_of(const Attributes& attributes, const OpDef& op, const Shape& shape) {
    ChannelView view;
    view.batch = shape[0];
    if (is_spatial(attributes, op) && shape.size() >= 2) return channel_view(attributes, shape);
    view.channels = is_spatial(attributes, op) ? 1 : product(shape, 1, shape.size());
    view.position_step = view.channels;
    view.last = true;
    return view;
}

// mean, factor and shift by channel; training: mean and variance image by image as well.
std::shared_ptr<const void> prepare_batch_norm(PrepareContext& ctx) {
    const ChannelView view = view_of(ctx.attributes, *ctx.node.op, ctx.input(0).shape);
    const bool training = trains(ctx.attributes, *ctx.node.op, ctx.node.outputs);
    const int64_t images = training && !view.last ? checked_mul(2, view.batch) : 0;
    ctx.scratch(static_cast<size_t>(checked_mul(checked_mul(view.channels, checked_add(images, 3)), 8)));
    return nullptr;
}

template <class T>
void factors(const RunContext& ctx, int64_t channels, const T* var, T* factor, T* shift) {
    const T *scale = ctx.input(1).as<T>(), *bias = ctx.input(2).as<T>();
    const T epsilon = static_cast<T>(ctx.attributes.f("epsilon", 1e-5f));
    for (int64_t c = 0; c < channels; ++c) {
        factor[c] = scale[c] / std::sqrt(var[c] + epsilon);
        shift[c] = bias[c];
    }
}

// Writes the running and the saved statistics.
template <class T>
void store_statistics(const RunContext& ctx, int64_t channels, const T* mean, const T* var) {
    const T momentum = static_cast<T>(ctx.attributes.f("momentum", 0.9f));
    const auto running = [&](int output, int input, const T* fresh) {
        if (!ctx.has_output(output)) return;
        for (int64_t c = 0; c < channels; ++c)
            ctx.output(output).as<T>()[c] = ctx.input(input).as<T>()[c] * momentum + fresh[c] * (1 - momentum);
    };
    running(1, 3, mean);
    running(2, 4, var);
    if (ctx.has_output(3)) std::copy_n(mean, channels, ctx.output(3).as<T>());
    if (ctx.has_output(4)) std::copy_n(var, channels, ctx.output(4).as<T>());
}

void statistics_f64(const ChannelView& view, const double* x, double* mean, double* var) {
    const double count = static_cast<double>(view.batch * view.positions);
    for (int64_t c = 0; c < view.channels; ++c) {
        const auto each = [&](auto fn) {
            for (int64_t n = 0; n < view.batch; ++n)
                for (int64_t p = 0; p < view.positions; ++p)
                    fn(x[n * view.image() + c * view.channel_step + p * view.position_step]);
        };
        double m = 0, v = 0;
        each([&](double value) { m += value; });
        m /= count;
        each([&](double value) { v += (value - m) * (value - m); });
        mean[c] = m;
        var[c] = v / count;
    }
}

// Over all images.
void statistics_f32(const Parallel& parallel, const ChannelView& view, const float* x, float* mean, float* var,
                    float* images) {
    if (view.last) {  // one tall image
        ChannelView tall = view;
        tall.batch = 1;
        tall.positions = view.batch * view.positions;
        return group_statistics(parallel, tall, 1, x, mean, var);
    }
    float *means = images, *vars = images + view.batch * view.channels;
    group_statistics(parallel, view, 1, x, means, vars);
    for (int64_t c = 0; c < view.channels; ++c) {
        double m = 0, v = 0;
        for (int64_t n = 0; n < view.batch; ++n) m += static_cast<double>(means[n * view.channels + c]);
        m /= static_cast<double>(view.batch);
        for (int64_t n = 0; n < view.batch; ++n) {
            const double d = static_cast<double>(means[n * view.channels + c]) - m;
            v += static_cast<double>(vars[n * view.channels + c]) + d * d;
        }
        mean[c] = static_cast<float>(m);
        var[c] = static_cast<float>(v / static_cast<double>(view.batch));
    }
}

void run_f64(RunContext& ctx, const ChannelView& view, bool training) {
    const Tensor& x = ctx.input(0);
    double* mean = reinterpret_cast<double*>(ctx.scratch());
    double *factor = mean + view.channels, *shift = factor + view.channels;
    if (training) {
        statistics_f64(view, x.as<double>(), mean, factor);
        store_statistics(ctx, view.channels, mean, factor);
        factors(ctx, view.channels, factor, factor, shift);
    } else {
        std::copy_n(ctx.input(3).as<double>(), view.channels, mean);
        factors(ctx, view.channels, ctx.input(4).as<double>(), factor, shift);
    }
    for (int64_t i = 0; i < view.batch * view.channels; ++i)
        for (int64_t p = 0; p < view.positions; ++p) {
            const int64_t c = i % view.channels;
            const int64_t at = i / view.channels * view.image() + c * view.channel_step + p * view.position_step;
            ctx.output(0).as<double>()[at] = (x.as<double>()[at] - mean[c]) * factor[c] + shift[c];
        }
}

void run_batch_norm(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_batch_norm);
    const Tensor& x = ctx.input(0);
    const OpDef& op = *ctx.node.op;
    const ChannelView view = view_of(ctx.attributes, op, x.shape);
    const bool training = trains(ctx.attributes, op, ctx.node.outputs);
    for (int i = 1; i < 5; ++i)
        if (ctx.input(i).dtype != x.dtype)
            fail(ErrorKind::not_implemented, "statistics of ", dtype_name(ctx.input(i).dtype), " for x of ",
                 dtype_name(x.dtype));
    if (x.dtype == DType::f64) return run_f64(ctx, view, training);
    float* const mean = reinterpret_cast<float*>(ctx.scratch());
    float *factor = mean + view.channels, *shift = factor + view.channels;
    if (training) {
        statistics_f32(ctx.parallel(), view, x.as<float>(), mean, factor, shift + view.channels);
        store_statistics(ctx, view.channels, mean, factor);
        factors(ctx, view.channels, factor, factor, shift);
        affine_channels(ctx.parallel(), view, x.as<float>(), mean, factor, shift, 0, ctx.output(0).as<float>());
        return;
    }
    // Without training outputs the other ones, where a model asks for them, are the inputs.
    for (int i = 1; i < 5; ++i)
        if (ctx.has_output(i)) copy_elements(ctx.input(i % 2 ? 3 : 4), ctx.output(i));
    factors(ctx, view.channels, ctx.input(4).as<float>(), factor, shift);
    const float* own = ctx.input(3).as<float>();
    for (int64_t c = 0; c < view.channels; ++c) shift[c] -= own[c] * factor[c];
    affine_channels(ctx.parallel(), view, x.as<float>(), nullptr, factor, shift, 0, ctx.output(0).as<float>());
}

// Statistics of whole images do not move.
bool permute_batch_norm(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    return is_spatial(node.attributes, *node.op) && node.outputs.size() == 1 &&
           permute_channels(graph, node, perm, patch);
}

constexpr OpDef row(int since) {
    return {.name = "BatchNormalization",
            .since = since,
            .infer = infer_batch_norm,
            .run = run_batch_norm,
            .prepare = prepare_batch_norm,
            .lower = lower_widened,
            .permute = permute_batch_norm,
            .flags = kInPlace,
            .min_inputs = 5,
            .max_inputs = 5};
}

}  // namespace

std::span<const OpDef> batch_norm_ops() {
    static const OpDef rows[] = {row(1), row(7), row(9), row(14)};
    return rows;
}

}  // namespace linnet
