// Exact int8 GEMM and convolution: u8 or s8 activations, s8 weights, int32 sums (modulo 2^32).
#pragma once

#ifdef LINNET_DOT_PAIRS
#include "kernels/gemm_s8_pairs.h"
#else
#include "kernels/gemm_s8_tile.h"
#endif

namespace linnet::kernels::LINNET_ISA {

static void gemm_s8(const GemmS8& g, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept {
    if (row_begin >= row_end) return;
    DotArgs t;
    t.g = &g;
    if (g.out == GemmS8::Out::floats) t.program = parse(g.epilogue);
    t.flip = g.a_signed == dot_wants_signed ? 0 : 0x80808080u;
    t.zero = g.a_zero + (t.flip == 0 ? 0 : dot_wants_signed ? -128 : 128);
    t.panel_bytes = dot_panel_bytes(g.taps, g.k);
    const size_t rows = row_end - row_begin, tiles = (rows + dot_mr - 1) / dot_mr, depth = g.taps * g.k;
    size_t panels = (g.n + dot_nr - 1) / dot_nr;
    panels = panels < panel_end ? panels : panel_end;
    // A block of rows stays in L2 while the panels pass over it.
    constexpr size_t block_bytes = 192 * 1024;
    size_t block = block_bytes / (dot_mr * ((g.offsets ? g.k : depth) + 1));
    block = block < 12 ? 12 : block;
    const size_t height = rows / tiles, taller = rows % tiles, several = dot_panels(rows);
    int32_t first_of[4 * dot_nr];
    t.first = first_of;
    t.whole_rows = !g.offsets && g.taps == 1 && t.flip == 0 && g.k % dot_unit == 0;
#ifdef LINNET_DOT_PAIRS
    // Sums of a few tiles become bytes together.
    constexpr size_t sums_rows = 32;
    alignas(64) int32_t sums[sums_rows * dot_nr];
#endif
    for (size_t first = 0; first < tiles; first += block) {
        const size_t last = first + block < tiles ? first + block : tiles;
        size_t np = 1;
        for (t.panel = panel_begin; t.panel < panels; t.panel += np) {
            np = t.panel + several <= panels ? several : 1;
#ifdef LINNET_DOT_PAIRS
            if (const size_t wide = word_panels(t, panels); wide > 0) {
                first_sums(t, np = wide, first_of);
                const auto row = [&](size_t tile) {
                    return row_begin + tile * height + (tile < taller ? tile : taller);
                };
                words_block(t, row(first), row(last), np);
                continue;
            }
#endif
            first_sums(t, np, first_of);
            const size_t left = g.n - t.panel * dot_nr, cols = left < np * dot_nr && np == 1 ? left : np * dot_nr;
            const DotFn tall = pick_dot(height + 1, cols), low = pick_dot(height, cols);
            [[maybe_unused]] size_t waiting = 0;  // rows of sums
            for (size_t i = first; i < last; ++i) {
                t.row = row_begin + i * height + (i < taller ? i : taller);
#ifdef LINNET_DOT_PAIRS
                t.sums = sums + waiting * dot_nr;
                (i < taller ? tall : low)(t);
                waiting += height + (i < taller);
                if (waiting + dot_mr <= sums_rows && i + 1 < last) continue;
                t.row += height + (i < taller) - waiting;
                store_block(t, waiting, dot_nr, sums, dot_nr);
                waiting = 0;
#else
                (i < taller ? tall : low)(t);
#endif
            }
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
