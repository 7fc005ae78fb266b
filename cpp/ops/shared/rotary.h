// Rotation of pairs of a head's elements by a position's angles.
#pragma once
#include <cstdint>

namespace linnet {

// y = x rotated: pair i is (x[2 i], x[2 i + 1]) when interleaved, else (x[i], x[i + half]). x may be y.
template <class T>
inline void rotate_pairs(const T* x, int64_t half, bool interleaved, const T* cos, const T* sin, T* y) {
    const int64_t step = interleaved ? 2 : 1, second = interleaved ? 1 : half;
    for (int64_t i = 0; i < half; ++i) {
        const T a = x[i * step], b = x[i * step + second];
        y[i * step] = cos[i] * a - sin[i] * b;
        y[i * step + second] = sin[i] * a + cos[i] * b;
    }
}

}  // namespace linnet
