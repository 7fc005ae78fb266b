// Walking decision trees: eight rows through one tree, or one row through eight trees, side by side.
#include "ops/shared/trees.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace linnet {
namespace {

constexpr int64_t kStepsWorthSharing = 20000;  // some 20 us

// `x` has kTreeLanes rows, each column's together; lane l is at row l, or all lanes at row 0. `steps` as in Forest.
template <bool own_row, class Node, class T>
inline __attribute__((always_inline)) void walk(const Node* (&at)[kTreeLanes], const T* x, int32_t steps) {
    const auto step = [x](const Node* node, int64_t lane) {
        return node + (node->next + (x[node->column + (own_row ? lane : 0)] <= node->value));
    };
    for (int32_t left = steps < 0 ? ~steps : steps; left > 0; --left) {
#pragma GCC unroll 8
        for (int64_t l = 0; l < kTreeLanes; ++l) at[l] = step(at[l], l);
    }
    for (bool moved = steps < 0; moved;) {
        moved = false;
#pragma GCC unroll 8
        for (int64_t l = 0; l < kTreeLanes; ++l) {
            const Node* next = step(at[l], l);
            moved |= next != at[l];
            at[l] = next;
        }
    }
}

// Adds what leaf says about a row of `tree`.
template <class T>
inline void add(const Forest& forest, int64_t tree, T leaf, T* scores, uint8_t* scored) {
    if (forest.leaf == Forest::Leaf::own) {
        const int32_t target = forest.weight_targets.as<int32_t>()[tree];
        scores[target] += leaf;
        scored[target] = 1;
        return;
    }
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    const auto row = static_cast<int64_t>(std::bit_cast<Bits>(leaf));
    const T* weights = forest.weights.as<T>();
    if (forest.leaf == Forest::Leaf::dense) {
        weights += row * forest.targets;
        for (int64_t k = 0; k < forest.targets; ++k) scores[k] += weights[k];
        return;
    }
    const auto* starts = forest.starts.as<int32_t>();
    const auto* targets = forest.weight_targets.as<int32_t>();
    for (int64_t w = starts[row]; w < starts[row + 1]; ++w) {
        const int32_t target = targets[w];
        T& score = scores[target];
        if (forest.sum == TreeSum::sum || forest.sum == TreeSum::average) score += weights[w];
        else if (!scored[target]) score = weights[w];
        else score = forest.sum == TreeSum::min ? std::min(score, weights[w]) : std::max(score, weights[w]);
        scored[target] = 1;
    }
}

template <class T, class Step>
class Walker {
  public:
    using Node = TreeNode<T, Step>;
    Walker(const Forest& forest, const T* x, int64_t rows, int64_t columns, const UseScores<T>& use)
        : forest_(forest),
          x_(x),
          rows_(rows),
          columns_(columns),
          use_(use),
          nodes_(forest.nodes.as<Node>()),
          roots_(forest.roots.as<int32_t>()),
          steps_(forest.steps.as<int32_t>()),
          group_((forest.columns.count() + 1) * kTreeLanes) {}

    void run(const Parallel& parallel) const {
        const int64_t steps = std::max<int64_t>(1, forest_.depth);  // of a row
        if (rows_ < kFewRows) {
            for (int64_t row = 0; row < rows_; ++row) walk_row(parallel, row, steps);
            return;
        }
        // A block of rows stays in the L1 cache beside small trees; large ones are read from far, so that many rows,
        // in the L2 cache, have to use what was read.
        const int64_t tree_bytes = forest_.node_bytes() / std::max<int64_t>(1, forest_.trees());
        const int64_t wanted = tree_bytes > kLargeTree ? 1 << 19 : 1 << 14;
        const int64_t groups = std::max<int64_t>(1, wanted / (group_ * static_cast<int64_t>(sizeof(T))));
        const int64_t block = groups * kTreeLanes;
        const int64_t share = (rows_ + parallel.threads - 1) / parallel.threads;
        const int64_t grain = std::max(kStepsWorthSharing / steps, std::min(block, share));
        parallel_ranges(
            parallel, rows_, grain,
            [&](int64_t begin, int64_t end) {
                for (; begin < end; begin += block) walk_rows(begin, std::min(end, begin + block));
            },
            kTreeLanes);
    }

  private:
    static constexpr int64_t kFewRows = 4;
    static constexpr int64_t kLargeTree = 8192;

    // Copies rows [first, first + count) as the columns that the tests ask for; missing lanes repeat the last row.
    void copy_rows(int64_t first, int64_t count, int64_t lanes, T* out) const {
        const T* row[kTreeLanes];
        for (int64_t l = 0; l < lanes; ++l) row[l] = x_ + (first + std::min(l, count - 1)) * columns_;
        std::fill_n(out, lanes, std::numeric_limits<T>::quiet_NaN());
        const auto* columns = forest_.columns.as<int32_t>();
        for (int64_t k = 0; k < forest_.columns.count(); ++k) {
            out += kTreeLanes;
            const int32_t column = columns[k];
            if (column >= 0)
                for (int64_t l = 0; l < lanes; ++l) out[l] = row[l][column];
            else
                for (int64_t l = 0; l < lanes; ++l) out[l] = -row[l][~column];
        }
    }

