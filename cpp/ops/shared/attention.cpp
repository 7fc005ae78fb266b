// Attention by tiles of queries: packed keys and values of a head stay in the second-level cache, a tile of scores too.
#include "ops/shared/attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "kernels/kernels.h"

namespace linnet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kTileBytes = 96 << 10;

size_t z(int64_t value) { return static_cast<size_t>(value); }

// Everything one call works with.
struct Job {
    const AttentionPlan& plan;
    const AttentionData& data;
    const kernels::Kernels& kernels = kernels::kernels();

    int64_t panels(int64_t columns) const {
        const auto width = static_cast<int64_t>(kernels.gemm_cols);
        return (columns + width - 1) / width;
    }

    void pack(int64_t slot, float* keys, float* values) const {
        const int64_t b = slot / plan.kv_heads, h = slot % plan.kv_heads;
        kernels.pack_b_f32({1, z(plan.depth), z(plan.keys), 0, 1, plan.k.row},
                           data.k + b * plan.k.batch + h * plan.k.head, keys, 0, z(panels(plan.keys)));
        kernels.pack_b_f32({1, z(plan.keys), z(plan.value_depth), 0, plan.v.row, 1},
                           data.v + b * plan.v.batch + h * plan.v.head, values, 0, z(panels(plan.value_depth)));
    }

    // The keys that query i of batch b may see, without regard to masks given as tensors.
    void visible(int64_t b, int64_t i, int64_t& begin, int64_t& end) const {
        const int64_t offset = data.offsets      ? data.offsets[b]
                               : data.key_counts ? data.key_counts[b] - plan.queries
                                                 : data.offset;
        begin = 0;
        end = plan.keys;
        if (data.key_counts) end = std::min(end, data.key_counts[b]);
        if (data.mask_keys) end = std::min(end, data.mask_keys);
        if (plan.causal) end = std::min(end, i + offset + 1);
        if (plan.right >= 0 && plan.right < plan.keys) end = std::min(end, i + offset + plan.right + 1);
        if (plan.left >= 0) begin = std::max(begin, i + offset - plan.left);
        end = std::max<int64_t>(end, 0);
        begin = std::min(begin, end);
    }

    static int64_t place(const MaskStrides& strides, int64_t b, int64_t h, int64_t i) {
        return b * strides[0] + h * strides[1] + i * strides[2];
    }

    // Raw scores of one query to probabilities, in place. `bias` is scratch for one row.
    void finish_row(int64_t b, int64_t h, int64_t i, float* x, float* bias) const {
        int64_t begin = 0, end = 0;
        visible(b, i, begin, end);
        const size_t n = z(end - begin);
        const float* mask = nullptr;
        if (data.mask) {
            mask = data.mask + place(data.mask_strides, b, h, i);
            if (data.mask_strides[3] == 0) {
                std::fill_n(bias, plan.keys, *mask);
                mask = bias;
            }
        }
        using Scores = AttentionPlan::Scores;
        float* scores = data.scores ? data.scores + ((b * plan.heads + h) * plan.queries + i) * plan.keys : nullptr;
        float scale = plan.scale;
        if (plan.softcap != 0.0f || data.keep || data.sink || (scores && plan.scores != Scores::softmax)) {
            const size_t all = z(plan.keys);
            kernels.map_f32(kernels::Unary::mul_scalar, all, x, x, scale, 0);
            scale = 1;
            if (scores && plan.scores == Scores::raw) std::copy_n(x, plan.keys, scores);
            if (plan.softcap != 0.0f) {
                kernels.map_f32(kernels::Unary::mul_scalar, all, x, x, 1 / plan.softcap, 0);
                kernels.map_f32(kernels::Unary::tanh, all, x, x, 0, 0);
                kernels.map_f32(kernels::Unary::mul_scalar, all, x, x, plan.softcap, 0);
            }
            if (scores && plan.scores == Scores::capped) std::copy_n(x, plan.keys, scores);
            if (data.keep) {
                const uint8_t* keep = data.keep + place(data.keep_strides, b, h, i);
                kernels.where(4, n, keep + begin * data.keep_strides[3], z(data.keep_strides[3]), x + begin, 1,
                              &data.fill, 0, x + begin);
            }
            if (scores && plan.scores == Scores::masked) {
                std::fill_n(scores, plan.keys, data.unseen);
                for (int64_t j = begin; j < end; ++j) scores[j] = x[j] + (mask ? mask[j] : 0.0f);
            }
        }
        if (n > 0) {
            // With a mask the kernel turns a row of -inf into zeros.
            if (!mask && data.keep && data.fill == -kInfinity) {
                std::fill_n(bias, plan.keys, 0.0f);
                mask = bias;
            }
            if (data.sink) {  // stands behind the last key: rows are longer than all keys
                x[end] = data.sink[h];
                if (mask) {
                    if (mask != bias) std::copy(mask + begin, mask + end, bias + begin);
                    bias[end] = 0;
                    mask = bias;
                }
            }
            kernels.softmax_f32(n + (data.sink ? 1 : 0), x + begin, scale, mask ? mask + begin : nullptr, x + begin);
        }
        std::fill(x, x + begin, 0.0f);
        std::fill(x + end, x + plan.keys, 0.0f);
        if (scores && plan.scores == Scores::softmax) std::copy_n(x, plan.keys, scores);
    }

