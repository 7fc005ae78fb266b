// Conversion of elements between any two numeric dtypes (Cast's rules).
#pragma once
#include <cstddef>
#include <cstdint>

#include "base/narrow.h"
#include "graph/op.h"

namespace linnet {

struct CastOptions {
    bool saturate = true;                  // to float8: beyond the largest value is that value
    RoundMode round_mode = RoundMode::up;  // to float8e8m0
};

// n elements at `in` to n elements at `out`, which may not overlap. Neither dtype is string or complex.
// Floats out of an integer's range: towards zero, modulo 2^bits within 64 bits; the least integer beyond those.
void convert_elements(DType from, const void* in, DType to, void* out, int64_t n, const CastOptions& options,
                      const Parallel& parallel);

// The same on one thread for a piece: elements [first, first + n) of `in` to out[0 .. n), or back.
void load_f32(DType from, const void* in, int64_t first, size_t n, float* out);
void store_f32(DType to, const float* in, size_t n, void* out, int64_t first, const CastOptions& options = {});

}  // namespace linnet
