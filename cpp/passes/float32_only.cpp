// Casts around operators that compute in float32 only.
#include "passes/layout.h"

namespace linnet {
namespace {

bool must_cast(DType dtype) { return is_float(dtype) && dtype != DType::f32; }

ValueId cast(const Graph& graph, Patch& patch, ValueId value, DType to) {
    if (const Tensor* constant = graph.constant(value); constant && to == DType::f32) {
        Tensor out = Tensor::allocate(DType::f32, constant->shape);
        const int64_t count = out.count();
        for (int64_t i = 0; i < count; ++i) out.as<float>()[i] = static_cast<float>(double_at(*constant, i));
        return patch.constant(std::move(out), graph.value(value).name);
    }
    return patch.node("Cast", {value}, Attributes().set("to", static_cast<int64_t>(to)));
}

}  // namespace

bool cast_float32_only(const Graph& graph, NodeId id, Patch& patch) {
    if (!(graph.node(id).op->flags & kFloat32Only)) return false;
    const Node node = graph.node(id);  // adding nodes moves the originals
    Node made;
    made.name = node.name;
    made.op_type = node.op_type;
    made.domain = node.domain;
    made.op = node.op;
    made.attributes = node.attributes;
    made.inputs = node.inputs;
    bool any = false;
    for (ValueId& input : made.inputs) {
        if (input == kNoValue || !must_cast(graph.fact(input).dtype)) continue;
        input = cast(graph, patch, input, DType::f32);
        any = true;
    }
    if (!any) return false;
    const ValueIds outputs = patch.node(std::move(made), static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < outputs.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        const DType before = graph.fact(node.outputs[i]).dtype;
        patch.replace(node.outputs[i],
                      before == graph.fact(outputs[i]).dtype ? outputs[i] : cast(graph, patch, outputs[i], before));
    }
    return true;
}

}  // namespace linnet
