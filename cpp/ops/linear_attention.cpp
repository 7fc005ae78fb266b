// LinearAttention (27): query [B, T, Hq dk], key [B, T, H dk], value [B, T, H dv], past_state [B, H, dk, dv]? (zeros),
// decay [B, T, H dk or H]?, beta [B, T, H or 1]?; attributes q_num_heads, kv_num_heads, update_rule "gated_delta"
// ("linear", "gated", "delta"), scale 0 (1 / sqrt(dk)), chunk_size (a hint that the result does not depend on). Gives
// [B, T, Hq dv] and the state behind the last token.
//
// The recurrence is walked token by token: a block of a state's columns, which are independent, stays in the L1 cache
// over many tokens, and then costs no more than the matrix products of the form in chunks.
#include <algorithm>
#include <cmath>

#include "ops/elementwise.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

constexpr DTypes kTypes = set_of({DType::f32, DType::f16, DType::bf16});
constexpr int64_t kTokens = 64;  // for which factors of decay are computed at a time

struct Rule {
    bool gated = true, delta = true;
};

Rule rule_of(const InferContext& ctx) {
    const std::string name = ctx.attributes.s("update_rule", "gated_delta");
    const Rule rule{name == "gated" || name == "gated_delta", name == "delta" || name == "gated_delta"};
    require(rule.gated || rule.delta || name == "linear", "update_rule is '", name,
            "', expected 'linear', 'gated', 'delta' or 'gated_delta'");
    const auto check = [&](int i, const char* what, bool wanted) {
        require(ctx.has_input(i) == wanted, "update_rule '", name, wanted ? "' needs " : "' takes no ", what);
    };
    check(4, "decay", rule.gated);
    check(5, "beta", rule.delta);
    return rule;
}

void infer_linear_attention(InferContext& ctx) {
    static constexpr const char* kNames[] = {"query", "key", "value", "past_state", "decay", "beta"};
    rule_of(ctx);
    const int64_t hq = ctx.attributes.i("q_num_heads", 0), h = ctx.attributes.i("kv_num_heads", 0);
    require(hq > 0 && h > 0 && hq % h == 0, "q_num_heads is ", hq, ", kv_num_heads ", h,
            ": both must be given, and the first be a multiple of the second");
    const DType dtype = ctx.input(0).dtype;
    int64_t batch = kUnknownDim, tokens = kUnknownDim;
    for (int i = 0; i < 6; ++i) {
        if (!ctx.has_input(i)) continue;
        check_dtype(ctx, i, kTypes);
        const Fact& f = ctx.input(i);
        require(i == 3 || f.dtype == dtype || f.dtype == DType::undefined || dtype == DType::undefined, kNames[i],
                " is ", dtype_name(f.dtype), ", query is ", dtype_name(dtype));
        if (!f.ranked) continue;
        require(f.rank() == (i == 3 ? 4 : 3), kNames[i], " has rank ", f.rank(), ", expected ", i == 3 ? 4 : 3);
        batch = same_dim(ctx.dims, batch, f.shape[0], kNames[i]);
        if (i != 3) tokens = same_dim(ctx.dims, tokens, f.shape[1], kNames[i]);
    }
    const auto per_head = [&](int i, int64_t heads) {
        const Fact& f = ctx.input(i);
        if (!f.ranked) return kUnknownDim;
        require(!is_number(f.shape[2]) || f.shape[2] % heads == 0, kNames[i], " is ", f.shape[2],
                " wide, which does not split into ", heads, " heads");
        return ctx.dims.floor_div(f.shape[2], heads);
    };
    int64_t dk = same_dim(ctx.dims, per_head(0, hq), per_head(1, h), "depths of query and key"), dv = per_head(2, h);
    if (ctx.has_input(3) && ctx.input(3).ranked) {
        const Shape& past = ctx.input(3).shape;
        same_dim(ctx.dims, past[1], h, "heads of past_state");
        dk = same_dim(ctx.dims, dk, past[2], "depths of past_state and key");
        dv = same_dim(ctx.dims, dv, past[3], "depths of past_state and value");
    }
    const auto check_width = [&](int i, int64_t one, int64_t other) {
        if (!ctx.has_input(i) || !ctx.input(i).ranked) return;
        const int64_t width = ctx.input(i).shape[2];
        if (is_number(width) && is_number(other))
            require(width == one || width == other, kNames[i], " is ", width, " wide, expected ", one, " or ", other);
    };
    check_width(4, h, ctx.dims.mul(h, dk));
    check_width(5, h, 1);
    ctx.output(0, dtype, {batch, tokens, ctx.dims.mul(hq, dv)});
    ctx.output(1, ctx.has_input(3) ? ctx.input(3).dtype : dtype, {batch, h, dk, dv});
}

struct LinearAttentionState {
    int64_t block = 0, blocks = 0;         // columns together, and how many such blocks a state has
    int64_t parts = 1, slots = 0;          // tasks that share the blocks of a state
    int64_t state_floats = 0, floats = 0;  // of a block; of a slot
};

