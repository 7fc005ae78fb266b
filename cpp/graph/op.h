// The contract of an operator. One file in ops/ per operator or family defines its rows; the folder's listing is the
// registry (a file foo.cpp defines `std::span<const OpDef> foo_ops()`).
#pragma once
#include <algorithm>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/stop.h"
#include "base/tensor.h"
#include "graph/graph.h"

namespace linnet {

class InferContext;
class PrepareContext;
class RunContext;
class Patch;

enum OpFlags : uint32_t {
    // Output 0 is input 0's elements, unchanged, under another shape: no step runs when memory can be shared.
    kView = 1,
    // Output 0 may be written over a dying input of the same size in bytes: run() reads element i of its inputs at
    // latest when it writes element i of output 0. Broadcasting inputs are smaller, so they are never overwritten.
    kInPlace = 2,
    // Every output element depends on the elements at the same (broadcast) place of the inputs only.
    kElementwise = 4,
    // Output shapes may depend on the inputs' values, or outputs are sequences, optionals or maps: run() calls
    // allocate()/set_value() for every output. Such a step is never planned; what depends on it runs unplanned as well.
    kDynamic = 8,
    // Gives other values each time (random numbers): not folded, not merged.
    kRandom = 16,
    // run() computes in float32 only: lowering casts float16, bfloat16 (and float64) inputs and outputs around it.
    kFloat32Only = 32,
    // Takes the attribute "epilogue", whose operands are inputs from number 3 on (ops/epilogue.h).
    kEpilogue = 64,
    // Not ONNX at this opset, but written by other runtimes: read, and never made by a portable rewrite.
    kForeign = 128,
    // Where infer leaves an output open although all inputs are known, run() makes it, as kDynamic operators do; the
    // memory of the others is ready.
    kOpen = 256,
};

struct OpDef {
    std::string_view name;
    std::string_view domain = "";  // "" is ai.onnx; "linnet" holds internal operators that lowering makes
    int since = 1;                 // first opset of this version; the row with the largest since <= opset is taken
    // Facts of inputs -> facts of outputs. Must accept facts with symbolic or unknown dims and unranked inputs, and
    // must throw invalid_graph/invalid_argument for what the specification forbids. Runs at load time and for each new
    // signature of input shapes; must be cheap.
    void (*infer)(InferContext&) = nullptr;
    // Views -> views. Null when lower() always replaces the node.
    void (*run)(RunContext&) = nullptr;
    // Once per plan, with static facts: chooses the algorithm, packs weights, asks for scratch. What it returns is
    // run()'s state. May be null.
    std::shared_ptr<const void> (*prepare)(PrepareContext&) = nullptr;
    // Rewrites one node, portably (the result is ONNX): an operator's own patterns live here. Returns false when there
    // is nothing to do. Tried for each node until nothing changes.
    bool (*simplify)(const Graph&, NodeId, Patch&) = nullptr;
    // The same for this machine: into internal operators, layouts, compositions. May be null.
    bool (*lower)(const Graph&, NodeId, Patch&) = nullptr;
    // Layout propagation. `node` is a copy of the node whose data inputs (`layout_inputs`) are about to be replaced by
    // values permuted by `perm` (axis i of the new value is axis perm[i] of the old); change the attributes, and the
    // other inputs through `patch`, so that every output comes out permuted by `perm` too. False: cannot.
    // Elementwise operators need none.
    bool (*permute)(const Graph&, Node& node, const Shape& perm, Patch&) = nullptr;
    uint32_t layout_inputs = 1;  // bit i: input i is permuted; ~0u: all
    uint32_t flags = 0;
    int min_inputs = 0;  // checked when the graph is built; max < 0: any number
    int max_inputs = -1;
    uint32_t may_omit = 0;  // bit i: input i, one of the first min_inputs, may be left out (an empty name)
};

// The row for an operator at an opset, or null. Domain "ai.onnx" is "".
const OpDef* find_op(std::string_view domain, std::string_view name, int64_t opset);
// All rows of all operators.
std::vector<const OpDef*> all_ops();
// Largest ai.onnx opset that is known.
constexpr int64_t kMaxOpset = 28;

// ---- infer ---------------------------------------------------------------------------------------------------------
class InferContext {
  public:
    InferContext(const Graph& graph, const Node& node, std::span<const Fact* const> inputs, std::span<Fact> outputs,
                 DimTable& dims)
        : attributes(node.attributes), dims(dims), graph_(graph), node_(node), inputs_(inputs), outputs_(outputs) {}

    const Attributes& attributes;
    DimTable& dims;  // arithmetic on sizes

    const Node& node() const { return node_; }
    const OpDef& op() const { return *node_.op; }
    int inputs() const { return static_cast<int>(inputs_.size()) - node_.captures; }
    int outputs() const { return static_cast<int>(outputs_.size()); }
    bool has_input(int i) const { return i < inputs() && inputs_[static_cast<size_t>(i)] != nullptr; }
    // Throws invalid_graph when a required input is left out.
    const Fact& input(int i) const;
    // Null when left out or not known.
    const Tensor* constant(int i) const;
    // The elements of a small integer tensor as dims; null when their number is not known.
    const Shape* ints(int i) const;
    bool has_output(int i) const { return i < outputs() && node_.outputs[static_cast<size_t>(i)] != kNoValue; }
    // Throws invalid_graph when the node names an output that infer has said nothing about: the operator has fewer.
    void check_outputs() const;

