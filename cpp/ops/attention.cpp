// Attention (ONNX 23, 24, 25) and the internal Attention that decomposed forms become.
//
// "linnet" Attention: inputs q [..., queries, depth], k [..., keys, depth], v [..., keys, value_depth] with zero to two
// equal leading axes, mask (float32, added), keep (bool; 0: the score becomes `fill`), both broadcast to
// [..., queries, keys]. Attributes scale, fill; perm_q, perm_k, perm_v (applied like a Transpose before; the last axis
// stays), perm_o (applied to the output). A query whose keys are all masked with -inf gives zeros, not NaN.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "ops/shared/attention.h"
#include "ops/shared/product.h"

namespace linnet {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- ONNX ----------------------------------------------------------------------------------------------------------

struct OnnxAttention {
    int64_t q_heads, kv_heads, mode;
    bool causal, three;
    explicit OnnxAttention(const Attributes& attributes, bool three)
        : q_heads(attributes.i("q_num_heads", 0)),
          kv_heads(attributes.i("kv_num_heads", 0)),
          mode(attributes.i("qk_matmul_output_mode", 0)),
          causal(attributes.i("is_causal", 0) != 0),
          three(three) {
        require(mode >= 0 && mode <= 3, "qk_matmul_output_mode is ", mode, ", expected 0 to 3");
        if (three) require(q_heads > 0 && kv_heads > 0, "3-D inputs need q_num_heads and kv_num_heads");
    }
    // [batch, heads, rows, columns] of a 3-D or 4-D operand.
    Shape heads_first(const Shape& shape, int64_t heads, DimTable& dims) const {
        if (!three) return shape;
        const int64_t width = shape[2];
        require(!is_number(width) || width % heads == 0, "a width of ", width, " does not split into ", heads,
                " heads");
        return {shape[0], heads, shape[1], dims.floor_div(width, heads)};
    }
};

void check_equal(int64_t a, int64_t b, const char* what) {
    if (is_number(a) && is_number(b) && a != b) fail(ErrorKind::invalid_argument, what, ": ", a, " against ", b);
}

void infer_attention(InferContext& ctx) {
    const Fact &q = ctx.input(0), &k = ctx.input(1), &v = ctx.input(2);
    const DType d = q.dtype;
    for (int i = 0; i < 3; ++i) {
        const Fact& f = ctx.input(i);
        require(f.dtype == DType::undefined || is_float(f.dtype), "input ", i, " is ", dtype_name(f.dtype),
                ", expected a float type");
        require(!f.ranked || f.rank() == 3 || f.rank() == 4, "input ", i, " has rank ", f.rank(), ", expected 3 or 4");
        require(!f.ranked || !q.ranked || f.rank() == q.rank(), "q has rank ", q.rank(), ", input ", i, " rank ",
                f.rank());
    }
    require(ctx.has_input(4) == ctx.has_input(5), "past_key and past_value must be given together");
    require(!(ctx.has_input(4) && ctx.has_input(6)), "nonpad_kv_seqlen and past_key exclude each other");
    if (!q.ranked || !k.ranked || !v.ranked) {
        for (int i = 0; i < ctx.outputs(); ++i) ctx.output_unranked(i, i == 2 ? v.dtype : d);
        return;
    }
    const OnnxAttention attention(ctx.attributes, q.rank() == 3);
    const Shape sq = attention.heads_first(q.shape, attention.q_heads, ctx.dims);
    const Shape sk = attention.heads_first(k.shape, attention.kv_heads, ctx.dims);
    const Shape sv = attention.heads_first(v.shape, attention.kv_heads, ctx.dims);
    check_equal(sq[0], sk[0], "batches of q and k");
    check_equal(sq[0], sv[0], "batches of q and v");
    check_equal(sk[1], sv[1], "heads of k and v");
    check_equal(sk[2], sv[2], "lengths of k and v");
    check_equal(sq[3], sk[3], "depths of q and k");
    if (is_number(sq[1]) && is_number(sk[1]))
        require(sk[1] > 0 && sq[1] % sk[1] == 0, sq[1], " heads of q are no multiple of ", sk[1], " of k");
    int64_t keys = sk[2];
    if (ctx.has_input(4)) {
        const Fact &pk = ctx.input(4), &pv = ctx.input(5);
        require(pk.dtype == k.dtype && pv.dtype == v.dtype, "past_key is ", dtype_name(pk.dtype), ", k is ",
                dtype_name(k.dtype));
        if (pk.ranked && pv.ranked) {
            require(pk.rank() == 4 && pv.rank() == 4, "past_key has rank ", pk.rank(), ", expected 4");
            for (size_t axis : {0, 1, 3}) {
                check_equal(pk.shape[axis], sk[axis], "past_key and k");
                check_equal(pv.shape[axis], sv[axis], "past_value and v");
            }
            check_equal(pk.shape[2], pv.shape[2], "lengths of past_key and past_value");
            keys = ctx.dims.add(pk.shape[2], keys);
        } else {
            keys = kUnknownDim;
        }
    }
    if (ctx.has_input(6)) {
        const Fact& counts = ctx.input(6);
        require(counts.dtype == DType::i64, "nonpad_kv_seqlen is ", dtype_name(counts.dtype), ", expected int64");
        if (counts.ranked) {
            require(counts.rank() == 1, "nonpad_kv_seqlen has rank ", counts.rank(), ", expected 1");
            check_equal(counts.shape[0], sq[0], "nonpad_kv_seqlen and the batch");
        }
    }
    const Shape scores{sq[0], sq[1], sq[2], keys};
    if (ctx.has_input(3)) {
        const Fact& mask = ctx.input(3);
        require(mask.dtype == DType::boolean || is_float(mask.dtype), "attn_mask is ", dtype_name(mask.dtype),
                ", expected bool or a float type");
        require(!mask.ranked || (mask.rank() >= 1 && mask.rank() <= 4), "attn_mask has rank ", mask.rank());
        if (mask.ranked && is_known(mask.shape) && is_known(scores)) mask_strides(mask.shape, scores, true);
    }
    if (attention.three) ctx.output(0, d, {q.shape[0], q.shape[1], ctx.dims.mul(attention.q_heads, sv[3])});
    else ctx.output(0, d, {sq[0], sq[1], sq[2], sv[3]});
    ctx.output(1, k.dtype, {sk[0], sk[1], keys, sk[3]});
    ctx.output(2, v.dtype, {sv[0], sv[1], keys, sv[3]});
    ctx.output(3, d, scores);
}

HeadStrides head_strides(const Shape& shape, int64_t heads) {
    if (shape.size() == 4) return {shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3]};
    return {shape[1] * shape[2], heads > 0 ? shape[2] / heads : 0, shape[2]};
}

