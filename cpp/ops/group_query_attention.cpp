// com.microsoft GroupQueryAttention and SparseAttention (1): causal attention of grouped heads over a cache that the
// operator keeps, with rotary embedding.
//
// GroupQueryAttention: query [batch, S, heads * head] (or q, k and v side by side), key, value, past_key, past_value
//   [batch, kv_heads, rows, head], seqlens_k (tokens in the cache after this step, less one), total_sequence_length,
//   cos_cache, sin_cache, position_ids, attention_bias, head_sink, k_scale, v_scale, q_norm_weight, k_norm_weight,
//   query_seqlens -> output, present_key, present_value, output_qk.
// SparseAttention: query, key, value, past_key, past_value, block_row_indices, block_col_indices (rows of blocks in CSR
//   form, one layout for every so many heads), total_sequence_length, key_total_sequence_lengths, cos_cache, sin_cache
//   -> output, present_key, present_value.
//
// Attributes (0 when not said): num_heads, kv_num_heads, scale (1 / sqrt(head)), softcap, local_window_size (-1),
// causal (1), do_rotary, rotary_interleaved, smooth_softmax, qk_output, qk_norm_epsilon (1e-6), k_quant_type,
// v_quant_type ("NONE"), kv_cache_bit_width, sliding_window_cache, sparse_block_size.
//
// Token s of batch b has position past + s, past = 0 when total_sequence_length is S (a prompt, padded on the right),
// else seqlens_k + 1 - (query_seqlens or S). A quantized cache holds int8, or two 4-bit integers with offset 8 a byte.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/shared/attention.h"
#include "ops/shared/cache.h"
#include "ops/shared/facts.h"
#include "ops/shared/product.h"
#include "ops/shared/rotary.h"

