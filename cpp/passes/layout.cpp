// Which values are kept in a permuted axis order. Every operator that can work in either order is a vertex; a value
// that its maker and its readers want in different orders costs one transposition of its bytes, once for all readers.
// The cheapest labelling is a minimum cut. Transposes of the model and those that lowering put around channels-last
// operators are the terminals: what comes out of one, or goes into one, is wanted permuted.
#include "passes/layout.h"

#include <algorithm>
#include <map>
#include <set>

#include "ops/shared/copy.h"
#include "passes/min_cut.h"

namespace linnet {
namespace {

Shape perm_of(const Graph& graph, const Node& node) {
    Shape perm;
    const Fact& x = graph.fact(node.inputs[0]);
    if (!x.ranked) return perm;
    const std::vector<int64_t> given = node.attributes.ints("perm");
    if (!node.attributes.has("perm"))
        for (int64_t i = x.rank(); i-- > 0;) perm.push_back(i);
    else
        for (int64_t axis : given) perm.push_back(axis < 0 ? axis + x.rank() : axis);
    return perm;
}

Shape inverse_of(const Shape& perm) {
    Shape inverse(perm.size());
    for (size_t i = 0; i < perm.size(); ++i) inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
    return inverse;
}

bool is_transpose(const Node& node) { return node.op_type == "Transpose" && node.domain.empty(); }

// Only axes of size 1 move.
bool moves_nothing(const Shape& shape, const Shape& perm) {
    int64_t last = -1;
    for (int64_t axis : perm) {
        if (shape[static_cast<size_t>(axis)] == 1) continue;
        if (axis < last) return false;
        last = axis;
    }
    return true;
}

bool all_ones(const Shape& shape) {
    return std::all_of(shape.begin(), shape.end(), [](int64_t d) { return d == 1; });
}

int64_t transposition_cost(const Fact& fact, const Shape& perm) {
    if (moves_nothing(fact.shape, perm)) return 1;
    double bytes = static_cast<double>(std::max<size_t>(1, dtype_size(fact.dtype)));
    for (size_t i = 0; i < fact.shape.size(); ++i)
        bytes *= is_number(fact.shape[i]) ? static_cast<double>(fact.shape[i]) : i == 0 ? 1.0 : 32.0;
    return 4096 + static_cast<int64_t>(std::min(bytes, 1e12));
}

enum class Role : uint8_t { fixed, flexible, from_permuted, to_permuted };

class Layouts {
  public:
    Layouts(Graph& graph, const Shape& perm) : graph_(graph), perm_(perm), inverse_(inverse_of(perm)) {}

    // `largest`: of equally cheap labellings that with most permuted values, else the one with fewest.
    bool apply(bool largest) {
        for (;;) {
            assign_roles();
            label(largest);
            if (std::none_of(permuted_node_.begin(), permuted_node_.end(), [](char c) { return c; })) return false;
            if (all_permutable()) break;
        }
        rewrite();
        return true;
    }

  private:
    bool has_rank(ValueId v) const {
        const Fact& f = graph_.fact(v);
        return f.is_tensor() && f.ranked && f.shape.size() == perm_.size();
    }

    bool is_data(const Node& node, size_t input) const {
        if (node.op->flags & kElementwise) return true;
        return node.op->layout_inputs == ~0u || (input < 32 && (node.op->layout_inputs >> input & 1u));
    }

    bool can_permute(const Node& node) const {
        const bool elementwise = node.op->flags & kElementwise;
        if ((!elementwise && !node.op->permute) || node.captures || (node.op->flags & kDynamic)) return false;
        for (ValueId v : node.outputs)
            if (v != kNoValue && !has_rank(v)) return false;
        // Operators of opset 6 broadcast along axes of their own.
        if (elementwise && (node.attributes.has("axis") || node.attributes.has("broadcast"))) return false;
        bool any = false;
        for (size_t i = 0; i < node.inputs.size(); ++i) {
            const ValueId v = node.inputs[i];
            if (v == kNoValue || !is_data(node, i)) continue;
            const Fact& f = graph_.fact(v);
            if (!f.is_tensor() || !f.ranked || f.shape.size() > perm_.size()) return false;
            if (!elementwise && f.shape.size() != perm_.size()) return false;
            any |= f.shape.size() == perm_.size();
        }
        return any && !node.outputs.empty();
    }