struct AttentionState {
    AttentionPlan plan;
    HeadStrides k_in, v_in;  // of the inputs, when keys and values are gathered first
    int64_t past = 0, new_keys = 0;
    bool gather = false;                    // past and new keys into present (or scratch)
    size_t gathered_k = 0, gathered_v = 0;  // offsets in scratch
};

std::shared_ptr<const void> prepare_onnx(PrepareContext& ctx) {
    auto state = std::make_shared<AttentionState>();
    AttentionPlan& plan = state->plan;
    const Shape &q = ctx.input(0).shape, &k = ctx.input(1).shape, &v = ctx.input(2).shape;
    const OnnxAttention attention(ctx.attributes, q.size() == 3);
    DimTable dims;
    const Shape sq = attention.heads_first(q, attention.q_heads, dims);
    const Shape sk = attention.heads_first(k, attention.kv_heads, dims);
    const Shape sv = attention.heads_first(v, attention.kv_heads, dims);
    plan.batch = sq[0];
    plan.heads = sq[1];
    plan.kv_heads = sk[1];
    plan.queries = sq[2];
    plan.depth = sq[3];
    plan.value_depth = sv[3];
    state->new_keys = sk[2];
    state->past = ctx.has_input(4) ? ctx.input(4).shape[2] : 0;
    plan.keys = checked_add(state->past, state->new_keys);
    plan.q = head_strides(q, plan.heads);
    state->k_in = head_strides(k, plan.kv_heads);
    state->v_in = head_strides(v, plan.kv_heads);
    plan.y = head_strides(ctx.output(0).shape, plan.heads);
    auto wanted = [&](size_t i) { return i < ctx.node.outputs.size() && ctx.node.outputs[i] != kNoValue; };
    state->gather = ctx.has_input(4) || wanted(1) || wanted(2);
    plan.k = state->k_in;
    plan.v = state->v_in;
    if (state->gather) {
        plan.k = head_strides({plan.batch, plan.kv_heads, plan.keys, plan.depth}, 0);
        plan.v = head_strides({plan.batch, plan.kv_heads, plan.keys, plan.value_depth}, 0);
    }
    plan.scale = ctx.attributes.f("scale", plan.depth > 0 ? 1 / std::sqrt(static_cast<float>(plan.depth)) : 1.0f);
    plan.softcap = ctx.attributes.f("softcap", 0);
    plan.causal = attention.causal;
    plan.left = ctx.attributes.i("left_window_size", -1);
    plan.right = ctx.attributes.i("right_window_size", -1);
    require(plan.left >= -1 && plan.right >= -1, "window sizes are -1 or more");
    if (wanted(3))
        plan.scores = static_cast<AttentionPlan::Scores>(static_cast<int>(AttentionPlan::Scores::raw) + attention.mode);
    prepare_attention(plan, ctx.threads);
    const size_t aligned = (plan.scratch + 63) / 64 * 64;
    state->gathered_k = aligned;
    const int64_t k_floats =
        state->gather ? checked_mul(checked_mul(plan.batch, plan.kv_heads), checked_mul(plan.keys, plan.depth)) : 0;
    const int64_t v_floats =
        state->gather ? checked_mul(checked_mul(plan.batch, plan.kv_heads), checked_mul(plan.keys, plan.value_depth))
                      : 0;
    state->gathered_v = aligned + static_cast<size_t>(checked_mul(k_floats + 16, 4) / 64 * 64);
    ctx.scratch(state->gathered_v + static_cast<size_t>(checked_mul(v_floats, 4)));
    return state;
}

