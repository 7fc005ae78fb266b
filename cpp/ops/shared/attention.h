// Scaled dot-product attention in float32: softmax(q k' scale + mask) v, a tile of queries at a time, so that no matrix
// of all scores exists.
#pragma once
#include <array>
#include <cstdint>
#include <limits>

#include "graph/op.h"

namespace linnet {

// Element strides of a [batch, head, row, column] operand; columns are contiguous.
struct HeadStrides {
    int64_t batch = 0, head = 0, row = 0;
};

// What is known when planned.
struct AttentionPlan {
    int64_t batch = 0, heads = 0, kv_heads = 0;  // heads is a multiple of kv_heads, whose heads are repeated in place
    int64_t queries = 0, keys = 0, depth = 0, value_depth = 0;
    HeadStrides q, k, v, y;
    float scale = 1, softcap = 0;   // softcap 0: none
    bool causal = false;            // key j is seen by query i when j <= i + offset
    int64_t left = -1, right = -1;  // window: i + offset - left <= j <= i + offset + right; -1: unbounded
    enum class Scores { none, raw, capped, masked, softmax } scores = Scores::none;  // a second output

    // Filled by prepare_attention.
    int64_t tile = 0, score_stride = 0, pack_k = 0, pack_v = 0, workers = 0;
    bool shared_packs = false, direct = false;  // direct: keys and values are read where they lie
    size_t scratch = 0;
};

// Strides of a value broadcast to [batch, head, query, key]; the key stride is 0 or 1.
using MaskStrides = std::array<int64_t, 4>;

// What is known when run. Scores are masked by `keep` (0: replaced by `fill`) and then by adding `mask`.
struct AttentionData {
    const float *q = nullptr, *k = nullptr, *v = nullptr;
    float* y = nullptr;
    const float* mask = nullptr;
    const uint8_t* keep = nullptr;
    MaskStrides mask_strides{}, keep_strides{};
    float fill = 0;
    int64_t mask_keys = 0;                // keys at or beyond this are masked (0: none are)
    const int64_t* key_counts = nullptr;  // per batch: keys at or beyond are masked, and offset = count - queries
    int64_t offset = 0;
    const int64_t* offsets = nullptr;  // per batch, in place of the offsets above
    const float* sink = nullptr;       // per head: one more score, of a key whose value is zero
    float* scores = nullptr;           // dense [batch, head, query, key]
    float unseen =
        -std::numeric_limits<float>::infinity();  // what the masked scores show where causality or a window hides
};

void prepare_attention(AttentionPlan& plan, int threads);
// A query that may see no key gives zeros.
void run_attention(const AttentionPlan& plan, const AttentionData& data, const Parallel& parallel, std::byte* scratch);

// Strides of a mask of rank 0..4 against [batch, head, query, key]; the last axis may be shorter than `keys` when
// `short_keys`. Throws invalid_argument when it does not broadcast.
MaskStrides mask_strides(const Shape& mask, const Shape& scores, bool short_keys);

}  // namespace linnet
