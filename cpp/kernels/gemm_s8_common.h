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
    bool whole_rows;       // each row of A is one piece, read in place
    int32_t* sums;         // where tiles that leave their sums to gemm_s8 put them
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

// Where k begins in the rows of a tile.
static __attribute__((noinline)) void rows_of_a(const GemmS8& g, size_t tap, size_t row, size_t rows, size_t k,
                                                const uint8_t** out) noexcept {
    if (g.offsets) {
        for (size_t i = 0; i < rows; ++i) out[i] = row_of_a(g, tap, row + i) + k;
        return;
    }
    const uint8_t* a = (const uint8_t*)g.a + (ptrdiff_t)row * g.lda + k;
    for (size_t i = 0; i < rows; ++i, a += g.lda) out[i] = a;
}

// Bytes of a row that are turned, or too few for a group of four, wait in L1; those past n meet zero weights.
constexpr size_t dot_chunk = 256;

// In pieces of Count words, of which the last two may overlap.
template <int Count>
LINNET_INLINE void turn_pieces(const uint8_t* in, size_t n, uint32_t flip, uint8_t* out) {
    typedef uint32_t Words __attribute__((vector_size(4 * Count), may_alias));
    constexpr size_t bytes = sizeof(Words);
    for (size_t i = 0;; i += bytes) {
        if (i + bytes > n) i = n - bytes;
        Words x;
        __builtin_memcpy(&x, in + i, bytes);
        x = x ^ flip;
        __builtin_memcpy(out + i, &x, bytes);
        if (i + bytes == n) return;
    }
}

static __attribute__((noinline)) void turn_bytes(const uint8_t* const* rows, size_t count, size_t n, uint32_t flip,
                                                 uint8_t* out) noexcept {
    for (size_t r = 0; r < count; ++r, out += dot_chunk) {
        const uint8_t* in = rows[r];
        if (n >= 16) turn_pieces<4>(in, n, flip, out);
        else if (n >= 4) turn_pieces<1>(in, n, flip, out);
        else {  // as one word, since a word is what is loaded next
            uint32_t x = flip;
            for (size_t i = 0; i < n; ++i) x ^= (uint32_t)in[i] << 8 * i;
            __builtin_memcpy(out, &x, 4);
        }
    }
}

#ifdef LINNET_DOT_LANE
constexpr size_t dot_unit = 16;  // bytes of A at a time; they are turned in registers
#else
constexpr size_t dot_unit = 4;
#endif

// Cuts the rows of a tile into pieces that are read in place, or out of `turned` where that cannot be.
struct DotRows {
    const DotArgs* t;
    size_t rows;
    uint8_t* turned;  // [rows][dot_chunk]
    size_t tap = 0, k = 0;
    bool in_place = false;  // this piece; its bytes are not turned
};

// Points `at` to the next `n` bytes of each row, n a multiple of four, and returns n, or 0 at the end.
static __attribute__((noinline)) size_t next_piece(DotRows& p, const uint8_t** at) noexcept {
    const GemmS8& g = *p.t->g;
    const size_t padded = (g.k + 3) & ~(size_t)3;
    if (p.tap >= g.taps || g.k == 0) return 0;
    const bool turns = dot_unit == 4 && p.t->flip != 0;
    size_t n = 0;
    p.in_place = false;
    if (4 * padded <= dot_chunk && (turns || g.k % dot_unit != 0)) {  // several taps together
        for (; p.tap < g.taps && n + padded <= dot_chunk; ++p.tap, n += padded) {
            rows_of_a(g, p.tap, p.t->row, p.rows, 0, at);
            turn_bytes(at, p.rows, g.k, p.t->flip, p.turned + n);
        }
    } else {
        rows_of_a(g, p.tap, p.t->row, p.rows, p.k, at);
        n = (g.k - p.k) & ~(dot_unit - 1);
        p.in_place = n > 0 && !turns;
        if (!p.in_place) {
            n = g.k - p.k < dot_chunk ? g.k - p.k : dot_chunk;
            turn_bytes(at, p.rows, n, p.t->flip, p.turned);
        }
        p.k += n;
        if (p.k == g.k) p.k = 0, ++p.tap;
        n = (n + 3) & ~(size_t)3;
    }
    if (!p.in_place)
        for (size_t i = 0; i < p.rows; ++i) at[i] = p.turned + i * dot_chunk;
    return n;
}

typedef void (*DotFn)(const DotArgs&) noexcept;

}  // namespace linnet::kernels::LINNET_ISA