// A float32 view or copy of a tensor of any float type.
Tensor as_f32(const Tensor& tensor) {
    if (tensor.dtype == DType::f32) return tensor;
    if (tensor.dtype != DType::f64) return convert_float(tensor, DType::f32);
    Tensor out = Tensor::allocate(DType::f32, tensor.shape);
    std::transform(tensor.as<double>(), tensor.as<double>() + tensor.count(), out.as<float>(),
                   [](double x) { return static_cast<float>(x); });
    return out;
}

void store_f32(const Tensor& from, Tensor& to) {
    if (from.data == to.data) return;
    if (to.dtype == DType::f64) std::copy_n(from.as<float>(), from.count(), to.as<double>());
    else copy_elements(to.dtype == DType::f32 ? from : convert_float(from, to.dtype), to);
}

// past, then the new rows, as [batch, head, key, column].
void gather(const RunContext& ctx, const AttentionState& state, const float* past, const float* fresh,
            const HeadStrides& in, int64_t columns, float* out) {
    const AttentionPlan& plan = state.plan;
    parallel_for(ctx.parallel(), plan.batch * plan.kv_heads, [&](int64_t slot) {
        const int64_t b = slot / plan.kv_heads, h = slot % plan.kv_heads;
        float* to = out + slot * plan.keys * columns;
        if (past) std::copy_n(past + slot * state.past * columns, state.past * columns, to);
        to += state.past * columns;
        for (int64_t j = 0; j < state.new_keys; ++j)
            std::copy_n(fresh + b * in.batch + h * in.head + j * in.row, columns, to + j * columns);
    });
}

