// A lowered graph ready to run: plans by signature, packed weights, arenas. Subgraphs are Programs of their own.
#pragma once
#include <atomic>
#include <chrono>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "graph/graph.h"
#include "plan/plan.h"
#include "runtime/profiler.h"

namespace linnet {

// What one run is given besides its inputs.
struct RunScope {
    Parallel parallel;
    Profiler* profiler = nullptr;
    int64_t run = 0;                               // the profiler's number of this run
    int depth = 0;                                 // of subgraphs: 0 in the model's own graph
    const std::atomic<bool>* terminate = nullptr;  // set by another thread to stop the run
    std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();
};

class Program {
  public:
    // Takes a lowered graph. `cache` is shared with the subgraphs' programs.
    Program(std::shared_ptr<const Graph> graph, int threads, std::shared_ptr<PackCache> cache);
    ~Program();

    // Inputs in the order of graph.inputs. `destinations`, when not empty, holds one entry per output: memory to write
    // to (checked for dtype and shape), or an undefined tensor. Thread-safe.
    std::vector<Value> run(std::vector<Value> inputs, const RunScope& scope, std::span<const Tensor> destinations = {});

    const Graph& graph() const { return *graph_; }
    // The plan for these inputs; made when it is not cached.
    std::shared_ptr<const Plan> plan_for(std::span<const Value> inputs);
    std::shared_ptr<const Plan> plan_for(std::span<const Fact> inputs);

  private:
    struct Frame;   // an arena and values bound to it, for one run at a time
    struct Cached;  // a plan with its idle frames
    std::shared_ptr<Cached> cached(std::span<const Value> inputs);
    std::unique_ptr<Frame> take_frame(Cached& cached);
    void give_frame(Cached& cached, std::unique_ptr<Frame> frame);
    void bind(Frame& frame, const Plan& plan) const;
    void run_step(const Step& step, Frame& frame, const RunScope& scope);

    std::shared_ptr<const Graph> graph_;
    int threads_;
    std::shared_ptr<PackCache> cache_;
    std::map<std::pair<NodeId, std::string>, std::unique_ptr<Program>> subprograms_;

    std::mutex mutex_;                                                  // guards what follows
    std::list<std::pair<std::string, std::shared_ptr<Cached>>> plans_;  // by signature, last used first
    struct Arena;
    std::vector<std::unique_ptr<Arena>> idle_arenas_;
};

std::shared_ptr<PackCache> make_pack_cache();

}  // namespace linnet
