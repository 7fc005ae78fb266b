// f32 GEMM and convolution: one register tile, rows of A found by stride or by tap offsets.
#pragma once

#include "kernels/epilogue.h"
#include "kernels/transpose.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t gemm_nr = (size_t)gemm_nv * lanes;

static size_t pack_b_f32_size(size_t taps, size_t k, size_t n) noexcept {
    return (n + gemm_nr - 1) / gemm_nr * gemm_nr * taps * k;
}

// Panel: [tap][k][gemm_nr], missing columns zero.
static void pack_b_f32(const PackB& s, const float* b, float* out, size_t panel_begin, size_t panel_end) noexcept {
    for (size_t p = panel_begin; p < panel_end; ++p) {
        float* o = out + p * s.taps * s.k * gemm_nr;
        const size_t n0 = p * gemm_nr, cols = s.n - n0 < gemm_nr ? s.n - n0 : gemm_nr;
        if (s.k_stride == 1 && s.taps == 1 && s.k > 1) {
            const float* in = b + (ptrdiff_t)n0 * s.n_stride;
            transpose_typed(cols, s.k, (const uint32_t*)in, s.n_stride, (uint32_t*)o, (ptrdiff_t)gemm_nr);
            for (size_t k = 0; k < s.k && cols < gemm_nr; ++k)
                for (size_t c = cols; c < gemm_nr; ++c) o[k * gemm_nr + c] = 0;
            continue;
        }
        for (size_t t = 0; t < s.taps; ++t)
            for (size_t k = 0; k < s.k; ++k, o += gemm_nr) {
                const float* in =
                    b + (ptrdiff_t)t * s.tap_stride + (ptrdiff_t)k * s.k_stride + (ptrdiff_t)n0 * s.n_stride;
                if (s.n_stride == 1 && cols == gemm_nr) {
                    __builtin_memcpy(o, in, gemm_nr * sizeof(float));
                    continue;
                }
                for (size_t c = 0; c < cols; ++c) o[c] = in[(ptrdiff_t)c * s.n_stride];
                for (size_t c = cols; c < gemm_nr; ++c) o[c] = 0;
            }
    }
}

struct TileArgs {
    // Rows of A: a + row * lda, or by offsets.
    const float* a;
    ptrdiff_t lda;
    const int32_t* offsets;
    size_t offsets_ld;
    const float* zero;
    size_t taps, k;
    const float* b;  // the panel (the first of several)
    size_t panel_stride;
    const float* bias;  // readable for the whole tile
    const Program* program;
    float* c;
    ptrdiff_t ldc;
    size_t row, col, cols;  // cols: valid columns of the tile
    const float* ahead;     // rows of A that come next, to prefetch
    size_t ahead_step;      // 0: nothing to prefetch
};

// MR rows by NV vectors in each of NP neighbouring panels; Half: and half a vector more, in one panel.
template <int MR, int NV, int NP, bool Half = false>
static __attribute__((noinline)) void tile(const TileArgs& t) noexcept {
    constexpr int N = NV * NP, columns = N * lanes + (Half ? half_lanes : 0);
    f32 acc[MR][N];
    unroll<N>(LINNET_LAMBDA(j) {
        const f32 bias = load(t.bias + (j / NV) * (int)gemm_nr + (j % NV) * lanes);
        unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = bias; });
    });
#ifdef LINNET_HALF
    f32h half[MR];
    if constexpr (Half) unroll<MR>(LINNET_LAMBDA(i) { half[i] = load_half(t.bias + N * lanes); });
