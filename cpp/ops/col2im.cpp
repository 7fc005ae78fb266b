// Col2Im (18): sums columns of blocks back into an image of any number of spatial axes.
#include <algorithm>
#include <vector>

#include "kernels/kernels.h"
#include "ops/shared/combine.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

struct Windows {
    Shape strides, dilations, begins, ends;  // an axis each; ends are the pads behind
};

Windows windows_of(const Attributes& attributes, size_t axes) {
    auto read = [&](const char* name, size_t length, int64_t absent, int64_t least) {
        const auto given = attributes.ints(name);
        if (given.empty()) return Shape(length, absent);
        require(given.size() == length, name, " has ", given.size(), " values, expected ", length);
        for (int64_t value : given)
            require(value >= least && value <= (int64_t{1} << 31), name, " has the value ", value);
        return Shape(given.begin(), given.end());
    };
    const Shape pads = read("pads", 2 * axes, 0, 0);
    return {read("strides", axes, 1, 1), read("dilations", axes, 1, 1), Shape(pads.begin(), pads.begin() + axes),
            Shape(pads.begin() + axes, pads.end())};
}

// Positions of the window along each axis.
Shape positions(const Windows& windows, const Shape& image, const Shape& block) {
    Shape counts;
    for (size_t i = 0; i < image.size(); ++i) {
        const int64_t reach = checked_add(checked_mul(windows.dilations[i], block[i] - 1), 1);
        const int64_t room = checked_add(image[i], windows.begins[i] + windows.ends[i]) - reach;
        if (block[i] < 1 || room < 0)
            fail(ErrorKind::invalid_argument, "a block of ", block[i], " does not fit axis ", i, " of size ", image[i]);
        counts.push_back(room / windows.strides[i] + 1);
    }
    return counts;
}

void infer_col2im(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    require(data.dtype == DType::undefined || combine_of("add", data.dtype), "Col2Im of ", dtype_name(data.dtype));
    const auto image = int_list(ctx, 1), block = int_list(ctx, 2);
    require(!data.ranked || data.rank() == 3, "the input must have rank 3, not ", data.rank());
    if (!image) return ctx.output_unranked(0, data.dtype);
    const size_t axes = image->values.size();
    require(axes > 0, "image_shape is empty");
    const Windows windows = windows_of(ctx.attributes, axes);
    Shape shape{data.ranked ? data.shape[0] : kUnknownDim, kUnknownDim};
    for (int64_t size : image->values) {
        if (is_number(size) && size < 0) fail(ErrorKind::invalid_argument, "image_shape has the size ", size);
        shape.push_back(size);
    }
    if (block) {
        require(block->values.size() == axes, "block_shape has ", block->values.size(), " values, image_shape ", axes);
        for (size_t i = 0; i < axes; ++i)
            if (block->known(i) && block->values[i] < 1)
                fail(ErrorKind::invalid_argument, "block_shape has the size ", block->values[i]);
        if (data.ranked && block->all_known()) {
            const int64_t taps = element_count(block->values);
            if (is_number(data.shape[1]) && data.shape[1] % taps != 0)
                fail(ErrorKind::invalid_argument, "axis 1 of size ", data.shape[1], " is not a multiple of ", taps);
            shape[1] = ctx.dims.floor_div(data.shape[1], taps);
            if (is_number(data.shape[2]) && image->all_known()) {
                const int64_t places = element_count(positions(windows, image->values, block->values));
                if (places != data.shape[2])
                    fail(ErrorKind::invalid_argument, "axis 2 has ", data.shape[2], " blocks, the image has ", places);
            }
        }
    }
    ctx.output(0, data.dtype, shape);
}

// A run of `count` places, added to pixels `step` apart.
void add_run(DType dtype, Combine add, int64_t count, char* into, int64_t step, const char* from) {
    if (step == 1) return add(count, into, nullptr, from);
    if (dtype == DType::f32) {
        auto* y = reinterpret_cast<float*>(into);
        const auto* x = reinterpret_cast<const float*>(from);
        for (int64_t i = 0; i < count; ++i) y[i * step] += x[i];
        return;
    }
    for (int64_t i = 0; i < count; ++i) add(1, element(into, dtype, i * step), nullptr, element(from, dtype, i));
}

