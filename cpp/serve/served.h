// One version of a model, ready to run, with its limits, its queue and what it counts.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "runtime/session.h"
#include "serve/drift.h"
#include "serve/statistics.h"

namespace linnet::serve {

struct Job;

struct Limits {
    int64_t max_batch = 1;                     // rows of one run; 1: requests are never put together
    bool refuse_larger = false;                // a request of more rows than max_batch is an error; else it runs alone
    std::chrono::microseconds queue_delay{0};  // that a request may wait for others to come
    int instances = 0;                         // runs at a time; 0: as many as there are CPUs
    size_t max_queue_requests = 1024;          // that wait
    size_t max_queue_bytes = size_t{256} << 20;
    uint32_t priority_levels = 0;                  // 0: all are equal; else 1 is the highest
    uint32_t default_priority = 0;                 // 0: the middle one
    double weight = 1;                             // its share of the CPUs beside other models
    std::chrono::microseconds default_timeout{0};  // of requests that give none; 0: none
};

// What the scheduler knows of a version; guarded by the scheduler's lock.
struct Queue {
    std::map<uint32_t, std::deque<Job*>> levels;  // by priority
    size_t requests = 0, bytes = 0;
    int64_t rows = 0;
    int running = 0, threads = 0;  // runs under way and the CPUs they hold
    double virtual_time = 0;       // CPU time used over weight
    double row_ns = 0;             // of wall time lately, 0: not known
    double cpu_ns = 0;             // CPU time of a run of one row lately
    Clock::time_point last_active{};
    Clock::time_point busy_until{};  // when the run that began last is expected to end
    bool separable = true;           // false once a batch has turned out not to be one
};

struct Served {
    Served(std::shared_ptr<Session> session, std::string name, int64_t version, const Limits& limits)
        : session(std::move(session)),
          name(std::move(name)),
          version(version),
          limits(limits),
          statistics(static_cast<size_t>(std::max<int64_t>(1, limits.max_batch))) {}

    const std::shared_ptr<Session> session;
    const std::string name;
    const int64_t version;
    const Limits limits;
    Statistics statistics;
    Queue queue;
    std::unique_ptr<Drift> drift;  // null: not watched. Set before it is published.
};

}  // namespace linnet::serve
