// Facts of values: from the types that a file declares, and from what operators infer.
#include <algorithm>
#include <cctype>

#include "graph/build.h"
#include "graph/infer.h"
#include "graph/op.h"

namespace linnet {
namespace {

// Some exporters write "?" for every size they do not know.
bool is_name(std::string_view param) {
    return std::any_of(param.begin(), param.end(), [](unsigned char c) { return std::isalnum(c) || c >= 0x80; });
}

}  // namespace

Fact fact_of_type(const onnx::TypeProto& type, DimTable& dims, const BuildOptions& options, const std::string& name) {
    using Kind = onnx::TypeProto::Kind;
    Fact fact;
    switch (type.kind) {
        case Kind::none: return fact;
        case Kind::optional:
            if (!type.elem.empty()) fact = fact_of_type(type.elem[0], dims, options, name);
            fact.optional = true;
            return fact;
        case Kind::sequence:
            if (!type.elem.empty()) fact = fact_of_type(type.elem[0], dims, options, "");
            fact.kind = Value::Kind::sequence;
            return fact;
        case Kind::map:
            if (type.elem_type < 0 || type.elem_type >= kDTypeCount)
                fail(ErrorKind::invalid_graph, "'", name, "' has the unknown key type ", type.elem_type);
            if (!type.elem.empty()) fact = fact_of_type(type.elem[0], dims, options, "");
            fact.kind = Value::Kind::map;
            fact.map_key = static_cast<DType>(type.elem_type);
            return fact;
        case Kind::sparse:
        case Kind::tensor: break;
    }
    if (type.elem_type < 0 || type.elem_type >= kDTypeCount)
        fail(ErrorKind::invalid_graph, "'", name, "' has the unknown element type ", type.elem_type);
    fact.dtype = static_cast<DType>(type.elem_type);
    fact.ranked = type.has_shape;
    for (size_t i = 0; i < type.shape.size(); ++i) {
        const auto& d = type.shape[i];
        int64_t dim = kUnknownDim;
        const auto meaning =
            d.denotation.empty() ? options.denotations.end() : options.denotations.find(std::string(d.denotation));
        if (d.kind == onnx::DimProto::Kind::value && d.value >= 0) {
            dim = d.value;
        } else if (meaning != options.denotations.end()) {
            dim = meaning->second;
        } else if (d.kind == onnx::DimProto::Kind::param && is_name(d.param) && !options.distinct_dimensions) {
            const auto given = options.dimensions.find(std::string(d.param));
            dim = given != options.dimensions.end() ? given->second : dims.symbol(std::string(d.param));
        } else if (!name.empty()) {
            dim = dims.symbol(cat("?", name, ".", i));  // unnamed, yet equal to itself
        }
        fact.shape.push_back(dim);
    }
    return fact;
}

namespace {

void take_outer_facts(const Graph& graph, const Node& node) {
    for_each_subgraph(node, [&](const std::string&, Graph& sub) {
        const size_t first = sub.inputs.size() - static_cast<size_t>(node.captures);
        const size_t outer = node.inputs.size() - static_cast<size_t>(node.captures);
        for (size_t i = 0; i < static_cast<size_t>(node.captures); ++i)
            sub.value(sub.inputs[first + i].value).fact = graph.fact(node.inputs[outer + i]);
        try {
            refresh_facts(sub);
        } catch (const Error&) {
            // A branch that is never taken, or a body that never runs, need not fit. Running it reports the error.
        }
    });
}

}  // namespace

void refresh_facts(Graph& graph) {
    std::vector<Fact> inputs;
    for (const Port& p : graph.inputs) inputs.push_back(graph.fact(p.value));
    std::vector<const Fact*> in;
    std::vector<Fact> out;
    for (NodeId id : graph.order) {
        const Node& n = graph.node(id);
        in.clear();
        for (ValueId v : n.inputs) in.push_back(v == kNoValue ? nullptr : &graph.fact(v));
        out.assign(n.outputs.size(), Fact{});
        infer_node(graph, n, in, out, *graph.dims);
        take_outer_facts(graph, n);  // now that the operator has told its bodies the types of their inputs
        for (size_t i = 0; i < out.size(); ++i)
            if (n.outputs[i] != kNoValue) graph.value(n.outputs[i]).fact = std::move(out[i]);
    }
}

}  // namespace linnet
