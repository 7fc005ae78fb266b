// Winograd's F(2, 3) and F(4, 3) on bytes, exact (kernels::WinogradS8): when it pays, its weights, its run.
#pragma once
#include <cstddef>
#include <cstdint>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/winograd_tiles.h"

namespace linnet {

struct WinogradS8Plan : WinogradTiles {
    int64_t n = 0, tiles = 0;       // filters; tiles of all images
    int64_t block = 0;              // tiles computed together
    int64_t parts = 1, splits = 1;  // of the tiles, and of the columns, over threads
    int64_t slot = 0;               // bytes of scratch of each part and split
    size_t scratch() const { return static_cast<size_t>(slot * parts * splits); }
};

// The m that pays, or 0. weights: int8, [n][k][3][3].
int64_t choose_winograd_s8(const kernels::Window& window, int64_t images, int64_t k, int64_t n, const Tensor& weights);
WinogradS8Plan plan_winograd_s8(const kernels::Window& window, int64_t m, int64_t images, int64_t k, int64_t n,
                                int threads);
// `call` knows the weights, the bias, `bytes` and what x is; x, zero (k bytes) and y are those of the first image.
void run_winograd_s8(const WinogradS8Plan& plan, const kernels::WinogradS8& call, const uint8_t* x, const uint8_t* zero,
                     const Parallel& parallel, std::byte* scratch);

}  // namespace linnet
