// GroupNormalization (18: scale and bias per group; 21: per channel) and InstanceNormalization (1, 6, 22): each image's
// groups of channels to mean 0 and variance 1. Attributes epsilon 1e-5, num_groups, stash_type (the statistics are
// float32 always, float64 for float64).
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/channels.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool is_instance(const OpDef& op) { return op.name == "InstanceNormalization"; }
bool by_group(const OpDef& op) { return !is_instance(op) && op.since < 21; }

void infer_group_norm(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    infer_float_like_input(ctx);
    const bool instance = is_instance(ctx.op());
    const int64_t groups = ctx.attributes.i("num_groups", 0);
    require(instance || groups > 0, "num_groups is ", groups);
    int64_t wanted = by_group(ctx.op()) ? groups : kUnknownDim;
    if (x.ranked) {
        const int64_t channels = x.shape[static_cast<size_t>(channel_axis(ctx.attributes, x.rank()))];
        if (!instance && is_number(channels))
            require(channels % groups == 0, channels, " channels do not split into ", groups, " groups");
        if (!by_group(ctx.op())) wanted = channels;
    }
    for (int i = 1; i <= 2; ++i) {
        const Fact& fact = tensor_input(ctx, i);
        require(fact.dtype == x.dtype, "input ", i, " is ", dtype_name(fact.dtype), ", x is ", dtype_name(x.dtype));
        if (!fact.ranked) continue;
        require(fact.rank() == 1, "input ", i, " has rank ", fact.rank(), ", expected 1");
        same_dim(ctx.dims, fact.shape[0], wanted, "scale and bias against channels or groups");
    }
}

// mean, factor and shift of [batch][channels].
std::shared_ptr<const void> prepare_group_norm(PrepareContext& ctx) {
    const ChannelView view = channel_view(ctx.attributes, ctx.input(0).shape);
    ctx.scratch(static_cast<size_t>(checked_mul(checked_mul(view.batch, view.channels), 3 * 8)));
    return nullptr;
}

void statistics_f64(const ChannelView& view, int64_t group, const double* x, double* mean, double* var) {
    for (int64_t n = 0; n < view.batch; ++n)
        for (int64_t first = 0; first < view.channels; first += group) {
            const auto each = [&](auto fn) {
                for (int64_t c = first; c < first + group; ++c)
                    for (int64_t p = 0; p < view.positions; ++p)
                        fn(x[n * view.image() + c * view.channel_step + p * view.position_step]);
            };
            const double count = static_cast<double>(group * view.positions);
            double m = 0, v = 0;
            each([&](double value) { m += value; });
            m /= count;
            each([&](double value) { v += (value - m) * (value - m); });
            for (int64_t c = first; c < first + group; ++c) {
                mean[n * view.channels + c] = m;
                var[n * view.channels + c] = v / count;
            }
        }
}

// var becomes the factor.
template <class T>
void factors(const RunContext& ctx, const ChannelView& view, int64_t group, T* var, T* shift) {
    const T *scale = ctx.input(1).as<T>(), *bias = ctx.input(2).as<T>();
    const T epsilon = static_cast<T>(ctx.attributes.f("epsilon", 1e-5f));
    const bool grouped = by_group(*ctx.node.op);
    for (int64_t n = 0; n < view.batch; ++n)
        for (int64_t c = 0; c < view.channels; ++c) {
            const int64_t i = n * view.channels + c, own = grouped ? c / group : c;
            var[i] = scale[own] / std::sqrt(var[i] + epsilon);
            shift[i] = bias[own];
        }
}

void run_group_norm(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_group_norm);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const ChannelView view = channel_view(ctx.attributes, x.shape);
    const int64_t group = is_instance(*ctx.node.op) ? 1 : view.channels / ctx.attributes.i("num_groups", 1);
    const int64_t count = view.batch * view.channels;
    if (x.dtype == DType::f64) {
        double* mean = reinterpret_cast<double*>(ctx.scratch());
        double *var = mean + count, *shift = var + count;
        statistics_f64(view, group, x.as<double>(), mean, var);
        factors(ctx, view, group, var, shift);
        for (int64_t i = 0; i < count; ++i)
            for (int64_t p = 0; p < view.positions; ++p) {
                const int64_t at =
                    i / view.channels * view.image() + i % view.channels * view.channel_step + p * view.position_step;
                ctx.output(0).as<double>()[at] = (x.as<double>()[at] - mean[i]) * var[i] + shift[i];
            }
        return;
    }
    float* mean = reinterpret_cast<float*>(ctx.scratch());
    float *var = mean + count, *shift = var + count;
    group_statistics(ctx.parallel(), view, group, x.as<float>(), mean, var);
    factors(ctx, view, group, var, shift);
    affine_channels(ctx.parallel(), view, x.as<float>(), mean, var, shift, view.channels, ctx.output(0).as<float>());
}

constexpr OpDef row(std::string_view name, int since) {
    return {.name = name,
            .since = since,
            .infer = infer_group_norm,
            .run = run_group_norm,
            .prepare = prepare_group_norm,
            .lower = lower_widened,
            .permute = permute_channels,
            .flags = kInPlace,
            .min_inputs = 3,
            .max_inputs = 3};
}

}  // namespace

std::span<const OpDef> group_norm_ops() {
    static const OpDef rows[] = {
        row("InstanceNormalization", 1),
        row("GroupNormalization", 18),
        row("GroupNormalization", 21),
    };
    return rows;
}

}  // namespace linnet
