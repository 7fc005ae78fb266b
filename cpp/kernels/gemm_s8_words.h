// Panels whose weights would saturate too often (see gemm_s8_pairs.h): some rows of A are widened to 16 bits, the
// weights as they are loaded, and two products at a time are added in 32 bits: exact for any.
#pragma once

#include "kernels/gemm_s8_common.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t words_chunk = dot_chunk;  // k of A that are wide at a time
constexpr size_t words_rows = 32, words_panels = 4;
constexpr size_t words_group = dot_nr * 4;  // bytes of four k of a panel: [k / 2][dot_nr][2]

// [dot_nr][4] weights of a group become [2][dot_nr][2].
static __attribute__((noinline)) void words_of_group(int8_t* group) noexcept {
    int8_t bytes[words_group];
    __builtin_memcpy(bytes, group, sizeof bytes);
    for (size_t i = 0; i < words_group; i += 2) {
        __builtin_memcpy(group + i, bytes + i % (2 * dot_nr) * 2 + i / (2 * dot_nr) * 2, 2);
        __asm__ volatile("" ::: "memory");  // not worth the code of vectors
    }
}

// Pieces of rows, n bytes each and a multiple of four, as 16 bits.
static __attribute__((noinline)) void widen_rows(const uint8_t* const* rows, size_t count, size_t n,
                                                 int16_t* out) noexcept {
    for (size_t r = 0; r < count; ++r, out += words_chunk) {
        const uint8_t* in = rows[r];
        if (n >= 16) {
            for (size_t i = 0;; i += 16) {  // the last two may overlap
                if (i + 16 > n) i = n - 16;
                store_words(out + i, in + i);
                if (i + 16 == n) break;
            }
        } else {
            for (size_t i = 0; i < n; ++i) out[i] = in[i];
        }
    }
}

// Tiles of one panel, each below the one before.
struct WordsTiles {
    const int16_t* a;  // rows of words_chunk
    const int8_t* b;
    size_t groups;  // of four k
    const int32_t* from;
    size_t from_ld;  // sums start from these: rows, or one for all if from_ld is 0
    int32_t* sums;
    size_t ld;
};

template <int MR, int NV>
static __attribute__((noinline)) void words_tiles(WordsTiles& t, size_t tiles) noexcept {
    for (; tiles; --tiles, t.a += MR * words_chunk, t.from += MR * t.from_ld, t.sums += MR * t.ld) {
        i32 acc[MR][NV];
        unroll<MR>(LINNET_LAMBDA(i) {
            unroll<NV>(LINNET_LAMBDA(j) { acc[i][j] = load_i(t.from + i * t.from_ld + j * lanes); });
        });
        const int16_t* a = t.a;
        const int8_t* b = t.b;
        for (size_t g = t.groups; g; --g, a += 4, b += words_group) {
            unroll<2>(LINNET_LAMBDA(half) {
                f32 bv[NV];
                unroll<NV>(LINNET_LAMBDA(j) {
                    bv[j] = (f32)pair_b(b + half * words_group / 2 + j * lanes * 2);
                    keep(bv[j]);
                });
                unroll<MR>(LINNET_LAMBDA(i) {
                    const PairA av = pair_a(a + i * words_chunk + 2 * half);
                    unroll<NV>(LINNET_LAMBDA(j) { acc[i][j] = dot2(acc[i][j], av, (PairB)bv[j]); });
                });
            });
        }
        unroll<MR>(
            LINNET_LAMBDA(i) { unroll<NV>(LINNET_LAMBDA(j) { store_i(t.sums + i * t.ld + j * lanes, acc[i][j]); }); });
    }
}

template <int NV>
static void words_panel(WordsTiles& t, size_t rows) noexcept {
    static_assert(dot_mr == 4);
    words_tiles<4, NV>(t, rows / 4);
    if (rows & 2) words_tiles<2, NV>(t, 1);
    if (rows & 1) words_tiles<1, NV>(t, 1);
}

// Rows [begin, end) of `panels` <= words_panels panels from t.panel on.
static __attribute__((noinline)) void words_block(DotArgs& t, size_t begin, size_t end, size_t panels) noexcept {
    alignas(64) int16_t words[words_rows * words_chunk];
    alignas(64) uint8_t turned[words_rows * dot_chunk];
    alignas(64) int32_t sums[words_rows * words_panels * dot_nr];
    const uint8_t* at[words_rows];
    const size_t blocks = (end - begin + words_rows - 1) / words_rows, ld = panels * dot_nr;
    const size_t height = ((end - begin + blocks - 1) / blocks + dot_mr - 1) / dot_mr * dot_mr;
    for (t.row = begin; t.row < end; t.row += height) {
        const size_t rows = end - t.row < height ? end - t.row : height;
        DotRows pieces{&t, rows, turned};
        size_t group = 0;
        for (size_t n = next_piece(pieces, at); n > 0; n = next_piece(pieces, at))
            for (size_t q = 0, some; q < n; q += some) {
                some = n - q < words_chunk ? n - q : words_chunk;
                widen_rows(at, rows, some, words);
                for (size_t i = 0; i < rows; ++i) at[i] += some;
                for (size_t p = 0; p < panels; ++p) {
                    WordsTiles w;
                    w.a = words;
                    w.b = (const int8_t*)t.g->b + (t.panel + p) * t.panel_bytes + words_group * (2 + group);
                    w.groups = some / 4;
                    w.sums = sums + p * dot_nr;
                    w.ld = ld;
                    w.from = group == 0 ? t.first + p * dot_nr : w.sums;
                    w.from_ld = group == 0 ? 0 : ld;
                    if (2 * (t.g->n - (t.panel + p) * dot_nr) > dot_nr) words_panel<dot_nv>(w, rows);
                    else words_panel<1>(w, rows);
                }
                group += some / 4;
            }
        if (group == 0)  // no k
            for (size_t i = 0; i < rows; ++i) __builtin_memcpy(sums + i * ld, t.first, ld * sizeof(int32_t));
        store_block(t, rows, ld, sums, ld);
    }
}

}  // namespace linnet::kernels::LINNET_ISA
