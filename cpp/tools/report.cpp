// Tables that read well.
#include "tools/report.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include "base/error.h"

namespace linnet::tools {
namespace {

template <class... Args>
std::string format(const char* pattern, Args... args) {
    char line[512];
    const int size = std::snprintf(line, sizeof line, pattern, args...);
    return std::string(line, static_cast<size_t>(std::clamp(size, 0, static_cast<int>(sizeof line) - 1)));
}

std::string shortened(std::string text, size_t most) {
    if (text.size() > most) text = text.substr(0, most - 3) + "...";
    return text;
}

}  // namespace

Times summarize(std::vector<double> ms) {
    Times times;
    times.runs = ms.size();
    if (ms.empty()) return times;
    std::sort(ms.begin(), ms.end());
    const size_t n = ms.size();
    times.min = ms.front();
    times.median = n % 2 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2;
    times.p90 = ms[std::min(n - 1, n * 9 / 10)];
    times.mean = std::accumulate(ms.begin(), ms.end(), 0.0) / static_cast<double>(n);
    return times;
}

std::string plan_text(const Graph& graph, const Plan& plan) {
    static const char* const kKinds[] = {"kernel", "view", "dynamic"};
    std::string text = format("%5s  %-8s %-26s %-34s %s\n", "step", "kind", "operator", "name", "output");
    for (size_t i = 0; i < plan.steps.size(); ++i) {
        const Step& step = plan.steps[i];
        const Node& node = graph.node(step.node);
        std::string output;
        for (const ValueId id : node.outputs) {
            if (id == kNoValue) continue;
            const Fact& fact = plan.facts[static_cast<size_t>(id)];
            if (!output.empty()) output += "; ";
            output += fact.is_static() ? cat(dtype_name(fact.dtype), ' ', shape_text(fact.shape)) : std::string("?");
        }
        const std::string op = node.domain.empty() ? node.op_type : node.domain + '.' + node.op_type;
        text += format("%5zu  %-8s %-26s %-34s %s", i, kKinds[static_cast<int>(step.kind)], shortened(op, 26).c_str(),
                       shortened(node.name, 34).c_str(), shortened(output, 80).c_str());
        if (step.scratch) text += format(" (+%.1f KiB scratch)", static_cast<double>(step.scratch) / 1024);
        text += '\n';
    }
    text +=
        format("%zu steps; intermediates take %.2f MiB in one arena (%.2f MiB without sharing)\n", plan.steps.size(),
               static_cast<double>(plan.arena_bytes) / (1 << 20), static_cast<double>(plan.unshared_bytes) / (1 << 20));
    for (const FloatNode& node : graph.float_nodes)
        text += cat("stays float: ", node.op_type, " '", shortened(node.name, 60), "': ", node.why, "\n");
    return text;
}

std::vector<OpTime> profile_by_op(const std::vector<ProfileEvent>& events, int64_t from_run) {
    std::map<std::string, OpTime> by_op;
    double total = 0;
    int64_t last = from_run;
    for (const ProfileEvent& event : events) {
        if (event.run < from_run) continue;
        OpTime& op = by_op[event.op];
        op.op = event.op;
        ++op.calls;
        op.milliseconds += event.duration_us / 1000;
        total += event.duration_us / 1000;
        last = std::max(last, event.run);
    }
    const auto runs = static_cast<double>(last - from_run + 1);
    std::vector<OpTime> list;
    for (auto& [name, op] : by_op) {
        op.share = total > 0 ? op.milliseconds / total : 0;
        op.milliseconds /= runs;
        op.calls = static_cast<size_t>(static_cast<double>(op.calls) / runs);
        list.push_back(op);
    }
    std::sort(list.begin(), list.end(),
              [](const OpTime& a, const OpTime& b) { return a.milliseconds > b.milliseconds; });
    return list;
}

std::string profile_text(const std::vector<ProfileEvent>& events, int64_t from_run) {
    std::string text = format("%-28s %6s %10s %7s\n", "operator", "calls", "ms a run", "share");
    for (const OpTime& op : profile_by_op(events, from_run))
        text += format("%-28s %6zu %10.3f %6.1f%%\n", shortened(op.op, 28).c_str(), op.calls, op.milliseconds,
                       100 * op.share);
    // The most expensive nodes of the last run.
    std::vector<const ProfileEvent*> nodes;
    int64_t last = 0;
    for (const ProfileEvent& event : events) last = std::max(last, event.run);
    for (const ProfileEvent& event : events)
        if (event.run == last) nodes.push_back(&event);
    std::sort(nodes.begin(), nodes.end(),
              [](const ProfileEvent* a, const ProfileEvent* b) { return a->duration_us > b->duration_us; });
    if (nodes.size() > 15) nodes.resize(15);
    text += format("\n%-40s %-24s %10s %9s  %s\n", "node (last run)", "operator", "ms", "GMAC/s", "shapes");
    for (const ProfileEvent* event : nodes) {
        const std::string rate =
            event->macs > 0 ? format("%.1f", static_cast<double>(event->macs) / event->duration_us / 1000) : "";
        text +=
            format("%-40s %-24s %10.3f %9s  %s\n", shortened(event->name, 40).c_str(), shortened(event->op, 24).c_str(),
                   event->duration_us / 1000, rate.c_str(), shortened(event->shapes, 100).c_str());
    }
    return text;
}

std::string quoted(const std::string& text) { return '"' + json_escape(text) + '"'; }

}  // namespace linnet::tools
