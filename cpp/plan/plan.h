// A Plan is what one signature of input shapes needs to run: steps in order, and a place in one arena for every
// intermediate whose size is known.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "graph/op.h"

namespace linnet {

struct Step {
    enum class Kind : uint8_t {
        kernel,   // op->run with everything ready
        view,     // output 0 takes input 0's memory
        dynamic,  // shapes are found when it runs; outputs live on the heap
    };
    Kind kind = Kind::kernel;
    NodeId node = kNoNode;
    const OpDef* op = nullptr;
    std::shared_ptr<const void> state;
    std::string algorithm;         // see PrepareContext; empty where there is no choice
    size_t scratch = 0;            // bytes
    int64_t scratch_offset = 0;    // in the arena
    std::vector<ValueId> release;  // heap values that nobody reads after this step
};

// Where a value's memory comes from.
struct Place {
    enum class Kind : uint8_t {
        none,      // not needed, or made by a dynamic step
        constant,  // the graph's
        input,     // the caller's
        arena,     // at `offset`
        output,    // memory handed to the caller; `offset` is the index of the output
    };
    Kind kind = Kind::none;
    int64_t offset = 0;
};

struct Plan {
    std::vector<Step> steps;
    std::vector<Place> places;  // by ValueId
    std::vector<Fact> facts;    // by ValueId; static where a place is planned
    int64_t arena_bytes = 0;
    int64_t unshared_bytes = 0;  // what intermediates and scratch would take without sharing
    // Per output: true when it must be copied out of (or cloned from) another value after the last step.
    std::vector<char> copy_output;
};

// `inputs`: facts of the graph's inputs with numbers for dims. `packed_only`, when given, is told of each large
// constant as soon as all its users hold it packed. Throws when shapes do not fit the graph.
std::unique_ptr<Plan> make_plan(const Graph& graph, std::span<const Fact> inputs, const PlanOptions& options,
                                const std::function<void(const Tensor&)>& packed_only = {});

// ---- arena (arena.cpp) ----------------------------------------------------------------------------------------------
struct Lifetime {
    int32_t first = 0, last = 0;  // steps, inclusive
    int64_t bytes = 0;
};
struct Placement {
    std::vector<int64_t> offsets;  // multiples of 64
    int64_t bytes = 0;             // in all
    int64_t visits = 0;            // ranges that were looked at: the work
};
// Offsets such that lifetimes that overlap do not share bytes: greedy by size, and by first use; the smaller is kept.
Placement place_lifetimes(const std::vector<Lifetime>& lifetimes);

}  // namespace linnet
