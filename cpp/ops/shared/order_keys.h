// Numbers of any type as integers in the same order.
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "base/half.h"

namespace linnet {

// The zeros are one number, and all NaN are one that is larger than the others.
template <class T>
int64_t order_key(T value) {
    constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
    if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) {
        return order_key(to_float(value));
    } else if constexpr (std::is_floating_point_v<T>) {
        using Bits = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
        const T one_zero = value + T{0};
        Bits bits;
        std::memcpy(&bits, &one_zero, sizeof bits);
        bits ^= bits < 0 ? std::numeric_limits<Bits>::max() : 0;
        return value != value ? kMost : bits;
    } else if constexpr (std::is_same_v<T, uint64_t>) {
        return static_cast<int64_t>(value ^ uint64_t{1} << 63);
    } else {
        return static_cast<int64_t>(value);
    }
}

}  // namespace linnet
