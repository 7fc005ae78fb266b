// 8-bit matrix products, exact in int32 (modulo 2^32).
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "ops/shared/product.h"

namespace linnet {

struct ProductS8 {
    ProductPlan plan;  // a's rows and c are dense
    bool a_signed = false, b_signed = false;
    std::shared_ptr<const Tensor> packed;  // of a constant b
    std::vector<int32_t> slot;             // per batch: which distinct b
    std::vector<int64_t> slot_b;           // per distinct b: its offset
    int64_t pack_size = 0, b_size = 0;     // bytes of a packed b; elements of a plain one
    size_t scratch = 0;
};
// `b`: which input it is.
ProductS8 prepare_product_s8(PrepareContext& ctx, ProductPlan plan, DType a, int b);

// c = (a - a_zero)(b - b_zero) + bias; zero points as the tensors hold them, null: 0; bias per column or null.
void run_product_s8(const ProductS8& product, const Parallel& parallel, const Tensor& a, const Tensor* a_zero,
                    const Tensor& b, const Tensor* b_zero, const int32_t* bias, int32_t* c, std::byte* scratch);

// Throws invalid_argument unless `values` has 1 element, one per row, or one per row of all matrices (`rows` and
// `matrices` of an operand; for b, rows are its columns).
void check_per_row(const Tensor* values, int64_t rows, int64_t matrices, const char* what);

}  // namespace linnet
