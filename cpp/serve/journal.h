// The last requests that ended, for whoever writes logs and traces of them. When it is not read in time, the oldest are
// lost.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <iterator>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "serve/statistics.h"

namespace linnet::serve {

struct JournalEntry {
    // Of texts that a client chooses, no more is kept.
    static constexpr size_t kMostText = 512;
    std::string model, id, traceparent, message;  // message: of a failure
    int64_t version = 0;                          // 0: not settled
    Protocol protocol = Protocol::oip_grpc;
    Code code = Code::ok;
    std::chrono::system_clock::time_point end;
    std::chrono::nanoseconds total{0}, decode{0}, queue{0}, run{0}, encode{0};
    int64_t rows = 0, batch = 0;
    uint64_t bytes_in = 0, bytes_out = 0;
};

class Journal {
  public:
    static constexpr size_t kMost = 65536;
    // Off until somebody reads.
    bool enabled() const { return enabled_.load(std::memory_order_relaxed); }
    void enable(bool on) { enabled_ = on; }
    void add(JournalEntry entry) {
        std::lock_guard lock(mutex_);
        if (entries_.size() == kMost) {
            entries_.pop_front();
            ++lost_;
        }
        entries_.push_back(std::move(entry));
    }
    // The oldest `most`, and how many were lost before they could be read.
    std::pair<std::vector<JournalEntry>, uint64_t> take(size_t most) {
        std::lock_guard lock(mutex_);
        const auto end = entries_.begin() + static_cast<std::ptrdiff_t>(std::min(most, entries_.size()));
        std::vector<JournalEntry> taken(std::make_move_iterator(entries_.begin()), std::make_move_iterator(end));
        entries_.erase(entries_.begin(), end);
        return {std::move(taken), std::exchange(lost_, 0)};
    }

  private:
    std::atomic<bool> enabled_{false};
    std::mutex mutex_;
    std::deque<JournalEntry> entries_;
    uint64_t lost_ = 0;
};

}  // namespace linnet::serve
