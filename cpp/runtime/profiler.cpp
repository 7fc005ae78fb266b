// Events of steps, and the trace file made of them.
#include "runtime/profiler.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <utility>

#include "base/error.h"

namespace linnet {
namespace {

double clock_us() {
    return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Profiler::Profiler() : origin_(clock_us()) {}

double Profiler::now_us() const { return clock_us() - origin_; }

int64_t Profiler::next_run() {
    std::lock_guard lock(mutex_);
    return runs_++;
}

void Profiler::add(ProfileEvent event) {
    std::lock_guard lock(mutex_);
    if (events_.size() < kMostEvents) events_.push_back(std::move(event));
}

std::vector<ProfileEvent> Profiler::events() const {
    std::lock_guard lock(mutex_);
    return events_;
}

std::string json_escape(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", c);
            out += code;
        } else {
            out += c;
        }
    }
    return out;
}

// As onnxruntime writes it, so that what reads its traces reads these: events of category "Node" are steps, their names
// end in "_kernel_time"; "model_run" of category "Session" is a whole run.
std::string Profiler::trace_json() const {
    std::string out = "[";
    const auto begin = [&](const char* category, const std::string& name, double start, double duration) {
        char times[96];
        std::snprintf(times, sizeof times, "\"ts\":%.3f,\"dur\":%.3f", start, duration);
        out += out.size() > 1 ? ",\n" : "\n";
        out += cat("{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"cat\":\"", category, "\",", times, ",\"name\":\"",
                   json_escape(name), "\",\"args\":{");
    };
    std::map<int64_t, std::pair<double, double>> runs;
    for (const ProfileEvent& e : events()) {
        const double end = e.start_us + e.duration_us;
        auto& [first, last] = runs.try_emplace(e.run, e.start_us, end).first->second;
        first = std::min(first, e.start_us);
        last = std::max(last, end);
        begin("Node", e.name + "_kernel_time", e.start_us, e.duration_us);
        out += "\"op_name\":\"" + json_escape(e.op) + "\",\"provider\":\"CPUExecutionProvider\",\"shapes\":\"" +
               json_escape(e.shapes) + "\",\"macs\":" + std::to_string(e.macs) +
               ",\"bytes\":" + std::to_string(e.bytes) + ",\"run\":" + std::to_string(e.run) +
               ",\"depth\":" + std::to_string(e.depth) + "}}";
    }
    for (const auto& [run, span] : runs) {
        begin("Session", "model_run", span.first, span.second - span.first);
        out += cat("\"run\":", run, "}}");
    }
    return out + "\n]\n";
}

}  // namespace linnet
