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

struct OperandsS8 {
    const Tensor *a = nullptr, *a_zero = nullptr, *b = nullptr, *b_zero = nullptr;  // zero points: null is 0
    const int32_t* bias = nullptr;                                                  // per column, or null
};

// c = (a - a_zero)(b - b_zero) + bias.
void run_product_s8(const ProductS8& product, const Parallel& parallel, const OperandsS8& operands, int32_t* c,
                    std::byte* scratch);

// The same where the kernel makes bytes or floats of the sums. Only if one_pass.
struct ResultS8 {
    kernels::GemmS8::Out out = kernels::GemmS8::Out::bytes;
    kernels::ToBytes bytes;
    const float* scale = nullptr;               // Out::floats: per column
    const EpilogueProgram* epilogue = nullptr;  // Out::floats, or null
};
void run_product_s8(const ProductS8& product, const RunContext& ctx, const OperandsS8& operands, const ResultS8& result,
                    void* c, std::byte* scratch);
// One zero point for all of a, and none of b but the middle of uint8.
bool one_pass(const ProductS8& product, const OperandsS8& operands);

// Throws invalid_argument unless `values` has 1 element, one per row, or one per row of all matrices (`rows` and
// `matrices` of an operand; for b, rows are its columns).
void check_per_row(const Tensor* values, int64_t rows, int64_t matrices, const char* what);

}  // namespace linnet
