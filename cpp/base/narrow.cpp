// Encoding and decoding of narrow floating-point formats, from one row of numbers a format.
#include "base/narrow.h"

#include <array>
#include <cmath>
#include <limits>

#include "base/half.h"

namespace linnet {
namespace {

struct Format {
    int exponent_bits, mantissa_bits, bias;
    uint16_t largest;   // code of the largest finite value
    uint16_t infinity;  // code; 0: none
    uint16_t nan;       // code of the positive NaN
    bool one_zero;      // no negative zero, and one NaN only ("fnuz")
};

// Formats as tabulated in "FP8 Formats for Deep Learning" (arXiv 2209.05433) and, for the fnuz ones, arXiv 2206.02915.
const Format* format_of(DType dtype) noexcept {
    static constexpr Format kHalf{5, 10, 15, 0x7bff, 0x7c00, 0x7e00, false};
    static constexpr Format kBrain{8, 7, 127, 0x7f7f, 0x7f80, 0x7fc0, false};
    static constexpr Format kE4M3{4, 3, 7, 0x7e, 0, 0x7f, false};
    static constexpr Format kE4M3Z{4, 3, 8, 0x7f, 0, 0x80, true};
    static constexpr Format kE5M2{5, 2, 15, 0x7b, 0x7c, 0x7e, false};
    static constexpr Format kE5M2Z{5, 2, 16, 0x7f, 0, 0x80, true};
    static constexpr Format kE2M1{2, 1, 1, 0x7, 0, 0x8, false};
    switch (dtype) {
        case DType::f16: return &kHalf;
        case DType::bf16: return &kBrain;
        case DType::f8e4m3fn: return &kE4M3;
        case DType::f8e4m3fnuz: return &kE4M3Z;
        case DType::f8e5m2: return &kE5M2;
        case DType::f8e5m2fnuz: return &kE5M2Z;
        default: return &kE2M1;
    }
}

float decode(const Format& f, DType dtype, uint8_t code) noexcept {
    const int width = f.exponent_bits + f.mantissa_bits;
    const int mask = (1 << width) - 1;
    const int magnitude = code & mask;
    const bool negative = (code >> width) & 1;
    if (f.one_zero && code == 0x80) return std::numeric_limits<float>::quiet_NaN();
    if (dtype != DType::f4e2m1 && magnitude > f.largest) {
        const float special = f.infinity && magnitude == f.infinity ? std::numeric_limits<float>::infinity()
                                                                    : std::numeric_limits<float>::quiet_NaN();
        return negative ? -special : special;
    }
    const int exponent = magnitude >> f.mantissa_bits;
    const int mantissa = magnitude & ((1 << f.mantissa_bits) - 1);
    const float value = exponent ? std::ldexp(static_cast<float>(mantissa + (1 << f.mantissa_bits)),
                                              exponent - f.bias - f.mantissa_bits)
                                 : std::ldexp(static_cast<float>(mantissa), 1 - f.bias - f.mantissa_bits);
    return negative ? -value : value;
}

using Values = std::array<float, 256>;

Values make_values(DType dtype) noexcept {
    Values values;
    for (int code = 0; code < 256; ++code) {
        const auto byte = static_cast<uint8_t>(code);
        float& value = values[static_cast<size_t>(code)];
        if (dtype == DType::f8e8m0)
            value = code == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, code - 127);
        else if (dtype == DType::f4e2m1) value = decode(*format_of(dtype), dtype, byte & 0xf);
        else value = decode(*format_of(dtype), dtype, byte);
    }
    return values;
}

}  // namespace

uint16_t encode_float(DType dtype, double x, bool saturate) noexcept {
    const Format& f = *format_of(dtype);
    const int width = f.exponent_bits + f.mantissa_bits;
    const auto sign = static_cast<uint16_t>(std::signbit(x) ? 1u << width : 0u);
    if (std::isnan(x)) return f.one_zero || dtype == DType::f4e2m1 ? f.nan : static_cast<uint16_t>(sign | f.nan);
    const double magnitude = std::fabs(x);
    int64_t code = 0;
    if (std::isinf(x)) {
        code = int64_t{f.largest} + 1;
    } else if (magnitude != 0) {
        const int smallest = 1 - f.bias;  // exponent of the least normal number
        const int exponent = std::ilogb(magnitude);
        const auto units =
            static_cast<int64_t>(std::nearbyint(std::ldexp(magnitude, f.mantissa_bits - std::max(exponent, smallest))));
        // A carry out of the mantissa moves the exponent up by itself.
        code = exponent < smallest ? units : units + (int64_t{exponent - smallest} << f.mantissa_bits);
    }
    if (code > f.largest) {
        if (saturate || dtype == DType::f4e2m1) code = f.largest;
        else if (f.infinity) code = f.infinity;
        else return f.one_zero ? f.nan : static_cast<uint16_t>(sign | f.nan);
    }
    if (code == 0 && f.one_zero) return 0;
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(code));
}

uint8_t encode_e8m0(float x, bool saturate, RoundMode mode) noexcept {
    const uint32_t bits = float_to_bits(x);
    const uint32_t exponent = (bits >> 23) & 0xffu;
    const uint32_t fraction = bits & 0x7fffffu;
    if (exponent == 0xffu) return 0xff;
    bool up = false;
    if (mode == RoundMode::up) up = fraction != 0;
    // Ties go up, but for those of subnormal numbers.
    if (mode == RoundMode::nearest) up = fraction > 0x400000u || (fraction == 0x400000u && exponent > 0);
    if (up && saturate && exponent == 0xfeu) up = false;
    return static_cast<uint8_t>(exponent + (up ? 1 : 0));
}

const float* narrow_values(DType dtype) noexcept {
    static const Values e4m3 = make_values(DType::f8e4m3fn), e4m3z = make_values(DType::f8e4m3fnuz),
                        e5m2 = make_values(DType::f8e5m2), e5m2z = make_values(DType::f8e5m2fnuz),
                        e8m0 = make_values(DType::f8e8m0), e2m1 = make_values(DType::f4e2m1);
    switch (dtype) {
        case DType::f8e4m3fn: return e4m3.data();
        case DType::f8e4m3fnuz: return e4m3z.data();
        case DType::f8e5m2: return e5m2.data();
        case DType::f8e5m2fnuz: return e5m2z.data();
        case DType::f8e8m0: return e8m0.data();
        default: return e2m1.data();
    }
}

}  // namespace linnet
