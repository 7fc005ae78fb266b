// Checks of a graph: indices in range, producers and users agree, an order that can run.
#include <algorithm>

#include "graph/graph.h"
#include "graph/op.h"

namespace linnet {
namespace {

void check_node(const Graph& graph, NodeId id, const std::vector<char>& ready) {
    const Node& n = graph.node(id);
    auto in_range = [&](ValueId v) { return v >= 0 && v < static_cast<ValueId>(graph.values.size()); };
    require(n.alive, "order lists a removed node");
    require(n.op != nullptr, "node '", n.name, "' (", n.op_type, ") has no operator");
    require(n.captures >= 0 && n.captures <= static_cast<int>(n.inputs.size()), "node '", n.name, "': bad captures");
    for (ValueId v : n.inputs) {
        if (v == kNoValue) continue;
        require(in_range(v), "node '", n.name, "' (", n.op_type, ") reads a value that does not exist");
        const GraphValue& value = graph.value(v);
        require(ready[static_cast<size_t>(v)], "node '", n.name, "' (", n.op_type, ") reads '", value.name,
                "', which nothing before it makes");
        const auto uses = std::count(n.inputs.begin(), n.inputs.end(), v);
        require(std::count(value.users.begin(), value.users.end(), id) == uses, "users of '", value.name,
                "' do not match node '", n.name, "'");
    }
    for (ValueId v : n.outputs) {
        if (v == kNoValue) continue;
        require(in_range(v), "node '", n.name, "' (", n.op_type, ") writes a value that does not exist");
        require(graph.value(v).producer == id, "producer of '", graph.value(v).name, "' is not node '", n.name, "'");
    }
    for_each_subgraph(n, [&](const std::string& attribute, Graph& sub) {
        require(static_cast<int>(sub.inputs.size()) >= n.captures, "node '", n.name, "': subgraph '", attribute,
                "' lacks captured inputs");
        verify(sub);
    });
}

}  // namespace

void verify(const Graph& graph) {
    std::vector<char> ready(graph.values.size(), 0);
    for (size_t v = 0; v < graph.values.size(); ++v) ready[v] = graph.values[v].fact.constant != nullptr;
    for (const Port& p : graph.inputs) {
        require(p.value >= 0 && p.value < static_cast<ValueId>(graph.values.size()), "input '", p.name,
                "' is no value");
        require(graph.value(p.value).producer == kNoNode, "input '", p.name, "' is also made by a node");
        ready[static_cast<size_t>(p.value)] = 1;
    }
    for (NodeId id : graph.order) {
        require(id >= 0 && id < static_cast<NodeId>(graph.nodes.size()), "order lists a node that does not exist");
        check_node(graph, id, ready);
        for (ValueId v : graph.node(id).outputs)
            if (v != kNoValue) ready[static_cast<size_t>(v)] = 1;
    }
    const auto living = std::count_if(graph.nodes.begin(), graph.nodes.end(), [](const Node& n) { return n.alive; });
    require(static_cast<size_t>(living) == graph.order.size(), "order has ", graph.order.size(), " of ", living,
            " nodes");
    for (const Port& p : graph.outputs)
        require(
            p.value >= 0 && p.value < static_cast<ValueId>(graph.values.size()) && ready[static_cast<size_t>(p.value)],
            "output '", p.name, "' is made by no node");
}

}  // namespace linnet
