// One pool for the process. Workers spin only while a run is under way and sleep when it ends.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "graph/op.h"

namespace linnet {

// CPUs this process may use: the smaller of its affinity mask and its cgroup's quota (rounded up), at least 1.
int available_cpus();

class ThreadPool {
  public:
    static ThreadPool& shared();
    ~ThreadPool();

    // A scope in which work may be handed out: wakes the workers it needs when it opens and lets them sleep when it
    // closes. One at a time uses the workers; a scope that opens while another is open works alone.
    class Scope {
      public:
        Scope(ThreadPool& pool, int threads);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
        const Parallel& parallel() const { return parallel_; }

      private:
        ThreadPool& pool_;
        bool owns_ = false;
        Parallel parallel_;
    };

  private:
    ThreadPool() = default;
    void grow(int workers);
    void worker(int index);
    void run(int64_t tasks, void (*task)(void*, int64_t), void* context);
    bool claim(uint64_t epoch, int64_t& index);

    std::mutex owner_;  // held by the scope that uses the workers
    std::mutex growing_;
    std::vector<std::thread> workers_;
    std::atomic<uint32_t> active_{0};  // odd while a scope is open: workers spin; waited on when even
    std::atomic<int> wanted_{0};       // workers that may take part in the open scope
    std::atomic<bool> stop_{false};

    // The job. `state_` holds an epoch (high half) and the next index (low half); a claim succeeds only for the current
    // epoch, so a worker that is late can never touch a job that has ended.
    alignas(64) std::atomic<uint64_t> state_{0};
    alignas(64) std::atomic<int64_t> finished_{0};
    alignas(64) std::atomic<int64_t> tasks_{0};
    std::atomic<void (*)(void*, int64_t)> task_{nullptr};
    std::atomic<void*> context_{nullptr};
};

}  // namespace linnet
