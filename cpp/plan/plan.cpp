// From a lowered graph with known shapes to a Plan: what each step is, where each value lies.
#include "plan/plan.h"

#include <algorithm>

#include "graph/infer.h"

namespace linnet {
namespace {

// Constants from this size on are worth freeing when only their packed form is used.
constexpr size_t kLargeConstant = size_t{64} << 10;
// Values computed from shapes alone are small; they are worked out while planning.
constexpr size_t kMostPlannedFold = 4096;

// Values that share memory form a group, named by its root: the value whose maker writes the memory.
class Planner {
  public:
    Planner(const Graph& graph, Plan& plan) : graph_(graph), plan_(plan), root_(graph.values.size()) {
        for (size_t v = 0; v < root_.size(); ++v) root_[v] = static_cast<ValueId>(v);
        plan.places.resize(graph.values.size());
    }

    void run(const PlanOptions& options, const std::function<void(const Tensor&)>& packed_only) {
        choose_steps();
        find_last_uses();
        place_outputs();
        share_memory();
        prepare_steps(options, packed_only);
        place_in_arena();
        list_releases();
    }

  private:
    const Fact& fact(ValueId v) const { return plan_.facts[static_cast<size_t>(v)]; }
    Place& place(ValueId v) { return plan_.places[static_cast<size_t>(v)]; }
    ValueId root(ValueId v) const {
        while (root_[static_cast<size_t>(v)] != v) v = root_[static_cast<size_t>(v)];
        return v;
    }
    // A view of more or fewer elements than there are: the step itself finds out what is wrong.
    bool changes_count(const Node& n) const {
        const ValueId in = n.inputs[0], out = n.outputs[0];
        return in != kNoValue && out != kNoValue && fact(in).is_static() && fact(out).is_static() &&
               element_count(fact(in).shape) != element_count(fact(out).shape);
    }
    bool is_dynamic(ValueId v) const { return dynamic_[static_cast<size_t>(v)]; }

    void choose_steps() {
        dynamic_.assign(graph_.values.size(), 0);
        for (size_t v = 0; v < graph_.values.size(); ++v)
            if (fact(static_cast<ValueId>(v)).constant) plan_.places[v].kind = Place::Kind::constant;
        for (const Port& p : graph_.inputs) {
            if (!fact(p.value).constant) place(p.value).kind = Place::Kind::input;
            dynamic_[static_cast<size_t>(p.value)] = !fact(p.value).is_static();
        }
        for (NodeId id : graph_.order) {
            const Node& n = graph_.node(id);
            const bool known = std::all_of(n.outputs.begin(), n.outputs.end(),
                                           [&](ValueId v) { return v == kNoValue || fact(v).constant; });
            if (known) continue;
            Step step;
            step.node = id;
            step.op = n.op;
            if (!n.op->run) fail(ErrorKind::not_implemented, node_text(n), ": this form of the operator cannot be run");
            const bool planned = !(n.op->flags & kDynamic) && !(n.op->flags & kView && changes_count(n)) &&
                                 std::all_of(n.inputs.begin(), n.inputs.end(),
                                             [&](ValueId v) { return v == kNoValue || !is_dynamic(v); }) &&
                                 std::all_of(n.outputs.begin(), n.outputs.end(),
                                             [&](ValueId v) { return v == kNoValue || fact(v).is_static(); });
            if (!planned) {
                step.kind = Step::Kind::dynamic;
                for (ValueId v : n.outputs)
                    if (v != kNoValue) {
                        dynamic_[static_cast<size_t>(v)] = 1;
                        // Known or not, the step makes it again: its place is the heap.
                        place(v).kind = Place::Kind::none;
                    }
            } else {
                if (n.op->flags & kView && n.inputs[0] != kNoValue &&
                    fact(n.inputs[0]).dtype == fact(n.outputs[0]).dtype && fact(n.inputs[0]).dtype != DType::string)
                    step.kind = Step::Kind::view;
                for (ValueId v : n.outputs)
                    if (v != kNoValue) place(v).kind = Place::Kind::arena;
            }
            plan_.steps.push_back(std::move(step));
        }
        for (const Step& step : plan_.steps) {
            if (step.kind != Step::Kind::view) continue;
            const Node& n = graph_.node(step.node);
            root_[static_cast<size_t>(n.outputs[0])] = root(n.inputs[0]);
        }
    }

