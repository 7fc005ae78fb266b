// The two lists of passes, and how a pass is run.
#include "passes/pipeline.h"

#include "base/give_way.h"
#include "graph/build.h"
#include "graph/infer.h"
#include "passes/codebook.h"
#include "passes/fuse.h"
#include "passes/gradient.h"
#include "passes/integer.h"
#include "passes/layout.h"

namespace linnet {
namespace {

bool operator_simplify(const Graph& graph, NodeId id, Patch& patch) {
    const OpDef* op = graph.node(id).op;
    return op->simplify && op->simplify(graph, id, patch);
}

bool operator_lower(const Graph& graph, NodeId id, Patch& patch) {
    const OpDef* op = graph.node(id).op;
    return op->lower && op->lower(graph, id, patch);
}

// What a model means, in fewer and clearer nodes.
constexpr Pass kSimplify[] = {
    {.name = "expand_gradient", .rule = expand_gradient, .required = true},
    {.name = "fold_constants", .run = fold_constants},
    {.name = "inline_if", .rule = inline_if},
    {.name = "operator_simplify", .rule = operator_simplify},
    {.name = "move_weights", .rule = move_weights},
    {.name = "merge_equal", .run = merge_equal},
    {.name = "remove_unused", .run = remove_unused},
};

// For this machine. Later entries rely on earlier ones.
constexpr Pass kLower[] = {
    {.name = "expand_gradient", .rule = expand_gradient, .required = true},
    {.name = "remove_unused", .run = remove_unused, .required = true},  // a rule leaves alone what nobody uses
    {.name = "read_codes", .rule = read_codes},
    {.name = "unfold_qlinear", .rule = unfold_qlinear},
    {.name = "integer_forms", .rule = integer_forms},
    {.name = "float_products", .rule = float_products},
    {.name = "narrow_products", .rule = narrow_products},
    {.name = "gather_codes", .rule = gather_codes},
    {.name = "dequantize_later", .rule = dequantize_later},
    {.name = "explain_float_nodes", .run = explain_float_nodes},
    {.name = "fold_constants", .run = fold_constants},  // weights of what stays float
    {.name = "operator_simplify", .rule = operator_simplify},
    {.name = "fuse_attention", .rule = fuse_attention},
    {.name = "cast_float32_only", .rule = cast_float32_only, .required = true},
    {.name = "operator_lower", .rule = operator_lower, .required = true},
    {.name = "cast_float32_only", .rule = cast_float32_only, .required = true},
    {.name = "choose_layouts", .run = choose_layouts},
    {.name = "absorb_transpose", .rule = absorb_transpose},
    {.name = "absorb_layout", .rule = absorb_layout},
    {.name = "fuse_bytes", .rule = fuse_bytes},
    {.name = "fuse_epilogue", .rule = fuse_epilogue},
    {.name = "fuse_depthwise", .rule = fuse_depthwise},
    {.name = "fuse_gate", .rule = fuse_gate},
    {.name = "fold_constants", .run = fold_constants},
    {.name = "merge_equal", .run = merge_equal},
    {.name = "remove_unused", .run = remove_unused},
};

// Makes the patch's change. False when it would change nothing (all replacements are of unused values).
bool apply(Graph& graph, const Patch& patch) {
    bool changed = false;
    for (auto [from, to] : patch.replaced()) {
        if (from == to) continue;
        changed |= !graph.value(from).users.empty() || graph.is_output(from);
        // The new value stands where the old one stood: the file's name stays with what the user sees.
        graph.replace_uses(from, to);
    }
    return changed;
}

int64_t run_rule(Graph& graph, const Pass& pass, int64_t& budget) {
    int64_t changes = 0;
    // A rule that undoes another's work would go on for ever.
    int64_t most = 64;
    for (const Node& node : graph.nodes) most += 16 * (1 + static_cast<int64_t>(node.inputs.size()));
    while (budget != 0) {
        bool again = false;
        const std::vector<NodeId> order = graph.order;
        for (NodeId id : order) {
            if (budget == 0) break;
            if (!graph.node(id).alive) continue;
            give_way();
            const size_t nodes_before = graph.nodes.size();
            Patch patch(graph);
            bool matched = false;
            try {
                matched = pass.rule(graph, id, patch) && apply(graph, patch);
            } catch (Error& e) {
                e.add_context(node_text(graph.node(id)));
                throw;
            }
            if (!matched) {
                // Whatever a rule built before it gave up is unused; drop it.
                for (size_t n = graph.nodes.size(); n-- > nodes_before;)
                    if (graph.nodes[n].alive) graph.remove_node(static_cast<NodeId>(n));
                continue;
            }
            ++changes;
            if (budget > 0) --budget;
            again = true;
            if (changes > most) fail(ErrorKind::fail, "does not come to rest");
        }
        if (!again) break;
        graph.sort();
        graph.remove_unused();
    }
    return changes;
}

// Subgraphs first (their captured inputs know the outer facts by refresh_facts), then the graph itself.
void run_list(Graph& graph, std::span<const Pass> passes, const PassOptions& options, int64_t& budget) {
    constexpr int kMostRounds = 12;
    for (int round = 0; round < kMostRounds; ++round) {
        int64_t changes = 0;
        for (const Pass& pass : passes)
            if (options.optimize || pass.required) changes += run_pass(graph, pass, options, budget);
        if (changes == 0) break;
        refresh_facts(graph);
    }
    for (NodeId id : std::vector<NodeId>(graph.order))
        for_each_subgraph(graph.node(id),
                          [&](const std::string&, Graph& sub) { run_list(sub, passes, options, budget); });
}

void mark_lowered(Graph& graph) {
    graph.lowered = true;
    for (NodeId id : graph.order)
        for_each_subgraph(graph.node(id), [](const std::string&, Graph& sub) { mark_lowered(sub); });
}

}  // namespace

int64_t run_pass(Graph& graph, const Pass& pass, const PassOptions& options, int64_t& optional_budget) {
    int64_t unlimited = -1;
    int64_t& budget = pass.required ? unlimited : optional_budget;
    if (budget == 0) return 0;
    try {
        int64_t changes = 0;
        if (pass.rule) {
            changes = run_rule(graph, pass, budget);
        } else if (pass.run(graph)) {
            changes = 1;
            if (budget > 0) --budget;
        }
        if (changes) verify(graph);
        if (options.observe && changes) options.observe(pass.name, changes);
        return changes;
    } catch (Error& e) {
        e.add_context(cat("pass ", pass.name));
        throw;
    }
}

void simplify(Graph& graph, const PassOptions& options) {
    int64_t budget = options.stop_after;
    run_list(graph, kSimplify, options, budget);
}

void lower(Graph& graph, const PassOptions& options) {
    int64_t budget = options.stop_after;
    mark_lowered(graph);
    run_list(graph, kLower, options, budget);
}

}  // namespace linnet
