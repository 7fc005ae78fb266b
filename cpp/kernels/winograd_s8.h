// Winograd's F(2 x 2, 3 x 3) and F(4 x 4, 3 x 3) in integers: transformed bytes and filters are 16-bit numbers, filters
// without the fractions of their transform. What these would be is left to the sums: with M = 2 they are 4 times as
// large, with M = 4 up to 576 times, modulo 2^32, where 9 has an inverse; what is left is a power of two. Where pairs
// of 16-bit products are the widest there are (AVX2, NEON without dot product), 2.25 or 4 times fewer of them win over
// the direct sum of bytes.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

typedef int16_t s16x __attribute__((vector_size(sizeof(f32)), may_alias));
typedef uint8_t u8_half __attribute__((vector_size(sizeof(f32) / 2), may_alias));

constexpr size_t w16_lanes = 2 * (size_t)lanes;  // channels of a vector
constexpr int w16_mr = 6, w16_nv = 2;
constexpr size_t w16_nr = (size_t)w16_nv * lanes;
constexpr size_t w16_skew = 64;  // bytes between matrices, so that they do not all fall into one cache set

LINNET_INLINE size_t w16_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
LINNET_INLINE size_t w16_matrix(size_t k) { return w16_up(k, 2) * w16_nr; }  // int16 of one matrix of a panel

LINNET_INLINE size_t w16_points(size_t m) { return (m + 2) * (m + 2); }

static size_t pack_winograd_s8_size(size_t m, size_t k, size_t n) noexcept {
    return w16_up(n, w16_nr) / w16_nr * w16_points(m) * w16_matrix(k) * sizeof(int16_t);
}

// Panel: [points][k / 2] of what dot2 takes for w16_nr columns; missing k and columns are zero.
static void pack_winograd_s8(size_t m, size_t k, size_t n, const int8_t* w, void* out, size_t panel_begin,
                             size_t panel_end) noexcept {
    const size_t side = m + 2, points = w16_points(m);
    const auto line = [m](int32_t a, int32_t b, int32_t c, int32_t* o) {
        if (m == 2) {
            o[0] = 2 * a, o[1] = a + b + c, o[2] = a - b + c, o[3] = 2 * c;
        } else {
            o[0] = a, o[1] = -(a + b + c), o[2] = b - a - c;
            o[3] = a + 2 * b + 4 * c, o[4] = a - 2 * b + 4 * c, o[5] = c;
        }
    };
    // What dot2 takes of a pair of k, for all matrices: they lie far apart.
    int16_t pair[36][2 * w16_nr];
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int16_t* panel = (int16_t*)out + p * points * w16_matrix(k);
        for (size_t i = 0; i < k; i += 2) {
            __builtin_memset(pair, 0, sizeof pair);
            for (size_t c = 0; c < w16_nr && p * w16_nr + c < n; ++c)
                for (size_t e = 0; e < 2 && i + e < k; ++e) {
                    const int8_t* g = w + ((p * w16_nr + c) * k + i + e) * 9;
#ifdef LINNET_PAIRS_APART
                    const size_t at = c / lanes * 2 * lanes + e * lanes + c % lanes;
#else
                    const size_t at = c * 2 + e;
#endif
                    int32_t rows[3][6];
                    for (int j = 0; j < 3; ++j) line(g[3 * j], g[3 * j + 1], g[3 * j + 2], rows[j]);
                    for (size_t j = 0; j < side; ++j) {
                        int32_t o[6];
                        line(rows[0][j], rows[1][j], rows[2][j], o);
                        for (size_t r = 0; r < side; ++r) pair[r * side + j][at] = (int16_t)o[r];
                    }
                }
            for (size_t q = 0; q < points; ++q)
                __builtin_memcpy(panel + q * w16_matrix(k) + i * w16_nr, pair[q], sizeof pair[q]);
        }
    }
}

// Scratch: v [points][tiles][ldv] int16, t [points][tiles][w16_nr] int32, sums [m][tiles][m][w16_nr] int32.
struct W16Scratch {
    size_t ldv, v_stride, t_stride;  // elements
    int16_t* v;
    int32_t *t, *sums;
    size_t bytes;
    LINNET_MEMBER W16Scratch(void* p, size_t m, size_t tiles, size_t k) {
        ldv = w16_up(k, w16_lanes);
        v_stride = w16_up(tiles * ldv, 32) + w16_skew / sizeof(int16_t);
        t_stride = w16_up(tiles * w16_nr, 16) + w16_skew / sizeof(int32_t);
        const size_t v_bytes = w16_points(m) * v_stride * sizeof(int16_t);
        const size_t t_bytes = w16_points(m) * t_stride * sizeof(int32_t);
        v = (int16_t*)p;
        t = (int32_t*)((char*)p + v_bytes);
        sums = (int32_t*)((char*)t + t_bytes);
        bytes = v_bytes + t_bytes + m * m * tiles * w16_nr * sizeof(int32_t);
    }
};