#endif

    const float* b = t.b;
    const size_t panel_stride = t.panel_stride, k_end = t.k;
    const float* ahead = t.ahead;
    const size_t ahead_step = t.ahead_step;
    for (size_t tap = 0; tap < t.taps; ++tap) {
        const float* row[MR];
        if (t.offsets) {
            const int32_t* o = t.offsets + tap * t.offsets_ld + t.row;
            unroll<MR>(LINNET_LAMBDA(i) { row[i] = o[i] < 0 ? t.zero : t.a + o[i]; });
        } else {
            unroll<MR>(LINNET_LAMBDA(i) { row[i] = t.a + (ptrdiff_t)(t.row + i) * t.lda; });
        }
        const auto step = LINNET_LAMBDA(k) {
            if constexpr (MR > 1 && MR < N) {  // the factors that are fewer wait in registers
                f32 av[MR];
                unroll<MR>(LINNET_LAMBDA(i) {
                    av[i] = splat(row[i][k]);
                    keep(av[i]);
                });
                unroll<N>(LINNET_LAMBDA(j) {
                    f32 bv = load(b + (j / NV) * panel_stride + (j % NV) * lanes);
                    keep(bv);
                    unroll<MR>(LINNET_LAMBDA(i) { accumulate(acc[i][j], av[i], bv); });
                });
            } else {
                f32 bv[N];
                unroll<N>(LINNET_LAMBDA(j) {
                    bv[j] = load(b + (j / NV) * panel_stride + (j % NV) * lanes);
                    if constexpr (MR > 1) keep(bv[j]);
                });
                unroll<MR>(LINNET_LAMBDA(i) {
                    const f32 av = splat(row[i][k]);
                    unroll<N>(LINNET_LAMBDA(j) { accumulate(acc[i][j], av, bv[j]); });
                });
            }
#ifdef LINNET_HALF
            if constexpr (Half) {
                const f32h bh = load_half(b + N * lanes);
                unroll<MR>(LINNET_LAMBDA(i) { half[i] = row[i][k] * bh + half[i]; });
            }
#endif
            b += gemm_nr;
            // Keeps GCC from hoisting the next step's loads, for which there are no registers left.
            __asm__ volatile("" ::: "memory");
        };
        size_t k = 0;
        for (; k + 4 <= k_end; k += 4) {
            prefetch(ahead);
            prefetch(ahead + 16);
            ahead += ahead_step;
#ifdef LINNET_FMA_LANE
            f32 av[MR];
            unroll<MR>(LINNET_LAMBDA(i) { av[i] = load(row[i] + k); });
            unroll<4>(LINNET_LAMBDA(u) {
                unroll<N>(LINNET_LAMBDA(j) {
                    f32 bv = load(b + (j / NV) * panel_stride + (j % NV) * lanes);
                    unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = fma_lane<u>(acc[i][j], bv, av[i]); });
                });
                b += gemm_nr;
            });
#else
            step(k);
            step(k + 1);
            step(k + 2);
            step(k + 3);
#endif
        }
        for (; k < k_end; ++k) step(k);
    }

    const Program& p = *t.program;
    if (__builtin_expect(p.rest_count != 0 || t.cols < (size_t)columns, 0)) {
        float buffer[MR * columns];
        unroll<MR>(LINNET_LAMBDA(i) {
            unroll<N>(LINNET_LAMBDA(j) { store(buffer + i * columns + j * lanes, acc[i][j]); });
#ifdef LINNET_HALF
            if constexpr (Half) store_half(buffer + i * columns + N * lanes, half[i]);
#endif
        });
        finish(p, t.row, MR, t.col, t.cols, buffer, columns, t.c, t.ldc);
        return;
    }
    if (p.add) {
        const float* add = p.add + (ptrdiff_t)t.row * p.add_stride + t.col;
        unroll<MR>(LINNET_LAMBDA(i) {
            unroll<N>(LINNET_LAMBDA(j) { acc[i][j] = acc[i][j] + load(add + i * p.add_stride + j * lanes); });
#ifdef LINNET_HALF
            if constexpr (Half) half[i] = half[i] + load_half(add + i * p.add_stride + N * lanes);
#endif
        });
    }
    const f32 lo = splat(p.lo), hi = splat(p.hi);
    unroll<MR>(LINNET_LAMBDA(i) {
        unroll<N>(LINNET_LAMBDA(j) { store(t.c + i * t.ldc + j * lanes, clip(acc[i][j], lo, hi)); });
#ifdef LINNET_HALF
        if constexpr (Half) store_half(t.c + i * t.ldc + N * lanes, clip_half(half[i], p.lo, p.hi));
#endif
    });
}

