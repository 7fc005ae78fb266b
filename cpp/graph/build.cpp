// Model to Graph: scopes of names, inlined functions, operators looked up by opset.
#include "graph/build.h"

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "base/give_way.h"
#include "graph/infer.h"
#include "graph/op.h"

namespace linnet {
namespace {

using onnx::AttributeType;

// The version of an operator in a domain that the model does not import.
constexpr int64_t kNewest = std::numeric_limits<int64_t>::max();

std::string text(std::string_view v) { return std::string(v); }
std::string normal_domain(std::string_view d) { return d == "ai.onnx" ? "" : text(d); }

// Names of one scope. A subgraph's scope sees its parent's; what it takes from there is recorded as a capture.
struct Scope {
    Graph* graph = nullptr;
    Scope* parent = nullptr;                // of a subgraph; null for the model's graph and inside functions
    std::vector<ValueId>* outer = nullptr;  // captured values of the parent, shared by a node's subgraphs
    std::unordered_map<std::string_view, ValueId> names;
    std::unordered_map<ValueId, ValueId> captured;  // parent's value -> ours
};

struct Opsets {
    std::vector<std::pair<std::string, int64_t>> versions;
    int64_t of(const std::string& domain) const {
        for (const auto& [name, version] : versions)
            if (name == domain) return version;
        return 0;
    }
};

// What a function body sees of its caller.
struct FunctionFrame {
    const onnx::FunctionProto* function = nullptr;
    const onnx::NodeProto* caller = nullptr;
    const FunctionFrame* parent = nullptr;
    std::string prefix;
};

class Builder {
  public:
    Builder(const std::shared_ptr<const onnx::Model>& model, const BuildOptions& options)
        : model_(model), options_(options) {
        for (const auto& f : model->proto.functions)
            functions_[normal_domain(f.domain) + ':' + text(f.name) + ':' + text(f.overload)] = &f;
    }

    std::unique_ptr<Graph> build() {
        auto graph = std::make_unique<Graph>();
        graph->keep_alive = model_;
        graph->operators = options_.custom;
        Opsets opsets = read_opsets(model_->proto.opsets);
        if (opsets.versions.empty()) opsets.versions = {{"", 1}};
        graph->opsets = opsets.versions;
        Scope scope;
        scope.graph = graph.get();
        fill(scope, model_->proto.graph, opsets, 0);
        report_unknown();
        for (const std::string& name : options_.extra_outputs) {
            const ValueId id = find(scope, name);
            if (id < 0) fail(ErrorKind::invalid_argument, "there is no value '", name, "' to be an output");
            bool listed = false;
            for (const Port& port : graph->outputs) listed = listed || port.name == name;
            if (listed) continue;
            graph->outputs.push_back({name, id});
            graph->output_facts.emplace_back();
        }
        graph->sort();
        return graph;
    }

  private:
    Opsets read_opsets(const std::vector<onnx::OpsetId>& ids) {
        Opsets opsets;
        for (const auto& id : ids) {
            const std::string domain = normal_domain(id.domain);
            if (domain.empty() && id.version > kMaxOpset)
                fail(ErrorKind::not_implemented, "the model needs opset ", id.version,
                     " of ai.onnx; Linnet knows up to ", kMaxOpset, ": export it with a lower opset_version");
            opsets.versions.emplace_back(domain, id.version);
        }
        return opsets;
    }

    // " (opset 11)", and what stands in the way where that is known.
    std::string why_unknown(const Node& node, int64_t version) const {
        if (!node.domain.empty() && version == 0) return " (the model imports no opset of its domain)";
        int since = 0;
        auto look = [&](const OpDef& op) {
            if (op.name == node.op_type && op.domain == node.domain && (!since || op.since < since)) since = op.since;
        };
        for (const OpDef* op : all_ops()) look(*op);
        for (const auto& op : options_.custom->rows) look(*op);
        return cat(" (opset ", version, since ? cat("; it exists from opset ", since, " on)") : std::string(")"));
    }

