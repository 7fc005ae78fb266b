// Memory that no tensor has, counted on the account of the thread that asks for it (base/memory.h).
#pragma once
#include "base/memory.h"

namespace linnet {

class HeldMemory {
  public:
    HeldMemory() = default;
    // Throws runtime when the account has no `bytes` left.
    explicit HeldMemory(int64_t bytes) {
        MemoryAccount* account = MemoryAccount::current();
        if (!account) return;
        account->take(bytes);
        account_ = account->shared_from_this();
        bytes_ = bytes;
    }
    HeldMemory(HeldMemory&&) noexcept = default;
    HeldMemory& operator=(HeldMemory&& other) noexcept {
        give();
        account_ = std::move(other.account_);
        bytes_ = other.bytes_;
        return *this;
    }
    ~HeldMemory() { give(); }

  private:
    void give() noexcept {
        if (account_) account_->give(bytes_);
        account_.reset();
    }
    std::shared_ptr<MemoryAccount> account_;
    int64_t bytes_ = 0;
};

}  // namespace linnet
