// What sparse.h says: counting zeros and blocks, the cost of leaving them out, packing and the split of the work.
#include "ops/shared/sparse.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "ops/shared/product.h"

namespace linnet {
namespace {

constexpr double kFewZeros = 0.2;     // below this share nothing is gained
constexpr double kWorthwhile = 0.95;  // the estimate is no better than that
constexpr int64_t kFewRows = 3;       // the kernel takes these one by one
// Dense weights of so few rows that a core's own cache does not hold come slower than they are multiplied.
constexpr double kCached = 1.5e6;     // bytes
constexpr double kFromMemory = 0.42;  // what sparse then costs against dense, by what it does in the cache
constexpr size_t kStrip = kernels::sparse_strip;

using Form = SparseChoice::Form;

struct Counts {
    int64_t zeros = 0, blocks = 0;  // elements; steps of blocks that are not all zero
    int64_t loose = 0;              // steps when each column of a group has its own
    int64_t columns = 0;            // the same with the columns of a strip sorted by their number
};

template <class T>
T at(const T* b, const kernels::PackB& layout, size_t k, size_t n) {
    return b[static_cast<ptrdiff_t>(k) * layout.k_stride + static_cast<ptrdiff_t>(n) * layout.n_stride];
}

// Rows of a block: for bytes, kernels multiply by four at a time.
template <class T>
constexpr size_t kBlockRows = sizeof(T) == 1 ? 4 : 1;

// Dense weights, the usual case, are recognised by some of their elements. An odd step meets every place of a pattern
// that repeats.
template <class T>
bool has_few_zeros(const T* b, const kernels::PackB& layout) {
    const size_t count = layout.k * layout.n, step = count / 4096 | 1;
    size_t seen = 0, zeros = 0;
    for (size_t i = 0; i < count; i += step, ++seen) zeros += at(b, layout, i / layout.n, i % layout.n) == 0;
    return static_cast<double>(zeros) < kFewZeros * 0.5 * static_cast<double>(seen);
}

template <class T>
Counts count_zeros(const T* b, const kernels::PackB& layout) {
    Counts counts;
    if (has_few_zeros(b, layout)) return counts;
    for (size_t strip = 0; strip < layout.n; strip += kStrip) {
        int64_t values[kStrip] = {};
        for (size_t n = strip; n < std::min(layout.n, strip + kStrip); n += 4) {
            const size_t cols = std::min<size_t>(4, layout.n - n);
            bool any = false;
            for (size_t k = 0; k < layout.k; ++k) {
                if (k % kBlockRows<T> == 0) any = false;
                const bool before = any;
                for (size_t c = 0; c < cols; ++c) {
                    const bool value = at(b, layout, k, n + c) != 0;
                    values[n - strip + c] += value;
                    any = any || value;
                }
                counts.blocks += any && !before;
            }
            for (size_t c = 0; c < cols; ++c) counts.zeros += static_cast<int64_t>(layout.k) - values[n - strip + c];
        }
        for (size_t i = 0; i < kStrip; i += 4) counts.loose += *std::max_element(values + i, values + i + 4);
        std::sort(values, values + kStrip);
        for (size_t i = 3; i < kStrip; i += 4) counts.columns += values[i];
    }
    return counts;
}

// Steps of one k, or of four, for the four columns of a group.
template <class T>
void pack_blocks(const T* b, const kernels::PackB& layout, size_t unit, std::vector<T>& values, auto& index,
                 SparseWeights& out) {
    constexpr size_t rows = kBlockRows<T>;
    for (size_t n = 0; n < layout.n; n += 4) {
        const size_t cols = std::min<size_t>(4, layout.n - n);
        for (size_t k = 0; k < layout.k; k += rows) {
            T block[4 * rows] = {};
            bool any = false;
            for (size_t c = 0; c < cols; ++c)
                for (size_t i = 0; i < std::min(rows, layout.k - k); ++i) {
                    block[c * rows + i] = at(b, layout, k + i, n + c);
                    any = any || block[c * rows + i] != 0;
                }
            if (!any) continue;
            index.push_back(static_cast<typename std::decay_t<decltype(index)>::value_type>(k / rows * unit));
            values.insert(values.end(), block, block + 4 * rows);
        }
        out.start.push_back(static_cast<uint32_t>(index.size()));
    }
}

// Where tiles allow it, the columns of a strip are sorted by how many values they have: groups then have little to
// fill.
void pack_columns(const float* b, const kernels::PackB& layout, size_t unit, bool sorted, SparseWeights& out) {
    for (size_t strip = 0; strip < layout.n; strip += kStrip) {
        const size_t cols = (std::min(kStrip, layout.n - strip) + 3) / 4 * 4;
        std::vector<size_t> rows[kStrip];
        for (size_t c = 0; c < cols && strip + c < layout.n; ++c)
            for (size_t k = 0; k < layout.k; ++k)
                if (at(b, layout, k, strip + c) != 0) rows[c].push_back(k);
        uint8_t order[kStrip];
        std::iota(order, order + cols, uint8_t{0});
        const auto fewer = [&](size_t x, size_t y) { return rows[x].size() < rows[y].size(); };
        if (sorted) std::stable_sort(order, order + cols, fewer);
        for (size_t g = 0; g < cols; g += 4) {
            const size_t steps = rows[*std::max_element(order + g, order + g + 4, fewer)].size();
            for (size_t s = 0; s < steps; ++s)
                for (size_t c = g; c < g + 4; ++c) {
                    const auto& from = rows[order[c]];
                    const bool there = s < from.size();
                    out.index.push_back(static_cast<uint32_t>((there ? from[s] : layout.k) * unit));
                    out.values.push_back(there ? at(b, layout, from[s], strip + order[c]) : 0.0f);
                }
            out.order.insert(out.order.end(), order + g, order + g + 4);
            out.start.push_back(static_cast<uint32_t>(out.values.size() / 4));
        }
    }
}

void pack_bits(const float* b, const kernels::PackB& layout, SparseWeights& out) {
    for (size_t strip = 0; strip < layout.n; strip += kStrip) {
        for (size_t k = 0; k < layout.k; ++k) {
            uint32_t bits = 0;
            for (size_t c = 0; c < kStrip && strip + c < layout.n; ++c) {
                const float value = at(b, layout, k, strip + c);
                if (value == 0) continue;
                bits |= 1u << c;
                out.values.push_back(value);
            }
            out.bits.push_back(static_cast<uint16_t>(bits));
        }
        out.start.push_back(static_cast<uint32_t>(out.values.size()));
    }
    out.values.resize(out.values.size() + kStrip);  // kernels read that far
}

std::string place_text(const kernels::PackB& layout) {
    return cat(layout.k, ' ', layout.n, ' ', layout.k_stride, ' ', layout.n_stride);
}

}  // namespace

void SparseWeights::scaled(const float* scale, int64_t k, float* out) const {
    const auto depth = static_cast<size_t>(k);
    if (form == Form::row_bits) {
        size_t i = 0;
        for (size_t step = 0; step < bits.size(); ++step)
            for (uint32_t left = bits[step]; left != 0; left &= left - 1, ++i) out[i] = values[i] * scale[step % depth];
        std::fill(out + i, out + values.size(), 0.0f);
        return;
    }
    const bool few = form == Form::row_blocks || form == Form::row_columns;
    const bool columns = form == Form::columns || form == Form::row_columns;
    const size_t unit = few ? 1 : kernels::kernels().sparse_rows;
    for (size_t i = 0; i < values.size(); ++i) {
        const size_t from = index[columns ? i : i / 4] / unit;
        out[i] = from < depth ? values[i] * scale[from] : 0.0f;
    }
}

std::string SparseChoice::text() const {
    const char* const forms[] = {"", "4x1 blocks", "columns", "4x1 blocks", "columns", "bits", "int8 4x4 blocks"};
    const auto hundredths = static_cast<int>(cost * 100 + 0.5);
    return cat("sparse ", forms[static_cast<int>(form)], ", ", static_cast<int>(zeros * 100 + 0.5),
               " % zeros, expected at 0.", hundredths / 10, hundredths % 10, " of dense");
}

SparseChoice choose_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout, int64_t m) {
    SparseChoice choice;
    const bool bytes = ctx.input(input).dtype == DType::i8;
    if (m == 0 || layout.k == 0 || layout.n == 0 || layout.k > UINT16_MAX || (bytes && m <= kFewRows)) return choice;
    const auto counted = ctx.pack<Counts>(input, cat("zeros ", place_text(layout)), [&](const Tensor& weights) {
        return std::make_shared<const Counts>(bytes ? count_zeros(weights.as<int8_t>(), layout)
                                                    : count_zeros(weights.as<float>(), layout));
    });
    const double k = static_cast<double>(layout.k), n = static_cast<double>(layout.n);
    choice.zeros = static_cast<double>(counted->zeros) / (k * n);
    if (choice.zeros < kFewZeros) return choice;

    const kernels::Kernels& table = kernels::kernels();
    const auto lanes = static_cast<int64_t>(table.lanes);
    const double padded = static_cast<double>((m + lanes - 1) / lanes * lanes) / static_cast<double>(m);
    const auto consider = [&](Form form, double cost) {
        if (cost > kWorthwhile || cost >= choice.cost) return;
        choice.cost = cost;
        choice.form = form;
    };
    if (bytes) {
        const kernels::SparseS8Cost& cost = table.sparse_s8_cost;
        const double groups = (k + 3) / 4, blocks = 4.0 * static_cast<double>(counted->blocks) / (groups * n);
        consider(Form::bytes,
                 padded * (cost.block * blocks + cost.in / n + cost.out / groups) / (1 + cost.dense / groups));
        return choice;
    }
    const kernels::SparseCost& cost = table.sparse_cost;
    const double blocks = 4.0 * static_cast<double>(counted->blocks) / (k * n);
    const double columns = 4.0 * static_cast<double>(counted->columns) / (k * n);
    if (m <= kFewRows) {
        const double loose = 4.0 * static_cast<double>(counted->loose) / (k * n);
        const double reading = k * n * sizeof(float) > kCached ? kFromMemory : 1;
        consider(Form::row_blocks, reading * cost.row_block * blocks);
        consider(Form::row_columns, reading * cost.row_column * loose);
        consider(Form::row_bits, reading * cost.row_bits);
        return choice;
    }
    const double transposed = cost.in / n + cost.out / k, dense = 1 + cost.dense / k;
    consider(Form::blocks, padded * (cost.block * blocks + transposed) / dense);
    consider(Form::columns, padded * (cost.column * columns + transposed) / dense);
    return choice;
}

