// Graph to ModelProto. Indices become names again; names are unique over the model and all its subgraphs, because ONNX
// gives a subgraph every name of the graph around it.
#include "graph/save.h"

#include <algorithm>
#include <deque>
#include <map>
#include <set>

#include "base/error.h"
#include "graph/op.h"
#include "onnx/writer.h"

namespace linnet {
namespace {

using onnx::AttributeProto;
using onnx::AttributeType;
using onnx::DimProto;
using onnx::GraphProto;
using onnx::ModelProto;
using onnx::NodeProto;
using onnx::TensorProto;
using onnx::TypeProto;
using onnx::ValueInfoProto;

using Names = std::vector<std::string_view>;  // by ValueId; empty: not named yet

// IR versions by ai.onnx opset, from onnx's release table.
constexpr std::pair<int64_t, int64_t> kIrOfOpset[] = {{28, 14}, {25, 13}, {24, 12}, {23, 11}, {21, 10}, {19, 9},
                                                      {15, 8},  {12, 7},  {11, 6},  {10, 5},  {1, 4}};

int64_t ir_of_type(int32_t data_type) {
    const auto dtype = static_cast<DType>(data_type);
    if (dtype == DType::u2 || dtype == DType::i2) return 13;
    if (dtype == DType::f4e2m1) return 11;
    if (dtype == DType::f8e8m0) return 12;
    if (dtype == DType::u4 || dtype == DType::i4) return 10;
    return dtype >= DType::f8e4m3fn ? 9 : 4;
}

class Saver {
  public:
    explicit Saver(const Graph& graph) : main_(graph) {}

    ModelProto model(const SaveOptions& options) {
        ModelProto proto;
        proto.producer_name = options.producer_name;
        proto.producer_version = options.producer_version;
        proto.domain = options.domain;
        proto.doc_string = options.doc_string;
        proto.model_version = options.model_version;
        for (const auto& [key, value] : options.metadata) proto.metadata.emplace_back(key, value);
        for (const auto& [domain, version] : main_.opsets)
            if (domain != "linnet") proto.opsets.push_back({domain, version});

        Names names(main_.values.size());
        for (const Port& port : main_.inputs) reserve(names, port.value, port.name);
        for (const Port& port : main_.outputs) used_.insert(port.name);
        proto.graph = graph(main_, names, true);
        proto.graph.doc_string = options.graph_doc_string;
        proto.ir_version = options.ir_version ? options.ir_version : std::max(ir_, ir_of_opset());
        return proto;
    }

  private:
    std::string_view keep(std::string text) { return texts_.emplace_back(std::move(text)); }

    int64_t ir_of_opset() const {
        const int64_t opset = main_.opset("");
        for (const auto& [from, ir] : kIrOfOpset)
            if (opset >= from) return ir;
        return 4;
    }

    // A name that nothing has yet, `wanted` if it can be.
    std::string_view fresh(const std::string& wanted) {
        std::string name = wanted.empty() ? "value" : wanted;
        for (int64_t n = 1; !used_.insert(name).second; ++n) name = cat(wanted.empty() ? "value" : wanted, "_", n);
        return keep(std::move(name));
    }
    void reserve(Names& names, ValueId id, const std::string& name) {
        used_.insert(name);
        names[static_cast<size_t>(id)] = keep(name);
    }

