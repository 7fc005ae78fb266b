// Running a lowered graph: plans looked up by signature, arenas, the steps in order.
#include "runtime/program.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <stdexcept>

#include "base/give_way.h"
#include "base/mapped_file.h"
#include "graph/infer.h"
#include "runtime/cost.h"

namespace linnet {
namespace {

// Plans kept per program; the one unused for longest goes first.
constexpr size_t kMostPlans = 32;
constexpr size_t kHugePage = size_t{2} << 20;

std::string signature_of(std::span<const Value> inputs) {
    std::string key;
    for (const Value& v : inputs) {
        key += static_cast<char>(v.kind);
        if (v.kind != Value::Kind::tensor) continue;
        key += static_cast<char>(v.tensor.dtype);
        const auto rank = static_cast<char>(v.tensor.shape.size());
        key += rank;
        key.append(reinterpret_cast<const char*>(v.tensor.shape.data()), v.tensor.shape.size() * sizeof(int64_t));
    }
    return key;
}

Fact signature_fact(const Value& v) {
    if (v.kind == Value::Kind::tensor) return Fact::of(v.tensor.dtype, v.tensor.shape);
    Fact f = fact_of(v);
    return f;
}

// Who asks for a value's memory.
std::string maker_text(const Graph& graph, ValueId value) {
    if (value == kNoValue || graph.value(value).producer == kNoNode) return "intermediate values";
    return node_text(graph.node(graph.value(value).producer));
}

ValueId largest_in_arena(const Plan& plan) {
    ValueId found = kNoValue;
    int64_t most = -1;
    for (size_t v = 0; v < plan.places.size(); ++v) {
        if (plan.places[v].kind != Place::Kind::arena || !plan.facts[v].is_static()) continue;
        const int64_t count = element_count(plan.facts[v].shape);
        if (count <= most) continue;
        most = count;
        found = static_cast<ValueId>(v);
    }
    return found;
}

}  // namespace

// Memory for one run at a time, as large as the largest plan that used it.
struct Program::Arena {
    std::shared_ptr<MemoryAccount> memory;
    std::byte* base = nullptr;
    size_t capacity = 0;
    explicit Arena(MemoryAccount& account) : memory(account.shared_from_this()) {}
    ~Arena() { release(); }
    void release() noexcept {
        std::free(base);
        memory->give(static_cast<int64_t>(capacity));
        base = nullptr;
        capacity = 0;
    }
    void reserve(size_t bytes) {
        if (bytes <= capacity) return;
        release();
        const size_t align = bytes >= kHugePage ? kHugePage : 64;
        const size_t rounded = (bytes + align - 1) / align * align;
        memory->take(static_cast<int64_t>(rounded));
        base = static_cast<std::byte*>(std::aligned_alloc(align, rounded));
        if (!base) memory->give(static_cast<int64_t>(rounded));
        if (!base) fail(ErrorKind::runtime, "no memory for an arena of ", rounded, " bytes");
        if (align == kHugePage) madvise(base, rounded, MADV_HUGEPAGE);
        capacity = rounded;
    }
};

struct Program::Frame {
    std::unique_ptr<Arena> arena;
    const std::byte* bound = nullptr;     // the base that `values` point into
    std::vector<Value> values;            // by ValueId
    std::vector<Value*> inputs, outputs;  // operands of the step being run
};

struct Program::Cached {
    std::unique_ptr<Plan> plan;
    std::vector<std::unique_ptr<Frame>> idle;  // without arenas
    std::atomic<bool> splits{false};           // a run has split its work over threads
};

std::shared_ptr<const void> WeightCache::get(const std::shared_ptr<const Tensor>& constant, const std::string& kind,
                                             const std::function<std::shared_ptr<const void>()>& make) {
    std::lock_guard lock(mutex_);
    Entry& entry = packed_[{constant.get(), kind}];
    if (!entry.packed) {
        entry.packed = make();
        give_way();
        entry.source = constant;
        if (constant->data) release_pages(constant->data, constant->bytes());
    }
    return entry.packed;
}

std::shared_ptr<const Tensor> WeightCache::restore(ValueId constant) {
    std::lock_guard lock(restore_mutex_);
    if (!rebuilt_) rebuilt_ = rebuild_();
    return rebuilt_->fact(constant).constant;
}

void WeightCache::forget_rebuilt() {
    std::lock_guard lock(restore_mutex_);
    rebuilt_.reset();
}

Program::Program(std::shared_ptr<Graph> graph, int threads, bool exact, std::shared_ptr<WeightCache> cache)
    : graph_(std::move(graph)), threads_(threads), exact_(exact), cache_(std::move(cache)) {
    for (NodeId id : graph_->order)
        for (const Attribute& a : graph_->node(id).attributes.items())
            if (const auto* g = std::get_if<std::shared_ptr<Graph>>(&a.data)) {
                auto& sub = subprograms_[{id, a.name}];
                sub = std::make_unique<Program>(*g, threads_, exact_, cache_);
                sub->release_weights_ = false;  // restoring finds the values of the model's own graph only
            }
}

Program::~Program() = default;

std::shared_ptr<Program::Cached> Program::cached(std::span<const Value> inputs) {
    std::string key = signature_of(inputs);
    const MemoryAccount::Scope counted(&cache_->memory());  // plans and weights outlive the run that asks for them
    std::lock_guard lock(mutex_);
    for (auto it = plans_.begin(); it != plans_.end(); ++it) {
        if (it->first != key) continue;
        plans_.splice(plans_.begin(), plans_, it);
        return it->second;
    }
    std::vector<Fact> facts;
    for (size_t i = 0; i < inputs.size(); ++i) {
        const Fact& known = graph_->fact(graph_->inputs[i].value);
        facts.push_back(known.constant ? known : signature_fact(inputs[i]));
    }
    // What the first plan reads packed only loses its own elements: nobody else has seen them yet.
    std::function<void(const Tensor&)> packed_only;
    if (release_weights_)
        packed_only = [](const Tensor& constant) {
            auto& emptied = const_cast<Tensor&>(constant);
            emptied.data = nullptr;
            emptied.owner.reset();
        };
    release_weights_ = false;
    auto fresh = std::make_shared<Cached>();
    try {
        fresh->plan = make_plan(*graph_, facts, plan_options(), packed_only);
    } catch (const Error& e) {
        // Perhaps what is kept for other inputs is in the way.
        if (e.kind() != ErrorKind::runtime || (plans_.empty() && idle_arenas_.empty())) throw;
        plans_.clear();
        idle_arenas_.clear();
        fresh->plan = make_plan(*graph_, facts, plan_options(), packed_only);
    }
    cache_->forget_rebuilt();
    plans_.emplace_front(std::move(key), fresh);
    if (plans_.size() > kMostPlans) plans_.pop_back();
    return fresh;
}

std::shared_ptr<const Plan> Program::plan_for(std::span<const Value> inputs) {
    auto c = cached(inputs);
    return {c, c->plan.get()};
}

std::shared_ptr<const Plan> Program::plan_for(std::span<const Fact> inputs) {
    const MemoryAccount::Scope counted(&cache_->memory());
    std::lock_guard lock(mutex_);  // a first run may be taking elements away from constants
    std::shared_ptr<const Plan> plan = make_plan(*graph_, inputs, plan_options());
    cache_->forget_rebuilt();
    return plan;
}

std::unique_ptr<Program::Frame> Program::take_frame(Cached& cached) {
    std::unique_ptr<Frame> frame;
    std::unique_ptr<Arena> arena;
    {
        std::lock_guard lock(mutex_);
        if (!cached.idle.empty()) {
            frame = std::move(cached.idle.back());
            cached.idle.pop_back();
        }
        if (!idle_arenas_.empty()) {
            arena = std::move(idle_arenas_.back());
            idle_arenas_.pop_back();
        }
    }
    if (!frame) frame = std::make_unique<Frame>();
    if (!arena) arena = std::make_unique<Arena>(cache_->memory());
    try {
        arena->reserve(static_cast<size_t>(cached.plan->arena_bytes));
    } catch (Error& e) {
        e.add_context(maker_text(*graph_, largest_in_arena(*cached.plan)));
        throw;
    }
    frame->arena = std::move(arena);
    if (frame->values.empty() || frame->bound != frame->arena->base) bind(*frame, *cached.plan);
    return frame;
}

void Program::give_frame(Cached& cached, std::unique_ptr<Frame> frame, bool failed) {
    std::lock_guard lock(mutex_);
    if (failed) {  // perhaps for want of memory: the next run finds more
        idle_arenas_.clear();
        return;
    }
    idle_arenas_.push_back(std::move(frame->arena));
    cached.idle.push_back(std::move(frame));
}

void Program::bind(Frame& frame, const Plan& plan) const {
    frame.values.resize(graph_->values.size());
    for (size_t v = 0; v < frame.values.size(); ++v) {
        const Place& p = plan.places[v];
        const Fact& fact = plan.facts[v];
        // Views of inputs and constants have those as their place; their memory is known when they are run.
        if (p.kind == Place::Kind::constant && fact.constant) {
            frame.values[v] = *fact.constant;
        } else if (p.kind != Place::Kind::none && fact.is_static()) {
            Tensor t;
            t.dtype = fact.dtype;
            t.shape = fact.shape;
            if (fact.dtype == DType::string) t = Tensor::allocate(DType::string, fact.shape);
            else if (p.kind == Place::Kind::arena) t.data = frame.arena->base + p.offset;
            frame.values[v] = std::move(t);
        }
    }
    frame.bound = frame.arena->base;
}

namespace {

int64_t bytes_touched(const std::vector<Value*>& values) {
    int64_t bytes = 0;
    for (const Value* v : values)
        if (v && v->kind == Value::Kind::tensor && v->tensor.defined())
            bytes += static_cast<int64_t>(v->tensor.bytes());
    return bytes;
}

std::string shapes_text(const std::vector<Value*>& inputs, const std::vector<Value*>& outputs) {
    std::string text;
    auto add = [&](const std::vector<Value*>& values) {
        bool first = true;
        for (const Value* v : values) {
            if (!v || v->kind != Value::Kind::tensor) continue;
            text += (first ? "" : ", ") + shape_text(v->tensor.shape);
            first = false;
        }
    };
    add(inputs);
    text += " -> ";
    add(outputs);
    return text;
}

std::vector<const Shape*> shapes_of(const std::vector<Value*>& values) {
    std::vector<const Shape*> shapes;
    for (const Value* v : values) shapes.push_back(v && v->kind == Value::Kind::tensor ? &v->tensor.shape : nullptr);
    return shapes;
}

}  // namespace

void Program::run_step(const Step& step, Frame& frame, const RunScope& scope) {
    const Node& n = graph_->node(step.node);
    auto value = [&](ValueId v) { return &frame.values[static_cast<size_t>(v)]; };
    if (step.kind == Step::Kind::view) {
        Tensor& out = value(n.outputs[0])->tensor;
        out.data = value(n.inputs[0])->tensor.data;
        return;
    }
    frame.inputs.clear();
    frame.outputs.clear();
    for (ValueId v : n.inputs) frame.inputs.push_back(v == kNoValue ? nullptr : value(v));
    for (ValueId v : n.outputs) frame.outputs.push_back(v == kNoValue ? nullptr : value(v));
    auto run_subgraph = [&](std::string_view attribute, std::vector<Value> inputs) {
        RunScope inner = scope;
        ++inner.depth;
        return subprograms_.at({step.node, std::string(attribute)})->run(std::move(inputs), inner);
    };
    if (step.kind == Step::Kind::dynamic) {
        EvaluateOptions options;
        options.parallel = scope.parallel;
        options.run_subgraph = run_subgraph;
        std::vector<Value> results = evaluate(*graph_, n, frame.inputs, options);
        for (size_t i = 0; i < results.size(); ++i)
            if (n.outputs[i] != kNoValue) *value(n.outputs[i]) = std::move(results[i]);
        for (ValueId v : step.release) *value(v) = Value();
        return;
    }
    RunContext context(n, frame.inputs, frame.outputs, scope.parallel);
    context.state_ = step.state.get();
    context.scratch_ = step.scratch ? frame.arena->base + step.scratch_offset : nullptr;
    if (n.captures) context.run_subgraph_ = run_subgraph;
    step.op->run(context);
}

std::vector<Value> Program::run(std::vector<Value> inputs, const RunScope& scope,
                                std::span<const Tensor> destinations) {
    scope.stop.check();  // a loop's body may have no step
    const Graph& graph = *graph_;
    const std::shared_ptr<Cached> plan_entry = cached(inputs);
    const Plan& plan = *plan_entry->plan;
    if (scope.pool && plan_entry->splits.load(std::memory_order_relaxed)) scope.pool->wake();
    std::unique_ptr<Frame> frame = take_frame(*plan_entry);
    // The memory is there for the next run.
    struct Return {
        Program& program;
        Cached& cached;
        std::unique_ptr<Frame>& frame;
        const int exceptions = std::uncaught_exceptions();
        ~Return() { program.give_frame(cached, std::move(frame), std::uncaught_exceptions() > exceptions); }
    } give_back{*this, *plan_entry, frame};

    std::vector<Value>& values = frame->values;
    for (size_t i = 0; i < inputs.size(); ++i)
        if (plan.places[static_cast<size_t>(graph.inputs[i].value)].kind != Place::Kind::constant)
            values[static_cast<size_t>(graph.inputs[i].value)] = inputs[i];
    std::vector<Tensor> outputs(graph.outputs.size());
    for (size_t i = 0; i < outputs.size(); ++i) {
        const Fact& fact = plan.facts[static_cast<size_t>(graph.outputs[i].value)];
        const bool given = i < destinations.size() && destinations[i].defined();
        if (given) outputs[i] = destinations[i];
        if (!given && plan.copy_output[i]) continue;
        if (!given) {
            try {
                outputs[i] = Tensor::allocate(fact.dtype, fact.shape);
            } catch (Error& e) {
                e.add_context(maker_text(graph, graph.outputs[i].value));
                throw;
            }
        }
        if (given && fact.is_static() && (outputs[i].dtype != fact.dtype || !(outputs[i].shape == fact.shape)))
            fail(ErrorKind::invalid_argument, "output '", graph.outputs[i].name, "' is ", dtype_name(fact.dtype), " ",
                 shape_text(fact.shape), "; the memory given for it is ", dtype_name(outputs[i].dtype), " ",
                 shape_text(outputs[i].shape));
    }
    for (size_t v = 0; v < values.size(); ++v)
        if (plan.places[v].kind == Place::Kind::output)
            values[v].tensor.data = outputs[static_cast<size_t>(plan.places[v].offset)].data;

    for (const Step& step : plan.steps) {
        scope.stop.check();
        give_way();
        const double start = scope.profiler ? scope.profiler->now_us() : 0;
        try {
            run_step(step, *frame, scope);
        } catch (Error& e) {
            e.add_context(node_text(graph.node(step.node)));
            throw;
        } catch (const std::bad_alloc&) {
            fail(ErrorKind::runtime, node_text(graph.node(step.node)), ": no memory is left");
        } catch (const std::length_error&) {  // a list longer than any can be
            fail(ErrorKind::runtime, node_text(graph.node(step.node)), ": no memory is left");
        }
        if (!scope.profiler || step.kind == Step::Kind::view) continue;
        const double end = scope.profiler->now_us();
        const Node& n = graph.node(step.node);
        ProfileEvent event;
        event.name = n.name;
        event.op = n.domain.empty() || n.domain == "linnet" ? n.op_type : n.domain + "." + n.op_type;
        event.start_us = start;
        event.duration_us = end - start;
        event.run = scope.run;
        event.depth = scope.depth;
        event.shapes = shapes_text(frame->inputs, frame->outputs);
        event.macs = count_macs(n, shapes_of(frame->inputs), shapes_of(frame->outputs));
        event.bytes = bytes_touched(frame->inputs) + bytes_touched(frame->outputs);
        scope.profiler->add(std::move(event));
    }

    if (scope.pool && scope.pool->has_split()) plan_entry->splits.store(true, std::memory_order_relaxed);

    std::vector<Value> results(graph.outputs.size());
    for (size_t i = 0; i < results.size(); ++i) {
        const Value& value = values[static_cast<size_t>(graph.outputs[i].value)];
        if (!plan.copy_output[i]) {
            results[i] = outputs[i];
            continue;
        }
        if (value.kind != Value::Kind::tensor) {
            results[i] = value;
            continue;
        }
        if (outputs[i].defined()) {
            if (outputs[i].dtype != value.tensor.dtype || !(outputs[i].shape == value.tensor.shape))
                fail(ErrorKind::invalid_argument, "output '", graph.outputs[i].name, "' is ",
                     dtype_name(value.tensor.dtype), " ", shape_text(value.tensor.shape),
                     "; the memory given for it is ", dtype_name(outputs[i].dtype), " ", shape_text(outputs[i].shape));
            copy_elements(value.tensor, outputs[i]);
            results[i] = outputs[i];
            continue;
        }
        const ValueId id = graph.outputs[i].value;
        const bool heap = plan.places[static_cast<size_t>(id)].kind == Place::Kind::none && value.tensor.owner;
        results[i] = heap ? value.tensor : value.tensor.clone();
    }
    // Nothing of this run may stay alive in the frame: the caller's inputs, heap values, outputs.
    for (size_t v = 0; v < values.size(); ++v)
        if (plan.places[v].kind == Place::Kind::none) values[v] = Value();
    for (const Port& port : graph.inputs)
        if (plan.places[static_cast<size_t>(port.value)].kind == Place::Kind::input)
            values[static_cast<size_t>(port.value)] = Value();
    return results;
}

}  // namespace linnet
