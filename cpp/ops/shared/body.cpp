// Helpers of operators with a body.
#include "ops/shared/body.h"

#include <unordered_map>

#include "ops/shared/facts.h"

namespace linnet {

Fact without_value(Fact fact) {
    fact.constant = nullptr;
    fact.ints.reset();
    return fact;
}

std::vector<Fact> settle_body(const InferContext& ctx, std::string_view attribute, std::vector<Fact> formal,
                              size_t first_formal, size_t first_state, size_t states) {
    std::vector<Fact> outputs;
    // Bodies nest, so the rounds must be few: sizes that changed are unknown in the second, and what still changes has
    // no known rank at the end.
    for (int round = 0; round < 2; ++round) {
        outputs = ctx.subgraph(attribute, formal);
        require(outputs.size() >= first_state + states, "the body has ", outputs.size(), " outputs, needs ",
                first_state + states);
        bool settled = true;
        for (size_t i = 0; i < states; ++i) {
            Fact& in = formal[first_formal + i];
            const Fact out = without_value(outputs[first_state + i]);
            Fact both = says_nothing(out) ? out : says_nothing(in) ? in : merge_facts(in, out);
            settled = settled && same_fact(in, both);
            in = std::move(both);
        }
        for (size_t i = 0; i < states; ++i) outputs[first_state + i] = formal[first_formal + i];
        if (settled) return outputs;
    }
    for (size_t i = 0; i < outputs.size(); ++i) {
        outputs[i] = without_value(outputs[i]);
        outputs[i].ranked = false;
        outputs[i].shape.clear();
    }
    return outputs;
}

const Graph& body_of(const Node& node, std::string_view attribute) {
    const std::shared_ptr<Graph>* body = node.attributes.g(attribute);
    if (!body) fail(ErrorKind::invalid_graph, "attribute ", attribute, " is missing");
    return **body;
}

Tensor empty_stack(const Graph& body, size_t index, int64_t axis) {
    const Fact& inferred = body.fact(body.outputs[index].value);
    const Fact* declared = index < body.output_facts.size() ? &body.output_facts[index] : nullptr;
    DType dtype = inferred.dtype;
    if (dtype == DType::undefined && declared) dtype = declared->dtype;
    if (dtype == DType::undefined) dtype = DType::f32;
    const Fact& shaped = inferred.ranked || !declared ? inferred : *declared;
    Shape shape;
    if (shaped.ranked)
        for (int64_t dim : shaped.shape) shape.push_back(is_number(dim) ? dim : 0);
    if (axis < 0) axis += static_cast<int64_t>(shape.size()) + 1;
    if (axis < 0 || axis > static_cast<int64_t>(shape.size())) axis = 0;
    shape.insert(shape.begin() + axis, 0);
    return Tensor::allocate(dtype, shape);
}

Tensor as_declared(Tensor scalar, const Graph& body, size_t input) {
    if (input >= body.inputs.size()) return scalar;
    const Fact& fact = body.fact(body.inputs[input].value);
    if (fact.ranked && fact.rank() == 1) scalar.shape = {1};
    return scalar;
}

ValueIds copy_body(Patch& patch, const Graph& body, const ValueIds& inputs) {
    std::unordered_map<ValueId, ValueId> map;  // theirs -> ours
    for (size_t i = 0; i < inputs.size(); ++i) map[body.inputs.at(i).value] = inputs[i];
    const auto mapped = [&](ValueId v) -> ValueId {
        if (v == kNoValue) return v;
        if (const auto it = map.find(v); it != map.end()) return it->second;
        const Tensor* c = body.constant(v);
        require(c != nullptr, "a subgraph reads '", body.value(v).name, "', which nothing makes");
        return map[v] = patch.constant(*c, body.value(v).name);
    };
    for (NodeId id : body.order) {
        Node made = body.node(id);
        for (ValueId& v : made.inputs) v = mapped(v);
        const ValueIds outputs = made.outputs;
        const ValueIds ours = patch.node(std::move(made), static_cast<int>(outputs.size()));
        for (size_t i = 0; i < outputs.size(); ++i)
            if (outputs[i] != kNoValue) map[outputs[i]] = ours[i];
    }
    ValueIds outputs;
    for (const Port& port : body.outputs) outputs.push_back(mapped(port.value));
    return outputs;
}

}  // namespace linnet
