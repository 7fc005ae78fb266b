// Joining tensors along an axis, and taking them apart: sequences, and what loops collect.
#pragma once
#include <span>

#include "base/tensor.h"
#include "graph/op.h"

namespace linnet {

// One tensor from one or more of equal dtype; shapes are checked (equal but for `axis`; all equal with `new_axis`).
// Axis is normal: in [0, rank), with new_axis in [0, rank].
Tensor join(const Parallel& parallel, std::span<const Tensor> parts, int64_t axis, bool new_axis);

// Elements [begin, begin + size) along an axis: a view where they are neighbours, else a copy.
Tensor cut(const Parallel& parallel, const Tensor& tensor, int64_t axis, int64_t begin, int64_t size);

// The same tensor under another shape of as many elements.
Tensor reshaped(Tensor tensor, const Shape& shape);

}  // namespace linnet
