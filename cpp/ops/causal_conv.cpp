// CausalConvWithState (27): a depthwise convolution over time that sees the past only. x [N, C, L], weights [C, 1, k],
// bias [C]?, past state [N, C, k - 1]? (zeros); attribute activation "none" ("silu", "swish"). Gives y like x, and the
// last k - 1 positions of past state and x.
#include <algorithm>

#include "ops/elementwise.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

constexpr DTypes kTypes = set_of({DType::f32, DType::f16, DType::bf16});
constexpr int64_t kBlockFloats = 8192;  // rows that are filtered together, with their past: stays in L1

bool is_silu(const Attributes& attributes) {
    const std::string name = attributes.s("activation", "none");
    require(name == "none" || name == "silu" || name == "swish", "activation is '", name,
            "', expected 'none', 'silu' or 'swish'");
    return name != "none";
}

void infer_causal_conv(InferContext& ctx) {
    static constexpr struct {
        const char *name, *layout;
        int64_t rank;
    } kInputs[] = {{"x", "[batch, channels, length]", 3},
                   {"the weights", "[channels, 1, k]", 3},
                   {"bias", "[channels]", 1},
                   {"past_state", "[batch, channels, k - 1]", 3}};
    is_silu(ctx.attributes);
    const DType dtype = common_dtype(ctx, 0, 2);
    Shape shapes[4];
    for (int i = 0; i < 4; ++i) {
        const auto& [name, layout, rank] = kInputs[i];
        shapes[i] = unknown_shape(rank);
        if (!ctx.has_input(i)) continue;
        check_dtype(ctx, i, kTypes);
        const Fact& f = ctx.input(i);
        require(f.dtype == dtype || f.dtype == DType::undefined || dtype == DType::undefined, name, " is ",
                dtype_name(f.dtype), ", x is ", dtype_name(dtype));
        if (!f.ranked) continue;
        require(f.rank() == rank, name, " has rank ", f.rank(), ", expected ", layout);
        shapes[i] = f.shape;
    }
    const Shape &x = shapes[0], &w = shapes[1], &past = shapes[3];
    require(!is_number(w[2]) || w[2] > 0, "the weights have no taps");
    same_dim(ctx.dims, w[1], 1, "axis 1 of the weights");
    const int64_t batch = same_dim(ctx.dims, x[0], past[0], "batches of x and past_state");
    int64_t channels = x[1];
    channels = same_dim(ctx.dims, channels, w[0], "channels of x and of the weights");
    channels = same_dim(ctx.dims, channels, shapes[2][0], "channels of x and of bias");
    channels = same_dim(ctx.dims, channels, past[1], "channels of x and past_state");
    const int64_t kept = same_dim(ctx.dims, ctx.dims.sub(w[2], 1), past[2], "positions of past_state against k - 1");
    ctx.output(0, dtype, {batch, channels, x[2]});
    ctx.output(1, dtype, {batch, channels, kept});
}

struct CausalConvState {
    int64_t width = 0, rows = 0, slots = 0;  // positions of a row with its past; rows together
    bool silu = false;
};

std::shared_ptr<const void> prepare_causal_conv(PrepareContext& ctx) {
    const Shape& x = ctx.input(0).shape;
    auto state = std::make_shared<CausalConvState>();
    state->silu = is_silu(ctx.attributes);
    state->width = checked_add(x[2], ctx.input(1).shape[2] - 1);
    state->rows = std::max<int64_t>(1, kBlockFloats / std::max<int64_t>(1, state->width));
    state->slots = std::max<int64_t>(1, std::min<int64_t>(ctx.threads, checked_mul(x[0], x[1])));
    ctx.scratch(static_cast<size_t>(checked_mul(checked_mul(state->slots, state->rows), checked_mul(state->width, 4))));
    return state;
}

// Past and new positions of a row, one behind the other; the last of them are kept.
void fill_row(const float* past, int64_t kept, const float* x, int64_t length, float* row, float* present) {
    if (past) std::copy_n(past, kept, row);
    else std::fill_n(row, kept, 0.0f);
    std::copy_n(x, length, row + kept);
    if (present) std::copy_n(row + length, kept, present);
}

// The same for rows of one new position, a step of decoding: too little for calls.
inline __attribute__((always_inline)) void fill_step(const float* past, int64_t kept, const float* x, int64_t rows,
                                                     float* padded, float* present) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < kept; ++j) {
            const float v = past ? past[r * kept + j] : 0.0f;
            padded[j] = v;
            if (present && j > 0) present[r * kept + j - 1] = v;
        }
        padded[kept] = x[r];
        if (present && kept > 0) present[r * kept + kept - 1] = x[r];
        padded += kept + 1;
    }
}

void run_causal_conv(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_causal_conv);
    const auto& state = *ctx.state<CausalConvState>();
    const Tensor &x = ctx.input(0), &w = ctx.input(1);
    const int64_t channels = x.shape[1], length = x.shape[2], taps = w.shape[2], kept = taps - 1;
    const float* past = ctx.has_input(3) ? ctx.input(3).as<float>() : nullptr;
    float* const y = ctx.output(0).as<float>();
    float* const present = ctx.has_output(1) ? ctx.output(1).as<float>() : nullptr;
    float* const memory = reinterpret_cast<float*>(ctx.scratch());
    const auto& kernels = kernels::kernels();
    const auto block = [&](int64_t first, int64_t rows, float* padded) {
        const float* const before = past ? past + first * kept : nullptr;
        float* const after = present ? present + first * kept : nullptr;
        if (length == 1 && kept == 3) fill_step(before, 3, x.as<float>() + first, rows, padded, after);
        else if (length == 1) fill_step(before, kept, x.as<float>() + first, rows, padded, after);
        else
            for (int64_t r = 0; r < rows; ++r)
                fill_row(before ? before + r * kept : nullptr, kept, x.as<float>() + (first + r) * length, length,
                         padded + r * state.width, after ? after + r * kept : nullptr);
        kernels::FilterF32 filter;
        filter.rows = static_cast<size_t>(rows);
        filter.n = static_cast<size_t>(length);
        filter.taps = static_cast<size_t>(taps);
        filter.x = padded;
        filter.x_stride = state.width;
        filter.w = w.as<float>() + first % channels * taps;
        filter.bias = ctx.has_input(2) ? ctx.input(2).as<float>() + first % channels : nullptr;
        filter.y = y + first * length;
        filter.y_stride = length;
        kernels.filter_f32(filter);
        if (state.silu)
            kernels.map_f32(kernels::Unary::silu, static_cast<size_t>(rows * length), filter.y, filter.y, 0, 0);
    };
    parallel_slots(ctx.parallel(), state.slots, x.shape[0] * channels, row_grain(state.width, 4),
                   [&](int64_t slot, int64_t begin, int64_t end) {
                       while (begin < end) {  // a block stays within one image
                           const int64_t rows = std::min({state.rows, end - begin, channels - begin % channels});
                           block(begin, rows, memory + slot * state.rows * state.width);
                           begin += rows;
                       }
                   });
}

}  // namespace

std::span<const OpDef> causal_conv_ops() {
    static const OpDef rows[] = {
        {.name = "CausalConvWithState",
         .since = 27,
         .infer = infer_causal_conv,
         .run = run_causal_conv,
         .prepare = prepare_causal_conv,
         .lower = lower_widened,
         .min_inputs = 2,
         .max_inputs = 4},
    };
    return rows;
}

}  // namespace linnet