    static bool is_channels_last(const Node& node) { return node.domain == "linnet" && !node.op->permute; }

    // With a permutation that is its own inverse a Transpose could be either: it comes from permuted values if, through
    // operators that may be permuted, an internal operator is behind it.
    Role role_of_transpose(const Node& node) const {
        const Shape perm = perm_of(graph_, node);
        const bool to = perm == perm_, from = perm == inverse_;
        if (!to || !from) return to ? Role::to_permuted : from ? Role::from_permuted : Role::fixed;
        ValueId v = node.inputs[0];
        for (size_t steps = 0; steps < graph_.nodes.size(); ++steps) {
            const NodeId producer = graph_.value(v).producer;
            if (producer == kNoNode) return Role::to_permuted;
            const Node& maker = graph_.node(producer);
            if (is_channels_last(maker)) return Role::from_permuted;
            if (maker.op->flags & kView) {  // a Reshape of what an internal operator made
                v = maker.inputs[0];
                continue;
            }
            if (!can_permute(maker)) return Role::to_permuted;
            const auto next = std::find_if(maker.inputs.begin(), maker.inputs.end(), [&](ValueId in) {
                return in != kNoValue && !graph_.constant(in) && has_rank(in);
            });
            if (next == maker.inputs.end()) return Role::to_permuted;
            v = *next;
        }
        return Role::to_permuted;
    }

    void assign_roles() {
        role_.assign(graph_.nodes.size(), Role::fixed);
        for (NodeId id : graph_.order) {
            const Node& node = graph_.node(id);
            Role& role = role_[static_cast<size_t>(id)];
            if (is_transpose(node)) role = role_of_transpose(node);
            else if (!blocked_.count(id) && can_permute(node)) role = Role::flexible;
        }
    }

    void label(bool largest) {
        MinCut cut;
        std::vector<int> vertex(graph_.nodes.size(), MinCut::kSink);
        std::vector<std::vector<int>> neighbours;  // vertices that meet at one value
        for (NodeId id : graph_.order)
            if (role_[static_cast<size_t>(id)] == Role::flexible) vertex[static_cast<size_t>(id)] = cut.add_node();
        for (size_t v = 0; v < graph_.values.size(); ++v) add_value(cut, vertex, static_cast<ValueId>(v), neighbours);
        cut.solve();
        std::vector<char> side = largest ? cut.largest_source_side() : cut.smallest_source_side();
        if (largest) {  // what no terminal wants permuted stays as it is
            std::vector<char> wanted(side.size(), 0);
            wanted[MinCut::kSource] = 1;
            for (bool again = true; again;) {
                again = false;
                for (const auto& meeting : neighbours) {
                    const bool any = std::any_of(meeting.begin(), meeting.end(),
                                                 [&](int n) { return wanted[static_cast<size_t>(n)]; });
                    for (int n : meeting) {
                        if (!any || wanted[static_cast<size_t>(n)] || !side[static_cast<size_t>(n)]) continue;
                        wanted[static_cast<size_t>(n)] = 1;
                        again = true;
                    }
                }
            }
            side = wanted;
        }
        permuted_node_.assign(graph_.nodes.size(), 0);
        for (size_t id = 0; id < vertex.size(); ++id)
            permuted_node_[id] = vertex[id] > MinCut::kSink && side[static_cast<size_t>(vertex[id])];
    }

