// A graph, with its plan where there is one, as facts for printing.
#include "runtime/describe.h"

#include "graph/op.h"
#include "runtime/cost.h"

namespace linnet {
namespace {

bool moves_data(const Node& node, const Fact& x) {
    if (node.op_type != "Transpose" || !x.ranked) return false;
    // Where the axes of more than one element keep their order nothing moves.
    const std::vector<int64_t> perm = node.attributes.ints("perm");
    int64_t before = -1;
    bool ordered = !perm.empty();
    for (int64_t axis : perm) {
        if (axis < 0 || axis >= x.rank()) return false;
        if (x.shape[static_cast<size_t>(axis)] == 1) continue;
        ordered = ordered && axis > before;
        before = axis;
    }
    return !ordered;
}

class Describer {
  public:
    Describer(const Graph& graph, std::span<const Fact> facts) : graph_(graph), facts_(facts) {}

    void node(NodeId id, std::string_view step, const std::string& prefix) {
        const Node& n = graph_.node(id);
        NodeInfo row;
        row.name = n.name;
        row.internal = n.domain == "linnet";
        row.op = prefix + (n.domain.empty() || row.internal ? n.op_type : n.domain + "." + n.op_type);
        row.step = step;
        std::vector<const Shape*> in, out;
        for (size_t i = 0; i < n.inputs.size(); ++i) {
            const ValueId v = n.inputs[i];
            in.push_back(shape(v));
            if (v != kNoValue && !fact(v).constant) row.inputs.push_back(fact_text(fact(v), *graph_.dims));
        }
        for (ValueId v : n.outputs) {
            out.push_back(shape(v));
            if (v != kNoValue) row.outputs.push_back(fact_text(fact(v), *graph_.dims));
        }
        if (row.internal && n.op->flags & kEpilogue && n.inputs.size() > 2 && n.inputs[2] != kNoValue)
            row.epilogue.push_back("bias");
        if (row.internal)
            for (const std::string& text : n.attributes.strings("epilogue")) row.epilogue.push_back(text);
        row.macs = count_macs(n, in, out);
        if (step != "view" && !n.inputs.empty() && n.inputs[0] != kNoValue && !fact(n.inputs[0]).constant)
            info.layout_changes += moves_data(n, fact(n.inputs[0]));
        info.nodes.push_back(std::move(row));
        for_each_subgraph(n, [&](const std::string& attribute, Graph& body) {
            Describer inner(body, {});
            inner.all(prefix + attribute + "/");
            for (NodeInfo& row : inner.info.nodes) info.nodes.push_back(std::move(row));
            for (FloatNode& row : inner.info.float_nodes) info.float_nodes.push_back(std::move(row));
            info.constants += inner.info.constants;
            info.constant_elements += inner.info.constant_elements;
            info.constant_bytes += inner.info.constant_bytes;
            info.layout_changes += inner.info.layout_changes;
        });
    }

    void all(const std::string& prefix) {
        for (NodeId id : graph_.order) node(id, "", prefix);
        finish();
    }

    void finish() {
        info.float_nodes.insert(info.float_nodes.end(), graph_.float_nodes.begin(), graph_.float_nodes.end());
        for (size_t v = 0; v < graph_.values.size(); ++v) {
            const GraphValue& value = graph_.values[v];
            const auto id = static_cast<ValueId>(v);
            if (!value.fact.constant || (value.users.empty() && !graph_.is_output(id))) continue;
            ++info.constants;
            info.constant_elements += value.fact.constant->count();
            info.constant_bytes += static_cast<int64_t>(value.fact.constant->bytes());
        }
    }

    GraphInfo info;

  private:
    const Fact& fact(ValueId v) const { return facts_.empty() ? graph_.fact(v) : facts_[static_cast<size_t>(v)]; }
    const Shape* shape(ValueId v) const {
        return v != kNoValue && fact(v).is_tensor() && fact(v).ranked ? &fact(v).shape : nullptr;
    }
    const Graph& graph_;
    std::span<const Fact> facts_;
};

}  // namespace

GraphInfo describe(const Graph& graph, std::span<const Fact> facts) {
    Describer describer(graph, facts);
    describer.all("");
    return std::move(describer.info);
}

GraphInfo describe(const Graph& graph, const Plan& plan) {
    static constexpr std::string_view kSteps[] = {"kernel", "view", "dynamic"};
    Describer describer(graph, plan.facts);
    for (const Step& step : plan.steps) {
        const size_t row = describer.info.nodes.size();
        describer.node(step.node, kSteps[static_cast<int>(step.kind)], "");
        describer.info.nodes[row].algorithm = step.algorithm;
    }
    describer.finish();
    return std::move(describer.info);
}

}  // namespace linnet
