// 8-bit products: b is packed as int8 (uint8 shifted by 128, its zero point too), a's zero point goes to the kernel,
// b's is taken off with the sums of a's rows.
#include "ops/shared/product_s8.h"

#include <algorithm>
#include <map>

#include "base/give_way.h"

namespace linnet {
namespace {

size_t z(int64_t value) { return static_cast<size_t>(value); }

// Copies b as int8.
void shift_to_s8(const Tensor& b, int64_t offset, int64_t count, bool is_signed, int8_t* to) {
    const uint8_t* from = b.as<uint8_t>() + offset;
    const uint8_t flip = is_signed ? 0 : 0x80;
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<int8_t>(from[i] ^ flip);
}

kernels::PackB how_packed(const ProductPlan& plan) { return {1, z(plan.k), z(plan.n), 0, plan.b_row, plan.b_col}; }

int64_t panels_of(const ProductPlan& plan) {
    const auto width = static_cast<int64_t>(kernels::kernels().gemm_s8_cols);
    return (plan.n + width - 1) / width;
}

int32_t zero_at(const Tensor* zero, int64_t index) {
    return zero ? static_cast<int32_t>(int_at(*zero, index % zero->count())) : 0;
}

}  // namespace

void check_per_row(const Tensor* values, int64_t rows, int64_t matrices, const char* what) {
    if (!values) return;
    const int64_t count = values->count();
    if (count < 1 || (count != 1 && count != rows && count != checked_mul(rows, matrices)))
        fail(ErrorKind::invalid_argument, what, " has ", count, " elements, expected 1, ", rows, " or ",
             rows * matrices);
}

ProductS8 prepare_product_s8(PrepareContext& ctx, ProductPlan plan, DType a, int b) {
    const auto& kernels = kernels::kernels();
    ProductS8 product;
    product.a_signed = a == DType::i8;
    product.b_signed = ctx.input(b).dtype == DType::i8;
    std::map<int64_t, int32_t> slots;
    for (int64_t offset : plan.b) slots.try_emplace(offset, 0);
    for (auto& [offset, slot] : slots) {
        slot = static_cast<int32_t>(product.slot_b.size());
        product.slot_b.push_back(offset);
    }
    for (int64_t offset : plan.b) product.slot.push_back(slots[offset]);
    const int64_t slot_count = static_cast<int64_t>(product.slot_b.size());
    product.b_size = checked_mul(plan.k, plan.n);
    product.pack_size = static_cast<int64_t>(kernels.pack_b_s8_size(1, z(plan.k), z(plan.n)) + 63) / 64 * 64;
    const bool is_signed = product.b_signed;
    const int64_t pack_size = product.pack_size, b_size = product.b_size;
    if (ctx.is_constant(b) && slot_count > 0) {
        const auto kind = cat("gemm_s8 ", kernels.isa, ' ', plan.k, ' ', plan.n, ' ', plan.b_row, ' ', plan.b_col, ' ',
                              slot_count, is_signed);
        product.packed = ctx.pack<Tensor>(b, kind, [&](const Tensor& from) {
            auto packed = std::make_shared<Tensor>(Tensor::allocate(DType::i8, {checked_mul(pack_size, slot_count)}));
            std::vector<int8_t> shifted(z(b_size));
            for (int64_t s = 0; s < slot_count; ++s) {
                shift_to_s8(from, product.slot_b[z(s)], b_size, is_signed, shifted.data());
                for (int64_t p = 0; p < panels_of(plan); ++p) {
                    give_way();
                    kernels.pack_b_s8(how_packed(plan), shifted.data(), packed->as<int8_t>() + s * pack_size, z(p),
                                      z(p + 1));
                }
            }
            return packed;
        });
    }
    // Scratch: packed b's and one shifted b at a time.
    if (!product.packed) product.scratch = z(checked_add(checked_mul(pack_size, slot_count), (b_size + 63) / 64 * 64));
    product.plan = std::move(plan);
    return product;
}

namespace {

// Where the packed b's are: those of the plan, or made in scratch.
const int8_t* packed_b(const ProductS8& product, const Parallel& parallel, const Tensor& b, std::byte* scratch) {
    if (product.packed) return product.packed->as<int8_t>();
    const auto& kernels = kernels::kernels();
    const int64_t slot_count = static_cast<int64_t>(product.slot_b.size());
    auto* const own = reinterpret_cast<int8_t*>(scratch);
    int8_t* const shifted = own + product.pack_size * slot_count;
    for (int64_t s = 0; s < slot_count; ++s) {
        shift_to_s8(b, product.slot_b[z(s)], product.b_size, product.b_signed, shifted);
        parallel_for(parallel, panels_of(product.plan), [&](int64_t p) {
            kernels.pack_b_s8(how_packed(product.plan), shifted, own + s * product.pack_size, z(p), z(p + 1));
        });
    }
    return own;
}

// The product of one batch, but for c.
kernels::GemmS8 gemm_of(const ProductS8& product, const OperandsS8& operands, const int8_t* packs, size_t batch) {
    const ProductPlan& plan = product.plan;
    kernels::GemmS8 gemm;
    gemm.m = z(plan.m);
    gemm.n = z(plan.n);
    gemm.k = z(plan.k);
    gemm.a = static_cast<const uint8_t*>(operands.a->data) + plan.a[batch];
    gemm.lda = plan.a_row;
    gemm.a_signed = product.a_signed;
    gemm.a_zero = zero_at(operands.a_zero, 0);
    gemm.b = packs + product.slot[batch] * product.pack_size;
    gemm.bias = operands.bias;
    gemm.ldc = plan.c_row;
    return gemm;
}

// fn(first row, end, first panel, end) for parts of the product.
template <class Fn>
void each_part(const Parallel& parallel, const ProductPlan& plan, const Fn& fn) {
    const auto& kernels = kernels::kernels();
    const GemmSplit split =
        split_gemm(parallel.threads, plan.m, plan.n, plan.k, 1, static_cast<int64_t>(kernels.gemm_s8_rows),
                   static_cast<int64_t>(kernels.gemm_s8_cols));
    const int64_t panels = panels_of(plan);
    parallel_for(parallel, split.tasks(), [&](int64_t task) {
        const int64_t row = task / split.panels * split.row_step, panel = task % split.panels * split.panel_step;
        fn(row, std::min(plan.m, row + split.row_step), panel, std::min(panels, panel + split.panel_step));
    });
}

}  // namespace

bool one_pass(const ProductS8& product, const OperandsS8& operands) {
    if (operands.a_zero && operands.a_zero->count() > 1) return false;
    const int32_t middle = product.b_signed ? 0 : 128;
    const int64_t count = operands.b_zero ? operands.b_zero->count() : 1;
    for (int64_t i = 0; i < count; ++i)
        if (zero_at(operands.b_zero, i) != middle) return false;
    return true;
}

void run_product_s8(const ProductS8& product, const RunContext& ctx, const OperandsS8& operands, const ResultS8& result,
                    void* c, std::byte* scratch) {
    const auto& kernels = kernels::kernels();
    const ProductPlan& plan = product.plan;
    if (plan.empty()) return;
    const int8_t* packs = packed_b(product, ctx.parallel(), *operands.b, scratch);
    for (size_t batch = 0; batch < plan.batches(); ++batch) {
        const int64_t offset = plan.c[batch];
        kernels::GemmS8 gemm = gemm_of(product, operands, packs, batch);
        gemm.out = result.out;
        gemm.bytes = result.bytes;
        gemm.scale = result.scale;
        gemm.c = static_cast<std::byte*>(c) + offset * (result.out == kernels::GemmS8::Out::bytes ? 1 : 4);
        EpilogueSteps steps;
        if (result.epilogue) steps = result.epilogue->bind(ctx, nullptr, {offset, plan.c_row, 0, 0});
        gemm.epilogue = steps.view();
        each_part(ctx.parallel(), plan, [&](int64_t row, int64_t row_end, int64_t panel, int64_t panel_end) {
            kernels.gemm_s8(gemm, z(row), z(row_end), z(panel), z(panel_end));
        });
    }
}

void run_product_s8(const ProductS8& product, const Parallel& parallel, const OperandsS8& operands, int32_t* c,
                    std::byte* scratch) {
    const ProductPlan& plan = product.plan;
    if (plan.empty()) return;
    const auto& kernels = kernels::kernels();
    const Tensor* const a_zero = operands.a_zero;
    const int8_t* packs = packed_b(product, parallel, *operands.b, scratch);
    const int32_t shift = product.b_signed ? 0 : 128;
    std::vector<int32_t> zeros;  // of b's columns, after the shift; empty when all are 0
    for (size_t batch = 0; batch < plan.batches(); ++batch) {
        const int64_t slot = product.slot[batch], first_row = plan.c[batch] / plan.n;
        zeros.clear();
        for (int64_t j = 0; j < plan.n; ++j) {
            const int64_t count = operands.b_zero ? operands.b_zero->count() : 1;
            const int32_t zero = zero_at(operands.b_zero, count > plan.n ? slot * plan.n + j : j) - shift;
            if (zero != 0 && zeros.empty()) zeros.assign(z(plan.n), 0);
            if (zero != 0) zeros[z(j)] = zero;
        }
        kernels::GemmS8 gemm = gemm_of(product, operands, packs, batch);
        gemm.c = c + plan.c[batch];
        const bool zero_per_row = a_zero && a_zero->count() > 1;
        each_part(parallel, plan, [&](int64_t row, int64_t row_end, int64_t panel, int64_t panel_end) {
            if (!zero_per_row) return kernels.gemm_s8(gemm, z(row), z(row_end), z(panel), z(panel_end));
            kernels::GemmS8 own = gemm;
            for (int64_t i = row; i < row_end; ++i) {
                own.a_zero = zero_at(a_zero, first_row + i);
                kernels.gemm_s8(own, z(i), z(i + 1), z(panel), z(panel_end));
            }
        });
        if (zeros.empty()) continue;
        parallel_ranges(
            parallel, plan.m, std::max<int64_t>(1, 16384 / (plan.k + plan.n)), [&](int64_t begin, int64_t end) {
                for (int64_t i = begin; i < end; ++i) {
                    const uint8_t* from = static_cast<const uint8_t*>(gemm.a) + i * plan.a_row;
                    uint32_t sum = 0;
                    for (int64_t j = 0; j < plan.k; ++j)
                        sum += static_cast<uint32_t>(product.a_signed ? static_cast<int8_t>(from[j])
                                                                      : static_cast<int>(from[j]));
                    sum -= static_cast<uint32_t>(plan.k) * static_cast<uint32_t>(zero_at(a_zero, first_row + i));
                    int32_t* to = c + plan.c[batch] + i * plan.c_row;
                    for (int64_t j = 0; j < plan.n; ++j)
                        to[j] = static_cast<int32_t>(static_cast<uint32_t>(to[j]) -
                                                     static_cast<uint32_t>(zeros[z(j)]) * sum);
                }
            });
    }
}

}  // namespace linnet