    void add_value(MinCut& cut, const std::vector<int>& vertex, ValueId v, std::vector<std::vector<int>>& neighbours) {
        const GraphValue& value = graph_.value(v);
        if (value.fact.constant || value.users.empty() || !has_rank(v)) return;
        int maker = MinCut::kSink;
        if (value.producer != kNoNode) {
            maker = vertex[static_cast<size_t>(value.producer)];
            if (role_[static_cast<size_t>(value.producer)] == Role::from_permuted) maker = MinCut::kSource;
        }
        std::vector<int> readers;
        if (graph_.is_output(v)) readers.push_back(MinCut::kSink);
        for (NodeId user : value.users) {
            const Node& node = graph_.node(user);
            if (node.op_type == "Shape" && node.domain.empty()) continue;  // absorb_transpose sees to it
            int reader = vertex[static_cast<size_t>(user)];
            if (role_[static_cast<size_t>(user)] == Role::to_permuted) reader = MinCut::kSource;
            if (role_[static_cast<size_t>(user)] == Role::flexible)
                for (size_t i = 0; i < node.inputs.size(); ++i)
                    if (node.inputs[i] == v && !is_data(node, i)) readers.push_back(MinCut::kSink);
            readers.push_back(reader);
        }
        std::sort(readers.begin(), readers.end());
        readers.erase(std::unique(readers.begin(), readers.end()), readers.end());
        readers.erase(std::remove(readers.begin(), readers.end(), maker), readers.end());
        if (readers.empty()) return;
        const int64_t cost = transposition_cost(value.fact, perm_);
        if (maker != MinCut::kSink) {  // made permuted, read plainly
            const int hub = cut.add_node();
            cut.add_edge(maker, hub, cost);
            for (int reader : readers) cut.add_edge(hub, reader, MinCut::kInfinite);
        }
        if (maker != MinCut::kSource) {  // made plainly, read permuted
            const int hub = cut.add_node();
            cut.add_edge(hub, maker, cost);
            for (int reader : readers) cut.add_edge(reader, hub, MinCut::kInfinite);
        }
        readers.push_back(maker);
        neighbours.push_back(std::move(readers));
    }

    // Asks each operator that is to be permuted; those that cannot are blocked.
    bool all_permutable() {
        bool all = true;
        for (size_t id = 0; id < permuted_node_.size(); ++id) {
            if (!permuted_node_[id]) continue;
            Node copy = graph_.nodes[id];
            if (!copy.op->permute) continue;
            Patch patch(graph_);
            if (copy.op->permute(graph_, copy, perm_, patch) && patch.added().empty()) continue;
            for (NodeId added : patch.added()) graph_.remove_node(added);
            blocked_.insert(static_cast<NodeId>(id));
            all = false;
        }
        return all;
    }

    Tensor permuted_constant(const Tensor& tensor) const {
        Shape full(perm_.size() - tensor.shape.size(), 1);
        for (int64_t d : tensor.shape) full.push_back(d);
        const Shape strides = strides_of(full);
        Shape shape, from;
        for (int64_t axis : perm_) {
            shape.push_back(full[static_cast<size_t>(axis)]);
            from.push_back(strides[static_cast<size_t>(axis)]);
        }
        Tensor out = Tensor::allocate(tensor.dtype, shape);
        copy_box(Parallel{}, tensor.dtype, shape, tensor.data, from, out.data, strides_of(shape));
        return out;
    }

    Attributes perm_attribute(const Shape& perm) const {
        return Attributes().set("perm", std::vector<int64_t>(perm.begin(), perm.end()));
    }

    // The permuted form of a value.
    ValueId permuted(Patch& patch, ValueId v) {
        if (v == kNoValue) return v;
        if (const auto found = permuted_.find(v); found != permuted_.end()) return found->second;
        const Fact fact = graph_.fact(v);
        ValueId made = v;
        if (all_ones(fact.shape)) {
            // One element, whatever the order.
        } else if (fact.constant) {
            made = patch.constant(permuted_constant(*fact.constant), graph_.value(v).name);
        } else {
            if (fact.shape.size() < perm_.size()) {
                std::vector<int64_t> axes;
                for (size_t i = 0; i < perm_.size() - fact.shape.size(); ++i) axes.push_back(static_cast<int64_t>(i));
                made = patch.node("Unsqueeze", {made, patch.constant_ints(axes)});
            }
            made = patch.node("Transpose", {made}, perm_attribute(perm_));
        }
        permuted_[v] = made;
        return made;
    }

