// Statistics and affine maps by channel, in both layouts.
#include "ops/shared/channels.h"

#include <algorithm>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {

int64_t channel_axis(const Attributes& attributes, int64_t rank) {
    const int64_t axis = attributes.i(kChannelAxis, 1);
    require(rank >= 2 && (axis == 1 || axis == rank - 1), "channels at axis ", axis, " of rank ", rank);
    return axis;
}

ChannelView channel_view(const Attributes& attributes, const Shape& shape) {
    const int64_t rank = static_cast<int64_t>(shape.size()), axis = channel_axis(attributes, rank);
    ChannelView view;
    view.batch = shape[0];
    view.channels = shape[static_cast<size_t>(axis)];
    view.last = axis == rank - 1;
    view.positions = view.last ? product(shape, 1, shape.size() - 1) : product(shape, 2, shape.size());
    view.channel_step = view.last ? 1 : view.positions;
    view.position_step = view.last ? view.channels : 1;
    return view;
}

bool permute_channels(const Graph& graph, Node& node, const Shape& perm, Patch&) {
    if (!graph.lowered || perm.size() < 2 || perm[0] != 0) return false;
    const int64_t rank = static_cast<int64_t>(perm.size());
    const int64_t axis = permuted_axis(perm, channel_axis(node.attributes, rank));
    if (axis != 1 && axis != rank - 1) return false;
    if (axis == 1) node.attributes.erase(kChannelAxis);
    else node.attributes.set(kChannelAxis, axis);
    return true;
}

namespace {

// Channel blocks [c, c + group): neighbours in memory, image by image.
void statistics_first(const Parallel& parallel, const ChannelView& view, int64_t group, const float* x, float* mean,
                      float* var) {
    const auto& k = kernels::kernels();
    const int64_t groups = view.channels / group, n = group * view.positions;
    parallel_ranges(parallel, view.batch * groups, row_grain(n, 2), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const float* from = x + i * n;
            float m;
            k.reduce_f32(kernels::Reduce::sum, 1, static_cast<size_t>(n), from, 0, &m);
            m /= static_cast<float>(n);
            const float v = k.sum_sq_dev_f32(static_cast<size_t>(n), from, m) / static_cast<float>(n);
            std::fill_n(mean + i * group, group, m);
            std::fill_n(var + i * group, group, v);
        }
    });
}

// Sums of columns, then sums of squared distances a block of rows at a time.
void statistics_last(const Parallel& parallel, const ChannelView& view, int64_t group, const float* x, float* mean,
                     float* var) {
    constexpr int64_t kRows = 16, kWidth = 128;
    const auto& k = kernels::kernels();
    const int64_t groups = view.channels / group, at_once = std::max<int64_t>(1, 64 / group);
    const int64_t parts = (groups + at_once - 1) / at_once, stride = view.channels;
    const auto pool = [&](float* sums, int64_t width) {  // per channel -> mean per group
        for (int64_t g = 0; g < width; g += group) {
            double sum = 0;
            for (int64_t c = 0; c < group; ++c) sum += static_cast<double>(sums[g + c]);
            std::fill_n(sums + g, group,
                        static_cast<float>(sum / (static_cast<double>(group) * static_cast<double>(view.positions))));
        }
    };
    parallel_for(parallel, view.batch * parts, [&](int64_t task) {
        const int64_t n = task / parts, first = task % parts * at_once * group;
        const int64_t width = std::min(view.channels - first, at_once * group);
        const float* from = x + n * view.image() + first;
        float* const means = mean + n * view.channels + first;
        float* const vars = var + n * view.channels + first;
        k.reduce_rows_f32(kernels::Reduce::sum, static_cast<size_t>(view.positions), static_cast<size_t>(width), from,
                          stride, means, false);
        pool(means, width);
        float buffer[kRows * kWidth];
        for (int64_t c = 0; c < width; c += kWidth) {
            const int64_t w = std::min(kWidth, width - c);
            for (int64_t p = 0; p < view.positions; p += kRows) {
                const int64_t rows = std::min(kRows, view.positions - p);
                for (int64_t r = 0; r < rows; ++r)
                    k.binary_f32(kernels::Binary::sub, static_cast<size_t>(w), from + (p + r) * stride + c, 1,
                                 means + c, 1, buffer + r * w);
                k.reduce_rows_f32(kernels::Reduce::sum_square, static_cast<size_t>(rows), static_cast<size_t>(w),
                                  buffer, w, vars + c, p > 0);
            }
        }
        pool(vars, width);
    });
}

}  // namespace

void group_statistics(const Parallel& parallel, const ChannelView& view, int64_t group, const float* x, float* mean,
                      float* var) {
    if (view.batch * view.image() == 0) {
        std::fill_n(mean, view.batch * view.channels, 0.0f);
        std::fill_n(var, view.batch * view.channels, 0.0f);
        return;
    }
    (view.last ? statistics_last : statistics_first)(parallel, view, group, x, mean, var);
}

void affine_channels(const Parallel& parallel, const ChannelView& view, const float* x, const float* mean,
                     const float* factor, const float* shift, int64_t batch_step, float* y) {
    const auto& k = kernels::kernels();
    if (view.last) {
        const size_t width = static_cast<size_t>(view.channels);
        parallel_ranges(parallel, view.batch * view.positions, row_grain(view.channels, 2),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t r = begin; r < end; ++r) {
                                const int64_t own = r / view.positions * batch_step;
                                const float* from = x + r * view.channels;
                                float* to = y + r * view.channels;
                                if (mean) {
                                    k.binary_f32(kernels::Binary::sub, width, from, 1, mean + own, 1, to);
                                    from = to;
                                }
                                k.scale_shift_f32(width, from, factor + own, shift + own, to);
                            }
                        });
        return;
    }
    constexpr int64_t kBlock = 2048;  // stays in L1 between the calls
    parallel_ranges(parallel, view.batch * view.channels, row_grain(view.positions, 2),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r) {
                            const int64_t own = r / view.channels * batch_step + r % view.channels;
                            for (int64_t p = 0; p < view.positions; p += kBlock) {
                                const size_t n = static_cast<size_t>(std::min(kBlock, view.positions - p));
                                const float* from = x + r * view.positions + p;
                                float* to = y + r * view.positions + p;
                                if (mean) {
                                    k.map_f32(kernels::Unary::add_scalar, n, from, to, -mean[own], 0);
                                    from = to;
                                }
                                k.map_f32(kernels::Unary::mul_scalar, n, from, to, factor[own], 0);
                                k.map_f32(kernels::Unary::add_scalar, n, to, to, shift[own], 0);
                            }
                        }
                    });
}

}  // namespace linnet
