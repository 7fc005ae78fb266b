// Transpose of a matrix of 1, 2, 4 or 8-byte elements, tile by tile. Callers cut large ones into blocks that fit L1 on
// both sides.
#pragma once

namespace linnet::kernels::LINNET_ISA {

// Between R planes and pixels of R channels: a loop that compilers turn into shuffles.
template <size_t R, class T>
static __attribute__((noinline)) void interleave(size_t cols, const T* __restrict src, ptrdiff_t src_stride,
                                                 T* __restrict dst) noexcept {
    for (size_t c = 0; c < cols; ++c)
        unroll<(int)R>(LINNET_LAMBDA(r) { dst[c * R + r] = src[r * src_stride + (ptrdiff_t)c]; });
}
template <size_t C, class T>
static __attribute__((noinline)) void deinterleave(size_t rows, const T* __restrict src, T* __restrict dst,
                                                   ptrdiff_t dst_stride) noexcept {
    for (size_t r = 0; r < rows; ++r)
        unroll<(int)C>(LINNET_LAMBDA(c) { dst[c * dst_stride + (ptrdiff_t)r] = src[r * C + c]; });
}

// What is left beside whole tiles.
template <class T>
static __attribute__((noinline)) void transpose_rest(size_t rows, size_t cols, const T* src, ptrdiff_t src_stride,
                                                     T* dst, ptrdiff_t dst_stride) noexcept {
    constexpr size_t inner = 4;
    size_t c = 0;
    for (; c + inner <= cols; c += inner) {
        size_t r = 0;
        for (; r + inner <= rows; r += inner) {
            T t[inner][inner];
            unroll<inner>(
                LINNET_LAMBDA(i) { __builtin_memcpy(t[i], src + (ptrdiff_t)(r + i) * src_stride + c, sizeof t[i]); });
            unroll<inner>(LINNET_LAMBDA(j) {
                const T column[inner] = {t[0][j], t[1][j], t[2][j], t[3][j]};
                __builtin_memcpy(dst + (ptrdiff_t)(c + j) * dst_stride + r, column, sizeof column);
            });
        }
        for (; r < rows; ++r)
            for (size_t j = 0; j < inner; ++j)
                dst[(ptrdiff_t)(c + j) * dst_stride + r] = src[(ptrdiff_t)r * src_stride + c + j];
    }
    for (; c < cols; ++c)
        for (size_t r = 0; r < rows; ++r) dst[(ptrdiff_t)c * dst_stride + r] = src[(ptrdiff_t)r * src_stride + c];
}

// The lower or upper halves of two vectors, element by element in turns: a shuffle.
template <int N, int... I>
struct Zip : Zip<N - 1, N - 1, I...> {};
template <int... I>
struct Zip<0, I...> {
    template <bool Upper, class V>
    LINNET_MEMBER static V of(V a, V b) {
        return V{(I % 2 ? b : a)[(Upper ? (int)sizeof...(I) / 2 : 0) + I / 2]...};
    }
};

// A tile: `rows` vectors of `cols` elements each, or for 4 bytes `rows` elements of 4 columns.
template <class T>
struct TransposeTile {
    static constexpr size_t rows = 16 / sizeof(T), cols = rows;
    LINNET_MEMBER static void run(const T* src, ptrdiff_t src_stride, T* dst, ptrdiff_t dst_stride) {
        typedef T V __attribute__((vector_size(16), may_alias));
        constexpr int n = (int)rows;
        V a[n], b[n];
        unroll<n>(LINNET_LAMBDA(i) { __builtin_memcpy(&a[i], src + i * src_stride, sizeof a[i]); });
        constexpr int rounds = n == 16 ? 4 : n == 8 ? 3 : 1;
        unroll<rounds>(LINNET_LAMBDA(round) {
            (void)round;
            unroll<n / 2>(LINNET_LAMBDA(i) {
                b[2 * i] = Zip<n>::template of<false>(a[i], a[i + n / 2]);
                b[2 * i + 1] = Zip<n>::template of<true>(a[i], a[i + n / 2]);
            });
            unroll<n>(LINNET_LAMBDA(i) { a[i] = b[i]; });
        });
        unroll<n>(LINNET_LAMBDA(i) { __builtin_memcpy(dst + i * dst_stride, &a[i], sizeof a[i]); });
    }
};
template <>
struct TransposeTile<uint32_t> {
    static constexpr size_t rows = lanes, cols = 4;
    LINNET_MEMBER static void run(const uint32_t* src, ptrdiff_t src_stride, uint32_t* dst, ptrdiff_t dst_stride) {
        f32 v[4];
        unroll<4>(
            LINNET_LAMBDA(i) { v[i] = load_quads(src + i * src_stride, 4 * src_stride * (ptrdiff_t)sizeof(float)); });
        transpose_quads(v);
        unroll<4>(LINNET_LAMBDA(i) { store((float*)(dst + i * dst_stride), v[i]); });
    }
};

template <class T>
static __attribute__((noinline)) void transpose_typed(size_t rows, size_t cols, const T* src, ptrdiff_t src_stride,
                                                      T* dst, ptrdiff_t dst_stride) noexcept {
    if constexpr (sizeof(T) == 4 || sizeof(T) == 1) {  // pairs, and pictures
        if (rows == 2 && dst_stride == 2) return interleave<2>(cols, src, src_stride, dst);
        if (cols == 2 && src_stride == 2) return deinterleave<2>(rows, src, dst, dst_stride);
        if (rows == 3 && dst_stride == 3) return interleave<3>(cols, src, src_stride, dst);
        if (cols == 3 && src_stride == 3) return deinterleave<3>(rows, src, dst, dst_stride);
    }
    if constexpr (sizeof(T) == 2 || sizeof(T) == 8) {  // seldom: less code
        transpose_rest(rows, cols, src, src_stride, dst, dst_stride);
    } else {
        using Tile = TransposeTile<T>;
        const size_t whole_rows = rows - rows % Tile::rows, whole_cols = cols - cols % Tile::cols;
        for (size_t r = 0; r < whole_rows; r += Tile::rows)
            for (size_t c = 0; c < whole_cols; c += Tile::cols)
                Tile::run(src + (ptrdiff_t)r * src_stride + c, src_stride, dst + (ptrdiff_t)c * dst_stride + r,
                          dst_stride);
        if (whole_cols < cols)
            transpose_rest(whole_rows, cols - whole_cols, src + whole_cols, src_stride,
                           dst + (ptrdiff_t)whole_cols * dst_stride, dst_stride);
        if (whole_rows < rows)
            transpose_rest(rows - whole_rows, cols, src + (ptrdiff_t)whole_rows * src_stride, src_stride,
                           dst + whole_rows, dst_stride);
    }
}

static void transpose(size_t element_size, size_t rows, size_t cols, const void* src, ptrdiff_t ss, void* dst,
                      ptrdiff_t ds) noexcept {
    if (element_size == 1) transpose_typed(rows, cols, (const uint8_t*)src, ss, (uint8_t*)dst, ds);
    if (element_size == 2) transpose_typed(rows, cols, (const uint16_t*)src, ss, (uint16_t*)dst, ds);
    if (element_size == 4) transpose_typed(rows, cols, (const uint32_t*)src, ss, (uint32_t*)dst, ds);
    if (element_size == 8) transpose_typed(rows, cols, (const uint64_t*)src, ss, (uint64_t*)dst, ds);
}

}  // namespace linnet::kernels::LINNET_ISA
