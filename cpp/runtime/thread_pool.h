// One pool for the process. Workers spin only while a run that splits its work is under way, and sleep when it ends.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "graph/op.h"

namespace linnet {

// CPUs this process may use: the smaller of its affinity mask and its cgroup's quota (rounded up), at least 1.
int available_cpus();

class ThreadPool {
    struct Team;
    struct Worker;

  public:
    static ThreadPool& shared();

    // A scope in which work may be handed out. It takes idle workers when wake() is called or work is first split, more
    // of them as other scopes close, and gives them back when it closes. While there are none it works alone.
    class Scope {
      public:
        Scope(ThreadPool& pool, int threads);
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
        const Parallel& parallel() const { return parallel_; }
        // Waking takes some 50 us: done early where it is known that work will be split.
        void wake();
        bool has_split() const { return has_split_; }

      private:
        void run(int64_t tasks, void (*task)(void*, int64_t), void* context);
        ThreadPool& pool_;
        Team* team_ = nullptr;
        bool has_split_ = false;
        Parallel parallel_;
    };

  private:
    ThreadPool() = default;
    void recruit(Team*& team, int threads);
    void dismiss(Team& team);
    void serve(Worker& worker);

    std::atomic<int> available_{1};  // idle workers and those that may still be made; a hint
    std::atomic<bool> linger_{false};
    std::mutex mutex_;  // guards what follows
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<Worker*> idle_;  // the last to become idle is the first to be called
    std::vector<std::unique_ptr<Team>> teams_;
    std::vector<Team*> idle_teams_;
    std::chrono::steady_clock::time_point last_dismissed_{};
};

}  // namespace linnet
