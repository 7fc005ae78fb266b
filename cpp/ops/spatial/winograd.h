// Winograd's convolution for 3 x 3 filters at stride 1 (kernels/winograd.h): when it pays, its weights, its run.
#pragma once
#include <cstdint>

#include "graph/op.h"
#include "ops/epilogue.h"
#include "ops/spatial/winograd_tiles.h"

namespace linnet {

struct WinogradPlan : WinogradTiles {
    int64_t n = 0;                       // output channels
    int64_t jobs = 0, tiles = 0;         // sets of tiles with an epilogue of their own; tiles of each
    int64_t block = 0;                   // tiles computed together
    int64_t parts = 1, splits = 1;       // of the tiles, and of the columns, over threads
    int64_t matrix = 0;                  // floats of one of the packed weight matrices
    int64_t v_stride = 0, t_stride = 0;  // floats between the matrices of a block
    int64_t slot = 0;                    // bytes of scratch of each part and split
    int64_t side() const { return m + 2; }
    int64_t matrices() const { return side() * side(); }
    size_t scratch() const { return static_cast<size_t>(slot * parts * splits); }
    size_t packed() const { return static_cast<size_t>(matrix * matrices()); }
};

struct WinogradChoice {
    int64_t m = 0;    // outputs along a tile's side, 2 or 4; 0: do it directly
    double cost = 1;  // expected time, of the direct way's
};
// A model of the machine, not a measurement: the same answer everywhere.
WinogradChoice choose_winograd(const kernels::Window& window, int64_t images, int64_t k, int64_t n);

// `per_batch`: the epilogue differs from image to image.
WinogradPlan plan_winograd(const kernels::Window& window, int64_t m, int64_t images, int64_t k, int64_t n, int threads,
                           bool per_batch);

// `w`: [n][k][3][3]. `out`: plan.packed() floats.
void pack_winograd(const WinogradPlan& plan, const float* w, float* out);

// x: images of window.in pixels of k channels; y: dense, n channels. `zero`: k zeros.
void run_winograd(const WinogradPlan& plan, const RunContext& ctx, const EpilogueProgram& program, const float* x,
                  const float* zero, const float* weights, const float* bias, float* y, const Parallel& parallel,
                  std::byte* scratch);

}  // namespace linnet