namespace linnet {
namespace {

// Where each operator has its inputs; -1: it has none.
struct Ports {
    int lengths, total, cos, positions, bias, sink, scales, norms, fresh, blocks;
};
const Ports& ports(const Node& node) {
    static constexpr Ports kGrouped{5, 6, 7, 9, 10, 11, 12, 14, 16, -1}, kSparse{8, 7, 9, -1, -1, -1, -1, -1, -1, 5};
    return node.op_type == "SparseAttention" ? kSparse : kGrouped;
}

struct Heads {
    int64_t q, kv;
    explicit Heads(const Attributes& attributes)
        : q(attributes.i("num_heads", 0)), kv(attributes.i("kv_num_heads", 0)) {
        require(q > 0 && kv > 0 && q < (1 << 20) && q % kv == 0, "num_heads is ", q, ", kv_num_heads ", kv);
    }
    int64_t parts(bool packed) const { return packed ? q + 2 * kv : q; }
};

bool windowed(const Attributes& attributes) { return attributes.i("sliding_window_cache", 0) != 0; }
bool nibbles(const Attributes& attributes) { return attributes.i("kv_cache_bit_width", 0) == 4; }

void infer(InferContext& ctx) {
    const Ports& at = ports(ctx.node());
    const Fact& q = tensor_input(ctx, 0);
    const Heads heads(ctx.attributes);
    const int64_t window = ctx.attributes.i("local_window_size", -1);
    require(q.dtype == DType::f32 || q.dtype == DType::f16 || q.dtype == DType::bf16, "query is ", dtype_name(q.dtype));
    require(ctx.has_input(1) == ctx.has_input(2), "key and value come together");
    require(ctx.has_input(3) == ctx.has_input(4), "past_key and past_value come together");
    require(window == -1 || window > 0, "local_window_size is ", window);
    require(ctx.attributes.i("causal", 1) != 0 || window == -1, "a window needs causal attention");
    require(!windowed(ctx.attributes) || (window > 0 && ctx.has_input(3)),
            "sliding_window_cache needs local_window_size, past_key and past_value");
    const bool packed = !ctx.has_input(1);
    const DType cache = ctx.has_input(3) ? ctx.input(3).dtype : q.dtype;
    require(cache == q.dtype || (cache == (nibbles(ctx.attributes) ? DType::u8 : DType::i8) && at.scales >= 0 &&
                                 ctx.has_input(at.scales) && ctx.has_input(at.scales + 1)),
            "past_key is ", dtype_name(cache), ", query ", dtype_name(q.dtype),
            ": a quantized cache needs kv_cache_bit_width 8 (int8) or 4 (uint8), k_scale and v_scale");
    for (int i : {at.lengths, at.total, at.fresh, at.blocks, at.blocks < 0 ? -1 : at.blocks + 1})
        if (i >= 0 && ctx.has_input(i))
            require(ctx.input(i).dtype == DType::i32, "input ", i, " is ", dtype_name(ctx.input(i).dtype),
                    ", expected int32");
    if (at.positions >= 0 && ctx.has_input(at.positions))
        require(ctx.input(at.positions).dtype == DType::i64, "position_ids are ",
                dtype_name(ctx.input(at.positions).dtype), ", expected int64");
    for (int i : {1, 2, 4, at.cos, at.cos + 1, at.bias, at.sink, at.norms})
        if (i >= 0 && ctx.has_input(i)) {
            const DType expected = i == 4 ? cache : q.dtype;
            require(ctx.input(i).dtype == expected, "input ", i, " is ", dtype_name(ctx.input(i).dtype), ", expected ",
                    dtype_name(expected));
        }
    if (ctx.attributes.i("do_rotary", 0)) require(ctx.has_input(at.cos) && ctx.has_input(at.cos + 1), "no cos_cache");
    if (at.blocks >= 0) require(ctx.attributes.i("sparse_block_size", 0) > 0, "sparse_block_size must be positive");
    if (!q.ranked) {
        for (int i = 0; i < ctx.outputs(); ++i) ctx.output_unranked(i, i == 1 || i == 2 ? cache : q.dtype);
        return;
    }
    require(q.rank() == 3, "query has rank ", q.rank(), ", expected 3");
    const int64_t parts = heads.parts(packed);
    require(!is_number(q.shape[2]) || q.shape[2] % parts == 0, "a width of ", q.shape[2], " for ", parts, " heads");
    const int64_t head = ctx.dims.floor_div(q.shape[2], parts), batch = q.shape[0], length = q.shape[1];
    for (int i : {1, 2})
        if (ctx.has_input(i) && ctx.input(i).ranked) {
            const Shape expected{batch, length, ctx.dims.mul(heads.kv, head)};
            require(ctx.input(i).rank() == 3, "input ", i, " has rank ", ctx.input(i).rank(), ", expected 3");
            for (size_t a = 0; a < 3; ++a) same_dim(ctx.dims, ctx.input(i).shape[a], expected[a], "key or value");
        }
    const Shape* total = ctx.ints(at.total);
    const int64_t most = total && total->size() == 1 ? (*total)[0] : kUnknownDim;
    int64_t rows = most, columns = head;
    if (ctx.has_input(3)) {
        const Fact& past = ctx.input(3);
        if (past.ranked && ctx.input(4).ranked) {
            require(past.rank() == 4 && ctx.input(4).rank() == 4, "past_key has rank ", past.rank(), ", expected 4");
            columns = nibbles(ctx.attributes) ? ctx.dims.ceil_div(head, 2) : head;
            const Shape expected{batch, heads.kv, past.shape[2], columns};
            for (size_t a = 0; a < 4; ++a)
                for (int i : {3, 4}) same_dim(ctx.dims, ctx.input(i).shape[a], expected[a], "past_key or past_value");
            rows = windowed(ctx.attributes) || at.blocks >= 0 ? past.shape[2] : ctx.dims.max(past.shape[2], most);
        } else {
            rows = columns = kUnknownDim;
        }
    }
    ctx.output(0, q.dtype, {batch, length, ctx.dims.mul(heads.q, head)});
    for (int i : {1, 2}) ctx.output(i, cache, {batch, heads.kv, rows, columns});
    ctx.output(3, q.dtype, {batch, heads.q, length, most});
}

// Rows that a window of `window` in `capacity` rows holds after `total` tokens; it makes room for several at a time.
int64_t resident(int64_t total, int64_t capacity, int64_t window) {
    const int64_t step = capacity - window + 1;
    return total <= capacity ? total : total - step * ((total - capacity + step - 1) / step);
}

struct Step {
    int64_t past, fresh;  // tokens before and new ones, padding included
    int64_t count;        // tokens after
    int64_t held, first;  // rows of the cache before, position of its row 0
};

struct Run {
    RunContext& ctx;
    const Ports& at = ports(ctx.node);
    const Attributes& attributes = ctx.attributes;
    const Heads heads{attributes};
    const Shape& shape = ctx.input(0).shape;
    const bool packed = !ctx.has_input(1), sliding = windowed(attributes), has_past = ctx.has_input(3);
    const int64_t batch = shape[0], length = shape[1], head = shape[2] / heads.parts(packed);
    const int64_t window = attributes.i("local_window_size", -1);
    int64_t total = 0;
    std::vector<Step> steps{};
    Tensor cos{}, sin{}, norms[2]{};

