// Products in double and in integers: panels of B are packed on the stack, a block of k at a time.
#pragma once

#include "kernels/kernels.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t plain_depth = 128;                  // k of a packed panel
constexpr int plain_mr = gemm_mr > 8 ? 8 : 4;        // with two vectors of columns
constexpr size_t plain_row_bytes = 2 * sizeof(f32);  // of a packed panel

template <class T>
struct PlainTile {
    const T* a;  // the first row
    ptrdiff_t a_row, a_col;
    const T* panel;
    size_t depth;
    T* c;
    ptrdiff_t c_row;
    size_t rows, cols;  // of c
    bool adds;          // to c, or overwrites it
};

template <class Vector, class T>
LINNET_INLINE Vector load_vector(const T* p) {
    Vector v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

// Rows beyond the last are computed from the last one and dropped.
template <class T, int MR>
static __attribute__((noinline)) void plain_tile(const PlainTile<T>& t) noexcept {
    typedef T Vector __attribute__((vector_size(sizeof(f32)), may_alias));
    constexpr size_t width = sizeof(f32) / sizeof(T);
    const T* row[MR];
    unroll<MR>(LINNET_LAMBDA(i) { row[i] = t.a + (ptrdiff_t)((size_t)i < t.rows ? i : t.rows - 1) * t.a_row; });
    Vector sum[MR][2];
    unroll<MR>(LINNET_LAMBDA(i) { sum[i][0] = sum[i][1] = Vector{}; });
    const bool whole = t.rows == MR && t.cols == 2 * width;
    T edge[MR * 2 * width];
    T* const out = whole ? t.c : edge;
    const ptrdiff_t out_row = whole ? t.c_row : (ptrdiff_t)(2 * width);
    if (t.adds) {
        if (!whole)
            for (size_t i = 0; i < t.rows; ++i)
                __builtin_memcpy(edge + i * 2 * width, t.c + (ptrdiff_t)i * t.c_row, t.cols * sizeof(T));
        unroll<MR>(LINNET_LAMBDA(i) {
            sum[i][0] = load_vector<Vector>(out + i * out_row);
            sum[i][1] = load_vector<Vector>(out + i * out_row + width);
        });
    }
    const T* b = t.panel;
    for (ptrdiff_t k = 0, at = 0; k < (ptrdiff_t)t.depth; ++k, at += t.a_col, b += 2 * width) {
        const Vector left = load_vector<Vector>(b), right = load_vector<Vector>(b + width);
        unroll<MR>(LINNET_LAMBDA(i) {
            const T factor = row[i][at];
            sum[i][0] += factor * left;
            sum[i][1] += factor * right;
        });
    }
    unroll<MR>(LINNET_LAMBDA(i) {
        const Vector left = sum[i][0], right = sum[i][1];
        __builtin_memcpy(out + i * out_row, &left, sizeof left);
        __builtin_memcpy(out + i * out_row + width, &right, sizeof right);
    });
    if (whole) return;
    for (size_t i = 0; i < t.rows; ++i)
        __builtin_memcpy(t.c + (ptrdiff_t)i * t.c_row, edge + i * 2 * width, t.cols * sizeof(T));
}

template <class T>
static void gemm_plain(const GemmPlain<T>& g) noexcept {
    constexpr size_t nr = plain_row_bytes / sizeof(T);
    constexpr int one_row = T(0.5) != 0 ? 1 : plain_mr;  // lonely rows of integers are rare: a tile less
    T panel[plain_depth * nr];
    for (size_t n = 0; n < g.n; n += nr) {
        const size_t cols = g.n - n < nr ? g.n - n : nr;
        for (size_t k = 0; k < g.k || k == 0; k += plain_depth) {
            const size_t depth = g.k - k < plain_depth ? g.k - k : plain_depth;
            for (size_t i = 0; i < depth; ++i) {
                const T* from = g.b + (ptrdiff_t)(k + i) * g.b_row + (ptrdiff_t)n * g.b_col;
                T* to = panel + i * nr;
                if (g.b_col == 1 && cols == nr) {
                    __builtin_memcpy(to, from, plain_row_bytes);
                    continue;
                }
                for (size_t j = 0; j < nr; ++j) {
                    to[j] = j < cols ? from[(ptrdiff_t)j * g.b_col] : T{};
                    __asm__ volatile("" ::: "memory");  // as vectors this would be long and no faster
                }
            }
            PlainTile<T> t{
                g.a + (ptrdiff_t)k * g.a_col, g.a_row, g.a_col, panel, depth, g.c + n, g.c_row, 0, cols, k > 0};
            for (size_t m = 0; m < g.m;
                 m += t.rows, t.a += (ptrdiff_t)t.rows * g.a_row, t.c += (ptrdiff_t)t.rows * g.c_row) {
                t.rows = g.m - m < (size_t)plain_mr ? g.m - m : (size_t)plain_mr;
                (t.rows == 1 ? plain_tile<T, one_row> : plain_tile<T, plain_mr>)(t);
            }
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
