// GRU (1, 3, 7, 14, 22): gates z, r, h. Attributes activations [Sigmoid, Tanh] per direction with activation_alpha and
// activation_beta, clip, direction "forward", hidden_size, layout 0, linear_before_reset 0.
#include <algorithm>

#include "ops/shared/recurrent.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

using kernels::Binary;

struct Places {
    float *z, *r, *g;
    const float* h;
    float *h_next, *room;
    size_t n;
};

Places places(const RecurrentStep& step, int64_t b) {
    const int64_t hidden = step.r.sizes.hidden, own = b * hidden + step.first;
    float* z = step.gates + b * 3 * hidden + step.first;
    return {z,
            z + hidden,
            z + 2 * hidden,
            step.h + own,
            step.h_next + own,
            step.c + own,
            static_cast<size_t>(step.last - step.first)};
}

// room = activated(r) * x
void reset(const RecurrentStep& step, const Places& p, const float* x) {
    const auto& k = kernels::kernels();
    if (step.r.plain) return k.gru_reset_f32(p.n, p.r, x, p.room);
    step.activate(0, static_cast<int64_t>(p.n), p.r);
    k.binary_f32(Binary::mul, p.n, p.r, 1, x, 1, p.room);
}

// h' = (1 - z) g + z h
void update(const RecurrentStep& step, const Places& p) {
    const auto& k = kernels::kernels();
    if (step.r.plain) return k.gru_update_f32(p.n, p.z, p.g, p.h, p.h_next);
    step.activate(0, static_cast<int64_t>(p.n), p.z);
    step.activate(1, static_cast<int64_t>(p.n), p.g);
    k.binary_f32(Binary::sub, p.n, p.h, 1, p.g, 1, p.h_next);
    k.binary_f32(Binary::mul, p.n, p.h_next, 1, p.z, 1, p.h_next);
    k.binary_f32(Binary::add, p.n, p.h_next, 1, p.g, 1, p.h_next);
}

void compute_gru(int stage, const RecurrentStep& step) {
    const auto& k = kernels::kernels();
    const int64_t hidden = step.r.sizes.hidden, width = 3 * hidden, batch = step.r.sizes.batch;
    const bool linear = step.r.flag;
    if (stage == 0) {
        step.multiply(0, step.h, step.gates, width, true);
        step.multiply(1, step.h, step.gates + hidden, width, true);
        if (linear) step.multiply(2, step.h, step.c, hidden, false, step.bias ? step.bias + 5 * hidden : nullptr);
        for (int64_t b = 0; b < batch; ++b) {
            const Places p = places(step, b);
            reset(step, p, linear ? p.room : p.h);
            if (linear) k.binary_f32(Binary::add, p.n, p.g, 1, p.room, 1, p.g);
        }
    } else if (!linear) {
        // All units of the reset state are there now.
        step.multiply(2, step.c, step.gates + 2 * hidden, width, true);
    }
    if (stage == 0) return;
    for (int64_t b = 0; b < batch; ++b)
        if (step.active(b)) update(step, places(step, b));
}

constexpr RecurrentCell kCell = {
    .gates = 3,
    .activations = 2,
    .defaults = {"sigmoid", "tanh", ""},
    .flag = "linear_before_reset",
    .stages = 2,
    .compute = compute_gru,
};

void infer_gru(InferContext& ctx) { infer_recurrent(ctx, kCell); }
std::shared_ptr<const void> prepare_gru(PrepareContext& ctx) { return prepare_recurrent(ctx, kCell); }

void run_gru(RunContext& ctx) {
    if (has_other_float(ctx)) return run_in_f32(ctx, run_recurrent);
    run_recurrent(ctx);
}

}  // namespace

std::span<const OpDef> gru_ops() {
    static const OpDef rows[] = {
        {.name = "GRU",
         .infer = infer_gru,
         .run = run_gru,
         .prepare = prepare_gru,
         .lower = lower_to_f32,
         .min_inputs = 3,
         .max_inputs = 6},
    };
    return rows;
}

}  // namespace linnet
