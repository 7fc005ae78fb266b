// Channels-last float convolution: how one shape is computed, decided once (prepare) and done (run).
#pragma once
#include <memory>

#include "graph/op.h"

namespace linnet {

// For the internal Conv: inputs x [N, spatial ..., C], w (O, C / group, kernel ...: ONNX's order), bias [O] or none,
// and the operands of the epilogue. Output [N, spatial ..., O]. The attribute "gate" names an input [N, 1, 1, C] that
// scales x (only for 1x1 convolutions with constant weights).
std::shared_ptr<const void> prepare_conv(PrepareContext& ctx);
void run_conv(RunContext& ctx);

}  // namespace linnet
