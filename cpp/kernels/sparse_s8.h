// int8 products with a constant B that is mostly zeros, in blocks of four columns by four k. As in sparse.h, A is
// transposed by blocks of rows, here in words of four bytes.
#pragma once

#include "kernels/sparse.h"
#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t sparse_s8_tile_rows = (size_t)sparse_s8_nv * lanes;

// out[(c / 4) * sparse_s8_tile_rows + r] = bytes c .. c + 3 of row r, flipped; bytes past k are as they come.
static __attribute__((noinline)) void sparse_transpose_s8(const uint8_t* in, ptrdiff_t stride, size_t rows, size_t k,
                                                          uint32_t flip, uint32_t* out) noexcept {
    const i32 flips = splat_i((int32_t)flip);
    for (size_t r = 0; r < rows; r += lanes, in += lanes * stride, out += lanes) {
        const size_t some = rows - r < (size_t)lanes ? rows - r : (size_t)lanes;
        size_t c = 0;
        if (some == (size_t)lanes)
            for (; c + 16 <= k; c += 16) {
                f32 v[4];
                unroll<4>(LINNET_LAMBDA(i) { v[i] = load_quads(in + i * stride + c, 4 * stride); });
                transpose_quads(v);
                unroll<4>(LINNET_LAMBDA(i) {
                    store_i((int32_t*)out + (c / 4 + i) * sparse_s8_tile_rows, bits(v[i]) ^ flips);
                });
            }
        for (; c < k; c += 4) {
            uint32_t* const to = out + c / 4 * sparse_s8_tile_rows;
            store_i((int32_t*)to, splat_i(0));
            for (size_t i = 0; i < some; ++i) {
                uint32_t x = 0;
                const uint8_t* from = in + (ptrdiff_t)i * stride + (ptrdiff_t)c;
                if (k - c >= 4) __builtin_memcpy(&x, from, 4);
                else
                    for (size_t j = 0; j < k - c; ++j) x |= (uint32_t)from[j] << 8 * j;
                to[i] = x ^ flip;
            }
        }
    }
}

// NV vectors of rows by the groups [begin, end); first: what the sums of those columns start from.
template <int NV>
static __attribute__((noinline)) void sparse_s8_tile(const SparseS8& g, const int32_t* first, int32_t* out, size_t ld,
                                                     size_t begin, size_t end) noexcept {
    const uint16_t* index = g.index + g.start[begin];
    const int8_t* value = g.values + g.start[begin] * (size_t)16;
    for (size_t group = begin; group < end; ++group, out += 4, first += 4) {
        i32 acc[4][NV];
        unroll<4>(LINNET_LAMBDA(c) { unroll<NV>(LINNET_LAMBDA(v) { acc[c][v] = splat_i(first[c]); }); });
        for (const int8_t* const last = g.values + g.start[group + 1] * (size_t)16; value != last; value += 16) {
            const uint32_t* a = g.scratch + *index++ * sparse_s8_tile_rows;
            decltype(dot_a_words(a)) av[NV];
            unroll<NV>(LINNET_LAMBDA(v) { av[v] = dot_a_words(a + v * lanes); });
            unroll<4>(LINNET_LAMBDA(c) {
                uint32_t x;
                __builtin_memcpy(&x, value + 4 * c, 4);
                const auto w = dot_b_word(x);
                unroll<NV>(LINNET_LAMBDA(v) { acc[c][v] = dot4(acc[c][v], av[v], w); });
            });
        }
        unroll<NV>(LINNET_LAMBDA(v) {
            f32 q[4] = {from_bits(acc[0][v]), from_bits(acc[1][v]), from_bits(acc[2][v]), from_bits(acc[3][v])};
            transpose_quads(q);
            unroll<4>(LINNET_LAMBDA(i) { store_quads((float*)out + (v * lanes + i) * ld, 4 * (ptrdiff_t)ld, q[i]); });
        });
    }
}

static void sparse_s8(const SparseS8& s, size_t row_begin, size_t row_end, size_t group_begin,
                      size_t group_end) noexcept {
    const GemmS8& g = s.gemm;
    const size_t all_groups = (g.n + 3) / 4;
    if (group_end > all_groups) group_end = all_groups;
    if (row_begin >= row_end || group_begin >= group_end) return;
    Program program;
    if (g.out == GemmS8::Out::floats) program = parse(g.epilogue);
    const uint32_t flip = g.a_signed == dot_wants_signed ? 0 : 0x80808080u;
    const int32_t zero = g.a_zero + (flip == 0 ? 0 : dot_wants_signed ? -128 : 128);
    alignas(64) int32_t sums[sparse_s8_tile_rows * sparse_rest];
    int32_t first[sparse_rest];
    const size_t vectors = (row_end - row_begin + lanes - 1) / lanes,
                 tiles = (vectors + sparse_s8_nv - 1) / sparse_s8_nv;
    for (size_t i = 0, row = row_begin; i < tiles; ++i) {
        const size_t nv = vectors / tiles + (i < vectors % tiles), height = nv * lanes;
        const size_t rows = row_end - row < height ? row_end - row : height;
        sparse_transpose_s8((const uint8_t*)g.a + (ptrdiff_t)row * g.lda, g.lda, rows, g.k, flip, s.scratch);
        for (size_t group = group_begin; group < group_end; group += sparse_rest / 4) {
            const size_t last = group_end - group < sparse_rest / 4 ? group_end : group + sparse_rest / 4;
            const size_t col = group * 4, cols = last * 4 < g.n ? last * 4 - col : g.n - col;
            // bias + sum (a - zero) b, as bias - zero' sum b + sum a' b with the bytes turned.
            for (size_t c = 0; c < sparse_rest; ++c) {
                first[c] = c < cols && g.bias ? g.bias[col + c] : 0;
                if (c < cols) first[c] -= zero * s.column_sums[col + c];
            }
            unroll<sparse_s8_nv>(LINNET_LAMBDA(v) {
                if (nv == (size_t)v + 1) sparse_s8_tile<v + 1>(s, first, sums, sparse_rest, group, last);
            });
            const ptrdiff_t at = (ptrdiff_t)row * g.ldc + (ptrdiff_t)col;
            if (g.out == GemmS8::Out::bytes)
                bytes_block(g.bytes, row, rows, col, cols, sums, sparse_rest, (uint8_t*)g.c + at, g.ldc);
            else if (g.out == GemmS8::Out::floats)
                floats_block(g.scale, program, row, rows, col, cols, sums, sparse_rest, (float*)g.c + at, g.ldc);
            else sums_block(rows, cols, sums, sparse_rest, (int32_t*)g.c + at, g.ldc);
        }
        row += rows;
    }
}

}  // namespace linnet::kernels::LINNET_ISA
