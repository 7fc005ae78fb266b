// LSTM (1, 7, 14, 22): gates i, o, f, c. Attributes activations [Sigmoid, Tanh, Tanh] per direction with
// activation_alpha and activation_beta, clip, direction "forward", hidden_size, input_forget 0 (f = 1 - i), layout 0.
#include <algorithm>

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

// One image's units in the general form; the gates are overwritten.
void general_cell(const RecurrentStep& step, float* i, float* o, float* f, float* g, float* c, float* h) {
    using kernels::Binary;
    const auto& k = kernels::kernels();
    const int64_t n = step.last - step.first, hidden = step.r.sizes.hidden;
    const size_t size = static_cast<size_t>(n);
    const float* p = step.peepholes ? step.peepholes + step.first : nullptr;
    // h serves as room until the end.
    if (p) add_product(size, p, c, h, i);
    if (p) add_product(size, p + 2 * hidden, c, h, f);
    step.activate(0, n, i);
    if (step.r.flag) {
        k.map_f32(kernels::Unary::neg, size, i, f, 0, 0);
        k.map_f32(kernels::Unary::add_scalar, size, f, f, 1, 0);
    } else {
        step.activate(0, n, f);
    }
    step.activate(1, n, g);
    k.binary_f32(Binary::mul, size, f, 1, c, 1, c);
    add_product(size, i, g, h, c);
    if (p) add_product(size, p + hidden, c, h, o);
    step.activate(0, n, o);
    step.r.activations[static_cast<size_t>(step.direction) * 3 + 2].apply(size, c, h);
    k.binary_f32(Binary::mul, size, h, 1, o, 1, h);
}

void compute_lstm(int, const RecurrentStep& step) {
    const auto& k = kernels::kernels();
    const int64_t hidden = step.r.sizes.hidden, width = 4 * hidden;
    for (int64_t gate = 0; gate < 4; ++gate) step.multiply(gate, step.h, step.gates + gate * hidden, width, true);
    const bool plain = step.r.plain && !step.r.flag && !step.peepholes;
    for (int64_t b = 0; b < step.r.sizes.batch; ++b) {
        if (!step.active(b)) continue;
        float* i = step.gates + b * width + step.first;
        float *o = i + hidden, *f = o + hidden, *g = f + hidden;
        float* c = step.c + b * hidden + step.first;
        float* h = step.h_next + b * hidden + step.first;
        if (plain) k.lstm_cell_f32(static_cast<size_t>(step.last - step.first), i, o, f, g, c, c, h);
        else general_cell(step, i, o, f, g, c, h);
    }
}

constexpr RecurrentCell kCell = {
    .gates = 4,
    .activations = 3,
    .defaults = {"sigmoid", "tanh", "tanh"},
    .flag = "input_forget",
    .has_cell_state = true,
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
    static const OpDef rows[] = {
        {.name = "LSTM",
         .infer = infer_lstm,
         .run = run_lstm,
         .prepare = prepare_lstm,
         .lower = lower_to_f32,
         .min_inputs = 3,
         .max_inputs = 8},
    };
    return rows;
}

}  // namespace linnet
