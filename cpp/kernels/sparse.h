// f32 products with a constant B that is mostly zeros, which are neither stored nor multiplied. A block of rows of A is
// transposed once, so that a vector holds one column of several rows; each value of B times such a vector is one
// multiply-add.
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t sparse_tile_rows = (size_t)sparse_nv * lanes;
constexpr size_t sparse_strip = 64;  // columns that share a pass of the epilogue's rest
constexpr size_t sparse_few = 3;     // up to these, rows are multiplied one by one

// out[c * sparse_tile_rows + r] = in[r * stride + c], and a row of zeros behind. Whole vectors of r are written.
static __attribute__((noinline)) void sparse_transpose(const float* in, ptrdiff_t stride, size_t rows, size_t cols,
                                                       float* out) noexcept {
    for (size_t r = 0; r < rows; r += lanes, in += lanes * stride, out += lanes) {
        const size_t some = rows - r < (size_t)lanes ? rows - r : (size_t)lanes;
        size_t c = 0;
        if (some == (size_t)lanes)
            for (; c + 4 <= cols; c += 4) {
                f32 v[4];
                unroll<4>(LINNET_LAMBDA(i) {
                    v[i] = load_quads(in + i * stride + c, 4 * stride * (ptrdiff_t)sizeof(float));
                });
                transpose_quads(v);
                unroll<4>(LINNET_LAMBDA(i) { store(out + (c + i) * sparse_tile_rows, v[i]); });
            }
        for (; c < cols; ++c) {
            store(out + c * sparse_tile_rows, splat(0));
            for (size_t i = 0; i < some; ++i) out[c * sparse_tile_rows + i] = in[(ptrdiff_t)i * stride + (ptrdiff_t)c];
        }
        store(out + cols * sparse_tile_rows, splat(0));
    }
}

// How many vectors of rows to take at a time: one less than could be where that keeps their columns in the first-level
// cache.
LINNET_INLINE size_t sparse_vectors(size_t k, size_t most) {
    constexpr size_t cache = 20 * 1024;
    const size_t bytes = k * lanes * sizeof(float);
    return most > 1 && bytes * most > cache && bytes * (most - 1) <= cache ? most - 1 : most;
}

struct SparseTile {
    const float* a;  // transposed
    const SparseB* b;
    const float* bias;  // per column, or null; the columns past n are not read
    size_t n;
    const float* add;  // like out, or null
    ptrdiff_t add_stride;
    float lo, hi;
    float* out;  // row 0, the first group's column
    ptrdiff_t ld;
};

