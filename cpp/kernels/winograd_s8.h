// Winograd's F(2 x 2, 3 x 3) in integers: transformed bytes and filters are 16-bit numbers, filters without the halves
// of their transform and so 4 times as large. Where pairs of 16-bit products are the widest there are (AVX2, NEON
// without dot product), 2.25 times fewer of them win over the direct sum of bytes.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

typedef int16_t s16x __attribute__((vector_size(sizeof(f32)), may_alias));
typedef uint8_t u8_half __attribute__((vector_size(sizeof(f32) / 2), may_alias));

constexpr size_t w16_lanes = 2 * (size_t)lanes;  // channels of a vector
constexpr int w16_mr = 4, w16_nv = 2;
constexpr size_t w16_nr = (size_t)w16_nv * lanes;
constexpr size_t w16_skew = 64;  // bytes between matrices, so that they do not all fall into one cache set

LINNET_INLINE size_t w16_up(size_t n, size_t to) { return (n + to - 1) / to * to; }
LINNET_INLINE size_t w16_matrix(size_t k) { return w16_up(k, 2) * w16_nr; }  // int16 of one matrix of a panel

static size_t pack_winograd_s8_size(size_t k, size_t n) noexcept {
    return w16_up(n, w16_nr) / w16_nr * 16 * w16_matrix(k) * sizeof(int16_t);
}

// Panel: [16][k / 2] of what dot2 takes for w16_nr columns; missing k and columns are zero.
static void pack_winograd_s8(size_t k, size_t n, const int8_t* w, void* out, size_t panel_begin,
                             size_t panel_end) noexcept {
    const auto line = [](int32_t a, int32_t b, int32_t c, int32_t* o) {
        o[0] = 2 * a, o[1] = a + b + c, o[2] = a - b + c, o[3] = 2 * c;
    };
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int16_t* panel = (int16_t*)out + p * 16 * w16_matrix(k);
        __builtin_memset(panel, 0, 16 * w16_matrix(k) * sizeof *panel);
        for (size_t c = 0; c < w16_nr && p * w16_nr + c < n; ++c)
            for (size_t i = 0; i < k; ++i) {
                const int8_t* g = w + ((p * w16_nr + c) * k + i) * 9;
#ifdef LINNET_PAIRS_APART
                const size_t at = i / 2 * 2 * w16_nr + c / lanes * 2 * lanes + i % 2 * lanes + c % lanes;
#else
                const size_t at = i / 2 * 2 * w16_nr + c * 2 + i % 2;
#endif
                int32_t rows[3][4];
                for (int j = 0; j < 3; ++j) line(g[3 * j], g[3 * j + 1], g[3 * j + 2], rows[j]);
                for (int j = 0; j < 4; ++j) {
                    int32_t o[4];
                    line(rows[0][j], rows[1][j], rows[2][j], o);
                    for (int r = 0; r < 4; ++r) panel[(size_t)(r * 4 + j) * w16_matrix(k) + at] = (int16_t)o[r];
                }
            }
    }
}

// Scratch: v [16][tiles][ldv] int16, t [16][tiles][w16_nr] int32, sums [2][tiles][2][w16_nr] int32.
struct W16Scratch {
    size_t ldv, v_stride, t_stride;  // elements
    int16_t* v;
    int32_t *t, *sums;
    size_t bytes;
    LINNET_MEMBER W16Scratch(void* p, size_t tiles, size_t k) {
        ldv = w16_up(k, w16_lanes);
        v_stride = w16_up(tiles * ldv, 32) + w16_skew / sizeof(int16_t);
        t_stride = w16_up(tiles * w16_nr, 16) + w16_skew / sizeof(int32_t);
        const size_t v_bytes = 16 * v_stride * sizeof(int16_t), t_bytes = 16 * t_stride * sizeof(int32_t);
        v = (int16_t*)p;
        t = (int32_t*)((char*)p + v_bytes);
        sums = (int32_t*)((char*)t + t_bytes);
        bytes = v_bytes + t_bytes + 4 * tiles * w16_nr * sizeof(int32_t);
    }
};

static size_t winograd_s8_scratch(size_t tiles, size_t k) noexcept { return W16Scratch(nullptr, tiles, k).bytes; }