std::shared_ptr<const void> prepare_linear_attention(PrepareContext& ctx) {
    const Shape& state_shape = ctx.output(1).shape;
    const int64_t dk = state_shape[2], dv = state_shape[3];
    auto state = std::make_shared<LinearAttentionState>();
    state->block = static_cast<int64_t>(kernels::kernels().linear_attention_cols);
    state->blocks = (dv + state->block - 1) / state->block;
    const int64_t heads = std::max<int64_t>(1, checked_mul(state_shape[0], state_shape[1]));
    state->parts = std::clamp<int64_t>((ctx.threads + heads - 1) / heads, 1, std::max<int64_t>(1, state->blocks));
    state->slots = std::min<int64_t>(ctx.threads, checked_mul(heads, state->parts));
    const int64_t own = (state->blocks + state->parts - 1) / state->parts;
    state->state_floats = checked_mul(dk, state->block);
    state->floats = checked_add(checked_mul(own, state->state_floats), checked_mul(kTokens, dk));
    state->floats = (state->floats + 15) / 16 * 16;
    ctx.scratch(static_cast<size_t>(checked_mul(checked_mul(state->slots, state->floats), 4)));
    return state;
}

void run_linear_attention(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_linear_attention);
    const auto& plan = *ctx.state<LinearAttentionState>();
    const Tensor &q = ctx.input(0), &k = ctx.input(1), &v = ctx.input(2);
    const int64_t batch = q.shape[0], tokens = q.shape[1];
    const int64_t hq = ctx.attributes.i("q_num_heads", 0), h = ctx.attributes.i("kv_num_heads", 0), group = hq / h;
    const int64_t dk = q.shape[2] / hq, dv = v.shape[2] / h;
    const float* past = ctx.has_input(3) ? ctx.input(3).as<float>() : nullptr;
    float* const present = ctx.has_output(1) ? ctx.output(1).as<float>() : nullptr;
    if (tokens == 0) {
        if (present && past) std::copy_n(past, batch * h * dk * dv, present);
        else if (present) std::fill_n(present, batch * h * dk * dv, 0.0f);
        return;
    }
    const Tensor* decay = ctx.has_input(4) ? &ctx.input(4) : nullptr;
    const Tensor* beta = ctx.has_input(5) ? &ctx.input(5) : nullptr;
    const int64_t factors = decay && decay->shape[2] != h ? dk : 1;  // of a head and token
    float scale = ctx.attributes.f("scale", 0);
    if (scale == 0.0f) scale = 1 / std::sqrt(static_cast<float>(dk));
    const auto& kernels = kernels::kernels();
    const float one = 1;

    // Columns of blocks [first, last) of one head's state.
    const auto walk = [&](int64_t b, int64_t head, int64_t first, int64_t last, float* memory) {
        float* const fade = memory + (last - first) * plan.state_floats;
        const int64_t state_at = (b * h + head) * dk * dv;
        for (int64_t t = 0; t < tokens; t += kTokens) {
            const int64_t count = std::min(kTokens, tokens - t), row = b * tokens + t;
            kernels::LinearAttentionF32 a;
            a.tokens = static_cast<size_t>(count);
            a.keys = static_cast<size_t>(dk);
            a.heads = static_cast<size_t>(group);
            a.q = q.as<float>() + row * hq * dk + head * group * dk;
            a.q_stride = hq * dk;
            a.k = k.as<float>() + row * h * dk + head * dk;
            a.k_stride = h * dk;
            a.v_stride = h * dv;
            a.decay = &one;
            if (decay) {
                const int64_t width = decay->shape[2];
                const float* log = decay->as<float>() + row * width + head * factors;
                for (int64_t i = 0; i < count; ++i) std::copy_n(log + i * width, factors, fade + i * factors);
                kernels.map_f32(kernels::Unary::exp, static_cast<size_t>(count * factors), fade, fade, 0, 0);
                a.decay = fade;
                a.decay_stride = factors;
                a.decay_step = factors > 1 ? 1 : 0;
            }
            if (beta) {
                const int64_t width = beta->shape[2];
                a.beta = beta->as<float>() + row * width + (width > 1 ? head : 0);
                a.beta_stride = width;
            }
            a.y_stride = hq * dv;
            a.y_head = dv;
            a.scale = scale;
            for (int64_t block = first; block < last; ++block) {
                const int64_t column = block * plan.block;
                a.columns = static_cast<size_t>(std::min(plan.block, dv - column));
                a.state = memory + (block - first) * plan.state_floats;
                a.from = t > 0 ? a.state : past ? past + state_at + column : nullptr;
                a.from_stride = t > 0 ? plan.block : dv;
                a.to = present && t + count == tokens ? present + state_at + column : nullptr;
                a.to_stride = dv;
                a.v = v.as<float>() + row * h * dv + head * dv + column;
                a.y = ctx.output(0).as<float>() + row * hq * dv + head * group * dv + column;
                kernels.linear_attention_f32(a);
            }
        }
    };
    float* const memory = reinterpret_cast<float*>(ctx.scratch());
    const int64_t own = (plan.blocks + plan.parts - 1) / plan.parts;
    parallel_slots(ctx.parallel(), plan.slots, batch * h * plan.parts, row_grain(dk * dv / plan.parts, tokens * 4),
                   [&](int64_t slot, int64_t begin, int64_t end) {
                       for (int64_t task = begin; task < end; ++task) {
                           const int64_t head = task / plan.parts, first = task % plan.parts * own;
                           const int64_t last = std::min(plan.blocks, first + own);
                           if (first < last) walk(head / h, head % h, first, last, memory + slot * plan.floats);
                       }
                   });
}

}  // namespace

std::span<const OpDef> linear_attention_ops() {
    static const OpDef rows[] = {
        {.name = "LinearAttention",
         .since = 27,
         .infer = infer_linear_attention,
         .run = run_linear_attention,
         .prepare = prepare_linear_attention,
         .lower = lower_widened,
         .min_inputs = 3,
         .max_inputs = 6},
    };
    return rows;
}

}  // namespace linnet
