// Tap offsets of convolutions and pools.
#include "kernels/taps.h"

namespace linnet::kernels {

void fill_taps(const Window& w, int32_t* offsets, size_t ld) {
    size_t k[3], o[3], tap = 0;
    for (k[0] = 0; k[0] < w.kernel[0]; ++k[0])
        for (k[1] = 0; k[1] < w.kernel[1]; ++k[1])
            for (k[2] = 0; k[2] < w.kernel[2]; ++k[2], ++tap) {
                int32_t* out = offsets + tap * ld;
                for (o[0] = 0; o[0] < w.out[0]; ++o[0])
                    for (o[1] = 0; o[1] < w.out[1]; ++o[1])
                        for (o[2] = 0; o[2] < w.out[2]; ++o[2]) {
                            bool inside = true, padded = true;
                            ptrdiff_t at = 0;
                            for (int d = 0; d < 3; ++d) {
                                const ptrdiff_t size = (ptrdiff_t)w.in[d];
                                const ptrdiff_t i =
                                    (ptrdiff_t)(o[d] * w.stride[d] + k[d] * w.dilation[d]) - w.pad_begin[d];
                                inside = inside && i >= 0 && i < size;
                                padded = padded && i < size + w.pad_end[d];
                                at += i * (ptrdiff_t)w.x_stride[d];
                            }
                            *out++ = inside ? (int32_t)at : padded ? tap_padding : tap_outside;
                        }
            }
}

}  // namespace linnet::kernels
