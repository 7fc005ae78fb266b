// How much memory a session may hold. What is allocated for tensors is counted on the account of the thread that
// allocates, where it has one.
#pragma once
#include <algorithm>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/kept_blocks.h"

namespace linnet {

// Bytes that are held, and how many may be. Thread-safe.
class MemoryAccount : public std::enable_shared_from_this<MemoryAccount> {
  public:
    // A session's.
    explicit MemoryAccount(int64_t limit)
        : limit_(limit), large_(static_cast<size_t>(std::min(limit / 8, kMostKept))) {}
    // A run's: what it holds counts as its session's until close().
    explicit MemoryAccount(std::shared_ptr<MemoryAccount> session) : session_(std::move(session)), large_(0) {}

    // Throws runtime when `bytes` more would be too many.
    void take(int64_t bytes);
    void give(int64_t bytes) noexcept;
    // The same for the text of strings, whose size is not always known when they go: never more is given than taken.
    void take_text(int64_t bytes);
    void give_text(int64_t bytes) noexcept;
    // What is still held belongs to somebody else from now on: a run's results are their caller's.
    void close() noexcept;
    int64_t used() const;
    // Where large tensors of a run come from and go to; null for a session's account. What lies there is not counted.
    LargeBlocks* large() noexcept { return session_ ? &session_->large_ : nullptr; }

    // The account of this thread; null where nothing is counted.
    static MemoryAccount* current() noexcept;
    // Makes an account this thread's for as long as it lives.
    class Scope {
      public:
        explicit Scope(MemoryAccount* account) noexcept;
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;

      private:
        MemoryAccount* outer_;
    };

  private:
    static constexpr int64_t kMostKept = int64_t{64} << 20;
    void check(int64_t bytes) const;
    const int64_t limit_ = INT64_MAX;
    const std::shared_ptr<MemoryAccount> session_;
    mutable std::mutex mutex_;  // guards what follows
    int64_t used_ = 0, text_ = 0;
    bool closed_ = false;
    LargeBlocks large_;  // of a session
};

// Memory that this process may use: the machine's, or its cgroup's where that is less.
int64_t available_memory();

}  // namespace linnet