void run_onnx(RunContext& ctx) {
    const auto& state = *ctx.state<AttentionState>();
    const AttentionPlan& plan = state.plan;
    const Tensor q = as_f32(ctx.input(0)), k = as_f32(ctx.input(1)), v = as_f32(ctx.input(2));
    AttentionData data;
    data.q = q.as<float>();
    data.k = k.as<float>();
    data.v = v.as<float>();
    data.offset = state.past;
    // Outputs of other types are made in float32 first.
    auto result = [&](int i) {
        Tensor& out = ctx.output(i);
        return out.dtype == DType::f32 ? out : Tensor::allocate(DType::f32, out.shape);
    };
    Tensor y = result(0), present_k, present_v, scores;
    data.y = y.as<float>();
    if (state.gather) {
        if (ctx.has_output(1)) present_k = result(1);
        if (ctx.has_output(2)) present_v = result(2);
        float* keys =
            present_k.defined() ? present_k.as<float>() : reinterpret_cast<float*>(ctx.scratch() + state.gathered_k);
        float* values =
            present_v.defined() ? present_v.as<float>() : reinterpret_cast<float*>(ctx.scratch() + state.gathered_v);
        const Tensor past_k = ctx.has_input(4) ? as_f32(ctx.input(4)) : Tensor{};
        const Tensor past_v = ctx.has_input(5) ? as_f32(ctx.input(5)) : Tensor{};
        gather(ctx, state, past_k.as<float>(), data.k, state.k_in, plan.depth, keys);
        gather(ctx, state, past_v.as<float>(), data.v, state.v_in, plan.value_depth, values);
        data.k = keys;
        data.v = values;
    }
    if (ctx.has_output(3)) {
        scores = result(3);
        data.scores = scores.as<float>();
    }
    Tensor mask;
    if (ctx.has_input(3)) {
        const Tensor& given = ctx.input(3);
        const auto strides = mask_strides(given.shape, {plan.batch, plan.heads, plan.queries, plan.keys}, true);
        if (given.dtype == DType::boolean) {
            data.keep = given.as<uint8_t>();
            data.keep_strides = strides;
            data.fill = -kInfinity;
        } else {
            mask = as_f32(given);
            data.mask = mask.as<float>();
            data.mask_strides = strides;
        }
        if (given.shape.back() < plan.keys) {
            data.mask_keys = given.shape.back();
            if (data.mask_keys == 0) fail(ErrorKind::invalid_argument, "attn_mask is empty");
        }
    }
    if (ctx.has_input(6)) {
        data.key_counts = ctx.input(6).as<int64_t>();
        for (int64_t b = 0; b < plan.batch; ++b)
            if (data.key_counts[b] < 0 || data.key_counts[b] > plan.keys)
                fail(ErrorKind::invalid_argument, "nonpad_kv_seqlen[", b, "] is ", data.key_counts[b],
                     ", expected 0 to ", plan.keys);
    }
    run_attention(plan, data, ctx.parallel(), ctx.scratch());
    store_f32(y, ctx.output(0));
    if (present_k.defined()) store_f32(present_k, ctx.output(1));
    if (present_v.defined()) store_f32(present_v, ctx.output(2));
    if (scores.defined()) store_f32(scores, ctx.output(3));
}

// ---- internal ------------------------------------------------------------------------------------------------------

Shape perm_of(const Attributes& attributes, const char* name, size_t rank) {
    const auto values = attributes.ints(name);
    Shape perm(values.begin(), values.end());
    if (perm.empty())
        for (size_t i = 0; i < rank; ++i) perm.push_back(static_cast<int64_t>(i));
    Shape sorted = perm;
    std::sort(sorted.begin(), sorted.end());
    require(perm.size() == rank && perm.back() == static_cast<int64_t>(rank) - 1, name, " does not fit rank ", rank);
    for (size_t i = 0; i < rank; ++i) require(sorted[i] == static_cast<int64_t>(i), name, " is no permutation");
    return perm;
}

Shape permuted(const Shape& shape, const Shape& perm) {
    Shape out;
    for (int64_t axis : perm) out.push_back(shape[static_cast<size_t>(axis)]);
    return out;
}

void infer_internal(InferContext& ctx) {
    for (int i = 0; i < 3; ++i)
        require(ctx.input(i).dtype == DType::f32 && ctx.input(i).ranked && ctx.input(i).rank() >= 2 &&
                    ctx.input(i).rank() <= 4 && ctx.input(i).rank() == ctx.input(0).rank(),
                "the internal Attention takes float32 of rank 2 to 4");
    const size_t rank = ctx.input(0).shape.size();
    const Shape q = permuted(ctx.input(0).shape, perm_of(ctx.attributes, "perm_q", rank));
    const Shape k = permuted(ctx.input(1).shape, perm_of(ctx.attributes, "perm_k", rank));
    const Shape v = permuted(ctx.input(2).shape, perm_of(ctx.attributes, "perm_v", rank));
    for (size_t i = 0; i + 2 < rank; ++i) {
        check_equal(q[i], k[i], "leading axes of q and k");
        check_equal(q[i], v[i], "leading axes of q and v");
    }
    check_equal(k[rank - 2], v[rank - 2], "lengths of k and v");
    check_equal(q[rank - 1], k[rank - 1], "depths of q and k");
    Shape y = q;
    y.back() = v.back();
    if (ctx.has_input(3)) require(ctx.input(3).dtype == DType::f32, "mask must be float32");
    if (ctx.has_input(4)) require(ctx.input(4).dtype == DType::boolean, "keep must be bool");
    ctx.output(0, DType::f32, permuted(y, perm_of(ctx.attributes, "perm_o", rank)));
}

