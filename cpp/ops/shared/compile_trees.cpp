// From a ForestPlan to the form that is walked.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/shared/trees.h"

namespace linnet {
namespace {

// `x <= value` (or `-x <= value`) leads to `pass`, anything else and NaN to `fail`.
struct Test {
    double value;
    int32_t column;
    TreePlace pass, fail;
};

// All kinds of tests as `<=` of a feature or of its negative, with values of `dtype`.
class Tests {
  public:
    Tests(const ForestPlan& plan, DType dtype) : plan_(plan), single_(dtype == DType::f32), tests_(plan.nodes.size()) {
        int64_t features = 0;
        for (const auto& node : plan.nodes) features = std::max(features, node.feature + 1);
        features_ = features;
        for (size_t i = 0; i < plan.nodes.size(); ++i) make(i, plan.nodes[i]);
        number_columns();
    }
    const std::vector<Test>& all() const { return tests_; }
    const std::vector<int32_t>& columns() const { return columns_; }
    int64_t features() const { return features_; }

  private:
    static constexpr double kInfinity = std::numeric_limits<double>::infinity();

    double rounded(double v) const { return single_ ? static_cast<double>(static_cast<float>(v)) : v; }

    // x < v is x <= below(v); nothing is below -infinity.
    double below(double v) const {
        if (v == -kInfinity) return std::numeric_limits<double>::quiet_NaN();
        if (!single_) return std::nextafter(v, -kInfinity);
        return static_cast<double>(std::nextafter(static_cast<float>(v), -std::numeric_limits<float>::infinity()));
    }

    // Sets test i to `x <= v` or `x < v`, with NaN going the way `missing`.
    void order(size_t i, int32_t feature, bool strict, double v, bool missing, TreePlace yes, TreePlace no) {
        if (!missing) tests_[i] = {strict ? below(v) : v, feature, yes, no};
        else tests_[i] = {strict ? -v : below(-v), ~feature, no, yes};  // the opposite test
    }

    // x is v where it is not above and not below.
    void equal(size_t i, int32_t feature, double v, bool missing, TreePlace yes, TreePlace no) {
        const TreePlace second = fresh();
        order(i, feature, false, v, missing, second, no);
        order(static_cast<size_t>(second), feature, true, v, false, no, yes);  // a NaN that comes here was to pass
    }

    // No number passes.
    void never(size_t i, int32_t feature, bool missing, TreePlace yes, TreePlace no) {
        tests_[i] = {kInfinity, feature, no, missing ? yes : no};
    }

    // A search tree over the sorted set. NaN comes to the last element.
    void member(size_t i, int32_t feature, const std::vector<double>& given, bool missing, TreePlace yes,
                TreePlace no) {
        std::vector<double> set;
        for (const double v : given) set.push_back(rounded(v));
        std::sort(set.begin(), set.end());
        set.erase(std::unique(set.begin(), set.end()), set.end());
        if (set.empty()) return never(i, feature, missing, yes, no);
        struct Part {
            size_t test, begin, end;
        };
        std::vector<Part> todo{{i, 0, set.size()}};
        while (!todo.empty()) {
            const Part part = todo.back();
            todo.pop_back();
            const size_t middle = (part.begin + part.end) / 2;
            if (part.end - part.begin == 1) {
                equal(part.test, feature, set[part.begin], missing && part.end == set.size(), yes, no);
                continue;
            }
            const TreePlace left = fresh(), right = fresh();
            order(part.test, feature, true, set[middle], false, left, right);
            todo.push_back({static_cast<size_t>(left), part.begin, middle});
            todo.push_back({static_cast<size_t>(right), middle, part.end});
        }
    }

    void make(size_t i, const ForestPlan::Node& node) {
        const auto feature = static_cast<int32_t>(node.feature);
        const double v = rounded(node.value);
        const bool missing = node.missing_true;
        const TreePlace yes = node.yes, no = node.no;
        if (node.test == TreeTest::member)
            return member(i, feature, plan_.sets[static_cast<size_t>(node.set)], missing, yes, no);
        if (std::isnan(v)) {
            if (node.test == TreeTest::neq) return never(i, feature, true, yes, yes);
            return never(i, feature, missing, yes, no);
        }
        switch (node.test) {
            case TreeTest::leq: return order(i, feature, false, v, missing, yes, no);
            case TreeTest::lt: return order(i, feature, true, v, missing, yes, no);
            case TreeTest::gte: return order(i, feature, true, v, !missing, no, yes);
            case TreeTest::gt: return order(i, feature, false, v, !missing, no, yes);
            case TreeTest::eq: return equal(i, feature, v, missing, yes, no);
            default: return equal(i, feature, v, false, no, yes);  // NaN is not equal
        }
    }

    TreePlace fresh() {
        require(tests_.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max() / 2), "too many tests");
        tests_.emplace_back();
        return static_cast<TreePlace>(tests_.size() - 1);
    }

