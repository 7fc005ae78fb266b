// linnet-run: loads a model, runs it on given or random inputs, checks and measures it. The native command, which is
// cross-built for boards without Python.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <new>

#include "base/error.h"
#include "kernels/kernels.h"
#include "onnx/writer.h"
#include "tools/arguments.h"
#include "tools/feeds.h"
#include "tools/files.h"
#include "tools/report.h"
#include "tools/suite.h"

namespace linnet::tools {
namespace {

constexpr int kFailed = 1, kUsage = 2, kDiffers = 3;

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

// A file name for an output: its name, without what a path would take for a folder.
std::string file_name(std::string name) {
    for (char& c : name)
        if (c == '/' || c == '\\' || c == ':' || c == '\0') c = '_';
    return (name.empty() || name[0] == '.' ? "_" + name : name) + ".npy";
}

void write_outputs(const Session& session, const std::string& folder, const std::vector<Value>& results) {
    std::filesystem::create_directories(folder);
    for (size_t i = 0; i < results.size(); ++i) {
        if (results[i].kind != Value::Kind::tensor)
            fail(ErrorKind::invalid_argument, "output '", session.outputs()[i].name, "' is not a tensor: no .npy form");
        onnx::write_file(std::filesystem::path(folder) / file_name(session.outputs()[i].name),
                         write_npy(results[i].tensor));
    }
}

// Smallest, largest and mean element, to see at a glance whether a result makes sense.
std::string statistics(const Value& value) {
    if (value.kind != Value::Kind::tensor || value.tensor.count() == 0) return "";
    const Tensor& t = value.tensor;
    if (!is_float(t.dtype) && !is_int(t.dtype)) return "";
    double low = INFINITY, high = -INFINITY, sum = 0;
    int64_t odd = 0;
    const int64_t count = t.count();
    for (int64_t i = 0; i < count; ++i) {
        const double x = double_at(t, i);
        if (!std::isfinite(x)) {
            ++odd;
            continue;
        }
        low = std::min(low, x);
        high = std::max(high, x);
        sum += x;
    }
    std::string text;
    if (odd < count) text = cat("  min ", low, ", max ", high, ", mean ", sum / static_cast<double>(count - odd));
    if (odd > 0) text += cat(odd < count ? ", " : "  ", odd, " not finite");
    return text;
}

struct Report {
    double load_ms = 0, first_ms = 0;
    std::vector<Feed> feeds;
    std::vector<Value> results;
    std::vector<Check> checks;
    Times times;
    int64_t first_measured_run = 0;
};

void print_text(Session& session, const Arguments& arguments, const Report& report) {
    const ModelInfo& info = session.info();
    std::string opsets;
    for (const auto& [domain, version] : info.opsets)
        opsets += cat(opsets.empty() ? "" : ", ", domain.empty() ? "opset" : domain, ' ', version);
    std::printf("model    %s (%s%s%s%s%s)\n", arguments.model.c_str(), opsets.c_str(),
                info.producer_name.empty() ? "" : ", ", info.producer_name.c_str(),
                info.producer_version.empty() ? "" : " ", info.producer_version.c_str());
    std::printf("loaded   in %.1f ms; %d thread%s, %s kernels\n", report.load_ms, session.threads(),
                session.threads() == 1 ? "" : "s", kernels::kernels().isa);
    for (const Feed& feed : report.feeds)
        std::printf("input    %s <- %s (%s)\n", describe(port_named(session.inputs(), feed.name, "input")).c_str(),
                    describe(feed.value).c_str(), feed.source.c_str());
    for (size_t i = 0; i < report.results.size(); ++i)
        std::printf("output   %s: %s%s\n", session.outputs()[i].name.c_str(), describe(report.results[i]).c_str(),
                    statistics(report.results[i]).c_str());
    for (const Check& check : report.checks) {
        if (check.comparison.equal)
            std::printf("check    %s: equal (largest difference %.3g)\n", check.name.c_str(), check.comparison.worst);
        else std::printf("check    %s: DIFFERS: %s\n", check.name.c_str(), check.comparison.message.c_str());
    }
    std::printf("first    run took %.3f ms\n", report.first_ms);
    if (report.times.runs > 0)
        std::printf("latency  median %.3f ms, min %.3f, p90 %.3f, mean %.3f over %zu runs\n", report.times.median,
                    report.times.min, report.times.p90, report.times.mean, report.times.runs);
    if (arguments.profile)
        std::printf("\n%s", profile_text(session.profiler().events(), report.first_measured_run).c_str());
}

void print_json(Session& session, const Arguments& arguments, const Report& report, const Plan* plan) {
    std::string out = cat("{\"model\": ", quoted(arguments.model), ", \"version\": ", quoted(LINNET_VERSION),
                          ", \"isa\": ", quoted(kernels::kernels().isa), ", \"threads\": ", session.threads(),
                          ", \"load_ms\": ", report.load_ms, ", \"first_ms\": ", report.first_ms);
    const auto list = [&](const char* key, const auto& items, const auto& each) {
        out += cat(", \"", key, "\": [");
        for (size_t i = 0; i < items.size(); ++i) out += cat(i ? ", " : "", each(i));
        out += ']';
    };
    const auto value_json = [](const std::string& name, const Value& value) {
        return cat("{\"name\": ", quoted(name), ", \"value\": ", quoted(describe(value)));
    };
    list("inputs", report.feeds, [&](size_t i) {
        const Feed& feed = report.feeds[i];
        return cat(value_json(feed.name, feed.value), ", \"source\": ", quoted(feed.source), "}");
    });
    list("outputs", report.results,
         [&](size_t i) { return value_json(session.outputs()[i].name, report.results[i]) + "}"; });
    list("checks", report.checks, [&](size_t i) {
        const Check& check = report.checks[i];
        return cat("{\"name\": ", quoted(check.name), ", \"equal\": ", check.comparison.equal ? "true" : "false",
                   ", \"largest_difference\": ", check.comparison.worst,
                   ", \"message\": ", quoted(check.comparison.message), "}");
    });
    if (report.times.runs > 0)
        out += cat(", \"latency_ms\": {\"median\": ", report.times.median, ", \"min\": ", report.times.min,
                   ", \"p90\": ", report.times.p90, ", \"mean\": ", report.times.mean,
                   ", \"runs\": ", report.times.runs, "}");
    if (plan)
        out += cat(", \"plan\": {\"steps\": ", plan->steps.size(), ", \"arena_bytes\": ", plan->arena_bytes,
                   ", \"unshared_bytes\": ", plan->unshared_bytes, "}");
    if (arguments.profile) {
        const auto ops = profile_by_op(session.profiler().events(), report.first_measured_run);
        list("profile", ops, [&](size_t i) {
            return cat("{\"op\": ", quoted(ops[i].op), ", \"calls\": ", ops[i].calls, ", \"ms\": ", ops[i].milliseconds,
                       ", \"share\": ", ops[i].share, "}");
        });
    }
    std::printf("%s}\n", out.c_str());
}

int run(const Arguments& arguments) {
    Report report;
    const double begin = now_ms();
    Session session(std::filesystem::path(arguments.model), arguments.session);
    report.load_ms = now_ms() - begin;
    if (!arguments.dump.empty()) {
        std::fputs(session.dump(arguments.dump).c_str(), stdout);
        return 0;
    }
    report.feeds = make_feeds(session, arguments);

    const std::vector<std::pair<std::string, Value>> feeds = values_of(report.feeds);
    std::vector<std::pair<std::string, Shape>> shapes;
    for (const Feed& feed : report.feeds) {
        if (feed.value.kind == Value::Kind::tensor) shapes.emplace_back(feed.name, feed.value.tensor.shape);
    }
    std::shared_ptr<const Plan> plan;
    if (arguments.plan) plan = session.plan_for(shapes);
    if (plan && !arguments.json) std::fputs((plan_text(session.graph(), *plan) + "\n").c_str(), stdout);

    double start = now_ms();
    report.results = session.run(feeds, {}, arguments.run);
    report.first_ms = now_ms() - start;
    if (!arguments.output_folder.empty()) write_outputs(session, arguments.output_folder, report.results);
    report.checks = check_outputs(session, arguments, report.results);
    if (arguments.repeat > 0) {
        for (int64_t i = 0; i < arguments.warmup; ++i) session.run(feeds, {}, arguments.run);
        report.first_measured_run = 1 + arguments.warmup;
        std::vector<double> times;
        for (int64_t i = 0; i < arguments.repeat; ++i) {
            start = now_ms();
            session.run(feeds, {}, arguments.run);
            times.push_back(now_ms() - start);
        }
        report.times = summarize(std::move(times));
    }
    if (!arguments.trace.empty()) onnx::write_file(arguments.trace, session.profiler().trace_json());
    if (arguments.json) print_json(session, arguments, report, plan.get());
    else print_text(session, arguments, report);
    for (const Check& check : report.checks)
        if (!check.comparison.equal) return kDiffers;
    return 0;
}

int guarded_main(int count, const char* const* values) {
    std::optional<Arguments> arguments;
    try {
        arguments = parse_arguments(count, values);
    } catch (const Error& error) {
        std::fprintf(stderr, "linnet-run: %s\n", error.what());
        return kUsage;
    }
    if (!arguments) return 0;
    if (arguments->tests_folder.empty()) return run(*arguments);
    return run_tests(*arguments) == 0 ? 0 : kDiffers;
}

}  // namespace
}  // namespace linnet::tools

int main(int count, char** values) {
    try {
        return linnet::tools::guarded_main(count, values);
    } catch (const std::bad_alloc&) {
        std::fputs("linnet-run: out of memory\n", stderr);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "linnet-run: %s\n", error.what());
    }
    return linnet::tools::kFailed;
}
