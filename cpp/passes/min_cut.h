// Minimum cut between a source and a sink (Dinic's algorithm).
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace linnet {

class MinCut {
  public:
    static constexpr int64_t kInfinite = int64_t{1} << 60;
    static constexpr int kSource = 0, kSink = 1;

    int add_node() {
        edges_of_.emplace_back();
        return static_cast<int>(edges_of_.size()) - 1;
    }
    // Cutting `from` (on the source's side) from `to` (on the sink's) costs `capacity`.
    void add_edge(int from, int to, int64_t capacity);
    void solve();
    // The smallest of the source's sides among all minimum cuts, and the largest.
    std::vector<char> smallest_source_side() const;
    std::vector<char> largest_source_side() const;

  private:
    struct Edge {
        int to;
        int64_t room;
    };
    bool layer();
    int64_t push();

    std::vector<Edge> edges_;  // edge i and its reverse i ^ 1
    std::vector<std::vector<int>> edges_of_{2};
    std::vector<int> level_;
    std::vector<size_t> next_;
};

}  // namespace linnet
