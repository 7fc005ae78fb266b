// The int8 tile for AVX2, whose multiplication of bytes, u8 by s8, adds two neighbouring products in 16 bits, with
// saturation. While packing, each panel is given the way that is exact for its weights:
//  - No pair of weights of one sign exceeds 128 = 32767 / 255 in sum: bytes are multiplied as they are.
//  - Where a few pairs do, the part above goes into an extra group, multiplied by the same bytes of A a second time.
//  - Where many do, weights are widened to 16 bits in the loop, and A once for each tile.
#pragma once

#include "kernels/gemm_s8_common.h"

namespace linnet::kernels::LINNET_ISA {

LINNET_INLINE size_t dot_groups(size_t taps, size_t k) { return taps * ((k + 3) / 4); }
// With more extra groups than these, widening is faster; it never is where groups are few.
LINNET_INLINE size_t extra_room(size_t groups) { return groups <= 8 ? groups : groups / 4; }

// A panel begins with its column sums, then comes this, as long as a group.
struct PanelHead {
    int32_t extra;  // number of extra groups, or -1: to be widened
    int32_t unused[15];
};
// Then the groups: [dot_nr][4] bytes, or [2][dot_nr][2] where they are to be widened; the extra ones; and for each of
// those the number of the group it belongs to.
LINNET_INLINE size_t dot_panel_bytes(size_t taps, size_t k) {
    const size_t groups = dot_groups(taps, k), room = extra_room(groups);
    return dot_nr * 4 * (2 + groups + room) + (room + 15) / 16 * 64;
}

static size_t pack_b_s8_size(size_t taps, size_t k, size_t n) noexcept {
    return (n + dot_nr - 1) / dot_nr * dot_panel_bytes(taps, k);
}

// Moves what is too much of each pair to `extra`. False if there is none.
static __attribute__((noinline)) bool split_pairs(int8_t* w, int8_t* extra) noexcept {
    bool any = false;
    for (size_t i = 0; i < dot_nr * 4; i += 2) {
        const int a = w[i], b = w[i + 1];
        int rest = 0;
        if (a > 0 && b > 0 && a + b > 128) rest = a + b - 128;
        if (a < 0 && b < 0 && a + b < -128) rest = a + b + 128;
        w[i + 1] = (int8_t)(b - rest);
        extra[i] = 0;
        extra[i + 1] = (int8_t)rest;
        any = any || rest != 0;
    }
    return any;
}

static void pack_b_s8(const PackB& s, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept {
    constexpr size_t group_bytes = dot_nr * 4;
    const size_t groups = dot_groups(s.taps, s.k), room = extra_room(groups);
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int8_t* const panel = (int8_t*)out + p * dot_panel_bytes(s.taps, s.k);
        const size_t n0 = p * dot_nr, cols = s.n - n0 < dot_nr ? s.n - n0 : dot_nr;
        PanelHead head = {};
        int32_t sums[dot_nr] = {};
        int8_t* const first = panel + 2 * group_bytes;
        int8_t* const extras = first + groups * group_bytes;
        for (int pass = 0; pass < 2; ++pass) {
            int8_t* w = first;
            for (size_t t = 0; t < s.taps; ++t)
                for (size_t k = 0; k < s.k; k += 4, w += group_bytes) {
                    pack_group(s,
                               b + (ptrdiff_t)t * s.tap_stride + (ptrdiff_t)k * s.k_stride + (ptrdiff_t)n0 * s.n_stride,
                               s.k - k, cols, w);
                    if (pass == 0)
                        for (size_t i = 0; i < group_bytes; ++i) sums[i / 4] += w[i];
                    int8_t other[group_bytes];
                    if (head.extra < 0) {
                        __builtin_memcpy(other, w, group_bytes);
                        for (size_t i = 0; i < group_bytes; ++i)
                            w[i % 4 / 2 * 2 * dot_nr + i / 4 * 2 + i % 2] = other[i];
                    } else if (split_pairs(w, other)) {
                        const int32_t number = (int32_t)((size_t)(w - first) / group_bytes);
                        if ((size_t)head.extra < room) {
                            __builtin_memcpy(extras + (size_t)head.extra * group_bytes, other, group_bytes);
                            __builtin_memcpy(extras + room * group_bytes + (size_t)head.extra * 4, &number, 4);
                        }
                        ++head.extra;
                    }
                }
            if (head.extra < 0 || (size_t)head.extra <= room) break;
            head.extra = -1;
        }
        __builtin_memcpy(panel, sums, sizeof sums);
        __builtin_memcpy(panel + group_bytes, &head, sizeof head);
    }
}

// `count` bytes of each row, turned, as 16 bits.
static __attribute__((noinline)) void widen_bytes(const uint8_t* bytes, size_t rows, size_t count,
                                                  int16_t* out) noexcept {
    for (size_t r = 0; r < rows; ++r, bytes += dot_chunk, out += dot_chunk)
        for (size_t k = 0; k < count; k += 16) store_wide(out + k, bytes + k);
}

template <int MR>
static __attribute__((noinline)) void dot_tile(const DotArgs& t) noexcept {
    const GemmS8& g = *t.g;
    const int8_t* const panel = (const int8_t*)g.b + t.panel * t.panel_bytes;
    const int8_t* b = panel + dot_nr * 8;
    const size_t groups = dot_groups(g.taps, g.k), room = extra_room(groups);
    const int8_t* extra = b + groups * dot_nr * 4;
    const char* number = (const char*)extra + room * dot_nr * 4;
    const int32_t extras = ((const PanelHead*)(panel + dot_nr * 4))->extra;
    const char* const numbers_end = number + (extras < 0 ? 0 : extras) * 4;
    i32 acc[MR][dot_nv];
    unroll<dot_nv>(LINNET_LAMBDA(j) {
        const i32 first = load_i(t.first + j * lanes);
        unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = first; });
    });
    size_t group = 0;
    alignas(32) uint8_t turned[MR * dot_chunk];
    DotRows pieces{&t, MR, extras < 0, turned};
    const uint8_t* at[MR];
    while (const size_t n = next_piece(pieces, at)) {
        if (extras < 0) {
            alignas(32) int16_t wide[MR * dot_chunk];
            widen_bytes(turned, MR, n, wide);
            for (size_t q = 0; q < n; q += 2, b += dot_nr * 2) {
                WideB bv[dot_nv];
                unroll<dot_nv>(LINNET_LAMBDA(j) { bv[j] = wide_b(b + j * lanes * 2); });
                unroll<MR>(LINNET_LAMBDA(i) {
                    const WideB av = wide_a(wide + i * dot_chunk + q);
                    unroll<dot_nv>(LINNET_LAMBDA(j) { multiply_wide(acc[i][j], av, bv[j]); });
                });
            }
            continue;
        }
        const auto step = LINNET_LAMBDA_2(q, from) {
            DotB bv[dot_nv];
            unroll<dot_nv>(LINNET_LAMBDA(j) { bv[j] = dot_b(from + j * lanes * 4); });
            unroll<MR>(LINNET_LAMBDA(i) {
                const DotA av = dot_a(at[i] + q);
                unroll<dot_nv>(LINNET_LAMBDA(j) { multiply_pairs(acc[i][j], av, bv[j]); });
            });
        };
        for (size_t q = 0; q < n; q += 4, b += dot_nr * 4) step(q, b);
        for (; number < numbers_end; number += 4, extra += dot_nr * 4) {
            int32_t of;
            __builtin_memcpy(&of, number, 4);
            if ((size_t)of >= group + n / 4) break;
            step(((size_t)of - group) * 4, extra);
        }
        group += n / 4;
    }
    alignas(32) int32_t sums[MR * dot_nr];
    unroll<MR>(LINNET_LAMBDA(i) {
        unroll<dot_nv>(LINNET_LAMBDA(j) { store_i(sums + (i * dot_nv + j) * lanes, acc[i][j]); });
    });
    store_block(t, MR, dot_nr, sums, dot_nr);
}

template <int MR = dot_mr>
static DotFn pick_height(size_t rows) noexcept {
    if constexpr (MR > 1)
        if (rows < MR) return pick_height<MR - 1>(rows);
    return dot_tile<MR>;
}

LINNET_INLINE size_t dot_panels(size_t) { return 1; }
static DotFn pick_dot(size_t rows, size_t) noexcept { return pick_height(rows); }

}  // namespace linnet::kernels::LINNET_ISA
