// The int8 GEMM in the tiles of AMX: 16 rows of 64 bytes, multiplied into 16 x 16 sums by one instruction. B is packed
// as for the vector instructions, which take over where rows are few.
#pragma once

#include "kernels/gemm_s8.h"

namespace linnet::kernels::LINNET_ISA {

// A block has up to 2 x 16 rows and the 2 x 16 columns of a panel: tiles 0..3 hold its sums, 4 and 5 A, 6 and 7 B.
constexpr size_t amx_rows = 32, amx_fewest = 4, amx_depth = 16;
// With less depth, moving the sums in and out of the tiles takes longer than the products.
constexpr size_t amx_shallowest = 5;
static_assert(dot_nr == 32, "a panel is two tiles wide");

// Rows that do not lie in A as a tile wants them, taps one after the other.
constexpr size_t amx_gathered = 80 * 1024;

struct AmxShape {
    size_t height;  // rows of a block, of which `upper` in the first tile
    size_t upper;
    size_t steps, groups;  // a step multiplies so many groups of four k
};

// GCC does not know that the instructions of AMX read memory, and would drop or move the stores before them.
LINNET_INLINE void memory_is_read(const void* p) { __asm__ volatile("" ::"r"(p) : "memory"); }

static void amx_configure(const AmxShape& s) noexcept {
    struct alignas(64) {
        uint8_t palette, start, reserved[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } c = {};
    c.palette = 1;
    for (int i = 0; i < 8; ++i) {
        const bool is_a = i == 4 || i == 5, is_b = i > 5, second = i == 2 || i == 3 || i == 5;
        c.row_bytes[i] = (uint16_t)(is_a ? s.groups * 4 : 64);
        c.rows[i] = (uint8_t)(is_b ? s.groups : second && s.height > s.upper ? s.height - s.upper : s.upper);
    }
    memory_is_read(&c);
    _tile_loadconfig(&c);
}

static void amx_begin(const AmxShape& s, const int32_t* first) noexcept {
    memory_is_read(first);
    // A stride of 0 loads one row of sums into every row of a tile.
    _tile_loadd(0, first, 0);
    _tile_loadd(1, first + 16, 0);
    if (s.height == s.upper) return;
    _tile_loadd(2, first, 0);
    _tile_loadd(3, first + 16, 0);
}

template <bool Signed>
static __attribute__((noinline)) void amx_multiply(const AmxShape& s, const uint8_t* a, size_t stride,
                                                   const int8_t* b) noexcept {
    memory_is_read(a);
    const uint8_t* below = a + s.upper * stride;
    const size_t step = s.groups * 4;
    const bool two = s.height > s.upper;
#define LINNET_TILES(c, x, y)                    \
    if constexpr (Signed) _tile_dpbssd(c, x, y); \
    else _tile_dpbusd(c, x, y)
    for (size_t i = 0; i < s.steps; ++i, a += step, below += step, b += step * dot_nr) {
        _tile_loadd(6, b, dot_nr * 4);
        _tile_loadd(4, a, stride);
        LINNET_TILES(0, 4, 6);
        _tile_loadd(7, b + 64, dot_nr * 4);
        LINNET_TILES(1, 4, 7);
        if (!two) continue;
        _tile_loadd(5, below, stride);
        LINNET_TILES(2, 5, 6);
        LINNET_TILES(3, 5, 7);
    }
#undef LINNET_TILES
}

static void amx_store(const AmxShape& s, int32_t* sums) noexcept {
    _tile_stored(0, sums, dot_nr * 4);
    _tile_stored(1, sums + 16, dot_nr * 4);
    if (s.height == s.upper) return;
    _tile_stored(2, sums + s.upper * dot_nr, dot_nr * 4);
    _tile_stored(3, sums + s.upper * dot_nr + 16, dot_nr * 4);
}

static __attribute__((noinline)) void amx_gather(const GemmS8& g, size_t row, size_t rows, size_t stride,
                                                 uint8_t* out) noexcept {
    const size_t padded = (g.k + 3) & ~(size_t)3;
    for (size_t r = row; r < row + rows; ++r, out += stride)
        for (size_t tap = 0; tap < g.taps; ++tap) {
            const uint8_t* in = row_of_a(g, tap, r);
            for (size_t k = 0; k < g.k; k += 64) {
                const __mmask64 mask = g.k - k < 64 ? ((__mmask64)1 << (g.k - k)) - 1 : ~(__mmask64)0;
                _mm512_mask_storeu_epi8(out + tap * padded + k, mask, _mm512_maskz_loadu_epi8(mask, in + k));
            }
        }
}

static void gemm_s8_amx(const GemmS8& g, size_t row_begin, size_t row_end, size_t panel_begin,
                        size_t panel_end) noexcept {
    const size_t rows = row_end > row_begin ? row_end - row_begin : 0, groups = dot_groups(g.taps, g.k);
    size_t panels = (g.n + dot_nr - 1) / dot_nr;
    panels = panels < panel_end ? panels : panel_end;
    if (panel_begin >= panels) return;
    // Loading a tile of rows that cross cache lines takes three times as long: rows are read in place only where their
    // steps do not. Others are gathered, an odd number of lines apart, so that they do not crowd into a few sets of the
    // cache.
    AmxShape s;
    s.steps = (groups + amx_depth - 1) / amx_depth;
    s.groups = groups ? groups / s.steps : 0;
    const size_t depth = groups * 4, step = s.groups * 4, gathered_stride = ((depth + 63) / 64 | 1) * 64;
    const bool direct = !g.offsets && depth == g.k && (step & (step - 1)) == 0 &&
                        (((uintptr_t)g.a | (uintptr_t)g.lda) & (step - 1)) == 0;
    const size_t fits = amx_gathered / gathered_stride, height = direct || fits > amx_rows ? amx_rows : fits;
    if (rows < amx_fewest || groups < amx_shallowest || height < amx_fewest)
        return gemm_s8(g, row_begin, row_end, panel_begin, panels);
    const size_t blocks = (rows + height - 1) / height;
    // All of one height: the last one begins higher and leaves out the rows it shares.
    s.height = (rows + blocks - 1) / blocks;
    s.upper = s.height > 16 ? (s.height + 1) / 2 : s.height;
    amx_configure(s);

    DotArgs t;
    t.g = &g;
    if (g.out == GemmS8::Out::floats) t.program = parse(g.epilogue);
    t.zero = g.a_zero;
    t.panel_bytes = dot_panel_bytes(g.taps, g.k);
    alignas(64) int32_t first[dot_nr], sums[2][amx_rows * dot_nr];
    alignas(64) uint8_t gathered[amx_gathered];
    t.first = first;
    // Sums of a block are taken from L1 while the tiles work on the next one.
    size_t turn = 0, waiting = 0;
    DotArgs then;
    const auto finish_block = [&] {
        if (waiting) store_block(then, waiting, dot_nr, sums[turn ^ 1] + (s.height - waiting) * dot_nr, dot_nr);
    };
    constexpr size_t block_bytes = 512 * 1024;  // of A: stays in L2 while the panels pass over it
    const size_t group = direct ? block_bytes / (s.height * g.k) + 1 : fits / s.height;
    const auto row_of = [&](size_t i) {
        const size_t row = row_begin + i * s.height, last = row_end - s.height;
        return row < last ? row : last;
    };
    for (size_t begin = 0; begin < blocks; begin += group) {
        const size_t end = begin + group < blocks ? begin + group : blocks, top = row_of(begin);
        if (!direct) amx_gather(g, top, row_of(end - 1) + s.height - top, gathered_stride, gathered);
        for (t.panel = panel_begin; t.panel < panels; ++t.panel) {
            first_sums(t, 1, first);
            const int8_t* b = (const int8_t*)g.b + t.panel * t.panel_bytes + dot_nr * 4;
            for (size_t i = begin; i < end; ++i) {
                const size_t row = row_of(i), stride = direct ? (size_t)g.lda : gathered_stride;
                const uint8_t* a = direct ? (const uint8_t*)g.a + row * stride : gathered + (row - top) * stride;
                amx_begin(s, first);
                (g.a_signed ? amx_multiply<true> : amx_multiply<false>)(s, a, stride, b);
                finish_block();
                amx_store(s, sums[turn]);
                then = t;
                then.row = row_begin + i * s.height;
                waiting = s.height - (then.row - row);
                turn ^= 1;
            }
        }
    }
    finish_block();
    _tile_release();
}

}  // namespace linnet::kernels::LINNET_ISA