static size_t winograd_s8_scratch(size_t m, size_t tiles, size_t k) noexcept {
    return W16Scratch(nullptr, m, tiles, k).bytes;
}

template <int M>
LINNET_INLINE void w16_in_line(const s16x* d, s16x* o) {
    if constexpr (M == 2) {
        o[0] = d[0] - d[2], o[1] = d[1] + d[2], o[2] = d[2] - d[1], o[3] = d[1] - d[3];
    } else {
        const s16x even = d[4] - d[2], odd = (d[3] - d[1]) << 1;
        o[0] = ((d[0] - d[2]) << 2) + even, o[5] = ((d[1] - d[3]) << 2) + (d[5] - d[3]);
        o[1] = d[3] + d[4] - ((d[1] + d[2]) << 2), o[2] = d[4] - d[3] + ((d[1] - d[2]) << 2);
        o[3] = even + odd, o[4] = even - odd;
    }
}

template <int M>
static __attribute__((noinline)) void w16_in(const WinogradS8& w, const W16Scratch& s) noexcept {
    constexpr int side = M + 2, points = side * side;
    const uint8_t up = w.x_signed ? 128 : 0;
    const u8_half flip = u8_half{} + up;
    const s16x zero = s16x{} + (int16_t)(w.x_zero + up);
    for (size_t tile = 0; tile < w.tiles; ++tile) {
        const uint8_t* const* pixels = (const uint8_t* const*)w.pixels + tile * points;
        for (size_t c = 0; c < w.k; c += w16_lanes) {
            const size_t left = w.k - c;
            s16x rows[side][side];
            for (int i = 0; i < side; ++i) {
                s16x d[side];
                unroll<side>(LINNET_LAMBDA(j) {
                    u8_half x{};
                    if (left >= w16_lanes) __builtin_memcpy(&x, pixels[i * side + j] + c, sizeof x);
                    else {
                        uint8_t t[w16_lanes] = {};
                        copy_bytes(t, pixels[i * side + j] + c, left);
                        __builtin_memcpy(&x, t, sizeof x);
                    }
                    d[j] = __builtin_convertvector(x ^ flip, s16x) - zero;
                });
                w16_in_line<M>(d, rows[i]);
            }
            int16_t* v = s.v + tile * s.ldv + c;
            for (int j = 0; j < side; ++j) {
                s16x d[side], o[side];
                unroll<side>(LINNET_LAMBDA(i) { d[i] = rows[i][j]; });
                w16_in_line<M>(d, o);
                unroll<side>(
                    LINNET_LAMBDA(i) { __builtin_memcpy(v + (i * side + j) * s.v_stride, &o[i], sizeof o[i]); });
            }
        }
    }
}

// c = a b, MR rows of one matrix by one panel.
template <int MR>
static __attribute__((noinline)) void w16_tile(const int16_t* a, size_t lda, size_t k, const int16_t* b,
                                               int32_t* c) noexcept {
    i32 acc[MR][w16_nv];
    unroll<MR>(LINNET_LAMBDA(i) { unroll<w16_nv>(LINNET_LAMBDA(j) { acc[i][j] = splat_i(0); }); });
    for (size_t i = 0; i < k; i += 2, b += 2 * w16_nr) {
        PairB bv[w16_nv];
        unroll<w16_nv>(LINNET_LAMBDA(j) { __builtin_memcpy(&bv[j], b + j * 2 * lanes, sizeof bv[j]); });
        unroll<MR>(LINNET_LAMBDA(r) {
            const PairA av = pair_a(a + r * lda + i);
            unroll<w16_nv>(LINNET_LAMBDA(j) { acc[r][j] = dot2(acc[r][j], av, bv[j]); });
        });
    }
    unroll<MR>(
        LINNET_LAMBDA(r) { unroll<w16_nv>(LINNET_LAMBDA(j) { store_i(c + r * w16_nr + j * lanes, acc[r][j]); }); });
}

template <int MR>
LINNET_INLINE void w16_rows(size_t rows, const int16_t* a, size_t lda, size_t k, const int16_t* b, int32_t* c) {
    if constexpr (MR > 1)
        if (rows < MR) return w16_rows<MR - 1>(rows, a, lda, k, b, c);
    w16_tile<MR>(a, lda, k, b, c);
}

