// Facts of a node's outputs from those of its inputs; small constant results are computed at once.
#include "graph/infer.h"

#include <algorithm>

namespace linnet {
namespace {

// Turns fully known `ints` into the constant they are.
void settle(Fact& fact) {
    if (fact.constant || !fact.ints || !fact.is_tensor()) return;
    if (fact.dtype != DType::i64 && fact.dtype != DType::i32) return;
    if (!is_known(*fact.ints)) return;
    if (!fact.ranked || !is_known(fact.shape) || fact.rank() > 1) return;
    if (element_count(fact.shape) != static_cast<int64_t>(fact.ints->size())) return;
    Tensor t = Tensor::allocate(fact.dtype, fact.shape);
    for (size_t i = 0; i < fact.ints->size(); ++i) {
        if (fact.dtype == DType::i64) t.as<int64_t>()[i] = (*fact.ints)[i];
        else t.as<int32_t>()[i] = static_cast<int32_t>((*fact.ints)[i]);
    }
    fact.constant = std::make_shared<const Tensor>(std::move(t));
}

bool can_fold(const Node& node, std::span<const Fact* const> inputs) {
    if (!node.op->run || (node.op->flags & kRandom)) return false;
    bool subgraphs = false;
    for_each_subgraph(node, [&](const std::string&, Graph&) { subgraphs = true; });
    if (subgraphs) return false;
    if (node.op->flags & kFloat32Only)  // other floats get their casts when lowered
        for (const Fact* f : inputs)
            if (f && is_float(f->dtype) && f->dtype != DType::f32) return false;
    return std::all_of(inputs.begin(), inputs.end(), [](const Fact* f) { return !f || f->constant; });
}

// Bytes of all outputs; negative when not known or not plain tensors.
int64_t output_bytes(std::span<const Fact> outputs) {
    int64_t bytes = 0;
    for (const Fact& f : outputs) {
        if (f.dtype == DType::undefined) continue;  // left out
        if (!f.is_static()) return -1;
        bytes = checked_add(bytes, checked_mul(element_count(f.shape), static_cast<int64_t>(dtype_size(f.dtype))));
    }
    return bytes;
}

void fold(const Graph& graph, const Node& node, std::span<const Fact* const> inputs, std::span<Fact> outputs,
          const InferOptions& options) {
    if (!can_fold(node, inputs) || (options.fold_budget && *options.fold_budget <= 0)) return;
    if (!(node.op->flags & kDynamic)) {
        size_t given = 0;
        for (const Fact* f : inputs)
            if (f) given += f->constant->bytes();
        const int64_t bytes = output_bytes(outputs);
        if (bytes < 0 || static_cast<size_t>(bytes) > std::max(options.fold_bytes, options.fold_growth * given)) return;
        if (options.fold_budget && bytes > *options.fold_budget) return;
    }
    std::vector<Value> values(inputs.size());
    std::vector<Value*> pointers(inputs.size(), nullptr);
    for (size_t i = 0; i < inputs.size(); ++i) {
        if (!inputs[i]) continue;
        values[i] = *inputs[i]->constant;
        pointers[i] = &values[i];
    }
    EvaluateOptions how;
    how.parallel.stop = options.fold_stop;
    std::vector<Value> results;
    try {
        results = evaluate(graph, node, pointers, how);
    } catch (const Error& e) {
        if (e.kind() != ErrorKind::cancelled) throw;
        *options.fold_budget = 0;
        return;
    }
    for (size_t i = 0; i < results.size(); ++i) {
        if (results[i].kind != Value::Kind::tensor || outputs[i].optional) continue;
        Tensor& t = results[i].tensor;
        if (!t.owner) t = t.clone();
        if (options.fold_budget)
            *options.fold_budget -= std::min(*options.fold_budget, static_cast<int64_t>(t.bytes()));
        outputs[i] = Fact::of_constant(t);
    }
}

// Counts the uses of folded nodes, and lets go of the elements that were made here and that nobody needs any more.
void release_inputs(const Graph& graph, const Node& node, std::vector<Fact>& facts, std::vector<size_t>& uses) {
    for (ValueId v : node.outputs)
        if (v != kNoValue && !facts[static_cast<size_t>(v)].constant) return;
    for (ValueId v : node.inputs) {
        if (v == kNoValue || graph.value(v).fact.constant || graph.is_output(v)) continue;
        const auto at = static_cast<size_t>(v);
        if (++uses[at] == graph.value(v).users.size()) facts[at].constant.reset();
    }
}

}  // namespace

std::string node_text(const Node& node) {
    return cat("node '", node.name.empty() ? node.op_type : node.name, "' (",
               node.domain.empty() || node.domain == "linnet" ? "" : node.domain + ".", node.op_type, ")");
}

void infer_node(const Graph& graph, const Node& node, std::span<const Fact* const> inputs, std::span<Fact> outputs,
                DimTable& dims) {
    try {
        InferContext context(graph, node, inputs, outputs, dims);
        node.op->infer(context);
        context.check_outputs();
        for (Fact& f : outputs) settle(f);
    } catch (Error& e) {
        e.add_context(node_text(node));
        throw;
    }
}

std::vector<Fact> infer_graph(const Graph& graph, std::span<const Fact> inputs, DimTable& dims,
                              const InferOptions& options) {
    std::vector<Fact> facts(graph.values.size());
    for (size_t v = 0; v < facts.size(); ++v)
        if (graph.values[v].fact.constant) facts[v] = graph.values[v].fact;
    for (size_t i = 0; i < graph.inputs.size(); ++i) facts[static_cast<size_t>(graph.inputs[i].value)] = inputs[i];
    std::vector<size_t> folded_uses(options.release ? facts.size() : 0, 0);
    std::vector<const Fact*> in;
    std::vector<Fact> out;
    for (NodeId id : graph.order) {
        const Node& n = graph.node(id);
        in.clear();
        for (ValueId v : n.inputs) in.push_back(v == kNoValue ? nullptr : &facts[static_cast<size_t>(v)]);
        out.assign(n.outputs.size(), Fact{});
        infer_node(graph, n, in, out, dims);
        if (options.fold_bytes && (options.keep.empty() || !options.keep[static_cast<size_t>(id)])) {
            try {
                fold(graph, n, in, out, options);
            } catch (Error& e) {
                e.add_context(node_text(n));
                throw;
            }
        }
        for (size_t i = 0; i < out.size(); ++i)
            if (n.outputs[i] != kNoValue) facts[static_cast<size_t>(n.outputs[i])] = std::move(out[i]);
        if (options.release) release_inputs(graph, n, facts, folded_uses);
    }
    return facts;
}

Fact fact_of(const Value& value) {
    if (value.kind == Value::Kind::tensor) return Fact::of_constant(value.tensor);
    Fact f;
    f.kind = value.kind;
    f.optional = value.kind == Value::Kind::absent;
    if (value.kind == Value::Kind::sequence && !value.items->empty()) {
        const Value& first = value.items->front();
        if (first.kind == Value::Kind::tensor) f.dtype = first.tensor.dtype;
    }
    return f;
}

std::vector<Value> evaluate(const Graph& graph, const Node& node, std::span<Value* const> inputs,
                            const EvaluateOptions& options) {
    const OpDef& op = *node.op;
    if (!op.run) fail(ErrorKind::not_implemented, "cannot run ", node.op_type, " by itself");
    std::vector<Fact> facts(inputs.size()), out_facts(node.outputs.size());
    std::vector<const Fact*> in_facts(inputs.size(), nullptr);
    for (size_t i = 0; i < inputs.size(); ++i) {
        if (!inputs[i]) continue;
        facts[i] = fact_of(*inputs[i]);
        in_facts[i] = &facts[i];
    }
    std::vector<Value> outputs(node.outputs.size());
    std::vector<Value*> out_pointers(node.outputs.size(), nullptr);
    for (size_t i = 0; i < outputs.size(); ++i)
        if (node.outputs[i] != kNoValue) out_pointers[i] = &outputs[i];

    std::shared_ptr<const void> state;
    Tensor scratch;
    if (!(op.flags & kDynamic)) {
        DimTable dims;
        InferContext infer(graph, node, in_facts, out_facts, dims);
        op.infer(infer);
        for (size_t i = 0; i < outputs.size(); ++i) {
            if (!out_pointers[i]) continue;
            if (!out_facts[i].is_static()) {
                if (op.flags & kOpen) continue;
                fail(ErrorKind::runtime, "the shape of output ", i, " could not be determined");
            }
            outputs[i] = Tensor::allocate(out_facts[i].dtype, out_facts[i].shape);
        }
        if (op.prepare) {
            // No cache: inputs are not the model's constants here, so packing must not be remembered.
            PrepareContext prepare(graph, node, in_facts, out_facts, {.threads = options.parallel.threads});
            state = op.prepare(prepare);
            if (prepare.scratch()) scratch = Tensor::allocate(DType::u8, {static_cast<int64_t>(prepare.scratch())});
        }
    }
    RunContext run(node, inputs, out_pointers, options.parallel);
    run.state_ = state.get();
    run.scratch_ = static_cast<std::byte*>(scratch.data);
    run.run_subgraph_ = options.run_subgraph;
    op.run(run);
    return outputs;
}

}  // namespace linnet