static __attribute__((noinline)) void w16_in(const WinogradS8& w, const W16Scratch& s) noexcept {
    const auto line = [](const s16x* d, s16x* o) __attribute__((always_inline)) {
        o[0] = d[0] - d[2], o[1] = d[1] + d[2], o[2] = d[2] - d[1], o[3] = d[1] - d[3];
    };
    const uint8_t up = w.x_signed ? 128 : 0;
    const u8_half flip = u8_half{} + up;
    const s16x zero = s16x{} + (int16_t)(w.x_zero + up);
    for (size_t tile = 0; tile < w.tiles; ++tile) {
        const uint8_t* const* pixels = (const uint8_t* const*)w.pixels + tile * 16;
        for (size_t c = 0; c < w.k; c += w16_lanes) {
            const size_t left = w.k - c;
            s16x rows[4][4];
            unroll<4>(LINNET_LAMBDA(i) {
                s16x d[4];
                unroll<4>(LINNET_LAMBDA(j) {
                    u8_half x{};
                    if (left >= w16_lanes) __builtin_memcpy(&x, pixels[i * 4 + j] + c, sizeof x);
                    else {
                        uint8_t t[w16_lanes] = {};
                        copy_bytes(t, pixels[i * 4 + j] + c, left);
                        __builtin_memcpy(&x, t, sizeof x);
                    }
                    d[j] = __builtin_convertvector(x ^ flip, s16x) - zero;
                });
                line(d, rows[i]);
            });
            int16_t* v = s.v + tile * s.ldv + c;
            unroll<4>(LINNET_LAMBDA(j) {
                s16x d[4], o[4];
                unroll<4>(LINNET_LAMBDA(i) { d[i] = rows[i][j]; });
                line(d, o);
                unroll<4>(LINNET_LAMBDA(i) { __builtin_memcpy(v + (i * 4 + j) * s.v_stride, &o[i], sizeof o[i]); });
            });
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

// A^T t A, shifted back, the bias added, for one panel.
static __attribute__((noinline)) void w16_out(const WinogradS8& w, const W16Scratch& s, size_t col) noexcept {
    const auto line = [](const i32* t, i32* o) __attribute__((always_inline)) {
        o[0] = t[0] + t[1] + t[2], o[1] = t[1] - t[2] - t[3];
    };
    const size_t cols = w.n - col < w16_nr ? w.n - col : w16_nr;
    for (size_t c = 0; c < cols; c += lanes) {
        const i32 bias = w.bias ? bits(load_some((const float*)w.bias + col + c, cols - c)) : splat_i(0);
        for (size_t tile = 0; tile < w.tiles; ++tile) {
            const int32_t* t = s.t + tile * w16_nr + c;
            i32 rows[2][4];
            unroll<4>(LINNET_LAMBDA(j) {
                i32 d[4], o[2];
                unroll<4>(LINNET_LAMBDA(i) { d[i] = load_i(t + (i * 4 + j) * s.t_stride); });
                line(d, o);
                rows[0][j] = o[0], rows[1][j] = o[1];
            });
            unroll<2>(LINNET_LAMBDA(i) {
                i32 y[2];
                line(rows[i], y);
                unroll<2>(LINNET_LAMBDA(j) {
                    store_i(s.sums + ((i * w.tiles + tile) * 2 + j) * w16_nr + c, (y[j] >> 2) + bias);
                });
            });
        }
    }
}

static void winograd_s8(const WinogradS8& w, size_t panel_begin, size_t panel_end) noexcept {
    const W16Scratch s(w.scratch, w.tiles, w.k);
    if (w.tiles == 0) return;
    w16_in(w, s);
    const size_t row_tiles = (w.tiles + w16_mr - 1) / w16_mr;
    for (size_t panel = panel_begin; panel < panel_end && panel * w16_nr < w.n; ++panel) {
        const int16_t* b = (const int16_t*)w.w + panel * 16 * w16_matrix(w.k);
        for (size_t i = 0; i < 16; ++i, b += w16_matrix(w.k))
            for (size_t part = 0, row = 0; part < row_tiles; ++part) {
                const size_t rows = w.tiles / row_tiles + (part < w.tiles % row_tiles);
                w16_rows<w16_mr>(rows, s.v + i * s.v_stride + row * s.ldv, s.ldv, w.k, b,
                                 s.t + i * s.t_stride + row * w16_nr);
                row += rows;
            }
        const size_t col = panel * w16_nr, cols = w.n - col < w16_nr ? w.n - col : w16_nr;
        w16_out(w, s, col);
        // Pixels that follow each other in y are one block.
        const auto row_of = [&](size_t i, size_t at) { return w.rows[at / 2 * 4 + i * 2 + at % 2]; };
        for (size_t i = 0; i < 2; ++i)
            for (size_t at = 0, next; at < 2 * w.tiles; at = next) {
                const int32_t row = row_of(i, at);
                next = at + 1;
                if (row < 0) continue;
                while (next < 2 * w.tiles && row_of(i, next) == row + (int32_t)(next - at)) ++next;
                bytes_block(w.bytes, (size_t)row, next - at, col, cols, s.sums + (i * 2 * w.tiles + at) * w16_nr,
                            w16_nr, (uint8_t*)w.y + row * w.ldy + (ptrdiff_t)col, w.ldy);
            }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