    // Queries [first, last) of one head.
    void tile(int64_t b, int64_t h, int64_t first, int64_t last, const float* keys, const float* values,
              float* scratch) const {
        const int64_t rows = last - first;
        float* const scores = scratch;
        float* const bias = scratch + plan.tile * plan.score_stride;
        // Columns that no query of the tile sees are not computed (unless they are an output).
        int64_t seen = plan.keys;
        if (plan.scores == AttentionPlan::Scores::none && plan.softcap == 0.0f && !data.keep) {
            int64_t begin = 0;
            seen = 0;
            for (int64_t i = first; i < last; ++i) {
                int64_t end = 0;
                visible(b, i, begin, end);
                seen = std::max(seen, end);
            }
        }
        kernels::GemmF32 gemm;
        gemm.m = z(rows);
        gemm.n = z(plan.keys);
        gemm.k = z(plan.depth);
        gemm.a = data.q + b * plan.q.batch + h * plan.q.head + first * plan.q.row;
        gemm.lda = plan.q.row;
        gemm.b = keys;
        gemm.c = scores;
        gemm.ldc = plan.score_stride;
        const int64_t kv = h / (plan.heads / plan.kv_heads);
        if (plan.direct) {
            const float* const all_keys = data.k + b * plan.k.batch + kv * plan.k.head;
            for (int64_t i = 0; i < rows; ++i)
                for (int64_t j = 0; j < seen; ++j)
                    scores[i * plan.score_stride + j] =
                        kernels.dot_f32(gemm.k, gemm.a + i * gemm.lda, all_keys + j * plan.k.row);
        } else {
            kernels.gemm_f32(gemm, 0, gemm.m, 0, z(panels(seen)));
        }
        for (int64_t i = 0; i < rows; ++i) finish_row(b, h, first + i, scores + i * plan.score_stride, bias);
        gemm.n = z(plan.value_depth);
        gemm.k = z(plan.keys);
        gemm.a = scores;
        gemm.lda = plan.score_stride;
        gemm.b = values;
        gemm.c = data.y + b * plan.y.batch + h * plan.y.head + first * plan.y.row;
        gemm.ldc = plan.y.row;
        if (!plan.direct) return kernels.gemm_f32(gemm, 0, gemm.m, 0, z(panels(plan.value_depth)));
        const float* const all_values = data.v + b * plan.v.batch + kv * plan.v.head;
        for (int64_t i = 0; i < rows; ++i)
            kernels.weighted_rows_f32(gemm.k, gemm.n, scores + i * plan.score_stride, all_values, plan.v.row,
                                      gemm.c + i * gemm.ldc);
    }
};

}  // namespace

