// A loaded model: opening, checking what it is fed, running, describing.
#include "runtime/session.h"

#include <algorithm>
#include <cstdlib>
#include <new>

#include "graph/build.h"
#include "graph/infer.h"
#include "graph/save.h"
#include "kernels/kernels.h"
#include "passes/pipeline.h"
#include "runtime/thread_pool.h"

namespace linnet {
namespace {

std::vector<PortInfo> port_infos(const Graph& graph, const std::vector<Port>& ports, const std::vector<Fact>& facts) {
    std::vector<PortInfo> infos;
    for (size_t i = 0; i < ports.size(); ++i) {
        PortInfo info{ports[i].name, facts[i], {}};
        for (int64_t dim : facts[i].shape) {
            std::string text = is_symbol(dim) ? graph.dims->text(dim) : "";
            // Symbols made for unnamed dimensions begin with '?' (build.cpp).
            if (text.find('?') != std::string::npos) text.clear();
            info.dimension_names.push_back(std::move(text));
        }
        infos.push_back(std::move(info));
    }
    return infos;
}

std::vector<PortInfo> overridable_ports(Graph& graph, const onnx::ModelProto& proto) {
    std::vector<PortInfo> infos;
    if (proto.ir_version < 4) return infos;
    std::set<std::string_view> initializers, inputs;
    for (const auto& t : proto.graph.initializers) initializers.insert(t.name);
    for (const Port& port : graph.inputs) inputs.insert(port.name);
    for (const auto& in : proto.graph.inputs) {
        if (!initializers.count(in.name) || inputs.count(in.name)) continue;
        const std::string name(in.name);
        const auto more = port_infos(graph, {{name, kNoValue}}, {fact_of_type(in.type, *graph.dims, {}, name)});
        infos.insert(infos.end(), more.begin(), more.end());
    }
    return infos;
}

std::string kind_text(const Value& value) {
    switch (value.kind) {
        case Value::Kind::absent: return "nothing";
        case Value::Kind::sequence: return "a sequence";
        case Value::Kind::map: return "a map";
        default: {
            std::string dims;
            for (int64_t dim : value.tensor.shape) dims += (dims.empty() ? "" : ", ") + std::to_string(dim);
            return cat(dtype_name(value.tensor.dtype), " [", dims, "]");
        }
    }
}

// Expected shape for messages: "[batch, 3, 224, 224]".
std::string expected_text(const PortInfo& port) {
    std::string text = cat(dtype_name(port.fact.dtype), " ");
    if (!port.fact.ranked) return text + "[any shape]";
    text += "[";
    for (size_t i = 0; i < port.fact.shape.size(); ++i) {
        text += i ? ", " : "";
        if (is_number(port.fact.shape[i])) text += std::to_string(port.fact.shape[i]);
        else text += port.dimension_names[i].empty() ? "?" : port.dimension_names[i];
    }
    return text + "]";
}

// A table that was asked for and cannot be had is an error, not a slower run.
void check_isa() {
    const char* asked = std::getenv("LINNET_ISA");
    if (!asked || !*asked || kernels::kernels_for(asked)) return;
    std::string names;
    for (const char* const* name = kernels::kernel_names(); *name; ++name)
        if (kernels::kernels_for(*name)) names += (names.empty() ? "" : ", ") + std::string(*name);
    fail(ErrorKind::invalid_argument, "LINNET_ISA is '", asked, "'; this CPU and this build have ", names);
}

// fn(), with what goes wrong in it said to be of this model.
template <class Fn>
auto in_context(const char* doing, const std::string& model, const Fn& fn) {
    try {
        return fn();
    } catch (Error& e) {
        e.add_context(cat(doing, ' ', model));
        throw;
    } catch (const std::bad_alloc&) {
        fail(ErrorKind::runtime, doing, ' ', model, ": no memory is left");
    }
}

}  // namespace

Session::Session(const std::filesystem::path& path, const SessionOptions& options)
    : options_(options), origin_(options.title.empty() ? path.string() : options.title) {
    in_context("loading", origin_, [&] { load(onnx::read_model(path)); });
}

Session::Session(onnx::Bytes bytes, std::shared_ptr<const void> owner, const SessionOptions& options)
    : options_(options), origin_(options.title.empty() ? "model bytes" : options.title) {
    in_context("loading", origin_, [&] { load(onnx::read_model(bytes, std::move(owner))); });
}

Session::Session(const Session& other, std::set<std::string> fed)
    : options_(other.options_),
      origin_(other.origin_),
      fed_(std::move(fed)),
      profiler_(other.profiler_),
      custom_(other.custom_) {
    options_.optimized_model.clear();
    in_context("loading", origin_, [&] { load(other.model_); });
}

void Session::read_info() {
    const onnx::ModelProto& proto = model_->proto;
    info_.producer_name = proto.producer_name;
    info_.producer_version = proto.producer_version;
    info_.domain = proto.domain;
    info_.graph_name = proto.graph.name;
    info_.description = proto.doc_string;
    info_.graph_description = proto.graph.doc_string;
    info_.version = proto.model_version;
    info_.ir_version = proto.ir_version;
    for (const auto& o : proto.opsets) info_.opsets.emplace_back(o.domain, o.version);
    for (const auto& [key, value] : proto.metadata) info_.metadata.emplace_back(key, value);
}

void Session::load(const std::shared_ptr<const onnx::Model>& model) {
    check_isa();
    constexpr int kMostThreads = 1024;
    if (options_.threads > kMostThreads)
        fail(ErrorKind::invalid_argument, options_.threads, " threads are asked for; at most ", kMostThreads,
             " are possible, 0 takes all CPUs");
    for (const auto* sizes : {&options_.dimensions, &options_.denotations})
        for (const auto& [name, size] : *sizes)
            if (size < 0) fail(ErrorKind::invalid_argument, "the dimension '", name, "' is given the size ", size);
    threads_ = options_.threads > 0 ? options_.threads : available_cpus();
    model_ = model;
    read_info();
    std::unique_ptr<Graph> graph = build(false);
    std::vector<Fact> in_facts, out_facts;
    for (const Port& p : graph->inputs) in_facts.push_back(graph->fact(p.value));
    for (size_t i = 0; i < graph->outputs.size(); ++i) {
        const Fact& declared = graph->output_facts[i];
        const Fact& inferred = graph->fact(graph->outputs[i].value);
        const bool better = declared.ranked || inferred.dtype == DType::undefined;
        out_facts.push_back(declared.dtype != DType::undefined && better ? declared : inferred);
    }
    inputs_ = port_infos(*graph, graph->inputs, in_facts);
    overridable_ = overridable_ports(*graph, model->proto);
    outputs_ = port_infos(*graph, graph->outputs, out_facts);

    optimize(*graph, true);
    program_ = make_program(std::move(graph), false);
    if (!profiler_) profiler_ = std::make_shared<Profiler>();
}

void Session::optimize(Graph& graph, bool save) const {
    PassOptions passes;
    passes.stop_after = options_.stop_after;
    passes.optimize = options_.optimization > 0;
    if (passes.optimize) simplify(graph, passes);
    if (save && !options_.optimized_model.empty()) {
        SaveOptions as;
        as.domain = info_.domain;
        as.doc_string = info_.description;
        as.graph_doc_string = info_.graph_description;
        as.model_version = info_.version;
        as.metadata = info_.metadata;
        save_onnx(graph, options_.optimized_model, as);
    }
    passes.optimize = options_.optimization > 1;
    lower(graph, passes);
}

std::unique_ptr<Graph> Session::build(bool distinct_dimensions) const {
    BuildOptions how;
    how.dimensions = options_.dimensions;
    how.denotations = options_.denotations;
    how.initializers = options_.initializers;
    how.fed = fed_;
    how.extra_outputs = options_.extra_outputs;
    how.custom = custom_;
    how.distinct_dimensions = distinct_dimensions;
    return build_graph(model_, how);
}

std::unique_ptr<Program> Session::make_program(std::shared_ptr<Graph> graph, bool distinct_dimensions) const {
    auto rebuild = [this, distinct_dimensions] {
        std::shared_ptr<Graph> again = build(distinct_dimensions);
        optimize(*again, false);
        return std::shared_ptr<const Graph>(std::move(again));
    };
    return std::make_unique<Program>(std::move(graph), threads_, options_.exact,
                                     std::make_shared<WeightCache>(rebuild));
}

const PortInfo* Session::find_input(std::string_view name, size_t hint) const {
    if (hint < inputs_.size() && inputs_[hint].name == name) return &inputs_[hint];
    for (const std::vector<PortInfo>* ports : {&inputs_, &overridable_})
        for (const PortInfo& port : *ports)
            if (port.name == name) return &port;
    return nullptr;
}

// Initializers that runs give are rarely given: the session's own program has them as constants.
Session& Session::with_inputs(std::set<std::string> fed) {
    std::lock_guard lock(mutex_);
    auto& session = fed_sessions_[fed];
    if (!session) session.reset(new Session(*this, std::move(fed)));
    return *session;
}

void Session::check_feed(const PortInfo& port, const Value& value) const {
    auto refuse = [&](const std::string& why) {
        fail(ErrorKind::invalid_argument, "input '", port.name, "': ", why, "; expected ", expected_text(port),
             ", given ", kind_text(value));
    };
    if (port.fact.optional && value.kind == Value::Kind::absent) return;
    if (port.fact.kind != value.kind) refuse("wrong kind of value");
    if (value.kind == Value::Kind::sequence) {
        const auto kind = port.fact.map_key == DType::undefined ? Value::Kind::tensor : Value::Kind::map;
        for (const Value& item : *value.items) {
            if (item.kind != kind) refuse(cat("wrong kind of item, ", kind_text(item)));
            if (kind == Value::Kind::tensor && item.tensor.dtype != port.fact.dtype)
                refuse(cat("wrong element type, ", dtype_name(item.tensor.dtype)));
        }
    }
    if (value.kind != Value::Kind::tensor) return;
    const Tensor& t = value.tensor;
    if (t.dtype != port.fact.dtype) refuse("wrong element type");
    if (!port.fact.ranked) return;
    if (port.fact.shape.empty() && t.count() == 1) return;  // any tensor of one element is taken for a scalar
    if (t.shape.size() != port.fact.shape.size()) refuse("wrong rank");
    for (size_t i = 0; i < t.shape.size(); ++i)
        if (is_number(port.fact.shape[i]) && port.fact.shape[i] != t.shape[i])
            refuse(cat("wrong size of dimension ", i));
}

// Sizes that the model gives one name are taken to be equal when its graph is rewritten. Where a caller's inputs say
// otherwise the names were wrong, and a program made without that belief runs them.
Program& Session::program_for(const std::vector<Value>& inputs) {
    std::map<int64_t, int64_t> sizes;
    bool consistent = true;
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Shape& declared = inputs_[i].fact.shape;
        if (inputs[i].kind != Value::Kind::tensor || declared.size() != inputs[i].tensor.shape.size()) continue;
        for (size_t d = 0; d < declared.size(); ++d) {
            if (!is_symbol(declared[d])) continue;
            const int64_t size = inputs[i].tensor.shape[d];
            consistent = consistent && sizes.try_emplace(declared[d], size).first->second == size;
        }
    }
    if (consistent) return *program_;
    std::lock_guard lock(mutex_);
    if (!unnamed_program_) {
        std::unique_ptr<Graph> graph = build(true);
        optimize(*graph, false);
        unnamed_program_ = make_program(std::move(graph), true);
    }
    return *unnamed_program_;
}

