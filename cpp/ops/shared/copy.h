// Moving elements between strided places: what Transpose, Slice, Concat, Pad, Expand ... come down to.
#pragma once
#include "base/tensor.h"
#include "graph/op.h"

namespace linnet {

// Copies a box of elements: element (i0, i1, ...) goes from src[sum of i * src_stride] to dst[sum of i * dst_stride].
// Strides count elements; those of the source may be 0 or negative; places in dst must be distinct and must not overlap
// the source. A size of 0 copies nothing. Strings are copied as such.
void copy_box(const Parallel& parallel, DType dtype, const Shape& sizes, const void* src, const Shape& src_strides,
              void* dst, const Shape& dst_strides);

// Copies `count` neighbours.
void copy_flat(const Parallel& parallel, DType dtype, int64_t count, const void* src, void* dst);

// Sets `count` neighbours to one value.
void fill_flat(const Parallel& parallel, DType dtype, int64_t count, const void* value, void* dst);

// to[i] = from[places[i]], or to[places[i]] = from[i], for runs of `bytes` bytes; no strings. On the calling thread.
void gather_runs(size_t bytes, int64_t count, const void* from, const int64_t* places, void* to);
void scatter_runs(size_t bytes, int64_t count, const void* from, const int64_t* places, void* to);

// Fills `size` bytes with repetitions of the first `done`, on the calling thread.
void repeat_bytes(void* data, size_t done, size_t size);

// Element `index` of an array of dtype.
inline const void* element(const void* data, DType dtype, int64_t index) {
    return static_cast<const char*>(data) + index * static_cast<int64_t>(dtype_size(dtype));
}
inline void* element(void* data, DType dtype, int64_t index) {
    return static_cast<char*>(data) + index * static_cast<int64_t>(dtype_size(dtype));
}

// Copies one element or a short run on the calling thread.
inline void copy_run(DType dtype, int64_t count, const void* src, void* dst) {
    if (dtype == DType::string)
        for (int64_t i = 0; i < count; ++i)
            copy_text(static_cast<const std::string*>(src)[i], static_cast<std::string*>(dst)[i]);
    else if (count > 0) __builtin_memcpy(dst, src, static_cast<size_t>(count) * dtype_size(dtype));
}

}  // namespace linnet