// NV vectors of rows by the groups [begin, end).
template <int NV, bool Blocks>
static __attribute__((noinline)) void sparse_tile(const SparseTile& t, size_t begin, size_t end) noexcept {
    constexpr size_t indices = Blocks ? 1 : 4;
    const uint16_t* index = t.b->index + t.b->start[begin] * indices;
    const float* value = t.b->values + t.b->start[begin] * (size_t)4;
    const f32 lo = splat(t.lo), hi = splat(t.hi);
    float* out = t.out;
    const float* add = t.add;
    // The results of one group: lane q of vector [v][i] is row v * lanes + 4 q + i.
    const auto group = LINNET_LAMBDA_2(g, results) {
        f32 acc[4][NV];
        unroll<4>(LINNET_LAMBDA(c) {
            const f32 bias = splat(t.bias && g * 4 + c < t.n ? t.bias[g * 4 + c] : 0.0f);
            unroll<NV>(LINNET_LAMBDA(v) { acc[c][v] = bias; });
        });
        const float* const last = t.b->values + t.b->start[g + 1] * (size_t)4;
        for (; value != last; value += 4, index += indices) {
            if constexpr (Blocks) {
                const float* a = t.a + index[0] * sparse_tile_rows;
                f32 av[NV];
                unroll<NV>(LINNET_LAMBDA(v) {
                    av[v] = load(a + v * lanes);
                    keep(av[v]);
                });
                unroll<4>(LINNET_LAMBDA(c) {
                    f32 w = splat(value[c]);
                    keep(w);
                    unroll<NV>(LINNET_LAMBDA(v) { accumulate(acc[c][v], w, av[v]); });
                });
            } else {
                unroll<4>(LINNET_LAMBDA(c) {
                    const float* a = t.a + index[c] * sparse_tile_rows;
                    f32 w = splat(value[c]);
                    keep(w);
                    unroll<NV>(LINNET_LAMBDA(v) { accumulate(acc[c][v], w, load(a + v * lanes)); });
                });
            }
        }
        unroll<NV>(LINNET_LAMBDA(v) {
            f32 q[4] = {acc[0][v], acc[1][v], acc[2][v], acc[3][v]};
            transpose_quads(q);
            unroll<4>(LINNET_LAMBDA(i) {
                if (add) {
                    const float* from = add + (v * lanes + i) * t.add_stride;
                    q[i] = q[i] + load_quads(from, 4 * t.add_stride * (ptrdiff_t)sizeof(float));
                }
                results[v][i] = clip(q[i], lo, hi);
            });
        });
        if (add) add += 4;
    };
    [[maybe_unused]] f32 held[NV][4];  // of the group before, half of a pair
    for (size_t g = begin; g < end; ++g, out += 4) {
        f32 results[NV][4];
        group(g, results);
#ifdef LINNET_QUAD_PAIRS
        if ((g - begin) % 2 == 0 && g + 1 < end) {
            __builtin_memcpy(held, results, sizeof held);
            continue;
        }
        if ((g - begin) % 2 == 1) {
            // Half of the rows' next lines, the other half with the next pair.
            const float* ahead = out + 16 + (ptrdiff_t)(g / 2 % 2 * (NV * lanes / 2)) * t.ld;
            for (int r = 0; r < NV * lanes / 2; ++r, ahead += t.ld) prefetch(ahead);
            unroll<NV>(LINNET_LAMBDA(v) {
                unroll<4>(LINNET_LAMBDA(i) {
                    store_quad_pairs(out - 4 + (v * lanes + i) * t.ld, 4 * t.ld, held[v][i], results[v][i]);
                });
            });
            continue;
        }
#endif
        unroll<NV>(LINNET_LAMBDA(v) {
            unroll<4>(LINNET_LAMBDA(i) { store_quads(out + (v * lanes + i) * t.ld, 4 * t.ld, results[v][i]); });
        });
    }
}

typedef float quad __attribute__((vector_size(16)));

// One row of a, with a zero behind it, by the groups [begin, end).
template <bool Blocks>
static __attribute__((noinline)) void sparse_row(const float* a, const SparseB& b, const float* bias, size_t n,
                                                 float* out, size_t begin, size_t end) noexcept {
    constexpr size_t at_once = 4;  // independent sums
    for (size_t g = begin; g < end; g += at_once, out += 4 * at_once) {
        const size_t groups = end - g < at_once ? end - g : at_once;
        quad acc[at_once];
        uint32_t common = ~0u;
        for (size_t i = 0; i < at_once; ++i) {
            for (size_t c = 0; c < 4; ++c) {
                const size_t col = (g + i) * 4 + c;
                acc[i][c] = bias && i < groups && col < n ? bias[col] : 0.0f;
            }
            const uint32_t steps = i < groups ? b.start[g + i + 1] - b.start[g + i] : 0;
            common = steps < common ? steps : common;
        }
        const auto step = LINNET_LAMBDA_2(i, s) {
            quad w, av;
            __builtin_memcpy(&w, b.values + s * 4, sizeof w);
            if constexpr (Blocks) {
                const float x = a[b.index[s]];
                av = quad{x, x, x, x};
            } else {
                const uint16_t* k = b.index + s * 4;
                av = quad{a[k[0]], a[k[1]], a[k[2]], a[k[3]]};
            }
            acc[i] = w * av + acc[i];
        };
        for (size_t s = 0; s < common; ++s) unroll<at_once>(LINNET_LAMBDA(i) { step(i, (size_t)b.start[g + i] + s); });
        unroll<at_once>(LINNET_LAMBDA(i) {
            if ((size_t)i >= groups) return;
            for (size_t s = b.start[g + i] + common; s < b.start[g + i + 1]; ++s) step(i, s);
            __builtin_memcpy(out + i * 4, &acc[i], sizeof acc[i]);
        });
    }
}