std::shared_ptr<const SparseWeights> pack_sparse(PrepareContext& ctx, int input, const kernels::PackB& layout,
                                                 const SparseChoice& choice) {
    const auto kind = cat("sparse ", static_cast<int>(choice.form), ' ', place_text(layout));
    return ctx.pack<SparseWeights>(input, kind, [&](const Tensor& weights) {
        auto out = std::make_shared<SparseWeights>();
        out->start.push_back(0);
        const size_t rows = kernels::kernels().sparse_rows;
        if (choice.form == Form::bytes) {
            pack_blocks(weights.as<int8_t>(), layout, 1, out->bytes, out->byte_index, *out);
            out->column_sums.resize(layout.n);
            for (size_t n = 0; n < layout.n; ++n)
                for (size_t k = 0; k < layout.k; ++k) out->column_sums[n] += at(weights.as<int8_t>(), layout, k, n);
        } else if (choice.form == Form::columns || choice.form == Form::row_columns) {
            const bool few = choice.form == Form::row_columns;
            out->form = few ? SparseWeights::Form::row_columns : SparseWeights::Form::columns;
            pack_columns(weights.as<float>(), layout, few ? 1 : rows, !few, *out);
        } else if (choice.form == Form::row_bits) {
            out->form = SparseWeights::Form::row_bits;
            pack_bits(weights.as<float>(), layout, *out);
        } else {
            const bool few = choice.form == Form::row_blocks;
            out->form = few ? SparseWeights::Form::row_blocks : SparseWeights::Form::blocks;
            pack_blocks(weights.as<float>(), layout, few ? 1 : rows, out->values, out->index, *out);
        }
        out->index.shrink_to_fit();
        out->byte_index.shrink_to_fit();
        out->values.shrink_to_fit();
        out->bytes.shrink_to_fit();
        return out;
    });
}