    // `names` already holds the formal inputs (and what is captured, in a subgraph).
    GraphProto graph(const Graph& g, Names& names, bool is_main) {
        GraphProto proto;
        proto.name = g.name.empty() ? std::string_view("graph") : std::string_view(g.name);
        const size_t formal = is_main ? g.inputs.size() : formal_inputs_;
        for (size_t i = 0; i < formal; ++i) {
            const ValueId id = g.inputs[i].value;
            proto.inputs.push_back(info(g, names[static_cast<size_t>(id)], g.fact(id)));
        }

        // An output's name goes to its value when that is made in this graph and has no other name; an Identity gives
        // further names.
        std::vector<std::pair<ValueId, std::string_view>> renamed;
        for (size_t i = 0; i < g.outputs.size(); ++i) {
            const Port& port = g.outputs[i];
            std::string_view& name = names[static_cast<size_t>(port.value)];
            std::string_view shown = is_main ? keep(port.name) : std::string_view{};
            if (is_main && name == shown) {
                // an input that is an output as it stands
            } else if (name.empty()) {
                if (!is_main) shown = fresh(port.name);
                name = shown;
            } else {
                if (!is_main) shown = fresh(port.name);
                renamed.emplace_back(port.value, shown);
            }
            const bool declared = i < g.output_facts.size() && (g.output_facts[i].dtype != DType::undefined ||
                                                                g.output_facts[i].kind == Value::Kind::map);
            proto.outputs.push_back(info(g, shown, declared ? g.output_facts[i] : g.fact(port.value)));
        }
        for (size_t id = 0; id < g.values.size(); ++id)
            if (names[id].empty() && is_needed(g, static_cast<ValueId>(id))) names[id] = fresh(g.values[id].name);

        for (const NodeId id : g.order)
            if (!is_constant_node(g.node(id))) proto.nodes.push_back(node(g, g.node(id), names));
        for (const auto& [value, name] : renamed) {
            NodeProto identity;
            identity.op_type = "Identity";
            identity.inputs = {names[static_cast<size_t>(value)]};
            identity.outputs = {name};
            proto.nodes.push_back(std::move(identity));
        }
        for (size_t id = 0; id < g.values.size(); ++id)
            if (is_initializer(g, static_cast<ValueId>(id)))
                proto.initializers.push_back(tensor(names[id], *g.values[id].fact.constant));
        return proto;
    }

    static bool is_constant_node(const Node& node) {
        return node.op_type == "Constant" && node.domain.empty() && node.outputs.size() == 1;
    }
    static bool is_input(const Graph& g, ValueId id) {
        return std::any_of(g.inputs.begin(), g.inputs.end(), [&](const Port& port) { return port.value == id; });
    }
    static bool is_needed(const Graph& g, ValueId id) {
        const GraphValue& value = g.value(id);
        const bool made = value.producer != kNoNode && g.node(value.producer).alive;
        return made || is_initializer(g, id);
    }
    static bool is_initializer(const Graph& g, ValueId id) {
        const GraphValue& value = g.value(id);
        if (!value.fact.constant) return false;
        if (value.producer != kNoNode && g.node(value.producer).alive && !is_constant_node(g.node(value.producer)))
            return false;
        return (!value.users.empty() || g.is_output(id)) && !is_input(g, id);
    }

    NodeProto node(const Graph& g, const Node& node, const Names& names) {
        if (node.domain == "linnet")
            fail(ErrorKind::invalid_argument, "operator ", node.op_type,
                 " is internal: a lowered graph cannot be saved");
        const int64_t opset = main_.opset(node.domain);
        if (opset == 0)
            fail(ErrorKind::invalid_argument, "operator ", node.op_type, " is of domain '", node.domain,
                 "', which the model does not import");
        if (node.op && node.op->since > opset)
            fail(ErrorKind::invalid_argument, "operator ", node.op_type, " needs opset ", node.op->since,
                 ", but the model imports ", opset);
        NodeProto proto;
        proto.name = node.name;
        proto.op_type = node.op_type;
        proto.domain = node.domain;
        const auto name_of = [&](ValueId id) {
            return id == kNoValue ? std::string_view{} : names[static_cast<size_t>(id)];
        };
        const size_t own = node.inputs.size() - static_cast<size_t>(node.captures);
        for (size_t i = 0; i < own; ++i) proto.inputs.push_back(name_of(node.inputs[i]));
        for (const ValueId id : node.outputs) proto.outputs.push_back(name_of(id));
        while (!proto.inputs.empty() && proto.inputs.back().empty()) proto.inputs.pop_back();
        while (!proto.outputs.empty() && proto.outputs.back().empty()) proto.outputs.pop_back();
        std::vector<std::string_view> captured;
        for (size_t i = own; i < node.inputs.size(); ++i) captured.push_back(name_of(node.inputs[i]));
        for (const Attribute& item : node.attributes.items()) proto.attributes.push_back(attribute(g, item, captured));
        return proto;
    }

