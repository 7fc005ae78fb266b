// From the attributes of the tree ensembles to a ForestPlan. Whatever the lists hold, the result is a finite set of
// trees (or graphs without cycles) whose nodes, leaves and targets exist.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <tuple>

#include "ops/shared/trees.h"

namespace linnet {
namespace {

constexpr int64_t kMost = std::numeric_limits<int32_t>::max() / 2;

// Numbers given as a list of floats, or as a tensor under `name`_as_tensor.
std::vector<double> numbers(const Attributes& attributes, const std::string& name) {
    std::vector<double> values;
    if (const Tensor* tensor = attributes.t(name + "_as_tensor"); tensor && tensor->count() > 0) {
        require(tensor->dtype == DType::f32 || tensor->dtype == DType::f64, name, "_as_tensor is ",
                dtype_name(tensor->dtype), ", expected float or double");
        for (int64_t i = 0; i < tensor->count(); ++i) values.push_back(double_at(*tensor, i));
        return values;
    }
    for (const float value : attributes.floats(name)) values.push_back(static_cast<double>(value));
    return values;
}

std::vector<double> tensor_numbers(const Attributes& attributes, const char* name) {
    const Tensor* tensor = attributes.t(name);
    std::vector<double> values;
    if (!tensor) return values;
    require(tensor->dtype != DType::string, name, " must be numbers");
    for (int64_t i = 0; i < tensor->count(); ++i) values.push_back(double_at(*tensor, i));
    return values;
}

void require_length(const char* name, size_t given, size_t expected) {
    require(given == expected, name, " has ", given, " elements, expected ", expected);
}

int64_t checked_feature(int64_t feature) {
    require(feature >= 0 && feature < kMost, "feature number ", feature, " is out of range");
    return feature;
}

// Refuses cycles, also among nodes that no root reaches: every walk then ends.
void check_acyclic(const ForestPlan& plan) {
    enum : uint8_t { unseen, open, done };
    std::vector<uint8_t> state(plan.nodes.size(), unseen);
    std::vector<TreePlace> stack;
    for (size_t first = 0; first < plan.nodes.size(); ++first) {
        stack.push_back(static_cast<TreePlace>(first));
        while (!stack.empty()) {
            const TreePlace place = stack.back();
            const auto i = static_cast<size_t>(place);
            if (place < 0 || state[i] == done) {
                stack.pop_back();
                continue;
            }
            if (state[i] == open) {  // all below it has been seen
                state[i] = done;
                stack.pop_back();
                continue;
            }
            state[i] = open;
            for (const TreePlace child : {plan.nodes[i].yes, plan.nodes[i].no}) {
                require(child < 0 || state[static_cast<size_t>(child)] != open, "node ", child, " is its own ancestor");
                stack.push_back(child);
            }
        }
    }
}

std::optional<TreeTest> test_of(const std::string& mode) {
    if (mode == "LEAF") return std::nullopt;
    static constexpr std::pair<std::string_view, TreeTest> modes[] = {
        {"BRANCH_LEQ", TreeTest::leq}, {"BRANCH_LT", TreeTest::lt}, {"BRANCH_GTE", TreeTest::gte},
        {"BRANCH_GT", TreeTest::gt},   {"BRANCH_EQ", TreeTest::eq}, {"BRANCH_NEQ", TreeTest::neq}};
    for (const auto& [name, test] : modes)
        if (name == mode) return test;
    fail(ErrorKind::invalid_graph, "nodes_modes has '", mode, "'");
}

// Positions in the lists by (tree, node).
class NodeIndex {
  public:
    NodeIndex(const std::vector<int64_t>& trees, const std::vector<int64_t>& nodes) {
        for (size_t i = 0; i < nodes.size(); ++i) rows_.emplace_back(trees[i], nodes[i], i);
        if (!std::is_sorted(rows_.begin(), rows_.end())) std::sort(rows_.begin(), rows_.end());
        for (size_t i = 1; i < rows_.size(); ++i)
            require(std::get<0>(rows_[i]) != std::get<0>(rows_[i - 1]) ||
                        std::get<1>(rows_[i]) != std::get<1>(rows_[i - 1]),
                    "tree ", std::get<0>(rows_[i]), " has two nodes ", std::get<1>(rows_[i]));
    }
    size_t operator()(int64_t tree, int64_t node) {
        const auto is = [&](const auto& row) { return std::get<0>(row) == tree && std::get<1>(row) == node; };
        if (tree != tree_ || first_ > rows_.size()) {
            tree_ = tree;
            first_ = at(tree, std::numeric_limits<int64_t>::min());
        }
        // A tree's nodes are mostly numbered from 0 on.
        if (node >= 0 && node < static_cast<int64_t>(rows_.size() - first_))
            if (const auto& row = rows_[first_ + static_cast<size_t>(node)]; is(row)) return std::get<2>(row);
        const size_t found = at(tree, node);
        require(found < rows_.size() && is(rows_[found]), "tree ", tree, " has no node ", node);
        return std::get<2>(rows_[found]);
    }