int64_t sparse_scratch(int64_t k, Form form) {
    if (form == Form::row_blocks || form == Form::row_bits) return 0;
    const kernels::Kernels& table = kernels::kernels();
    const int64_t columns = form == Form::bytes ? (k + 3) / 4 : checked_add(k, 1);
    const size_t rows = form == Form::bytes ? table.sparse_s8_rows : table.sparse_rows;
    return (checked_mul(columns, static_cast<int64_t>(rows)) + 15) / 16 * 16;
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
    const kernels::Kernels& table = kernels::kernels();
    const size_t rows = choice.form == Form::bytes ? table.sparse_s8_rows : table.sparse_rows;
    const GemmSplit split = split_gemm(ctx.threads, m, plan.n, depth, copies, static_cast<int64_t>(rows), 4 * strip);
    plan.row_step = split.row_step;
    plan.row_parts = split.rows;
    plan.group_step = split.panel_step * strip;
    plan.group_parts = split.panels;
    plan.tasks = std::min<int64_t>(plan.parts(), ctx.threads > 1 ? 4 * ctx.threads : 1);
    plan.tile = sparse_scratch(plan.k, choice.form);
    return plan;
}

void sparse_product(const SparsePlan& plan, const SparsePart& part, const kernels::SparseB& b, const float* a,
                    int64_t lda, float* c, int64_t ldc, const kernels::Epilogue& epilogue) {
    const kernels::SparseF32 call{
        part.rows, static_cast<size_t>(plan.n), static_cast<size_t>(plan.k), a, lda, b, c, ldc, epilogue, part.scratch};
    kernels::kernels().sparse_f32(call, 0, part.rows, part.group_begin, part.group_end);
}

}  // namespace linnet
