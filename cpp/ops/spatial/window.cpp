// Sliding windows: see window.h.
#include "ops/spatial/window.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kMaxSize = (int64_t{1} << 31) - 1;
// A table of offsets is kept when it is at most this many entries ...
constexpr int64_t kSmallTable = int64_t{1} << 18;
// ... and made anyway, when a buffer would hold too few pixels, up to this many.
constexpr int64_t kLargestTable = int64_t{1} << 26;

Shape sizes(const Attributes& attributes, const char* name, size_t count, int64_t absent, int64_t least) {
    const std::vector<int64_t> values = attributes.ints(name);
    if (values.empty()) return Shape(count, absent);
    require(values.size() == count, name, " has ", values.size(), " entries, expected ", count);
    for (int64_t v : values) require(v >= least && v <= kMaxSize, name, " entry ", v, " is out of range");
    return Shape(values.begin(), values.end());
}

AutoPad auto_pad_of(const std::string& text) {
    if (text == "NOTSET" || text.empty()) return AutoPad::notset;
    if (text == "VALID") return AutoPad::valid;
    if (text == "SAME_UPPER") return AutoPad::same_upper;
    if (text == "SAME_LOWER") return AutoPad::same_lower;
    fail(ErrorKind::invalid_graph, "auto_pad '", text, "' is none of NOTSET, VALID, SAME_UPPER, SAME_LOWER");
}

}  // namespace

WindowAttributes read_window(const Attributes& attributes, size_t spatial, const Shape* kernel) {
    if (spatial < 1 || spatial > kMaxSpatial)
        fail(ErrorKind::not_implemented, spatial, " spatial axes; 1 to ", kMaxSpatial, " are supported");
    WindowAttributes w;
    w.spatial = spatial;
    const std::vector<int64_t> given = attributes.ints("kernel_shape");
    if (given.empty()) {
        require(kernel != nullptr, "attribute kernel_shape is missing");
        w.kernel = *kernel;
    } else {
        w.kernel = sizes(attributes, "kernel_shape", spatial, 1, 1);
        for (size_t i = 0; kernel && i < spatial; ++i)
            require(!is_number((*kernel)[i]) || (*kernel)[i] == w.kernel[i], "kernel_shape entry ", w.kernel[i],
                    " differs from the weights' size ", (*kernel)[i]);
    }
    for (int64_t k : w.kernel)
        require(!is_number(k) || (k >= 1 && k <= kMaxSize), "kernel size ", k, " is out of range");
    w.stride = sizes(attributes, "strides", spatial, 1, 1);
    w.dilation = sizes(attributes, "dilations", spatial, 1, 1);
    w.auto_pad = auto_pad_of(attributes.s("auto_pad", "NOTSET"));
    w.pad_begin = w.pad_end = Shape(spatial, 0);
    if (w.auto_pad == AutoPad::notset) {
        const Shape pads = sizes(attributes, "pads", 2 * spatial, 0, 0);
        std::copy_n(pads.begin(), spatial, w.pad_begin.begin());
        std::copy_n(pads.begin() + spatial, spatial, w.pad_end.begin());
    }
    w.ceil_mode = attributes.i("ceil_mode", 0) != 0;
    return w;
}

bool is_pointwise_conv(const Attributes& attributes, const Shape& w) {
    if (attributes.i("group", 1) != 1 || w.size() != 4 || w[2] != 1 || w[3] != 1) return false;
    const Shape kernel{1, 1};
    const WindowAttributes window = read_window(attributes, 2, &kernel);
    for (size_t i = 0; i < 2; ++i) {
        int64_t before = 0, after = 0;
        window_pads(window, i, 1, before, after);
        if (window.stride[i] != 1 || before != 0 || after != 0) return false;
    }
    return true;
}

int64_t window_output(DimTable& dims, const WindowAttributes& w, size_t axis, int64_t in) {
    const int64_t stride = w.stride[axis];
    if (w.auto_pad == AutoPad::same_upper || w.auto_pad == AutoPad::same_lower) return dims.ceil_div(in, stride);
    if (!is_number(w.kernel[axis])) return kUnknownDim;
    const int64_t pads = w.pad_begin[axis] + w.pad_end[axis];
    const int64_t room = dims.add(in, pads - w.extent(axis));
    if (!is_number(room)) {
        if (w.ceil_mode && stride != 1) return kUnknownDim;
        return dims.add(dims.floor_div(room, stride), 1);
    }
    if (room < 0)
        fail(ErrorKind::invalid_argument, "a kernel that covers ", w.extent(axis), " elements does not fit into ", in,
             " with padding ", pads);
    if (!w.ceil_mode || w.auto_pad != AutoPad::notset) return checked_add(room / stride, 1);
    int64_t out = checked_add(checked_add(room, stride - 1) / stride, 1);
    if (checked_mul(out - 1, stride) >= checked_add(in, w.pad_begin[axis]))
        --out;  // a window may not start in the padding behind
    return out;
}