    bool given(int port) const { return port >= 0 && ctx.has_input(port); }
    Tensor real(int port) const {
        if (!given(port)) return {};
        const Tensor& t = ctx.input(port);
        return t.dtype == DType::f32 ? t : convert_float(t, DType::f32);
    }
    Tensor& output(int i, DType dtype, const Shape& sizes) const {
        return ctx.has_output(i) && ctx.output(i).defined() ? ctx.output(i) : ctx.allocate(i, dtype, sizes);
    }

    void misfit(const char* first, const Tensor& a, const char* second, const Tensor& b) const {
        fail(ErrorKind::invalid_argument, first, " is ", shape_text(a.shape), ", ", second, ' ', shape_text(b.shape),
             ": they do not fit ", heads.q, " heads of ", head);
    }
    static void expect(const Tensor& tensor, int64_t count, const char* what) {
        if (tensor.count() != count)
            fail(ErrorKind::invalid_argument, what, ": ", tensor.count(), " elements, expected ", count);
    }

    void read_lengths(int64_t capacity) {
        expect(ctx.input(at.lengths), batch, "lengths");
        if (given(at.fresh)) expect(ctx.input(at.fresh), batch, "query_seqlens");
        const int32_t* fresh = given(at.fresh) ? ctx.input(at.fresh).as<int32_t>() : nullptr;
        if (sliding && capacity < window)
            fail(ErrorKind::invalid_argument, "local_window_size is ", window, ", a cache has rows: ", capacity);
        for (int64_t b = 0; b < batch; ++b) {
            const int64_t count = int64_t{ctx.input(at.lengths).as<int32_t>()[b]} + (at.blocks < 0 ? 1 : 0);
            Step step{0, length, count, 0, 0};
            if (fresh) step.fresh = fresh[b];
            if (fresh || total != length) step.past = count - step.fresh;
            else if (sliding) step.fresh = count;
            step.held = sliding && step.past > 0 ? resident(step.past, capacity, window) : step.past;
            step.first = step.past - step.held;
            const int64_t rows = has_past ? ctx.input(3).shape[2] : 0;
            if (count < 1 || count > total || step.fresh < 0 || step.fresh > length || step.past < 0 ||
                step.held > rows || (!sliding && step.past + step.fresh > capacity))
                fail(ErrorKind::invalid_argument, "batch ", b, ": ", count, " tokens, ", step.fresh,
                     " of them new, total_sequence_length ", total, ", a cache of ", rows, " rows");
            steps.push_back(step);
        }
    }

    // Row s of head h of q (part 0), k or v, normalised and rotated, into `to`.
    void embed(const Tensor& from, int64_t part, int64_t b, int64_t s, int64_t h, float* to) const {
        const int64_t before = !packed || part == 0 ? 0 : part == 1 ? heads.q : heads.q + heads.kv;
        const int64_t width = from.shape[2];
        std::memcpy(to, from.as<float>() + (b * length + s) * width + (before + h) * head,
                    static_cast<size_t>(head) * 4);
        if (part == 2) return;
        if (const Tensor& weight = norms[part]; weight.defined()) {
            float squares = 0;
            for (int64_t i = 0; i < head; ++i) squares += to[i] * to[i];
            const float both = attributes.f("qk_norm_epsilon", 1e-6f);
            const float epsilon = attributes.f(part == 0 ? "q_norm_epsilon" : "k_norm_epsilon", both);
            const float factor = 1 / std::sqrt(squares / static_cast<float>(head) + epsilon);
            for (int64_t i = 0; i < head; ++i) to[i] *= factor * weight.as<float>()[i];
        }
        if (!cos.defined()) return;
        const int64_t half = cos.shape[1];
        int64_t position = steps[static_cast<size_t>(b)].past + s;
        if (given(at.positions)) {  // of a prompt, the first one alone counts
            const auto* ids = ctx.input(at.positions).as<int64_t>();
            position = total == length && !given(at.fresh) ? ids[0] + s : ids[b * length + s];
        }
        if (position < 0 || position >= cos.shape[0])
            fail(ErrorKind::invalid_argument, "position ", position, ", cos_cache has rows: ", cos.shape[0]);
        rotate_pairs(to, half, attributes.i("rotary_interleaved", 0) != 0, cos.as<float>() + position * half,
                     sin.as<float>() + position * half, to);
    }

