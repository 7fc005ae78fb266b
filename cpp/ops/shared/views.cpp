// Patterns of operators that only change the shape.
#include "ops/shared/views.h"

#include <algorithm>

#include "ops/shared/copy.h"

namespace linnet {
namespace {

// The producer when it is a view of the same elements, else null.
const Node* view_producer(const Graph& graph, ValueId value) {
    const NodeId producer = graph.value(value).producer;
    if (producer == kNoNode) return nullptr;
    const Node& node = graph.node(producer);
    const bool view = node.domain.empty() && (node.op_type == "Reshape" || node.op_type == "Flatten" ||
                                              node.op_type == "Squeeze" || node.op_type == "Unsqueeze");
    return view && node.outputs[0] == value ? &node : nullptr;
}

}  // namespace

void run_view(RunContext& ctx) {
    if (ctx.input(0).count() != ctx.output(0).count())
        fail(ErrorKind::invalid_argument, "an input of shape ", shape_text(ctx.input(0).shape),
             " cannot get the shape ", shape_text(ctx.output(0).shape));
    copy_flat(ctx.parallel(), ctx.input(0).dtype, ctx.output(0).count(), ctx.input(0).data, ctx.output(0).data);
}

bool same_shape(const Fact& a, const Fact& b) {
    if (!a.ranked || !b.ranked || !(a.shape == b.shape)) return false;
    // One unknown size follows from the number of elements, unless a size may be 0.
    return std::find(a.shape.begin(), a.shape.end(), kUnknownDim) == a.shape.end();
}

std::optional<std::vector<int64_t>> reshape_operand(const Shape& from, const Shape& to) {
    std::vector<int64_t> operand;
    bool guessed = false;
    for (size_t i = 0; i < to.size(); ++i) {
        if (is_number(to[i])) {
            if (to[i] <= 0) return std::nullopt;
            operand.push_back(to[i]);
        } else if (i < from.size() && to[i] == from[i] && is_symbol(to[i])) {
            operand.push_back(0);
        } else {
            if (guessed) return std::nullopt;
            guessed = true;
            operand.push_back(-1);
        }
    }
    return operand;
}

ValueId add_reshape(Patch& patch, ValueId input, const std::vector<int64_t>& shape) {
    if (patch.graph().opset("") >= 5 || patch.graph().lowered)
        return patch.node("Reshape", {input, patch.constant_ints(shape)});
    return patch.node("Reshape", {input}, Attributes().set("shape", shape));
}

bool simplify_view(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId input = node.inputs[0], output = node.outputs[0];
    if (same_shape(graph.fact(input), graph.fact(output))) {
        patch.replace(output, input);
        return true;
    }
    ValueId root = input;
    bool found = false;
    while (const Node* view = view_producer(graph, root)) {
        root = view->inputs[0];
        found = true;
        if (same_shape(graph.fact(root), graph.fact(output))) {
            patch.replace(output, root);
            return true;
        }
    }
    if (!found || !graph.fact(root).ranked || !graph.fact(output).ranked) return false;
    const auto operand = reshape_operand(graph.fact(root).shape, graph.fact(output).shape);
    if (!operand) return false;
    patch.replace(output, add_reshape(patch, root, *operand));
    return true;
}

}  // namespace linnet
