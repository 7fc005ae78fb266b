// Leader and followers: every thread that brings a request is ready to run it, or to wait for whoever does.
#include "serve/scheduler.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace linnet::serve {
namespace {

using std::chrono::nanoseconds;

// A model counts as active for so long after its last request: its share of the CPUs is kept for it meanwhile.
constexpr std::chrono::milliseconds kActive{100};
// Of the time that a request is expected to take, so that those which are taken on are in time.
constexpr double kMargin = 1.5;
// Splitting less work over threads than this takes longer than the work.
constexpr double kWorthSplitting = 150e3;  // ns

void blend(double& average, double value) { average = average > 0 ? average + 0.2 * (value - average) : value; }

uint32_t level_of(const Job& job) {
    const Limits& limits = job.served->limits;
    if (limits.priority_levels == 0) return 0;
    const uint32_t middle = (limits.priority_levels + 1) / 2;
    const uint32_t level = job.priority ? job.priority : limits.default_priority ? limits.default_priority : middle;
    return std::min(level, limits.priority_levels);
}

// Requests of the same outputs whose inputs differ in their rows only can be put together.
bool fit_together(const Job& a, const Job& b) {
    if (a.alone || b.alone || a.wanted != b.wanted || a.inputs.size() != b.inputs.size()) return false;
    for (size_t i = 0; i < a.inputs.size(); ++i) {
        const Value &x = a.inputs[i], &y = b.inputs[i];
        if (x.kind != y.kind || x.tensor.dtype != y.tensor.dtype || x.tensor.rank() != y.tensor.rank()) return false;
        for (size_t d = 1; d < x.tensor.shape.size(); ++d)
            if (x.tensor.shape[d] != y.tensor.shape[d]) return false;
    }
    return true;
}

std::string milliseconds(double ns) {
    const double ms = std::round(ns / 1e4) / 100;
    return cat(ms, " ms");
}

}  // namespace

void Cancel::set() {
    set_.store(true, std::memory_order_release);
    std::lock_guard own(mutex_);
    if (!job_) return;
    std::lock_guard lock(scheduler_->mutex_);
    job_->wake_.notify_all();
}

Scheduler::Scheduler(int cpus) : cpus_(std::max(1, cpus)), free_(cpus_) {}

void Scheduler::run(Job& job) {
    struct Attached {
        Cancel* cancel = nullptr;
        ~Attached() {
            if (!cancel) return;
            std::lock_guard own(cancel->mutex_);
            cancel->job_ = nullptr;
        }
    } attached;  // outlives `lock`: a Cancel's own lock comes before the scheduler's
    Lock lock(mutex_);
    admit(job);
    enqueue(job);
    dispatch(&job);
    if (job.state_ == Job::State::waiting && job.at_once) {  // others have what it would run on
        remove(job);
        throw NotAtOnce{};
    }
    if (job.state_ == Job::State::waiting && job.cancel) {
        lock.unlock();
        attached.cancel = job.cancel;
        {
            std::lock_guard own(job.cancel->mutex_);
            job.cancel->scheduler_ = this;
            job.cancel->job_ = &job;
        }
        job.cancel->will_wait();
        lock.lock();
    }
    while (job.state_ != Job::State::done) {
        if (job.state_ == Job::State::leading) lead(job, lock);
        else wait(job, lock);
    }
    if (job.failure_) throw Failure(*job.failure_);
}

