// Tap offsets of convolutions and pools: which input pixel each tap of each output pixel reads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace linnet::kernels {

// Up to three spatial axes, outermost first; unused leading axes stay at their defaults (size 1).
struct Window {
    size_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, kernel[3] = {1, 1, 1};
    size_t stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
    ptrdiff_t pad_begin[3] = {0, 0, 0}, pad_end[3] = {0, 0, 0};
    size_t x_stride[3] = {0, 0, 0};  // elements between neighbours along each axis of the input

    size_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
    size_t pixels() const { return out[0] * out[1] * out[2]; }
};

// offsets[tap * ld + pixel], taps and pixels in row-major order: an element offset, tap_padding or tap_outside.
// The caller has checked that the input's extent fits in int32.
void fill_taps(const Window&, int32_t* offsets, size_t ld);

}  // namespace linnet::kernels
