// What operators along axes share: a tensor seen as outer x n x inner, 16-bit floats computed in float32, and ranges of
// work with memory of their own.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "graph/op.h"

namespace linnet {

// Element (o, i, c) of a dense tensor is at (o * n + i) * inner + c.
struct AxisView {
    int64_t outer = 1, n = 1, inner = 1;
    int64_t count() const noexcept { return outer * n * inner; }
};

// The axes [first, last) are `n`.
inline AxisView around(const Shape& shape, int64_t first, int64_t last) {
    const auto f = static_cast<size_t>(first), l = static_cast<size_t>(last);
    return {product(shape, 0, f), product(shape, f, l), product(shape, l, shape.size())};
}

// Rows worth a thread of their own, when each is `n` elements of which one costs about `cost` cheap operations.
inline int64_t row_grain(int64_t n, int64_t cost = 1) {
    return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n * cost));
}

inline bool is_half(DType d) noexcept { return d == DType::f16 || d == DType::bf16; }

// A float16, bfloat16 (or, if asked, float64) tensor as new float32; any other tensor as it is.
Tensor widened(const Parallel& parallel, const Tensor& tensor, bool double_too = false);
// Writes float32 elements into a tensor of any float type.
void narrow_into(const Parallel& parallel, const Tensor& from, Tensor& to);

// True when an input is float16 or bfloat16. run() then calls itself through run_widened, which hands it float32
// copies; lowering has put Casts in place before any plan is made (lower_widened), so that this is for single nodes.
bool has_half(const RunContext& ctx);
void run_widened(RunContext& ctx, void (*run)(RunContext&));
// For `lower`: float16 and bfloat16 inputs are cast to float32, outputs back. False when there are none.
bool lower_widened(const Graph& graph, NodeId id, Patch& patch);

// The same with float64 as one more type that is computed in float32.
bool has_other_float(const RunContext& ctx);
void run_in_f32(RunContext& ctx, void (*run)(RunContext&));
bool lower_to_f32(const Graph& graph, NodeId id, Patch& patch);

// Output 0 like input 0, floats only.
void infer_float_like_input(InferContext& ctx);

// Splits [0, count) into at most `slots` ranges, fn(slot, begin, end): a slot is used by one range at a time.
template <class Fn>
void parallel_slots(const Parallel& parallel, int64_t slots, int64_t count, int64_t grain, const Fn& fn) {
    const int64_t most = (count + std::max<int64_t>(1, grain) - 1) / std::max<int64_t>(1, grain);
    const int64_t parts = std::max<int64_t>(1, std::min(std::min<int64_t>(slots, parallel.threads), most));
    const int64_t chunk = (count + parts - 1) / parts;
    if (chunk <= 0) return;
    parallel_for(parallel, (count + chunk - 1) / chunk,
                 [&](int64_t i) { fn(i, i * chunk, std::min(count, (i + 1) * chunk)); });
}

}  // namespace linnet