void Scheduler::admit(Job& job) {
    const Served& served = *job.served;
    const Queue& queue = served.queue;
    const Limits& limits = served.limits;
    if (job.at_once) {
        const double expected = queue.row_ns * static_cast<double>(job.rows);
        const bool idle = free_ > 0 && queue.requests == 0 && queue.running == 0 && limits.queue_delay.count() == 0;
        if (!idle || expected <= 0 || expected > static_cast<double>(nanoseconds(kShort).count())) throw NotAtOnce{};
    }
    if (job.cancel && job.cancel->is_set()) refuse(Code::cancelled, "the call was cancelled");
    if (queue.requests >= limits.max_queue_requests || queue.bytes + job.bytes > limits.max_queue_bytes)
        refuse(Code::unavailable, "the queue of model '", served.name, "' is full: ", queue.requests, " requests with ",
               queue.bytes, " bytes wait; try again later");
    if (job.deadline == Clock::time_point::max()) return;
    const double left = static_cast<double>(nanoseconds(job.deadline - Clock::now()).count());
    if (left <= 0) refuse(Code::deadline_exceeded, "the deadline has passed");
    // A request that finds the model idle is tried whatever is expected: so an estimate that is wrong is found out.
    job.tried_ = queue.requests == 0 && queue.running == 0;
    if (job.tried_ || queue.row_ns <= 0) return;
    // The rest of the run under way, what waits, and itself; with some room, since a call that is refused at once can
    // go elsewhere, and one that is taken on in vain cannot.
    const auto rest =
        queue.running > 0 ? std::max(queue.busy_until - Clock::now(), Clock::duration(0)) : Clock::duration(0);
    const double needed = kMargin * (static_cast<double>(nanoseconds(rest).count()) +
                                     queue.row_ns * static_cast<double>(queue.rows + job.rows));
    if (needed > left)
        refuse(Code::deadline_exceeded, "the deadline in ", milliseconds(left), " cannot be met: model '", served.name,
               "' would need about ", milliseconds(needed));
}

void Scheduler::enqueue(Job& job) {
    Served& served = *job.served;
    Queue& queue = served.queue;
    if (std::find(active_.begin(), active_.end(), job.served) == active_.end()) {
        active_.push_back(job.served);
        queue.virtual_time = std::max(queue.virtual_time, virtual_now_);
    }
    queue.levels[level_of(job)].push_back(&job);
    ++queue.requests;
    queue.bytes += job.bytes;
    queue.rows += job.rows;
    queue.last_active = job.arrival;
    add_queued(served, 1);
}

void Scheduler::take_out(Job& job) {
    Queue& queue = job.served->queue;
    --queue.requests;
    queue.bytes -= job.bytes;
    queue.rows -= job.rows;
    add_queued(*job.served, -1);
}

void Scheduler::remove(Job& job) {
    auto& level = job.served->queue.levels[level_of(job)];
    level.erase(std::find(level.begin(), level.end(), &job));
    take_out(job);
}

void Scheduler::forget_idle() {
    std::vector<std::shared_ptr<Served>> gone;  // freed after the lock
    std::lock_guard lock(mutex_);
    for (auto& served : active_)
        if (served->queue.requests == 0 && served->queue.running == 0) gone.push_back(std::move(served));
    active_.erase(std::remove(active_.begin(), active_.end(), nullptr), active_.end());
}

int Scheduler::share(const Served& served, Clock::time_point now) const {
    double weights = 0;
    for (const auto& other : active_) {
        const Queue& queue = other->queue;
        if (other.get() == &served || queue.requests > 0 || queue.running > 0 || now - queue.last_active < kActive)
            weights += other->limits.weight;
    }
    const double part = weights > 0 ? served.limits.weight / weights : 1;
    return std::max(1, static_cast<int>(std::floor(cpus_ * part + 1e-9)));
}

bool Scheduler::may_run(const Served& served, Clock::time_point now) const {
    const Queue& queue = served.queue;
    const Limits& limits = served.limits;
    if (queue.requests == 0) return false;
    if (limits.instances > 0 && queue.running >= limits.instances) return false;
    if (queue.threads >= share(served, now)) return false;
    if (limits.queue_delay.count() == 0 || queue.rows >= limits.max_batch) return true;
    for (const auto& [level, jobs] : queue.levels)
        for (const Job* job : jobs)
            if (job->arrival + limits.queue_delay <= now) return true;
    return false;
}

