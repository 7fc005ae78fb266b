// linnet-run: loads a model, runs it on given or random inputs, checks and measures it. The native command, which is
// cross-built for boards without Python.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>

#include "base/error.h"
#include "base/half.h"
#include "kernels/kernels.h"
#include "onnx/writer.h"
#include "tools/arguments.h"
#include "tools/compare.h"
#include "tools/files.h"
#include "tools/report.h"

namespace linnet::tools {
namespace {

constexpr int kFailed = 1, kUsage = 2, kDiffers = 3;

double now_ms() {
    using namespace std::chrono;
    return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

// SplitMix64 (Steele, Lea and Flood, 2014): the same numbers on every machine.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t bits() {
        uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    float unit() { return static_cast<float>(bits() >> 40) / static_cast<float>(1 << 24); }  // [0, 1)

  private:
    uint64_t state_;
};

// Floats lie in [-1, 1), 8-bit integers anywhere, other integers are 0 or 1 (they are often indices).
void fill(Tensor& tensor, Random& random) {
    const auto each = [&](auto* to, const auto& make) {
        for (int64_t i = 0, count = tensor.count(); i < count; ++i) to[i] = make();
    };
    const auto real = [&] { return 2 * random.unit() - 1; };
    const auto bit = [&] { return static_cast<uint8_t>(random.bits() >> 63); };
    switch (tensor.dtype) {
        case DType::f32: return each(tensor.as<float>(), real);
        case DType::f64: return each(tensor.as<double>(), real);
        case DType::f16: return each(tensor.as<Half>(), [&] { return to_half(real()); });
        case DType::bf16: return each(tensor.as<BFloat16>(), [&] { return to_bfloat16(real()); });
        case DType::u8:
        case DType::i8: return each(tensor.as<uint8_t>(), [&] { return static_cast<uint8_t>(random.bits() >> 56); });
        case DType::u16:
        case DType::i16: return each(tensor.as<uint16_t>(), bit);
        case DType::u32:
        case DType::i32: return each(tensor.as<uint32_t>(), bit);
        case DType::u64:
        case DType::i64: return each(tensor.as<uint64_t>(), bit);
        case DType::string: return each(tensor.as<std::string>(), [&] { return bit() ? "a" : "b"; });
        default:
            if (dtype_size(tensor.dtype) == 1) return each(tensor.as<uint8_t>(), bit);
            std::memset(tensor.data, 0, tensor.bytes());
    }
}

std::string describe(const PortInfo& port) {
    std::string text = cat(port.name, ": ", dtype_name(port.fact.dtype));
    if (port.fact.kind == Value::Kind::sequence) text += " sequence";
    if (port.fact.kind == Value::Kind::map) text += " map";
    if (!port.fact.ranked) return text + " [any shape]";
    text += " [";
    for (size_t i = 0; i < port.fact.shape.size(); ++i) {
        if (i > 0) text += ", ";
        if (is_number(port.fact.shape[i])) text += std::to_string(port.fact.shape[i]);
        else text += port.dimension_names[i].empty() ? "?" : port.dimension_names[i];
    }
    return text + "]";
}

std::string describe(const Value& value) {
    switch (value.kind) {
        case Value::Kind::tensor: return cat(dtype_name(value.tensor.dtype), ' ', shape_text(value.tensor.shape));
        case Value::Kind::sequence: return cat("sequence of ", value.items->size());
        case Value::Kind::map: return cat("map of ", value.items->at(0).tensor.count());
        default: return "absent";
    }
}

struct Feed {
    std::string name;
    Value value;
    std::string source;  // for the report
};

const PortInfo& port_named(const std::vector<PortInfo>& ports, const std::string& name, const char* what) {
    std::string names;
    for (const PortInfo& port : ports) {
        if (port.name == name) return port;
        names += (names.empty() ? "'" : ", '") + port.name + "'";
    }
    fail(ErrorKind::invalid_argument, "there is no ", what, " '", name, "'; the model has ", names);
}

Value random_input(const PortInfo& port, const Arguments& arguments, Random& random) {
    Shape shape = port.fact.shape;
    bool given = false;
    for (const auto& [name, sizes] : arguments.shapes) {
        if (name != port.name) continue;
        shape = sizes;
        given = true;
    }
    if (!given && !port.fact.ranked)
        fail(ErrorKind::invalid_argument, "input '", port.name, "' may have any shape: give one with --shape");
    if (port.fact.kind != Value::Kind::tensor)
        fail(ErrorKind::invalid_argument, "input '", port.name, "' is not a tensor: give its value with --input");
    for (int64_t& size : shape)
        if (!is_number(size)) size = 1;
    Tensor tensor = Tensor::allocate(port.fact.dtype, shape);
    fill(tensor, random);
    return tensor;
}

std::vector<Feed> make_feeds(const Session& session, const Arguments& arguments) {
    for (const auto& [name, file] : arguments.inputs) port_named(session.inputs(), name, "input");
    for (const auto& [name, shape] : arguments.shapes) port_named(session.inputs(), name, "input");
    Random random(arguments.seed);
    std::vector<Feed> feeds;
    for (size_t i = 0; i < session.inputs().size(); ++i) {
        const PortInfo& port = session.inputs()[i];
        Feed feed{port.name, {}, ""};
        for (const auto& [name, file] : arguments.inputs)
            if (name == port.name) feed.source = file;
        const std::filesystem::path tested = std::filesystem::path(arguments.check_folder) / cat("input_", i, ".pb");
        if (feed.source.empty() && !arguments.check_folder.empty() && std::filesystem::exists(tested))
            feed.source = tested.string();
        if (!feed.source.empty()) {
            feed.value = read_value(feed.source, port.fact);
        } else if (port.fact.optional) {
            continue;
        } else {
            feed.value = random_input(port, arguments, random);
            feed.source = cat("random, seed ", arguments.seed);
        }
        feeds.push_back(std::move(feed));
    }
    return feeds;
}

struct Check {
    std::string name;
    Comparison comparison;
};

std::vector<Check> check_outputs(const Session& session, const Arguments& arguments,
                                 const std::vector<Value>& results) {
    std::vector<Check> checks;
    const auto add = [&](size_t i, const std::filesystem::path& file) {
        const PortInfo& port = session.outputs()[i];
        checks.push_back({port.name, compare(results[i], read_value(file, port.fact), arguments.rtol, arguments.atol)});
    };
    for (const auto& [name, file] : arguments.checks)
        add(static_cast<size_t>(&port_named(session.outputs(), name, "output") - session.outputs().data()), file);
    if (!arguments.check_folder.empty()) {
        for (size_t i = 0; i < results.size(); ++i) {
            const auto file = std::filesystem::path(arguments.check_folder) / cat("output_", i, ".pb");
            if (std::filesystem::exists(file)) add(i, file);
        }
        if (checks.empty()) fail(ErrorKind::no_such_file, "there is no output_0.pb in '", arguments.check_folder, "'");
    }
    return checks;
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

    std::vector<std::pair<std::string, Value>> feeds;
    std::vector<std::pair<std::string, Shape>> shapes;
    for (const Feed& feed : report.feeds) {
        feeds.emplace_back(feed.name, feed.value);
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
    return arguments ? run(*arguments) : 0;
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
