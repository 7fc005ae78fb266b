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
//
// Each thread begins with a share of neighbouring tasks, always the same part of them, and then takes what others have
// left: what a thread wrote in one job is likely to be what it reads in the next, and still in its cache.
struct ThreadPool::Team {
    // A share: the job's epoch (high half) and the next index (low half); a claim succeeds only for the current epoch,
    // so a worker that is late can never touch a job that has ended.
    struct alignas(64) Share {
        std::atomic<uint64_t> next{0};
        std::atomic<uint32_t> end{0};
    };
    static constexpr size_t kMostShares = 64;

    alignas(64) std::atomic<uint32_t> epoch{0};  // of the last job; changes after its shares are there
    std::atomic<int> sleepers{0};                // waiting on `epoch`
    alignas(64) std::atomic<int64_t> finished{0};
    std::atomic<uint32_t> shares_used{0};
    std::atomic<void (*)(void*, int64_t)> task{nullptr};
    std::atomic<void*> context{nullptr};
    Share shares[kMostShares];
    std::vector<Worker*> workers;  // the scope's own

    static constexpr uint64_t first(uint32_t epoch, uint32_t index) { return uint64_t{epoch} << 32 | index; }

    void publish(uint32_t next) {
        epoch.store(next);
        if (sleepers.load() > 0) epoch.notify_all();
    }
    // No share of an earlier job can be claimed from any more.
    uint32_t close() {
        const uint32_t next = epoch.load(std::memory_order_relaxed) + 1;
        const uint32_t used = shares_used.load(std::memory_order_relaxed);
        for (uint32_t i = 0; i < used; ++i) shares[i].next.store(first(next, UINT32_MAX), std::memory_order_release);
        return next;
    }
    // Ends the last job.
    void retire() { publish(close()); }
    bool claim(Share& share, uint32_t of, uint32_t& index) {
        uint64_t now = share.next.load(std::memory_order_acquire);
        while ((now >> 32) == of && static_cast<uint32_t>(now) < share.end.load(std::memory_order_acquire)) {
            if (share.next.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) {
                index = static_cast<uint32_t>(now);
                return true;
            }
        }
        return false;
    }
    // Takes tasks until none is left, those of share `own` first; false if there was none.
    bool help(uint32_t own) {
        const uint32_t of = epoch.load(std::memory_order_acquire);
        const uint32_t used = shares_used.load(std::memory_order_relaxed);
        int64_t done = 0;
        for (uint32_t i = 0; i < used; ++i) {
            Share& share = shares[(own + i) % used];
            uint32_t index = 0;
            while (claim(share, of, index)) {
                task.load(std::memory_order_relaxed)(context.load(std::memory_order_relaxed), index);
                ++done;
            }
        }
        if (done > 0) finished.fetch_add(done, std::memory_order_acq_rel);
        return done > 0;
    }
    void run(int64_t count, void (*what)(void*, int64_t), void* with) {
        // No claim can succeed between here and the publication of shares below: those of the last job are used up.
        task.store(what, std::memory_order_relaxed);
        context.store(with, std::memory_order_relaxed);
        finished.store(0, std::memory_order_relaxed);
        // Before the new ends are visible the new epoch must not be claimable, and the old one never is before its end:
        // so first close the old shares with an index past any end.
        const uint32_t next = close();
        const auto used = static_cast<uint32_t>(
            std::min<int64_t>({count, static_cast<int64_t>(workers.size()) + 1, int64_t{kMostShares}}));
        shares_used.store(used, std::memory_order_release);
        for (uint32_t i = 0; i < used; ++i) {
            shares[i].end.store(static_cast<uint32_t>(count * (i + 1) / used), std::memory_order_release);
            shares[i].next.store(first(next, static_cast<uint32_t>(count * i / used)), std::memory_order_release);
        }
        publish(next);
        help(0);
        for (int spins = 0; finished.load(std::memory_order_acquire) < count; ++spins) {
            if (spins < kSpinsBeforeYield) pause_briefly();
            else std::this_thread::yield();
        }
    }
};

struct alignas(64) ThreadPool::Worker {
    std::atomic<Team*> team{nullptr};
    std::atomic<uint32_t> share{0};  // the one of the team's that it begins with
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
        worker.share.store(static_cast<uint32_t>(team->workers.size()), std::memory_order_relaxed);
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
        const uint32_t own = worker.share.load(std::memory_order_relaxed);
        int spins = 0;
        while (worker.team.load(std::memory_order_acquire) == team) {
            if (team->help(own)) {
                spins = 0;
            } else if (++spins < kSpinsBeforeYield) {
                pause_briefly();
            } else if (spins < kSpinsBeforeYield + kYieldsBeforeSleep) {
                std::this_thread::yield();
            } else {
                const uint32_t epoch = team->epoch.load();
                team->sleepers.fetch_add(1);
                // Whoever hands out a job or dismisses the team now sees a sleeper, or has changed the epoch.
                if (worker.team.load() == team && !team->help(own)) team->epoch.wait(epoch);
                team->sleepers.fetch_sub(1);
                spins = 0;
            }
        }
    }
}

}  // namespace linnet
