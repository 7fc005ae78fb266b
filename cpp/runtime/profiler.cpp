// Events of steps, and the trace file made of them.
#include "runtime/profiler.h"

#include <chrono>
#include <cstdio>

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

std::string Profiler::trace_json() const {
    std::string out = "[";
    bool first = true;
    for (const ProfileEvent& e : events()) {
        char times[96];
        std::snprintf(times, sizeof times, "\"ts\":%.3f,\"dur\":%.3f", e.start_us, e.duration_us);
        out += first ? "\n" : ",\n";
        first = false;
        out += "{\"ph\":\"X\",\"pid\":1,\"tid\":1,\"cat\":\"Node\"," + std::string(times) + ",\"name\":\"" +
               json_escape(e.name) + "\",\"args\":{\"op_name\":\"" + json_escape(e.op) + "\",\"shapes\":\"" +
               json_escape(e.shapes) + "\",\"macs\":" + std::to_string(e.macs) +
               ",\"bytes\":" + std::to_string(e.bytes) + ",\"run\":" + std::to_string(e.run) +
               ",\"depth\":" + std::to_string(e.depth) + "}}";
    }
    return out + "\n]\n";
}

}  // namespace linnet
