// LRN (1, 13): each element divided by (bias + alpha / size * sum of squares over `size` neighbouring channels) ^ beta.
// Attributes alpha 1e-4, beta 0.75, bias 1, size (required).
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/channels.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

struct Window {
    int64_t before, after;  // channels on either side
    float alpha, beta, bias;
};

Window window_of(const Attributes& attributes) {
    const int64_t size = attributes.i("size", 0);
    require(size >= 1 && size <= (int64_t{1} << 31), "size is ", size);
    return {(size - 1) / 2, size / 2, attributes.f("alpha", 1e-4f) / static_cast<float>(size),
            attributes.f("beta", 0.75f), attributes.f("bias", 1.0f)};
}

void infer_lrn(InferContext& ctx) {
    infer_float_like_input(ctx);
    window_of(ctx.attributes);
    if (ctx.input(0).ranked) channel_axis(ctx.attributes, ctx.input(0).rank());
}

// y = x / (bias + alpha * sum) ^ beta; `sum` is overwritten, `root` is room for as much.
void divide(const Window& w, size_t n, const float* x, float* sum, float* root, float* y) {
    using kernels::Binary;
    using kernels::Unary;
    const auto& k = kernels::kernels();
    k.map_f32(Unary::mul_scalar, n, sum, sum, w.alpha, 0);
    k.map_f32(Unary::add_scalar, n, sum, sum, w.bias, 0);
    if (w.beta == 0.75f) {  // two square roots instead of a power
        k.map_f32(Unary::sqrt, n, sum, sum, 0, 0);
        k.map_f32(Unary::sqrt, n, sum, root, 0, 0);
        k.binary_f32(Binary::mul, n, sum, 1, root, 1, sum);
    } else {
        k.binary_f32(Binary::pow, n, sum, 1, &w.beta, 0, sum);
    }
    k.binary_f32(Binary::div, n, x, 1, sum, 1, y);
}

constexpr int64_t kBlock = 1024;

// Channels are rows: sums of rows above and below, kBlock positions at a time.
void run_first(const Parallel& parallel, const ChannelView& view, const Window& w, const float* x, float* y) {
    using kernels::Binary;
    const auto& k = kernels::kernels();
    parallel_ranges(parallel, view.batch * view.channels, row_grain(view.positions, 16),
                    [&](int64_t begin, int64_t end) {
                        float sum[kBlock], square[kBlock];
                        for (int64_t r = begin; r < end; ++r) {
                            if (parallel.stop) parallel.stop->check();
                            const int64_t c = r % view.channels, base = (r - c) * view.positions;
                            const int64_t first = std::max<int64_t>(0, c - w.before),
                                          last = std::min(view.channels - 1, c + w.after);
                            for (int64_t p = 0; p < view.positions; p += kBlock) {
                                const size_t n = static_cast<size_t>(std::min(kBlock, view.positions - p));
                                for (int64_t j = first; j <= last; ++j) {
                                    const float* row = x + base + j * view.positions + p;
                                    k.binary_f32(Binary::mul, n, row, 1, row, 1, j == first ? sum : square);
                                    if (j > first) k.binary_f32(Binary::add, n, sum, 1, square, 1, sum);
                                }
                                const int64_t at = base + c * view.positions + p;
                                divide(w, n, x + at, sum, square, y + at);
                            }
                        }
                    });
}

// Channels are neighbours: sums of shifted copies of their squares.
void run_last(const Parallel& parallel, const ChannelView& view, const Window& w, const float* x, float* y) {
    using kernels::Binary;
    const auto& k = kernels::kernels();
    const int64_t channels = view.channels;
    parallel_ranges(parallel, view.batch * view.positions, row_grain(channels, 16), [&](int64_t begin, int64_t end) {
        float sum[kBlock], square[kBlock];
        for (int64_t r = begin; r < end; ++r) {
            const float* row = x + r * channels;
            for (int64_t c = 0; c < channels; c += kBlock) {
                if (parallel.stop) parallel.stop->check();
                const int64_t width = std::min(kBlock, channels - c);
                std::fill_n(sum, width, 0.0f);
                const int64_t first = std::max<int64_t>(-w.before, -(c + width)),
                              last = std::min(w.after, channels - c);
                for (int64_t d = first; d <= last; ++d) {
                    // Neighbour c + d of every channel of the block that has one.
                    const int64_t from = std::max<int64_t>(0, -(c + d)), to = std::min(width, channels - c - d);
                    if (from >= to) continue;
                    const size_t n = static_cast<size_t>(to - from);
                    const float* near = row + c + d + from;
                    k.binary_f32(Binary::mul, n, near, 1, near, 1, square);
                    k.binary_f32(Binary::add, n, sum + from, 1, square, 1, sum + from);
                }
                divide(w, static_cast<size_t>(width), row + c, sum, square, y + r * channels + c);
            }
        }
    });
}

void run_f64(const ChannelView& view, const Window& w, const double* x, double* y) {
    for (int64_t i = 0; i < view.batch * view.channels; ++i)
        for (int64_t p = 0; p < view.positions; ++p) {
            const int64_t c = i % view.channels;
            const auto at = [&](int64_t j) {
                return i / view.channels * view.image() + j * view.channel_step + p * view.position_step;
            };
            double sum = 0;
            for (int64_t j = std::max<int64_t>(0, c - w.before); j <= std::min(view.channels - 1, c + w.after); ++j)
                sum += x[at(j)] * x[at(j)];
            y[at(c)] = x[at(c)] / std::pow(static_cast<double>(w.bias) + static_cast<double>(w.alpha) * sum,
                                           static_cast<double>(w.beta));
        }
}

void run_lrn(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_lrn);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const ChannelView view = channel_view(ctx.attributes, x.shape);
    const Window w = window_of(ctx.attributes);
    if (x.dtype == DType::f64) return run_f64(view, w, x.as<double>(), ctx.output(0).as<double>());
    (view.last ? run_last : run_first)(ctx.parallel(), view, w, x.as<float>(), ctx.output(0).as<float>());
}

}  // namespace

std::span<const OpDef> lrn_ops() {
    static const OpDef rows[] = {
        {.name = "LRN",
         .infer = infer_lrn,
         .run = run_lrn,
         .lower = lower_widened,
         .permute = permute_channels,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
