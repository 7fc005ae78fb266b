// Indices given as data: int32 or int64 tensors whose values are checked before anything is addressed with them.
#pragma once
#include <algorithm>

#include "base/error.h"
#include "base/tensor.h"
#include "kernels/kernels.h"

namespace linnet {

struct Indices {
    const int64_t* wide = nullptr;
    const int32_t* narrow = nullptr;

    explicit Indices(const Tensor& tensor) {
        if (tensor.dtype == DType::i64) wide = tensor.as<int64_t>();
        else narrow = tensor.as<int32_t>();
    }
    int64_t operator[](int64_t i) const { return wide ? wide[i] : narrow[i]; }
    // Counted from the end when negative; the index must have been checked.
    int64_t at(int64_t i, int64_t size) const {
        const int64_t index = (*this)[i];
        return index < 0 ? index + size : index;
    }
};

inline void check_index(int64_t index, int64_t size) {
    if (index < -size || index >= size)
        fail(ErrorKind::invalid_argument, "index ", index, " is outside [", -size, ", ", size - 1, "]");
}
// The least and the largest of some indices.
struct IndexRange {
    int64_t least, largest;
};
inline IndexRange range_of(const int64_t* indices, int64_t count) {
    IndexRange range;
    kernels::kernels().extremes_i64(static_cast<size_t>(count), indices, &range.least, &range.largest);
    return range;
}
inline IndexRange range_of(const int32_t* indices, int64_t count) {
    IndexRange range{INT64_MAX, INT64_MIN};
    for (int64_t i = 0; i < count; ++i)
        range = {std::min<int64_t>(range.least, indices[i]), std::max<int64_t>(range.largest, indices[i])};
    return range;
}
// Checks all of them, and gives their range.
template <class Index>
IndexRange check_indices(const Index* indices, int64_t count, int64_t size) {
    const IndexRange range = range_of(indices, count);
    if (count > 0 && (range.least < -size || range.largest >= size))
        for (int64_t i = 0; i < count; ++i) check_index(indices[i], size);
    return range;
}
inline void check_indices(const Tensor& tensor, int64_t size) {
    if (tensor.dtype == DType::i64) check_indices(tensor.as<int64_t>(), tensor.count(), size);
    else check_indices(tensor.as<int32_t>(), tensor.count(), size);
}

}  // namespace linnet
