// What operators are given while they infer and run: operands, outputs, subgraphs.
#include <algorithm>

#include "graph/infer.h"
#include "graph/op.h"

namespace linnet {

const Fact& InferContext::input(int i) const {
    if (!has_input(i)) fail(ErrorKind::invalid_graph, "input ", i, " is missing");
    return *inputs_[static_cast<size_t>(i)];
}

const Tensor* InferContext::constant(int i) const {
    return has_input(i) ? inputs_[static_cast<size_t>(i)]->constant.get() : nullptr;
}

const Shape* InferContext::ints(int i) const {
    if (!has_input(i)) return nullptr;
    const Fact& f = *inputs_[static_cast<size_t>(i)];
    return f.ints ? &*f.ints : nullptr;
}

void InferContext::check_outputs() const {
    for (int i = said_; i < outputs(); ++i)
        if (has_output(i))
            fail(ErrorKind::invalid_graph, "has ", said_, said_ == 1 ? " output" : " outputs", ", ", outputs(),
                 " are named");
}

void InferContext::output(int i, Fact fact) {
    said_ = std::max(said_, i + 1);
    if (fact.ranked && fact.rank() > graph_.most_rank)
        fail(ErrorKind::invalid_graph, "output ", i, " would have ", fact.rank(), " dimensions: at most ",
             graph_.most_rank, " are allowed (option max_rank)");
    if (has_output(i)) outputs_[static_cast<size_t>(i)] = std::move(fact);
}

bool InferContext::broadcast(std::initializer_list<int> which, Shape& shape) const {
    shape.clear();
    size_t rank = 0;
    for (int i : which) {
        if (!input(i).ranked) return false;
        rank = std::max(rank, input(i).shape.size());
    }
    shape.resize(rank, 1);
    for (int i : which) {
        const Shape& s = input(i).shape;
        for (size_t d = 0; d < s.size(); ++d) {
            int64_t& dim = shape[rank - s.size() + d];
            if (is_number(dim) && is_number(s[d]) && dim != s[d] && dim != 1 && s[d] != 1) {
                std::string all;
                for (int j : which) all += (all.empty() ? "" : " and ") + dims.text(input(j).shape);
                fail(ErrorKind::invalid_argument, "shapes ", all, " do not broadcast");
            }
            dim = dims.broadcast(dim, s[d]);
        }
    }
    return true;
}

std::vector<Fact> InferContext::subgraph(std::string_view attribute, std::vector<Fact> formal) const {
    const std::shared_ptr<Graph>* g = attributes.g(attribute);
    if (!g) fail(ErrorKind::invalid_graph, "subgraph '", attribute, "' is missing");
    Graph& sub = **g;
    // A body's input may come without a type in the file; what it is given tells.
    for (size_t i = 0; i < formal.size() && i < sub.inputs.size(); ++i) {
        Fact& known = sub.value(sub.inputs[i].value).fact;
        if (known.kind != Value::Kind::tensor || known.dtype != DType::undefined || known.ranked) continue;
        if (formal[i].dtype == DType::undefined) continue;
        known = Fact::unranked(formal[i].dtype);
        known.kind = formal[i].kind;
        known.optional = formal[i].optional;
    }
    for (size_t i = inputs_.size() - static_cast<size_t>(node_.captures); i < inputs_.size(); ++i) {
        formal.push_back(*inputs_[i]);
    }
    if (formal.size() != sub.inputs.size())
        fail(ErrorKind::invalid_graph, "subgraph '", attribute, "' takes ",
             static_cast<int>(sub.inputs.size()) - node_.captures, " inputs, given ",
             static_cast<int>(formal.size()) - node_.captures);
    std::vector<Fact> facts = infer_graph(sub, formal, dims);
    std::vector<Fact> results;
    for (const Port& p : sub.outputs) results.push_back(facts[static_cast<size_t>(p.value)]);
    return results;
}

namespace {

// A value that stays valid when the arena is used again.
Value owned(Value value) {
    if (value.kind == Value::Kind::tensor) {
        if (!value.tensor.owner) value.tensor = value.tensor.clone();
        return value;
    }
    if (!value.items) return value;
    const bool all = std::all_of(value.items->begin(), value.items->end(), [](const Value& v) {
        return v.kind != Value::Kind::tensor || v.tensor.owner != nullptr;
    });
    if (all) return value;
    std::vector<Value> items;
    for (const Value& v : *value.items) items.push_back(owned(v));
    value.items = std::make_shared<const std::vector<Value>>(std::move(items));
    return value;
}

}  // namespace

Tensor& RunContext::allocate(int i, DType dtype, const Shape& shape) {
    if (!has_output(i)) {
        unused_ = Tensor::allocate(dtype, shape);
        return unused_;
    }
    Value& v = *outputs_[static_cast<size_t>(i)];
    v = Value(Tensor::allocate(dtype, shape));
    return v.tensor;
}

void RunContext::set_value(int i, Value value) {
    if (has_output(i)) *outputs_[static_cast<size_t>(i)] = owned(std::move(value));
}

std::vector<Value> RunContext::subgraph(std::string_view attribute, std::vector<Value> formal) const {
    if (!run_subgraph_) fail(ErrorKind::runtime, "subgraph '", attribute, "' cannot be run here");
    for (size_t i = inputs_.size() - static_cast<size_t>(node.captures); i < inputs_.size(); ++i)
        formal.push_back(*inputs_[i]);
    return run_subgraph_(attribute, std::move(formal));
}

}  // namespace linnet
