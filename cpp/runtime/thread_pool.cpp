// The pool: how many CPUs may be used, workers lent to runs, tasks claimed in order.
#include "runtime/thread_pool.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <system_error>

#include "base/pause.h"

namespace linnet {
namespace {

using Clock = std::chrono::steady_clock;

// Who has found nothing to do for this many pauses gives its CPU to whoever wants it; a worker sleeps soon after.
constexpr int kSpinsBeforeYield = 4000, kYieldsBeforeSleep = 50;
// A worker whose run has ended waits so long for the next one before it sleeps, if the last one came as quickly.
constexpr std::chrono::microseconds kLinger{100};

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

// The workers of one scope and the job they are on. Teams are never freed, so that a worker that is late finds an ended
// job, not memory of something else.
struct ThreadPool::Team {
    // `state` holds the job's epoch (high half) and the next index (low half); a claim succeeds only for the current
    // epoch, so a worker that is late can never touch a job that has ended.
    alignas(64) std::atomic<uint64_t> state{0};
    alignas(64) std::atomic<int64_t> finished{0};
    alignas(64) std::atomic<int64_t> tasks{0};
    std::atomic<void (*)(void*, int64_t)> task{nullptr};
    std::atomic<void*> context{nullptr};
    std::atomic<int> sleepers{0};  // waiting on `state`
    std::vector<Worker*> workers;  // the scope's own

