// RoiAlign (ai.onnx 10, 16, 22): attributes mode "avg", output_height 1, output_width 1, sampling_ratio 0 (adaptive),
// spatial_scale 1, coordinate_transformation_mode "half_pixel" (10: as "output_half_pixel"). Lowered to an internal
// operator of the same name, channels-last: all channels of a bin are mixed from the same places.
#include <algorithm>
#include <cmath>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/layouts.h"

namespace linnet {
namespace {

void infer(InferContext& ctx, size_t channel) {
    const Fact &x = ctx.input(0), &rois = ctx.input(1), &batch = ctx.input(2);
    require(is_float(x.dtype) && rois.dtype == x.dtype, "x is ", dtype_name(x.dtype), " and rois are ",
            dtype_name(rois.dtype), ", expected one float type");
    require(batch.dtype == DType::i64, "batch_indices are ", dtype_name(batch.dtype), ", expected int64");
    const int64_t height = ctx.attributes.i("output_height", 1), width = ctx.attributes.i("output_width", 1);
    require(height > 0 && width > 0 && height < (1 << 20) && width < (1 << 20), "output is ", height, " x ", width);
    const std::string mode = ctx.attributes.s("mode", "avg");
    require(mode == "avg" || mode == "max", "mode '", mode, "' is unknown");
    require(!x.ranked || x.rank() == 4, "x has rank ", x.rank(), ", expected 4");
    require(!rois.ranked || (rois.rank() == 2 && (!is_number(rois.shape[1]) || rois.shape[1] == 4)),
            "rois must be N x 4");
    require(!batch.ranked || batch.rank() == 1, "batch_indices have rank ", batch.rank(), ", expected 1");
    const int64_t count = rois.ranked ? rois.shape[0] : batch.ranked ? batch.shape[0] : kUnknownDim;
    if (rois.ranked && batch.ranked && is_number(rois.shape[0]) && is_number(batch.shape[0]))
        require(rois.shape[0] == batch.shape[0], rois.shape[0], " rois and ", batch.shape[0], " batch_indices");
    const int64_t channels = x.ranked ? x.shape[channel] : kUnknownDim;
    if (channel == 1) ctx.output(0, x.dtype, {count, channels, height, width});
    else ctx.output(0, x.dtype, {count, height, width, channels});
}
void infer_first(InferContext& ctx) { infer(ctx, 1); }
void infer_last(InferContext& ctx) { infer(ctx, 3); }

constexpr const char* kTransformation = "coordinate_transformation_mode";

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    Attributes attributes = graph.node(id).attributes;
    if (graph.node(id).op->since < 16) attributes.set(kTransformation, std::string("output_half_pixel"));
    return lower_channels_last(graph, id, "RoiAlign", 2, patch, &attributes);
}

// A place along an axis and its weight: what the kernel mixes is all pairs of an axis' and the other's.
struct Part {
    int64_t place;
    double weight;
};

// Adds the places that a sample lies between: none outside. What neighbouring samples share is one part if `merge`.
void add_sample(float at, int64_t length, bool merge, std::vector<Part>& parts) {
    if (!(at >= -1 && at <= static_cast<float>(length))) {
        if (!merge) parts.push_back({0, 0});  // a product of 0 is as large as others
        return;
    }
    at = std::max(at, 0.0f);
    const int64_t low = std::min(static_cast<int64_t>(at), length - 1), high = std::min(low + 1, length - 1);
    const float over = low == length - 1 ? 0.0f : at - static_cast<float>(low);
    const auto add = [&](int64_t place, float weight) {
        for (size_t i = parts.size(); merge && i-- > 0 && i + 2 >= parts.size();)
            if (parts[i].place == place) {
                parts[i].weight += static_cast<double>(weight);
                return;
            }
        parts.push_back({place, static_cast<double>(weight)});
    };
    add(low, 1 - over);
    add(high, over);
}

// What the kernel mixes at a time.
constexpr size_t kMostTaps = 1024;

void run(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &rois = ctx.input(1), &batch = ctx.input(2);
    Tensor& out = ctx.output(0);
    if (out.count() == 0) return;
    const int64_t height = x.shape[1], width = x.shape[2], channels = x.shape[3];
    const int64_t out_h = out.shape[1], out_w = out.shape[2], count = out.shape[0];
    if (rois.rank() != 2 || rois.shape[1] != 4 || batch.count() != count || height == 0 || width == 0)
        fail(ErrorKind::invalid_argument, "rois of shape ", shape_text(rois.shape), " on x of shape ",
             shape_text(x.shape));
    const bool half_pixel = ctx.attributes.s(kTransformation, "half_pixel") == "half_pixel";
    const bool max = ctx.attributes.s("mode", "avg") == "max";
    const float scale = ctx.attributes.f("spatial_scale", 1), offset = half_pixel ? 0.5f : 0.0f;
    const int64_t ratio = ctx.attributes.i("sampling_ratio", 0);
    struct Box {
        float y, x, bin_h, bin_w;
        int64_t grid_h, grid_w, image;
    };
    std::vector<Box> boxes;
    for (int64_t i = 0; i < count; ++i) {
        const float* roi = rois.as<float>() + i * 4;
        Box b;
        b.image = batch.as<int64_t>()[i];
        if (b.image < 0 || b.image >= x.shape[0])
            fail(ErrorKind::invalid_argument, "batch index ", b.image, " is outside [0, ", x.shape[0] - 1, "]");
        b.x = roi[0] * scale - offset;
        b.y = roi[1] * scale - offset;
        float w = roi[2] * scale - offset - b.x, h = roi[3] * scale - offset - b.y;
        if (!half_pixel) {
            w = std::max(w, 1.0f);
            h = std::max(h, 1.0f);
        }
        b.bin_h = h / static_cast<float>(out_h);
        b.bin_w = w / static_cast<float>(out_w);
        const auto steps = [&](float bin) {
            if (ratio > 0) return ratio;
            if (!(std::ceil(bin) < 4096)) fail(ErrorKind::invalid_argument, "roi ", i, " is too large");
            return std::max<int64_t>(0, static_cast<int64_t>(std::ceil(bin)));
        };
        b.grid_h = steps(b.bin_h);
        b.grid_w = steps(b.bin_w);
        if (b.grid_h > 4096 || b.grid_w > 4096) fail(ErrorKind::invalid_argument, "sampling_ratio ", ratio);
        boxes.push_back(b);
    }
    parallel_ranges(ctx.parallel(), count * out_h, 1, [&](int64_t begin, int64_t end) {
        std::vector<Part> rows, columns;
        std::vector<int64_t> offsets;
        std::vector<float> weights;
        kernels::BlendF32 call;
        call.pixels = 1;
        call.channels = static_cast<size_t>(channels);
        call.x = x.as<float>();
        call.largest = max;
        const auto mix = [&] {
            call.taps = offsets.size();
            call.offsets = offsets.data();
            call.weights = weights.data();
            kernels::kernels().blend_f32(call);
            call.accumulate = true;
            offsets.clear();
            weights.clear();
        };
        // The samples of bin `i` along an axis; their mean, or all of them for the largest.
        const auto samples = [max](float start, float bin, int64_t i, int64_t grid, int64_t length,
                                   std::vector<Part>& to) {
            to.clear();
            for (int64_t s = 0; s < grid; ++s) {
                const float within = (static_cast<float>(s) + 0.5f) / static_cast<float>(grid);
                add_sample(start + (static_cast<float>(i) + within) * bin, length, !max, to);
            }
            for (Part& part : to)
                if (!max) part.weight /= static_cast<double>(grid);
        };
        for (int64_t row = begin; row < end; ++row) {
            const Box& b = boxes[static_cast<size_t>(row / out_h)];
            samples(b.y, b.bin_h, row % out_h, b.grid_h, height, rows);
            for (int64_t px = 0; px < out_w; ++px) {
                samples(b.x, b.bin_w, px, b.grid_w, width, columns);
                call.y = out.as<float>() + (row * out_w + px) * channels;
                call.accumulate = false;
                if (rows.empty() || columns.empty()) std::fill_n(call.y, channels, 0.0f);
                for (const Part& v : rows)
                    for (const Part& h : columns) {
                        offsets.push_back(((b.image * height + v.place) * width + h.place) * channels);
                        weights.push_back(static_cast<float>(v.weight * h.weight));
                        if (offsets.size() >= kMostTaps) mix();
                    }
                if (!offsets.empty()) mix();
            }
        }
    });
}

}  // namespace

std::span<const OpDef> roi_align_ops() {
    constexpr auto row = [](int since) {
        return OpDef{
            .name = "RoiAlign", .since = since, .infer = infer_first, .lower = lower, .min_inputs = 3, .max_inputs = 3};
    };
    static const OpDef rows[] = {
        row(10),
        row(16),
        {.name = "RoiAlign",
         .domain = "linnet",
         .infer = infer_last,
         .run = run,
         .flags = kFloat32Only,
         .min_inputs = 3,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
