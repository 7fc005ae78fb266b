// Transpose of a matrix of 1, 2, 4 or 8-byte elements, in blocks that fit L1 on both sides.
#pragma once

namespace linnet::kernels::LINNET_ISA {

template <class T>
static __attribute__((noinline)) void transpose_typed(size_t rows, size_t cols, const T* src, ptrdiff_t src_stride,
                                                      T* dst, ptrdiff_t dst_stride) noexcept {
    constexpr size_t block = 16, inner = 4;
    for (size_t r0 = 0; r0 < rows; r0 += block)
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