    // Outputs that the node leaves out are ignored.
    void output(int i, Fact fact);
    void output(int i, DType dtype, const Shape& shape) { output(i, Fact::of(dtype, shape)); }
    void output_unranked(int i, DType dtype) { output(i, Fact::unranked(dtype)); }

    // Facts of the outputs of a subgraph attribute, given those of its formal inputs (captured ones are added).
    std::vector<Fact> subgraph(std::string_view attribute, std::vector<Fact> formal) const;

    // Broadcast shape of several inputs (numpy's rule); false when one is unranked.
    bool broadcast(std::initializer_list<int> inputs, Shape& shape) const;

  private:
    const Graph& graph_;
    const Node& node_;
    std::span<const Fact* const> inputs_;
    std::span<Fact> outputs_;
    int said_ = 0;  // outputs up to this one
};

// ---- run -----------------------------------------------------------------------------------------------------------
// The thread pool as seen from below.
struct Parallel {
    int threads = 1;
    void* pool = nullptr;
    void (*call)(void* pool, int64_t tasks, void (*task)(void* context, int64_t index), void* context) = nullptr;
    const StopSignal* stop = nullptr;  // looked at before each task; null: nothing stops the work
};

// Calls task(context, index) for index in [0, tasks), each at most once, over the pool. Not nested. The first exception
// that a task throws is thrown again here, after all tasks have ended. Throws cancelled when the run has to stop.
void run_tasks(const Parallel& parallel, int64_t tasks, void (*task)(const void* context, int64_t index),
               const void* context);

// The same with fn(index).
template <class Fn>
void parallel_for(const Parallel& parallel, int64_t tasks, const Fn& fn) {
    run_tasks(
        parallel, tasks, [](const void* context, int64_t index) { (*static_cast<const Fn*>(context))(index); }, &fn);
}

// Splits [0, count) into contiguous ranges fn(begin, end), one per thread, no smaller than `grain` and starting at
// multiples of `align`; into more of them where a run may be stopped meanwhile.
template <class Fn>
void parallel_ranges(const Parallel& parallel, int64_t count, int64_t grain, const Fn& fn, int64_t align = 1) {
    const int64_t most = grain > 0 ? (count + grain - 1) / grain : count;
    const int64_t wanted = parallel.stop ? std::max(64, parallel.threads) : parallel.threads;
    const int64_t parts = std::max<int64_t>(1, std::min(wanted, most));
    const int64_t chunk = ((count + parts - 1) / parts + align - 1) / align * align;
    if (chunk <= 0) return;
    parallel_for(parallel, (count + chunk - 1) / chunk,
                 [&](int64_t i) { fn(i * chunk, std::min(count, (i + 1) * chunk)); });
}

// Shared by all plans of a session: weights in the form that kernels want, made once. A constant that is only read
// packed may lose its own elements: its fact then holds a tensor without data.
class PackCache {
  public:
    virtual ~PackCache() = default;
    // The packed form of `constant` under `kind` (which must encode every parameter of the packing).
    virtual std::shared_ptr<const void> get(const std::shared_ptr<const Tensor>& constant, const std::string& kind,
                                            const std::function<std::shared_ptr<const void>()>& make) = 0;
    // The elements that a constant had before it lost them.
    virtual std::shared_ptr<const Tensor> restore(ValueId constant) = 0;
};

struct PlanOptions {
    int threads = 1;
    bool exact = false;          // nothing that rounds more than a reordered sum does
    PackCache* cache = nullptr;  // null when a node is run once, outside a plan
};

class PrepareContext {
  public:
    const Attributes& attributes;
    const Node& node;
    const Graph& graph;
    const int threads;
    const bool exact;

    PrepareContext(const Graph& graph, const Node& node, std::span<const Fact* const> inputs,
                   std::span<const Fact> outputs, const PlanOptions& options)
        : attributes(node.attributes),
          node(node),
          graph(graph),
          threads(options.threads),
          exact(options.exact),
          cache_(options.cache),
          inputs_(inputs),
          outputs_(outputs) {}

    bool has_input(int i) const {
        return i < static_cast<int>(inputs_.size()) && inputs_[static_cast<size_t>(i)] != nullptr;
    }
    const Fact& input(int i) const { return *inputs_[static_cast<size_t>(i)]; }  // static
    const Fact& output(int i) const { return outputs_[static_cast<size_t>(i)]; }
    bool is_constant(int i) const { return has_input(i) && input(i).constant; }
    // Null unless is_constant.
    const Tensor* constant(int i) const {
        if (!is_constant(i)) return nullptr;
        const Tensor* t = input(i).constant.get();
        if (t->data || t->count() == 0) return t;
        restored_.push_back(cache_->restore(node.inputs[static_cast<size_t>(i)]));
        return restored_.back().get();
    }
    // Bytes that run() gets as scratch(), 64-byte aligned.
    void scratch(size_t bytes) { scratch_ = bytes; }
    size_t scratch() const { return scratch_; }
    // The way that was chosen among several, for people: "Winograd F(4,3), expected 0.41 of direct".
    void algorithm(std::string text) { algorithm_ = std::move(text); }
    const std::string& algorithm() const { return algorithm_; }

