// The table of element types: names, sizes, bits in files.
#include "base/dtype.h"

#include <string>

namespace linnet {
namespace {

struct DTypeRow {
    std::string_view name, onnx_name;
    uint8_t size, file_bits;
};

// In the order of DType.
constexpr DTypeRow kRows[kDTypeCount] = {
    {"undefined", "undefined", 0, 0},
    {"float32", "float", 4, 32},
    {"uint8", "uint8", 1, 8},
    {"int8", "int8", 1, 8},
    {"uint16", "uint16", 2, 16},
    {"int16", "int16", 2, 16},
    {"int32", "int32", 4, 32},
    {"int64", "int64", 8, 64},
    {"str", "string", sizeof(std::string), 0},
    {"bool", "bool", 1, 8},
    {"float16", "float16", 2, 16},
    {"float64", "double", 8, 64},
    {"uint32", "uint32", 4, 32},
    {"uint64", "uint64", 8, 64},
    {"complex64", "complex64", 8, 64},
    {"complex128", "complex128", 16, 128},
    {"bfloat16", "bfloat16", 2, 16},
    {"float8_e4m3fn", "float8e4m3fn", 1, 8},
    {"float8_e4m3fnuz", "float8e4m3fnuz", 1, 8},
    {"float8_e5m2", "float8e5m2", 1, 8},
    {"float8_e5m2fnuz", "float8e5m2fnuz", 1, 8},
    {"uint4", "uint4", 1, 4},
    {"int4", "int4", 1, 4},
    {"float4_e2m1fn", "float4e2m1", 1, 4},
    {"float8_e8m0fnu", "float8e8m0", 1, 8},
    {"uint2", "uint2", 1, 2},
    {"int2", "int2", 1, 2},
};

const DTypeRow& row(DType dtype) noexcept {
    const auto index = static_cast<size_t>(dtype);
    return kRows[index < static_cast<size_t>(kDTypeCount) ? index : 0];
}

}  // namespace

size_t dtype_size(DType dtype) noexcept { return row(dtype).size; }
int dtype_file_bits(DType dtype) noexcept { return row(dtype).file_bits; }
std::string_view dtype_name(DType dtype) noexcept { return row(dtype).name; }
std::string_view dtype_onnx_name(DType dtype) noexcept { return row(dtype).onnx_name; }

}  // namespace linnet
