// MaxRoiPool (ai.onnx 1, 22): attributes pooled_shape (required), spatial_scale 1. A region's corners are rounded to
// pixels and are part of it; bins that lie outside of the image are 0. Computed in float64 where the input is.
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
    const Fact &x = ctx.input(0), &rois = ctx.input(1);
    require(is_float(x.dtype) && rois.dtype == x.dtype, "x is ", dtype_name(x.dtype), " and rois are ",
            dtype_name(rois.dtype), ", expected one float type");
    const std::vector<int64_t> pooled = ctx.attributes.ints("pooled_shape");
    require(pooled.size() == 2, "pooled_shape has ", pooled.size(), " sizes, expected 2");
    for (int64_t size : pooled) require(size > 0 && size < (1 << 20), "pooled_shape has a size of ", size);
    require(!x.ranked || x.rank() == 4, "x has rank ", x.rank(), ", expected 4");
    require(!rois.ranked || (rois.rank() == 2 && (!is_number(rois.shape[1]) || rois.shape[1] == 5)),
            "rois must be N x 5: batch index, x1, y1, x2, y2");
    ctx.output(0, x.dtype,
               {rois.ranked ? rois.shape[0] : kUnknownDim, x.ranked ? x.shape[1] : kUnknownDim, pooled[0], pooled[1]});
}

// Bins of one region along one axis: bin i covers the pixels [begin(i), end(i)). The step is rounded to the element
// type, so that a last bin may end a pixel late, as in other runtimes.
template <class T>
struct Bins {
    double start, size;
    T step;

    int64_t begin(int64_t i) const { return pixel(std::floor(static_cast<T>(i) * step)); }
    int64_t end(int64_t i) const { return pixel(std::ceil(static_cast<T>(i + 1) * step)); }
    int64_t pixel(double at) const { return static_cast<int64_t>(std::clamp(start + at, 0.0, size)); }
};

template <class T>
Bins<T> bins_of(T first, T last, T scale, int64_t count, int64_t size) {
    const double start = std::round(first * scale), end = std::round(last * scale);
    const T step = static_cast<T>(std::max(end - start + 1, 1.0)) / static_cast<T>(count);
    if (!std::isfinite(start) || !std::isfinite(end) || !std::isfinite(step))
        fail(ErrorKind::invalid_argument, "a region from ", first, " to ", last, " at spatial_scale ", scale);
    return {start, static_cast<double>(size), step};
}

template <class T>
T larger(T a, T b) {
    return b > a || std::isnan(b) ? b : a;
}

// to[c] = the largest of `rows` rows.
void largest_of_rows(int64_t rows, int64_t cols, const float* x, int64_t stride, float* to) {
    kernels::kernels().reduce_rows_f32(kernels::Reduce::max, static_cast<size_t>(rows), static_cast<size_t>(cols), x,
                                       stride, to, false);
}
void largest_of_rows(int64_t rows, int64_t cols, const double* x, int64_t stride, double* to) {
    std::copy_n(x, cols, to);
    for (int64_t r = 1; r < rows; ++r)
        for (int64_t c = 0; c < cols; ++c) to[c] = larger(to[c], x[r * stride + c]);
}

// Pixels [begin, end) of each bin along one axis of one region.
using Ranges = std::vector<std::pair<int64_t, int64_t>>;

template <class T>
void add_ranges(const Bins<T>& bins, int64_t count, Ranges& ranges) {
    for (int64_t i = 0; i < count; ++i) ranges.emplace_back(bins.begin(i), bins.end(i));
}

template <class T>
void pool(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &rois = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (rois.rank() != 2 || rois.shape[1] != 5)
        fail(ErrorKind::invalid_argument, "rois have shape ", shape_text(rois.shape), ", expected N x 5");
    const int64_t images = x.shape[0], channels = x.shape[1], height = x.shape[2], width = x.shape[3];
    const int64_t out_h = y.shape[2], out_w = y.shape[3];
    if (y.count() == 0) return;
    const T scale = static_cast<T>(ctx.attributes.f("spatial_scale", 1));
    parallel_ranges(ctx.parallel(), y.shape[0] * channels, 1, [&](int64_t from, int64_t to) {
        Ranges across, down;
        std::vector<T> line(static_cast<size_t>(width));
        for (int64_t task = from; task < to; ++task) {
            const T* roi = rois.as<T>() + task / channels * 5;
            if (task == from || task % channels == 0) {
                if (!(roi[0] > -1 && roi[0] < static_cast<T>(images)))
                    fail(ErrorKind::invalid_argument, "roi ", task / channels, " is of image ", roi[0], ", there are ",
                         images);
                across.clear(), down.clear();
                add_ranges(bins_of(roi[1], roi[3], scale, out_w, width), out_w, across);
                add_ranges(bins_of(roi[2], roi[4], scale, out_h, height), out_h, down);
            }
            const int64_t plane = static_cast<int64_t>(roi[0]) * channels + task % channels;
            const T* image = x.as<T>() + plane * height * width;
            T* out = y.as<T>() + task * out_h * out_w;
            const int64_t first = across.front().first, cols = across.back().second - first;
            for (const auto& [top, bottom] : down) {
                const bool rows = top < bottom && cols > 0;
                if (rows) largest_of_rows(bottom - top, cols, image + top * width + first, width, line.data());
                for (const auto& [left, right] : across) {
                    T most = rows && left < right ? -std::numeric_limits<T>::infinity() : T{0};
                    for (int64_t col = left; rows && col < right; ++col)
                        most = larger(most, line[static_cast<size_t>(col - first)]);
                    *out++ = most;
                }
            }
        }
    });
}

void run(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run);
    ctx.input(0).dtype == DType::f64 ? pool<double>(ctx) : pool<float>(ctx);
}

}  // namespace

std::span<const OpDef> max_roi_pool_ops() {
    static const OpDef rows[] = {
        {.name = "MaxRoiPool", .infer = infer, .run = run, .lower = lower_widened, .min_inputs = 2, .max_inputs = 2}};
    return rows;
}

}  // namespace linnet
