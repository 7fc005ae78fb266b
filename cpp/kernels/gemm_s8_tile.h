// The int8 tile for instructions that multiply four pairs of bytes exactly.
#pragma once

#include "kernels/gemm_s8_common.h"

namespace linnet::kernels::LINNET_ISA {

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

static void pack_b_s8(const PackB& s, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept {
    const size_t panel_bytes = dot_panel_bytes(s.taps, s.k);
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int8_t* const panel = (int8_t*)out + p * panel_bytes;
        const size_t n0 = p * dot_nr, cols = s.n - n0 < dot_nr ? s.n - n0 : dot_nr;
        int8_t* w = panel + dot_nr * 4;
        DotAcc sums[dot_nv];
        unroll<dot_nv>(LINNET_LAMBDA(j) { sums[j] = dot_first(splat_i(0)); });
        for (size_t t = 0; t < s.taps; ++t)
            for (size_t k = 0; k < s.k; k += 4, w += dot_nr * 4) {
                pack_group(s, b + (ptrdiff_t)t * s.tap_stride + (ptrdiff_t)k * s.k_stride + (ptrdiff_t)n0 * s.n_stride,
                           s.k - k, cols, w);
                unroll<dot_nv>(
                    LINNET_LAMBDA(j) { sums[j] = dot4(sums[j], dot_a(0x01010101u), dot_b(w + j * lanes * 4)); });
            }
        for (int8_t* const end = panel + panel_bytes; w < end; ++w) *w = 0;
        unroll<dot_nv>(LINNET_LAMBDA(j) { store_i((int32_t*)panel + j * lanes, dot_sum(sums[j])); });
    }
}

// MR rows by NV vectors in each of NP neighbouring panels.
template <int MR, int NV, int NP>
static __attribute__((noinline)) void dot_tile(const DotArgs& t) noexcept {
    constexpr int N = NV * NP;
    constexpr size_t ld = NP * dot_nr;
    const GemmS8& g = *t.g;
    const size_t panel_bytes = t.panel_bytes;
    DotAcc acc[MR][N];
    unroll<N>(LINNET_LAMBDA(j) {
        const i32 first = load_i(t.first + (j / NV) * (int)dot_nr + (j % NV) * lanes);
        unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = dot_first(first); });
    });
    const int8_t* b = (const int8_t*)g.b + t.panel * panel_bytes + dot_nr * 4;
    uint8_t turned[MR * dot_chunk];
    DotRows pieces{&t, MR, turned};
    const uint8_t* at[MR];
    while (const size_t n = next_piece(pieces, at)) {
        size_t q = 0;
#ifdef LINNET_DOT_LANE
        const uint32_t flip = pieces.in_place ? t.flip : 0;
        for (; q + 16 <= n; q += 16) {
            DotA av[MR];
            unroll<MR>(LINNET_LAMBDA(i) { av[i] = dot_a_wide(at[i] + q, flip); });
            unroll<4>(LINNET_LAMBDA(u) {
                unroll<N>(LINNET_LAMBDA(j) {
                    const DotB bv = dot_b(b + (j / NV) * panel_bytes + (j % NV) * lanes * 4);
                    unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = dot4_lane<u>(acc[i][j], av[i], bv); });
                });
                b += dot_nr * 4;
                __asm__ volatile("" ::: "memory");  // keeps GCC from loading all of B first
            });
        }
#endif
        for (; q < n; q += 4) {
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
    alignas(64) int32_t sums[MR * ld];
    unroll<MR>(LINNET_LAMBDA(i) {
        unroll<N>(LINNET_LAMBDA(j) {
            store_i(sums + i * (int)ld + (j / NV) * (int)dot_nr + (j % NV) * lanes, dot_sum(acc[i][j]));
        });
    });
    store_block(t, MR, NP > 1 ? ld : (size_t)NV * lanes, sums, ld);
}

template <int MR, int NV>
static DotFn pick_height(size_t rows) noexcept {
    constexpr int lowest = NV < dot_nv ? dot_mr / 2 + 1 : 1;
    if constexpr (MR > lowest)
        if (rows < MR) return pick_height<MR - 1, NV>(rows);
    return dot_tile<MR, NV, 1>;
}

// Few rows: several panels at once, so that enough independent sums are in flight.
LINNET_INLINE size_t dot_panels(size_t rows) { return rows <= 2 ? small_np[rows - 1] : 1; }

// The tile for `cols` columns, in several panels if there are more than one.
static DotFn pick_dot(size_t rows, size_t cols) noexcept {
    if (cols > dot_nr) return rows == 1 ? dot_tile<1, dot_nv, small_np[0]> : dot_tile<2, dot_nv, small_np[1]>;
    if (2 * cols <= dot_nr && 2 * rows > dot_mr) return pick_height<dot_mr, (dot_nv + 1) / 2>(rows);
    return pick_height<dot_mr, dot_nv>(rows);
}

}  // namespace linnet::kernels::LINNET_ISA
