// See bytes.h. Products and sums of floats must not be fused.
#include "ops/shared/bytes.h"

#include <algorithm>
#include <cmath>

namespace linnet {
namespace {

#if defined(__GNUC__) && !defined(__clang__)
#define LINNET_NO_FUSE [[gnu::optimize("O3", "fp-contract=off")]]
#else
#define LINNET_NO_FUSE
#endif

// Half to even by the magic of 1.5 * 2^23: values beyond +-2^22 are cut off first, and saturate anyway.
inline int32_t rounded(float x, int32_t zero, int32_t lo, int32_t hi) {
    constexpr float kMost = 4194304.0f;
    const auto whole = static_cast<int32_t>(std::nearbyint(std::min(std::max(x, -kMost), kMost)));
    return std::min(std::max(whole + zero, lo), hi);
}

template <class T>
LINNET_NO_FUSE void binary_typed(const BinaryBytes& c, size_t n, const T* a, size_t a_step, const T* b, size_t b_step,
                                 T* y) {
#pragma STDC FP_CONTRACT OFF
    for (size_t i = 0; i < n; ++i) {
        const int32_t p = a[i * a_step] - c.a_zero, q = b[i * b_step] - c.b_zero;
        float value;
        if (c.multiply) {
            value = static_cast<float>(p * q) * c.a_scale;
        } else {
            const float left = static_cast<float>(p) * c.a_scale, right = static_cast<float>(q) * c.b_scale;
            value = left + right;
        }
        y[i] = static_cast<T>(rounded(value, c.y_zero, c.lo, c.hi));
    }
}

}  // namespace

void binary_bytes(const BinaryBytes& call, size_t n, const void* a, size_t a_step, const void* b, size_t b_step,
                  void* y) {
    if (call.is_signed)
        binary_typed(call, n, static_cast<const int8_t*>(a), a_step, static_cast<const int8_t*>(b), b_step,
                     static_cast<int8_t*>(y));
    else
        binary_typed(call, n, static_cast<const uint8_t*>(a), a_step, static_cast<const uint8_t*>(b), b_step,
                     static_cast<uint8_t*>(y));
}

void sums_to_bytes(const kernels::ToBytes& to, size_t column, size_t n, const int32_t* sums, void* y) {
    auto* out = static_cast<uint8_t*>(y);
    for (size_t i = 0; i < n; ++i) {
        const float value = static_cast<float>(sums[i]) * to.scale[column + i];
        const auto byte = static_cast<uint8_t>(rounded(value, to.zero, to.lo, to.hi));
        out[i] = to.table ? to.table[byte] : byte;
    }
}

}  // namespace linnet
