// Floating-point formats of 16, 8 and 4 bits: encoding with round-to-nearest-even straight from double, and decoding.
#pragma once
#include <cstdint>

#include "base/dtype.h"

namespace linnet {

// Rounding when casting to float8e8m0 (powers of two): away from zero, towards zero, or to the nearest.
enum class RoundMode : uint8_t { up, down, nearest };

constexpr bool is_narrow_float(DType d) noexcept {
    return d == DType::f8e4m3fn || d == DType::f8e4m3fnuz || d == DType::f8e5m2 || d == DType::f8e5m2fnuz ||
           d == DType::f8e8m0 || d == DType::f4e2m1;
}

// The code of the value nearest to x in a format: f16, bf16, any float8 or float4. Beyond the largest finite value:
// that value when saturating (always for float4), else infinity or, where there is none, NaN.
uint16_t encode_float(DType dtype, double x, bool saturate = false) noexcept;
// float8e8m0 holds an exponent only; the sign is dropped.
uint8_t encode_e8m0(float x, bool saturate, RoundMode mode) noexcept;

// Values of all 256 codes of an 8- or 4-bit format (the 4-bit one looks at the low bits only).
const float* narrow_values(DType dtype) noexcept;

}  // namespace linnet
