#include "ops/shared/sparse.h"

#include <algorithm>

#include "base/error.h"
#include "ops/shared/product.h"

namespace linnet {
namespace {

constexpr double kFewZeros = 0.2;     // below this share nothing is gained
constexpr double kWorthwhile = 0.95;  // the estimate is no better than that
constexpr double kCached = 1.5e6;     // bytes
constexpr double kFromMemory = 0.42;
constexpr int64_t kFewRows = 3;  // the kernel takes these one by one

struct Counts {
    int64_t zeros = 0, blocks = 0;  // elements; steps of four columns that are not all zero
    int64_t columns = 0;            // steps when each column has its own
};

float at(const float* b, const kernels::PackB& layout, size_t k, size_t n) {
    return b[static_cast<ptrdiff_t>(k) * layout.k_stride + static_cast<ptrdiff_t>(n) * layout.n_stride];
}

// Dense weights, the usual case, are recognised by some of their elements. An odd step meets every place of a pattern
// that repeats.
bool has_few_zeros(const float* b, const kernels::PackB& layout) {
    const size_t count = layout.k * layout.n, step = count / 4096 | 1;
    size_t seen = 0, zeros = 0;
    for (size_t i = 0; i < count; i += step, ++seen) zeros += at(b, layout, i / layout.n, i % layout.n) == 0;
    return static_cast<double>(zeros) < kFewZeros * 0.5 * static_cast<double>(seen);
}

Counts count_zeros(const float* b, const kernels::PackB& layout) {
    Counts counts;
    if (has_few_zeros(b, layout)) return counts;
    for (size_t n = 0; n < layout.n; n += 4) {
        const size_t cols = std::min<size_t>(4, layout.n - n);
        int64_t values[4] = {}, blocks = 0;
        for (size_t k = 0; k < layout.k; ++k) {
            bool any = false;
            for (size_t c = 0; c < cols; ++c) {
                const bool value = at(b, layout, k, n + c) != 0;
                values[c] += value;
                any = any || value;
            }
            blocks += any;
        }
        for (size_t c = 0; c < cols; ++c) counts.zeros += static_cast<int64_t>(layout.k) - values[c];
        counts.blocks += blocks;
        counts.columns += *std::max_element(values, values + 4);
    }
    return counts;
}

std::string place_text(const kernels::PackB& layout) {
    return cat(layout.k, ' ', layout.n, ' ', layout.k_stride, ' ', layout.n_stride);
}

}  // namespace

std::string SparseChoice::text() const {
    const auto hundredths = static_cast<int>(cost * 100 + 0.5);
    return cat("sparse ", form == Form::blocks ? "4x1 blocks" : "columns", ", ", static_cast<int>(zeros * 100 + 0.5),
               " % zeros, expected at 0.", hundredths / 10, hundredths % 10, " of dense");
}

SparseChoice choose_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, int64_t m) {
    SparseChoice choice;
    if (m == 0 || layout.k == 0 || layout.n == 0 || layout.k > UINT16_MAX) return choice;
    const auto counted = ctx.pack<Counts>(input, cat("zeros ", place_text(layout)), [&](const Tensor& weights) {
        return std::make_shared<const Counts>(count_zeros(weights.as<float>(), layout));
    });
    const double k = static_cast<double>(layout.k), n = static_cast<double>(layout.n);
    choice.zeros = static_cast<double>(counted->zeros) / (k * n);
    if (choice.zeros < kFewZeros) return choice;

    const kernels::Kernels& table = kernels::kernels();
    const kernels::SparseCost& cost = table.sparse_cost;
    const double blocks = 4.0 * static_cast<double>(counted->blocks) / (k * n);
    const double columns = 4.0 * static_cast<double>(counted->columns) / (k * n);
    // Dense weights that are too many for a core's own cache come slower than they are multiplied.
    const double reading = k * n * sizeof(float) > kCached ? kFromMemory : 1;
    double as_blocks = reading * cost.row_block * blocks, as_columns = reading * cost.row_column * columns;
    if (m > kFewRows) {
        const auto lanes = static_cast<int64_t>(table.lanes);
        const double padded = static_cast<double>((m + lanes - 1) / lanes * lanes) / static_cast<double>(m);
        const double transposed = cost.in / n + cost.out / k, dense = 1 + cost.dense / k;
        as_blocks = padded * (cost.block * blocks + transposed) / dense;
        as_columns = padded * (cost.column * columns + transposed) / dense;
    }
    choice.cost = std::min(as_blocks, as_columns);
    if (choice.cost > kWorthwhile) choice.cost = 1;
    else choice.form = as_blocks <= as_columns ? SparseChoice::Form::blocks : SparseChoice::Form::columns;
    return choice;
}