    GraphProto subgraph(const Graph& g, const std::vector<std::string_view>& captured) {
        Names names(g.values.size());
        const size_t formal = g.inputs.size() - captured.size();
        for (size_t i = 0; i < formal; ++i) names[static_cast<size_t>(g.inputs[i].value)] = fresh(g.inputs[i].name);
        for (size_t i = 0; i < captured.size(); ++i)
            names[static_cast<size_t>(g.inputs[formal + i].value)] = captured[i];
        const size_t outer = std::exchange(formal_inputs_, formal);
        GraphProto proto = graph(g, names, false);
        formal_inputs_ = outer;
        return proto;
    }

    AttributeProto attribute(const Graph& g, const Attribute& item, const std::vector<std::string_view>& captured) {
        AttributeProto proto;
        proto.name = item.name;
        const auto is = [&](AttributeType type) { proto.type = type; };
        if (const auto* i = std::get_if<int64_t>(&item.data)) {
            is(AttributeType::i);
            proto.i = *i;
        } else if (const auto* f = std::get_if<float>(&item.data)) {
            is(AttributeType::f);
            proto.f = *f;
        } else if (const auto* s = std::get_if<std::string>(&item.data)) {
            is(AttributeType::s);
            proto.s = *s;
        } else if (const auto* ints = std::get_if<std::vector<int64_t>>(&item.data)) {
            is(AttributeType::ints);
            proto.ints = *ints;
        } else if (const auto* floats = std::get_if<std::vector<float>>(&item.data)) {
            is(AttributeType::floats);
            proto.floats = *floats;
        } else if (const auto* strings = std::get_if<std::vector<std::string>>(&item.data)) {
            is(AttributeType::strings);
            proto.strings.assign(strings->begin(), strings->end());
        } else if (const auto* t = std::get_if<Tensor>(&item.data)) {
            is(AttributeType::t);
            proto.t.push_back(tensor({}, *t));
        } else if (const auto* tensors = std::get_if<std::vector<Tensor>>(&item.data)) {
            is(AttributeType::tensors);
            for (const Tensor& one : *tensors) proto.t.push_back(tensor({}, one));
        } else if (const auto* body = std::get_if<std::shared_ptr<Graph>>(&item.data)) {
            is(AttributeType::g);
            proto.g.push_back(subgraph(**body, captured));
        } else {
            is(AttributeType::type_proto);
            proto.type_protos.push_back(type(*g.dims, std::get<Fact>(item.data)));
        }
        return proto;
    }

    TensorProto tensor(std::string_view name, const Tensor& t) {
        TensorProto proto = onnx::tensor_proto(name, t, storage_);
        ir_ = std::max(ir_, ir_of_type(proto.data_type));
        return proto;
    }

    ValueInfoProto info(const Graph& g, std::string_view name, const Fact& fact) {
        ValueInfoProto proto;
        proto.name = name;
        if (fact.dtype != DType::undefined) proto.type = type(*g.dims, fact);
        return proto;
    }

