// Exact int8 GEMM and convolution: u8 or s8 activations, s8 weights, int32 sums (modulo 2^32).
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t dot_nr = (size_t)dot_nv * lanes;

// Panel: dot_nr column sums (int32), then [tap][k / 4][dot_nr][4] bytes, missing k and columns zero.
LINNET_INLINE size_t dot_panel_bytes(size_t taps, size_t k) { return dot_nr * 4 * (1 + taps * ((k + 3) / 4)); }

static size_t pack_b_s8_size(size_t taps, size_t k, size_t n) noexcept {
    return (n + dot_nr - 1) / dot_nr * dot_panel_bytes(taps, k);
}

static void pack_b_s8(const PackB& s, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept {
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int8_t* o = (int8_t*)out + p * dot_panel_bytes(s.taps, s.k);
        int32_t sums[dot_nr] = {};
        const size_t n0 = p * dot_nr, cols = s.n - n0 < dot_nr ? s.n - n0 : dot_nr;
        int8_t* w = o + dot_nr * 4;
        for (size_t t = 0; t < s.taps; ++t)
            for (size_t k = 0; k < s.k; k += 4, w += dot_nr * 4)
                for (size_t c = 0; c < dot_nr; ++c)
                    for (size_t i = 0; i < 4; ++i) {
                        int8_t v = 0;
                        if (c < cols && k + i < s.k)
                            v = b[(ptrdiff_t)t * s.tap_stride + (ptrdiff_t)(k + i) * s.k_stride +
                                  (ptrdiff_t)(n0 + c) * s.n_stride];
                        w[c * 4 + i] = v;
                        sums[c] += v;
                    }
        __builtin_memcpy(o, sums, sizeof sums);
    }
}

// Rows of ld sums, scratch and readable to the vector in which the columns end, to where they belong in c.
static __attribute__((noinline)) void store_block(const GemmS8& g, size_t row, size_t rows, size_t col, size_t cols,
                                                  int32_t* sums, size_t ld) noexcept {
    const ptrdiff_t at = (ptrdiff_t)row * g.ldc + (ptrdiff_t)col;
    if (g.out == GemmS8::Out::bytes) bytes_block(g.bytes, row, rows, col, cols, sums, ld, (uint8_t*)g.c + at, g.ldc);
    else if (g.out == GemmS8::Out::floats)
        floats_block(g.scale, parse(g.epilogue), row, rows, col, cols, sums, ld, (float*)g.c + at, g.ldc);
    else sums_block(rows, cols, sums, ld, (int32_t*)g.c + at, g.ldc);
}

template <int MR>
static __attribute__((noinline)) void dot_tile(const GemmS8& g, size_t row, size_t panel) noexcept {
    i32 acc[MR][dot_nv];
    unroll<MR>(LINNET_LAMBDA(i) { unroll<dot_nv>(LINNET_LAMBDA(j) { acc[i][j] = splat_i(0); }); });
    const uint32_t flip = g.a_signed == dot_wants_signed ? 0 : 0x80808080u;
    const uint8_t* a = (const uint8_t*)g.a;
    const int8_t* panel_start = (const int8_t*)g.b + panel * dot_panel_bytes(g.taps, g.k);
    const int8_t* b = panel_start + dot_nr * 4;
    for (size_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* rows[MR];
        unroll<MR>(LINNET_LAMBDA(i) {
            if (g.offsets) {
                const int32_t o = g.offsets[tap * g.offsets_ld + row + i];
                rows[i] = o < 0 ? (const uint8_t*)g.zero : a + o;
            } else {
                rows[i] = a + (ptrdiff_t)(row + i) * g.lda;
            }
        });
        const auto step = LINNET_LAMBDA(load_a) {
            DotB bv[dot_nv];
            unroll<dot_nv>(LINNET_LAMBDA(j) { bv[j] = dot_b(b + j * lanes * 4); });
            unroll<MR>(LINNET_LAMBDA(i) {
                const DotA av = dot_a(load_a(rows[i]) ^ flip);
                unroll<dot_nv>(LINNET_LAMBDA(j) { acc[i][j] = dot4(acc[i][j], av, bv[j]); });
            });
            b += dot_nr * 4;
        };
        size_t k = 0;
        for (; k + 4 <= g.k; k += 4)
            step(LINNET_LAMBDA(p) {
                uint32_t x;
                __builtin_memcpy(&x, p + k, 4);
                return x;
            });
        if (k < g.k)
            step(LINNET_LAMBDA(p) {  // the bytes past k meet zero weights
                uint32_t x = 0;
                for (size_t i = 0; k + i < g.k; ++i) x |= (uint32_t)p[k + i] << (8 * i);
                return x;
            });
    }
    // sum (a - zero) b = sum (a' b) - zero' sum b, where a' = a +- 128 is what the instruction was given.
    const int32_t zero = g.a_zero + (flip == 0 ? 0 : dot_wants_signed ? -128 : 128);
    const size_t col = panel * dot_nr, cols = g.n - col < dot_nr ? g.n - col : dot_nr;
    int32_t bias[dot_nr] = {}, t[MR * dot_nr];
    if (g.bias) __builtin_memcpy(bias, g.bias + col, cols * sizeof(int32_t));
    unroll<dot_nv>(LINNET_LAMBDA(j) {
        const u32 sums = (u32)load_i((const int32_t*)panel_start + j * lanes), add = (u32)load_i(bias + j * lanes);
        unroll<MR>(LINNET_LAMBDA(i) {
            store_i(t + i * dot_nr + j * lanes, (i32)((u32)acc[i][j] + (add - sums * (u32)splat_i(zero))));
        });
    });
    store_block(g, row, MR, col, cols, t, dot_nr);
}

template <int MR>
LINNET_INLINE void dot_rows(int rows, const GemmS8& g, size_t row, size_t panel) {
    if constexpr (MR > 1)
        if (rows < MR) return dot_rows<MR - 1>(rows, g, row, panel);
    dot_tile<MR>(g, row, panel);
}

static void gemm_s8(const GemmS8& g, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept {
    if (row_begin >= row_end) return;
    const size_t rows = row_end - row_begin, tiles = (rows + dot_mr - 1) / dot_mr;
    for (size_t panel = panel_begin; panel < panel_end && panel * dot_nr < g.n; ++panel)
        for (size_t i = 0, row = row_begin; i < tiles; ++i) {
            const size_t height = rows / tiles + (i < rows % tiles);
            dot_rows<dot_mr>((int)height, g, row, panel);
            row += height;
        }
}

}  // namespace linnet::kernels::LINNET_ISA
