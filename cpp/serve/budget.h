// A bound on the memory that requests take before and while they are run, over all wires together.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "serve/status.h"

namespace linnet::serve {

// Counts the bytes of requests from when they arrive until they are answered. Thread-safe.
class Budget {
  public:
    // Bytes at a time. A request that is alone is taken whatever its size is.
    explicit Budget(uint64_t limit) : limit_(limit) {}

    // Takes bytes for a request that has taken `own` bytes before; refuses (unavailable) when there are not so many.
    void take(uint64_t count, uint64_t own = 0) {
        const uint64_t before = used_.fetch_add(count, std::memory_order_relaxed);
        if (fits(before, count, own)) return;
        give(count);
        refuse_it();
    }
    // Refuses as `take`, and takes nothing.
    void check(uint64_t count) {
        if (!fits(used(), count, 0)) refuse_it();
    }
    void give(uint64_t count) { used_.fetch_sub(count, std::memory_order_relaxed); }

    uint64_t used() const { return used_.load(std::memory_order_relaxed); }
    uint64_t refused() const { return refused_.load(std::memory_order_relaxed); }

  private:
    bool fits(uint64_t before, uint64_t count, uint64_t own) const { return before <= own || before + count <= limit_; }
    [[noreturn]] void refuse_it() {
        refused_.fetch_add(1, std::memory_order_relaxed);
        refuse(Code::unavailable, "requests under way take all of the ", limit_,
               " bytes that they may (max_bytes_in_flight)");
    }

    const uint64_t limit_;
    std::atomic<uint64_t> used_{0}, refused_{0};
};

}  // namespace linnet::serve
