// Yielding, and when.
#include "base/give_way.h"

#include <sched.h>

#include <chrono>

namespace linnet {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kPiece{100};

thread_local bool gives = false;
thread_local Clock::time_point yielded;

}  // namespace

void set_gives_way(bool gives_way) noexcept { gives = gives_way; }

void give_way() noexcept {
    if (!gives || Clock::now() - yielded < kPiece) return;
    sched_yield();
    yielded = Clock::now();
}

}  // namespace linnet
