// The pool: how many CPUs may be used, tasks claimed in order, workers woken and put to sleep.
#include "runtime/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>

namespace linnet {
namespace {

inline void pause_briefly() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

// A worker that found nothing to do for this many pauses gives its CPU to whoever wants it.
constexpr int kSpinsBeforeYield = 4000;

// Quota of the process's cgroup in CPUs; 0 when there is none.
double cgroup_cpus() {
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    std::string quota;
    double period = 0;
    if (v2 >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    double amount = -1;
    if (q >> amount && p >> period && amount > 0 && period > 0) return amount / period;
    return 0;
}

}  // namespace

int available_cpus() {
    int count = static_cast<int>(std::thread::hardware_concurrency());
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
    try {
        if (const double quota = cgroup_cpus(); quota > 0) count = std::min(count, static_cast<int>(std::ceil(quota)));
    } catch (const std::exception&) {
        // An unreadable quota is no quota.
    }
    return std::max(1, count);
}

ThreadPool& ThreadPool::shared() {
    // Never destroyed: its threads may outlive static destructors. A forked child has none of them, so it gets a pool
    // of its own.
    static std::atomic<ThreadPool*> pool = [] {
        pthread_atfork(nullptr, nullptr, [] { pool.store(new ThreadPool); });
        return new ThreadPool;
    }();
    return *pool.load();
}

ThreadPool::~ThreadPool() {
    stop_ = true;
    active_ |= 1;
    active_.notify_all();
    for (auto& w : workers_) w.join();
}

void ThreadPool::grow(int workers) {
    std::lock_guard lock(growing_);
    while (static_cast<int>(workers_.size()) < workers) {
        const int index = static_cast<int>(workers_.size());
        workers_.emplace_back([this, index] { worker(index); });
    }
}

ThreadPool::Scope::Scope(ThreadPool& pool, int threads) : pool_(pool) {
    parallel_.threads = 1;
    if (threads <= 1 || !pool.owner_.try_lock()) return;
    owns_ = true;
    pool.grow(threads - 1);
    pool.wanted_ = threads - 1;
    pool.active_.fetch_add(1);  // even -> odd
    pool.active_.notify_all();
    parallel_.threads = threads;
    parallel_.pool = &pool;
    parallel_.call = [](void* p, int64_t tasks, void (*task)(void*, int64_t), void* context) {
        static_cast<ThreadPool*>(p)->run(tasks, task, context);
    };
}

ThreadPool::Scope::~Scope() {
    if (!owns_) return;
    pool_.active_.fetch_add(1);  // odd -> even
    pool_.owner_.unlock();
}

bool ThreadPool::claim(uint64_t epoch, int64_t& index) {
    uint64_t state = state_.load(std::memory_order_acquire);
    while ((state >> 32) == epoch &&
           static_cast<int64_t>(state & 0xffffffffu) < tasks_.load(std::memory_order_relaxed)) {
        if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
            index = static_cast<int64_t>(state & 0xffffffffu);
            return true;
        }
    }
    return false;
}

void ThreadPool::run(int64_t tasks, void (*task)(void*, int64_t), void* context) {
    constexpr int64_t kMostTasks = int64_t{1} << 31;
    if (tasks > kMostTasks) {
        for (int64_t i = 0; i < tasks; ++i) task(context, i);
        return;
    }
    // No claim can succeed between here and the publication below: the old job's indices are used up.
    task_.store(task, std::memory_order_relaxed);
    context_.store(context, std::memory_order_relaxed);
    finished_.store(0, std::memory_order_relaxed);
    const uint64_t epoch = ((state_.load(std::memory_order_relaxed) >> 32) + 1) & 0xffffffffu;
    // Before the new tasks_ is visible the new epoch must not be claimable, and the old epoch never is with index >=
    // old tasks_; so first retire the old epoch with an index past any task count.
    state_.store((epoch << 32) | 0xffffffffu, std::memory_order_release);
    tasks_.store(tasks, std::memory_order_release);
    state_.store(epoch << 32, std::memory_order_release);
    int64_t index;
    int64_t mine = 0;
    while (claim(epoch, index)) {
        task(context, index);
        ++mine;
    }
    finished_.fetch_add(mine, std::memory_order_acq_rel);
    int spins = 0;
    while (finished_.load(std::memory_order_acquire) < tasks) {
        pause_briefly();
        if (++spins > kSpinsBeforeYield) {
            std::this_thread::yield();
            spins = 0;
        }
    }
}

void ThreadPool::worker(int index) {
    int spins = 0;
    for (;;) {
        const uint32_t active = active_.load(std::memory_order_acquire);
        if (stop_) return;
        if (!(active & 1) || index >= wanted_.load(std::memory_order_relaxed)) {
            active_.wait(active);
            continue;
        }
        const uint64_t epoch = state_.load(std::memory_order_acquire) >> 32;
        int64_t task_index;
        if (!claim(epoch, task_index)) {
            pause_briefly();
            if (++spins > kSpinsBeforeYield) {
                std::this_thread::yield();
                spins = 0;
            }
            continue;
        }
        spins = 0;
        const auto task = task_.load(std::memory_order_relaxed);
        void* context = context_.load(std::memory_order_relaxed);
        int64_t done = 0;
        do {
            task(context, task_index);
            ++done;
        } while (claim(epoch, task_index));
        finished_.fetch_add(done, std::memory_order_acq_rel);
    }
}

}  // namespace linnet