    // Only what tests ask for is copied.
    void number_columns() {
        for (const auto& test : tests_) columns_.push_back(test.column);
        std::sort(columns_.begin(), columns_.end());
        columns_.erase(std::unique(columns_.begin(), columns_.end()), columns_.end());
        for (auto& test : tests_) {
            const auto at = std::lower_bound(columns_.begin(), columns_.end(), test.column) - columns_.begin();
            test.column = static_cast<int32_t>(at) + 1;
        }
    }

    const ForestPlan& plan_;
    bool single_;
    std::vector<Test> tests_;
    std::vector<int32_t> columns_;
    int64_t features_ = 0;
};

// The order of the nodes in memory, and the weights of leaves in that of their leaves.
class Layout {
  public:
    struct Slot {
        double value;
        int32_t column, next;
        int32_t row = -1;  // of weights, which a leaf has instead of a value
    };

    Layout(const ForestPlan& plan, const Tests& tests)
        : plan_(plan), tests_(tests.all()), at_(tests_.size(), -1), leaf_at_(plan.leaves.size(), -1) {
        leaf_ = leaf_kind();
        for (const TreePlace root : plan.roots) {
            const auto first = static_cast<int32_t>(slots_.size());
            roots_.push_back(first);
            const int32_t deepest = place_tree(root);
            // Most walks end near the depth that a balanced tree of this size has.
            const auto balanced =
                static_cast<int32_t>(std::bit_width((slots_.size() - static_cast<size_t>(first)) / 2));
            steps_.push_back(deepest >= 0 && deepest <= balanced + 2 ? deepest : ~balanced);
            depth_ += balanced + 1;
        }
        starts_.push_back(static_cast<int32_t>(weights_.size()));
    }

    Forest forest() const {
        Forest out;
        out.leaf = leaf_;
        out.sum = plan_.sum;
        out.targets = plan_.targets;
        out.depth = depth_;
        out.roots = Tensor::vector(roots_);
        out.steps = Tensor::vector(steps_);
        out.starts = Tensor::vector(starts_);
        out.weight_targets = Tensor::vector(targets_);
        return out;
    }
    const std::vector<Slot>& slots() const { return slots_; }
    const std::vector<double>& weights() const { return weights_; }

  private:
    Forest::Leaf leaf_kind() {
        if (plan_.sum == TreeSum::min || plan_.sum == TreeSum::max) return Forest::Leaf::list;
        if (one_target_a_tree()) return Forest::Leaf::own;
        targets_.clear();
        for (const auto& leaf : plan_.leaves) {
            if (static_cast<int64_t>(leaf.size()) != plan_.targets) return Forest::Leaf::list;
            for (size_t k = 0; k < leaf.size(); ++k)
                if (leaf[k].target != static_cast<int32_t>(k)) return Forest::Leaf::list;
        }
        return Forest::Leaf::dense;
    }

    // Fills targets_.
    bool one_target_a_tree() {
        for (const auto& leaf : plan_.leaves)
            if (leaf.size() != 1) return false;
        std::vector<int32_t> tree_of(plan_.nodes.size(), -1);
        std::vector<TreePlace> todo;
        for (size_t tree = 0; tree < plan_.roots.size(); ++tree) {
            int32_t target = -1;
            todo.push_back(plan_.roots[tree]);
            while (!todo.empty()) {
                const TreePlace place = todo.back();
                todo.pop_back();
                if (place < 0) {
                    const int32_t found = plan_.leaves[static_cast<size_t>(~place)][0].target;
                    if (target >= 0 && target != found) return false;
                    target = found;
                    continue;
                }
                int32_t& seen = tree_of[static_cast<size_t>(place)];
                if (seen == static_cast<int32_t>(tree)) continue;
                if (seen >= 0) return false;  // trees that share nodes
                seen = static_cast<int32_t>(tree);
                todo.push_back(plan_.nodes[static_cast<size_t>(place)].yes);
                todo.push_back(plan_.nodes[static_cast<size_t>(place)].no);
            }
            targets_.push_back(target);
        }
        return true;
    }

    Slot leaf_slot(size_t leaf) {
        if (leaf_ == Forest::Leaf::own) return {plan_.leaves[leaf][0].value, 0, 0};
        if (leaf_at_[leaf] < 0) {
            leaf_at_[leaf] = static_cast<int32_t>(starts_.size());
            starts_.push_back(static_cast<int32_t>(weights_.size()));
            for (const auto& weight : plan_.leaves[leaf]) {
                weights_.push_back(weight.value);
                if (leaf_ == Forest::Leaf::list) targets_.push_back(weight.target);
            }
        }
        return {0, 0, 0, leaf_at_[leaf]};
    }

    // Appends a slot. True for a test that had none yet: its children have to be placed.
    bool place(TreePlace what) {
        const auto here = static_cast<int32_t>(slots_.size());
        require(here < std::numeric_limits<int32_t>::max() / 2, "too many nodes");
        if (what < 0) {
            slots_.push_back(leaf_slot(static_cast<size_t>(~what)));
            return false;
        }
        int32_t& at = at_[static_cast<size_t>(what)];
        slots_.push_back({0, 0, at < 0 ? 0 : at - here});  // a second way to a test leads on to the first
        if (at >= 0) return false;
        at = here;
        return true;
    }

