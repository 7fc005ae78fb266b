// Names and numbers of element types on the wires.
#include <iterator>

#include "serve/codecs.h"

namespace linnet::serve {
namespace {

struct Row {
    DType dtype;
    std::string_view oip;  // empty: none
    int tensorflow;        // 0: none
};
constexpr Row kRows[] = {
    {DType::f32, "FP32", 1},  {DType::f64, "FP64", 2},      {DType::i32, "INT32", 3},    {DType::u8, "UINT8", 4},
    {DType::i16, "INT16", 5}, {DType::i8, "INT8", 6},       {DType::string, "BYTES", 7}, {DType::c64, "", 8},
    {DType::i64, "INT64", 9}, {DType::boolean, "BOOL", 10}, {DType::bf16, "BF16", 14},   {DType::u16, "UINT16", 17},
    {DType::c128, "", 18},    {DType::f16, "FP16", 19},     {DType::u32, "UINT32", 22},  {DType::u64, "UINT64", 23},
    {DType::f8e5m2, "", 24},  {DType::f8e4m3fn, "", 25},    {DType::f8e4m3fnuz, "", 26}, {DType::f8e5m2fnuz, "", 28},
    {DType::i4, "", 29},      {DType::u4, "", 30},          {DType::i2, "", 31},         {DType::u2, "", 32},
    {DType::f4e2m1, "", 33},
};

const Row* row_of(DType dtype) {
    for (const Row& row : kRows)
        if (row.dtype == dtype) return &row;
    return nullptr;
}

}  // namespace

DType dtype_of_oip(std::string_view name) {
    for (const Row& row : kRows)
        if (!name.empty() && row.oip == name) return row.dtype;
    return DType::undefined;
}

std::string_view oip_name(DType dtype) {
    const Row* row = row_of(dtype);
    return row ? row->oip : std::string_view();
}

DType dtype_of_tensorflow(int64_t number) {
    for (const Row& row : kRows)
        if (row.tensorflow == number) return row.dtype;
    return DType::undefined;
}

int64_t tensorflow_number(DType dtype) {
    const Row* row = row_of(dtype);
    return row ? row->tensorflow : 0;
}

}  // namespace linnet::serve
