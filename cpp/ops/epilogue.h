// Epilogues at graph level: what a fused node ("linnet" Conv, MatMul ...) does to each result before it is stored.
//
// The attribute "epilogue" is a list of strings, applied in order, after the bias:
//   an activation by name, parameters behind a colon:  "relu"  "clip:0,6"  "leaky_relu:0.1"  "hard_sigmoid:0.2,0.5"
//   "scale:s" and "shift:s"                            x * s and x + s
//   "add:i"  "mul:i"  "prelu:i"                        with the elements of the node's input i (3 or more)
// An operand has the output's shape ("full"), or one element per column, the last axis ("vector"), or one per column
// for each index of the first axis, [N, 1 ..., C] ("batch vector": a squeeze-and-excite gate).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"
#include "kernels/kernels.h"

namespace linnet {

constexpr size_t kMaxEpilogue = 15;  // steps in the attribute; the bias is one more

// An activation's text: "clip:0,6". Numbers survive the trip exactly.
std::string epilogue_text(kernels::Unary fn, float a = 0, float b = 0);
std::string epilogue_operand(std::string_view kind, size_t input);  // "add", 3 -> "add:3"

// The steps of one kernel call; must outlive it.
struct EpilogueSteps {
    std::array<kernels::EpilogueStep, kMaxEpilogue + 1> steps;
    size_t count = 0;
    kernels::Epilogue view() const noexcept { return {steps.data(), count}; }
};

class EpilogueProgram {
  public:
    // Parses the attribute; throws invalid_graph.
    explicit EpilogueProgram(const Attributes& attributes);
    EpilogueProgram() = default;
    // Decides the form of each operand from static facts; throws invalid_graph when one has none of the three.
    // `output` is the shape of output 0.
    void resolve(const PrepareContext& ctx, const Shape& output);
    bool empty() const noexcept { return items_.empty(); }
    // An operand is a batch vector: the caller must bind each index of the first axis by itself.
    bool per_batch() const noexcept { return per_batch_; }

    // Where a kernel call's C lies within output 0 (in elements).
    struct Place {
        int64_t offset = 0;        // of row 0, column 0
        ptrdiff_t row_stride = 0;  // between rows
        int64_t column = 0;        // last-axis index of column 0 (of a group, say)
        int64_t batch = 0;         // first-axis index, for batch vectors
    };
    // The steps for one call; `bias` (per column, already at Place::column, or null) comes first.
    EpilogueSteps bind(const RunContext& ctx, const float* bias, const Place& place) const;

  private:
    enum class Form : uint8_t { none, full, vector, batch_vector };
    struct Item {
        kernels::EpilogueStep::Kind kind = kernels::EpilogueStep::Kind::unary;
        kernels::Unary fn = kernels::Unary::identity;
        Form form = Form::none;
        float a = 0, b = 0;
        int input = -1;
    };
    std::vector<Item> items_;
    int64_t columns_ = 0;
    bool per_batch_ = false;
};

}  // namespace linnet
