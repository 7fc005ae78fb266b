// Channels-last float convolution: how one shape is computed, decided once (prepare) and done (run).
#pragma once
#include <memory>

#include "graph/op.h"

namespace linnet {

// For the internal Conv: inputs x [N, spatial ..., C], w (O, C / group, kernel ...: ONNX's order), bias [O] or none,
// and the operands of the epilogue. Output [N, spatial ..., O].
std::shared_ptr<const void> prepare_conv(PrepareContext& ctx);
void run_conv(RunContext& ctx);

}  // namespace linnet