    TypeProto type(const DimTable& dims, const Fact& fact) {
        TypeProto tensor;
        tensor.kind = TypeProto::Kind::tensor;
        tensor.elem_type = static_cast<int32_t>(fact.dtype);
        ir_ = std::max(ir_, ir_of_type(tensor.elem_type));
        tensor.has_shape = fact.ranked;
        for (const int64_t size : fact.shape) {
            DimProto dim;
            if (is_number(size)) {
                dim.kind = DimProto::Kind::value;
                dim.value = size;
            } else if (std::string text = dims.text(size); is_symbol(size) && text.find('?') == std::string::npos) {
                dim.kind = DimProto::Kind::param;  // the others have no name in the file either (build.cpp)
                dim.param = keep(std::move(text));
            }
            tensor.shape.push_back(dim);
        }
        const auto around = [](TypeProto::Kind kind, TypeProto element) {
            TypeProto outer;
            outer.kind = kind;
            outer.elem.push_back(std::move(element));
            return outer;
        };
        TypeProto whole = std::move(tensor);
        if (fact.map_key != DType::undefined) {
            whole = around(TypeProto::Kind::map, std::move(whole));
            whole.elem_type = static_cast<int32_t>(fact.map_key);
        }
        if (fact.kind == Value::Kind::sequence) whole = around(TypeProto::Kind::sequence, std::move(whole));
        return fact.optional ? around(TypeProto::Kind::optional, std::move(whole)) : whole;
    }

    const Graph& main_;
    std::set<std::string> used_;
    std::deque<std::string> texts_;  // what the messages' views point into, with storage_
    std::vector<std::shared_ptr<const void>> storage_;
    size_t formal_inputs_ = 0;  // of the subgraph at hand: those before the captured ones
    int64_t ir_ = 4;            // from 4 on initialisers need not be inputs
};

constexpr size_t kPage = 4096;  // ONNX asks for offsets that are multiples of it, so that the file can be mapped
constexpr size_t kOneFile = (size_t{1} << 31) - (size_t{1} << 26);

void move_out(GraphProto& graph, const std::string& file, std::vector<onnx::Bytes>& pieces, size_t& size,
              std::deque<std::string>& texts) {
    static constexpr std::byte zeros[kPage] = {};
    for (TensorProto& tensor : graph.initializers) {
        if (!tensor.has_raw || tensor.raw.size() < kPage) continue;
        const size_t padding = (kPage - size % kPage) % kPage;
        pieces.emplace_back(zeros, padding);
        pieces.push_back(tensor.raw);
        size += padding;
        tensor.external_data = {{"location", file},
                                {"offset", texts.emplace_back(std::to_string(size))},
                                {"length", texts.emplace_back(std::to_string(tensor.raw.size()))}};
        size += tensor.raw.size();
        tensor.is_external = true;
        tensor.has_raw = false;
    }
    for (NodeProto& node : graph.nodes)
        for (AttributeProto& attribute : node.attributes)
            for (GraphProto& body : attribute.g) move_out(body, file, pieces, size, texts);
}

size_t weight_bytes(const GraphProto& graph) {
    size_t size = 0;
    for (const TensorProto& tensor : graph.initializers) size += tensor.raw.size();
    for (const NodeProto& node : graph.nodes)
        for (const AttributeProto& attribute : node.attributes)
            for (const GraphProto& body : attribute.g) size += weight_bytes(body);
    return size;
}

}  // namespace

std::string to_onnx(const Graph& graph, const SaveOptions& options) {
    Saver saver(graph);
    return onnx::write_model(saver.model(options));
}

void save_onnx(const Graph& graph, const std::filesystem::path& path, const SaveOptions& options) {
    Saver saver(graph);
    ModelProto model = saver.model(options);
    if (options.external_data || weight_bytes(model.graph) > kOneFile) {
        const std::string file = path.filename().string() + ".data";
        std::vector<onnx::Bytes> pieces;
        std::deque<std::string> texts;
        size_t size = 0;
        move_out(model.graph, file, pieces, size, texts);
        onnx::write_file(path.parent_path() / file, pieces);
        onnx::write_file(path, onnx::write_model(model));
    } else {
        onnx::write_file(path, onnx::write_model(model));
    }
}

}  // namespace linnet
