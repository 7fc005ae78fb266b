// Exact int8 GEMM and convolution: u8 or s8 activations, s8 weights, int32 sums (modulo 2^32).
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t dot_nr = (size_t)dot_nv * lanes;

// Groups of four k in a panel. Tiles of AMX take them in steps of one depth: what that is short of is filled with
// zeros.
LINNET_INLINE size_t dot_groups(size_t taps, size_t k) {
    const size_t groups = taps * ((k + 3) / 4);
#ifdef LINNET_AMX
    const size_t steps = (groups + 15) / 16;
    return steps ? (groups + steps - 1) / steps * steps : 0;
#else
    return groups;
#endif
}
// Panel: dot_nr column sums (int32), then [tap][k / 4][dot_nr][4] bytes, missing k and columns zero.
LINNET_INLINE size_t dot_panel_bytes(size_t taps, size_t k) { return dot_nr * 4 * (1 + dot_groups(taps, k)); }

static size_t pack_b_s8_size(size_t taps, size_t k, size_t n) noexcept {
    return (n + dot_nr - 1) / dot_nr * dot_panel_bytes(taps, k);
}

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

static void pack_b_s8(const PackB& s, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept {
    const size_t panel_bytes = dot_panel_bytes(s.taps, s.k);
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int8_t* const panel = (int8_t*)out + p * panel_bytes;
        const size_t n0 = p * dot_nr, cols = s.n - n0 < dot_nr ? s.n - n0 : dot_nr;
        int8_t* w = panel + dot_nr * 4;
        i32 sums[dot_nv] = {};
        for (size_t t = 0; t < s.taps; ++t)
            for (size_t k = 0; k < s.k; k += 4, w += dot_nr * 4) {
                pack_group(s, b + (ptrdiff_t)t * s.tap_stride + (ptrdiff_t)k * s.k_stride + (ptrdiff_t)n0 * s.n_stride,
                           s.k - k, cols, w);
                unroll<dot_nv>(
                    LINNET_LAMBDA(j) { sums[j] = dot4(sums[j], dot_a(0x01010101u), dot_b(w + j * lanes * 4)); });
            }
        for (int8_t* const end = panel + panel_bytes; w < end; ++w) *w = 0;
        unroll<dot_nv>(LINNET_LAMBDA(j) { store_i((int32_t*)panel + j * lanes, sums[j]); });
    }
}

// What every tile of a call is told, and where one lies.
struct DotArgs {
    const GemmS8* g;
    Program program;  // Out::floats
    uint32_t flip;    // turns bytes of A into what the instruction takes
    int32_t zero;     // the zero point of the bytes turned
    size_t row, panel;
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
        __builtin_memcpy(sums, (const char*)t.g->b + p * dot_panel_bytes(t.g->taps, t.g->k), dot_nr * sizeof(int32_t));
        for (size_t c = 0; c < dot_nr; ++c) sums[c] *= -t.zero;
        if (t.g->bias)
            for (size_t c = 0; c < (left < dot_nr ? left : dot_nr); ++c) sums[c] += t.g->bias[p * dot_nr + c];
    }
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

