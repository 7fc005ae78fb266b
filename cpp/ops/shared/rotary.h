// Rotation of pairs of a head's elements by a position's angles.
#pragma once
#include <cstdint>

namespace linnet {

// y = x rotated: pair i is (x[2 i], x[2 i + 1]) when interleaved, else (x[i], x[i + half]). x may be y.
template <class T>
inline void rotate_pairs(const T* x, int64_t half, bool interleaved, const T* cos, const T* sin, T* y) {
    constexpr int64_t kBlock = 8;
    const int64_t step = interleaved ? 2 : 1, second = interleaved ? 1 : half;
    int64_t i = 0;
    if (!interleaved)
        for (; i + kBlock <= half; i += kBlock) {
            T a[kBlock], b[kBlock];
            for (int64_t j = 0; j < kBlock; ++j) a[j] = x[i + j], b[j] = x[half + i + j];
            for (int64_t j = 0; j < kBlock; ++j) y[i + j] = cos[i + j] * a[j] - sin[i + j] * b[j];
            for (int64_t j = 0; j < kBlock; ++j) y[half + i + j] = sin[i + j] * a[j] + cos[i + j] * b[j];
        }
    for (; i < half; ++i) {
        const T a = x[i * step], b = x[i * step + second];
        y[i * step] = cos[i] * a - sin[i] * b;
        y[i * step + second] = sin[i] * a + cos[i] * b;
    }
}

}  // namespace linnet
