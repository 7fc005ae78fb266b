// Constant weights that are mostly zeros: whether to leave the zeros out, and the form that does.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "graph/op.h"
#include "kernels/kernels.h"

namespace linnet {

struct SparseWeights {
    using Form = kernels::SparseB::Form;
    Form form = Form::blocks;
    std::vector<uint32_t> start, index;
    std::vector<float> values;
    std::vector<uint8_t> order;
    std::vector<uint16_t> bits;
    // int8: in the place of index and values, and the sums of the columns.
    std::vector<uint16_t> byte_index;
    std::vector<int8_t> bytes;
    std::vector<int32_t> column_sums;
    kernels::SparseB view() const {
        return {form, start.data(), index.data(), values.data(), order.data(), bits.data()};
    }
    // values, those of each of the k rows times its element of scale.
    void scaled(const float* scale, int64_t k, float* out) const;
};

struct SparseChoice {
    enum class Form : uint8_t { dense, blocks, columns, row_blocks, row_columns, row_bits, bytes };
    Form form = Form::dense;
    double zeros = 0, cost = 1;  // share of the weights; time against the dense product's
    explicit operator bool() const { return form != Form::dense; }
    std::string text() const;  // "sparse 4x1 blocks, 80 % zeros, expected at 0.25 of dense"
};

// For the product of m rows with the constant input `input`, float32 or int8, of which `layout` (with one tap) says
// where its elements lie. The zeros are counted once a session.
SparseChoice choose_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, int64_t m);
std::shared_ptr<const SparseWeights> pack_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout,
                                                 const SparseChoice& choice);

// Words of scratch, of four bytes, that one call of sparse_f32 needs, or of sparse_s8: a multiple of 64 bytes.
int64_t sparse_scratch(int64_t k, SparseChoice::Form form);

// `copies` products of m rows with the same weights, in parts that tasks share.
struct SparsePlan {
    std::shared_ptr<const SparseWeights> weights;
    int64_t m = 0, n = 0, k = 0, copies = 1;
    int64_t row_step = 1, row_parts = 1, group_step = 1, group_parts = 1;
    int64_t tasks = 1, tile = 0;  // tile: words of scratch for each task
    explicit operator bool() const { return weights != nullptr; }
    int64_t parts() const { return copies * row_parts * group_parts; }
    int64_t scratch() const { return tasks * tile; }  // words
};
SparsePlan plan_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, const SparseChoice& choice,
                       int64_t m, int64_t copies);

// What one call of a kernel computes: rows and groups of columns of one copy.
struct SparsePart {
    int64_t copy, begin;
    size_t rows, group_begin, group_end;
    float* scratch;
};

template <class Call>
void run_sparse(const SparsePlan& plan, const Parallel& parallel, float* scratch, const Call& call) {
    parallel_for(parallel, plan.tasks, [&](int64_t task) {
        const int64_t last = plan.parts() * (task + 1) / plan.tasks;
        for (int64_t i = plan.parts() * task / plan.tasks; i < last; ++i) {
            SparsePart part{};
            part.copy = i / plan.group_parts / plan.row_parts;
            part.begin = i / plan.group_parts % plan.row_parts * plan.row_step;
            part.rows = static_cast<size_t>(std::min(plan.row_step, plan.m - part.begin));
            part.group_begin = static_cast<size_t>(i % plan.group_parts * plan.group_step);
            part.group_end = part.group_begin + static_cast<size_t>(plan.group_step);
            part.scratch = scratch + task * plan.tile;
            call(part);
        }
    });
}

// A product whose rows of A, from part.begin on, lie at a, and whose results go to c.
void sparse_product(const SparsePlan& plan, const SparsePart& part, const kernels::SparseB& b, const float* a,
                    int64_t lda, float* c, int64_t ldc, const kernels::Epilogue& epilogue);

}  // namespace linnet
