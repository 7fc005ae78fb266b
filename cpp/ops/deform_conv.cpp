// DeformConv (ai.onnx 19, 22), two spatial axes: attributes dilations 1, group 1, kernel_shape (of w), offset_group 1,
// pads 0, strides 1. Inputs x, w, offset, bias, mask. Each tap reads, bilinearly, where its offset points; zeros
// outside. Lowered to an internal, channels-last operator of the same name: what the taps of some pixels read becomes
// the rows of a product with the weights.
#include <algorithm>
#include <cmath>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

// `last`: x and the output are channels-last.
void infer(InferContext& ctx, bool last) {
    const Fact &x = ctx.input(0), &w = ctx.input(1), &offset = ctx.input(2);
    require(is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    for (int i = 1; i < 5; ++i)
        require(!ctx.has_input(i) || ctx.input(i).dtype == x.dtype, "input ", i, " is not of x's type");
    if (!x.ranked || !w.ranked || !offset.ranked) return ctx.output_unranked(0, x.dtype);
    if (x.rank() != 4) fail(ErrorKind::not_implemented, "DeformConv with ", x.rank() - 2, " spatial axes");
    require(w.rank() == 4 && offset.rank() == 4, "w and offset must have rank 4");
    const int64_t group = ctx.attributes.i("group", 1), offset_group = ctx.attributes.i("offset_group", 1);
    require(group >= 1 && offset_group >= 1, "group is ", group, ", offset_group ", offset_group);
    const Shape kernel(w.shape.begin() + 2, w.shape.end());
    const WindowAttributes window = read_window(ctx.attributes, 2, &kernel);
    const size_t row = last ? 1 : 2;
    const int64_t channels = x.shape[last ? 3 : 1];
    const Shape out{x.shape[0], w.shape[0], window_output(ctx.dims, window, 0, x.shape[row]),
                    window_output(ctx.dims, window, 1, x.shape[row + 1])};
    const auto expect = [](int64_t given, int64_t wanted, const char* what) {
        require(!is_number(given) || !is_number(wanted) || given == wanted, what, " is ", given, ", expected ", wanted);
    };
    expect(channels, ctx.dims.mul(w.shape[1], group), "the number of channels");
    if (is_number(w.shape[0])) require(w.shape[0] % group == 0, w.shape[0], " filters in ", group, " groups");
    if (is_number(channels))
        require(channels % offset_group == 0, channels, " channels in ", offset_group, " offset groups");
    const int64_t taps = ctx.dims.mul(ctx.dims.mul(window.kernel[0], window.kernel[1]), offset_group);
    const Shape offsets{x.shape[0], ctx.dims.mul(taps, 2), out[2], out[3]};
    const Shape masks{x.shape[0], taps, out[2], out[3]};
    for (size_t i = 0; i < 4; ++i) {
        expect(offset.shape[i], offsets[i], "a size of offset");
        if (!ctx.has_input(4) || !ctx.input(4).ranked) continue;
        require(ctx.input(4).rank() == 4, "mask has rank ", ctx.input(4).rank(), ", expected 4");
        expect(ctx.input(4).shape[i], masks[i], "a size of mask");
    }
    if (ctx.has_input(3) && ctx.input(3).ranked) {
        require(ctx.input(3).rank() == 1, "bias has rank ", ctx.input(3).rank(), ", expected 1");
        expect(ctx.input(3).shape[0], w.shape[0], "the size of bias");
    }
    ctx.output(0, x.dtype, last ? Shape{out[0], out[2], out[3], out[1]} : out);
}
void infer_first(InferContext& ctx) { infer(ctx, false); }
void infer_last(InferContext& ctx) { infer(ctx, true); }

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    return lower_channels_last(graph, id, "DeformConv", 2, patch);
}