    void start(int64_t rows, std::vector<T>& scores, std::vector<uint8_t>& scored) const {
        const auto size = static_cast<size_t>(rows * forest_.targets);
        scores.assign(size, T(0));
        scored.assign(size, forest_.leaf == Forest::Leaf::dense);
    }
    void finish(int64_t row, T* scores, const uint8_t* scored) const {
        if (forest_.sum == TreeSum::average)
            for (int64_t k = 0; k < forest_.targets; ++k) scores[k] /= static_cast<T>(forest_.trees());
        use_(row, scores, scored);
    }

    void walk_rows(int64_t begin, int64_t end) const {
        const int64_t groups = (end - begin + kTreeLanes - 1) / kTreeLanes, targets = forest_.targets;
        std::vector<T> x(static_cast<size_t>(groups * group_)), scores;
        std::vector<uint8_t> scored;
        start(groups * kTreeLanes, scores, scored);
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t first = begin + g * kTreeLanes;
            copy_rows(first, std::min(kTreeLanes, end - first), kTreeLanes, x.data() + g * group_);
        }
        for (int64_t tree = 0; tree < forest_.trees(); ++tree) {
            for (int64_t g = 0; g < groups; ++g) {
                const Node* at[kTreeLanes];
                std::fill_n(at, kTreeLanes, nodes_ + roots_[tree]);
                walk<true>(at, x.data() + g * group_, steps_[tree]);
                for (int64_t l = 0; l < kTreeLanes; ++l) {
                    const int64_t r = (g * kTreeLanes + l) * targets;
                    add(forest_, tree, at[l]->value, scores.data() + r, scored.data() + r);
                }
            }
        }
        for (int64_t r = 0; r < end - begin; ++r)
            finish(begin + r, scores.data() + r * targets, scored.data() + r * targets);
    }

    // For trees that need `a` and `b`.
    static int32_t together(int32_t a, int32_t b) {
        const int32_t most = std::max(a < 0 ? ~a : a, b < 0 ? ~b : b);
        return a < 0 || b < 0 ? ~most : most;
    }

    // The leaves' values of trees [begin, end).
    void walk_trees(const T* x, int64_t begin, int64_t end, T* found) const {
        for (int64_t tree = begin; tree < end; tree += kTreeLanes) {
            const Node* at[kTreeLanes];
            int32_t steps = 0;
            for (int64_t l = 0; l < kTreeLanes; ++l) {
                const int64_t t = std::min(tree + l, end - 1);
                at[l] = nodes_ + roots_[t];
                steps = together(steps, steps_[t]);
            }
            walk<false>(at, x, steps);
            for (int64_t l = 0; l < std::min(kTreeLanes, end - tree); ++l) found[tree + l] = at[l]->value;
        }
    }

    void walk_row(const Parallel& parallel, int64_t row, int64_t steps) const {
        const int64_t trees = forest_.trees();
        std::vector<T> x(static_cast<size_t>(group_)), found(static_cast<size_t>(trees)), scores;
        std::vector<uint8_t> scored;
        start(1, scores, scored);
        copy_rows(row, 1, 1, x.data());
        const int64_t grain = std::max<int64_t>(1, kStepsWorthSharing / 2 * trees / steps);
        parallel_ranges(
            parallel, trees, grain, [&](int64_t begin, int64_t end) { walk_trees(x.data(), begin, end, found.data()); },
            kTreeLanes);
        for (int64_t tree = 0; tree < trees; ++tree)
            add(forest_, tree, found[static_cast<size_t>(tree)], scores.data(), scored.data());
        finish(row, scores.data(), scored.data());
    }

    const Forest& forest_;
    const T* x_;
    int64_t rows_, columns_;
    const UseScores<T>& use_;
    const Node* nodes_;
    const int32_t *roots_, *steps_;
    int64_t group_;  // elements of kTreeLanes rows
};

}  // namespace

template <>
void walk_forest(const Parallel& parallel, const Forest& forest, const float* x, int64_t rows, int64_t columns,
                 const UseScores<float>& use) {
    if (forest.wide) Walker<float, int32_t>(forest, x, rows, columns, use).run(parallel);
    else Walker<float, int16_t>(forest, x, rows, columns, use).run(parallel);
}

template <>
void walk_forest(const Parallel& parallel, const Forest& forest, const double* x, int64_t rows, int64_t columns,
                 const UseScores<double>& use) {
    Walker<double, int32_t>(forest, x, rows, columns, use).run(parallel);
}

}  // namespace linnet
