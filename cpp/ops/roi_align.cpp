// RoiAlign (ai.onnx 10, 16, 22): attributes mode "avg", output_height 1, output_width 1, sampling_ratio 0 (adaptive),
// spatial_scale 1, coordinate_transformation_mode "half_pixel" (10: as "output_half_pixel").
#include <algorithm>
#include <cmath>

#include "graph/op.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
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
    ctx.output(0, x.dtype, {count, x.ranked ? x.shape[1] : kUnknownDim, height, width});
}

// A bilinear sample: four places and their weights.
struct Sample {
    int64_t at[4] = {0, 0, 0, 0};
    float weight[4] = {0, 0, 0, 0};
};

Sample sample(float y, float x, int64_t height, int64_t width) {
    Sample s;
    if (!(y >= -1 && y <= static_cast<float>(height) && x >= -1 && x <= static_cast<float>(width))) return s;
    y = std::max(y, 0.0f);
    x = std::max(x, 0.0f);
    const int64_t top = std::min(static_cast<int64_t>(y), height - 1),
                  left = std::min(static_cast<int64_t>(x), width - 1);
    const int64_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
    const float dy = top == height - 1 ? 0.0f : y - static_cast<float>(top);
    const float dx = left == width - 1 ? 0.0f : x - static_cast<float>(left);
    const int64_t at[4] = {top * width + left, top * width + right, bottom * width + left, bottom * width + right};
    const float weight[4] = {(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx};
    std::copy_n(at, 4, s.at);
    std::copy_n(weight, 4, s.weight);
    return s;
}

// Samples whose places are worked out together.
constexpr int64_t kMostSamples = 1024;

void run(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &rois = ctx.input(1), &batch = ctx.input(2);
    Tensor& out = ctx.output(0);
    if (out.count() == 0) return;
    const int64_t channels = x.shape[1], height = x.shape[2], width = x.shape[3];
    const int64_t out_h = out.shape[2], out_w = out.shape[3], count = out.shape[0];
    if (rois.rank() != 2 || rois.shape[1] != 4 || batch.count() != count || height == 0 || width == 0)
        fail(ErrorKind::invalid_argument, "rois of shape ", shape_text(rois.shape), " on x of shape ",
             shape_text(x.shape));
    const bool half_pixel =
        ctx.node.op->since >= 16 && ctx.attributes.s("coordinate_transformation_mode", "half_pixel") == "half_pixel";
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
    parallel_ranges(ctx.parallel(), count * out_h * out_w, 4, [&](int64_t begin, int64_t end) {
        std::vector<Sample> samples;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t roi = i / (out_h * out_w), py = i / out_w % out_h, px = i % out_w;
            const Box& b = boxes[static_cast<size_t>(roi)];
            const int64_t total = b.grid_h * b.grid_w;
            for (int64_t done = 0; done == 0 || done < total; done += kMostSamples) {
                samples.clear();
                for (int64_t s = done; s < std::min(total, done + kMostSamples); ++s) {
                    const auto sy = static_cast<float>(s / b.grid_w), sx = static_cast<float>(s % b.grid_w);
                    samples.push_back(
                        sample(b.y + (static_cast<float>(py) + (sy + 0.5f) / static_cast<float>(b.grid_h)) * b.bin_h,
                               b.x + (static_cast<float>(px) + (sx + 0.5f) / static_cast<float>(b.grid_w)) * b.bin_w,
                               height, width));
                }
                for (int64_t c = 0; c < channels; ++c) {
                    const float* from = x.as<float>() + (b.image * channels + c) * height * width;
                    float& place = out.as<float>()[((roi * channels + c) * out_h + py) * out_w + px];
                    float value = done ? place : 0;
                    bool first = done == 0;
                    for (const Sample& s : samples) {
                        const float parts[4] = {s.weight[0] * from[s.at[0]], s.weight[1] * from[s.at[1]],
                                                s.weight[2] * from[s.at[2]], s.weight[3] * from[s.at[3]]};
                        if (!max) {
                            value += parts[0] + parts[1] + parts[2] + parts[3];
                            continue;
                        }
                        const float most = std::max(std::max(parts[0], parts[1]), std::max(parts[2], parts[3]));
                        value = first ? most : std::max(value, most);
                        first = false;
                    }
                    place = value;
                    if (!max && total > 0 && done + kMostSamples >= total) place /= static_cast<float>(total);
                }
            }
        }
    });
}

}  // namespace

std::span<const OpDef> roi_align_ops() {
    static const OpDef rows[] = {
        {.name = "RoiAlign",
         .since = 10,
         .infer = infer,
         .run = run,
         .flags = kFloat32Only,
         .min_inputs = 3,
         .max_inputs = 3},
        {.name = "RoiAlign",
         .since = 16,
         .infer = infer,
         .run = run,
         .flags = kFloat32Only,
         .min_inputs = 3,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
