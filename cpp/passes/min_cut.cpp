// Minimum cut: see min_cut.h.
#include "passes/min_cut.h"

#include <algorithm>

namespace linnet {

void MinCut::add_edge(int from, int to, int64_t capacity) {
    if (from == to) return;
    edges_of_[static_cast<size_t>(from)].push_back(static_cast<int>(edges_.size()));
    edges_.push_back({to, capacity});
    edges_of_[static_cast<size_t>(to)].push_back(static_cast<int>(edges_.size()));
    edges_.push_back({from, 0});
}

bool MinCut::layer() {
    level_.assign(edges_of_.size(), -1);
    level_[kSource] = 0;
    std::vector<int> queue{kSource};
    for (size_t i = 0; i < queue.size(); ++i)
        for (int e : edges_of_[static_cast<size_t>(queue[i])]) {
            const Edge& edge = edges_[static_cast<size_t>(e)];
            if (edge.room <= 0 || level_[static_cast<size_t>(edge.to)] >= 0) continue;
            level_[static_cast<size_t>(edge.to)] = level_[static_cast<size_t>(queue[i])] + 1;
            queue.push_back(edge.to);
        }
    return level_[kSink] >= 0;
}

// Pushes flow along one path of the layered graph; a path is walked with an explicit stack (graphs can be deep).
int64_t MinCut::push() {
    std::vector<int> path;  // edges
    int at = kSource;
    while (at != kSink) {
        auto& next = next_[static_cast<size_t>(at)];
        const auto& out = edges_of_[static_cast<size_t>(at)];
        bool stepped = false;
        for (; next < out.size(); ++next) {
            const Edge& edge = edges_[static_cast<size_t>(out[next])];
            if (edge.room <= 0 || level_[static_cast<size_t>(edge.to)] != level_[static_cast<size_t>(at)] + 1) continue;
            path.push_back(out[next]);
            at = edge.to;
            stepped = true;
            break;
        }
        if (stepped) continue;
        if (path.empty()) return 0;
        level_[static_cast<size_t>(at)] = -1;  // a dead end
        at = edges_[static_cast<size_t>(path.back() ^ 1)].to;
        path.pop_back();
    }
    int64_t most = kInfinite;
    for (int e : path) most = std::min(most, edges_[static_cast<size_t>(e)].room);
    for (int e : path) {
        edges_[static_cast<size_t>(e)].room -= most;
        edges_[static_cast<size_t>(e ^ 1)].room += most;
    }
    return most;
}

void MinCut::solve() {
    while (layer()) {
        next_.assign(edges_of_.size(), 0);
        while (push() > 0) {
        }
    }
}

std::vector<char> MinCut::smallest_source_side() const {
    std::vector<char> side(edges_of_.size(), 0);
    side[kSource] = 1;
    std::vector<int> queue{kSource};
    for (size_t i = 0; i < queue.size(); ++i)
        for (int e : edges_of_[static_cast<size_t>(queue[i])]) {
            const Edge& edge = edges_[static_cast<size_t>(e)];
            if (edge.room <= 0 || side[static_cast<size_t>(edge.to)]) continue;
            side[static_cast<size_t>(edge.to)] = 1;
            queue.push_back(edge.to);
        }
    return side;
}

std::vector<char> MinCut::largest_source_side() const {
    std::vector<char> side(edges_of_.size(), 1);  // all that cannot reach the sink
    side[kSink] = 0;
    std::vector<int> queue{kSink};
    for (size_t i = 0; i < queue.size(); ++i)
        for (int e : edges_of_[static_cast<size_t>(queue[i])]) {
            const Edge& back = edges_[static_cast<size_t>(e ^ 1)];  // from edge.to into here
            const int from = edges_[static_cast<size_t>(e)].to;
            if (back.room <= 0 || !side[static_cast<size_t>(from)]) continue;
            side[static_cast<size_t>(from)] = 0;
            queue.push_back(from);
        }
    return side;
}

}  // namespace linnet