struct DeformPlan {
    WindowAttributes window;
    int64_t images = 0, height = 0, width = 0, channels = 0;  // of x
    int64_t out_w = 0, places = 0, filters = 0;               // of y
    int64_t groups = 1, offset_groups = 1, taps = 1;
    int64_t top = 0, left = 0;
    int64_t rows = 0, parts = 1;           // pixels of a product; how many are under way at a time
    std::vector<int32_t> steps;            // where each tap of each of those pixels lies
    std::shared_ptr<const Tensor> packed;  // null: weights are packed in every run
    size_t packed_group = 0;               // floats of one group's packed weights
    int64_t columns() const { return rows * taps * channels; }
    kernels::PackB layout() const {
        const auto k = static_cast<size_t>(channels / groups), n = static_cast<size_t>(filters / groups);
        return {static_cast<size_t>(taps), k, n, 1, taps, static_cast<ptrdiff_t>(k) * taps};
    }
    size_t panels() const {
        const size_t columns = kernels::kernels().gemm_cols;
        return (layout().n + columns - 1) / columns;
    }
    void pack(const float* w, float* out) const {
        const kernels::PackB b = layout();
        for (int64_t g = 0; g < groups; ++g)
            kernels::kernels().pack_b_f32(b, w + static_cast<size_t>(g) * b.n * b.k * b.taps,
                                          out + static_cast<size_t>(g) * packed_group, 0, panels());
    }
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto plan = std::make_shared<DeformPlan>();
    DeformPlan& p = *plan;
    const Shape &x = ctx.input(0).shape, &w = ctx.input(1).shape, &y = ctx.output(0).shape;
    const Shape kernel(w.begin() + 2, w.end());
    p.window = read_window(ctx.attributes, 2, &kernel);
    p.images = x[0], p.height = x[1], p.width = x[2], p.channels = x[3];
    p.out_w = y[2], p.places = y[1] * y[2], p.filters = y[3];
    p.groups = ctx.attributes.i("group", 1);
    p.offset_groups = ctx.attributes.i("offset_group", 1);
    p.taps = kernel[0] * kernel[1];
    if (element_count(y) == 0) return plan;
    int64_t end;
    window_pads(p.window, 0, p.height, p.top, end);
    window_pads(p.window, 1, p.width, p.left, end);
    const auto& table = kernels::kernels();
    const auto tile = static_cast<int64_t>(table.gemm_rows);
    p.rows = std::clamp<int64_t>(32768 / std::max<int64_t>(1, p.taps * p.channels) / tile, 1, 8) * tile;
    p.parts = std::min<int64_t>(std::max(1, ctx.threads), p.images * ((p.places + p.rows - 1) / p.rows));
    if (checked_mul(checked_mul(p.rows, p.taps), p.channels) > INT32_MAX)
        fail(ErrorKind::not_implemented, "DeformConv over ", p.taps, " taps of ", p.channels, " channels");
    for (int64_t t = 0; t < p.taps; ++t)
        for (int64_t i = 0; i < p.rows; ++i) p.steps.push_back(static_cast<int32_t>((i * p.taps + t) * p.channels));
    const kernels::PackB b = p.layout();
    p.packed_group = table.pack_b_f32_size(b.taps, b.k, b.n);
    const size_t floats = p.packed_group * static_cast<size_t>(p.groups);
    auto scratch = static_cast<size_t>(checked_mul(p.parts, p.columns()));
    if (ctx.is_constant(1)) {
        const std::string kind = cat("deform_conv ", table.isa, ' ', p.groups, ' ', p.taps, ' ', b.k, ' ', b.n);
        p.packed = ctx.pack<Tensor>(1, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {static_cast<int64_t>(floats)}));
            p.pack(weights.as<float>(), out->as<float>());
            return out;
        });
    } else {
        scratch += floats;
    }
    ctx.scratch(scratch * sizeof(float));
    return plan;
}

// Where the taps of the output pixels [begin, end) of an image read, bilinearly, for one group of offsets.
void fill_corners(const RunContext& ctx, const DeformPlan& p, int64_t image, int64_t group, int64_t begin, int64_t end,
                  int64_t* offsets, float* weights) {
    const float* mask = ctx.has_input(4) ? ctx.input(4).as<float>() : nullptr;
    const auto height = static_cast<float>(p.height), width = static_cast<float>(p.width);
    for (int64_t t = 0; t < p.taps; ++t) {
        const int64_t from = (image * p.offset_groups + group) * p.taps + t;
        const float* shift = ctx.input(2).as<float>() + from * 2 * p.places;
        const auto down = static_cast<float>(t / p.window.kernel[1] * p.window.dilation[0] - p.top);
        const auto right = static_cast<float>(t % p.window.kernel[1] * p.window.dilation[1] - p.left);
        for (int64_t place = begin; place < end; ++place) {
            int64_t* at = offsets + ((place - begin) * p.taps + t) * 4;
            float* weight = weights + ((place - begin) * p.taps + t) * 4;
            const float y = static_cast<float>(place / p.out_w * p.window.stride[0]) + down + shift[place];
            const float x = static_cast<float>(place % p.out_w * p.window.stride[1]) + right + shift[p.places + place];
            std::fill_n(at, 4, -1);
            if (!(y > -1 && y < height && x > -1 && x < width)) continue;
            const float dy = y - std::floor(y), dx = x - std::floor(x);
            const auto row = static_cast<int64_t>(std::floor(y)), column = static_cast<int64_t>(std::floor(x));
            const float scale = mask ? mask[from * p.places + place] : 1.0f;
            const float along_y[2] = {(1 - dy) * scale, dy * scale}, along_x[2] = {1 - dx, dx};
            for (int64_t i = 0; i < 4; ++i) {
                const int64_t r = row + i / 2, c = column + i % 2;
                if (r >= 0 && r < p.height && c >= 0 && c < p.width)
                    at[i] = ((image * p.height + r) * p.width + c) * p.channels;
                weight[i] = along_y[i / 2] * along_x[i % 2];
            }
        }
    }
}

