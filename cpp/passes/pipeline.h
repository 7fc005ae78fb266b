// Passes over graphs: two ordered lists, read top to bottom in pipeline.cpp. simplify is portable (its result can be
// saved as ONNX); lower is for this machine.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// Rewrites one node; false when there is nothing to do.
using Rule = bool (*)(const Graph&, NodeId, Patch&);

struct Pass {
    std::string_view name;
    Rule rule = nullptr;            // tried on every node, in order, until no node changes
    bool (*run)(Graph&) = nullptr;  // or: the whole graph at once; true when something changed
    bool required = false;          // also done when optimisation is off: nothing could run without it
};

struct PassOptions {
    // Stops after this many changes (all graphs together): bisects a wrong optimisation. Changes of required passes are
    // always made and not counted. < 0: no limit.
    int64_t stop_after = -1;
    bool optimize = true;  // false: only the passes without which nothing could run
    // Called with each pass's name and the number of changes it made.
    std::function<void(std::string_view, int64_t)> observe;
};

// Portable clean-up. Subgraphs are simplified too.
void simplify(Graph& graph, const PassOptions& options = {});
// For this machine. Sets graph.lowered; the result is no longer ONNX.
void lower(Graph& graph, const PassOptions& options = {});

// Runs one pass over one graph (not its subgraphs), verifying before and after; the number of changes. Errors name the
// pass.
int64_t run_pass(Graph& graph, const Pass& pass, const PassOptions& options, int64_t& optional_budget);

// ---- passes that belong to no operator, one file each ----
bool fold_constants(Graph& graph);                            // what is known is no longer computed
bool inline_if(const Graph& graph, NodeId id, Patch& patch);  // If with a known condition
bool merge_equal(Graph& graph);                               // common subexpressions
bool remove_unused(Graph& graph);                             // dead code

}  // namespace linnet
