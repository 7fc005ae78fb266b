// Times of steps, for the profile command and for traces.
#pragma once
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace linnet {

struct ProfileEvent {
    std::string name;     // of the node
    std::string op;       // operator, with its domain when it is not ai.onnx
    double start_us = 0;  // since the profiler was made
    double duration_us = 0;
    int64_t run = 0;     // 0, 1, ...: which run
    int depth = 0;       // > 0: a step of a subgraph, within the time of the step that holds it
    std::string shapes;  // of inputs and outputs: "1x3x224x224 -> 1x64x112x112"
    int64_t macs = 0;    // multiply-adds, where the operator's cost is known
    int64_t bytes = 0;   // of inputs (weights included) and outputs
};

class Profiler {
  public:
    // Events kept; later ones are dropped, so that a session that is profiled for ever does not eat all memory.
    static constexpr size_t kMostEvents = 1000000;

    Profiler();
    double now_us() const;
    int64_t next_run();
    void add(ProfileEvent event);
    std::vector<ProfileEvent> events() const;
    // Chrome trace-event format (a JSON array), which Perfetto and chrome://tracing open. A step is an event of
    // category "Node" with "op_name" among its arguments, as in onnxruntime's traces.
    std::string trace_json() const;

  private:
    double origin_;
    mutable std::mutex mutex_;
    int64_t runs_ = 0;
    std::vector<ProfileEvent> events_;
};

// `text` with JSON's escapes, without quotes.
std::string json_escape(const std::string& text);

}  // namespace linnet