    // Past rows and new ones.
    void fill(const Cache& cache, const Cache& past, const Tensor& from, int64_t part) const {
        parallel_for(ctx.parallel(), batch * heads.kv, [&](int64_t slot) {
            const int64_t b = slot / heads.kv, rows = cache.tensor.shape[2];
            const Step& step = steps[static_cast<size_t>(b)];
            if (has_past) cache.copy(slot, past, 0, step.held);
            std::memset(cache.row(slot, step.held), 0,
                        static_cast<size_t>(cache.row(slot, rows) - cache.row(slot, step.held)));
            std::vector<float> one(static_cast<size_t>(head));
            for (int64_t s = 0; s < step.fresh; ++s) {
                embed(from, part, b, s, slot % heads.kv, one.data());
                cache.store(slot, step.held + s, one.data());
            }
        });
    }

    // bool [batch, layouts, length, keys]: what the rows of blocks let see.
    Tensor blocks(int64_t keys) const {
        const Tensor &rows = ctx.input(at.blocks), &columns = ctx.input(at.blocks + 1);
        if (rows.rank() != 2 || columns.rank() != 2 || rows.shape[0] != columns.shape[0] || rows.shape[1] < 2 ||
            heads.q % std::max<int64_t>(1, rows.shape[0]) != 0)
            misfit("block_row_indices", rows, "block_col_indices", columns);
        const int64_t size = attributes.i("sparse_block_size", 0);
        Tensor keep = Tensor::allocate(DType::boolean, {batch, heads.q, length, keys});
        std::fill_n(keep.as<uint8_t>(), keep.count(), uint8_t{0});
        for (int64_t i = 0; i < batch * heads.q * length; ++i) {
            const int64_t layout = i / length % heads.q % rows.shape[0];
            const int64_t row = (steps[static_cast<size_t>(i / length / heads.q)].past + i % length) / size;
            if (row + 1 >= rows.shape[1]) continue;  // padding behind the last token
            const int32_t* ends = rows.as<int32_t>() + layout * rows.shape[1] + row;
            if (ends[0] < 0 || ends[0] > ends[1] || ends[1] > columns.shape[1])
                fail(ErrorKind::invalid_argument, "block_row_indices hold ", int64_t{ends[1]},
                     ", block_col_indices has columns: ", columns.shape[1]);
            for (int32_t c = ends[0]; c < ends[1]; ++c) {
                const int64_t first = columns.as<int32_t>()[layout * columns.shape[1] + c] * size;
                for (int64_t j = std::max<int64_t>(0, first); j < std::min(keys, first + size); ++j)
                    keep.as<uint8_t>()[i * keys + j] = 1;
            }
        }
        return keep;
    }

    Cache cache_of(Tensor tensor, const Tensor& scales) const {
        Cache cache{std::move(tensor), head};
        if (!scales.defined()) return cache;
        if (scales.count() != 1) expect(scales, heads.kv * head, "scales of a cache");
        cache.scale = scales.as<float>();
        cache.scale_step = scales.count() == 1 ? 0 : 1;
        return cache;
    }

    // float32 [batch, kv_heads, rows, head]
    Tensor unpacked(const Cache& cache, int64_t rows) const {
        if (cache.plain()) return cache.tensor;
        Tensor out = Tensor::allocate(DType::f32, {batch, heads.kv, rows, head});
        parallel_for(ctx.parallel(), batch * heads.kv, [&](int64_t slot) {
            for (int64_t i = 0; i < rows; ++i) cache.load(slot, i, out.as<float>() + (slot * rows + i) * head);
        });
        return out;
    }

