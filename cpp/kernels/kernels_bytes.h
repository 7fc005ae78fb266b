// What kernels on bytes are given, but for products of matrices: a part of kernels.h, whose general contract holds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::kernels {

// What becomes of an int32 sum before it is stored as a byte, u8 or (is_signed) s8. Every table gives the same bits:
// products and sums of floats are rounded one by one, never fused.
//   q = clamp(round_half_even(float(sum) * scale[col]) + zero, lo, hi)
//   q = table[q as u8]                                                               if there is a table
//   x = float(q - own_zero) * own_scale + float(add[row * add_stride + col] - add_zero) * add_scale
//   q = clamp(round_half_even(x) + sum_zero, sum_lo, sum_hi)                         if there is a residual
// A residual is u8 or s8 like the result, and may be the very memory that is written to. Scales are finite, zeros and
// bounds are values of the result's type.
struct ToBytes {
    const float* scale = nullptr;  // per column
    int32_t zero = 0, lo = 0, hi = 255;
    bool is_signed = false;
    const uint8_t* table = nullptr;  // [256]
    const void* add = nullptr;
    ptrdiff_t add_stride = 0;
    float own_scale = 1, add_scale = 1;
    int32_t own_zero = 0, add_zero = 0, sum_zero = 0, sum_lo = 0, sum_hi = 255;
};

// As DepthwiseF32, with int32 sums: y = bytes(bias[c] + sum of (x - x_zero) * w). `zero` holds `channels` bytes of
// x's zero point. A residual's row is oh * out_w + ow.
struct DepthwiseS8 {
    size_t in_h = 0, in_w = 0, out_h = 0, out_w = 0, channels = 0;
    size_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    ptrdiff_t pad_top = 0, pad_left = 0;
    const void* x = nullptr;  // u8, or s8 if x_signed
    bool x_signed = false;
    int32_t x_zero = 0;
    ptrdiff_t x_row_stride = 0, x_stride = 0;
    const void* w = nullptr;  // packed by pack_depthwise_s8
    const void* zero = nullptr;
    const int32_t* bias = nullptr;  // per channel, or null
    void* y = nullptr;
    ptrdiff_t y_row_stride = 0, y_stride = 0;
    ToBytes bytes;
};

// Winograd's F(m x m, 3 x 3), m 2 or 4, stride 1, in integers: y = bytes(bias[c] + sum of (x - x_zero) * w), exact.
// Transformed pixels, and filters with the fractions of their transform left out, fit into 16 bits; products are added
// in 32, and 4 or up to 64 times the sum is shifted back: right while that fits into an int32, as it does for m = 2 if
// k <= max_k, and for m = 4 if the weights of no filter are more than max_weights in sum of absolute values.
struct WinogradS8 {
    static constexpr size_t max_k = 1800;
    static constexpr int32_t max_weights = (1 << 17) - 1;
    size_t m = 2, tiles = 0, k = 0, n = 0;
    const void* const* pixels = nullptr;  // [tiles][(m + 2)^2]: k bytes each, u8 or s8; of the zero point for padding
    bool x_signed = false;
    int32_t x_zero = 0;
    const void* w = nullptr;        // packed by pack_winograd_s8
    void* scratch = nullptr;        // winograd_s8_scratch(m, tiles, k) bytes, 64-byte aligned
    const int32_t* rows = nullptr;  // [tiles][m * m]: the row of y, negative outside of it
    const int32_t* bias = nullptr;  // per column, or null
    void* y = nullptr;
    ptrdiff_t ldy = 0;
    ToBytes bytes;
};

// As PoolF32. Max: a window without pixels gives the lowest value; x and y have one type.
// Average: y = clamp(round_half_even(float(sum of (x - x_zero)) * (scale / float(count))) + zero, lo, hi), count as
// there (a window without any counts as one of sum 0), taps <= 2^23. Without offsets the taps are pixels in order:
// tap t of pixel p lies at x + (p * taps + t) * x_stride, as a global average wants.
struct PoolBytes {
    size_t pixels = 0, taps = 0, channels = 0;
    const void* x = nullptr;
    bool x_signed = false;
    const int32_t* offsets = nullptr;  // in bytes
    size_t offsets_ld = 0;
    ptrdiff_t x_stride = 0;  // without offsets
    void* y = nullptr;       // [pixels][y_stride]
    bool y_signed = false;
    ptrdiff_t y_stride = 0;
    bool count_include_pad = false;
    float scale = 1;  // average: of x by that of y
    int32_t x_zero = 0, zero = 0, lo = 0, hi = 255;
};

// add_bytes: x = float(a - a_zero) * a_scale + float(b - b_zero) * b_scale
// mul_bytes: x = float((a - a_zero) * (b - b_zero)) * a_scale
//            y = clamp(round_half_even(x) + zero, lo, hi)
// Products and sums of floats are rounded one by one. Element (r, c) of a is a[r * a_stride + c * a_step]; steps are 0
// or 1. Each of a, b and y is u8, or s8 if it says so; zeros and bounds are values of their tensor's type. y may be a
// or b where that has its shape and strides.
struct PairBytes {
    size_t rows = 1, cols = 0;
    const void *a = nullptr, *b = nullptr;
    ptrdiff_t a_stride = 0, b_stride = 0, y_stride = 0;
    size_t a_step = 1, b_step = 1;
    bool a_signed = false, b_signed = false, y_signed = false;
    int32_t a_zero = 0, b_zero = 0;
    float a_scale = 1, b_scale = 1;
    void* y = nullptr;
    int32_t zero = 0, lo = 0, hi = 255;
};

}  // namespace linnet::kernels
