// LSTM (1, 7, 14, 22): gates i, o, f, c. Attributes activations [Sigmoid, Tanh, Tanh] per direction with
// activation_alpha and activation_beta, clip, direction "forward", hidden_size, input_forget 0 (f = 1 - i), layout 0.
#include "ops/shared/recurrent.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

// y += p * x
void add_product(size_t n, const float* p, const float* x, float* room, float* y) {
    const auto& k = kernels::kernels();
    k.binary_f32(kernels::Binary::mul, n, p, 1, x, 1, room);
    k.binary_f32(kernels::Binary::add, n, y, 1, room, 1, y);
}

void compute_lstm(const RecurrentBlock& b) {
    using kernels::Binary;
    const auto& k = kernels::kernels();
    const int64_t unit = b.r.sizes.unit, hidden = b.r.sizes.hidden;
    const size_t n = static_cast<size_t>(b.n);
    float *i = b.s, *o = i + unit, *f = o + unit, *g = f + unit, *c = b.c, *h = b.to;
    k.binary_f32(Binary::add, static_cast<size_t>(4 * unit), b.s, 1, b.x, 1, b.s);
    const float* p = b.peepholes ? b.peepholes + b.first : nullptr;
    if (b.r.plain && !b.r.flag && !p) return k.lstm_cell_f32(n, i, o, f, g, c, c, h);
    // h serves as room until the end.
    if (p) add_product(n, p, c, h, i);
    if (p) add_product(n, p + 2 * hidden, c, h, f);
    b.activate(0, i);
    if (b.r.flag) {
        k.map_f32(kernels::Unary::neg, n, i, f, 0, 0);
        k.map_f32(kernels::Unary::add_scalar, n, f, f, 1, 0);
    } else {
        b.activate(0, f);
    }
    b.activate(1, g);
    k.binary_f32(Binary::mul, n, f, 1, c, 1, c);
    add_product(n, i, g, h, c);
    if (p) add_product(n, p + hidden, c, h, o);
    b.activate(0, o);
    b.r.activations[static_cast<size_t>(b.direction) * 3 + 2].apply(n, c, h);
    k.binary_f32(Binary::mul, n, h, 1, o, 1, h);
}

constexpr RecurrentCell kCell = {
    .gates = 4,
    .activations = 3,
    .defaults = {"sigmoid", "tanh", "tanh"},
    .flag = "input_forget",
    .has_cell_state = true,
    .stages =
        [](bool) {
            return std::vector<RecurrentStage>{{4, kernels::RecurrentF32::Cell::lstm}};
        },
    .compute = compute_lstm,
};

void infer_lstm(InferContext& ctx) { infer_recurrent(ctx, kCell); }
std::shared_ptr<const void> prepare_lstm(PrepareContext& ctx) { return prepare_recurrent(ctx, kCell); }

void run_lstm(RunContext& ctx) {
    if (has_other_float(ctx)) return run_in_f32(ctx, run_recurrent);
    run_recurrent(ctx);
}

}  // namespace

std::span<const OpDef> lstm_ops() {
    static const OpDef row = {.name = "LSTM",
                              .infer = infer_lstm,
                              .run = run_lstm,
                              .prepare = prepare_lstm,
                              .lower = lower_to_f32,
                              .min_inputs = 3,
                              .max_inputs = 8};
    static const OpDef rows[] = {row, narrow_row(row)};
    return rows;
}

}  // namespace linnet