std::vector<Value> Session::run(const std::vector<std::pair<std::string, Value>>& feeds,
                                const std::vector<std::string>& wanted, const RunOptions& options,
                                const std::vector<Tensor>& destinations) {
    std::set<std::string> fed;
    for (const PortInfo& port : overridable_)
        for (const auto& feed : feeds)
            if (feed.first == port.name) fed.insert(port.name);
    if (!fed.empty()) return with_inputs(std::move(fed)).run(feeds, wanted, options, destinations);
    return in_context("running", origin_, [&] {
        std::vector<Value> inputs(inputs_.size());
        std::vector<char> given(inputs_.size(), 0);
        for (size_t position = 0; position < feeds.size(); ++position) {
            const auto& [name, value] = feeds[position];
            const PortInfo* found = find_input(name, position);
            if (!found) {
                std::string names;
                for (const PortInfo& p : inputs_) names += (names.empty() ? "'" : ", '") + p.name + "'";
                fail(ErrorKind::invalid_argument, "there is no input '", name, "'; the model's inputs are ", names);
            }
            const auto index = static_cast<size_t>(found - inputs_.data());
            check_feed(inputs_[index], value);
            if (given[index]) fail(ErrorKind::invalid_argument, "input '", name, "' is given twice");
            given[index] = 1;
            inputs[index] = value;
            if (value.kind != Value::Kind::tensor) continue;
            inputs[index].tensor = canonical(value.tensor);
            const Fact& declared = inputs_[index].fact;
            if (declared.ranked && declared.shape.empty()) inputs[index].tensor.shape = {};
        }
        for (size_t i = 0; i < inputs.size(); ++i)
            if (!given[i] && !inputs_[i].fact.optional)
                fail(ErrorKind::invalid_argument, "input '", inputs_[i].name, "' is missing; expected ",
                     expected_text(inputs_[i]));

        std::vector<size_t> picked;
        for (const std::string& name : wanted) {
            const auto it =
                std::find_if(outputs_.begin(), outputs_.end(), [&](const PortInfo& p) { return p.name == name; });
            if (it == outputs_.end()) {
                std::string names;
                for (const PortInfo& p : outputs_) names += (names.empty() ? "'" : ", '") + p.name + "'";
                fail(ErrorKind::invalid_argument, "there is no output '", name, "'; the model's outputs are ", names);
            }
            picked.push_back(static_cast<size_t>(it - outputs_.begin()));
        }
        std::vector<Tensor> memory(destinations.empty() ? 0 : outputs_.size());
        for (size_t i = 0; i < destinations.size(); ++i) {
            const size_t index = wanted.empty() ? i : picked.at(i);
            if (index < memory.size()) memory[index] = destinations[i];
        }

        ThreadPool::Scope pool(ThreadPool::shared(),
                               options.threads > 0 ? std::min(options.threads, threads_) : threads_);
        RunScope scope;
        scope.parallel = pool.parallel();
        scope.pool = &pool;
        scope.profiler = options_.profile ? profiler_.get() : nullptr;
        if (scope.profiler) scope.run = scope.profiler->next_run();
        scope.terminate = options.terminate.get();
        constexpr std::chrono::milliseconds kLongest = std::chrono::hours(1'000'000);  // more would overflow the clock
        if (options.time_limit.count() > 0)
            scope.deadline = std::chrono::steady_clock::now() + std::min(options.time_limit, kLongest);
        std::vector<Value> results = program_for(inputs).run(std::move(inputs), scope, memory);
        if (wanted.empty()) return results;
        std::vector<Value> chosen;
        for (size_t index : picked) chosen.push_back(results[index]);
        return chosen;
    });
}