int Scheduler::threads_for(const Served& served, int64_t rows, Clock::time_point now) const {
    const Queue& queue = served.queue;
    if (queue.cpu_ns > 0 && queue.cpu_ns * static_cast<double>(rows) < kWorthSplitting) return 1;
    const int most = std::min({served.session->threads(), free_, share(served, now) - queue.threads});
    int64_t runs = 0;  // that wait for tokens as well
    for (const auto& other : active_)
        runs += (other->queue.rows + other->limits.max_batch - 1) / std::max<int64_t>(1, other->limits.max_batch);
    const int64_t fair = (free_ + runs) / (1 + runs);
    return static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(most, fair)));
}

// Whether a run of so many rows that begins now might end after the request's deadline.
bool Scheduler::too_late(const Job& job, int64_t rows, Clock::time_point now) const {
    if (job.deadline == Clock::time_point::max()) return false;
    if (job.tried_) return now >= job.deadline;
    const double run = kMargin * job.served->queue.row_ns * static_cast<double>(rows);
    return now + nanoseconds(static_cast<int64_t>(run)) > job.deadline;
}

// The next batch of the version's queue; those that can no longer be in time are sent back.
std::vector<Job*> Scheduler::gather(Served& served, Clock::time_point now) {
    Queue& queue = served.queue;
    const bool together = served.limits.max_batch > 1 && queue.separable;
    std::vector<Job*> batch;
    const Job* soonest = nullptr;  // in the batch, the one whose deadline comes first
    int64_t rows = 0;
    bool single = true;  // every request has one row
    for (auto& [level, jobs] : queue.levels) {
        for (auto it = jobs.begin(); it != jobs.end();) {
            Job& job = **it;
            const bool late = too_late(job, job.rows, now);
            if (late || (job.cancel && job.cancel->is_set())) {
                take_out(job);
                it = jobs.erase(it);
                if (late) finish(job, Failure(Code::deadline_exceeded, "the deadline passed in the queue"));
                else finish(job, Failure(Code::cancelled, "the call was cancelled"));
                continue;
            }
            if (!batch.empty() && (rows + job.rows > served.limits.max_batch || !fit_together(*batch[0], job))) {
                ++it;
                continue;
            }
            // None is made late by those that are run with it.
            if (!batch.empty() && (too_late(*soonest, rows + job.rows, now) || too_late(job, rows + job.rows, now))) {
                ++it;
                continue;
            }
            if (batch.empty() || job.deadline < soonest->deadline) soonest = &job;
            batch.push_back(&job);
            rows += job.rows;
            single = single && job.rows == 1;
            if (!together || rows >= served.limits.max_batch) break;
            ++it;
        }
        if (!batch.empty() && (!together || rows >= served.limits.max_batch)) break;
    }
    // Every batch size has a plan of its own: powers of two keep them few.
    if (single && static_cast<int64_t>(batch.size()) < served.limits.max_batch && !batch.empty())
        batch.resize(std::bit_floor(batch.size()));
    for (Job* job : batch) remove(*job);
    return batch;
}

// Gives free tokens to those that wait. `here` is the caller's own job: it need not be woken.
void Scheduler::dispatch(const Job* here) {
    while (free_ > 0) {
        const auto now = Clock::now();
        Served* best = nullptr;
        for (const auto& served : active_)
            if (may_run(*served, now) && (!best || served->queue.virtual_time < best->queue.virtual_time))
                best = served.get();
        if (!best) break;
        std::vector<Job*> batch = gather(*best, now);
        if (batch.empty()) continue;
        int64_t rows = 0;
        for (Job* job : batch) {
            job->state_ = Job::State::running;
            rows += job->rows;
        }
        Queue& queue = best->queue;
        Job& leader = *batch[0];
        leader.threads_ = threads_for(*best, rows, now);
        leader.batch_ = std::move(batch);
        leader.state_ = Job::State::leading;
        free_ -= leader.threads_;
        queue.busy_until = now + nanoseconds(static_cast<int64_t>(queue.row_ns * static_cast<double>(rows)));
        queue.threads += leader.threads_;
        ++queue.running;
        virtual_now_ = std::max(virtual_now_, queue.virtual_time);
        if (&leader != here) leader.wake_.notify_all();
    }
    const auto now = Clock::now();
    std::erase_if(active_, [&](const std::shared_ptr<Served>& served) {
        const Queue& queue = served->queue;
        return queue.requests == 0 && queue.running == 0 && now - queue.last_active >= kActive;
    });
}

