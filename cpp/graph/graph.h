// A model with names turned into indices: values, nodes in an order that can run, and what is known of each value.
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "graph/attribute.h"
#include "graph/dims.h"
#include "graph/fact.h"

namespace linnet {

struct OpDef;

using ValueId = int32_t;
using NodeId = int32_t;
constexpr ValueId kNoValue = -1;  // an optional input or output that is left out
constexpr NodeId kNoNode = -1;    // producer of inputs and constants

using ValueIds = SmallVector<ValueId, 4>;

struct GraphValue {
    std::string name;  // as in the file; made-up names are unique too
    Fact fact;         // fact.constant set: an initialiser or a folded value
    NodeId producer = kNoNode;
    std::vector<NodeId> users;  // one entry per use
};

struct Node {
    std::string name, op_type, domain;
    const OpDef* op = nullptr;
    ValueIds inputs, outputs;  // kNoValue where left out
    // The last `captures` inputs are values that the node's subgraphs take from this graph. Every subgraph of the node
    // has them, in this order, as its last inputs, behind its formal ones.
    int captures = 0;
    Attributes attributes;
    bool alive = true;
};

struct Port {
    std::string name;
    ValueId value = kNoValue;
};

// A float operator among quantized ones, and why it has no integer form.
struct FloatNode {
    std::string name, op_type, why;
};

struct Graph {
    std::string name;
    // Deques: references stay good while a rule adds nodes and values.
    std::deque<GraphValue> values;
    std::deque<Node> nodes;     // indexed by NodeId; dead ones stay until compact()
    std::vector<NodeId> order;  // the living ones, in an order that can run
    std::vector<Port> inputs;   // without initialisers that merely have a default
    std::vector<Port> outputs;
    std::vector<Fact> output_facts;                                 // as declared in the file, for names of symbols
    std::shared_ptr<DimTable> dims = std::make_shared<DimTable>();  // subgraphs share their parent's
    std::vector<std::pair<std::string, int64_t>> opsets;            // domain ("" is ai.onnx), version
    std::shared_ptr<const void> keep_alive;                         // what constants view (the mapped file)
    std::shared_ptr<const void> operators;                          // the registered ones that nodes point to
    std::vector<FloatNode> float_nodes;                             // found by lowering
    int64_t most_rank = kMostRank;                                  // of a value
    int64_t fold_budget = -1;  // bytes that constant folding may still make; negative: not yet known
    bool lowered = false;      // after lowering: internal operators allowed, no longer ONNX

    const GraphValue& value(ValueId id) const { return values[static_cast<size_t>(id)]; }
    GraphValue& value(ValueId id) { return values[static_cast<size_t>(id)]; }
    const Node& node(NodeId id) const { return nodes[static_cast<size_t>(id)]; }
    Node& node(NodeId id) { return nodes[static_cast<size_t>(id)]; }
    const Fact& fact(ValueId id) const { return value(id).fact; }
    // The known value, or null (also for kNoValue).
    const Tensor* constant(ValueId id) const { return id == kNoValue ? nullptr : value(id).fact.constant.get(); }
    // The node that makes this value when it is of the given operator, else null.
    const Node* producer(ValueId id, std::string_view op_type, std::string_view domain = "") const;
    bool is_output(ValueId id) const;
    // Used exactly once and not a graph output: its producer may be merged into the user.
    bool single_use(ValueId id) const;
    int64_t opset(std::string_view domain) const;  // 0 when not imported

    // Editing. These keep producers and users right; call sort() afterwards when nodes were added.
    ValueId add_value(std::string name, Fact fact);
    ValueId add_constant(std::string name, Tensor tensor);
    NodeId add_node(Node node);
    void set_input(NodeId node, size_t index, ValueId value);
    void replace_uses(ValueId from, ValueId to);  // graph outputs included
    void remove_node(NodeId node);                // must be unused
    void remove_unused();                         // dead nodes, transitively
    // Recomputes `order`; throws invalid_graph naming a node of a cycle.
    void sort();
    std::string unique_name(std::string_view base);

  private:
    int64_t next_name_ = 0;
};

// A deep copy (subgraphs included); constants are shared.
std::unique_ptr<Graph> clone(const Graph& graph);

// Checks every invariant of the structures above (indices, producers, users, order, arity, single assignment); throws
// invalid_graph. Subgraphs are checked too.
void verify(const Graph& graph);

// The graph as text, one node a line, with facts.
std::string dump(const Graph& graph);

// Applies `visit` to every subgraph held by the node's attributes.
void for_each_subgraph(const Node& node, const std::function<void(const std::string& attribute, Graph&)>& visit);

}  // namespace linnet
