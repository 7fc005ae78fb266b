// Walking decision trees.
#include "ops/shared/trees.h"

#include <algorithm>
#include <cmath>

namespace linnet {

int64_t features_of(const ForestPlan& plan) {
    int64_t most = 0;
    for (const auto& node : plan.nodes) most = std::max(most, node.feature + 1);
    return most;
}

template <class T>
Forest<T>::Forest(const ForestPlan& plan) : roots_(plan.roots), targets_(plan.targets), sum_(plan.sum), plain_(true) {
    for (const auto& node : plan.nodes) {
        nodes_.push_back({static_cast<T>(node.value), static_cast<int32_t>(node.feature), node.yes, node.no, node.test,
                          node.missing_true});
        if (!plan.sets.empty()) node_sets_.push_back(node.set);
        if (node.test != TreeTest::leq || node.missing_true) plain_ = false;
    }
    for (const auto& leaf : plan.leaves) {
        leaf_starts_.push_back(static_cast<int32_t>(weights_.size()));
        for (const auto& weight : leaf) {
            weights_.push_back(static_cast<T>(weight.value));
            weight_targets_.push_back(weight.target);
        }
    }
    leaf_starts_.push_back(static_cast<int32_t>(weights_.size()));
    for (const auto& set : plan.sets) {
        sets_.emplace_back(set.begin(), set.end());
        std::sort(sets_.back().begin(), sets_.back().end());
    }
    for (const double value : plan.base) base_.push_back(static_cast<T>(value));
}

template <class T>
bool Forest<T>::test(size_t node, T x) const {
    const T value = nodes_[node].value;
    switch (nodes_[node].test) {
        case TreeTest::leq: return x <= value;
        case TreeTest::lt: return x < value;
        case TreeTest::gte: return x >= value;
        case TreeTest::gt: return x > value;
        case TreeTest::eq: return x == value;
        case TreeTest::neq: return x != value;
        case TreeTest::member: {
            const auto& set = sets_[static_cast<size_t>(node_sets_[node])];
            return !std::isnan(x) && std::binary_search(set.begin(), set.end(), x);
        }
    }
    return false;
}

template <class T>
TreePlace Forest<T>::walk(TreePlace place, const T* x) const {
    if (plain_) {
        while (place >= 0) {
            const Node& node = nodes_[static_cast<size_t>(place)];
            place = x[node.feature] <= node.value ? node.yes : node.no;
        }
        return ~place;
    }
    while (place >= 0) {
        const Node& node = nodes_[static_cast<size_t>(place)];
        const T value = x[node.feature];
        const bool yes = (node.missing_true && std::isnan(value)) || test(static_cast<size_t>(place), value);
        place = yes ? node.yes : node.no;
    }
    return ~place;
}

template <class T>
void Forest<T>::add(TreePlace leaf, T* scores, uint8_t* scored) const {
    const auto l = static_cast<size_t>(leaf);
    for (auto w = static_cast<size_t>(leaf_starts_[l]); w < static_cast<size_t>(leaf_starts_[l + 1]); ++w) {
        const auto target = static_cast<size_t>(weight_targets_[w]);
        T& score = scores[target];
        if (sum_ == TreeSum::sum || sum_ == TreeSum::average) score += weights_[w];
        else if (!scored[target]) score = weights_[w];
        else score = sum_ == TreeSum::min ? std::min(score, weights_[w]) : std::max(score, weights_[w]);
        scored[target] = 1;
    }
}

template <class T>
void Forest<T>::evaluate(const T* x, int64_t rows, int64_t columns, T* scores, uint8_t* scored) const {
    std::fill_n(scores, rows * targets_, T(0));
    std::fill_n(scored, rows * targets_, uint8_t(0));
    // A tree's nodes stay in the cache for all rows.
    for (const TreePlace root : roots_)
        for (int64_t r = 0; r < rows; ++r)
            add(walk(root, x + r * columns), scores + r * targets_, scored + r * targets_);
    if (sum_ == TreeSum::average)
        for (int64_t i = 0; i < rows * targets_; ++i) scores[i] /= static_cast<T>(trees());
}

template class Forest<float>;
template class Forest<double>;

}  // namespace linnet