void prepare_attention(AttentionPlan& plan, int threads) {
    const auto& kernels = kernels::kernels();
    const auto rows = static_cast<int64_t>(kernels.gemm_rows);
    const int64_t slots = checked_mul(plan.batch, plan.kv_heads);
    plan.score_stride = (plan.keys + 15) / 16 * 16 + 16;  // not a power of two: rows would share cache sets
    plan.tile = std::max<int64_t>(1, kTileBytes / 4 / plan.score_stride / rows) * rows;
    // Few heads: all are packed first, so that every thread can take tiles of any head.
    plan.shared_packs = threads > 1 && slots < 4 * threads;
    // Packing costs as much as some products with one query.
    constexpr int64_t kFewQueries = 4;
    plan.direct = plan.queries * (plan.heads / std::max<int64_t>(1, plan.kv_heads)) <= kFewQueries;
    plan.shared_packs = plan.shared_packs || plan.direct;
    if (threads > 1) {
        const int64_t parts = std::max<int64_t>(1, 3 * threads / std::max<int64_t>(1, slots));
        plan.tile = std::min(plan.tile, std::max(rows, ((plan.queries + parts - 1) / parts + rows - 1) / rows * rows));
    }
    plan.tile = std::max<int64_t>(1, std::min(plan.tile, plan.queries));
    auto pack = [&](int64_t k, int64_t n) {
        return plan.direct ? 0 : static_cast<int64_t>(kernels.pack_b_f32_size(1, z(k), z(n)) + 15) / 16 * 16;
    };
    plan.pack_k = pack(plan.depth, plan.keys);
    plan.pack_v = pack(plan.keys, plan.value_depth);
    const int64_t packs = checked_add(plan.pack_k, plan.pack_v);
    const int64_t tile = checked_mul(plan.tile + 1, plan.score_stride);
    plan.workers = std::max<int64_t>(1, threads);
    const int64_t floats = plan.shared_packs ? checked_add(checked_mul(slots, packs), checked_mul(plan.workers, tile))
                                             : checked_mul(plan.workers, checked_add(packs, tile));
    plan.scratch = z(checked_mul(floats, 4));
}

void run_attention(const AttentionPlan& plan, const AttentionData& data, const Parallel& parallel, std::byte* scratch) {
    if (plan.batch == 0 || plan.heads == 0 || plan.queries == 0) return;
    const Job job{plan, data};
    const int64_t slots = plan.batch * plan.kv_heads, group = plan.heads / plan.kv_heads;
    const int64_t tiles = (plan.queries + plan.tile - 1) / plan.tile;
    const int64_t packs = plan.pack_k + plan.pack_v, tile_floats = (plan.tile + 1) * plan.score_stride;
    float* const memory = reinterpret_cast<float*>(scratch);
    auto run_tile = [&](int64_t slot, int64_t member, int64_t t, const float* packed, float* work) {
        const int64_t b = slot / plan.kv_heads, h = slot % plan.kv_heads * group + member;
        job.tile(b, h, t * plan.tile, std::min(plan.queries, (t + 1) * plan.tile), packed, packed + plan.pack_k, work);
    };
    // Each worker has its own memory and takes the next task until none is left.
    auto share_out = [&](int64_t tasks, const auto& task) {
        std::atomic<int64_t> next{0};
        parallel_for(parallel, std::min(plan.workers, tasks), [&](int64_t worker) {
            for (int64_t i = next.fetch_add(1); i < tasks; i = next.fetch_add(1)) task(worker, i);
        });
    };
    if (plan.shared_packs) {
        parallel_for(parallel, plan.direct ? 0 : slots,
                     [&](int64_t s) { job.pack(s, memory + s * packs, memory + s * packs + plan.pack_k); });
        share_out(slots * group * tiles, [&](int64_t worker, int64_t i) {
            const int64_t slot = i / (group * tiles);
            run_tile(slot, i / tiles % group, i % tiles, memory + slot * packs,
                     memory + slots * packs + worker * tile_floats);
        });
    } else {
        share_out(slots, [&](int64_t worker, int64_t slot) {
            float* const own = memory + worker * (packs + tile_floats);
            job.pack(slot, own, own + plan.pack_k);
            for (int64_t i = 0; i < group * tiles; ++i) run_tile(slot, i / tiles, i % tiles, own, own + packs);
        });
    }
}

MaskStrides mask_strides(const Shape& mask, const Shape& scores, bool short_keys) {
    MaskStrides strides{};
    const Shape own = strides_of(mask);
    bool fits = mask.size() <= 4 && scores.size() == 4;
    for (size_t i = 0; fits && i < mask.size(); ++i) {
        const size_t axis = mask.size() - 1 - i, to = 3 - i;
        const bool last = i == 0;
        if (mask[axis] == scores[to] || (last && short_keys && mask[axis] < scores[to])) {
            strides[to] = mask[axis] == 1 && !(last && short_keys) ? 0 : own[axis];
        } else {
            fits = mask[axis] == 1;
        }
    }
    if (!fits)
        fail(ErrorKind::invalid_argument, "mask of shape ", shape_text(mask), " does not broadcast to scores of shape ",
             shape_text(scores));
    return strides;
}

}  // namespace linnet
