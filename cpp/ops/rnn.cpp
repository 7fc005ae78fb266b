// RNN (1, 7, 14, 22): one gate. Attributes activations [Tanh] per direction with activation_alpha and activation_beta,
// clip, direction "forward", hidden_size, layout 0.
#include "ops/shared/recurrent.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void compute_rnn(const RecurrentBlock& b) {
    const size_t n = static_cast<size_t>(b.n);
    kernels::kernels().binary_f32(kernels::Binary::add, n, b.s, 1, b.x, 1, b.to);
    b.activate(0, b.to);
}

constexpr RecurrentCell kCell = {
    .gates = 1,
    .activations = 1,
    .defaults = {"tanh", "", ""},
    .stages =
        [](bool) {
            return std::vector<RecurrentStage>{{1, kernels::RecurrentF32::Cell::rnn}};
        },
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
    static const OpDef row = {.name = "RNN",
                              .infer = infer_rnn,
                              .run = run_rnn,
                              .prepare = prepare_rnn,
                              .lower = lower_to_f32,
                              .min_inputs = 3,
                              .max_inputs = 6};
    static const OpDef rows[] = {row, narrow_row(row)};
    return rows;
}

}  // namespace linnet