// M == 2: twice the result. M == 4: 24, 12, 6 and 6 times the result.
template <int M>
LINNET_INLINE void w16_out_line(const i32* t, i32* o) {
    if constexpr (M == 2) {
        o[0] = t[0] + t[1] + t[2], o[1] = t[1] - t[2] - t[3];
    } else {
        const i32 sum = t[1] + t[2], difference = t[1] - t[2], more = t[3] + t[4], rest = t[3] - t[4];
        o[0] = ((t[0] + sum) << 2) + (t[0] << 1) + more, o[1] = (difference << 1) + rest;
        o[2] = sum + more, o[3] = difference + (rest << 1) + (t[5] << 2) + (t[5] << 1);
    }
}

// A^T t A, divided by what it is too large by, the bias added, for one panel.
template <int M>
static __attribute__((noinline)) void w16_out(const WinogradS8& w, const W16Scratch& s, size_t col) noexcept {
    constexpr int side = M + 2;
    const size_t cols = w.n - col < w16_nr ? w.n - col : w16_nr;
    for (size_t c = 0; c < cols; c += lanes) {
        const i32 bias = w.bias ? bits(load_some((const float*)w.bias + col + c, cols - c)) : splat_i(0);
        for (size_t tile = 0; tile < w.tiles; ++tile) {
            const int32_t* t = s.t + tile * w16_nr + c;
            i32 rows[M][side];
            for (int j = 0; j < side; ++j) {
                i32 d[side], o[M];
                unroll<side>(LINNET_LAMBDA(i) { d[i] = load_i(t + (i * side + j) * s.t_stride); });
                w16_out_line<M>(d, o);
                unroll<M>(LINNET_LAMBDA(i) { rows[i][j] = o[i]; });
            }
            unroll<M>(LINNET_LAMBDA(i) {
                i32 y[M];
                w16_out_line<M>(rows[i], y);
                unroll<M>(LINNET_LAMBDA(j) {
                    constexpr int twos[4] = {3, 2, 1, 1}, shift = M == 2 ? 2 : twos[i] + twos[j];
                    if constexpr (M == 4) y[j] = y[j] * splat_i(0x38e38e39);  // by 9
                    store_i(s.sums + ((i * w.tiles + tile) * M + j) * w16_nr + c, (y[j] >> shift) + bias);
                });
            });
        }
    }
}

template <int M>
static void w16_panels(const WinogradS8& w, size_t panel_begin, size_t panel_end) noexcept {
    constexpr size_t points = (M + 2) * (M + 2);
    const W16Scratch s(w.scratch, M, w.tiles, w.k);
    w16_in<M>(w, s);
    const size_t row_tiles = (w.tiles + w16_mr - 1) / w16_mr;
    for (size_t panel = panel_begin; panel < panel_end && panel * w16_nr < w.n; ++panel) {
        const int16_t* b = (const int16_t*)w.w + panel * points * w16_matrix(w.k);
        for (size_t i = 0; i < points; ++i, b += w16_matrix(w.k))
            for (size_t part = 0, row = 0; part < row_tiles; ++part) {
                const size_t rows = w.tiles / row_tiles + (part < w.tiles % row_tiles);
                w16_rows<w16_mr>(rows, s.v + i * s.v_stride + row * s.ldv, s.ldv, w.k, b,
                                 s.t + i * s.t_stride + row * w16_nr);
                row += rows;
            }
        const size_t col = panel * w16_nr, cols = w.n - col < w16_nr ? w.n - col : w16_nr;
        w16_out<M>(w, s, col);
        // Pixels that follow each other in y are one block.
        const auto row_of = [&](size_t i, size_t at) { return w.rows[at / M * M * M + i * M + at % M]; };
        for (size_t i = 0; i < M; ++i)
            for (size_t at = 0, next; at < M * w.tiles; at = next) {
                const int32_t row = row_of(i, at);
                next = at + 1;
                if (row < 0) continue;
                while (next < M * w.tiles && row_of(i, next) == row + (int32_t)(next - at)) ++next;
                bytes_block(w.bytes, (size_t)row, next - at, col, cols, s.sums + (i * M * w.tiles + at) * w16_nr,
                            w16_nr, (uint8_t*)w.y + row * w.ldy + (ptrdiff_t)col, w.ldy);
            }
    }
}

static void winograd_s8(const WinogradS8& w, size_t panel_begin, size_t panel_end) noexcept {
    if constexpr (winograd_s8_pays) {  // elsewhere nobody calls it
        if (w.tiles > 0) (w.m == 2 ? w16_panels<2> : w16_panels<4>)(w, panel_begin, panel_end);
    }
}

}  // namespace linnet::kernels::LINNET_ISA
