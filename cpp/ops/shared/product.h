// Batched matrix products on strides: what MatMul, Gemm and their relatives share.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "graph/op.h"
#include "ops/epilogue.h"
#include "ops/shared/sparse.h"

namespace linnet {

// Fact of the product of two (permuted) operands by numpy's matmul rule, permuted by perm_c; dtype from `dtype`.
// An empty permutation is the identity. Throws invalid_argument when the sizes do not fit.
Fact product_fact(const Fact& a, const Shape& perm_a, const Fact& b, const Shape& perm_b, const Shape& perm_c,
                  DType dtype, DimTable& dims);

// One product as loops: for each batch, c[m, n] = a[m, k] b[k, n] at offsets from the tensors' first elements.
// Columns of c are contiguous.
struct ProductPlan {
    int64_t m = 0, n = 0, k = 0;
    int64_t a_row = 0, a_col = 0, b_row = 0, b_col = 0, c_row = 0;  // strides
    std::vector<int64_t> a, b, c;                                   // offsets, one per batch
    size_t batches() const noexcept { return c.size(); }
    bool empty() const noexcept { return m == 0 || n == 0 || c.empty(); }
};
// All sizes known and already checked (by product_fact). Batches that share b are merged into m where strides allow.
ProductPlan plan_product(const Shape& a, const Shape& perm_a, const Shape& b, const Shape& perm_b, const Shape& perm_c);

// How a float32 product is computed.
struct ProductF32 {
    ProductPlan plan;
    bool dot = false;                      // rows times columns, without packing
    bool copy_a = false;                   // a's rows are not contiguous
    std::shared_ptr<const Tensor> packed;  // of a constant b, one after another
    SparsePlan sparse;                     // of a constant b with many zeros, in the place of packed
    std::vector<int32_t> slot;             // per batch: which distinct b
    std::vector<int64_t> slot_b;           // per distinct b: its offset
    int64_t pack_size = 0;                 // floats in a packed b
    int64_t slots_at_once = 0;
    size_t sparse_at = 0;  // bytes into the scratch
    size_t scratch = 0;    // bytes
};
// Chooses the algorithm; `b` is the constant, if it is one.
ProductF32 prepare_product(PrepareContext& ctx, ProductPlan plan, int b);
// The epilogue must be resolved for c's shape.
void run_product(const ProductF32& product, const RunContext& ctx, const float* a, const float* b, float* c,
                 const EpilogueProgram& epilogue, const float* bias, std::byte* scratch);

// The same for double, uint32_t and uint64_t, without an epilogue; integers wrap around.
template <class T>
void run_plain_product(const ProductPlan& plan, const Parallel& parallel, const T* a, const T* b, T* c);

// Rows and panels of a GEMM as tasks.
struct GemmSplit {
    int64_t row_step = 1, rows = 1, panel_step = 1, panels = 1;  // sizes and numbers of the parts
    int64_t tasks() const noexcept { return rows * panels; }
};
// `copies` products of the same size run side by side. At most `most_rows` rows a task, if given.
GemmSplit split_gemm(int threads, int64_t m, int64_t n, int64_t k, int64_t copies, int64_t tile_rows, int64_t tile_cols,
                     int64_t most_rows = 0);

// A float16 or bfloat16 tensor as new float32, or the other way round.
Tensor convert_float(const Tensor& tensor, DType to);
// A value of float32, float16 or bfloat16 as float32: itself, a converted constant or a Cast.
ValueId as_float32(Patch& patch, ValueId value);

// A product of the first two inputs in the types that MatMul and Gemm take: `f32` serves all floats but float64, `plan`
// the other types.
struct AnyProduct {
    ProductPlan plan;
    ProductF32 f32;
    EpilogueProgram epilogue;
};
std::shared_ptr<const AnyProduct> prepare_any_product(PrepareContext& ctx, const Shape& perm_a, const Shape& perm_b);

}  // namespace linnet