    void rewrite() {
        Patch patch(graph_);
        std::vector<std::pair<ValueId, ValueId>> replaced;
        const std::vector<NodeId> order = graph_.order;
        for (NodeId id : order) {
            const Role role = role_[static_cast<size_t>(id)];
            if (role == Role::from_permuted) permuted_[graph_.node(id).outputs[0]] = graph_.node(id).inputs[0];
            if (role == Role::to_permuted) {
                const auto found = permuted_.find(graph_.node(id).inputs[0]);
                if (found != permuted_.end()) replaced.push_back({graph_.node(id).outputs[0], found->second});
            }
            if (role != Role::flexible || !permuted_node_[static_cast<size_t>(id)]) continue;
            const Node node = graph_.node(id);
            Node made = node;
            if (made.op->permute)
                require(made.op->permute(graph_, made, perm_, patch), node.op_type, " no longer permutes");
            made.outputs.clear();
            for (size_t i = 0; i < made.inputs.size(); ++i)
                if (is_data(node, i) && i < node.inputs.size()) made.inputs[i] = permuted(patch, node.inputs[i]);
            const ValueIds outputs = patch.node(std::move(made), static_cast<int>(node.outputs.size()));
            for (size_t i = 0; i < outputs.size(); ++i) {
                if (node.outputs[i] == kNoValue) continue;
                permuted_[node.outputs[i]] = outputs[i];
                replaced.push_back({node.outputs[i], patch.node("Transpose", {outputs[i]}, perm_attribute(inverse_))});
            }
        }
        std::map<ValueId, ValueId> now;  // a replacement may have been replaced itself
        for (auto [from, to] : replaced) {
            for (auto found = now.find(to); found != now.end(); found = now.find(to)) to = found->second;
            graph_.replace_uses(from, to);
            now[from] = to;
        }
        graph_.sort();
        graph_.remove_unused();
    }

    Graph& graph_;
    const Shape perm_, inverse_;
    std::vector<Role> role_;
    std::vector<char> permuted_node_;
    std::set<NodeId> blocked_;
    std::map<ValueId, ValueId> permuted_;
};

bool less(const Shape& a, const Shape& b) {
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace

bool choose_layouts(Graph& graph) {
    // Channels-last orders first: there, values go along even where nothing is won, so that they are next to the
    // convolution that they may be merged into.
    bool changed = false;
    std::set<Shape, bool (*)(const Shape&, const Shape&)> others(less);
    std::set<size_t> ranks;
    for (NodeId id : graph.order) {
        if (!is_transpose(graph.node(id))) continue;
        const Shape perm = perm_of(graph, graph.node(id));
        if (perm.size() < 2 || moves_nothing(graph.fact(graph.node(id).inputs[0]).shape, perm)) continue;
        others.insert(perm);
        ranks.insert(perm.size());
    }
    for (size_t rank : ranks) {
        if (rank < 3 || rank > 5) continue;
        Shape perm{0};
        for (size_t i = 2; i < rank; ++i) perm.push_back(static_cast<int64_t>(i));
        perm.push_back(1);
        changed |= Layouts(graph, perm).apply(true);
        others.erase(perm);
        others.erase(inverse_of(perm));
    }
    for (const Shape& perm : others) changed |= Layouts(graph, perm).apply(false);
    return changed;
}

int count_layout_changes(const Graph& graph) {
    int count = 0;
    for (NodeId id : graph.order) {
        const Node& node = graph.node(id);
        if (!is_transpose(node)) continue;
        const Fact& x = graph.fact(node.inputs[0]);
        if (!x.ranked || !moves_nothing(x.shape, perm_of(graph, node))) ++count;
    }
    return count;
}

}  // namespace linnet