typedef void (*TileFn)(const TileArgs&) noexcept;

template <int MR, int NV>
static TileFn pick_tile(int rows, size_t cols) noexcept {
    if constexpr (NV > 1)
        if (cols <= (NV - 1) * lanes) return pick_tile<MR, NV - 1>(rows, cols);
    if constexpr (MR > 1)
        if (rows < MR) return pick_tile<MR - 1, NV>(rows, cols);
    if constexpr (half_lanes > 0)
        if (cols <= (NV - 1) * lanes + half_lanes) return tile<MR, NV - 1, 1, true>;
    return tile<MR, NV, 1>;
}

// Rows that begin a multiple of 4 KB apart share one set of the first-level cache, which has room for 8 of them at
// least. Taller tiles then are replaced by low and wide ones.
constexpr bool low_tiles = gemm_mr > 8;
constexpr size_t low_mr = 6, low_np = 2, low_rows = 20;  // from low_rows rows on, heights are 5 and 6

static bool rows_collide(const TileArgs& t, size_t row, size_t rows) noexcept {
    // Two panels must fit the second-level cache beside the rows.
    if (rows < low_rows || t.k < 64 || t.taps * t.k > 2048) return false;
    const ptrdiff_t apart = t.offsets ? t.offsets[row + 1] - t.offsets[row] : t.lda;
    return apart != 0 && apart % 1024 == 0;
}

