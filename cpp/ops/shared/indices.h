// Indices given as data: int32 or int64 tensors whose values are checked before anything is addressed with them.
#pragma once
#include "base/error.h"
#include "base/tensor.h"

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
// Its sign bit is set where index + size or size - 1 - index is negative.
inline uint64_t outside_bit(int64_t index, int64_t size) {
    const auto i = static_cast<uint64_t>(index), limit = static_cast<uint64_t>(size);
    return (i + limit) | (limit - 1 - i);
}
// Checks all of them, without a branch for each.
template <class Index>
void check_indices(const Index* indices, int64_t count, int64_t size) {
    uint64_t outside = 0;
    for (int64_t i = 0; i < count; ++i) outside |= outside_bit(indices[i], size);
    for (int64_t i = 0; i < count && outside >> 63; ++i) check_index(indices[i], size);
}
inline void check_indices(const Tensor& tensor, int64_t size) {
    if (tensor.dtype == DType::i64) check_indices(tensor.as<int64_t>(), tensor.count(), size);
    else check_indices(tensor.as<int32_t>(), tensor.count(), size);
}

}  // namespace linnet