    void report_unknown() const {
        if (unknown_.empty()) return;
        std::string list;
        for (const auto& [name, found] : unknown_) {
            list += cat(list.empty() ? "" : "; ", name, found.why, " at ");
            for (size_t i = 0; i < found.nodes.size(); ++i) list += cat(i ? ", " : "", "'", found.nodes[i], "'");
            if (found.count > found.nodes.size()) list += cat(" and ", found.count - found.nodes.size(), " more");
        }
        fail(ErrorKind::not_implemented, unknown_.size(), unknown_.size() == 1 ? " operator is" : " operators are",
             " not known: ", list,
             list.find("com.microsoft.nchwc.") != std::string::npos
                 ? cat(". Operators of com.microsoft.nchwc are laid out for one machine: save the model with "
                       "onnxruntime's graph optimization level ORT_ENABLE_EXTENDED or lower")
                 : cat(". Export with standard ONNX operators (opset <= ", kMaxOpset, "), or register your own"));
    }

    // ---- graphs ----------------------------------------------------------------------------------------------------
    void define(Scope& scope, std::string_view name, ValueId id) {
        if (!scope.names.emplace(name, id).second)
            fail(ErrorKind::invalid_graph, "the name '", name,
                 "' is given to two values; each value needs a name of its own");
    }

    // The caller's tensor where there is one, else the file's.
    Tensor initializer(const onnx::TensorProto& proto, bool is_main) const {
        const auto given = is_main ? options_.initializers.find(text(proto.name)) : options_.initializers.end();
        if (given == options_.initializers.end()) return onnx::read_tensor(*model_, proto);
        const Tensor& t = given->second;
        const Shape shape(proto.dims.begin(), proto.dims.end());
        if (static_cast<int32_t>(t.dtype) != proto.data_type || !(t.shape == shape))
            fail(ErrorKind::invalid_argument, "expected ", dtype_name(static_cast<DType>(proto.data_type)), " ",
                 shape_text(shape), ", given ", dtype_name(t.dtype), " ", shape_text(t.shape));
        return t;
    }

    void check_nesting(int depth, const std::string& what) const {
        if (depth > model_->limits.nesting)
            fail(ErrorKind::invalid_graph, what, " are nested deeper than ", model_->limits.nesting,
                 " (option max_nesting)");
    }

    void fill(Scope& scope, const onnx::GraphProto& proto, const Opsets& opsets, int depth) {
        check_nesting(depth, "subgraphs");
        scope.graph->most_rank = model_->limits.rank;
        Graph& graph = *scope.graph;
        graph.name = text(proto.name);
        const bool is_main = &proto == &model_->proto.graph;
        for (const auto& t : proto.initializers) {
            give_way();
            if (is_main && options_.fed.count(text(t.name))) continue;
            try {
                define(scope, t.name, graph.add_constant(text(t.name), initializer(t, is_main)));
            } catch (Error& e) {
                e.add_context(cat("initializer '", t.name, "'"));
                throw;
            }
        }
        for (const auto& t : proto.sparse_initializers) {
            try {
                define(scope, t.values.name,
                       graph.add_constant(text(t.values.name), onnx::read_sparse_tensor(*model_, t)));
            } catch (Error& e) {
                e.add_context(cat("initializer '", t.values.name, "'"));
                throw;
            }
        }
        for (const auto& in : proto.inputs) {
            if (scope.names.count(in.name)) continue;  // an initialiser listed as an input: a constant
            const ValueId id =
                graph.add_value(text(in.name), fact_of_type(in.type, *graph.dims, options_, text(in.name)));
            define(scope, in.name, id);
            graph.inputs.push_back({text(in.name), id});
        }
        add_nodes(scope, proto.nodes, opsets, depth, nullptr);
        for (const auto& out : proto.outputs) {
            const ValueId id = find(scope, out.name);
            if (id < 0) fail(ErrorKind::invalid_graph, "output '", out.name, "' is made by no node");
            graph.outputs.push_back({text(out.name), id});
            graph.output_facts.push_back(fact_of_type(out.type, *graph.dims, options_, ""));
        }
    }

    // A name that no scope knows. kNoValue means known, but left out (an optional input of a function).
    static constexpr ValueId kNotFound = -2;

