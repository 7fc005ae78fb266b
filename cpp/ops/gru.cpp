// GRU (1, 3, 7, 14, 22): gates z, r, h. Attributes activations [Sigmoid, Tanh] per direction with activation_alpha and
// activation_beta, clip, direction "forward", hidden_size, layout 0, linear_before_reset 0.
#include "ops/shared/recurrent.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

using kernels::Binary;
using Cell = kernels::RecurrentF32::Cell;

// to = activated(r) * x
void reset(const RecurrentBlock& b, float* r, const float* x, float* to) {
    const auto& k = kernels::kernels();
    const size_t n = static_cast<size_t>(b.n);
    if (b.r.plain) return k.gru_reset_f32(n, r, x, to);
    b.activate(0, r);
    k.binary_f32(Binary::mul, n, r, 1, x, 1, to);
}

// h' = (1 - z) g + z h
void update(const RecurrentBlock& b, float* z, float* g) {
    const auto& k = kernels::kernels();
    const size_t n = static_cast<size_t>(b.n);
    if (b.r.plain) return k.gru_update_f32(n, z, g, b.state, b.to);
    b.activate(0, z);
    b.activate(1, g);
    k.binary_f32(Binary::sub, n, b.state, 1, g, 1, b.to);
    k.binary_f32(Binary::mul, n, b.to, 1, z, 1, b.to);
    k.binary_f32(Binary::add, n, b.to, 1, g, 1, b.to);
}

void compute_gru(const RecurrentBlock& b) {
    const auto& k = kernels::kernels();
    const int64_t unit = b.r.sizes.unit, hidden = b.r.sizes.hidden;
    const size_t n = static_cast<size_t>(b.n), all = static_cast<size_t>(b.stage.gates * unit);
    if (b.stage.cell == Cell::gru) {
        float *z = b.s, *r = z + unit, *g = r + unit;
        k.binary_f32(Binary::add, 2 * static_cast<size_t>(unit), z, 1, b.x, 1, z);
        if (b.bias) k.binary_f32(Binary::add, n, g, 1, b.bias + 5 * hidden + b.first, 1, g);
        reset(b, r, g, g);
        k.binary_f32(Binary::add, n, g, 1, b.x + 2 * unit, 1, g);
        update(b, z, g);
        return;
    }
    k.binary_f32(Binary::add, all, b.x, 1, b.s, 1, b.x);
    if (b.stage.cell == Cell::gru_reset) reset(b, b.x + unit, b.state, b.to);
    else update(b, b.z, b.x);
}

std::vector<RecurrentStage> stages_of(bool linear_before_reset) {
    if (linear_before_reset) return {{3, Cell::gru}};
    return {{2, Cell::gru_reset}, {1, Cell::gru_update}};
}

constexpr RecurrentCell kCell = {
    .gates = 3,
    .activations = 2,
    .defaults = {"sigmoid", "tanh", ""},
    .flag = "linear_before_reset",
    .stages = stages_of,
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
    static const OpDef row = {.name = "GRU",
                              .infer = infer_gru,
                              .run = run_gru,
                              .prepare = prepare_gru,
                              .lower = lower_to_f32,
                              .min_inputs = 3,
                              .max_inputs = 6};
    static const OpDef rows[] = {row, narrow_row(row)};
    return rows;
}

}  // namespace linnet
