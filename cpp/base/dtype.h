// Element types, with ONNX's own numbers (TensorProto.DataType).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace linnet {

enum class DType : uint8_t {
    undefined = 0,
    f32 = 1,
    u8 = 2,
    i8 = 3,
    u16 = 4,
    i16 = 5,
    i32 = 6,
    i64 = 7,
    string = 8,
    boolean = 9,
    f16 = 10,
    f64 = 11,
    u32 = 12,
    u64 = 13,
    c64 = 14,
    c128 = 15,
    bf16 = 16,
    f8e4m3fn = 17,
    f8e4m3fnuz = 18,
    f8e5m2 = 19,
    f8e5m2fnuz = 20,
    u4 = 21,
    i4 = 22,
    f4e2m1 = 23,
    f8e8m0 = 24,
    u2 = 25,
    i2 = 26,
};
constexpr int kDTypeCount = 27;

// Bytes of one element in memory. Types narrower than a byte take one byte each here (in an ONNX file they are packed);
// a string element is a std::string.
size_t dtype_size(DType dtype) noexcept;
// Bits of one element in an ONNX file; 0 for string and undefined.
int dtype_file_bits(DType dtype) noexcept;
// numpy's name: "float32", "bfloat16", "int4" ...
std::string_view dtype_name(DType dtype) noexcept;
// As onnxruntime prints it: "tensor(float)" has "float" ...
std::string_view dtype_onnx_name(DType dtype) noexcept;

constexpr bool is_float(DType d) noexcept {
    return d == DType::f32 || d == DType::f64 || d == DType::f16 || d == DType::bf16;
}
constexpr bool is_signed_int(DType d) noexcept {
    return d == DType::i8 || d == DType::i16 || d == DType::i32 || d == DType::i64;
}
constexpr bool is_unsigned_int(DType d) noexcept {
    return d == DType::u8 || d == DType::u16 || d == DType::u32 || d == DType::u64;
}
constexpr bool is_int(DType d) noexcept { return is_signed_int(d) || is_unsigned_int(d); }

// Storage of a 16-bit float: arithmetic happens in float after conversion (base/half.h).
struct Half {
    uint16_t bits;
};
struct BFloat16 {
    uint16_t bits;
};

// The DType of a C++ element type.
template <class T>
constexpr DType dtype_of = DType::undefined;
// clang-format off
template <> inline constexpr DType dtype_of<float> = DType::f32;
template <> inline constexpr DType dtype_of<double> = DType::f64;
template <> inline constexpr DType dtype_of<Half> = DType::f16;
template <> inline constexpr DType dtype_of<BFloat16> = DType::bf16;
template <> inline constexpr DType dtype_of<uint8_t> = DType::u8;
template <> inline constexpr DType dtype_of<int8_t> = DType::i8;
template <> inline constexpr DType dtype_of<uint16_t> = DType::u16;
template <> inline constexpr DType dtype_of<int16_t> = DType::i16;
template <> inline constexpr DType dtype_of<uint32_t> = DType::u32;
template <> inline constexpr DType dtype_of<int32_t> = DType::i32;
template <> inline constexpr DType dtype_of<uint64_t> = DType::u64;
template <> inline constexpr DType dtype_of<int64_t> = DType::i64;
template <> inline constexpr DType dtype_of<bool> = DType::boolean;
// clang-format on

}  // namespace linnet