static void sparse_tile_of(size_t vectors, const SparseTile& t, size_t begin, size_t end) noexcept {
    unroll<sparse_nv>(LINNET_LAMBDA(i) {
        if (vectors != (size_t)i + 1) return;
        if (t.b->blocks) sparse_tile<i + 1, true>(t, begin, end);
        else sparse_tile<i + 1, false>(t, begin, end);
    });
}

static void sparse_f32(const SparseF32& g, size_t row_begin, size_t row_end, size_t group_begin,
                       size_t group_end) noexcept {
    const size_t all_groups = (g.n + 3) / 4;
    if (group_end > all_groups) group_end = all_groups;
    if (row_begin >= row_end || group_begin >= group_end) return;
    const Program p = parse(g.epilogue);
    const size_t rows = row_end - row_begin;
    float buffer[sparse_tile_rows * sparse_strip];

    if (rows <= sparse_few) {
        for (size_t r = 0; r < rows; ++r) {
            float* row = g.scratch + r * (g.k + 1);
            if (g.k) __builtin_memcpy(row, g.a + (ptrdiff_t)(row_begin + r) * g.lda, g.k * sizeof(float));
            row[g.k] = 0;
        }
        for (size_t first = group_begin; first < group_end; first += sparse_strip / 4) {
            const size_t last = group_end - first < sparse_strip / 4 ? group_end : first + sparse_strip / 4;
            const size_t col = first * 4, cols = last * 4 < g.n ? last * 4 - col : g.n - col;
            for (size_t r = 0; r < rows; ++r) {
                const float* row = g.scratch + r * (g.k + 1);
                if (g.b.blocks) sparse_row<true>(row, g.b, p.bias, g.n, buffer, first, last);
                else sparse_row<false>(row, g.b, p.bias, g.n, buffer, first, last);
                finish(p, row_begin + r, 1, col, cols, buffer, sparse_strip,
                       g.c + (ptrdiff_t)(row_begin + r) * g.ldc + col, g.ldc);
            }
        }
        return;
    }

    const size_t vectors = (rows + lanes - 1) / lanes, most = sparse_vectors(g.k, sparse_nv),
                 tiles = (vectors + most - 1) / most;
    SparseTile direct{}, held{};  // to c, and to the buffer
    direct.a = held.a = g.scratch;
    direct.b = held.b = &g.b;
    direct.bias = held.bias = p.bias;
    direct.n = held.n = g.n;
    direct.lo = p.lo;
    direct.hi = p.hi;
    direct.add_stride = p.add_stride;
    direct.ld = g.ldc;
    held.lo = -__builtin_inff();
    held.hi = __builtin_inff();
    held.out = buffer;
    held.ld = sparse_strip;
    for (size_t i = 0, row = row_begin; i < tiles; ++i) {
        const size_t nv = vectors / tiles + (i < vectors % tiles), height = nv * lanes;
        size_t here = row_end - row < height ? row_end - row : height;
        // Whole tiles go straight to c; the last one then begins among the rows of the one before.
        if (here < height && rows >= height && !p.add && !p.rest_count) {
            row = row_end - height;
            here = height;
        }
        sparse_transpose(g.a + (ptrdiff_t)row * g.lda, g.lda, here, g.k, g.scratch);
        float* c = g.c + (ptrdiff_t)row * g.ldc;
        size_t first = group_begin;
        if (here == height && !p.rest_count) {
            const size_t last = group_end * 4 > g.n ? group_end - 1 : group_end;
            direct.add = p.add ? p.add + (ptrdiff_t)row * p.add_stride + first * 4 : nullptr;
            direct.out = c + first * 4;
            if (first < last) sparse_tile_of(nv, direct, first, last);
            first = last;
        }
        for (; first < group_end; first += sparse_strip / 4) {
            const size_t last = group_end - first < sparse_strip / 4 ? group_end : first + sparse_strip / 4;
            const size_t col = first * 4, cols = last * 4 < g.n ? last * 4 - col : g.n - col;
            sparse_tile_of(nv, held, first, last);
            finish(p, row, here, col, cols, buffer, sparse_strip, c + col, g.ldc);
        }
        row += here;
    }
}

}  // namespace linnet::kernels::LINNET_ISA
