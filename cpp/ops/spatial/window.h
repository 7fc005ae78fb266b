// The sliding window that convolutions and pools share: attributes, output sizes, and the pixel each tap reads.
#pragma once
#include <cstdint>
#include <vector>

#include "base/held_memory.h"
#include "base/shape.h"
#include "graph/attribute.h"
#include "graph/dims.h"
#include "kernels/taps.h"

namespace linnet {

constexpr size_t kMaxSpatial = 3;

enum class AutoPad : uint8_t { notset, valid, same_upper, same_lower };

// kernel_shape, strides, dilations, pads, auto_pad and ceil_mode, completed with their defaults and checked.
struct WindowAttributes {
    size_t spatial = 0;
    Shape kernel, stride, dilation, pad_begin, pad_end;  // one entry per spatial axis; kernel entries may be symbols
    AutoPad auto_pad = AutoPad::notset;
    bool ceil_mode = false;

    // Elements that the dilated kernel covers along an axis.
    int64_t extent(size_t axis) const { return (kernel[axis] - 1) * dilation[axis] + 1; }
};

// `spatial` is the number of spatial axes. `kernel` gives the kernel's size where the attribute is absent (the weights
// of a convolution; checked against the attribute when both are known) or is null where the attribute is required.
WindowAttributes read_window(const Attributes& attributes, size_t spatial, const Shape* kernel);

// Whether a convolution with weights of shape w, [M, C, 1, 1], reads each pixel by itself, all channels of it.
bool is_pointwise_conv(const Attributes& attributes, const Shape& w);

// The output's size along an axis, for an input of size `in` (any code of a dimension).
int64_t window_output(DimTable& dims, const WindowAttributes& window, size_t axis, int64_t in);

// Padding before and after an axis, with auto_pad resolved.
void window_pads(const WindowAttributes& window, size_t axis, int64_t in, int64_t& begin, int64_t& end);

// For the kernels: `in` and `out` are the spatial sizes, a pixel is `pixel_stride` elements.
kernels::Window make_window(const WindowAttributes& window, const int64_t* in, const int64_t* out,
                            int64_t pixel_stride);

// A window that is one contiguous run of the input, the same number of elements from the next pixel's: each pixel by
// itself, or all of the image.
bool is_pointwise(const kernels::Window& window);
bool covers_image(const kernels::Window& window);
// Few enough channels that a convolution's taps are better whole kernel rows, over a copy with padded rows.
bool takes_kernel_rows(const kernels::Window& window, int64_t channels);
// The window over that copy: its kernel is one element wide.
kernels::Window padded_rows(const kernels::Window& window, int64_t channels);

// The part of a length, for each of `images`, such that the busiest thread has least. Of equals the smallest, which
// evens out threads that come late, but not below `least` for that alone.
int64_t even_chunk(int64_t length, int64_t images, int threads, int64_t least);

// offsets[tap * ld + pixel - begin] for the output pixels [begin, end) (kernels::fill_taps for a part of the output).
void fill_tap_range(const kernels::Window& window, int64_t begin, int64_t end, int32_t* offsets, size_t ld) noexcept;

// Taps of a range of pixels: from a table made once where that is small, else filled into a buffer of the caller.
class TapTable {
  public:
    static constexpr size_t kBuffer = 4096;  // entries of the caller's buffer
    // Throws not_implemented when offsets do not fit.
    void prepare(const kernels::Window& window, int64_t image_elements);
    // Rows that one call of taps() can cover, a multiple of `align` (at least `align`).
    int64_t rows(int64_t align, int64_t most) const;
    // Offsets of the pixels [begin, end): entry tap * ld + i belongs to pixel begin + i.
    const int32_t* taps(int64_t begin, int64_t end, int32_t* buffer, size_t& ld) const noexcept;
    bool is_table() const noexcept { return !table_.empty(); }

  private:
    kernels::Window window_;
    std::vector<int32_t> table_;
    HeldMemory memory_;  // of the table
};

}  // namespace linnet
