// RNN (1, 7, 14, 22): one gate. Attributes activations [Tanh] per direction with activation_alpha and activation_beta,
// clip, direction "forward", hidden_size, layout 0.
#include <algorithm>

#include "ops/shared/recurrent.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void compute_rnn(int, const RecurrentStep& step) {
    const int64_t hidden = step.r.sizes.hidden, n = step.last - step.first;
    step.multiply(0, step.h, step.gates, hidden, true);
    for (int64_t b = 0; b < step.r.sizes.batch; ++b) {
        if (!step.active(b)) continue;
        float* gate = step.gates + b * hidden + step.first;
        step.activate(0, n, gate);
        std::copy_n(gate, n, step.h_next + b * hidden + step.first);
    }
}

constexpr RecurrentCell kCell = {
    .gates = 1,
    .activations = 1,
    .defaults = {"tanh", "", ""},
    .compute = compute_rnn,
};

void infer_rnn(InferContext& ctx) { infer_recurrent(ctx, kCell); }
std::shared_ptr<const void> prepare_rnn(PrepareContext& ctx) { return prepare_recurrent(ctx, kCell); }

void run_rnn(RunContext& ctx) {
    if (has_other_float(ctx)) return run_in_f32(ctx, run_recurrent);
    run_recurrent(ctx);
}

}  // namespace

std::span<const OpDef> rnn_ops() {
    static const OpDef rows[] = {
        {.name = "RNN",
         .infer = infer_rnn,
         .run = run_rnn,
         .prepare = prepare_rnn,
         .lower = lower_to_f32,
         .min_inputs = 3,
         .max_inputs = 6},
    };
    return rows;
}

}  // namespace linnet
