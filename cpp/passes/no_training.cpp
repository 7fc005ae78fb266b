// What the C library has in place of ops/training.cpp, ops/gradient.cpp and passes/gradient*.cpp: it knows no operators
// of ai.onnx.preview.training, and says so when a model has one.
#include "passes/gradient.h"

namespace linnet {

std::span<const OpDef> training_ops() { return {}; }
std::span<const OpDef> gradient_ops() { return {}; }
bool expand_gradient(const Graph&, NodeId, Patch&) { return false; }

}  // namespace linnet
