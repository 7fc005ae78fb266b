// An If whose condition is known is replaced by the branch that is taken.
#include <unordered_map>

#include "passes/pipeline.h"

namespace linnet {

bool inline_if(const Graph& graph, NodeId id, Patch& patch) {
    const Node& n = graph.node(id);
    if (n.op_type != "If" || !n.domain.empty()) return false;
    const Tensor* condition = graph.constant(n.inputs[0]);
    if (!condition || condition->count() != 1) return false;
    const auto* branch = n.attributes.g(int_at(*condition, 0) ? "then_branch" : "else_branch");
    if (!branch) return false;
    const Graph& sub = **branch;

    std::unordered_map<ValueId, ValueId> map;  // the branch's value -> ours
    const size_t first = n.inputs.size() - static_cast<size_t>(n.captures);
    const size_t sub_first = sub.inputs.size() - static_cast<size_t>(n.captures);
    for (size_t i = 0; i < static_cast<size_t>(n.captures); ++i)
        map[sub.inputs[sub_first + i].value] = n.inputs[first + i];
    auto mapped = [&](ValueId v) -> ValueId {
        if (v == kNoValue) return v;
        if (const auto it = map.find(v); it != map.end()) return it->second;
        const Tensor* c = sub.constant(v);
        require(c != nullptr, "a branch of If reads '", sub.value(v).name, "', which nothing makes");
        return map[v] = patch.constant(*c, sub.value(v).name);
    };
    const ValueIds our_outputs = n.outputs;
    for (NodeId inner : sub.order) {
        Node copy = sub.node(inner);
        for (ValueId& v : copy.inputs) v = mapped(v);
        const ValueIds outputs = copy.outputs;
        const ValueIds made = patch.node(std::move(copy), static_cast<int>(outputs.size()));
        for (size_t i = 0; i < outputs.size(); ++i)
            if (outputs[i] != kNoValue) map[outputs[i]] = made[i];
    }
    for (size_t i = 0; i < our_outputs.size() && i < sub.outputs.size(); ++i)
        if (our_outputs[i] != kNoValue) patch.replace(our_outputs[i], mapped(sub.outputs[i].value));
    return true;
}

}  // namespace linnet