    ValueId find(Scope& scope, std::string_view name) {
        if (const auto it = scope.names.find(name); it != scope.names.end()) return it->second;
        if (!scope.parent) return kNotFound;
        const ValueId outer = find(*scope.parent, name);
        if (outer < 0) return outer;
        if (const auto it = scope.captured.find(outer); it != scope.captured.end()) return it->second;
        const GraphValue& value = scope.parent->graph->value(outer);
        const ValueId id = scope.graph->add_value(value.name, value.fact.constant ? value.fact : Fact{});
        scope.captured.emplace(outer, id);
        scope.names.emplace(name, id);
        if (!value.fact.constant && std::find(scope.outer->begin(), scope.outer->end(), outer) == scope.outer->end())
            scope.outer->push_back(outer);
        return id;
    }

    // ---- nodes -----------------------------------------------------------------------------------------------------
    void add_nodes(Scope& scope, const std::vector<onnx::NodeProto>& protos, const Opsets& opsets, int depth,
                   const FunctionFrame* frame) {
        Graph& graph = *scope.graph;
        // All outputs first, so that the order of nodes in the file does not matter.
        for (const auto& p : protos)
            for (const auto& out : p.outputs)
                if (!out.empty() && !(frame && scope.names.count(out)))
                    define(scope, out, graph.add_value((frame ? frame->prefix : "") + text(out), {}));
        for (const auto& p : protos) {
            give_way();
            add_node(scope, p, opsets, depth, frame);
        }
    }

    void add_node(Scope& scope, const onnx::NodeProto& p, const Opsets& opsets, int depth, const FunctionFrame* frame) {
        Graph& graph = *scope.graph;
        if (++nodes_ > model_->limits.nodes)
            fail(ErrorKind::invalid_graph, "more than ", model_->limits.nodes, " nodes (option max_nodes)");
        Node node;
        node.name = (frame ? frame->prefix : "") + text(p.name.empty() && !p.outputs.empty() ? p.outputs[0] : p.name);
        node.op_type = text(p.op_type);
        node.domain = normal_domain(p.domain);
        for (const auto& in : p.inputs) {
            ValueId id = kNoValue;
            if (!in.empty()) {
                id = find(scope, in);
                if (id == kNotFound)
                    fail(ErrorKind::invalid_graph, node_text(node), ": input '", in,
                         "' is neither a graph input, an initializer nor another node's output");
            }
            node.inputs.push_back(id);
        }
        for (const auto& out : p.outputs) node.outputs.push_back(out.empty() ? kNoValue : scope.names.at(out));
        // Operators write their first output unasked, so it has a place even where it is left out.
        if (!node.outputs.empty() && node.outputs[0] == kNoValue) node.outputs[0] = graph.add_value("", {});

        const auto function = functions_.find(node.domain + ':' + node.op_type + ':' + text(p.overload));
        if (function != functions_.end()) {
            inline_function(scope, *function->second, p, node, depth, frame);
            return;
        }
        const int64_t version = opsets.of(node.domain);
        if (node.domain != "linnet")  // internal operators are not for files
            node.op = find_op(node.domain, node.op_type, version ? version : (node.domain.empty() ? 1 : kMaxOpset));
        if (!node.op)
            node.op = options_.custom->find(node.domain, node.op_type,
                                            version || node.domain.empty() ? std::max<int64_t>(version, 1) : kNewest);
        if (!node.op) {
            Unknown& found = unknown_[(node.domain.empty() ? "" : node.domain + ".") + node.op_type];
            if (found.count++ == 0) found.why = why_unknown(node, version);
            if (found.nodes.size() < 5) found.nodes.push_back(node.name);
            return;
        }
        check_arity(node);
        read_attributes(scope, p, node, opsets, depth, frame);
        if (node.op_type == "Gradient") add_named_inputs(scope, node);
        graph.add_node(std::move(node));
    }

