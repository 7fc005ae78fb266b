// Constant float weights that are mostly zeros: whether to leave the zeros out, and the form that does.
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
    bool blocks = false;
    std::vector<uint32_t> start;
    std::vector<uint16_t> index;
    std::vector<float> values;
    kernels::SparseB view() const { return {blocks, start.data(), index.data(), values.data()}; }
};

struct SparseChoice {
    enum class Form : uint8_t { dense, blocks, columns };
    Form form = Form::dense;
    double zeros = 0, cost = 1;  // share of the weights; time against the dense product's
    explicit operator bool() const { return form != Form::dense; }
    std::string text() const;  // "sparse 4x1 blocks, 80 % zeros, expected at 0.25 of dense"
};

// For the product of m rows with the constant input `input`, of which `layout` (with one tap) says where its elements
// lie. The zeros are counted once a session.
SparseChoice choose_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, int64_t m);
std::shared_ptr<const SparseWeights> pack_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout,
                                                 const SparseChoice& choice);

// Floats of scratch that one call of sparse_f32 needs, a multiple of 64 bytes.
int64_t sparse_scratch(int64_t k);

// `copies` products of m rows with the same weights, in parts that tasks share.
struct SparsePlan {
    std::shared_ptr<const SparseWeights> weights;
    int64_t m = 0, n = 0, k = 0, copies = 1;
    int64_t row_step = 1, row_parts = 1, group_step = 1, group_parts = 1;
    int64_t tasks = 1, tile = 0;  // tile: floats of scratch for each task
    explicit operator bool() const { return weights != nullptr; }
    int64_t parts() const { return copies * row_parts * group_parts; }
    int64_t scratch() const { return tasks * tile; }  // floats
};
SparsePlan plan_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, const SparseChoice& choice,
                       int64_t m, int64_t copies);

// call(copy, begin, run): fills in a, c, their strides and the epilogue of a SparseF32 for the rows from `begin` on of
// one copy, as if they were the first, and gives it to run. b may be the weights in another scale.
template <class Call>
void run_sparse(const SparsePlan& plan, const Parallel& parallel, float* scratch, const Call& call) {
    const kernels::Kernels& table = kernels::kernels();
    parallel_for(parallel, plan.tasks, [&](int64_t task) {
        const int64_t last = plan.parts() * (task + 1) / plan.tasks;
        for (int64_t part = plan.parts() * task / plan.tasks; part < last; ++part) {
            const int64_t group = part % plan.group_parts * plan.group_step;
            const int64_t begin = part / plan.group_parts % plan.row_parts * plan.row_step;
            const auto rows = static_cast<size_t>(std::min(plan.row_step, plan.m - begin));
            call(part / plan.group_parts / plan.row_parts, begin, [&](kernels::SparseF32& product) {
                product.m = rows;
                product.n = static_cast<size_t>(plan.n);
                product.k = static_cast<size_t>(plan.k);
                if (!product.b.start) product.b = plan.weights->view();
                product.scratch = scratch + task * plan.tile;
                table.sparse_f32(product, 0, rows, static_cast<size_t>(group),
                                 static_cast<size_t>(group + plan.group_step));
            });
        }
    });
}

}  // namespace linnet
