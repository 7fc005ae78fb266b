// A graph as text, a line a node.
#include <sstream>

#include "graph/graph.h"

namespace linnet {
namespace {

struct AttributeWriter {
    std::ostream& out;
    const DimTable& dims;
    void operator()(int64_t v) { out << v; }
    void operator()(float v) { out << v; }
    void operator()(const std::string& v) { out << '"' << v << '"'; }
    void operator()(const std::vector<int64_t>& v) { list(v); }
    void operator()(const std::vector<float>& v) { list(v); }
    void operator()(const std::vector<std::string>& v) { list(v); }
    void operator()(const Tensor& v) { out << dtype_name(v.dtype) << ' ' << shape_text(v.shape); }
    void operator()(const std::vector<Tensor>& v) { out << v.size() << " tensors"; }
    void operator()(const std::shared_ptr<Graph>&) { out << "{graph}"; }
    void operator()(const Fact& v) { out << fact_text(v, dims); }
    template <class T>
    void list(const std::vector<T>& v) {
        out << '[';
        for (size_t i = 0; i < v.size() && i < 16; ++i) out << (i ? "," : "") << v[i];
        out << (v.size() > 16 ? ",...]" : "]");
    }
};

void write_attribute(std::ostream& out, const Attribute& a, const DimTable& dims) {
    out << a.name << '=';
    std::visit(AttributeWriter{out, dims}, a.data);
}

void write_graph(std::ostream& out, const Graph& graph, const std::string& indent) {
    auto operand = [&](ValueId v) -> std::string { return v == kNoValue ? "_" : graph.value(v).name; };
    for (const Port& p : graph.inputs)
        out << indent << "input  " << p.name << " : " << fact_text(graph.fact(p.value), *graph.dims) << '\n';
    for (NodeId id : graph.order) {
        const Node& n = graph.node(id);
        out << indent;
        for (size_t i = 0; i < n.outputs.size(); ++i) {
            if (n.outputs[i] == kNoValue) continue;
            out << (i ? ", " : "") << operand(n.outputs[i]) << " : "
                << fact_text(graph.fact(n.outputs[i]), *graph.dims);
        }
        out << " = " << (n.domain.empty() ? "" : n.domain + ".") << n.op_type << '(';
        for (size_t i = 0; i < n.inputs.size(); ++i) {
            out << (i ? ", " : "") << operand(n.inputs[i]);
            if (const Tensor* c = graph.constant(n.inputs[i]))
                out << ":const " << dtype_name(c->dtype) << ' ' << shape_text(c->shape);
        }
        out << ')';
        for (const Attribute& a : n.attributes.items()) {
            out << ' ';
            write_attribute(out, a, *graph.dims);
        }
        out << "  # " << n.name << '\n';
        for_each_subgraph(n, [&](const std::string& attribute, Graph& sub) {
            out << indent << "  " << attribute << ":\n";
            write_graph(out, sub, indent + "    ");
        });
    }
    for (const Port& p : graph.outputs)
        out << indent << "output " << p.name << " = " << operand(p.value) << " : "
            << fact_text(graph.fact(p.value), *graph.dims) << '\n';
}

}  // namespace

std::string dump(const Graph& graph) {
    std::ostringstream out;
    write_graph(out, graph, "");
    return std::move(out).str();
}

}  // namespace linnet
