// Ensembles of decision trees: what the attributes of a model say (ForestPlan), checked, and its form to walk (Forest).
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

// The form to walk. Every test has become `x <= value` of one column of a copy of the row that has -x as well: it holds
// or leads, as NaN does, to the other side. So a step is a comparison and an addition, without a branch.
//
// The two children of a node are neighbours, and three levels of a tree are mostly within one cache line. A leaf leads
// to itself, for column 0 is NaN; so its value is free. Trees, or rows, of different depths are walked side by side.
template <class T, class Step>
struct TreeNode {
    T value;
    std::make_unsigned_t<Step> column;  // in elements: its number times kTreeLanes
    Step next;                          // nodes from here to the child where the test fails; the other one follows
};
constexpr int64_t kTreeLanes = 8;

struct Forest {
    enum class Leaf : int64_t {
        own,    // a leaf's value is a weight, of its tree's target
        dense,  // bits that are a row of `weights`, one for each target
        list,   // bits that are i, for the weights [starts[i], starts[i + 1]) and their targets
    };
    DType dtype = DType::f32;  // of values and weights
    bool wide = false;         // Step is int32, not int16
    Leaf leaf = Leaf::list;
    TreeSum sum = TreeSum::sum;
    int64_t targets = 1, features = 0;  // features: the largest number that a test asks for, plus one
    int64_t depth = 0;                  // steps of a walk through all trees, about
    Tensor nodes;                       // TreeNode<dtype, ...> as bytes
    Tensor roots;                       // i32: a tree's first node
    Tensor steps;            // i32: a tree's depth, or ~n: n steps, and then as many as it takes to come to rest
    Tensor columns;          // i32: from column 1 on, feature f as f, or its negative as ~f
    Tensor weights, starts;  // dtype; i32
    Tensor weight_targets;   // i32: of each weight of a list; Leaf::own: of each tree

    int64_t trees() const { return roots.count(); }
    int64_t node_bytes() const { return nodes.count(); }
};

// float32, or float64 where `dtype` is that.
Forest compile_forest(const ForestPlan& plan, DType dtype);
void save_forest(const Forest& forest, Attributes& attributes);
Forest load_forest(const Attributes& attributes);

// For rows of `columns` features, no fewer than forest.features: calls use(row, scores, scored) for each row, on any
// thread, with the sums of its trees for each target, which it may change, and whether any tree said something of it.
// T must be forest.dtype. Sums are made in the order of the trees.
template <class T>
using UseScores = std::function<void(int64_t row, T* scores, const uint8_t* scored)>;
template <class T>
void walk_forest(const Parallel& parallel, const Forest& forest, const T* x, int64_t rows, int64_t columns,
                 const UseScores<T>& use);

}  // namespace linnet
