// Facts for nodes and whole graphs.
#pragma once
#include <span>
#include <vector>

#include "graph/op.h"

namespace linnet {

// "node 'conv1' (Conv)": how a node is named in messages.
std::string node_text(const Node& node);

// Facts of the node's outputs from those of its inputs (null where left out). Errors name the node. Integer outputs
// whose elements all became numbers get their constant as well.
void infer_node(const Graph& graph, const Node& node, std::span<const Fact* const> inputs, std::span<Fact> outputs,
                DimTable& dims);

struct InferOptions {
    // Nodes whose inputs are all constants are run, when their outputs take at most this many bytes together, or so
    // many times as many as their inputs.
    size_t fold_bytes = 0, fold_growth = 0;
    // What all of them may make together; counted down, and 0 as soon as `fold_stop` says that it takes too long.
    int64_t* fold_budget = nullptr;
    const StopSignal* fold_stop = nullptr;
    // A folded value gives its elements up once all that reads them is folded, too: of a chain only its end is kept.
    bool release = false;
    // Nodes that are not run, by NodeId; empty: none.
    std::vector<char> keep{};
};

// Facts of every value of the graph, given those of its inputs. Indexed by ValueId.
std::vector<Fact> infer_graph(const Graph& graph, std::span<const Fact> inputs, DimTable& dims,
                              const InferOptions& options = {});

// Fact of a value that exists (constant: its elements count as known).
Fact fact_of(const Value& value);

// Runs one node by itself: infers, allocates, prepares, runs. `cache` may be null. For constant folding and for steps
// whose shapes are only known when they run.
struct EvaluateOptions {
    Parallel parallel;
    PackCache* cache = nullptr;
    std::function<std::vector<Value>(std::string_view, std::vector<Value>)> run_subgraph;
};
std::vector<Value> evaluate(const Graph& graph, const Node& node, std::span<Value* const> inputs,
                            const EvaluateOptions& options = {});

}  // namespace linnet
