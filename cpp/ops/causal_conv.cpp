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
    is_silu(ctx.attributes);
    for (int i = 0; i < 4; ++i)
        if (ctx.has_input(i)) check_dtype(ctx, i, kTypes);
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    for (int i = 1; i < 4; ++i)
        if (ctx.has_input(i)) {
            const DType own = ctx.input(i).dtype;
            require(own == x.dtype || own == DType::undefined || x.dtype == DType::undefined, "input ", i, " is ",
                    dtype_name(own), ", x is ", dtype_name(x.dtype));
        }
    require(!x.ranked || x.rank() == 3, "x has rank ", x.rank(), ", expected 3: [batch, channels, length]");
    require(!w.ranked || w.rank() == 3, "the weights have rank ", w.rank(), ", expected 3: [channels, 1, k]");
    Shape y = x.ranked ? x.shape : unknown_shape(3);
    int64_t kept = kUnknownDim;
    if (w.ranked) {
        y[1] = same_dim(ctx.dims, y[1], w.shape[0], "channels of x and of the weights");
        same_dim(ctx.dims, w.shape[1], 1, "axis 1 of the weights");
        require(!is_number(w.shape[2]) || w.shape[2] > 0, "the weights have no taps");
        kept = ctx.dims.sub(w.shape[2], 1);
    }
    if (ctx.has_input(2) && ctx.input(2).ranked) {
        require(ctx.input(2).rank() == 1, "bias has rank ", ctx.input(2).rank(), ", expected 1");
        y[1] = same_dim(ctx.dims, y[1], ctx.input(2).shape[0], "channels of x and of bias");
    }
    if (ctx.has_input(3) && ctx.input(3).ranked) {
        const Fact& past = ctx.input(3);
        require(past.rank() == 3, "past_state has rank ", past.rank(), ", expected 3: [batch, channels, k - 1]");
        y[0] = same_dim(ctx.dims, y[0], past.shape[0], "batches of x and past_state");
        y[1] = same_dim(ctx.dims, y[1], past.shape[1], "channels of x and past_state");
        kept = same_dim(ctx.dims, kept, past.shape[2], "positions of past_state against k - 1");
    }
    ctx.output(0, x.dtype, y);
    ctx.output(1, x.dtype, {y[0], y[1], kept});
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
    if (length == 1) {  // a step of decoding: too little for calls
        for (int64_t j = 0; j < kept; ++j) {
            const float v = past ? past[j] : 0.0f;
            row[j] = v;
            if (present && j > 0) present[j - 1] = v;
        }
        row[kept] = *x;
        if (present && kept > 0) present[kept - 1] = *x;
        return;
    }
    if (past) std::copy_n(past, kept, row);
    else std::fill_n(row, kept, 0.0f);
    std::copy_n(x, length, row + kept);
    if (present) std::copy_n(row + length, kept, present);
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
        for (int64_t r = first; r < first + rows; ++r)
            fill_row(past ? past + r * kept : nullptr, kept, x.as<float>() + r * length, length,
                     padded + (r - first) * state.width, present ? present + r * kept : nullptr);
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