    void check_rotary() const {
        if (!(cos.shape == sin.shape) || cos.rank() != 2 || cos.shape[1] < 1 || cos.shape[1] * 2 > head)
            misfit("cos_cache", cos, "sin_cache", sin);
        if (!given(at.positions)) return;
        const Tensor& positions = ctx.input(at.positions);
        expect(positions, batch * length, "position_ids");
    }

    // attention_bias, its columns moved to where a sliding window has its keys.
    Tensor bias(int64_t keys) const {
        Tensor given_bias = real(at.bias);
        if (!given_bias.defined()) return given_bias;
        const Shape scores{batch, heads.q, length, total};
        const MaskStrides strides = mask_strides(given_bias.shape, scores, false);
        if (!sliding) return given_bias;
        Tensor out = Tensor::allocate(DType::f32, {batch, heads.q, length, keys});
        for (int64_t i = 0; i < batch * heads.q * length; ++i) {
            const int64_t b = i / length / heads.q, first = steps[static_cast<size_t>(b)].first;
            const int64_t row = b * strides[0] + i / length % heads.q * strides[1] + i % length * strides[2];
            for (int64_t j = 0; j < keys; ++j)
                out.as<float>()[i * keys + j] =
                    given_bias.as<float>()[row + std::min(first + j, total - 1) * strides[3]];
        }
        return out;
    }

    void operator()() {
        const DType dtype = ctx.input(0).dtype, cache_type = has_past ? ctx.input(3).dtype : dtype;
        const int64_t rows = has_past ? ctx.input(3).shape[2] : 0;
        expect(ctx.input(at.total), 1, "total_sequence_length");
        total = *ctx.input(at.total).as<int32_t>();
        if (total < 0) fail(ErrorKind::invalid_argument, "total_sequence_length is ", total);
        const int64_t capacity = sliding || at.blocks >= 0 ? rows : std::max(rows, total);
        read_lengths(capacity);
        if (attributes.i("do_rotary", 0)) {
            cos = real(at.cos);
            sin = real(at.cos + 1);
            check_rotary();
        }
        for (int i : {0, 1}) {
            norms[i] = at.norms < 0 ? Tensor{} : real(at.norms + i);
            if (norms[i].defined()) expect(norms[i], head, "norm weights");
        }
        const Shape kept{batch, heads.kv, capacity, nibbles(attributes) && has_past ? (head + 1) / 2 : head};
        Shape staged = kept;
        int64_t keys = std::min(total, capacity);
        if (sliding) {
            keys = 0;
            for (const Step& step : steps) keys = std::max(keys, step.held + step.fresh);
            staged[2] = keys;
        }
        const Tensor q = real(0);
        Tensor work[2], scales[2];
        for (int i : {0, 1}) {
            Tensor& present = output(1 + i, cache_type, kept);
            if (cache_type != dtype) scales[i] = real(at.scales + i);
            const Cache held = cache_of(has_past ? ctx.input(3 + i) : Tensor{}, scales[i]);
            const Cache cache = cache_of(sliding ? Tensor::allocate(cache_type, staged) : present, scales[i]);
            fill(cache, held, packed ? q : real(1 + i), 1 + i);
            work[i] = unpacked(cache, keys);
            if (!sliding) continue;
            const Cache last = cache_of(present, scales[i]);
            for (int64_t slot = 0; slot < batch * heads.kv; ++slot) {
                const Step& step = steps[static_cast<size_t>(slot / heads.kv)];
                const int64_t stay = resident(step.past + step.fresh, capacity, window);
                std::memset(last.row(slot, 0), 0, static_cast<size_t>(last.row(1, 0) - last.row(0, 0)));
                last.copy(slot, cache, step.held + step.fresh - stay, stay);
            }
        }
        attend(q, work[0], work[1], keys);
    }

