// A graph as a list of facts that can be printed: what the inspect and profile commands show.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"

namespace linnet {

struct NodeInfo {
    std::string name;
    std::string op;                            // with its domain when it is neither ai.onnx nor internal
    bool internal = false;                     // made by lowering
    std::string step;                          // "kernel", "view", "dynamic"; empty without a plan
    std::vector<std::string> inputs, outputs;  // facts: "float32 [1, 3, 224, 224]"; constants are left out of inputs
    std::vector<std::string> epilogue;         // "bias", "relu", "add:3": what was fused into it
    std::string algorithm;                     // chosen by the plan; empty without a choice
    int64_t macs = 0;
};

struct GraphInfo {
    std::vector<NodeInfo> nodes;  // in order; those in subgraphs behind the node that holds them, "/" in front
    int64_t constants = 0;        // that some node or output uses
    int64_t constant_elements = 0, constant_bytes = 0;
    std::vector<FloatNode> float_nodes;  // in a quantized model: what stays float, and why
    int64_t layout_changes = 0;  // Transposes of more than two axes that are neither views nor constants
};

// `facts`, when not empty, replace those of the graph, by ValueId.
GraphInfo describe(const Graph& graph, std::span<const Fact> facts = {});
// The nodes that the plan runs, in its order.
GraphInfo describe(const Graph& graph, const Plan& plan);

}  // namespace linnet
