// Ensembles of decision trees: what the attributes of a model say (ForestPlan), checked, and flat arrays to walk
// (Forest).
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "graph/op.h"

namespace linnet {

enum class TreeTest : uint8_t { leq, lt, gte, gt, eq, neq, member };
enum class TreeSum : uint8_t { average, sum, min, max };

// A place in a tree: node i, or leaf i as ~i.
using TreePlace = int32_t;

struct ForestPlan {
    struct Node {
        TreeTest test = TreeTest::leq;
        bool missing_true = false;  // NaN goes the true way
        int64_t feature = 0;
        double value = 0;
        TreePlace yes = 0, no = 0;
        int32_t set = -1;  // of a member test, the index of its set
    };
    struct Weight {
        int32_t target;
        double value;
    };
    std::vector<Node> nodes;
    std::vector<std::vector<Weight>> leaves;
    std::vector<std::vector<double>> sets;
    std::vector<TreePlace> roots;
    int64_t targets = 1;
    std::vector<double> base;
    TreeSum sum = TreeSum::sum;
};

// From the attributes of TreeEnsembleClassifier/Regressor, whose weights are in the lists `prefix`_ids, _nodeids,
// _treeids and _weights (the numbers also as tensors, "..._as_tensor").
ForestPlan parse_forest(const Attributes& attributes, const std::string& prefix, int64_t targets);
// From the attributes of TreeEnsemble (5).
ForestPlan parse_tree_ensemble(const Attributes& attributes);

// The walk of T (float or double).
template <class T>
class Forest {
  public:
    explicit Forest(const ForestPlan& plan);
    // For `rows` rows of `columns` features (more than any feature's number): the sums per row and target, and whether
    // any tree said something of it.
    void evaluate(const T* x, int64_t rows, int64_t columns, T* scores, uint8_t* scored) const;
    int64_t targets() const noexcept { return targets_; }
    int64_t trees() const noexcept { return static_cast<int64_t>(roots_.size()); }
    const std::vector<T>& base() const noexcept { return base_; }

  private:
    struct Node {
        T value;
        int32_t feature;
        TreePlace yes, no;
        TreeTest test;
        bool missing_true;
    };
    TreePlace walk(TreePlace place, const T* x) const;
    bool test(size_t node, T x) const;
    void add(TreePlace leaf, T* scores, uint8_t* scored) const;

    std::vector<Node> nodes_;
    std::vector<int32_t> leaf_starts_;  // leaf i has the weights [leaf_starts_[i], leaf_starts_[i + 1])
    std::vector<int32_t> weight_targets_;
    std::vector<T> weights_, base_;
    std::vector<int32_t> node_sets_;    // per node; empty without member tests
    std::vector<std::vector<T>> sets_;  // sorted
    std::vector<TreePlace> roots_;
    int64_t targets_;
    TreeSum sum_;
    bool plain_;  // every test is `leq` and NaN goes the false way
};

// The largest number of a feature that a tree asks for, plus one.
int64_t features_of(const ForestPlan& plan);

}  // namespace linnet