    // Packs constant input i through the session's cache. run() must not read that input: it may have lost its
    // elements.
    template <class T>
    std::shared_ptr<const T> pack(int i, const std::string& kind,
                                  const std::function<std::shared_ptr<const T>(const Tensor&)>& make) {
        packed_ |= uint64_t{1} << i;
        if (!cache_) return make(*constant(i));
        return std::static_pointer_cast<const T>(cache_->get(
            input(i).constant, kind, [&] { return std::static_pointer_cast<const void>(make(*constant(i))); }));
    }
    bool packed(size_t i) const { return i < 64 && (packed_ >> i & 1); }

  private:
    PackCache* cache_;
    std::span<const Fact* const> inputs_;
    std::span<const Fact> outputs_;
    size_t scratch_ = 0;
    std::string algorithm_;
    uint64_t packed_ = 0;  // bit i: input i
    mutable std::vector<std::shared_ptr<const Tensor>> restored_;
};

class RunContext {
  public:
    const Attributes& attributes;
    const Node& node;

    RunContext(const Node& node, std::span<Value* const> inputs, std::span<Value* const> outputs,
               const Parallel& parallel)
        : attributes(node.attributes), node(node), inputs_(inputs), outputs_(outputs), parallel_(parallel) {}

    int inputs() const { return static_cast<int>(inputs_.size()) - node.captures; }
    int outputs() const { return static_cast<int>(outputs_.size()); }
    bool has_input(int i) const { return i < inputs() && inputs_[static_cast<size_t>(i)] != nullptr; }
    const Tensor& input(int i) const { return inputs_[static_cast<size_t>(i)]->tensor; }
    const Value& value(int i) const { return *inputs_[static_cast<size_t>(i)]; }
    bool has_output(int i) const { return i < outputs() && outputs_[static_cast<size_t>(i)] != nullptr; }
    // Memory and shape are ready (not for kDynamic operators).
    Tensor& output(int i) const { return outputs_[static_cast<size_t>(i)]->tensor; }
    // For kDynamic operators: makes output i. Harmless when the node leaves it out.
    Tensor& allocate(int i, DType dtype, const Shape& shape);
    void set_value(int i, Value value);

    const Parallel& parallel() const { return parallel_; }
    template <class T>
    const T* state() const {
        return static_cast<const T*>(state_);
    }
    std::byte* scratch() const { return scratch_; }
    // Runs a subgraph attribute on its formal inputs (captured ones are added); only inside run().
    std::vector<Value> subgraph(std::string_view attribute, std::vector<Value> formal) const;

    // Set by the executor.
    const void* state_ = nullptr;
    std::byte* scratch_ = nullptr;
    std::function<std::vector<Value>(std::string_view attribute, std::vector<Value> inputs)> run_subgraph_;

  private:
    std::span<Value* const> inputs_;
    std::span<Value* const> outputs_;
    const Parallel& parallel_;
    Tensor unused_;
};

// ---- rewriting -----------------------------------------------------------------------------------------------------
// A node to change and to hand to Patch::node: as the given one, without outputs and captures.
Node copy_of(const Node& node);

// A proposed change: new nodes and constants, and values to be replaced. Nothing in the graph's living part changes
// until the pass runner applies it.
class Patch {
  public:
    explicit Patch(Graph& graph) : graph_(graph) {}
    const Graph& graph() const { return graph_; }
    // True when the newest opset row that the graph may use has this operator (any, once lowering).
    bool available(std::string_view op_type, std::string_view domain = "") const;
    ValueId constant(Tensor tensor, std::string_view name = "const");
    ValueId constant_ints(const std::vector<int64_t>& values, bool scalar = false);
    ValueId constant_float(float value, DType dtype = DType::f32);  // a scalar
    // Adds a node (facts of its outputs are inferred at once) and gives its first output; the others' ids follow.
    ValueId node(std::string_view op_type, const ValueIds& inputs, Attributes attributes = {},
                 std::string_view domain = "", int outputs = 1);
    // As above for a prepared node (op_type, domain, op, inputs, attributes); gives its outputs.
    ValueIds node(Node node, int outputs);
    // Facts of values, new ones included.
    const Fact& fact(ValueId id) const { return graph_.fact(id); }
    // Every use of `from` becomes a use of `to`.
    void replace(ValueId from, ValueId to) { replaced_.push_back({from, to}); }

    const std::vector<std::pair<ValueId, ValueId>>& replaced() const { return replaced_; }
    const std::vector<NodeId>& added() const { return added_; }

  private:
    Graph& graph_;
    std::vector<NodeId> added_;
    std::vector<std::pair<ValueId, ValueId>> replaced_;
};

}  // namespace linnet