    // By root.
    void find_last_uses() {
        last_use_.assign(graph_.values.size(), -1);
        first_.assign(graph_.values.size(), -1);
        for (size_t s = 0; s < plan_.steps.size(); ++s) {
            const Node& n = graph_.node(plan_.steps[s].node);
            for (ValueId v : n.inputs)
                if (v != kNoValue) last_use_[static_cast<size_t>(root(v))] = static_cast<int32_t>(s);
            for (ValueId v : n.outputs) {
                if (v == kNoValue) continue;
                auto& first = first_[static_cast<size_t>(root(v))];
                if (first < 0) first = static_cast<int32_t>(s);
                auto& last = last_use_[static_cast<size_t>(root(v))];
                last = std::max(last, static_cast<int32_t>(s));
            }
        }
    }

    // An output is written straight into the caller's memory where its group is made by a step and belongs to no other
    // output.
    void place_outputs() {
        plan_.copy_output.assign(graph_.outputs.size(), 0);
        for (size_t i = 0; i < graph_.outputs.size(); ++i) {
            const ValueId r = root(graph_.outputs[i].value);
            Place& p = place(r);
            if (p.kind == Place::Kind::arena && fact(r).dtype != DType::string) {
                p = {Place::Kind::output, static_cast<int64_t>(i)};
            } else {
                plan_.copy_output[i] = 1;
            }
        }
    }

    // Elementwise steps may write over an input that dies.
    void share_memory() {
        for (size_t s = 0; s < plan_.steps.size(); ++s) {
            const Step& step = plan_.steps[s];
            if (step.kind != Step::Kind::kernel || !(step.op->flags & kInPlace)) continue;
            const Node& n = graph_.node(step.node);
            const ValueId out = n.outputs[0];
            if (out == kNoValue || place(out).kind != Place::Kind::arena || root(out) != out) continue;
            for (ValueId in : n.inputs) {
                if (in == kNoValue) continue;
                const ValueId r = root(in);
                if (place(r).kind != Place::Kind::arena ||
                    last_use_[static_cast<size_t>(r)] != static_cast<int32_t>(s) || fact(in).dtype == DType::string ||
                    bytes_of(r) != bytes_of(out) || dtype_size(fact(in).dtype) != dtype_size(fact(out).dtype))
                    continue;
                root_[static_cast<size_t>(out)] = r;
                last_use_[static_cast<size_t>(r)] = last_use_[static_cast<size_t>(out)];
                break;
            }
        }
    }

    int64_t bytes_of(ValueId v) const {
        return checked_mul(element_count(fact(v).shape), static_cast<int64_t>(dtype_size(fact(v).dtype)));
    }

    void prepare_steps(const PlanOptions& options, const std::function<void(const Tensor&)>& packed_only) {
        std::vector<size_t> packed_uses(graph_.values.size(), 0);
        std::vector<const Fact*> in;
        std::vector<Fact> out;
        for (Step& step : plan_.steps) {
            const Node& n = graph_.node(step.node);
            if (step.kind != Step::Kind::kernel || !step.op->prepare) {
                for (ValueId v : n.inputs) restore(v, options.cache);
                continue;
            }
            in.clear();
            out.clear();
            for (ValueId v : n.inputs) in.push_back(v == kNoValue ? nullptr : &fact(v));
            for (ValueId v : n.outputs) out.push_back(v == kNoValue ? Fact{} : fact(v));
            PrepareContext context(graph_, n, in, out, options);
            try {
                step.state = step.op->prepare(context);
            } catch (Error& e) {
                e.add_context(node_text(n));
                throw;
            }
            step.algorithm = context.algorithm();
            step.scratch = context.scratch();
            for (size_t i = 0; i < n.inputs.size(); ++i) {
                const ValueId v = n.inputs[i];
                if (!context.packed(i)) restore(v, options.cache);
                else if (++packed_uses[static_cast<size_t>(v)] == graph_.value(v).users.size() && packed_only &&
                         fact(v).constant->bytes() >= kLargeConstant && !graph_.is_output(v))
                    packed_only(*fact(v).constant);
            }
        }
    }

