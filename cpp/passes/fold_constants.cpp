// Constant folding: nodes whose inputs are all known are run now, and values that analysis already knows (sizes of
// tensors with fixed shapes) become constants. Quantized and coded weights stay integers until lowering has seen them.
#include <chrono>

#include "graph/infer.h"
#include "passes/codebook.h"
#include "passes/pipeline.h"

namespace linnet {
namespace {

// A folded value may be larger than what it is made from (a ConstantOfShape); past this size it is left to run time,
// unless it is weights in another form. A small model must not take long to load, either: all of a graph's values
// together are bounded, too.
constexpr size_t kMostFoldedBytes = size_t{16} << 20, kMostGrowth = 4;
constexpr int64_t kMostFoldedInAll = int64_t{256} << 20, kMostGrowthInAll = 16;

// And so is the time, by far more than it takes to bring weights into another form.
constexpr std::chrono::milliseconds kLongest{500};
constexpr std::chrono::nanoseconds kPerByte{50};

int64_t budget_of(const Graph& graph) {
    int64_t given = 0;
    for (const GraphValue& v : graph.values)
        if (v.fact.constant) given += static_cast<int64_t>(v.fact.constant->bytes());
    return kMostFoldedInAll + kMostGrowthInAll * given;
}

std::vector<char> narrow_weights(const Graph& graph) {
    std::vector<char> found(graph.nodes.size(), 0);
    for (NodeId id : graph.order) {
        if (graph.node(id).op_type == "DequantizeLinear") found[static_cast<size_t>(id)] = 1;
        if (const auto coded = coded_tensor(graph, id))
            for (NodeId part : coded->nodes) found[static_cast<size_t>(part)] = 1;
    }
    return found;
}

}  // namespace

bool fold_constants(Graph& graph) {
    std::vector<Fact> inputs;
    for (const Port& p : graph.inputs) inputs.push_back(graph.fact(p.value));
    InferOptions options;
    options.fold_bytes = kMostFoldedBytes;
    options.fold_growth = kMostGrowth;
    if (graph.fold_budget < 0) graph.fold_budget = budget_of(graph);
    options.fold_budget = &graph.fold_budget;
    StopSignal stop;
    stop.deadline = std::chrono::steady_clock::now() + kLongest + graph.fold_budget / kMostGrowthInAll * kPerByte;
    options.fold_stop = &stop;
    options.release = true;
    if (!graph.lowered) options.keep = narrow_weights(graph);
    std::vector<Fact> facts = infer_graph(graph, inputs, *graph.dims, options);
    bool changed = false;
    for (NodeId id : graph.order) {
        const Node& n = graph.node(id);
        for (ValueId v : n.outputs) {
            if (v == kNoValue) continue;
            Fact& fact = facts[static_cast<size_t>(v)];
            if (!fact.constant) continue;
            graph.value(v).fact = fact;
            if (graph.value(v).users.empty() && !graph.is_output(v)) continue;
            const ValueId constant = graph.add_value(graph.unique_name(graph.value(v).name), std::move(fact));
            graph.replace_uses(v, constant);
            changed = true;
        }
    }
    if (changed) graph.remove_unused();
    return changed;
}

bool remove_unused(Graph& graph) {
    const size_t before = graph.order.size();
    graph.remove_unused();
    return graph.order.size() != before;
}

}  // namespace linnet
