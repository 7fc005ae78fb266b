// What RNN, GRU and LSTM share: operands, activations, and the walk over the steps.
//
// Each direction: the inputs of all steps times W in one product, then step by step the previous state times R. Units
// come in blocks as wide as a panel of the GEMM, and columns lie [block][gate][unit]: a block has all its gates side by
// side, so that threads share a step by blocks. Odd steps walk the blocks backward: what the cache still holds of R
// from the step before is read first.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/op.h"
#include "kernels/kernels.h"

namespace linnet {

struct Activation {
    enum class Form : uint8_t { unary, affine, scaled_tanh };
    Form form = Form::unary;
    kernels::Unary fn = kernels::Unary::sigmoid;
    float alpha = 0, beta = 0;
    void apply(size_t n, const float* x, float* y) const;
    bool is(kernels::Unary other) const { return form == Form::unary && fn == other; }
};

// One of the products of a step: these many gates, multiplied by the same state.
struct RecurrentStage {
    int64_t gates = 1;
    kernels::RecurrentF32::Cell cell = kernels::RecurrentF32::Cell::rnn;
    int64_t column = 0;  // where its columns begin
    int64_t byte = 0;    // and its weights of 8 bits; their scales follow behind scale bytes
    int64_t scale = 0;
};

struct RecurrentCell;

struct RecurrentSizes {
    int64_t steps = 0, batch = 0, input = 0, hidden = 0, directions = 1, gates = 1;
    bool batch_first = false;      // layout 1
    int64_t unit = 1, blocks = 0;  // units in a block, blocks of the hidden state
    int64_t columns() const { return blocks * unit * gates; }
};

struct Recurrent {
    RecurrentSizes sizes;
    const RecurrentCell* cell = nullptr;
    std::vector<RecurrentStage> stages;
    std::vector<Activation> activations;  // per direction, in the order of the specification
    bool first_reversed = false;          // the only direction runs backwards
    float clip = 0;                       // 0: none
    bool flag = false;                    // linear_before_reset, or input_forget
    bool plain = false;                   // default activations and no clip: the row kernels compute the cell
    bool fused = false;                   // product and cell of a step in one kernel
    bool narrow = false;                  // fused, with R in 8 bits
    int64_t splits = 1;                   // parts of a step
    std::vector<std::shared_ptr<const Tensor>> packed_w, packed_r;  // per direction; empty: packed by run()
    int64_t w_size = 0, r_size = 0;                                 // floats of packed W and R
    bool reversed(int64_t direction) const { return first_reversed || direction == 1; }
};

// One block of one image in one stage of a step. Gate g of the stage is at x + g * unit and s + g * unit.
struct RecurrentBlock {
    const Recurrent& r;
    const RecurrentStage& stage;
    int64_t direction = 0;
    int64_t first = 0, n = 0;          // units
    float* x = nullptr;                // what the inputs add, with the biases
    float* s = nullptr;                // the product
    float* z = nullptr;                // x of stage 0
    const float* bias = nullptr;       // of the direction as in the model: [2 * gates * hidden], or null
    const float* peepholes = nullptr;  // [3 * hidden], LSTM only, or null
    const float* state = nullptr;      // these units before the step
    float* to = nullptr;               // and behind the stage
    float* c = nullptr;                // LSTM's cell state
    // Clips (where asked for) and activates n values in place.
    void activate(size_t which, float* values) const;
};

struct RecurrentCell {
    int64_t gates = 1;
    size_t activations = 1;  // per direction
    const char* defaults[3] = {"", "", ""};
    const char* flag = nullptr;   // the attribute behind Recurrent::flag
    bool has_cell_state = false;  // LSTM: initial_c, P, Y_c
    std::vector<RecurrentStage> (*stages)(bool flag) = nullptr;
    void (*compute)(const RecurrentBlock& block) = nullptr;  // any activations, clip, peepholes
};

// R may be int8, a constant, with a scale for each of its rows as input kRecurrentScale [directions, gates * hidden]:
// the internal operators LSTM, GRU and RNN. R then stays so where a step is fused.
constexpr int kRecurrentScale = 8;
struct NarrowRecurrent {
    Tensor r, scale;
};
// R [directions, gates * hidden, hidden], or with the last two axes `swapped`, and its scales (one, one per direction
// if `per_direction`, per row, or per direction and row) in that form; nothing if a zero point is other than the
// middle.
std::optional<NarrowRecurrent> narrow_recurrent(const Tensor& r, const Tensor& scale, const Tensor* zero, bool swapped,
                                                bool per_direction);
// The row of the internal operator for ONNX's.
OpDef narrow_row(const OpDef& row);

void infer_recurrent(InferContext& ctx, const RecurrentCell& cell);
std::shared_ptr<const void> prepare_recurrent(PrepareContext& ctx, const RecurrentCell& cell);
// float32 only: other floats are converted around (lower_to_f32, run_in_f32 in rows.h).
void run_recurrent(RunContext& ctx);

// ---- shared by prepare and run (recurrent.cpp) ----------------------------------------------------------------------
// A part of a step as it is claimed by threads (recurrent_walk.cpp).
struct RecurrentPart {
    alignas(64) std::atomic<int64_t> claimed{0};  // rounds; its owner's line, unless others step in
    alignas(64) std::atomic<int64_t> done{0};     // the line that the others look at
};

struct RecurrentBuffers {
    float *w = nullptr, *r = nullptr;  // where weights are packed that are no constants
    float* x = nullptr;                // inputs in the order of the steps, where they are not
    float *bias = nullptr, *gates = nullptr, *sums = nullptr, *state = nullptr, *cell = nullptr;
    std::byte* parts = nullptr;
    int64_t bytes = 0;  // in all
    // Null `base` measures. `ordered`: inputs are copied.
    RecurrentBuffers(std::byte* base, const Recurrent& r, bool ordered);
};
bool needs_order(const Recurrent& r, bool lengths);
// Packs one direction's W and R; either target may be null.
void pack_direction(const Recurrent& r, const float* w, float* to_w, const float* rw, float* to_r);

}  // namespace linnet
