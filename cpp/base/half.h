// Conversions between 16-bit floats and float, exact one way and round-to-nearest-even the other.
#pragma once
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

namespace linnet {

inline float bits_to_float(uint32_t bits) noexcept {
    float value;
    std::memcpy(&value, &bits, 4);
    return value;
}
inline uint32_t float_to_bits(float value) noexcept {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

inline float to_float(Half h) noexcept {
    const uint32_t sign = static_cast<uint32_t>(h.bits & 0x8000u) << 16;
    const uint32_t rest = h.bits & 0x7fffu;
    if (rest >= 0x7c00u) return bits_to_float(sign | 0x7f800000u | ((rest & 0x3ffu) << 13));
    // Scaling by 2^112 rebiases the exponent and normalises subnormals in one multiplication.
    return bits_to_float(sign | float_to_bits(bits_to_float(rest << 13) * bits_to_float(0x77800000u)));
}

inline Half to_half(float value) noexcept {
    const uint32_t bits = float_to_bits(value);
    const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
    const uint32_t rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u | ((rest >> 13) & 0x1ffu))};
    if (rest >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // rounds to 65536 or more
    if (rest < 0x38800000u) {  // subnormal half: let the float adder round at 2^-24
        const float shifted = bits_to_float(rest) + 0.5f;
        return {static_cast<uint16_t>(sign | (float_to_bits(shifted) - 0x3f000000u))};
    }
    const uint32_t rounded = rest + 0xfffu + ((rest >> 13) & 1u) - 0x38000000u;
    return {static_cast<uint16_t>(sign | (rounded >> 13))};
}

inline float to_float(BFloat16 b) noexcept { return bits_to_float(static_cast<uint32_t>(b.bits) << 16); }

inline BFloat16 to_bfloat16(float value) noexcept {
    const uint32_t bits = float_to_bits(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

}  // namespace linnet
