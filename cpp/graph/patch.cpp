// What a rewriting rule adds to a graph: constants and nodes, in the opset that the model may use.
#include <algorithm>

#include "base/half.h"
#include "graph/infer.h"
#include "graph/op.h"

namespace linnet {
namespace {

// Null when the graph may not use the operator. Once lowering, rows newer than the model's opset may be used as well.
const OpDef* usable(const Graph& graph, std::string_view domain, std::string_view op_type) {
    if (graph.lowered || domain == "linnet") return find_op(domain, op_type, kMaxOpset);
    const OpDef* op = find_op(domain, op_type, graph.opset(domain));
    return op && !(op->flags & kForeign) ? op : nullptr;
}

}  // namespace

Node copy_of(const Node& node) {
    Node copy;
    copy.name = node.name;
    copy.op_type = node.op_type;
    copy.domain = node.domain;
    copy.op = node.op;
    copy.inputs = node.inputs;
    copy.attributes = node.attributes;
    return copy;
}

bool Patch::available(std::string_view op_type, std::string_view domain) const {
    if (domain == "linnet" && !graph_.lowered) return false;
    return usable(graph_, domain, op_type) != nullptr;
}

ValueId Patch::constant(Tensor tensor, std::string_view name) {
    return graph_.add_constant(graph_.unique_name(name), std::move(tensor));
}

ValueId Patch::constant_ints(const std::vector<int64_t>& values, bool scalar) {
    return constant(scalar ? Tensor::scalar<int64_t>(values.at(0)) : Tensor::vector<int64_t>(values));
}

ValueId Patch::constant_float(float value, DType dtype) {
    Tensor t = Tensor::allocate(dtype, {});
    switch (dtype) {
        case DType::f64: *t.as<double>() = value; break;
        case DType::f16: *t.as<Half>() = to_half(value); break;
        case DType::bf16: *t.as<BFloat16>() = to_bfloat16(value); break;
        default: *t.as<float>() = value; break;
    }
    return constant(std::move(t));
}

ValueId Patch::node(std::string_view op_type, const ValueIds& inputs, Attributes attributes, std::string_view domain,
                    int outputs) {
    Node n;
    n.op_type = op_type;
    n.domain = domain;
    n.op = usable(graph_, domain, op_type);
    if (!n.op) fail(ErrorKind::not_implemented, "no operator ", domain, " ", op_type, " to rewrite with");
    n.inputs = inputs;
    n.attributes = std::move(attributes);
    return node(std::move(n), outputs)[0];
}

ValueIds Patch::node(Node n, int outputs) {
    if (n.name.empty()) n.name = graph_.unique_name(n.op_type);
    std::vector<Fact> facts(static_cast<size_t>(outputs));
    n.outputs.clear();
    for (int i = 0; i < outputs; ++i) n.outputs.push_back(graph_.add_value(graph_.unique_name(n.op_type + "_out"), {}));
    std::vector<const Fact*> in;
    for (ValueId v : n.inputs) in.push_back(v == kNoValue ? nullptr : &graph_.fact(v));
    infer_node(graph_, n, in, facts, *graph_.dims);
    const ValueIds ids = n.outputs;
    for (size_t i = 0; i < ids.size(); ++i) graph_.value(ids[i]).fact = std::move(facts[i]);
    added_.push_back(graph_.add_node(std::move(n)));
    return ids;
}

}  // namespace linnet