static void run_tiles(TileArgs t, const Epilogue& epilogue, float* c, size_t n, size_t row_begin, size_t row_end,
                      size_t panel_begin, size_t panel_end) noexcept {
    constexpr size_t nr = gemm_nr;
    if (row_begin >= row_end || panel_begin >= panel_end || panel_begin * nr >= n) return;
    const Program program = parse(epilogue);
    t.program = &program;
    const float* b = t.b;
    const size_t rows = row_end - row_begin, depth = t.taps * t.k;
    t.panel_stride = depth * nr;
    constexpr size_t most_panels = 4;
    float bias_copy[most_panels * nr] = {};

    // Few rows: several panels at once, so that enough independent sums are in flight.
    if (rows <= 3) {
        const size_t np = small_np[rows - 1];
        if (np > 1) {
            t.row = row_begin;
            t.ahead_step = 0;
            const TileFn fn = rows == 1   ? (TileFn)tile<1, gemm_nv, small_np[0]>
                              : rows == 2 ? (TileFn)tile<2, gemm_nv, small_np[1]>
                                          : (TileFn)tile<3, gemm_nv, small_np[2]>;
            for (; panel_begin + np <= panel_end && (panel_begin + np) * nr <= n; panel_begin += np) {
                t.col = panel_begin * nr;
                t.cols = np * nr;
                t.b = b + panel_begin * t.panel_stride;
                t.bias = program.bias ? program.bias + t.col : bias_copy;
                t.c = c + (ptrdiff_t)row_begin * t.ldc + t.col;
                t.ahead = t.b;
                fn(t);
            }
        }
    }

    bool low = false;
    if constexpr (low_tiles) low = rows_collide(t, row_begin, rows);
    // Heights differ by one at most: 49 = 4 x 6 + 5 x 5, never a lonely row at the end.
    const size_t mr = low ? low_mr : gemm_mr, tiles = (rows + mr - 1) / mr;
    const size_t height = rows / tiles, taller = rows % tiles;
    // A block of rows stays in L2 while the panels pass over it. Not too few rows: each block reads all of b again,
    // which for the weights of a transformer comes from memory.
    constexpr size_t block_floats = 48 * 1024;
    size_t block_tiles = block_floats / (mr * (t.k * (t.offsets ? 1 : t.taps) + 1));
    block_tiles = block_tiles < 12 ? 12 : block_tiles;
    const bool many = !t.offsets && t.lda <= (ptrdiff_t)(2 * t.k) && rows * t.k > 128 * 1024;
    for (size_t first = 0; first < tiles; first += block_tiles) {
        const size_t last = first + block_tiles < tiles ? first + block_tiles : tiles;
        size_t np = 1;
        for (size_t panel = panel_begin; panel < panel_end && panel * nr < n; panel += np) {
            t.col = panel * nr;
            t.b = b + panel * t.panel_stride;
            t.bias = program.bias ? program.bias + t.col : bias_copy;
            np = low && panel + low_np <= panel_end && (panel + low_np) * nr <= n ? low_np : 1;
            TileFn tall, small;
            if (np > 1) {
                t.cols = np * nr;
                tall = tile<low_mr, gemm_nv, low_np>;
                small = height == low_mr ? tall : tile<low_mr - 1, gemm_nv, low_np>;
            } else {
                t.cols = n - t.col < nr ? n - t.col : nr;
                if (program.bias && t.cols % lanes) {
                    for (size_t i = 0; i < t.cols; ++i) bias_copy[i] = t.bias[i];
                    t.bias = bias_copy;
                }
                tall = pick_tile<gemm_mr, gemm_nv>((int)height + 1, t.cols);
                small = pick_tile<gemm_mr, gemm_nv>((int)height, t.cols);
            }
            const bool more = panel + np < panel_end && (panel + np) * nr < n;
            for (size_t i = first; i < last; ++i) {
                const size_t tile_rows = height + (i < taller);
                t.row = row_begin + i * height + (i < taller ? i : taller);
                t.c = c + (ptrdiff_t)t.row * t.ldc + t.col;
                // Linear prefetch of the next tile's rows, where rows lie (almost) back to back and are too many to be
                // in the second-level cache already.
                const bool ahead = many && panel == panel_begin && i + 1 < tiles;
                t.ahead = ahead ? t.a + (ptrdiff_t)(t.row + tile_rows) * t.lda : t.b;
                t.ahead_step = ahead ? 32 : 0;
                // Else the first tiles fetch the next panels, a part each.
                if (!ahead && i - first < np * nr / 8 && more) {
                    t.ahead = t.b + np * t.panel_stride + (i - first) * 8 * depth;
                    t.ahead_step = 32;
                }
                if (program.add)
                    for (size_t r = t.row; r < t.row + tile_rows; ++r)
                        for (size_t j = 0; j < t.cols; j += 16)
                            prefetch(program.add + (ptrdiff_t)r * program.add_stride + t.col + j);
                (i < taller ? tall : small)(t);
            }
        }
    }
}

static void gemm_f32(const GemmF32& g, size_t row_begin, size_t row_end, size_t panel_begin,
                     size_t panel_end) noexcept {
    TileArgs t{};
    t.a = g.a;
    t.lda = g.lda;
    t.taps = 1;
    t.k = g.k;
    t.b = g.b;
    t.ldc = g.ldc;
    run_tiles(t, g.epilogue, g.c, g.n, row_begin, row_end, panel_begin, panel_end);
}

static void conv_f32(const ConvF32& g, size_t row_begin, size_t row_end, size_t panel_begin,
                     size_t panel_end) noexcept {
    TileArgs t{};
    t.a = g.x;
    t.offsets = g.offsets;
    t.offsets_ld = g.offsets_ld;
    t.zero = g.zero;
    t.taps = g.taps;
    t.k = g.k;
    t.b = g.b;
    t.ldc = g.ldc;
    run_tiles(t, g.epilogue, g.c, g.n, row_begin, row_end, panel_begin, panel_end);
}

}  // namespace linnet::kernels::LINNET_ISA
