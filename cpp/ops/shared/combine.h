// into[places[i]] = into[places[i]] (op) from[i]: the reductions of Scatter and the sums of Col2Im.
#pragma once
#include <cstdint>
#include <string_view>

#include "graph/op.h"

namespace linnet {

// Without places, element i has place i.
using Combine = void (*)(int64_t count, void* into, const int64_t* places, const void* from);

// For "add", "mul", "max" and "min" (NaN wins); null when the type has none. Integers wrap around; for bool, add and
// max are or, mul and min are and.
Combine combine_of(std::string_view reduction, DType dtype);

// Checks the types of Scatter's operands (data, indices, updates) and its attribute `reduction`.
void check_scatter(const InferContext& ctx);

}  // namespace linnet