std::shared_ptr<const SparseWeights> pack_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout,
                                                 const SparseChoice& choice) {
    const bool in_blocks = choice.form == SparseChoice::Form::blocks;
    const auto kind = cat("sparse ", in_blocks ? "blocks " : "columns ", place_text(layout));
    return ctx.pack<SparseWeights>(input, kind, [&](const Tensor& weights) {
        auto out = std::make_shared<SparseWeights>();
        out->blocks = in_blocks;
        out->start.push_back(0);
        const auto* b = weights.as<float>();
        std::vector<uint16_t> rows[4];
        for (size_t n = 0; n < layout.n; n += 4) {
            const size_t cols = std::min<size_t>(4, layout.n - n);
            for (auto& r : rows) r.clear();
            for (size_t k = 0; k < layout.k; ++k) {
                bool any = false;
                for (size_t c = 0; c < cols; ++c) {
                    const bool value = at(b, layout, k, n + c) != 0;
                    any = any || value;
                    if (value && !in_blocks) rows[c].push_back(static_cast<uint16_t>(k));
                }
                if (any && in_blocks) rows[0].push_back(static_cast<uint16_t>(k));
            }
            size_t steps = 0;
            for (const auto& r : rows) steps = std::max(steps, r.size());
            for (size_t s = 0; s < steps; ++s)
                for (size_t c = 0; c < 4; ++c) {
                    const auto& r = rows[in_blocks ? 0 : c];
                    const size_t k = s < r.size() ? r[s] : layout.k;
                    if (!in_blocks || c == 0) out->index.push_back(static_cast<uint16_t>(k));
                    out->values.push_back(k < layout.k && c < cols ? at(b, layout, k, n + c) : 0.0f);
                }
            out->start.push_back(static_cast<uint32_t>(out->values.size() / 4));
        }
        out->start.shrink_to_fit();
        out->index.shrink_to_fit();
        out->values.shrink_to_fit();
        return out;
    });
}

SparsePlan plan_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, const SparseChoice& choice,
                       int64_t m, int64_t copies) {
    constexpr int64_t strip = 16;  // groups that a part has at least
    SparsePlan plan;
    plan.weights = pack_sparse(ctx, input, layout, choice);
    plan.m = m;
    plan.n = static_cast<int64_t>(layout.n);
    plan.k = static_cast<int64_t>(layout.k);
    plan.copies = copies;
    const auto depth = std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(layout.k) * choice.cost));
    const GemmSplit split = split_gemm(ctx.threads, m, plan.n, depth, copies,
                                       static_cast<int64_t>(kernels::kernels().sparse_rows), 4 * strip);
    plan.row_step = split.row_step;
    plan.row_parts = split.rows;
    plan.group_step = split.panel_step * strip;
    plan.group_parts = split.panels;
    plan.tasks = std::min<int64_t>(plan.parts(), ctx.threads > 1 ? 4 * ctx.threads : 1);
    plan.tile = sparse_scratch(plan.k);
    return plan;
}

int64_t sparse_scratch(int64_t k) {
    return checked_mul(checked_add(k, 1), static_cast<int64_t>(kernels::kernels().sparse_rows) + 15) / 16 * 16;
}

}  // namespace linnet
