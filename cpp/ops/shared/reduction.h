// Reductions of any axes of a dense tensor.
#pragma once
#include <cstdint>
#include <string_view>

#include "graph/op.h"

namespace linnet {

enum class Reduction : uint8_t { sum, mean, max, min, prod, l1, l2, log_sum, log_sum_exp, sum_square };

// Reduces the (normal, distinct) axes of x into y, whose elements are those of the other axes in order. Every dtype
// that ONNX allows, and f16/bf16 through float32. An empty set gives 0 (sums), 1 (prod), the lowest or highest value
// (max, min), NaN or integer 0 (mean), -inf (logarithms).
void reduce(const Parallel& parallel, Reduction op, const Tensor& x, const Shape& axes, Tensor& y);

// True when b, which comes later, replaces a as the largest or smallest, the first or `last` of equals. NaN is the
// extreme.
template <class T>
bool replaces(T a, T b, bool largest, bool last) {
    if (a != a) return last && b != b;
    if (b != b) return true;
    return (largest ? b > a : b < a) || (last && b == a);
}

// The index of the largest or smallest of n > 0 elements by this rule.
int64_t find_extreme(int64_t n, const float* x, bool largest, bool last);

// The shape with the axes set to 1, or left out.
Shape reduced_shape(const Shape& shape, const Shape& axes, bool keep);

}  // namespace linnet