    void attend(Tensor q, const Tensor& k, const Tensor& v, int64_t keys) {
        AttentionPlan plan;
        AttentionData data;
        Tensor rotated;
        plan.q = {length * q.shape[2], head, q.shape[2]};
        if (cos.defined() || norms[0].defined()) {
            rotated = Tensor::allocate(DType::f32, {batch, length, heads.q, head});
            plan.q = {length * heads.q * head, head, heads.q * head};
            parallel_for(ctx.parallel(), batch * length, [&](int64_t token) {
                const bool padding = token % length >= steps[static_cast<size_t>(token / length)].fresh;
                float* const to = rotated.as<float>() + token * heads.q * head;
                if (padding) std::fill_n(to, heads.q * head, 0.0f);
                for (int64_t h = 0; h < heads.q && !padding; ++h)
                    embed(q, 0, token / length, token % length, h, to + h * head);
            });
            q = rotated;
        }
        plan.batch = batch;
        plan.heads = heads.q;
        plan.kv_heads = heads.kv;
        plan.queries = length;
        plan.keys = keys;
        plan.depth = plan.value_depth = head;
        plan.k = plan.v = {heads.kv * k.shape[2] * head, k.shape[2] * head, head};
        plan.y = {length * heads.q * head, head, heads.q * head};
        plan.scale = attributes.f("scale", 0);
        if (plan.scale == 0.0f) plan.scale = 1 / std::sqrt(static_cast<float>(head));
        plan.softcap = attributes.f("softcap", 0);
        plan.causal = attributes.i("causal", 1) != 0;
        if (window > 0) plan.left = window - 1;
        const DType dtype = ctx.input(0).dtype;
        const auto result = [&](int i, const Shape& sizes) {
            Tensor& out = output(i, dtype, sizes);
            return out.dtype == DType::f32 ? out : Tensor::allocate(DType::f32, out.shape);
        };
        Tensor y = result(0, {batch, length, heads.q * head}), scores;
        const bool wants_scores = ctx.has_output(3);
        if (wants_scores) {
            using Scores = AttentionPlan::Scores;
            plan.scores = attributes.i("qk_output", 0) == 2 ? Scores::softmax : Scores::masked;
            scores = result(3, {batch, heads.q, length, total});
            if (keys != total) fail(ErrorKind::not_implemented, "output_qk of a sliding window");
            data.scores = scores.as<float>();
        }
        std::vector<int64_t> offsets, counts;
        for (const Step& step : steps) {
            offsets.push_back(step.held);
            counts.push_back(step.count - step.first);
        }
        data.q = q.as<float>();
        data.k = k.as<float>();
        data.v = v.as<float>();
        data.y = y.as<float>();
        data.offsets = offsets.data();
        data.key_counts = counts.data();
        data.unseen = 0;
        const Tensor mask = bias(keys), sink = sink_of();
        const Shape all{batch, heads.q, length, keys};
        if (mask.defined()) {
            data.mask = mask.as<float>();
            data.mask_strides = mask_strides(mask.shape, sliding ? all : Shape{batch, heads.q, length, total}, false);
        }
        if (sink.defined()) data.sink = sink.as<float>();
        Tensor keep;
        if (at.blocks >= 0) {
            keep = blocks(keys);
            data.keep = keep.as<uint8_t>();
            data.keep_strides = mask_strides(keep.shape, all, false);
            data.fill = -std::numeric_limits<float>::infinity();
        }
        prepare_attention(plan, ctx.parallel().threads);
        const Tensor scratch = Tensor::allocate(DType::u8, {static_cast<int64_t>(plan.scratch)});
        run_attention(plan, data, ctx.parallel(), static_cast<std::byte*>(scratch.data));
        if (dtype == DType::f32) return;
        copy_elements(convert_float(y, dtype), ctx.output(0));
        if (wants_scores) copy_elements(convert_float(scores, dtype), ctx.output(3));
    }

    Tensor sink_of() const {
        Tensor sink = real(at.sink);
        if (sink.defined()) expect(sink, heads.q, "head_sink");
        if (sink.defined() || attributes.i("smooth_softmax", -1) != 1) return sink;
        sink = Tensor::allocate(DType::f32, {heads.q});
        std::fill_n(sink.as<float>(), heads.q, 0.0f);
        return sink;
    }
};

void run(RunContext& ctx) { Run{.ctx = ctx}(); }

}  // namespace

std::span<const OpDef> group_query_attention_ops() {
    static const OpDef rows[] = {
        {.name = "GroupQueryAttention",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .flags = kOpen,
         .min_inputs = 7,
         .max_inputs = 17,
         .may_omit = 0b11110},
        {.name = "SparseAttention",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .flags = kOpen,
         .min_inputs = 9,
         .max_inputs = 11,
         .may_omit = 0b110},
    };
    return rows;
}

}  // namespace linnet