void window_pads(const WindowAttributes& w, size_t axis, int64_t in, int64_t& begin, int64_t& end) {
    begin = w.pad_begin[axis];
    end = w.pad_end[axis];
    if (w.auto_pad != AutoPad::same_upper && w.auto_pad != AutoPad::same_lower) return;
    const int64_t stride = w.stride[axis], out = checked_add(in, stride - 1) / stride;
    const int64_t total = std::max<int64_t>(0, checked_add((out - 1) * stride, w.extent(axis)) - in);
    begin = w.auto_pad == AutoPad::same_upper ? total / 2 : total - total / 2;
    end = total - begin;
}

kernels::Window make_window(const WindowAttributes& w, const int64_t* in, const int64_t* out, int64_t pixel_stride) {
    kernels::Window window;
    int64_t step = pixel_stride;
    for (size_t axis = w.spatial; axis-- > 0;) {
        const size_t to = axis + kMaxSpatial - w.spatial;
        int64_t begin, end;
        window_pads(w, axis, in[axis], begin, end);
        window.in[to] = static_cast<size_t>(in[axis]);
        window.out[to] = static_cast<size_t>(out[axis]);
        window.kernel[to] = static_cast<size_t>(w.kernel[axis]);
        window.stride[to] = static_cast<size_t>(w.stride[axis]);
        window.dilation[to] = static_cast<size_t>(w.dilation[axis]);
        window.pad_begin[to] = static_cast<ptrdiff_t>(begin);
        window.pad_end[to] = static_cast<ptrdiff_t>(end);
        window.x_stride[to] = static_cast<size_t>(step);
        step = checked_mul(step, in[axis]);
    }
    return window;
}

namespace {

// A coordinate's offset, tap_padding or tap_outside.
int64_t place(const kernels::Window& w, size_t axis, int64_t out, int64_t tap) noexcept {
    const int64_t at =
        out * static_cast<int64_t>(w.stride[axis]) - w.pad_begin[axis] + tap * static_cast<int64_t>(w.dilation[axis]);
    const int64_t in = static_cast<int64_t>(w.in[axis]);
    if (at >= 0 && at < in) return at * static_cast<int64_t>(w.x_stride[axis]);
    return at >= in + w.pad_end[axis] ? kernels::tap_outside : kernels::tap_padding;
}

}  // namespace

void fill_tap_range(const kernels::Window& w, int64_t begin, int64_t end, int32_t* offsets, size_t ld) noexcept {
    const auto width = static_cast<int64_t>(w.out[2]), height = static_cast<int64_t>(w.out[1]);
    const auto stride = static_cast<int64_t>(w.stride[2]), in = static_cast<int64_t>(w.in[2]);
    const auto step = static_cast<int64_t>(w.x_stride[2]);
    size_t tap = 0;
    for (size_t i = 0; i < w.kernel[0]; ++i)
        for (size_t j = 0; j < w.kernel[1]; ++j)
            for (size_t k = 0; k < w.kernel[2]; ++k, ++tap) {
                int32_t* row = offsets + tap * ld;
                for (int64_t p = begin; p < end;) {  // one output row, or what the range has of it
                    const int64_t line = p / width, first = p % width;
                    const int64_t last = std::min(width, first + end - p);
                    const int64_t plane = place(w, 0, line / height, static_cast<int64_t>(i));
                    const int64_t y = place(w, 1, line % height, static_cast<int64_t>(j));
                    int64_t at = first * stride - w.pad_begin[2] + static_cast<int64_t>(k * w.dilation[2]);
                    const int64_t out_of = plane < 0 || y < 0 ? std::min(plane, y) : 0;
                    const int64_t base = plane + y;
                    for (int64_t x = first; x < last; ++x, at += stride) {
                        int64_t value;
                        if (at < 0 || at >= in)
                            value = at >= in + w.pad_end[2] ? kernels::tap_outside
                                                            : std::min<int64_t>(kernels::tap_padding, out_of);
                        else value = out_of ? out_of : base + at * step;
                        *row++ = static_cast<int32_t>(value);
                    }
                    p += last - first;
                }
            }
}