    void publish(uint64_t next) {
        state.store(next);
        if (sleepers.load() > 0) state.notify_all();
    }
    // Ends the job: its epoch is over, and the next has no index yet.
    uint64_t retire() {
        const uint64_t epoch = ((state.load(std::memory_order_relaxed) >> 32) + 1) & 0xffffffffu;
        publish((epoch << 32) | 0xffffffffu);
        return epoch;
    }
    bool claim(uint64_t epoch, int64_t& index) {
        uint64_t now = state.load(std::memory_order_acquire);
        while ((now >> 32) == epoch &&
               static_cast<int64_t>(now & 0xffffffffu) < tasks.load(std::memory_order_relaxed)) {
            if (state.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) {
                index = static_cast<int64_t>(now & 0xffffffffu);
                return true;
            }
        }
        return false;
    }
    // Takes tasks until none is left; false if there was none.
    bool help() {
        const uint64_t epoch = state.load(std::memory_order_acquire) >> 32;
        int64_t index;
        if (!claim(epoch, index)) return false;
        const auto what = task.load(std::memory_order_relaxed);
        void* const with = context.load(std::memory_order_relaxed);
        int64_t done = 0;
        do {
            what(with, index);
            ++done;
        } while (claim(epoch, index));
        finished.fetch_add(done, std::memory_order_acq_rel);
        return true;
    }
    void run(int64_t count, void (*what)(void*, int64_t), void* with) {
        // No claim can succeed between here and the publication below: the old job's indices are used up.
        task.store(what, std::memory_order_relaxed);
        context.store(with, std::memory_order_relaxed);
        finished.store(0, std::memory_order_relaxed);
        // Before the new count is visible the new epoch must not be claimable, and the old epoch never is with index >=
        // its count; so first retire the old epoch with an index past any count.
        const uint64_t epoch = ((state.load(std::memory_order_relaxed) >> 32) + 1) & 0xffffffffu;
        state.store((epoch << 32) | 0xffffffffu, std::memory_order_release);
        tasks.store(count, std::memory_order_release);
        publish(epoch << 32);
        help();
        for (int spins = 0; finished.load(std::memory_order_acquire) < count; ++spins) {
            if (spins < kSpinsBeforeYield) pause_briefly();
            else std::this_thread::yield();
        }
    }
};

struct alignas(64) ThreadPool::Worker {
    std::atomic<Team*> team{nullptr};
    std::atomic<uint32_t> calls{0};  // changes with every call to a team; waited on between
    std::thread thread;
};

ThreadPool::Scope::Scope(ThreadPool& pool, int threads) : pool_(pool) {
    parallel_.threads = std::max(1, threads);
    if (threads <= 1) return;
    parallel_.pool = this;
    parallel_.call = [](void* p, int64_t tasks, void (*task)(void*, int64_t), void* context) {
        static_cast<Scope*>(p)->run(tasks, task, context);
    };
}

ThreadPool::Scope::~Scope() {
    if (team_) pool_.dismiss(*team_);
}

void ThreadPool::Scope::wake() {
    if (parallel_.threads > 1) pool_.recruit(team_, parallel_.threads);
}

void ThreadPool::Scope::run(int64_t tasks, void (*task)(void*, int64_t), void* context) {
    has_split_ = true;
    const int missing = parallel_.threads - 1 - (team_ ? static_cast<int>(team_->workers.size()) : 0);
    if (missing > 0 && pool_.available_.load(std::memory_order_relaxed) > 0) wake();
    constexpr int64_t kMostTasks = int64_t{1} << 31;
    if (team_ && tasks <= kMostTasks) return team_->run(tasks, task, context);
    for (int64_t i = 0; i < tasks; ++i) task(context, i);
}

// Fills the team up to `threads` with its caller, as far as there are idle workers. No more are made than the CPUs can
// run, or a scope asks for.
void ThreadPool::recruit(Team*& team, int threads) {
    const size_t wanted = static_cast<size_t>(threads) - 1;
    static const size_t cpus = static_cast<size_t>(available_cpus());
    std::lock_guard lock(mutex_);
    const size_t most = std::max(cpus - 1, wanted);
    if (!team && idle_.empty() && workers_.size() >= most) return;
    if (!team) {
        linger_.store(Clock::now() - last_dismissed_ < kLinger, std::memory_order_relaxed);
        if (idle_teams_.empty()) {
            teams_.push_back(std::make_unique<Team>());
            idle_teams_.push_back(teams_.back().get());
        }
        team = idle_teams_.back();
        idle_teams_.pop_back();
    }
    while (team->workers.size() < wanted && (!idle_.empty() || workers_.size() < most)) {
        if (idle_.empty()) {
            auto fresh = std::make_unique<Worker>();
            try {
                fresh->thread = std::thread([this, worker = fresh.get()] { serve(*worker); });
            } catch (const std::system_error&) {
                break;  // the system has no more threads: those that are there do the work
            }
            idle_.push_back(fresh.get());
            workers_.push_back(std::move(fresh));
        }
        Worker& worker = *idle_.back();
        idle_.pop_back();
        team->workers.push_back(&worker);
        worker.team.store(team, std::memory_order_release);
        worker.calls.fetch_add(1);
        worker.calls.notify_one();
    }
    available_ = static_cast<int>(idle_.size() + (most - std::min(most, workers_.size())));
}

void ThreadPool::dismiss(Team& team) {
    for (Worker* worker : team.workers) worker->team.store(nullptr, std::memory_order_release);
    team.retire();
    std::lock_guard lock(mutex_);
    idle_.insert(idle_.end(), team.workers.rbegin(), team.workers.rend());
    team.workers.clear();
    idle_teams_.push_back(&team);
    available_ = static_cast<int>(std::max<size_t>(1, idle_.size()));
    last_dismissed_ = Clock::now();
}

void ThreadPool::serve(Worker& worker) {
    for (;;) {
        const uint32_t calls = worker.calls.load(std::memory_order_acquire);
        Team* const team = worker.team.load(std::memory_order_acquire);
        if (!team) {
            const auto until = Clock::now() + kLinger;
            while (linger_.load(std::memory_order_relaxed) && worker.calls.load(std::memory_order_relaxed) == calls &&
                   Clock::now() < until)
                for (int i = 0; i < 16; ++i) pause_briefly();
            worker.calls.wait(calls, std::memory_order_acquire);
            continue;
        }
        int spins = 0;
        while (worker.team.load(std::memory_order_acquire) == team) {
            if (team->help()) {
                spins = 0;
            } else if (++spins < kSpinsBeforeYield) {
                pause_briefly();
            } else if (spins < kSpinsBeforeYield + kYieldsBeforeSleep) {
                std::this_thread::yield();
            } else {
                const uint64_t state = team->state.load();
                team->sleepers.fetch_add(1);
                // Whoever hands out a job or dismisses the team now sees a sleeper, or has changed the state.
                if (worker.team.load() == team && !team->help()) team->state.wait(state);
                team->sleepers.fetch_sub(1);
                spins = 0;
            }
        }
    }
}

}  // namespace linnet