    // What this plan reads as it is must have its elements.
    void restore(ValueId v, PackCache* cache) {
        if (v == kNoValue) return;
        auto& constant = plan_.facts[static_cast<size_t>(v)].constant;
        if (constant && !constant->data && constant->count() > 0) constant = cache->restore(v);
    }

    void place_in_arena() {
        std::vector<Lifetime> lifetimes;
        std::vector<ValueId> owners;
        for (size_t v = 0; v < root_.size(); ++v) {
            const auto id = static_cast<ValueId>(v);
            if (plan_.places[v].kind != Place::Kind::arena || root(id) != id) continue;
            const int64_t bytes = bytes_of(id);
            lifetimes.push_back({first_[v], last_use_[v], std::max<int64_t>(bytes, 1)});
            owners.push_back(id);
        }
        const size_t values = lifetimes.size();
        for (size_t s = 0; s < plan_.steps.size(); ++s)
            if (plan_.steps[s].scratch)
                lifetimes.push_back(
                    {static_cast<int32_t>(s), static_cast<int32_t>(s), static_cast<int64_t>(plan_.steps[s].scratch)});
        for (const Lifetime& l : lifetimes) plan_.unshared_bytes = checked_add(plan_.unshared_bytes, l.bytes);
        const Placement placement = place_lifetimes(lifetimes);
        plan_.arena_bytes = placement.bytes;
        for (size_t i = 0; i < values; ++i) place(owners[i]).offset = placement.offsets[i];
        size_t next = values;
        for (Step& step : plan_.steps)
            if (step.scratch) step.scratch_offset = placement.offsets[next++];
        // Members of a group take their root's place.
        for (size_t v = 0; v < root_.size(); ++v) {
            const ValueId r = root(static_cast<ValueId>(v));
            if (plan_.places[v].kind == Place::Kind::arena && r != static_cast<ValueId>(v)) plan_.places[v] = place(r);
        }
    }

    void list_releases() {
        std::vector<int32_t> last(graph_.values.size(), -1);
        for (size_t s = 0; s < plan_.steps.size(); ++s)
            for (ValueId v : graph_.node(plan_.steps[s].node).inputs)
                if (v != kNoValue) last[static_cast<size_t>(v)] = static_cast<int32_t>(s);
        for (const Port& p : graph_.outputs) last[static_cast<size_t>(p.value)] = -1;
        for (const Port& p : graph_.inputs) last[static_cast<size_t>(p.value)] = -1;
        for (size_t v = 0; v < last.size(); ++v)
            if (last[v] >= 0 && dynamic_[v])
                plan_.steps[static_cast<size_t>(last[v])].release.push_back(static_cast<ValueId>(v));
    }

    const Graph& graph_;
    Plan& plan_;
    std::vector<ValueId> root_;
    std::vector<char> dynamic_;
    std::vector<int32_t> first_, last_use_;
};

}  // namespace

std::unique_ptr<Plan> make_plan(const Graph& graph, std::span<const Fact> inputs, const PlanOptions& options,
                                const std::function<void(const Tensor&)>& packed_only) {
    auto plan = std::make_unique<Plan>();
    DimTable dims;
    plan->facts = infer_graph(graph, inputs, dims, {.fold_bytes = kMostPlannedFold});
    Planner(graph, *plan).run(options, packed_only);
    return plan;
}

}  // namespace linnet
