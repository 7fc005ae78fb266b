// An If whose condition is known is replaced by the branch that is taken.
#include "ops/shared/body.h"
#include "passes/pipeline.h"

namespace linnet {

bool inline_if(const Graph& graph, NodeId id, Patch& patch) {
    const Node& n = graph.node(id);
    if (n.op_type != "If" || !n.domain.empty()) return false;
    const Tensor* condition = graph.constant(n.inputs[0]);
    if (!condition || condition->count() != 1) return false;
    const auto* branch = n.attributes.g(int_at(*condition, 0) ? "then_branch" : "else_branch");
    if (!branch) return false;
    ValueIds captured;
    for (size_t i = n.inputs.size() - static_cast<size_t>(n.captures); i < n.inputs.size(); ++i)
        captured.push_back(n.inputs[i]);
    const ValueIds ours = n.outputs, taken = copy_body(patch, **branch, captured);
    for (size_t i = 0; i < ours.size() && i < taken.size(); ++i)
        if (ours[i] != kNoValue) patch.replace(ours[i], taken[i]);
    return true;
}

}  // namespace linnet
