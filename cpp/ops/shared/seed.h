// Seeds of operators that draw random numbers.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>

namespace linnet {

// Another one each time, for nodes without the attribute `seed`.
inline uint64_t fresh_seed() {
    static std::atomic<uint64_t> runs{
        static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count())};
    return runs.fetch_add(0x632be59bd9b4e019u);
}

}  // namespace linnet
