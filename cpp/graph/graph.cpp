// Edits of a graph that keep producers, users and order right; clones.
#include "graph/graph.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

#include "graph/op.h"

namespace linnet {

const Node* Graph::producer(ValueId id, std::string_view op_type, std::string_view domain) const {
    if (id == kNoValue || value(id).producer == kNoNode) return nullptr;
    const Node& n = node(value(id).producer);
    return n.op_type == op_type && n.domain == domain ? &n : nullptr;
}

bool Graph::is_output(ValueId id) const {
    return std::any_of(outputs.begin(), outputs.end(), [&](const Port& p) { return p.value == id; });
}

bool Graph::single_use(ValueId id) const { return value(id).users.size() == 1 && !is_output(id); }

int64_t Graph::opset(std::string_view domain) const {
    for (const auto& [name, version] : opsets)
        if (name == domain) return version;
    return 0;
}

std::string Graph::unique_name(std::string_view base) {
    // A character that exporters do not use keeps made-up names apart from the file's.
    return cat(base, "~", next_name_++);
}

ValueId Graph::add_value(std::string value_name, Fact fact) {
    values.push_back({std::move(value_name), std::move(fact), kNoNode, {}});
    return static_cast<ValueId>(values.size()) - 1;
}

ValueId Graph::add_constant(std::string value_name, Tensor tensor) {
    return add_value(std::move(value_name), Fact::of_constant(std::move(tensor)));
}

NodeId Graph::add_node(Node added) {
    const auto id = static_cast<NodeId>(nodes.size());
    for (ValueId v : added.inputs)
        if (v != kNoValue) value(v).users.push_back(id);
    for (ValueId v : added.outputs)
        if (v != kNoValue) value(v).producer = id;
    nodes.push_back(std::move(added));
    return id;
}

void Graph::set_input(NodeId id, size_t index, ValueId to) {
    Node& n = node(id);
    if (index >= n.inputs.size()) n.inputs.resize(index + 1, kNoValue);
    const ValueId from = n.inputs[index];
    if (from == to) return;
    if (from != kNoValue) {
        auto& users = value(from).users;
        users.erase(std::find(users.begin(), users.end(), id));
    }
    n.inputs[index] = to;
    if (to != kNoValue) value(to).users.push_back(id);
}

void Graph::replace_uses(ValueId from, ValueId to) {
    if (from == to) return;
    const std::vector<NodeId> users = value(from).users;
    for (NodeId user : users)
        for (size_t i = 0; i < node(user).inputs.size(); ++i)
            if (node(user).inputs[i] == from) set_input(user, i, to);
    for (Port& port : outputs)
        if (port.value == from) port.value = to;
}

void Graph::remove_node(NodeId id) {
    Node& n = node(id);
    for (size_t i = 0; i < n.inputs.size(); ++i) set_input(id, i, kNoValue);
    for (ValueId v : n.outputs)
        if (v != kNoValue) value(v).producer = kNoNode;
    n.alive = false;
    n.attributes = {};
}

void Graph::remove_unused() {
    std::vector<char> is_out(values.size(), 0);
    for (const Port& p : outputs) is_out[static_cast<size_t>(p.value)] = 1;
    auto unused = [&](const Node& n) {
        return std::all_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) {
            return v == kNoValue || (!is_out[static_cast<size_t>(v)] && value(v).users.empty());
        });
    };
    std::vector<NodeId> work;
    for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id)
        if (node(id).alive && unused(node(id))) work.push_back(id);
    while (!work.empty()) {
        const NodeId id = work.back();
        work.pop_back();
        if (!node(id).alive || !unused(node(id))) continue;
        const ValueIds inputs_before = node(id).inputs;
        remove_node(id);
        for (ValueId v : inputs_before) {
            if (v == kNoValue || value(v).producer == kNoNode) continue;
            if (unused(node(value(v).producer))) work.push_back(value(v).producer);
        }
    }
    std::erase_if(order, [&](NodeId id) { return !node(id).alive; });
    // Weights that were replaced would otherwise stay in memory as long as the graph does.
    for (const Port& p : inputs) is_out[static_cast<size_t>(p.value)] = 1;
    for (size_t v = 0; v < values.size(); ++v)
        if (!is_out[v] && values[v].users.empty() && values[v].producer == kNoNode) values[v].fact.constant.reset();
}

void Graph::sort() {
    // Kahn's algorithm, smallest position in the old order first: what needs no move stays where it was.
    std::vector<int64_t> position(nodes.size(), 0);
    // A new node belongs right before its earliest user; users are found below, so new ones simply come as early as
    // their inputs allow.
    for (size_t i = 0; i < order.size(); ++i) position[static_cast<size_t>(order[i])] = static_cast<int64_t>(i) + 1;
    std::vector<int> waiting(nodes.size(), 0);
    std::priority_queue<std::pair<int64_t, NodeId>, std::vector<std::pair<int64_t, NodeId>>, std::greater<>> ready;
    size_t living = 0;
    for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id) {
        const Node& n = node(id);
        if (!n.alive) continue;
        ++living;
        int count = 0;
        for (ValueId v : n.inputs)
            if (v != kNoValue && value(v).producer != kNoNode) ++count;
        waiting[static_cast<size_t>(id)] = count;
        if (count == 0) ready.push({position[static_cast<size_t>(id)], id});
    }
    order.clear();
    while (!ready.empty()) {
        const NodeId id = ready.top().second;
        ready.pop();
        order.push_back(id);
        for (ValueId v : node(id).outputs) {
            if (v == kNoValue) continue;
            for (NodeId user : value(v).users)
                if (--waiting[static_cast<size_t>(user)] == 0) ready.push({position[static_cast<size_t>(user)], user});
        }
    }
    if (order.size() == living) return;
    for (NodeId id = 0; id < static_cast<NodeId>(nodes.size()); ++id)
        if (node(id).alive && waiting[static_cast<size_t>(id)] > 0)
            fail(ErrorKind::invalid_graph, "node '", node(id).name, "' (", node(id).op_type,
                 ") is part of a cycle: its inputs depend on its outputs");
}

namespace {

std::unique_ptr<Graph> clone_into(const Graph& graph, const std::shared_ptr<DimTable>& dims) {
    auto copy = std::make_unique<Graph>(graph);
    copy->dims = dims;
    for (Node& n : copy->nodes)
        for (Attribute& a : n.attributes.items())
            if (auto* g = std::get_if<std::shared_ptr<Graph>>(&a.data)) *g = clone_into(**g, dims);
    return copy;
}

}  // namespace

std::unique_ptr<Graph> clone(const Graph& graph) { return clone_into(graph, std::make_shared<DimTable>(*graph.dims)); }

void for_each_subgraph(const Node& node, const std::function<void(const std::string&, Graph&)>& visit) {
    for (const Attribute& a : node.attributes.items())
        if (const auto* g = std::get_if<std::shared_ptr<Graph>>(&a.data)) visit(a.name, **g);
}

}  // namespace linnet
