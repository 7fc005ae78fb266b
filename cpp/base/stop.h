// What ends a run before its end: a switch of its caller's, a time limit.
#pragma once
#include <atomic>
#include <chrono>

namespace linnet {

struct StopSignal {
    const std::atomic<bool>* terminate = nullptr;  // set by another thread; null: none
    std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();

    bool possible() const noexcept { return terminate || deadline != std::chrono::steady_clock::time_point::max(); }
    // Throws cancelled when the run has to end.
    void check() const;
};

}  // namespace linnet
