// What RNN, GRU and LSTM share: operands, activations, and the walk over the steps.
//
// Each direction: the inputs of all steps times W in one product, then step by step the previous state times R. A step
// may be split by hidden units over the threads; the matrices of the gates are packed apart, so that a thread has all
// gates of its units.
#pragma once
#include <cstdint>
#include <memory>
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

struct RecurrentCell;

struct RecurrentSizes {
    int64_t steps = 0, batch = 0, input = 0, hidden = 0, directions = 1, gates = 1;
    bool batch_first = false;  // layout 1
};

struct Recurrent {
    RecurrentSizes sizes;
    const RecurrentCell* cell = nullptr;
    std::vector<Activation> activations;  // per direction, in the order of the specification
    bool first_reversed = false;          // the only direction runs backwards
    float clip = 0;                       // 0: none
    bool flag = false;                    // linear_before_reset, or input_forget
    bool plain = false;                   // default activations and no clip: the row kernels compute the cell
    int64_t splits = 1;                   // parts of a step
    std::vector<std::shared_ptr<const Tensor>> packed_w, packed_r;  // per direction; empty: packed by run()
    int64_t w_size = 0, r_size = 0;  // floats of packed W, and of the packed R of one gate
    bool reversed(int64_t direction) const { return first_reversed || direction == 1; }
};

// Units [first, last) of one step of one direction.
struct RecurrentStep {
    const Recurrent& r;
    const RunContext& ctx;
    int64_t direction = 0;
    int64_t first = 0, last = 0;
    size_t panel_begin = 0, panel_end = 0;  // the same in panels of packed R
    const float* packed_r = nullptr;        // of the direction, one gate after the other
    const float* bias = nullptr;            // [2 * gates * hidden] as in the model, or null
    const float* peepholes = nullptr;       // [3 * hidden], LSTM only, or null
    float* gates = nullptr;                 // [batch][gates * hidden]: input times W plus bias
    const float* h = nullptr;               // [batch][hidden]: the state before
    float* h_next = nullptr;                // and behind
    float* c = nullptr;                     // [batch][hidden]: LSTM's cell state, GRU's scratch
    const int32_t* lengths = nullptr;       // per image, or null
    int64_t step = 0;

    bool active(int64_t b) const { return !lengths || step < lengths[b]; }
    // to[b][u] = from[b] R_gate^T [+ add: what stands in `to`, or a bias], u in the units.
    void multiply(int64_t gate, const float* from, float* to, int64_t to_stride, bool accumulate,
                  const float* column_bias = nullptr) const;
    // Clips (where asked for) and activates n values in place.
    void activate(size_t which, int64_t n, float* x) const;
};

struct RecurrentCell {
    int64_t gates = 1;
    size_t activations = 1;  // per direction
    const char* defaults[3] = {"", "", ""};
    const char* flag = nullptr;   // the attribute behind Recurrent::flag
    bool has_cell_state = false;  // LSTM: initial_c, P, Y_c
    int stages = 1;               // parts of a step that need all units of the part before
    void (*compute)(int stage, const RecurrentStep& step) = nullptr;
};

void infer_recurrent(InferContext& ctx, const RecurrentCell& cell);
std::shared_ptr<const void> prepare_recurrent(PrepareContext& ctx, const RecurrentCell& cell);
// float32 only: other floats are converted around (lower_to_f32, run_in_f32 in rows.h).
void run_recurrent(RunContext& ctx);

}  // namespace linnet
