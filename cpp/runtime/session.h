// A loaded model: what every face (Python, C, command line, server) talks to.
#pragma once
#include <atomic>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/memory.h"
#include "graph/custom.h"
#include "graph/fact.h"
#include "onnx/model.h"
#include "runtime/describe.h"
#include "runtime/program.h"

namespace linnet {

struct SessionOptions {
    Limits limits;             // of the model
    int64_t memory_limit = 0;  // bytes for weights, intermediates and results under way; 0: what the process may use
    int threads = 0;           // per run; 0: as many as CPUs that the process may use
    int optimization = 2;      // 0: none, 1: simplify, 2: everything
    bool exact = false;        // no algorithm that rounds more than a reordered sum does
    bool profile = false;      // record the time of every step
    std::map<std::string, int64_t> dimensions;   // numbers for symbolic input dimensions, by name
    std::map<std::string, int64_t> denotations;  // the same, by what they denote
    std::map<std::string, Tensor> initializers;  // to take instead of the model's, by name
    std::vector<std::string> extra_outputs;      // values inside the model that are outputs, too
    std::filesystem::path optimized_model;       // where to write the simplified model as ONNX; empty: nowhere
    int64_t stop_after = -1;                     // passes stop after so many changes (to bisect)
    std::string title;                           // what messages call the model; empty: its path
};

struct RunOptions {
    std::shared_ptr<const std::atomic<bool>> terminate;  // set to true by another thread to stop the run
    std::chrono::milliseconds time_limit{0};             // 0: none
    int threads = 0;                                     // fewer than the session's own; 0: as many
};

// An input or output as the model declares it.
struct PortInfo {
    std::string name;
    Fact fact;
    // Text per dimension of a symbol ("batch"); empty where the dimension is a number or has no name.
    std::vector<std::string> dimension_names;
};

struct ModelInfo {
    std::string producer_name, producer_version, domain, graph_name, description, graph_description;
    int64_t version = 0, ir_version = 0;
    std::vector<std::pair<std::string, int64_t>> opsets;
    std::vector<std::pair<std::string, std::string>> metadata;
};

class Session {
  public:
    explicit Session(const std::filesystem::path& path, const SessionOptions& options = {});
    // `owner` keeps the bytes alive; null has them copied.
    Session(onnx::Bytes bytes, std::shared_ptr<const void> owner, const SessionOptions& options = {});

    const std::vector<PortInfo>& inputs() const { return inputs_; }
    const std::vector<PortInfo>& outputs() const { return outputs_; }
    // Initializers that a run may be fed instead (they are listed as inputs, from IR version 4 on).
    const std::vector<PortInfo>& overridable() const { return overridable_; }
    // The input or overridable initializer of that name, null when there is none; the input `hint` is tried first.
    const PortInfo* find_input(std::string_view name, size_t hint = 0) const;
    const ModelInfo& info() const { return info_; }
    const SessionOptions& options() const { return options_; }
    int threads() const { return threads_; }
    // Bytes that count towards the memory limit at the moment.
    int64_t memory_used() const { return memory_->used(); }

    // Throws invalid_argument when the value does not fit the port, saying what was expected.
    void check_feed(const PortInfo& port, const Value& value) const;
    // Runs the model. `feeds`: every input by name (its memory must stay valid during the call). `wanted`: names of
    // outputs, empty for all. `destinations`: memory for the wanted outputs (undefined: allocate). Thread-safe. Throws
    // invalid_argument for inputs that do not fit, saying what was expected.
    std::vector<Value> run(const std::vector<std::pair<std::string, Value>>& feeds,
                           const std::vector<std::string>& wanted = {}, const RunOptions& options = {},
                           const std::vector<Tensor>& destinations = {});

    // The graph as text after a stage: "build", "simplify" or "lower".
    std::string dump(const std::string& stage = "lower") const;
    // The same as facts that can be shown, for inputs of these shapes.
    GraphInfo describe(const std::string& stage, const std::vector<std::pair<std::string, Shape>>& shapes) const;
    const Graph& graph() const { return program_->graph(); }  // lowered
    // The plan for inputs of these shapes (dims that the model fixes must match); unknown dims are errors.
    // Throws invalid_argument for an input that `shapes` leaves with unknown dims.
    std::shared_ptr<const Plan> plan_for(const std::vector<std::pair<std::string, Shape>>& shapes) const;
    Profiler& profiler() { return *profiler_; }

  private:
    // Another one of the same model in which the initializers `fed` are inputs.
    Session(const Session& other, std::set<std::string> fed);
    void load(const std::function<std::shared_ptr<const onnx::Model>()>& read);
    void read_info();
    Session& with_inputs(std::set<std::string> fed);
    std::unique_ptr<Graph> build(bool distinct_dimensions) const;
    void optimize(Graph& graph, bool save) const;  // simplifies (and saves, where the options ask) and lowers
    std::unique_ptr<Program> make_program(std::shared_ptr<Graph> graph, bool distinct_dimensions) const;
    std::unique_ptr<Graph> stage(const std::string& stage) const;
    std::vector<Fact> input_facts(const std::vector<std::pair<std::string, Shape>>& shapes) const;
    Program& program_for(const std::vector<Value>& inputs);

    SessionOptions options_;
    int threads_ = 1;
    std::string origin_;
    std::vector<PortInfo> inputs_, outputs_, overridable_;
    ModelInfo info_;
    std::unique_ptr<Program> program_;
    std::set<std::string> fed_;                 // initializers that are inputs here
    std::mutex mutex_;                          // guards unnamed_program_ and fed_sessions_
    std::unique_ptr<Program> unnamed_program_;  // made at need by program_for
    std::map<std::set<std::string>, std::unique_ptr<Session>> fed_sessions_;  // made at need by with_inputs
    std::shared_ptr<Profiler> profiler_;
    std::shared_ptr<const onnx::Model> model_;
    std::shared_ptr<const CustomOps> custom_ = custom_ops();  // for graphs that are built again
    std::shared_ptr<MemoryAccount> memory_;
};

}  // namespace linnet
