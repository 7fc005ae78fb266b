// GridSample (ai.onnx 16, 20, 22): attributes mode "bilinear" ("linear" from 20; "nearest", "bicubic" / "cubic"),
// padding_mode "zeros" ("border", "reflection"), align_corners 0. AffineGrid (20): align_corners 0. Any number of
// spatial axes. GridSample is lowered to an internal operator of the same name, channels-last: all channels of a place
// are mixed from the same neighbours.
#include <algorithm>
#include <cmath>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/shared/copy.h"
#include "ops/spatial/layouts.h"

namespace linnet {
namespace {

constexpr size_t kMostAxes = 3;
enum class Padding : uint8_t { zeros, border, reflection };

struct Mode {
    int taps = 2;  // 1: nearest, 2: linear, 4: cubic
    Padding padding = Padding::zeros;
    bool align = false;
};

Mode mode_of(const Attributes& attributes) {
    Mode m;
    const std::string mode = attributes.s("mode", "linear"), padding = attributes.s("padding_mode", "zeros");
    if (mode == "nearest") m.taps = 1;
    else if (mode == "linear" || mode == "bilinear") m.taps = 2;
    else if (mode == "cubic" || mode == "bicubic") m.taps = 4;
    else fail(ErrorKind::invalid_graph, "mode '", mode, "' is unknown");
    if (padding == "border") m.padding = Padding::border;
    else if (padding == "reflection") m.padding = Padding::reflection;
    else require(padding == "zeros", "padding_mode '", padding, "' is unknown");
    m.align = attributes.i("align_corners", 0) != 0;
    return m;
}

void infer_grid_sample(InferContext& ctx, bool last) {
    const Fact &x = ctx.input(0), &grid = ctx.input(1);
    require(is_float(grid.dtype), "grid is ", dtype_name(grid.dtype), ", expected a float type");
    if (!is_float(x.dtype)) fail(ErrorKind::not_implemented, "GridSample of ", dtype_name(x.dtype));
    mode_of(ctx.attributes);
    if (!x.ranked && !grid.ranked) return ctx.output_unranked(0, x.dtype);
    const int64_t rank = x.ranked ? x.rank() : grid.rank();
    require(rank >= 3 && rank <= static_cast<int64_t>(kMostAxes) + 2, "x has rank ", rank, ", expected 3 to 5");
    Shape out(static_cast<size_t>(rank), kUnknownDim);
    if (x.ranked) {
        out[0] = x.shape[0];
        out[last ? out.size() - 1 : 1] = x.shape[last ? x.shape.size() - 1 : 1];
    }
    if (grid.ranked) {
        require(grid.rank() == rank, "grid has rank ", grid.rank(), ", x has rank ", rank);
        require(!is_number(grid.shape.back()) || grid.shape.back() == rank - 2, "grid has ", grid.shape.back(),
                " coordinates, expected ", rank - 2);
        for (size_t i = 1; i + 1 < out.size(); ++i) out[last ? i : i + 1] = grid.shape[i];
        if (x.ranked && is_number(x.shape[0]) && is_number(grid.shape[0]))
            require(x.shape[0] == grid.shape[0], "x has ", x.shape[0], " images, grid ", grid.shape[0]);
    }
    ctx.output(0, x.dtype, out);
}

void infer_grid_sample_first(InferContext& ctx) { infer_grid_sample(ctx, false); }
void infer_grid_sample_last(InferContext& ctx) { infer_grid_sample(ctx, true); }

bool lower_grid_sample(const Graph& graph, NodeId id, Patch& patch) {
    const Fact &x = graph.fact(graph.node(id).inputs[0]), &grid = graph.fact(graph.node(id).inputs[1]);
    if (!x.ranked && !grid.ranked) return false;
    return lower_channels_last(graph, id, "GridSample", (x.ranked ? x.rank() : grid.rank()) - 2, patch);
}

// Folds x into [low, high] by reflections at its ends.
float reflected(float x, float low, float high) {
    const float range = high - low;
    if (!(range > 0)) return low;
    float over = x < low ? low - x : x > high ? x - high : 0.0f;
    if (over == 0) return x;
    const float times = std::floor(over / range);
    over -= times * range;
    const bool even = std::fmod(times, 2.0f) == 0;
    return (x < low) == even ? low + over : high - over;
}

// Keys' cubic weights with a = -0.75 for the four neighbours of a fraction.
void cubic_weights(float t, float* w) {
    constexpr float a = -0.75f;
    const auto near = [](float d) { return ((a + 2) * d - (a + 3)) * d * d + 1; };
    const auto far = [](float d) { return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a; };
    w[0] = far(t + 1);
    w[1] = near(t);
    w[2] = near(1 - t);
    w[3] = far(2 - t);
}

// Neighbours along one axis of a place of the grid: -1 where nothing is read.
struct Neighbours {
    int64_t at[4];
    float weight[4];
};

Neighbours neighbours(const Mode& mode, float g, int64_t length) {
    Neighbours n;
    const auto size = static_cast<float>(length);
    const float low = mode.align ? 0.0f : -0.5f, high = mode.align ? size - 1 : size - 0.5f;
    float x = mode.align ? (g + 1) / 2 * (size - 1) : ((g + 1) * size - 1) / 2;
    if (mode.taps == 1) x = std::nearbyint(x);
    if (mode.taps != 4 && (x < low || x > high)) {  // cubic: neighbour by neighbour
        if (mode.padding == Padding::border) x = std::clamp(x, 0.0f, size - 1);
        if (mode.padding == Padding::reflection) x = reflected(x, low, high);
    }
    if (!(std::fabs(x) < 1e9f)) x = -1e9f;  // NaN and what no integer holds: outside
    if (mode.taps == 1) x = std::nearbyint(x);
    const float base = std::floor(x), t = x - base;
    const auto first = static_cast<int64_t>(base) - (mode.taps == 4);
    n.weight[0] = mode.taps == 2 ? 1 - t : 1;
    n.weight[1] = t;
    if (mode.taps == 4) cubic_weights(t, n.weight);
    for (int i = 0; i < mode.taps; ++i) {
        int64_t at = first + i;
        if (at < 0 || at >= length) {
            if (mode.padding == Padding::zeros) at = -1;
            else if (mode.padding == Padding::border) at = std::clamp<int64_t>(at, 0, length - 1);
            else
                at = std::clamp<int64_t>(static_cast<int64_t>(reflected(static_cast<float>(at), low, high)), 0,
                                         length - 1);
        }
        n.at[i] = at;
    }
    return n;
}

void run_grid_sample(const RunContext& ctx, const Tensor& x, Tensor& y) {
    const Tensor& grid = ctx.input(1);
    if (y.count() == 0) return;
    const Mode mode = mode_of(ctx.attributes);
    const size_t axes = x.shape.size() - 2;
    const int64_t channels = x.shape.back(), inside = product(x.shape, 1, x.shape.size());
    const int64_t places = product(y.shape, 1, y.shape.size() - 1);
    if (inside == 0) fail(ErrorKind::invalid_argument, "x of shape ", shape_text(x.shape), " is empty");
    int64_t taps = 1;  // of a place
    for (size_t a = 0; a < axes; ++a) taps *= mode.taps;
    const int64_t together = std::max<int64_t>(1, 256 / taps);
    parallel_ranges(ctx.parallel(), x.shape[0] * places, 64, [&](int64_t begin, int64_t end) {
        std::vector<int64_t> offsets(static_cast<size_t>(together * taps));
        std::vector<float> weights(offsets.size());
        kernels::BlendF32 call;
        call.taps = static_cast<size_t>(taps);
        call.channels = static_cast<size_t>(channels);
        call.x = x.as<float>();
        call.offsets = offsets.data();
        call.weights = weights.data();
        call.y_stride = channels;
        for (int64_t first = begin; first < end; first += together) {
            const int64_t count = std::min(together, end - first);
            for (int64_t i = 0; i < count; ++i) {
                const float* g = grid.as<float>() + (first + i) * static_cast<int64_t>(axes);
                const int64_t image = (first + i) / places * inside;
                Neighbours along[kMostAxes];  // the grid names the last axis first
                for (size_t a = 0; a < axes; ++a) along[a] = neighbours(mode, g[axes - 1 - a], x.shape[1 + a]);
                for (int64_t t = 0; t < taps; ++t) {
                    int64_t rest = t, offset = 0, step = channels;
                    float weight = 1;
                    for (size_t a = axes; a-- > 0; rest /= mode.taps) {
                        const int64_t at = along[a].at[rest % mode.taps];
                        weight *= along[a].weight[rest % mode.taps];
                        offset = at < 0 || offset < 0 ? -1 : offset + at * step;
                        step *= x.shape[1 + a];
                    }
                    offsets[static_cast<size_t>(i * taps + t)] = offset < 0 ? -1 : image + offset;
                    weights[static_cast<size_t>(i * taps + t)] = weight;
                }
            }
            call.pixels = static_cast<size_t>(count);
            call.y = y.as<float>() + first * channels;
            kernels::kernels().blend_f32(call);
        }
    });
}

void run_grid_sample_last(RunContext& ctx) { run_grid_sample(ctx, ctx.input(0), ctx.output(0)); }

// Where the rank is not known before.
void run_grid_sample_first(RunContext& ctx) {
    const auto permuted = [](const Shape& values, const std::vector<int64_t>& perm) {
        Shape out;
        for (int64_t axis : perm) out.push_back(values[static_cast<size_t>(axis)]);
        return out;
    };
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const std::vector<int64_t> perm = to_channels_last(x.rank() - 2);
    Tensor from = Tensor::allocate(x.dtype, permuted(x.shape, perm));
    Tensor to = Tensor::allocate(y.dtype, permuted(y.shape, perm));
    copy_box(ctx.parallel(), x.dtype, from.shape, x.data, permuted(strides_of(x.shape), perm), from.data,
             strides_of(from.shape));
    run_grid_sample(ctx, from, to);
    copy_box(ctx.parallel(), y.dtype, to.shape, to.data, strides_of(to.shape), y.data,
             permuted(strides_of(y.shape), perm));
}

void infer_affine_grid(InferContext& ctx) {
    const Fact& theta = ctx.input(0);
    require(is_float(theta.dtype), "theta is ", dtype_name(theta.dtype), ", expected a float type");
    const Shape* size = ctx.ints(1);
    if (!size) {
        if (!theta.ranked || theta.rank() != 3 || !is_number(theta.shape[1]))
            return ctx.output_unranked(0, theta.dtype);
        require(theta.shape[1] == 2 || theta.shape[1] == 3, "theta has ", theta.shape[1], " rows, expected 2 or 3");
        return ctx.output(0, theta.dtype, Shape(static_cast<size_t>(theta.shape[1]) + 2, kUnknownDim));
    }
    require(size->size() == 4 || size->size() == 5, "size has ", size->size(), " entries, expected 4 or 5");
    const auto axes = static_cast<int64_t>(size->size()) - 2;
    if (theta.ranked) {
        require(theta.rank() == 3, "theta has rank ", theta.rank(), ", expected 3");
        require((!is_number(theta.shape[0]) || !is_number((*size)[0]) || theta.shape[0] == (*size)[0]) &&
                    (!is_number(theta.shape[1]) || theta.shape[1] == axes) &&
                    (!is_number(theta.shape[2]) || theta.shape[2] == axes + 1),
                "theta must be ", axes, " x ", axes + 1, " for each of the images");
    }
    Shape out{(*size)[0]};
    for (size_t i = 2; i < size->size(); ++i) out.push_back((*size)[i]);
    for (int64_t d : out) require(!is_number(d) || d >= 0, "size ", d, " is negative");
    out.push_back(axes);
    ctx.output(0, theta.dtype, out);
}

// y[i][r] = scale[r] * x[i] + base[r] for two or three axes.
template <int axes>
[[gnu::optimize("O3")]] void affine_row(int64_t n, const float* x, const float* scale, const float* base, float* y) {
    for (int64_t i = 0; i < n; ++i)
        for (int r = 0; r < axes; ++r) y[i * axes + r] = scale[r] * x[i] + base[r];
}

void run_affine_grid(RunContext& ctx) {
    const Tensor& theta = ctx.input(0);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const bool align = ctx.attributes.i("align_corners", 0) != 0;
    const int64_t axes = y.shape.back(), columns = axes + 1;
    if (theta.rank() != 3 || theta.shape[0] != y.shape[0] || theta.shape[1] != axes || theta.shape[2] != columns)
        fail(ErrorKind::invalid_argument, "theta has shape ", shape_text(theta.shape));
    std::vector<float> at[kMostAxes];  // the coordinates along each axis, the last axis first
    for (int64_t a = 0; a < axes; ++a) {
        const int64_t length = y.shape[static_cast<size_t>(axes - a)];
        const auto size = static_cast<float>(length);
        for (int64_t i = 0; i < length; ++i) {
            const auto place = static_cast<float>(i);
            at[a].push_back(align ? (length > 1 ? -1 + 2 * place / (size - 1) : 0.0f) : (2 * place + 1) / size - 1);
        }
    }
    const auto width = static_cast<int64_t>(at[0].size()), height = static_cast<int64_t>(at[1].size());
    const int64_t rows = product(y.shape, 1, y.shape.size() - 2);  // of one image
    parallel_ranges(
        ctx.parallel(), y.shape[0] * rows, std::max<int64_t>(1, 4096 / width), [&](int64_t begin, int64_t end) {
            for (int64_t row = begin; row < end; ++row) {
                const float* m = theta.as<float>() + row / rows * axes * columns;
                const auto h = static_cast<size_t>(row % height), d = static_cast<size_t>(row % rows / height);
                float scale[kMostAxes], base[kMostAxes];
                for (int64_t r = 0; r < axes; ++r, m += columns) {
                    scale[r] = m[0];
                    base[r] = m[1] * at[1][h] + (axes == 3 ? m[2] * at[2][d] : 0.0f) + m[axes];
                }
                float* to = y.as<float>() + row * width * axes;
                if (axes == 2) affine_row<2>(width, at[0].data(), scale, base, to);
                else affine_row<3>(width, at[0].data(), scale, base, to);
            }
        });
}

}  // namespace

std::span<const OpDef> grid_sample_ops() {
    constexpr auto row = [](const char* domain, int since) {
        return OpDef{.name = "GridSample",
                     .domain = domain,
                     .since = since,
                     .infer = infer_grid_sample_first,
                     .run = run_grid_sample_first,
                     .lower = lower_grid_sample,
                     .flags = kFloat32Only,
                     .min_inputs = 2,
                     .max_inputs = 2};
    };
    constexpr OpDef last = [row] {
        OpDef made = row("linnet", 1);
        made.infer = infer_grid_sample_last;
        made.run = run_grid_sample_last;
        made.lower = nullptr;
        return made;
    }();
    static const OpDef rows[] = {
        row("", 16),
        row("com.microsoft", 1),
        last,
        {.name = "AffineGrid",
         .since = 20,
         .infer = infer_affine_grid,
         .run = run_affine_grid,
         .flags = kFloat32Only,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
