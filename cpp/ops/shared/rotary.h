// Rotation of pairs of a head's elements by a position's angles.
#pragma once
#include <algorithm>
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
            // Stored when all are computed: y may be any of the others.
            T low[kBlock], high[kBlock];
            for (int64_t j = 0; j < kBlock; ++j) {
                low[j] = cos[i + j] * x[i + j] - sin[i + j] * x[half + i + j];
                high[j] = sin[i + j] * x[i + j] + cos[i + j] * x[half + i + j];
            }
            std::copy_n(low, kBlock, y + i);
            std::copy_n(high, kBlock, y + half + i);
        }
    for (; i < half; ++i) {
        const T a = x[i * step], b = x[i * step + second];
        y[i * step] = cos[i] * a - sin[i] * b;
        y[i * step + second] = sin[i] * a + cos[i] * b;
    }
}

}  // namespace linnet
