// Who runs when. There are as many tokens as CPUs; a run holds as many as it may use threads. A request that finds
// tokens free is run at once by the thread that brought it, without a hop. While they are taken, requests wait in their
// model's queue, and what has gathered when tokens come free is run as one batch, by the thread of its first request.
// Between models that wait, the one that has used the least CPU time (over its weight) goes first; while several are
// active, none holds more than its share of the CPUs.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "serve/served.h"
#include "serve/status.h"

namespace linnet::serve {

// A switch that stops a request which waits. May be set from any thread, before, during and after the request.
class Cancel {
  public:
    virtual ~Cancel() = default;
    void set();
    bool is_set() const { return set_.load(std::memory_order_acquire); }

  protected:
    // Called once before its request waits, without locks: the time to find whoever may set it. A request that is run
    // at once is spared that.
    virtual void will_wait() {}

  private:
    friend class Scheduler;
    std::atomic<bool> set_{false};
    std::mutex mutex_;  // guards job_ and scheduler_
    class Scheduler* scheduler_ = nullptr;
    Job* job_ = nullptr;
};

// One request on its way through the scheduler.
struct Job {
    // Given:
    std::shared_ptr<Served> served;
    std::vector<Value> inputs;   // in the order of the session's; absent where optional
    std::vector<size_t> wanted;  // outputs by index; distinct
    int64_t rows = 1;            // size of the first dimension where the version puts requests together
    bool alone = false;          // never put together with others
    size_t bytes = 0;            // held by the request
    uint32_t priority = 0;       // 0: the default
    bool at_once = false;        // or not at all
    Clock::time_point arrival, deadline = Clock::time_point::max();
    Cancel* cancel = nullptr;
    // Got:
    std::vector<Tensor> outputs;  // as `wanted`
    std::chrono::nanoseconds queued{0}, ran{0};
    int64_t batch = 0;  // rows of the run it was part of

  private:
    friend class Scheduler;
    friend class Cancel;
    enum class State { waiting, leading, running, done };
    State state_ = State::waiting;
    bool tried_ = false;       // whatever is expected of it
    int threads_ = 0;          // to lead with
    std::vector<Job*> batch_;  // to lead; itself first
    std::optional<Failure> failure_;
    std::condition_variable wake_;
};

// Thrown instead of running a job that should be run at once: it would wait, or take longer than kShort.
struct NotAtOnce {};
constexpr std::chrono::microseconds kShort{100};

class Scheduler {
  public:
    explicit Scheduler(int cpus);
    // Runs the job, alone or with others; returns when its outputs are there. Throws Failure: unavailable (the queue is
    // full), deadline_exceeded, cancelled, or what is wrong with its inputs; or NotAtOnce.
    void run(Job& job);
    // Versions that nobody asks for any more are let go.
    void forget_idle();

  private:
    friend class Cancel;
    using Lock = std::unique_lock<std::mutex>;
    void admit(Job& job);
    void enqueue(Job& job);
    void remove(Job& job);    // from its queue
    void take_out(Job& job);  // from the queue's sums
    void dispatch(const Job* here);
    bool may_run(const Served& served, Clock::time_point now) const;
    int share(const Served& served, Clock::time_point now) const;
    bool too_late(const Job& job, int64_t rows, Clock::time_point now) const;
    int threads_for(const Served& served, int64_t rows, Clock::time_point now) const;
    std::vector<Job*> gather(Served& served, Clock::time_point now);
    void wait(Job& job, Lock& lock);
    void lead(Job& job, Lock& lock);
    void finish(Job& job, std::optional<Failure> failure);
    static void add_queued(Served& served, int64_t by);

    const int cpus_;
    std::mutex mutex_;  // guards what follows, and every Served's queue
    int free_;
    double virtual_now_ = 0;
    std::vector<std::shared_ptr<Served>> active_;  // with requests that wait or run, or had some a moment ago
};

// batch.cpp. Thrown when the outputs of a batch have no row for each row of its inputs.
struct NotSeparable {};
// Runs jobs as one batch (or one alone) on `threads` threads; fills their outputs. Throws what the session throws.
void run_batch(const std::vector<Job*>& jobs, int threads);
// What a caller is told of an exception: Failure as it is, the library's errors by their kind.
Failure failure_of(std::exception_ptr error);

}  // namespace linnet::serve
