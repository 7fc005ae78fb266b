// Transpose of a matrix of 1, 2, 4 or 8-byte elements, in blocks that fit L1 on both sides.
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

// A vector's worth of rows: quads of four rows each are loaded into one vector, so that whole vectors are stored.
LINNET_INLINE void transpose_strip(size_t cols, const uint32_t* src, ptrdiff_t src_stride, uint32_t* dst,
                                   ptrdiff_t dst_stride) {
    const ptrdiff_t row_bytes = src_stride * (ptrdiff_t)sizeof(uint32_t);
    size_t c = 0;
    for (; c + 4 <= cols; c += 4) {
        f32 v[4];
        unroll<4>(LINNET_LAMBDA(i) { v[i] = load_quads((const char*)(src + c) + i * row_bytes, 4 * row_bytes); });
        transpose_quads(v);
        unroll<4>(LINNET_LAMBDA(j) { __builtin_memcpy(dst + (ptrdiff_t)(c + j) * dst_stride, &v[j], sizeof v[j]); });
    }
    for (; c < cols; ++c)
        for (ptrdiff_t r = 0; r < lanes; ++r) dst[(ptrdiff_t)c * dst_stride + r] = src[r * src_stride + (ptrdiff_t)c];
}

// One copy of the code for all strides that callers pass.
#ifdef __clang__
#define LINNET_ONE_COPY __attribute__((noinline))
#else
#define LINNET_ONE_COPY __attribute__((noinline, noclone))
#endif
template <class T>
static LINNET_ONE_COPY void transpose_typed(size_t rows, size_t cols, const T* src, ptrdiff_t src_stride, T* dst,
                                            ptrdiff_t dst_stride) noexcept {
    if constexpr (sizeof(T) == 4 || sizeof(T) == 1) {  // pictures
        if (rows == 3 && dst_stride == 3) return interleave<3>(cols, src, src_stride, dst);
        if (cols == 3 && src_stride == 3) return deinterleave<3>(rows, src, dst, dst_stride);
    }
    constexpr size_t block = 16, inner = 4;
    size_t begin = 0;
    if constexpr (sizeof(T) == 4)
        for (; begin + lanes <= rows; begin += lanes)
            transpose_strip(cols, src + (ptrdiff_t)begin * src_stride, src_stride, dst + begin, dst_stride);
    for (size_t r0 = begin; r0 < rows; r0 += block)
        for (size_t c0 = 0; c0 < cols; c0 += block) {
            const size_t r1 = rows - r0 < block ? rows : r0 + block, c1 = cols - c0 < block ? cols : c0 + block;
            size_t c = c0;
            for (; c + inner <= c1; c += inner) {
                size_t r = r0;
                for (; r + inner <= r1; r += inner) {
                    T t[inner][inner];
                    unroll<inner>(LINNET_LAMBDA(i) {
                        __builtin_memcpy(t[i], src + (ptrdiff_t)(r + i) * src_stride + c, sizeof t[i]);
                    });
                    unroll<inner>(LINNET_LAMBDA(j) {
                        const T column[inner] = {t[0][j], t[1][j], t[2][j], t[3][j]};
                        __builtin_memcpy(dst + (ptrdiff_t)(c + j) * dst_stride + r, column, sizeof column);
                    });
                }
                for (; r < r1; ++r)
                    for (size_t j = 0; j < inner; ++j)
                        dst[(ptrdiff_t)(c + j) * dst_stride + r] = src[(ptrdiff_t)r * src_stride + c + j];
            }
            for (; c < c1; ++c)
                for (size_t r = r0; r < r1; ++r)
                    dst[(ptrdiff_t)c * dst_stride + r] = src[(ptrdiff_t)r * src_stride + c];
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
