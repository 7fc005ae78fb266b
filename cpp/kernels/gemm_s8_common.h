// What the int8 kernels share: groups of four k, rows of A, and where sums go.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t dot_nr = (size_t)dot_nv * lanes;

#ifndef LINNET_DOT_ACC
typedef i32 DotAcc;
LINNET_INLINE DotAcc dot_first(i32 x) { return x; }
LINNET_INLINE i32 dot_sum(DotAcc a) { return a; }
#endif

// One group: k rows of `cols` columns from b, of which at most four count.
static __attribute__((noinline)) void pack_group(const PackB& s, const int8_t* b, size_t k, size_t cols,
                                                 int8_t* out) noexcept {
    if (k >= 4 && cols == dot_nr && s.n_stride == 1) {
        for (size_t c = 0; c < dot_nr; ++c)
            for (size_t i = 0; i < 4; ++i) out[c * 4 + i] = b[(ptrdiff_t)i * s.k_stride + (ptrdiff_t)c];
        return;
    }
    if (k >= 4 && cols == dot_nr && s.k_stride == 1) {
        for (size_t c = 0; c < dot_nr; ++c) __builtin_memcpy(out + c * 4, b + (ptrdiff_t)c * s.n_stride, 4);
        return;
    }
    for (size_t c = 0; c < dot_nr; ++c)
        for (size_t i = 0; i < 4; ++i)
            out[c * 4 + i] = c < cols && i < k ? b[(ptrdiff_t)i * s.k_stride + (ptrdiff_t)c * s.n_stride] : (int8_t)0;
}

// What every tile of a call is told, and where one lies.
struct DotArgs {
    const GemmS8* g;
    Program program;  // Out::floats
    uint32_t flip;    // turns bytes of A into what the instruction takes
    int32_t zero;     // the zero point of the bytes turned
    size_t row, panel, panel_bytes;
    const int32_t* first;  // what the sums of the panel start from
};

// Rows of ld sums, scratch and readable to the vector in which the columns end, to where they belong in c.
static __attribute__((noinline)) void store_block(const DotArgs& t, size_t rows, size_t cols, int32_t* sums,
                                                  size_t ld) noexcept {
    const GemmS8& g = *t.g;
    const size_t col = t.panel * dot_nr, left = g.n - col;
    const ptrdiff_t at = (ptrdiff_t)t.row * g.ldc + (ptrdiff_t)col;
    if (cols > left) cols = left;
    if (g.out == GemmS8::Out::bytes) bytes_block(g.bytes, t.row, rows, col, cols, sums, ld, (uint8_t*)g.c + at, g.ldc);
    else if (g.out == GemmS8::Out::floats)
        floats_block(g.scale, t.program, t.row, rows, col, cols, sums, ld, (float*)g.c + at, g.ldc);
    else sums_block(rows, cols, sums, ld, (int32_t*)g.c + at, g.ldc);
}

// bias + sum (a - zero) b = (bias - zero' sum b) + sum a' b, where a' are the bytes turned: what sums start from.
static __attribute__((noinline)) void first_sums(const DotArgs& t, size_t panels, int32_t* sums) noexcept {
    for (size_t p = t.panel; p < t.panel + panels; ++p, sums += dot_nr) {
        const size_t left = t.g->n - p * dot_nr;
        __builtin_memcpy(sums, (const char*)t.g->b + p * t.panel_bytes, dot_nr * sizeof(int32_t));
        for (size_t c = 0; c < dot_nr; ++c) sums[c] *= -t.zero;
        if (t.g->bias)
            for (size_t c = 0; c < (left < dot_nr ? left : dot_nr); ++c) sums[c] += t.g->bias[p * dot_nr + c];
    }
}

LINNET_INLINE const uint8_t* row_of_a(const GemmS8& g, size_t tap, size_t row) {
    if (!g.offsets) return (const uint8_t*)g.a + (ptrdiff_t)row * g.lda;
    const int32_t o = g.offsets[tap * g.offsets_ld + row];
    return o < 0 ? (const uint8_t*)g.zero : (const uint8_t*)g.a + o;
}

// Bytes of a row that are turned, or too few for a group of four, wait in L1; those past n meet zero weights.
constexpr size_t dot_chunk = 256;

static __attribute__((noinline)) void turn_bytes(const uint8_t* const* rows, size_t count, size_t n, uint32_t flip,
                                                 uint8_t* out) noexcept {
    for (size_t r = 0; r < count; ++r, out += dot_chunk) {
        const uint8_t* in = rows[r];
        if (n < 4) {
            uint32_t x = 0;
            for (size_t i = n; i-- > 0;) x = x << 8 | in[i];
            x ^= flip;
            __builtin_memcpy(out, &x, 4);
            continue;
        }
        constexpr size_t wide = sizeof(u8x);
        const u8x f = (u8x)(u32_bytes{} + flip);
        u8x v;
        size_t i = 0;
        for (; i + wide <= n; i += wide) {
            __builtin_memcpy(&v, in + i, wide);
            v = v ^ f;
            __builtin_memcpy(out + i, &v, wide);
        }
        for (; i < n; i += 4) {
            uint32_t x;
            const size_t at = n - i < 4 ? n - 4 : i;
            __builtin_memcpy(&x, in + at, 4);
            x = (x >> 8 * (i - at)) ^ flip;
            __builtin_memcpy(out + i, &x, 4);
        }
    }
}

typedef void (*DotFn)(const DotArgs&) noexcept;

}  // namespace linnet::kernels::LINNET_ISA
