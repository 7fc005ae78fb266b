// DeformConv (ai.onnx 19, 22), two spatial axes: attributes dilations 1, group 1, kernel_shape (of w), offset_group 1,
// pads 0, strides 1. Inputs x, w, offset, bias, mask. Each tap reads, bilinearly, where its offset points; zeros
// outside.
#include <algorithm>
#include <cmath>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
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
    const Shape out{x.shape[0], w.shape[0], window_output(ctx.dims, window, 0, x.shape[2]),
                    window_output(ctx.dims, window, 1, x.shape[3])};
    const auto expect = [](int64_t given, int64_t wanted, const char* what) {
        require(!is_number(given) || !is_number(wanted) || given == wanted, what, " is ", given, ", expected ", wanted);
    };
    expect(x.shape[1], ctx.dims.mul(w.shape[1], group), "the number of channels");
    if (is_number(w.shape[0])) require(w.shape[0] % group == 0, w.shape[0], " filters in ", group, " groups");
    if (is_number(x.shape[1]))
        require(x.shape[1] % offset_group == 0, x.shape[1], " channels in ", offset_group, " offset groups");
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
    ctx.output(0, x.dtype, out);
}

float bilinear(const float* image, int64_t height, int64_t width, float y, float x) {
    if (!(y > -1 && y < static_cast<float>(height) && x > -1 && x < static_cast<float>(width))) return 0;
    const float fy = std::floor(y), fx = std::floor(x), dy = y - fy, dx = x - fx;
    const auto top = static_cast<int64_t>(fy), left = static_cast<int64_t>(fx);
    const auto at = [&](int64_t r, int64_t c) {
        return r >= 0 && r < height && c >= 0 && c < width ? image[r * width + c] : 0.0f;
    };
    return (1 - dy) * ((1 - dx) * at(top, left) + dx * at(top, left + 1)) +
           dy * ((1 - dx) * at(top + 1, left) + dx * at(top + 1, left + 1));
}

void run(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &w = ctx.input(1), &offset = ctx.input(2);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const Shape kernel(w.shape.begin() + 2, w.shape.end());
    const WindowAttributes window = read_window(ctx.attributes, 2, &kernel);
    const int64_t group = ctx.attributes.i("group", 1), offset_group = ctx.attributes.i("offset_group", 1);
    const int64_t channels = x.shape[1], height = x.shape[2], width = x.shape[3];
    const int64_t filters = y.shape[1], places = y.shape[2] * y.shape[3], taps = kernel[0] * kernel[1];
    const int64_t depth = w.shape[1], in_offset_group = channels / offset_group, in_group = filters / group;
    if (offset.count() != x.shape[0] * offset_group * taps * 2 * places ||
        (ctx.has_input(4) && ctx.input(4).count() != x.shape[0] * offset_group * taps * places))
        fail(ErrorKind::invalid_argument, "offset of shape ", shape_text(offset.shape), " for output ",
             shape_text(y.shape));
    int64_t top, left, end;
    window_pads(window, 0, height, top, end);
    window_pads(window, 1, width, left, end);
    const float* mask = ctx.has_input(4) ? ctx.input(4).as<float>() : nullptr;
    const float* bias = ctx.has_input(3) ? ctx.input(3).as<float>() : nullptr;
    parallel_ranges(ctx.parallel(), x.shape[0] * places, 8, [&](int64_t begin, int64_t stop) {
        std::vector<float> column(static_cast<size_t>(channels * taps));  // what the taps read, [channel][tap]
        for (int64_t i = begin; i < stop; ++i) {
            const int64_t image = i / places, place = i % places;
            const auto row = static_cast<float>(place / y.shape[3] * window.stride[0] - top);
            const auto col = static_cast<float>(place % y.shape[3] * window.stride[1] - left);
            for (int64_t c = 0; c < channels; ++c) {
                const int64_t from = (image * offset_group + c / in_offset_group) * taps;
                const float* pixels = x.as<float>() + (image * channels + c) * height * width;
                for (int64_t t = 0; t < taps; ++t) {
                    const float* shift = offset.as<float>() + (from + t) * 2 * places + place;
                    const float value = bilinear(
                        pixels, height, width, row + static_cast<float>(t / kernel[1] * window.dilation[0]) + shift[0],
                        col + static_cast<float>(t % kernel[1] * window.dilation[1]) + shift[places]);
                    column[static_cast<size_t>(c * taps + t)] =
                        mask ? value * mask[(from + t) * places + place] : value;
                }
            }
            for (int64_t f = 0; f < filters; ++f)
                y.as<float>()[(image * filters + f) * places + place] =
                    (bias ? bias[f] : 0.0f) + kernels::kernels().dot_f32(static_cast<size_t>(depth * taps),
                                                                         w.as<float>() + f * depth * taps,
                                                                         column.data() + f / in_group * depth * taps);
        }
    });
}

}  // namespace

std::span<const OpDef> deform_conv_ops() {
    static const OpDef rows[] = {
        {.name = "DeformConv",
         .since = 19,
         .infer = infer,
         .run = run,
         .flags = kFloat32Only,
         .min_inputs = 3,
         .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