// The places [begin, end) along an axis whose pixels are inside the image, where place 0 has the pixel `first`.
struct Inside {
    int64_t begin, end;
};
Inside inside(int64_t first, int64_t step, int64_t places, int64_t pixels) {
    const int64_t begin = first < 0 ? (step - 1 - first) / step : 0;
    const int64_t end = first < pixels ? std::min(places, (pixels - first + step - 1) / step) : 0;
    return {begin, std::max(begin, end)};
}

void run_col2im(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    Shape image = ints_of(ctx.input(1)), block = ints_of(ctx.input(2));
    Windows windows = windows_of(ctx.attributes, image.size());
    Shape counts = positions(windows, image, block);
    if (y.count() == 0) return;
    __builtin_memset(y.data, 0, y.bytes());
    if (image.size() == 1) {  // rows of one place
        for (Shape* shape : {&image, &block, &counts, &windows.strides, &windows.dilations})
            *shape = {1, shape->front()};
        windows.begins = {0, windows.begins[0]};
    }
    const Combine add = combine_of("add", x.dtype);
    const int64_t taps = element_count(block), places = element_count(counts), pixels = element_count(image);
    const Shape strides = strides_of(image);
    const size_t last = image.size() - 1, before = last - 1;
    const int64_t run = counts[last], step = windows.strides[last], rows = counts[before];
    const int64_t row_step = strides[before] * windows.strides[before];
    const auto bytes = static_cast<int64_t>(dtype_size(x.dtype));
    // Rows of floats go to a kernel, as many at a time as are beside each other.
    const bool blended = x.dtype == DType::f32 && step == 1;
    std::vector<int64_t> offsets;
    std::vector<float> ones;
    if (blended) {
        ones.assign(static_cast<size_t>(rows), 1.0f);
        for (int64_t i = 0; i < rows; ++i) offsets.push_back(i * run);
    }
    // One task a sample and channel: tap by tap, so the order of the sums is fixed.
    parallel_for(ctx.parallel(), y.shape[0] * y.shape[1], [&](int64_t plane) {
        char* target = static_cast<char*>(y.data) + plane * pixels * bytes;
        for (int64_t tap = 0; tap < taps; ++tap) {
            Shape first = image;  // the pixel of place 0 along each axis
            int64_t tap_rest = tap;
            for (size_t i = image.size(); i-- > 0; tap_rest /= block[i])
                first[i] = tap_rest % block[i] * windows.dilations[i] - windows.begins[i];
            const Inside across = inside(first[last], step, run, image[last]);
            const Inside down = inside(first[before], windows.strides[before], rows, image[before]);
            if (across.begin == across.end || down.begin == down.end) continue;
            const char* source = static_cast<const char*>(x.data) + (plane * taps + tap) * places * bytes;
            for (int64_t outer = 0; outer * rows * run < places; ++outer) {
                int64_t rest = outer, at = first[last] + across.begin * step + first[before] * strides[before];
                bool all_inside = true;
                for (size_t i = before; i-- > 0; rest /= counts[i]) {
                    const int64_t pixel = rest % counts[i] * windows.strides[i] + first[i];
                    all_inside = all_inside && pixel >= 0 && pixel < image[i];
                    at += pixel * strides[i];
                }
                if (!all_inside) continue;
                at += down.begin * row_step;
                const int64_t from = (outer * rows + down.begin) * run + across.begin;
                const int64_t count = across.end - across.begin, height = down.end - down.begin;
                if (blended) {
                    kernels::kernels().blend_f32({.pixels = static_cast<size_t>(height),
                                                  .taps = 1,
                                                  .channels = static_cast<size_t>(count),
                                                  .x = reinterpret_cast<const float*>(source) + from,
                                                  .offsets = offsets.data(),
                                                  .weights = ones.data(),
                                                  .y = reinterpret_cast<float*>(target) + at,
                                                  .y_stride = row_step,
                                                  .accumulate = true});
                    continue;
                }
                for (int64_t i = 0; i < height; ++i)
                    add_run(x.dtype, add, count, target + (at + i * row_step) * bytes, step,
                            source + (from + i * run) * bytes);
            }
        }
    });
}

}  // namespace

std::span<const OpDef> col2im_ops() {
    static const OpDef rows[] = {
        {.name = "Col2Im", .since = 18, .infer = infer_col2im, .run = run_col2im, .min_inputs = 3, .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
