// Where the tiles of a Winograd convolution lie, for floats and for bytes.
#pragma once
#include <cstdint>

#include "kernels/taps.h"

namespace linnet {

// Tiles of m x m outputs, counted through images.
struct WinogradTiles {
    int64_t m = 0, k = 0;              // outputs along a tile's side, 2 or 4; channels of a pixel
    kernels::Window window;            // of the input
    int64_t tiles_h = 0, tiles_w = 0;  // of one image
};

// The (m + 2)^2 pixels that a tile reads, `zero` for padding, and the m * m rows that it writes, -1 outside.
template <class T>
void find_tile(const WinogradTiles& tiles, const T* x, const T* zero, int64_t tile, const T** pixels, int32_t* rows) {
    const int64_t image = tile / (tiles.tiles_h * tiles.tiles_w), within = tile % (tiles.tiles_h * tiles.tiles_w);
    const int64_t top = within / tiles.tiles_w * tiles.m, left = within % tiles.tiles_w * tiles.m;
    const kernels::Window& w = tiles.window;
    const auto in_h = static_cast<int64_t>(w.in[1]), in_w = static_cast<int64_t>(w.in[2]);
    const auto out_h = static_cast<int64_t>(w.out[1]), out_w = static_cast<int64_t>(w.out[2]);
    for (int64_t i = 0; i < tiles.m + 2; ++i) {
        const int64_t h = top + i - w.pad_begin[1];
        for (int64_t j = 0; j < tiles.m + 2; ++j) {
            const int64_t column = left + j - w.pad_begin[2];
            const bool inside = h >= 0 && h < in_h && column >= 0 && column < in_w;
            *pixels++ = inside ? x + ((image * in_h + h) * in_w + column) * tiles.k : zero;
        }
    }
    for (int64_t i = top; i < top + tiles.m; ++i)
        for (int64_t j = left; j < left + tiles.m; ++j)
            *rows++ = i < out_h && j < out_w ? static_cast<int32_t>((image * out_h + i) * out_w + j) : -1;
}

}  // namespace linnet
