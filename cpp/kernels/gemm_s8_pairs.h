// The int8 tile for AVX2, whose multiplication of bytes, u8 by s8, adds two neighbouring products in 16 bits, with
// saturation: exact where no pair of weights of one sign exceeds 128 = 32767 / 255 in sum. The part above that goes
// into extra steps, in each of which a column multiplies any one of eight neighbouring groups of A a second time. A
// panel whose extra steps would take longer is one of words.
#pragma once

#include "kernels/gemm_s8_words.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t dot_group = dot_nr * 4;  // bytes of a group of weights
// Groups of A that an extra step chooses from. They lie in one piece (next_piece), which may end before a last group of
// less than four k.
constexpr size_t dot_window = (size_t)lanes;

// Of one vector of columns.
struct ExtraStep {
    int8_t weights[lanes * 4];
    uint8_t group[lanes];  // of the window, for each column
    uint32_t first;        // group of the window, counted through the panel
    uint32_t count;        // groups of it that there are
};

LINNET_INLINE size_t dot_groups(size_t taps, size_t k) { return taps * ((k + 3) / 4); }

// Extra steps of a vector that a panel has room for: with more of them, words are faster.
LINNET_INLINE size_t extra_room(size_t groups) { return groups / 5; }
// A panel: column sums; for each vector the number of extra steps, or -1 if the panel is one of words; the groups,
// [dot_nr][4] bytes each; the extra steps of each vector.
LINNET_INLINE size_t dot_panel_bytes(size_t taps, size_t k) {
    const size_t groups = dot_groups(taps, k), extra = (size_t)dot_nv * extra_room(groups) * sizeof(ExtraStep);
    return (2 + groups) * dot_group + (extra + 63) / 64 * 64;
}

static size_t pack_b_s8_size(size_t taps, size_t k, size_t n) noexcept {
    return (n + dot_nr - 1) / dot_nr * dot_panel_bytes(taps, k);
}

// What is too much of a pair, a part of b.
LINNET_INLINE int pair_excess(int a, int b) {
    if (a > 0 && b > 0 && a + b > 128) return a + b - 128;
    return a < 0 && b < 0 && a + b < -128 ? a + b + 128 : 0;
}

// Moves what is too much in `count` groups of a vector to extra steps, of which it has `used`. Returns how many it has
// then; those beyond `room` are only counted.
static __attribute__((noinline)) size_t split_window(int8_t* w, uint32_t first, size_t count, ExtraStep* extra,
                                                     size_t used, size_t room) noexcept {
    size_t most = used;
    for (size_t c = 0; c < (size_t)lanes; ++c) {
        size_t at = used;
        for (size_t g = 0; g < count; ++g) {
            int8_t* q = w + g * dot_group + c * 4;
            const int rest[2] = {pair_excess(q[0], q[1]), pair_excess(q[2], q[3])};
            if (rest[0] == 0 && rest[1] == 0) continue;
            if (at < room) {
                ExtraStep& e = extra[at];
                if (at == most) e = ExtraStep{{}, {}, first, (uint32_t)count};
                e.group[c] = (uint8_t)g;
                for (int i = 0; i < 2; ++i) {
                    e.weights[c * 4 + 2 * i + 1] = (int8_t)rest[i];
                    q[2 * i + 1] = (int8_t)(q[2 * i + 1] - rest[i]);
                }
            }
            most = ++at > most ? at : most;
        }
    }
    return most;
}

