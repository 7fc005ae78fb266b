// Small helpers that many infer functions need.
#pragma once
#include <optional>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// Input i, which must be there and be a tensor.
const Fact& tensor_input(const InferContext& ctx, int i);

// Indices are int32 or int64.
void require_index_type(const Fact& indices);

// Integers that steer an operator (axes, starts, pads ...). `exact`: read from a constant or an attribute, so any int64
// may stand there; else an element may be a symbol or unknown.
struct IntList {
    Shape values;
    bool exact = false;
    bool known(size_t i) const { return exact || is_number(values[i]); }
    bool all_known() const { return exact || is_known(values); }
};

// The elements of input i; nothing when not even their number is known. The input must be integers of rank 0 or 1.
std::optional<IntList> int_list(const InferContext& ctx, int i);
// The same from an attribute when it is present.
std::optional<IntList> int_list(const Attributes& attributes, std::string_view name);
// The number of elements of input i (rank 1), or -1.
int64_t list_length(const InferContext& ctx, int i);

// Normal axes in [0, rank), without duplicates (throws invalid_graph).
Shape normal_axes(const Shape& axes, int64_t rank);

// A shape of `rank` unknown dims.
inline Shape unknown_shape(int64_t rank) { return Shape(static_cast<size_t>(rank), kUnknownDim); }

// The better known of two dims that must be equal; throws invalid_argument naming `what` when they are different
// numbers.
int64_t same_dim(const DimTable& dims, int64_t a, int64_t b, const char* what);

// What holds for a value that may be either of two.
Fact merge_facts(const Fact& a, const Fact& b);
bool same_fact(const Fact& a, const Fact& b);  // the constants and ints apart

// A fact of rank 0 or 1 with its elements.
Fact ints_fact(DType dtype, const Shape& shape, Shape ints);
constexpr size_t kMaxInts = 64;

// The product of dims [first, last) as an expression.
int64_t product_of(DimTable& dims, const Shape& shape, size_t first, size_t last);

// Where axis `axis` of a value is after it was permuted by `perm`.
int64_t permuted_axis(const Shape& perm, int64_t axis);

}  // namespace linnet