    // Gradient speaks of values by name, in attributes: they become inputs behind its own, so that they stay alive and
    // keep their meaning while the graph is changed.
    void add_named_inputs(Scope& scope, Node& node) {
        std::vector<std::string> names = node.attributes.strings("xs");
        for (std::string& name : node.attributes.strings("zs")) names.push_back(std::move(name));
        require(node.inputs.size() == names.size(), node_text(node), ": ", node.inputs.size(),
                " inputs given, xs and zs name ", names.size(), " values");
        names.push_back(node.attributes.s("y", ""));
        for (const std::string& name : names) {
            const ValueId id = find(scope, name);
            require(id >= 0, node_text(node), ": there is no value '", name, "' in the graph");
            node.inputs.push_back(id);
        }
    }

    static void check_arity(const Node& node) {
        const auto given = static_cast<int>(node.inputs.size());
        const OpDef& op = *node.op;
        require(!node.outputs.empty(), node_text(node), ": no output is named");
        if (given < op.min_inputs || (op.max_inputs >= 0 && given > op.max_inputs))
            fail(ErrorKind::invalid_graph, node_text(node), ": ", given, " inputs given, takes ", op.min_inputs,
                 op.max_inputs == op.min_inputs ? ""
                 : op.max_inputs < 0            ? " or more"
                                                : cat(" to ", op.max_inputs));
        for (int i = 0; i < op.min_inputs; ++i)
            if (node.inputs[static_cast<size_t>(i)] == kNoValue && !(i < 32 && (op.may_omit >> i & 1)))
                fail(ErrorKind::invalid_graph, node_text(node), ": input ", i, " is left out, but it is required");
    }

    void inline_function(Scope& scope, const onnx::FunctionProto& f, const onnx::NodeProto& call, const Node& node,
                         int depth, const FunctionFrame* frame) {
        check_nesting(depth, cat("function '", f.name, "' calls itself, or functions"));
        Scope body;
        body.graph = scope.graph;
        body.parent = nullptr;
        for (size_t i = 0; i < f.inputs.size(); ++i)
            define(body, f.inputs[i], i < node.inputs.size() ? node.inputs[i] : kNoValue);
        for (size_t i = 0; i < f.outputs.size() && i < node.outputs.size(); ++i)
            if (node.outputs[i] != kNoValue) body.names.insert_or_assign(f.outputs[i], node.outputs[i]);
        FunctionFrame inner{&f, &call, frame, node.name + "/"};
        // A formal input that is also an output needs a node between them.
        for (size_t i = 0; i < f.outputs.size() && i < node.outputs.size(); ++i) {
            const auto in = std::find(f.inputs.begin(), f.inputs.end(), f.outputs[i]);
            if (in == f.inputs.end() || node.outputs[i] == kNoValue) continue;
            const auto index = static_cast<size_t>(in - f.inputs.begin());
            Node identity;
            identity.name = inner.prefix + text(f.outputs[i]);
            identity.op_type = "Identity";
            identity.op = find_op("", "Identity", kMaxOpset);
            identity.inputs.push_back(node.inputs.size() > index ? node.inputs[index] : kNoValue);
            identity.outputs.push_back(node.outputs[i]);
            scope.graph->add_node(std::move(identity));
            body.names.insert_or_assign(f.inputs[index], node.inputs[index]);
        }
        add_nodes(body, f.nodes, read_opsets(f.opsets), depth + 1, &inner);
    }

    // ---- attributes ------------------------------------------------------------------------------------------------
    // Inside a function an attribute may stand for the caller's; null when the caller does not give it.
    const onnx::AttributeProto* resolve(const onnx::AttributeProto& a, const FunctionFrame*& frame) const {
        const onnx::AttributeProto* current = &a;
        while (frame && !current->ref_attr_name.empty()) {
            const auto name = current->ref_attr_name;
            const onnx::AttributeProto* found = nullptr;
            for (const auto& given : frame->caller->attributes)
                if (given.name == name) found = &given;
            if (!found) {
                for (const auto& d : frame->function->attribute_defaults)
                    if (d.name == name) found = &d;
                return found;
            }
            frame = frame->parent;
            current = found;
        }
        return current;
    }