void run(RunContext& ctx) {
    const DeformPlan& p = *ctx.state<DeformPlan>();
    const Tensor &x = ctx.input(0), &offset = ctx.input(2);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const int64_t samples = p.images * p.offset_groups * p.taps * p.places;
    if (offset.count() != samples * 2 || (ctx.has_input(4) && ctx.input(4).count() != samples))
        fail(ErrorKind::invalid_argument, "offset of shape ", shape_text(offset.shape), " for output ",
             shape_text(y.shape));
    const auto& table = kernels::kernels();
    auto* scratch = reinterpret_cast<float*>(ctx.scratch());
    const float* packed = scratch + p.parts * p.columns();
    if (p.packed) packed = p.packed->as<float>();
    else p.pack(ctx.input(1).as<float>(), scratch + p.parts * p.columns());
    const kernels::PackB b = p.layout();
    const int64_t blocks = (p.places + p.rows - 1) / p.rows, tasks = p.images * blocks;
    const int64_t within = p.channels / p.offset_groups;
    parallel_for(ctx.parallel(), p.parts, [&](int64_t part) {
        std::vector<int64_t> offsets(static_cast<size_t>(p.rows * p.taps * 4));
        std::vector<float> weights(offsets.size());
        float* columns = scratch + part * p.columns();
        for (int64_t task = tasks * part / p.parts; task < tasks * (part + 1) / p.parts; ++task) {
            const int64_t image = task / blocks, begin = task % blocks * p.rows;
            const int64_t end = std::min(p.places, begin + p.rows);
            const auto count = static_cast<size_t>(end - begin);
            for (int64_t g = 0; g < p.offset_groups; ++g) {
                fill_corners(ctx, p, image, g, begin, end, offsets.data(), weights.data());
                kernels::BlendF32 call;
                call.pixels = count * b.taps;
                call.taps = 4;
                call.channels = static_cast<size_t>(within);
                call.x = x.as<float>() + g * within;
                call.offsets = offsets.data();
                call.weights = weights.data();
                call.y = columns + g * within;
                call.y_stride = p.channels;
                table.blend_f32(call);
            }
            for (int64_t g = 0; g < p.groups; ++g) {
                const int64_t filter = g * static_cast<int64_t>(b.n);
                kernels::EpilogueStep bias{.kind = kernels::EpilogueStep::Kind::add};
                if (ctx.has_input(3)) bias.data = ctx.input(3).as<float>() + filter;
                const float* rows = columns + g * static_cast<int64_t>(b.k);
                const kernels::ConvF32 call{count,
                                            b.n,
                                            b.taps,
                                            b.k,
                                            rows,
                                            p.steps.data(),
                                            static_cast<size_t>(p.rows),
                                            rows,
                                            packed + static_cast<size_t>(g) * p.packed_group,
                                            y.as<float>() + (image * p.places + begin) * p.filters + filter,
                                            p.filters,
                                            {&bias, bias.data ? size_t{1} : size_t{0}}};
                table.conv_f32(call, 0, count, 0, p.panels());
            }
        }
    });
}

}  // namespace

std::span<const OpDef> deform_conv_ops() {
    static const OpDef rows[] = {
        {.name = "DeformConv", .since = 19, .infer = infer_first, .lower = lower, .min_inputs = 3, .max_inputs = 5},
        {.name = "DeformConv",
         .domain = "linnet",
         .infer = infer_last,
         .run = run,
         .prepare = prepare,
         .flags = kFloat32Only,
         .min_inputs = 3,
         .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
