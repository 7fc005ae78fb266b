// Offsets for buffers with lifetimes, so that those that never live together share memory.
#include <algorithm>
#include <numeric>

#include "plan/plan.h"

namespace linnet {
namespace {

constexpr int64_t kAlign = 64;

int64_t aligned(int64_t bytes) { return checked_add(bytes, kAlign - 1) / kAlign * kAlign; }

// A set of bytes, as ranges that neither overlap nor touch, lowest first.
class Ranges {
  public:
    // The lowest place from `at` on where `bytes` are free. Counts the ranges it looks at.
    int64_t free_from(int64_t at, int64_t bytes, int64_t& visits) const {
        auto next = std::upper_bound(ranges_.begin(), ranges_.end(), at,
                                     [](int64_t place, const Range& range) { return place < range.end; });
        for (; next != ranges_.end() && next->begin < checked_add(at, bytes); ++next, ++visits) at = next->end;
        ++visits;
        return at;
    }

    void add(int64_t begin, int64_t end) {
        const auto first = std::lower_bound(ranges_.begin(), ranges_.end(), begin,
                                            [](const Range& range, int64_t place) { return range.end < place; });
        auto last = first;
        for (; last != ranges_.end() && last->begin <= end; ++last) {
            begin = std::min(begin, last->begin);
            end = std::max(end, last->end);
        }
        if (first == last) {
            ranges_.insert(first, {begin, end});
        } else {
            *first = {begin, end};
            ranges_.erase(first + 1, last);
        }
    }

  private:
    struct Range {
        int64_t begin, end;
    };
    std::vector<Range> ranges_;
};

// The bytes that are taken at each time, as a tree over the steps: a node stands for a span of steps, its children for
// the halves. A buffer is entered at the few nodes that make up its lifetime, and is noted in those above them.
class Timeline {
  public:
    explicit Timeline(int64_t steps) {
        while (leaves_ < steps) leaves_ *= 2;
        whole_.resize(static_cast<size_t>(2 * leaves_));
        part_.resize(static_cast<size_t>(2 * leaves_));
    }

    // The lowest place that is free all the time from step `first` to `last`.
    int64_t find(int64_t first, int64_t last, int64_t bytes) {
        seen_.clear();
        collect(1, 0, leaves_, first, last + 1);
        int64_t at = 0;
        for (int64_t before = -1; before != at;) {
            before = at;
            for (const Ranges* ranges : seen_) at = ranges->free_from(at, bytes, visits_);
        }
        return at;
    }

    void take(int64_t first, int64_t last, int64_t begin, int64_t end) {
        enter(1, 0, leaves_, first, last + 1, begin, end);
    }

    int64_t visits() const { return visits_; }

  private:
    void collect(size_t node, int64_t from, int64_t to, int64_t first, int64_t end) {
        if (to <= first || end <= from) return;
        seen_.push_back(&whole_[node]);
        if (first <= from && to <= end) return seen_.push_back(&part_[node]);
        collect(2 * node, from, (from + to) / 2, first, end);
        collect(2 * node + 1, (from + to) / 2, to, first, end);
    }

    void enter(size_t node, int64_t from, int64_t to, int64_t first, int64_t end, int64_t begin, int64_t until) {
        if (to <= first || end <= from) return;
        if (first <= from && to <= end) return whole_[node].add(begin, until);
        part_[node].add(begin, until);
        enter(2 * node, from, (from + to) / 2, first, end, begin, until);
        enter(2 * node + 1, (from + to) / 2, to, first, end, begin, until);
    }

    int64_t leaves_ = 1, visits_ = 0;
    std::vector<Ranges> whole_;  // by node: taken in its whole span
    std::vector<Ranges> part_;   // by node: taken in a part of it, by what is entered further down
    std::vector<const Ranges*> seen_;
};

// Puts buffers, in the order given, into the lowest gap between those already placed that live at the same time.
Placement place_in_order(const std::vector<Lifetime>& lifetimes, const std::vector<size_t>& order) {
    int64_t steps = 0;
    for (const Lifetime& l : lifetimes) steps = std::max<int64_t>(steps, int64_t{l.last} + 1);
    Timeline timeline(steps);
    Placement placed;
    placed.offsets.assign(lifetimes.size(), 0);
    for (size_t i : order) {
        const Lifetime& mine = lifetimes[i];
        const int64_t bytes = aligned(mine.bytes);
        if (bytes == 0) continue;
        const int64_t at = timeline.find(mine.first, mine.last, bytes), end = checked_add(at, bytes);
        timeline.take(mine.first, mine.last, at, end);
        placed.offsets[i] = at;
        placed.bytes = std::max(placed.bytes, end);
    }
    placed.visits = timeline.visits();
    return placed;
}

}  // namespace

Placement place_lifetimes(const std::vector<Lifetime>& lifetimes) {
    std::vector<size_t> order(lifetimes.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });
    Placement by_size = place_in_order(lifetimes, order);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return lifetimes[a].first < lifetimes[b].first; });
    Placement by_use = place_in_order(lifetimes, order);
    Placement& better = by_use.bytes < by_size.bytes ? by_use : by_size;
    better.visits = by_size.visits + by_use.visits;
    return std::move(better);
}

}  // namespace linnet