void Scheduler::wait(Job& job, Lock& lock) {
    if (job.state_ != Job::State::waiting) return job.wake_.wait(lock);
    const auto now = Clock::now();
    const bool cancelled = job.cancel && job.cancel->is_set();
    if (cancelled || now >= job.deadline) {
        remove(job);
        if (cancelled) finish(job, Failure(Code::cancelled, "the call was cancelled"));
        else finish(job, Failure(Code::deadline_exceeded, "the deadline passed in the queue"));
        return;
    }
    auto until = job.deadline;
    const auto delayed = job.arrival + job.served->limits.queue_delay;
    if (delayed > now) until = std::min(until, delayed);
    if (until == Clock::time_point::max()) job.wake_.wait(lock);
    else job.wake_.wait_until(lock, until);
    if (job.state_ == Job::State::waiting && until == delayed) dispatch(&job);
}

void Scheduler::lead(Job& job, Lock& lock) {
    const std::vector<Job*> batch = std::move(job.batch_);
    const int threads = job.threads_;
    const std::shared_ptr<Served> served = job.served;
    lock.unlock();

    const auto start = Clock::now();
    std::vector<std::optional<Failure>> failures(batch.size());
    bool separable = true;
    const auto attempt = [&](const std::vector<Job*>& jobs) -> std::optional<Failure> {
        try {
            run_batch(jobs, threads);
            return std::nullopt;
        } catch (const NotSeparable&) {
            separable = false;
            return Failure(Code::internal, "");
        } catch (...) {
            return failure_of(std::current_exception());
        }
    };
    failures[0] = attempt(batch);
    if (failures[0] && batch.size() > 1)  // one bad request must not be the others' failure
        for (size_t i = 0; i < batch.size(); ++i) failures[i] = attempt({batch[i]});
    const nanoseconds took = Clock::now() - start;

    lock.lock();
    Queue& queue = served->queue;
    free_ += threads;
    queue.threads -= threads;
    --queue.running;
    queue.separable = queue.separable && separable;
    queue.last_active = Clock::now();
    const double ns = static_cast<double>(took.count());
    queue.virtual_time += ns * threads / std::max(1e-3, served->limits.weight);
    int64_t rows = 0;
    for (const Job* member : batch) rows += member->rows;
    if (!failures[0] && rows > 0) {
        blend(queue.row_ns, ns / static_cast<double>(rows));
        blend(queue.cpu_ns, ns * threads / static_cast<double>(rows));
        add(served->statistics.executions);
        auto& sizes = served->statistics.batches;
        sizes[std::min(static_cast<size_t>(rows), sizes.size() - 1)].add(took);
    }
    for (size_t i = 0; i < batch.size(); ++i) {
        batch[i]->queued = start - batch[i]->arrival;
        batch[i]->ran = took;
        batch[i]->batch = rows;
        finish(*batch[i], std::move(failures[i]));
    }
    dispatch(&job);
}

void Scheduler::finish(Job& job, std::optional<Failure> failure) {
    job.failure_ = std::move(failure);
    job.state_ = Job::State::done;
    job.wake_.notify_all();
}

void Scheduler::add_queued(Served& served, int64_t by) {
    served.statistics.queued.fetch_add(by, std::memory_order_relaxed);
}

}  // namespace linnet::serve