void TapTable::prepare(const kernels::Window& window, int64_t image_elements) {
    if (image_elements > kMaxSize)
        fail(ErrorKind::not_implemented, "an image of ", image_elements, " elements; at most ", kMaxSize,
             " are supported in a sliding window");
    window_ = window;
    int64_t taps = 1, pixels = 1;
    for (size_t i = 0; i < kMaxSpatial; ++i) {
        taps = checked_mul(taps, static_cast<int64_t>(window.kernel[i]));
        pixels = checked_mul(pixels, static_cast<int64_t>(window.out[i]));
    }
    const int64_t entries = checked_mul(taps, pixels);
    if (entries > kSmallTable && taps * 8 <= static_cast<int64_t>(kBuffer)) return;
    if (entries > kLargestTable)
        fail(ErrorKind::not_implemented, "a window of ", taps, " elements at ", pixels, " places is too large");
    memory_ = HeldMemory(entries * static_cast<int64_t>(sizeof(int32_t)));
    table_.resize(static_cast<size_t>(entries));
    fill_tap_range(window, 0, pixels, table_.data(), static_cast<size_t>(pixels));
}

int64_t TapTable::rows(int64_t align, int64_t most) const {
    most = std::max(align, most / align * align);
    if (is_table()) return most;
    const int64_t fit = static_cast<int64_t>(kBuffer / std::max<size_t>(1, window_.taps()));
    // `align` rows may not fit with many taps: fewer, then; it only costs speed.
    return fit < align ? std::max<int64_t>(1, fit) : std::min(most, fit / align * align);
}

const int32_t* TapTable::taps(int64_t begin, int64_t end, int32_t* buffer, size_t& ld) const noexcept {
    if (is_table()) {
        ld = window_.pixels();
        return table_.data() + begin;
    }
    ld = static_cast<size_t>(end - begin);
    fill_tap_range(window_, begin, end, buffer, ld);
    return buffer;
}

bool is_pointwise(const kernels::Window& w) {
    for (size_t i = 0; i < kMaxSpatial; ++i)
        if (w.kernel[i] != 1 || w.stride[i] != 1 || w.pad_begin[i] != 0 || w.pad_end[i] != 0) return false;
    return true;
}
bool covers_image(const kernels::Window& w) {
    for (size_t i = 0; i < kMaxSpatial; ++i)
        if (w.kernel[i] != w.in[i] || w.pad_begin[i] != 0 || w.pad_end[i] != 0 ||
            (w.dilation[i] != 1 && w.kernel[i] != 1))
            return false;
    return true;
}

bool takes_kernel_rows(const kernels::Window& w, int64_t channels) {
    constexpr int64_t kFewChannels = 4;
    return channels <= kFewChannels && w.kernel[2] > 1 && w.dilation[2] == 1 &&
           w.pad_begin[2] + w.pad_end[2] <= static_cast<ptrdiff_t>(w.in[2]) + 64;
}

kernels::Window padded_rows(const kernels::Window& window, int64_t channels) {
    kernels::Window w = window;
    w.in[2] = static_cast<size_t>(static_cast<ptrdiff_t>(w.in[2]) + w.pad_begin[2] + w.pad_end[2]);
    w.kernel[2] = 1;
    w.pad_begin[2] = w.pad_end[2] = 0;
    w.x_stride[1] = w.in[2] * static_cast<size_t>(channels);
    w.x_stride[0] = w.in[1] * w.x_stride[1];
    return w;
}

int64_t even_chunk(int64_t length, int64_t images, int threads, int64_t least) {
    int64_t best = length, busiest = (images + threads - 1) / threads * length;
    for (int64_t parts = 2; parts <= 4 * threads && threads > 1; ++parts) {
        const int64_t chunk = (length + parts - 1) / parts, tasks = images * ((length + chunk - 1) / chunk);
        const int64_t load = (tasks + threads - 1) / threads * chunk;
        if (load > busiest || (parts > threads && chunk < least)) continue;
        best = chunk;
        busiest = load;
    }
    return best;
}

}  // namespace linnet
