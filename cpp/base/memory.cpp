// Accounts of memory, and how much of it there is.
#include "base/memory.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <utility>

#include "base/error.h"

namespace linnet {
namespace {

thread_local MemoryAccount* account_of_this_thread = nullptr;

}  // namespace

void MemoryAccount::check(int64_t bytes) const {
    if (bytes > limit_ - used_ - text_)
        fail(ErrorKind::runtime, "no memory for ", bytes, " bytes: ", used_ + text_, " of the session's limit of ",
             limit_, " bytes are in use (option memory_limit)");
}

void MemoryAccount::take(int64_t bytes) {
    if (session_) session_->take(bytes);
    const std::lock_guard lock(mutex_);
    check(bytes);
    used_ += bytes;
}

void MemoryAccount::take_text(int64_t bytes) {
    if (session_) session_->take_text(bytes);
    const std::lock_guard lock(mutex_);
    check(bytes);
    text_ += bytes;
}

void MemoryAccount::give(int64_t bytes) noexcept {
    {
        const std::lock_guard lock(mutex_);
        if (closed_) return;
        used_ -= bytes;
    }
    if (session_) session_->give(bytes);
}

void MemoryAccount::give_text(int64_t bytes) noexcept {
    {
        const std::lock_guard lock(mutex_);
        bytes = std::min(bytes, text_);
        text_ -= bytes;
    }
    if (session_) session_->give_text(bytes);
}

void MemoryAccount::close() noexcept {
    int64_t held = 0, text = 0;
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
        held = std::exchange(used_, 0);
        text = std::exchange(text_, 0);
    }
    if (!session_) return;
    session_->give(held);
    session_->give_text(text);
}

int64_t MemoryAccount::used() const {
    const std::lock_guard lock(mutex_);
    return used_ + text_;
}

MemoryAccount* MemoryAccount::current() noexcept { return account_of_this_thread; }

MemoryAccount::Scope::Scope(MemoryAccount* account) noexcept : outer_(std::exchange(account_of_this_thread, account)) {}

MemoryAccount::Scope::~Scope() { account_of_this_thread = outer_; }

int64_t available_memory() {
    static const int64_t found = [] {
        int64_t bytes = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
        for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
            std::ifstream file(path);
            int64_t limit = 0;
            if (file >> limit && limit > 0) bytes = std::min(bytes, limit);
        }
        return bytes;
    }();
    return found;
}

}  // namespace linnet