    struct Place {
        TreePlace test;
        int32_t level;
    };

    // Places the children; those that have children themselves go to `todo`.
    void place_children(Place parent, std::vector<Place>& todo) {
        const Test& test = tests_[static_cast<size_t>(parent.test)];
        const int32_t here = at_[static_cast<size_t>(parent.test)];
        slots_[static_cast<size_t>(here)] = {test.value, test.column, static_cast<int32_t>(slots_.size()) - here};
        for (const TreePlace child : {test.fail, test.pass})
            if (place(child)) todo.push_back({child, parent.level + 1});
    }

    // Children and grandchildren of a node are together. Returns the depth, -1 where there are second ways.
    int32_t place_tree(TreePlace root) {
        std::vector<Place> todo, near;
        const size_t first = slots_.size();
        int32_t deepest = 0;
        if (place(root)) todo.push_back({root, 0});
        while (!todo.empty()) {
            const Place top = todo.back();
            todo.pop_back();
            near.clear();
            place_children(top, near);
            deepest = std::max(deepest, top.level + 1 + static_cast<int32_t>(!near.empty()));
            for (const Place& child : near) place_children(child, todo);
        }
        for (size_t i = first; i < slots_.size(); ++i)
            if (slots_[i].column == 0 && slots_[i].next != 0) return -1;
        return deepest;
    }

    const ForestPlan& plan_;
    const std::vector<Test>& tests_;
    std::vector<int32_t> at_, leaf_at_;
    std::vector<Slot> slots_;
    std::vector<int32_t> roots_, steps_, starts_, targets_;
    std::vector<double> weights_;
    Forest::Leaf leaf_ = Forest::Leaf::list;
    int64_t depth_ = 0;
};

template <class T, class Step>
bool encode(const std::vector<Layout::Slot>& slots, Tensor& out) {
    using Node = TreeNode<T, Step>;
    using Column = decltype(Node::column);
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    out = Tensor::allocate(DType::u8, {checked_mul(static_cast<int64_t>(slots.size()), sizeof(Node))});
    std::memset(out.data, 0, out.bytes());
    auto* node = out.as<Node>();
    for (const auto& slot : slots) {
        const int64_t column = slot.column * kTreeLanes;
        if (column > std::numeric_limits<Column>::max() || slot.next > std::numeric_limits<Step>::max() ||
            slot.next < std::numeric_limits<Step>::min())
            return false;
        node->value = slot.row < 0 ? static_cast<T>(slot.value) : std::bit_cast<T>(static_cast<Bits>(slot.row));
        node->column = static_cast<Column>(column);
        node->next = static_cast<Step>(slot.next);
        ++node;
    }
    return true;
}

constexpr std::pair<const char*, Tensor Forest::*> kTensors[] = {{"nodes", &Forest::nodes},
                                                                 {"roots", &Forest::roots},
                                                                 {"steps", &Forest::steps},
                                                                 {"columns", &Forest::columns},
                                                                 {"weights", &Forest::weights},
                                                                 {"starts", &Forest::starts},
                                                                 {"weight_targets", &Forest::weight_targets}};

}  // namespace

Forest compile_forest(const ForestPlan& plan, DType dtype) {
    if (dtype != DType::f64) dtype = DType::f32;
    const Tests tests(plan, dtype);
    const Layout layout(plan, tests);
    Forest forest = layout.forest();
    forest.dtype = dtype;
    forest.features = tests.features();
    forest.columns = Tensor::vector(tests.columns());
    if (dtype == DType::f64) {
        forest.weights = Tensor::vector(layout.weights());
        forest.wide = true;
        require(encode<double, int32_t>(layout.slots(), forest.nodes), "too many features");
        return forest;
    }
    forest.weights = Tensor::vector(std::vector<float>(layout.weights().begin(), layout.weights().end()));
    forest.wide = !encode<float, int16_t>(layout.slots(), forest.nodes);
    if (forest.wide) require(encode<float, int32_t>(layout.slots(), forest.nodes), "too many features");
    return forest;
}

void save_forest(const Forest& forest, Attributes& attributes) {
    for (const auto& [name, tensor] : kTensors) attributes.set(name, forest.*tensor);
    attributes.set("wide", int64_t{forest.wide})
        .set("leaf", static_cast<int64_t>(forest.leaf))
        .set("sum", static_cast<int64_t>(forest.sum))
        .set("targets", forest.targets)
        .set("features", forest.features)
        .set("depth", forest.depth);
}

Forest load_forest(const Attributes& attributes) {
    Forest forest;
    for (const auto& [name, tensor] : kTensors) forest.*tensor = *attributes.t(name);
    forest.dtype = forest.weights.dtype;
    forest.wide = attributes.i("wide", 0) != 0;
    forest.leaf = static_cast<Forest::Leaf>(attributes.i("leaf", 0));
    forest.sum = static_cast<TreeSum>(attributes.i("sum", 0));
    forest.targets = attributes.i("targets", 1);
    forest.features = attributes.i("features", 0);
    forest.depth = attributes.i("depth", 0);
    return forest;
}

}  // namespace linnet
