// Channels-last convolution of bytes: how one shape is computed, decided once (prepare) and done (run).
#pragma once
#include <memory>

#include "graph/op.h"

namespace linnet {

// Which input is what; -1: the operator has no such input.
struct ConvOperands {
    int x, w, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias, add;
};
constexpr ConvOperands kConvInteger{0, 1, 2, 3, -1, -1, -1, -1, -1, -1};
constexpr ConvOperands kQLinearConv{0, 3, 2, 5, 1, 4, 6, 7, 8, 9};

// For the internal ConvInteger and QLinearConv. Weights that are signed and have no zero point take kernels straight to
// bytes; others ("wide": a weight less its zero point may have nine bits) go through sums in memory.
std::shared_ptr<const void> prepare_conv_integer(PrepareContext& ctx);
std::shared_ptr<const void> prepare_qlinear_conv(PrepareContext& ctx);
void run_conv_integer(RunContext& ctx);
void run_qlinear_conv(RunContext& ctx);

// Replaces constant weights by themselves less their zero points where int8 holds the differences.
void narrow_weights(const Graph& graph, Patch& patch, ValueIds& inputs, const ConvOperands& at);

}  // namespace linnet
