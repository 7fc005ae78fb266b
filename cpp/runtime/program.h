// A lowered graph ready to run: plans by signature, packed weights, arenas. Subgraphs are Programs of their own.
#pragma once
#include <atomic>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/memory.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "runtime/profiler.h"
#include "runtime/thread_pool.h"

namespace linnet {

// What one run is given besides its inputs.
struct RunScope {
    Parallel parallel;
    ThreadPool::Scope* pool = nullptr;  // behind `parallel`
    Profiler* profiler = nullptr;
    int64_t run = 0;  // the profiler's number of this run
    int depth = 0;    // of subgraphs: 0 in the model's own graph
    StopSignal stop;
};

// The packed weights of a model's graph and its subgraphs. Thread-safe.
class WeightCache : public PackCache {
  public:
    // `rebuild` makes the lowered graph anew, with the same value ids: where elements are read that were freed.
    // What is packed counts on `memory`.
    WeightCache(std::function<std::shared_ptr<const Graph>()> rebuild, std::shared_ptr<MemoryAccount> memory)
        : rebuild_(std::move(rebuild)), memory_(std::move(memory)) {}
    std::shared_ptr<const void> get(const std::shared_ptr<const Tensor>& constant, const std::string& kind,
                                    const std::function<std::shared_ptr<const void>()>& make) override;
    std::shared_ptr<const Tensor> restore(ValueId constant) override;
    MemoryAccount& memory() const { return *memory_; }
    // Between two plans: restored elements that no plan holds go.
    void forget_rebuilt();

  private:
    struct Entry {
        std::shared_ptr<const void> packed;
        std::shared_ptr<const Tensor> source;  // its address is the key
    };
    std::mutex mutex_, restore_mutex_;
    std::map<std::pair<const Tensor*, std::string>, Entry> packed_;
    std::function<std::shared_ptr<const Graph>()> rebuild_;
    std::shared_ptr<MemoryAccount> memory_;
    std::shared_ptr<const Graph> rebuilt_;
};

class Program {
  public:
    // Takes a lowered graph. `cache` is shared with the subgraphs' programs; those keep their weights' own elements.
    Program(std::shared_ptr<Graph> graph, int threads, bool exact, std::shared_ptr<WeightCache> cache);
    ~Program();

    // Inputs in the order of graph.inputs. `destinations`, when not empty, holds one entry per output: memory to write
    // to (checked for dtype and shape), or an undefined tensor. Thread-safe.
    std::vector<Value> run(std::vector<Value> inputs, const RunScope& scope, std::span<const Tensor> destinations = {});

    const Graph& graph() const { return *graph_; }
    // The plan for these inputs; made when it is not cached.
    std::shared_ptr<const Plan> plan_for(std::span<const Value> inputs);
    std::shared_ptr<const Plan> plan_for(std::span<const Fact> inputs);

  private:
    PlanOptions plan_options() const { return {threads_, exact_, cache_.get()}; }
    struct Frame;   // an arena and values bound to it, for one run at a time
    struct Cached;  // a plan with its idle frames
    std::shared_ptr<Cached> cached(std::span<const Value> inputs);
    std::unique_ptr<Frame> take_frame(Cached& cached);
    void give_frame(Cached& cached, std::unique_ptr<Frame> frame, bool failed);
    void bind(Frame& frame, const Plan& plan) const;
    void run_step(const Step& step, Frame& frame, const RunScope& scope);

    std::shared_ptr<const Graph> graph_;
    int threads_;
    bool exact_;
    std::shared_ptr<WeightCache> cache_;
    std::map<std::pair<NodeId, std::string>, std::unique_ptr<Program>> subprograms_;

    std::mutex mutex_;                                                  // guards what follows
    std::list<std::pair<std::string, std::shared_ptr<Cached>>> plans_;  // by signature, last used first
    bool release_weights_ = true;
    struct Arena;
    std::vector<std::unique_ptr<Arena>> idle_arenas_;
};

}  // namespace linnet