std::unique_ptr<Graph> Session::stage(const std::string& stage) const {
    std::unique_ptr<Graph> graph = build(false);
    if (stage == "simplify") simplify(*graph);
    else if (stage != "build") fail(ErrorKind::invalid_argument, "no stage '", stage, "': build, simplify or lower");
    return graph;
}

std::string Session::dump(const std::string& stage) const {
    return linnet::dump(stage == "lower" ? program_->graph() : *this->stage(stage));
}

GraphInfo Session::describe(const std::string& stage, const std::vector<std::pair<std::string, Shape>>& shapes) const {
    if (stage == "lower") return linnet::describe(program_->graph(), program_->plan_for(input_facts(shapes))->facts);
    const std::unique_ptr<Graph> graph = this->stage(stage);
    return linnet::describe(*graph, infer_graph(*graph, input_facts(shapes), *graph->dims));
}

std::vector<Fact> Session::input_facts(const std::vector<std::pair<std::string, Shape>>& shapes) const {
    std::vector<Fact> facts;
    for (const PortInfo& port : inputs_) {
        Fact fact = port.fact;
        for (const auto& [name, shape] : shapes)
            if (name == port.name) fact = Fact::of(port.fact.dtype, shape);
        if (!fact.is_static() && fact.is_tensor())
            fail(ErrorKind::invalid_argument, "input '", port.name, "' is ", expected_text(port),
                 ": give its shape as numbers");
        facts.push_back(std::move(fact));
    }
    return facts;
}

std::shared_ptr<const Plan> Session::plan_for(const std::vector<std::pair<std::string, Shape>>& shapes) const {
    return program_->plan_for(input_facts(shapes));
}

}  // namespace linnet