    void read_attributes(Scope& scope, const onnx::NodeProto& p, Node& node, const Opsets& opsets, int depth,
                         const FunctionFrame* frame) {
        std::vector<ValueId> outer;
        std::vector<std::unique_ptr<Scope>> scopes;
        for (const auto& a : p.attributes) {
            const FunctionFrame* at = frame;
            const onnx::AttributeProto* value = resolve(a, at);
            if (!value) continue;
            try {
                require(!node.attributes.has(a.name), "is given twice");
                if (value->type == AttributeType::g || (value->type == AttributeType::undefined && !value->g.empty())) {
                    auto sub = std::make_shared<Graph>();
                    sub->keep_alive = model_;
                    sub->operators = options_.custom;
                    sub->dims = scope.graph->dims;
                    sub->opsets = opsets.versions;
                    auto inner = std::make_unique<Scope>();
                    inner->graph = sub.get();
                    inner->parent = &scope;
                    inner->outer = &outer;
                    require(!value->g.empty(), "graph is missing");
                    fill(*inner, value->g[0], opsets, depth + 1);
                    node.attributes.set(text(a.name), sub);
                    scopes.push_back(std::move(inner));
                } else {
                    node.attributes.set(text(a.name), attribute_data(*value, *scope.graph));
                }
            } catch (Error& e) {
                e.add_context(cat(node_text(node), " attribute '", a.name, "'"));
                throw;
            }
        }
        for (auto& inner : scopes) {
            for (ValueId v : outer) {
                auto [it, fresh] = inner->captured.try_emplace(v, kNoValue);
                if (fresh) it->second = inner->graph->add_value(scope.graph->value(v).name, {});
                inner->graph->inputs.push_back({scope.graph->value(v).name, it->second});
            }
            inner->graph->sort();
        }
        for (ValueId v : outer) node.inputs.push_back(v);
        node.captures = static_cast<int>(outer.size());
    }

    Attribute::Data attribute_data(const onnx::AttributeProto& a, Graph& graph) const {
        switch (a.type) {
            case AttributeType::f: return a.f;
            case AttributeType::i: return a.i;
            case AttributeType::s: return text(a.s);
            case AttributeType::floats: return a.floats;
            case AttributeType::ints: return a.ints;
            case AttributeType::strings: return std::vector<std::string>(a.strings.begin(), a.strings.end());
            case AttributeType::t:
                require(a.t.size() == 1, "tensor is missing");
                return onnx::read_tensor(*model_, a.t[0]);
            case AttributeType::tensors: {
                std::vector<Tensor> tensors;
                for (const auto& t : a.t) tensors.push_back(onnx::read_tensor(*model_, t));
                return tensors;
            }
            case AttributeType::sparse_tensor:
                require(a.sparse.size() == 1, "sparse tensor is missing");
                return onnx::read_sparse_tensor(*model_, a.sparse[0]);
            case AttributeType::type_proto:
                require(a.type_protos.size() == 1, "type is missing");
                return fact_of_type(a.type_protos[0], *graph.dims, options_, "");
            case AttributeType::undefined:  // ir_version < 2: the type is what is there
                if (!a.floats.empty()) return a.floats;
                if (!a.ints.empty()) return a.ints;
                if (!a.strings.empty()) return std::vector<std::string>(a.strings.begin(), a.strings.end());
                if (!a.t.empty()) return onnx::read_tensor(*model_, a.t[0]);
                if (!a.s.empty()) return text(a.s);
                if (a.f != 0) return a.f;
                return a.i;
            default: fail(ErrorKind::not_implemented, "attributes of type ", static_cast<int>(a.type));
        }
    }

    std::shared_ptr<const onnx::Model> model_;
    const BuildOptions& options_;
    std::unordered_map<std::string, const onnx::FunctionProto*> functions_;
    struct Unknown {
        std::string why;
        std::vector<std::string> nodes;  // the first ones
        size_t count = 0;
    };
    std::map<std::string, Unknown> unknown_;  // by operator
    int64_t nodes_ = 0;
};

}  // namespace

std::unique_ptr<Graph> build_graph(const std::shared_ptr<const onnx::Model>& model, const BuildOptions& options) {
    auto graph = Builder(model, options).build();
    verify(*graph);
    refresh_facts(*graph);
    return graph;
}

}  // namespace linnet