// [batch, head, row, column] sizes and strides of a permuted operand of rank 2 to 4.
void four(const Shape& shape, const Shape& perm, Shape& sizes, HeadStrides& strides) {
    const Shape own = strides_of(shape);
    sizes = permuted(shape, perm);
    Shape steps = permuted(own, perm);
    while (sizes.size() < 4) {
        sizes.insert(sizes.begin(), 1);
        steps.insert(steps.begin(), 0);
    }
    strides = {steps[0], steps[1], steps[2]};
}

struct InternalState {
    AttentionPlan plan;
    MaskStrides mask{}, keep{};
};

std::shared_ptr<const void> prepare_internal(PrepareContext& ctx) {
    auto state = std::make_shared<InternalState>();
    AttentionPlan& plan = state->plan;
    const size_t rank = ctx.input(0).shape.size();
    Shape q, k, v, y;
    four(ctx.input(0).shape, perm_of(ctx.attributes, "perm_q", rank), q, plan.q);
    four(ctx.input(1).shape, perm_of(ctx.attributes, "perm_k", rank), k, plan.k);
    four(ctx.input(2).shape, perm_of(ctx.attributes, "perm_v", rank), v, plan.v);
    // Output axis i is logical axis perm_o[i]: the inverse leads back.
    const Shape perm_o = perm_of(ctx.attributes, "perm_o", rank);
    Shape inverse(rank);
    for (size_t i = 0; i < rank; ++i) inverse[static_cast<size_t>(perm_o[i])] = static_cast<int64_t>(i);
    four(ctx.output(0).shape, inverse, y, plan.y);
    plan.batch = q[0];
    plan.heads = plan.kv_heads = q[1];
    plan.queries = q[2];
    plan.depth = q[3];
    plan.keys = k[2];
    plan.value_depth = v[3];
    plan.scale = ctx.attributes.f("scale", 1);
    const Shape scores{plan.batch, plan.heads, plan.queries, plan.keys};
    if (ctx.has_input(3)) state->mask = mask_strides(ctx.input(3).shape, scores, false);
    if (ctx.has_input(4)) state->keep = mask_strides(ctx.input(4).shape, scores, false);
    prepare_attention(plan, ctx.threads);
    ctx.scratch(plan.scratch);
    return state;
}

void run_internal(RunContext& ctx) {
    const auto& state = *ctx.state<InternalState>();
    AttentionData data;
    data.q = ctx.input(0).as<float>();
    data.k = ctx.input(1).as<float>();
    data.v = ctx.input(2).as<float>();
    data.y = ctx.output(0).as<float>();
    if (ctx.has_input(3)) data.mask = ctx.input(3).as<float>();
    if (ctx.has_input(4)) data.keep = ctx.input(4).as<uint8_t>();
    data.mask_strides = state.mask;
    data.keep_strides = state.keep;
    data.fill = ctx.attributes.f("fill", -kInfinity);
    run_attention(state.plan, data, ctx.parallel(), ctx.scratch());
}

}  // namespace

std::span<const OpDef> attention_ops() {
    static const OpDef rows[] = {
        {.name = "Attention",
         .since = 23,
         .infer = infer_attention,
         .run = run_onnx,
         .prepare = prepare_onnx,
         .min_inputs = 3,
         .max_inputs = 7},
        {.name = "Attention",
         .domain = "linnet",
         .infer = infer_internal,
         .run = run_internal,
         .prepare = prepare_internal,
         .min_inputs = 3,
         .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
