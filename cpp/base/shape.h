// Shapes. A dimension is an int64: a size (>= 0), or one of the codes below while a graph is analysed.
#pragma once
#include <cstdint>
#include <limits>
#include <string>

#include "base/small_vector.h"

namespace linnet {

using Shape = SmallVector<int64_t, 6>;

// A dimension about which nothing is known.
constexpr int64_t kUnknownDim = std::numeric_limits<int64_t>::min();
// Codes (kUnknownDim, kFirstNumber) are symbols: equal codes are equal sizes (graph/dims.h makes them).
constexpr int64_t kFirstNumber = kUnknownDim + (int64_t{1} << 32);
constexpr bool is_number(int64_t dim) noexcept { return dim >= kFirstNumber; }
constexpr bool is_symbol(int64_t dim) noexcept { return dim > kUnknownDim && dim < kFirstNumber; }

// An element of a tensor as a dimension: one that would read as a symbol is not known.
constexpr int64_t as_dim(int64_t value) noexcept { return is_number(value) ? value : kUnknownDim; }

// True when every dimension is a number.
bool is_known(const Shape& shape) noexcept;
// The product of the dimensions; all must be numbers. Throws invalid_argument on overflow or a negative dimension.
int64_t element_count(const Shape& shape);
// The product of dims [first, last).
int64_t product(const Shape& shape, size_t first, size_t last);
// "1x3x224x224"; "scalar" for rank 0; unknown as "?".
std::string shape_text(const Shape& shape);
// Row-major strides in elements.
Shape strides_of(const Shape& shape);
// Turns a possibly negative axis into [0, rank); throws invalid_graph naming `what`.
int64_t normal_axis(int64_t axis, int64_t rank, const char* what = "axis");

// Arithmetic on sizes that must not wrap: throws invalid_argument on overflow.
int64_t checked_mul(int64_t a, int64_t b);
int64_t checked_add(int64_t a, int64_t b);

}  // namespace linnet
