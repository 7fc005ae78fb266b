// f32 products with a constant B that is mostly zeros, which are neither stored nor multiplied. A block of rows of A is
// transposed once, so that a vector holds one column of several rows; each value of B times such a vector is one
// multiply-add.
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t sparse_tile_rows = (size_t)sparse_nv * lanes;
constexpr size_t sparse_rest = 64;  // columns that share a pass of the epilogue's rest

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

// NV vectors of rows by the groups [begin, end) of blocks.
template <int NV>
static __attribute__((noinline)) void sparse_blocks(const SparseTile& t, size_t begin, size_t end) noexcept {
    const uint32_t* index = t.b->index + t.b->start[begin];
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
        for (const uint32_t* const last = t.b->index + t.b->start[g + 1]; index != last; ++index, value += 4) {
            const float* a = t.a + *index;
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

// out[r][c] = clip(sums[c][r] + add[r][c]) for whole vectors of rows.
static __attribute__((noinline)) void sparse_store(const SparseTile& t, const float* sums, size_t rows, size_t cols,
                                                   float* out, const float* add) noexcept {
    const f32 lo = splat(t.lo), hi = splat(t.hi);
    for (size_t r = 0; r < rows; r += 4, out += 4 * t.ld)
        for (size_t c = 0; c < cols; c += lanes) {
            f32 v[4];
            unroll<4>(LINNET_LAMBDA(i) {
                v[i] = load_quads(sums + (c + i) * sparse_tile_rows + r, 4 * sparse_tile_rows * sizeof(float));
            });
            transpose_quads(v);
            unroll<4>(LINNET_LAMBDA(i) {
                if (add) v[i] = v[i] + load_some(add + ((ptrdiff_t)r + i) * t.add_stride + c, cols - c);
                store_some(out + i * t.ld + c, clip(v[i], lo, hi), cols - c);
            });
        }
}

// NV vectors of rows by the groups [begin, end) of columns, whose sums go through a buffer: they may come in any order.
template <int NV>
static __attribute__((noinline)) void sparse_columns(const SparseTile& t, size_t begin, size_t end) noexcept {
    const uint32_t* index = t.b->index + t.b->start[begin] * (size_t)4;
    const float* value = t.b->values + t.b->start[begin] * (size_t)4;
    alignas(64) float sums[sparse_strip * sparse_tile_rows];
    for (size_t g = begin; g < end;) {
        const size_t strip = g, strip_end = end - g < sparse_strip / 4 ? end : g + sparse_strip / 4;
        for (; g < strip_end; ++g) {
            const uint8_t* const order = t.b->order + g * 4;
            f32 acc[4][NV];
            unroll<4>(LINNET_LAMBDA(c) {
                const size_t col = strip * 4 + order[c];
                const f32 bias = splat(t.bias && col < t.n ? t.bias[col] : 0.0f);
                unroll<NV>(LINNET_LAMBDA(v) { acc[c][v] = bias; });
            });
            const uint32_t* const last = t.b->index + t.b->start[g + 1] * (size_t)4;
            for (; index != last; index += 4, value += 4)
                unroll<4>(LINNET_LAMBDA(c) {
                    const float* a = t.a + index[c];
                    f32 w = splat(value[c]);
                    keep(w);
                    unroll<NV>(LINNET_LAMBDA(v) { accumulate(acc[c][v], w, load(a + v * lanes)); });
                });
            unroll<4>(LINNET_LAMBDA(c) {
                unroll<NV>(LINNET_LAMBDA(v) { store(sums + order[c] * sparse_tile_rows + v * lanes, acc[c][v]); });
            });
        }
        const size_t at = (strip - begin) * 4;
        sparse_store(t, sums, NV * lanes, (strip_end - strip) * 4, t.out + at, t.add ? t.add + at : nullptr);
    }
}

static void sparse_tile(size_t vectors, const SparseTile& t, size_t begin, size_t end) noexcept {
    unroll<sparse_nv>(LINNET_LAMBDA(i) {
        if (vectors != (size_t)i + 1) return;
        if (t.b->form == SparseB::Form::blocks) sparse_blocks<i + 1>(t, begin, end);
        else sparse_columns<i + 1>(t, begin, end);
    });
}

typedef float quad __attribute__((vector_size(16)));

// One row, with a zero behind it if not for Blocks, by the groups [begin, end) of row_blocks or row_columns; out holds
// what the sums start from.
template <bool Blocks>
static __attribute__((noinline)) void sparse_row(const float* a, const SparseB& b, float* out, size_t begin,
                                                 size_t end) noexcept {
    constexpr size_t at_once = 4;  // independent sums
    for (size_t g = begin; g < end; g += at_once, out += 4 * at_once) {
        const size_t groups = end - g < at_once ? end - g : at_once;
        quad acc[at_once];
        uint32_t common = ~0u;
        for (size_t i = 0; i < at_once; ++i) {
            __builtin_memcpy(&acc[i], out + i * 4, sizeof acc[i]);
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
                const uint32_t* k = b.index + s * 4;
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

LINNET_INLINE size_t count_bits(uint32_t x) {
    if constexpr (lanes == 4) return 0x4332322132212110ull >> 4 * x & 15;
    return (size_t)__builtin_popcount(x);
}

// One row by the strips [begin, end) of row_bits, AtOnce of them at a time; out holds what the sums start from.
template <size_t AtOnce>
static __attribute__((noinline)) void sparse_row_bits(const float* a, size_t k, const SparseB& b, float* out,
                                                      size_t begin, size_t end) noexcept {
    constexpr size_t vectors = sparse_strip / lanes;
    for (size_t s = begin; s < end; s += AtOnce, out += AtOnce * sparse_strip) {
        f32 acc[AtOnce][vectors];
        const uint16_t* bits[AtOnce];
        const float* values[AtOnce];
        unroll<AtOnce>(LINNET_LAMBDA(i) {
            bits[i] = b.bits + (s + i) * k;
            values[i] = b.values + b.start[s + i];
            unroll<vectors>(LINNET_LAMBDA(v) { acc[i][v] = load(out + i * sparse_strip + v * lanes); });
        });
        for (size_t r = 0; r < k; ++r) {
            f32 x = splat(a[r]);
            keep(x);
            unroll<AtOnce>(LINNET_LAMBDA(i) {
                const uint32_t all = bits[i][r];
                unroll<vectors>(LINNET_LAMBDA(v) {
                    const uint32_t some = all >> (v * lanes) & ((1u << lanes) - 1);
                    accumulate(acc[i][v], x, expand(values[i], some));
                    values[i] += count_bits(some);
                });
            });
        }
        unroll<AtOnce>(LINNET_LAMBDA(i) {
            unroll<vectors>(LINNET_LAMBDA(v) { store(out + i * sparse_strip + v * lanes, acc[i][v]); });
        });
    }
}

// Rows one by one, 64 columns at a time.
static void sparse_rows(const SparseF32& g, const Program& p, size_t row_begin, size_t row_end, size_t group_begin,
                        size_t group_end) noexcept {
    constexpr size_t at_once = lanes == 16 ? 4 : lanes == 8 ? 2 : 1;
    float buffer[sparse_rest];
    for (size_t r = row_begin; r < row_end; ++r) {
        const float* row = g.a + (ptrdiff_t)r * g.lda;
        if (g.b.form == SparseB::Form::row_columns) {
            if (g.k) __builtin_memcpy(g.scratch, row, g.k * sizeof(float));
            g.scratch[g.k] = 0;
            row = g.scratch;
        }
        for (size_t first = group_begin; first < group_end; first += sparse_rest / 4) {
            const size_t last = group_end - first < sparse_rest / 4 ? group_end : first + sparse_rest / 4;
            const size_t col = first * 4, cols = last * 4 < g.n ? last * 4 - col : g.n - col;
            for (size_t c = 0; c < sparse_rest; ++c) buffer[c] = p.bias && c < cols ? p.bias[col + c] : 0.0f;
            if (g.b.form == SparseB::Form::row_blocks) {
                sparse_row<true>(row, g.b, buffer, first, last);
            } else if (g.b.form == SparseB::Form::row_columns) {
                sparse_row<false>(row, g.b, buffer, first, last);
            } else {
                const size_t strip = first / 4, end = (last + 3) / 4, full = strip + (end - strip) / at_once * at_once;
                sparse_row_bits<at_once>(row, g.k, g.b, buffer, strip, full);
                if (at_once > 1) sparse_row_bits<1>(row, g.k, g.b, buffer + (full - strip) * sparse_strip, full, end);
            }
            finish(p, r, 1, col, cols, buffer, sparse_rest, g.c + (ptrdiff_t)r * g.ldc + col, g.ldc);
        }
    }
}

static void sparse_f32(const SparseF32& g, size_t row_begin, size_t row_end, size_t group_begin,
                       size_t group_end) noexcept {
    const size_t all_groups = (g.n + 3) / 4;
    if (group_end > all_groups) group_end = all_groups;
    if (row_begin >= row_end || group_begin >= group_end) return;
    const Program p = parse(g.epilogue);
    const bool columns = g.b.form == SparseB::Form::columns;
    if (!columns && g.b.form != SparseB::Form::blocks)
        return sparse_rows(g, p, row_begin, row_end, group_begin, group_end);
    const size_t rows = row_end - row_begin;
    float buffer[sparse_tile_rows * sparse_rest];

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
    held.ld = sparse_rest;
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
            size_t last = group_end;  // of those that are whole
            if (last * 4 > g.n) last = columns ? (last - 1) / 4 * 4 : last - 1;
            direct.add = p.add ? p.add + (ptrdiff_t)row * p.add_stride + first * 4 : nullptr;
            direct.out = c + first * 4;
            if (first < last) sparse_tile(nv, direct, first, last);
            first = last;
        }
        for (; first < group_end; first += sparse_rest / 4) {
            const size_t last = group_end - first < sparse_rest / 4 ? group_end : first + sparse_rest / 4;
            const size_t col = first * 4, cols = last * 4 < g.n ? last * 4 - col : g.n - col;
            sparse_tile(nv, held, first, last);
            finish(p, row, here, col, cols, buffer, sparse_rest, c + col, g.ldc);
        }
        row += here;
    }
}

}  // namespace linnet::kernels::LINNET_ISA