// MR rows by NV vectors in each of NP neighbouring panels.
template <int MR, int NV, int NP>
static __attribute__((noinline)) void dot_tile(const DotArgs& t) noexcept {
    constexpr int N = NV * NP;
    constexpr size_t ld = NP * dot_nr;
    const GemmS8& g = *t.g;
    const size_t panel_bytes = dot_panel_bytes(g.taps, g.k);
    i32 acc[MR][N];
    unroll<N>(LINNET_LAMBDA(j) {
        const i32 first = load_i(t.first + (j / NV) * (int)dot_nr + (j % NV) * lanes);
        unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = first; });
    });
    const int8_t* b = (const int8_t*)g.b + t.panel * panel_bytes + dot_nr * 4;
    for (size_t tap = 0; tap < g.taps; ++tap) {
        const uint8_t* rows[MR];
        if (g.offsets) {
            const int32_t* o = g.offsets + tap * g.offsets_ld + t.row;
            unroll<MR>(LINNET_LAMBDA(i) { rows[i] = o[i] < 0 ? (const uint8_t*)g.zero : (const uint8_t*)g.a + o[i]; });
        } else {
            unroll<MR>(LINNET_LAMBDA(i) { rows[i] = (const uint8_t*)g.a + (ptrdiff_t)(t.row + i) * g.lda; });
        }
        for (size_t k = 0; k < g.k;) {
            size_t n = (g.k - k) & ~(size_t)3;
            uint8_t turned[MR * dot_chunk];
            const uint8_t* at[MR];
            if (n == 0 || t.flip != 0) {
                n = g.k - k < dot_chunk ? g.k - k : dot_chunk;
                unroll<MR>(LINNET_LAMBDA(i) { at[i] = rows[i] + k; });
                turn_bytes(at, MR, n, t.flip, turned);
                unroll<MR>(LINNET_LAMBDA(i) { at[i] = turned + i * dot_chunk; });
            } else {
                unroll<MR>(LINNET_LAMBDA(i) { at[i] = rows[i] + k; });
            }
            k += n;
            for (size_t q = 0; q < n; q += 4) {
                DotB bv[N];
                unroll<N>(LINNET_LAMBDA(j) { bv[j] = dot_b(b + (j / NV) * panel_bytes + (j % NV) * lanes * 4); });
                unroll<MR>(LINNET_LAMBDA(i) {
                    uint32_t x;
                    __builtin_memcpy(&x, at[i] + q, 4);
                    const DotA av = dot_a(x);
                    unroll<N>(LINNET_LAMBDA(j) { acc[i][j] = dot4(acc[i][j], av, bv[j]); });
                });
                b += dot_nr * 4;
                __asm__ volatile("" ::: "memory");
            }
        }
    }
    alignas(64) int32_t sums[MR * ld];
    unroll<MR>(LINNET_LAMBDA(i) {
        unroll<N>(
            LINNET_LAMBDA(j) { store_i(sums + i * (int)ld + (j / NV) * (int)dot_nr + (j % NV) * lanes, acc[i][j]); });
    });
    store_block(t, MR, NP > 1 ? ld : (size_t)NV * lanes, sums, ld);
}

typedef void (*DotFn)(const DotArgs&) noexcept;

template <int MR, int NV>
static DotFn pick_dot(int rows) noexcept {
    if constexpr (MR > 1)
        if (rows < MR) return pick_dot<MR - 1, NV>(rows);
    return dot_tile<MR, NV, 1>;
}

static void gemm_s8(const GemmS8& g, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept {
    if (row_begin >= row_end) return;
    DotArgs t;
    t.g = &g;
    if (g.out == GemmS8::Out::floats) t.program = parse(g.epilogue);
    t.flip = g.a_signed == dot_wants_signed ? 0 : 0x80808080u;
    t.zero = g.a_zero + (t.flip == 0 ? 0 : dot_wants_signed ? -128 : 128);
    const size_t rows = row_end - row_begin, tiles = (rows + dot_mr - 1) / dot_mr, depth = g.taps * g.k;
    size_t panels = (g.n + dot_nr - 1) / dot_nr;
    panels = panels < panel_end ? panels : panel_end;
    // A block of rows stays in L2 while the panels pass over it.
    constexpr size_t block_bytes = 192 * 1024;
    size_t block = block_bytes / (dot_mr * ((g.offsets ? g.k : depth) + 1));
    block = block < 12 ? 12 : block;
    const size_t height = rows / tiles, taller = rows % tiles;
    // Few rows: several panels at once, so that enough independent sums are in flight.
    const size_t several = rows <= 2 && small_np[rows - 1] > 1 ? small_np[rows - 1] : 0;
    constexpr int half = (dot_nv + 1) / 2;
    int32_t first_of[4 * dot_nr];
    t.first = first_of;
    for (size_t first = 0; first < tiles; first += block) {
        const size_t last = first + block < tiles ? first + block : tiles;
        size_t np = 1;
        for (t.panel = panel_begin; t.panel < panels; t.panel += np) {
            np = several && t.panel + several <= panels ? several : 1;
            first_sums(t, np, first_of);
            const size_t left = g.n - t.panel * dot_nr;
            DotFn tall, low;
            if (np > 1) tall = low = rows == 1 ? dot_tile<1, dot_nv, small_np[0]> : dot_tile<2, dot_nv, small_np[1]>;
            else if (left <= dot_nr / 2)
                tall = pick_dot<dot_mr, half>((int)height + 1), low = pick_dot<dot_mr, half>((int)height);
            else tall = pick_dot<dot_mr, dot_nv>((int)height + 1), low = pick_dot<dot_mr, dot_nv>((int)height);
            for (size_t i = first; i < last; ++i) {
                t.row = row_begin + i * height + (i < taller ? i : taller);
                (i < taller ? tall : low)(t);
            }
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