static void pack_b_s8(const PackB& s, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept {
    const size_t per_tap = dot_groups(1, s.k), groups = s.taps * per_tap, room = extra_room(groups);
    for (size_t p = panel_begin; p < panel_end; ++p) {
        int8_t* const panel = (int8_t*)out + p * dot_panel_bytes(s.taps, s.k);
        const size_t n0 = p * dot_nr, cols = s.n - n0 < dot_nr ? s.n - n0 : dot_nr;
        int8_t* const first = panel + 2 * dot_group;
        ExtraStep* const steps = (ExtraStep*)(first + groups * dot_group);
        int32_t head[2 * dot_nr] = {};
        const auto pack = [&] {
            int8_t* w = first;
            for (size_t t = 0; t < s.taps; ++t)
                for (size_t k = 0; k < s.k; k += 4, w += dot_group)
                    pack_group(s,
                               b + (ptrdiff_t)t * s.tap_stride + (ptrdiff_t)k * s.k_stride + (ptrdiff_t)n0 * s.n_stride,
                               s.k - k, cols, w);
        };
        pack();
        for (size_t i = 0; i < groups * dot_group; ++i) head[i % dot_group / 4] += first[i];
        bool fits = true;
        for (size_t j = 0; j < (size_t)dot_nv; ++j) {
            size_t extra = 0;
            for (size_t t = 0; t < s.taps; ++t)
                for (size_t g = 0, count; g < per_tap; g += count) {
                    const size_t at = t * per_tap + g, end = g < s.k / 4 ? s.k / 4 : per_tap;
                    count = end - g < dot_window ? end - g : dot_window;
                    extra = split_window(first + at * dot_group + j * lanes * 4, (uint32_t)at, count, steps + j * room,
                                         extra, room);
                }
            head[dot_nr + j] = (int32_t)extra;
            fits = fits && extra <= room;
        }
        if (!fits) {
            head[dot_nr] = -1;
            pack();
            for (size_t g = 0; g < groups; ++g) words_of_group(first + g * words_group);
        }
        __builtin_memcpy(panel, head, sizeof head);
    }
}

template <int MR>
static __attribute__((noinline)) void dot_tile(const DotArgs& t) noexcept {
    const GemmS8& g = *t.g;
    const int8_t* const panel = (const int8_t*)g.b + t.panel * t.panel_bytes;
    const int8_t* b = panel + 2 * dot_group;
    const size_t groups = dot_groups(g.taps, g.k);
    int32_t extras[dot_nv];
    __builtin_memcpy(extras, panel + dot_group, sizeof extras);
    const ExtraStep *extra[dot_nv], *extra_end[dot_nv];
    unroll<dot_nv>(LINNET_LAMBDA(j) {
        extra[j] = (const ExtraStep*)(b + groups * dot_group) + j * extra_room(groups);
        extra_end[j] = extra[j] + extras[j];
    });
    i32 acc[MR][dot_nv];
    unroll<dot_nv>(LINNET_LAMBDA(j) {
        const i32 first = load_i(t.first + j * lanes);
        unroll<MR>(LINNET_LAMBDA(i) { acc[i][j] = first; });
    });
    size_t group = 0;
    alignas(32) uint8_t turned[MR * dot_chunk];
    DotRows pieces{&t, MR, turned};
    const uint8_t* at[MR];
    const auto next = LINNET_LAMBDA(again) {
        if (!t.whole_rows) return next_piece(pieces, at);
        unroll<MR>(LINNET_LAMBDA(i) { at[i] = (const uint8_t*)g.a + (ptrdiff_t)(t.row + i) * g.lda; });
        return again ? 0 : g.k;
    };
    for (size_t n = next(Int<0>{}); n > 0; n = next(Int<1>{})) {
        for (size_t q = 0; q < n; q += 4, b += dot_group) {
            DotB bv[dot_nv];
            unroll<dot_nv>(LINNET_LAMBDA(j) { bv[j] = dot_b(b + j * lanes * 4); });
            unroll<MR>(LINNET_LAMBDA(i) {
                const DotA av = dot_a(at[i] + q);
                unroll<dot_nv>(LINNET_LAMBDA(j) { multiply_pairs(acc[i][j], av, bv[j]); });
            });
        }
        unroll<dot_nv>(LINNET_LAMBDA(j) {
            for (const ExtraStep*& e = extra[j]; e < extra_end[j] && e->first < group + n / 4; ++e) {
                const DotB bv = dot_b(e->weights), choice = (DotB)widen(e->group);
                const size_t q = (e->first - group) * 4;
                const bool whole = e->count == dot_window;
                const DotB there = mask_n(e->count);
                unroll<MR>(LINNET_LAMBDA(i) {
                    const DotA av = whole ? dot_b(at[i] + q) : dot_a_window(at[i] + q, there);
                    multiply_pairs(acc[i][j], choose_groups(av, choice), bv);
                });
            }
        });
        group += n / 4;
    }
    unroll<MR>(LINNET_LAMBDA(i) {
        unroll<dot_nv>(LINNET_LAMBDA(j) { store_i(t.sums + (i * dot_nv + j) * lanes, acc[i][j]); });
    });
}

template <int MR = dot_mr>
static DotFn pick_height(size_t rows) noexcept {
    if constexpr (MR > 1)
        if (rows < MR) return pick_height<MR - 1>(rows);
    return dot_tile<MR>;
}

// How many panels from t.panel on, to `end` at most, are of words.
LINNET_INLINE size_t word_panels(const DotArgs& t, size_t end) {
    size_t n = 0;
    for (; n < words_panels && t.panel + n < end; ++n) {
        int32_t extras;
        __builtin_memcpy(&extras, (const int8_t*)t.g->b + (t.panel + n) * t.panel_bytes + dot_group, sizeof extras);
        if (extras >= 0) break;
    }
    return n;
}

LINNET_INLINE size_t dot_panels(size_t) { return 1; }
static DotFn pick_dot(size_t rows, size_t) noexcept { return pick_height(rows); }

}  // namespace linnet::kernels::LINNET_ISA
