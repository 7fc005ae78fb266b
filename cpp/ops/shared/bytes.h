// Arithmetic on bytes that stand for (byte - zero) * scale, in plain loops.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/kernels.h"

namespace linnet {

// A sum or a product of two bytes as a byte: the formulas are in ops/qlinear_binary.cpp.
struct BinaryBytes {
    bool is_signed = false, multiply = false;
    int32_t a_zero = 0, b_zero = 0, y_zero = 0, lo = 0, hi = 255;
    float a_scale = 1, b_scale = 1;  // over y_scale; of the product in a_scale
};
// Steps are 0 or 1.
void binary_bytes(const BinaryBytes& call, size_t n, const void* a, size_t a_step, const void* b, size_t b_step,
                  void* y);

// n sums of neighbouring columns, from `column` on, as bytes. `add` of `to` is not looked at.
void sums_to_bytes(const kernels::ToBytes& to, size_t column, size_t n, const int32_t* sums, void* y);

}  // namespace linnet
