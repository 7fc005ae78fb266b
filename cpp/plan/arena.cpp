// Offsets for buffers with lifetimes, so that those that never live together share memory.
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace linnet {
namespace {

constexpr int64_t kAlign = 64;

int64_t aligned(int64_t bytes) { return checked_add(bytes, kAlign - 1) / kAlign * kAlign; }

// Puts buffers, in the order given, into the lowest gap between those already placed that live at the same time.
int64_t place_in_order(const std::vector<Lifetime>& lifetimes, const std::vector<size_t>& order,
                       std::vector<int64_t>& offsets) {
    offsets.assign(lifetimes.size(), 0);
    std::vector<size_t> by_offset;  // placed so far, lowest first
    int64_t total = 0;
    for (size_t i : order) {
        const Lifetime& mine = lifetimes[i];
        const int64_t bytes = aligned(mine.bytes);
        int64_t candidate = 0;
        for (size_t j : by_offset) {
            const Lifetime& other = lifetimes[j];
            if (other.last < mine.first || mine.last < other.first) continue;
            if (offsets[j] >= checked_add(candidate, bytes)) break;
            candidate = std::max(candidate, checked_add(offsets[j], aligned(other.bytes)));
        }
        offsets[i] = candidate;
        const auto at = std::upper_bound(by_offset.begin(), by_offset.end(), candidate,
                                         [&](int64_t value, size_t j) { return value < offsets[j]; });
        by_offset.insert(at, i);
        total = std::max(total, checked_add(candidate, bytes));
    }
    return total;
}

}  // namespace

int64_t place_lifetimes(const std::vector<Lifetime>& lifetimes, std::vector<int64_t>& offsets) {
    std::vector<size_t> order(lifetimes.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
    const int64_t by_size = place_in_order(lifetimes, order, offsets);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return lifetimes[a].first < lifetimes[b].first; });
    std::vector<int64_t> other;
    const int64_t by_use = place_in_order(lifetimes, order, other);
    if (by_use >= by_size) return by_size;
    offsets = std::move(other);
    return by_use;
}

}  // namespace linnet