  private:
    size_t at(int64_t tree, int64_t node) const {
        const auto it = std::lower_bound(rows_.begin(), rows_.end(), std::make_tuple(tree, node, size_t(0)));
        return static_cast<size_t>(it - rows_.begin());
    }

    std::vector<std::tuple<int64_t, int64_t, size_t>> rows_;
    int64_t tree_ = 0;  // the last one that was asked for, and where it begins
    size_t first_ = std::numeric_limits<size_t>::max();
};

}  // namespace

ForestPlan parse_forest(const Attributes& attributes, const std::string& prefix, int64_t targets) {
    require(targets > 0 && targets < kMost, "the number of targets or classes is ", targets);
    ForestPlan plan;
    plan.targets = targets;
    plan.base = numbers(attributes, "base_values");
    const std::string& sum = attributes.s("aggregate_function", "SUM");
    require(sum == "SUM" || sum == "AVERAGE" || sum == "MIN" || sum == "MAX", "aggregate_function '", sum,
            "' is none of AVERAGE, SUM, MIN, MAX");
    plan.sum = sum == "SUM"       ? TreeSum::sum
               : sum == "AVERAGE" ? TreeSum::average
               : sum == "MIN"     ? TreeSum::min
                                  : TreeSum::max;

    const auto trees = attributes.ints("nodes_treeids"), ids = attributes.ints("nodes_nodeids");
    const auto features = attributes.ints("nodes_featureids"), yes = attributes.ints("nodes_truenodeids");
    const auto no = attributes.ints("nodes_falsenodeids"), missing = attributes.ints("nodes_missing_value_tracks_true");
    const auto modes = attributes.strings("nodes_modes");
    const auto values = numbers(attributes, "nodes_values");
    const size_t count = ids.size();
    require(count > 0 && static_cast<int64_t>(count) < kMost, "nodes_nodeids has ", count, " elements");
    require_length("nodes_treeids", trees.size(), count);
    require_length("nodes_featureids", features.size(), count);
    require_length("nodes_truenodeids", yes.size(), count);
    require_length("nodes_falsenodeids", no.size(), count);
    require_length("nodes_modes", modes.size(), count);
    require_length("nodes_values", values.size(), count);
    if (!missing.empty()) require_length("nodes_missing_value_tracks_true", missing.size(), count);

    NodeIndex index(trees, ids);
    std::vector<TreePlace> places(count);
    std::vector<std::optional<TreeTest>> tests(count);
    for (size_t i = 0; i < count; ++i) {
        tests[i] = test_of(modes[i]);
        if (tests[i]) {
            places[i] = static_cast<TreePlace>(plan.nodes.size());
            plan.nodes.emplace_back();
        } else {
            places[i] = ~static_cast<TreePlace>(plan.leaves.size());
            plan.leaves.emplace_back();
        }
    }
    std::vector<uint8_t> child(count, 0);
    for (size_t i = 0; i < count; ++i) {
        if (!tests[i]) continue;
        auto& node = plan.nodes[static_cast<size_t>(places[i])];
        const size_t on_true = index(trees[i], yes[i]), on_false = index(trees[i], no[i]);
        child[on_true] = child[on_false] = 1;
        node.test = *tests[i];
        node.missing_true = !missing.empty() && missing[i] != 0;
        node.feature = checked_feature(features[i]);
        node.value = values[i];
        node.yes = places[on_true];
        node.no = places[on_false];
    }
    // A tree's root is the first of its nodes that is nobody's child.
    std::vector<int64_t> tree_ids, rooted;
    for (size_t i = 0; i < count; ++i) {
        tree_ids.push_back(trees[i]);
        if (child[i]) continue;
        rooted.push_back(trees[i]);
    }
    std::sort(tree_ids.begin(), tree_ids.end());
    std::sort(rooted.begin(), rooted.end());
    rooted.erase(std::unique(rooted.begin(), rooted.end()), rooted.end());
    std::vector<uint8_t> seen(rooted.size(), 0);
    for (const int64_t tree : tree_ids)
        require(std::binary_search(rooted.begin(), rooted.end(), tree), "tree ", tree, " has no root");
    for (size_t i = 0; i < count; ++i) {
        if (child[i]) continue;
        const auto at = static_cast<size_t>(std::lower_bound(rooted.begin(), rooted.end(), trees[i]) - rooted.begin());
        if (!seen[at]) plan.roots.push_back(places[i]);
        seen[at] = 1;
    }
    check_acyclic(plan);

    const auto weight_targets = attributes.ints(prefix + "_ids"), weight_nodes = attributes.ints(prefix + "_nodeids");
    const auto weight_trees = attributes.ints(prefix + "_treeids");
    const auto weights = numbers(attributes, prefix + "_weights");
    require_length("the list of targets", weight_targets.size(), weights.size());
    require_length("the list of target nodes", weight_nodes.size(), weights.size());
    require_length("the list of target trees", weight_trees.size(), weights.size());
    require(static_cast<int64_t>(weights.size()) < kMost, "too many weights");
    for (size_t i = 0; i < weights.size(); ++i) {
        require(weight_targets[i] >= 0 && weight_targets[i] < targets, prefix, "_ids has ", weight_targets[i],
                ", which is outside [0, ", targets, ")");
        const TreePlace place = places[index(weight_trees[i], weight_nodes[i])];
        // Only leaves give scores; some exporters write weights for the other nodes, too.
        if (place < 0)
            plan.leaves[static_cast<size_t>(~place)].push_back({static_cast<int32_t>(weight_targets[i]), weights[i]});
    }
    return plan;
}

ForestPlan parse_tree_ensemble(const Attributes& attributes) {
    ForestPlan plan;
    plan.targets = attributes.i("n_targets", 1);
    require(plan.targets > 0 && plan.targets < kMost, "n_targets is ", plan.targets);
    const int64_t sum = attributes.i("aggregate_function", 1);
    require(sum >= 0 && sum <= 3, "aggregate_function is ", sum, ", expected 0 to 3");
    plan.sum = static_cast<TreeSum>(sum);

    const auto features = attributes.ints("nodes_featureids"),
               missing = attributes.ints("nodes_missing_value_tracks_true");
    const auto yes = attributes.ints("nodes_truenodeids"), no = attributes.ints("nodes_falsenodeids");
    const auto yes_leaf = attributes.ints("nodes_trueleafs"), no_leaf = attributes.ints("nodes_falseleafs");
    const auto modes = tensor_numbers(attributes, "nodes_modes"), splits = tensor_numbers(attributes, "nodes_splits");
    const size_t count = features.size();
    require(count > 0 && static_cast<int64_t>(count) < kMost, "nodes_featureids has ", count, " elements");
    require_length("nodes_modes", modes.size(), count);
    require_length("nodes_splits", splits.size(), count);
    require_length("nodes_truenodeids", yes.size(), count);
    require_length("nodes_falsenodeids", no.size(), count);
    require_length("nodes_trueleafs", yes_leaf.size(), count);
    require_length("nodes_falseleafs", no_leaf.size(), count);
    if (!missing.empty()) require_length("nodes_missing_value_tracks_true", missing.size(), count);

    const auto weights = tensor_numbers(attributes, "leaf_weights");
    const auto leaf_targets = attributes.ints("leaf_targetids");
    require_length("leaf_targetids", leaf_targets.size(), weights.size());
    require(static_cast<int64_t>(weights.size()) < kMost, "too many leaves");
    for (size_t i = 0; i < weights.size(); ++i) {
        require(leaf_targets[i] >= 0 && leaf_targets[i] < plan.targets, "leaf_targetids has ", leaf_targets[i],
                ", which is outside [0, ", plan.targets, ")");
        plan.leaves.push_back({{static_cast<int32_t>(leaf_targets[i]), weights[i]}});
    }

    // The sets of all member tests in the order of their nodes, each ended by a NaN.
    if (const auto members = tensor_numbers(attributes, "membership_values"); !members.empty()) {
        plan.sets.emplace_back();
        for (size_t i = 0; i < members.size(); ++i) {
            if (!std::isnan(members[i])) plan.sets.back().push_back(members[i]);
            else if (i + 1 < members.size()) plan.sets.emplace_back();
        }
    }
    auto place = [&](int64_t id, int64_t leaf) {
        const size_t most = leaf ? weights.size() : count;
        require(id >= 0 && static_cast<size_t>(id) < most, leaf ? "leaf " : "node ", id, " is outside [0, ", most, ")");
        return leaf ? ~static_cast<TreePlace>(id) : static_cast<TreePlace>(id);
    };
    int32_t next_set = 0;
    for (size_t i = 0; i < count; ++i) {
        require(modes[i] >= 0 && modes[i] <= 6 && modes[i] == std::floor(modes[i]), "nodes_modes has ", modes[i],
                ", expected 0 to 6");
        ForestPlan::Node node;
        node.test = static_cast<TreeTest>(static_cast<int>(modes[i]));
        node.missing_true = !missing.empty() && missing[i] != 0;
        node.feature = checked_feature(features[i]);
        node.value = splits[i];
        node.yes = place(yes[i], yes_leaf[i]);
        node.no = place(no[i], no_leaf[i]);
        if (node.test == TreeTest::member) {
            node.set = next_set++;
            require(static_cast<size_t>(node.set) < plan.sets.size(), "membership_values has ", plan.sets.size(),
                    " sets, too few for the member tests");
        }
        plan.nodes.push_back(node);
    }
    for (const int64_t root : attributes.ints("tree_roots")) plan.roots.push_back(place(root, 0));
    require(!plan.roots.empty(), "tree_roots is empty");
    check_acyclic(plan);
    return plan;
}

}  // namespace linnet
