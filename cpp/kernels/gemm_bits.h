// Products of float32 activations by weights of 4 or 8 bits with a scale per block: few rows widen the weights in
// registers, so that their bytes are all that memory delivers; for many rows they are unpacked for gemm_f32.
#pragma once

#include "kernels/epilogue.h"
#include "kernels/gemm.h"

namespace linnet::kernels::LINNET_ISA {

constexpr int bits_rows = 4;

// Panel: 8 bits [k][gemm_nr] bytes; 4 bits [k / 8][gemm_nr] words of 32 bits, element k plus 8 in bits 4 (k % 8) and
// up.
LINNET_INLINE size_t bits_panel_bytes(size_t bits, size_t k) { return gemm_nr * (bits == 8 ? k : (k + 7) / 8 * 4); }

static size_t pack_b_bits_size(size_t bits, size_t k, size_t n) noexcept {
    return (n + gemm_nr - 1) / gemm_nr * bits_panel_bytes(bits, k);
}

static void pack_b_bits(const PackB& s, size_t bits, const int8_t* b, void* out, size_t panel_begin,
                        size_t panel_end) noexcept {
    for (size_t p = panel_begin; p < panel_end; ++p) {
        uint8_t* o = (uint8_t*)out + p * bits_panel_bytes(bits, s.k);
        __builtin_memset(o, 0, bits_panel_bytes(bits, s.k));
        const size_t n0 = p * gemm_nr, cols = s.n - n0 < gemm_nr ? s.n - n0 : gemm_nr;
        for (size_t c = 0; c < cols; ++c) {
            const int8_t* in = b + (ptrdiff_t)(n0 + c) * s.n_stride;
            const auto value = [&](size_t k) { return (uint8_t)in[(ptrdiff_t)k * s.k_stride]; };
            if (bits == 8)
                for (size_t k = 0; k < s.k; ++k) o[k * gemm_nr + c] = value(k);
            else
                for (size_t k = 0; k < s.k; k += 2) {
                    const int low = value(k) & 15, high = k + 1 < s.k ? value(k + 1) & 15 : 0;
                    o[(k / 8 * gemm_nr + c) * 4 + k % 8 / 2] = (uint8_t)((low | high << 4) ^ 0x88);
                }
        }
    }
}

// What the bits of a weight stand for: an integer or, where there is a book, a place in it.
template <int BITS, bool BOOK>
struct Weights {
    static_assert(BITS == 4 || !BOOK);
    static constexpr bool scaled = BITS == 4 && !BOOK;  // times nibble_unit(k), and too large by `zero`
    static constexpr float zero = scaled ? 8.0f : 0.0f;
    Book book;
    LINNET_MEMBER explicit Weights(const float* values) {
        if constexpr (BOOK) book.load(values);
    }
    template <int I>
    LINNET_MEMBER f32 of(i32 words) const {
        if constexpr (BOOK) return book.template of<I>(words);
        else return nibble<I>(words);
    }
};

// Calls use(k, j, weights) for all k of [begin, end) and each of the N vectors of columns, in that order.
template <int N, int BITS, bool BOOK, class Use>
LINNET_INLINE void each_weight(const Weights<BITS, BOOK>& weights, const uint8_t* b, size_t panel_bytes, size_t begin,
                               size_t end, const Use& use) {
    constexpr size_t element = BITS == 8 ? 1 : 4;
    const auto column = LINNET_LAMBDA(j) { return j / gemm_nv * panel_bytes + j % gemm_nv * lanes * element; };
    if constexpr (BITS == 8) {
        for (size_t k = begin; k < end; ++k)
            unroll<N>(LINNET_LAMBDA(j) { use(k, j, to_float(load_s8((const int8_t*)b + k * gemm_nr + column(j)))); });
    } else {
        const auto group = LINNET_LAMBDA_2(k, whole) {
            i32 words[N];
            unroll<N>(LINNET_LAMBDA(j) { words[j] = load_i((const int32_t*)(b + k / 8 * gemm_nr * 4 + column(j))); });
            unroll<8>(LINNET_LAMBDA(u) {
                if (whole.value || k + u < end)
                    unroll<N>(LINNET_LAMBDA(j) { use(k + u, j, weights.template of<u>(words[j])); });
            });
        };
        size_t k = begin;
        for (; k + 8 <= end; k += 8) group(k, Int<1>{});
        if (k < end) group(k, Int<0>{});
    }
}

LINNET_INLINE float nibble_unit(size_t k) { return 1.0f / (float)(1 << 4 * (k % 8 % 7)); }

template <int BITS, bool BOOK, int MR, int NP>
static __attribute__((noinline)) void bits_tile(const GemmBits& g, const Program& program, size_t row,
                                                size_t panel) noexcept {
    constexpr int N = NP * gemm_nv, width = N * lanes;
    const Weights<BITS, BOOK> weights(g.book);
    constexpr bool scaled = weights.scaled;
    constexpr size_t most = 128;  // k at once, where rows are scaled
    const size_t panel_bytes = bits_panel_bytes(BITS, g.k), blocks = (g.k + g.block - 1) / g.block;
    const uint8_t* b = (const uint8_t*)g.b + panel * panel_bytes;
    const size_t scales = blocks * gemm_nr;  // of a panel
    const float* scale = g.scale + panel * scales;
    const float* zero = g.zero ? g.zero + panel * scales : nullptr;
    const f32 offset = splat(weights.zero);
    [[maybe_unused]] float units[most], room[MR * most];
    if constexpr (scaled)
        for (size_t k = 0; k < most; ++k) units[k] = nibble_unit(k);
    f32 total[MR][N];
    unroll<MR>(LINNET_LAMBDA(i) { unroll<N>(LINNET_LAMBDA(j) { total[i][j] = splat(0.0f); }); });
    for (size_t block = 0; block < blocks; ++block) {
        const size_t begin = block * g.block, end = g.k - begin < g.block ? g.k : begin + g.block;
        f32 sum[MR][N];
        unroll<MR>(LINNET_LAMBDA(i) { unroll<N>(LINNET_LAMBDA(j) { sum[i][j] = splat(0.0f); }); });
        for (size_t first = begin, last; first < end; first = last) {
            last = scaled && end - first > most ? first + most : end;
            const float* a[MR];
            unroll<MR>(LINNET_LAMBDA(i) {
                a[i] = g.a + (ptrdiff_t)(row + i) * g.lda + first;
                if constexpr (scaled) {
                    for (size_t k = 0; k < last - first; k += lanes) {
                        const size_t left = last - first - k;
                        store_some(room + i * most + k, load_some(a[i] + k, left) * load(units + k), left);
                    }
                    a[i] = room + i * most;
                }
            });
            each_weight<N>(
                weights, b, panel_bytes, first, last, [&](size_t k, auto j, f32 w) __attribute__((always_inline)) {
                    unroll<MR>(LINNET_LAMBDA(i) { accumulate(sum[i][j], splat(a[i][k - first]), w); });
                });
        }
        unroll<N>(LINNET_LAMBDA(j) {
            const size_t at = block * gemm_nr + j / gemm_nv * scales + j % gemm_nv * lanes;
            const f32 s = load(scale + at);
            if (zero || scaled) {
                f32 z = zero ? load(zero + at) + offset : offset;
                keep(z);  // a product that is shared by columns would be rounded, one that is not may be fused
                unroll<MR>(LINNET_LAMBDA(i) { sum[i][j] = sum[i][j] - z * splat(g.sums[(row + i) * blocks + block]); });
            }
            unroll<MR>(LINNET_LAMBDA(i) { total[i][j] = fma(sum[i][j], s, total[i][j]); });
        });
    }
    const size_t col = panel * gemm_nr, cols = g.n - col < (size_t)width ? g.n - col : (size_t)width;
    float buffer[MR * width];
    unroll<N>(LINNET_LAMBDA(j) {
        const size_t first = (size_t)j * lanes;
        f32 bias = splat(0.0f);
        if (program.bias && first < cols) bias = load_some(program.bias + col + first, cols - first);
        unroll<MR>(LINNET_LAMBDA(i) { store(buffer + i * width + first, total[i][j] + bias); });
    });
    finish(program, row, MR, col, cols, buffer, width, g.c + (ptrdiff_t)row * g.ldc + col, g.ldc);
}

// More rows than pay are multiplied by books in several turns.
constexpr int book_rows = book_is_cheap ? bits_rows : book_gain.rows ? (int)book_gain.rows : 1;

template <int BITS, bool BOOK, int MR = BOOK ? book_rows : bits_rows>
static void bits_rows_tile(const GemmBits& g, const Program& program, size_t row, size_t rows, size_t panel_begin,
                           size_t panel_end) noexcept {
    if constexpr (MR > 1)
        if (rows < MR) return bits_rows_tile<BITS, BOOK, MR - 1>(g, program, row, rows, panel_begin, panel_end);
    size_t panel = panel_begin;
    // Enough sums in flight, and all of them within the columns.
    if constexpr (MR == 1 && !(BOOK && book_gain.rows == 0))
        for (; panel + 2 <= panel_end; panel += 2) bits_tile<BITS, BOOK, 1, 2>(g, program, row, panel);
    for (; panel < panel_end; ++panel) bits_tile<BITS, BOOK, MR, 1>(g, program, row, panel);
}

// Where books are cheap, there is always one.
alignas(64) static const float integers[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

// Calls f(g, bits, whether there is a book).
template <class F>
LINNET_INLINE void with_weights(GemmBits g, const F& f) {
    if (g.bits == 8) return f(g, Int<8>{}, Int<0>{});
    if (book_is_cheap && !g.book) g.book = integers;
    if (g.book) f(g, Int<4>{}, Int<1>{});
    else f(g, Int<4>{}, Int<book_is_cheap>{});
}

static void gemm_bits(const GemmBits& gemm, size_t row_begin, size_t row_end, size_t panel_begin,
                      size_t panel_end) noexcept {
    const size_t panels = (gemm.n + gemm_nr - 1) / gemm_nr;
    if (panel_end > panels) panel_end = panels;
    const Program program = parse(gemm.epilogue);
    with_weights(gemm, [&](const GemmBits& g, auto bits, auto book) {
        constexpr size_t step = book.value ? book_rows : bits_rows;
        for (size_t row = row_begin; row < row_end; row += step) {
            const size_t rows = row_end - row < step ? row_end - row : step;
            bits_rows_tile<bits.value, book.value>(g, program, row, rows, panel_begin, panel_end);
        }
    });
}

template <int BITS, bool BOOK>
static void unpack_panel(const GemmBits& g, size_t panel, float* out) noexcept {
    const size_t panel_bytes = bits_panel_bytes(BITS, g.k), blocks = (g.k + g.block - 1) / g.block;
    const uint8_t* b = (const uint8_t*)g.b + panel * panel_bytes;
    const Weights<BITS, BOOK> weights(g.book);
    for (size_t block = 0; block < blocks; ++block) {
        const size_t begin = block * g.block, end = g.k - begin < g.block ? g.k : begin + g.block;
        f32 scale[gemm_nv], zero[gemm_nv];
        unroll<gemm_nv>(LINNET_LAMBDA(j) {
            const size_t at = (panel * blocks + block) * gemm_nr + j * lanes;
            scale[j] = load(g.scale + at);
            zero[j] = (g.zero ? load(g.zero + at) : splat(0.0f)) + splat(weights.zero);
        });
        each_weight<gemm_nv>(
            weights, b, panel_bytes, begin, end, [&](size_t k, auto j, f32 w) __attribute__((always_inline)) {
                const f32 q = weights.scaled ? w * splat(nibble_unit(k)) : w;
                store(out + k * gemm_nr + j * lanes, (q - zero[j]) * scale[j]);
            });
    }
}

static void unpack_b_bits(const GemmBits& gemm, size_t panel_begin, size_t panel_end, float* out) noexcept {
    GemmBits g = gemm;
    g.book = integers;
    for (size_t p = panel_begin; p < panel_end; ++p, out += g.k * gemm_nr)
        g.bits == 8 ? unpack_panel<8, false>(g, p, out) : unpack_panel<4, book_is_cheap>(g, p, out);
}

}  // namespace linnet::kernels::LINNET_ISA
