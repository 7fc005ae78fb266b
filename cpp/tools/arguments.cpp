// Options of linnet-run: one table, from which the help is printed too.
#include "tools/arguments.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "base/error.h"
#include "kernels/kernels.h"

namespace linnet::tools {
namespace {

struct Option {
    std::string_view name;
    std::string_view value;  // how the help calls it; empty: a switch
    std::string_view help;
    void (*set)(Arguments&, const std::string&);
};

template <class... Parts>
[[noreturn]] void usage(const Parts&... parts) {
    fail(ErrorKind::invalid_argument, parts..., " (linnet-run --help tells more)");
}

int64_t number(std::string_view text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value < 0)
        usage("'", text, "' is not a number from 0 on");
    return value;
}

double real(const std::string& text) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != 0 || !(value >= 0)) usage("'", text, "' is not a number from 0 on");
    return value;
}

// "name=value"; names of ONNX may contain '=', values here do not begin with one, so the last one counts.
std::pair<std::string, std::string> named(const std::string& text) {
    const size_t at = text.rfind('=');
    if (at == std::string::npos || at == 0) usage("'", text, "' has not the form NAME=VALUE");
    return {text.substr(0, at), text.substr(at + 1)};
}

Shape sizes(const std::string& text) {
    Shape shape;
    if (text.empty() || text == "scalar") return shape;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find_first_of(",x", at), text.size());
        shape.push_back(number(std::string_view(text).substr(at, end - at)));
        at = end + 1;
    }
    return shape;
}

const Option kOptions[] = {
    {"--input", "NAME=FILE", "an input's value, a .npy or .pb file; inputs without one get random values",
     [](Arguments& a, const std::string& v) { a.inputs.push_back(named(v)); }},
    {"--shape", "NAME=1,3,224,224", "an input's shape, where the model leaves sizes open and no file tells it",
     [](Arguments& a, const std::string& v) {
         const auto [name, text] = named(v);
         a.shapes.emplace_back(name, sizes(text));
     }},
    {"--dim", "NAME=8", "a number for a symbolic size of the model (open sizes are 1 otherwise)",
     [](Arguments& a, const std::string& v) {
         const auto [name, text] = named(v);
         a.session.dimensions[name] = number(text);
     }},
    {"--random-seed", "N", "where random values begin (1)",
     [](Arguments& a, const std::string& v) { a.seed = static_cast<uint64_t>(number(v)); }},
    {"--output", "FOLDER", "write every output there as NAME.npy",
     [](Arguments& a, const std::string& v) { a.output_folder = v; }},
    {"--check", "FOLDER", "run with its input_N.pb and compare with its output_N.pb; exit status 3 if they differ",
     [](Arguments& a, const std::string& v) {
         if (v.find('=') == std::string::npos || std::filesystem::is_directory(v)) a.check_folder = v;
         else a.checks.push_back(named(v));
     }},
    {"--check", "NAME=FILE", "compare one output with a .npy or .pb file", nullptr},
    {"--tests", "FOLDER", "instead of MODEL: run every folder in it that has a model.onnx and test_data_set_N folders",
     [](Arguments& a, const std::string& v) { a.tests_folder = v; }},
    {"--rtol", "X", "relative tolerance of --check (1e-3)",
     [](Arguments& a, const std::string& v) { a.rtol = real(v); }},
    {"--atol", "X", "absolute tolerance of --check (1e-5)",
     [](Arguments& a, const std::string& v) { a.atol = real(v); }},
    {"--repeat", "N", "measure the time of N more runs",
     [](Arguments& a, const std::string& v) { a.repeat = number(v); }},
    {"--warmup", "N", "runs before those that are measured (3)",
     [](Arguments& a, const std::string& v) { a.warmup = number(v); }},
    {"--threads", "N", "threads of a run (0: as many as there are CPUs)",
     [](Arguments& a, const std::string& v) {
         const int64_t threads = number(v);
         if (threads > 4096) usage("--threads ", threads, ": at most 4096");
         a.session.threads = static_cast<int>(threads);
     }},
    {"--optimization", "N", "0: none, 1: what ONNX can express, 2: everything (2)",
     [](Arguments& a, const std::string& v) {
         const int64_t level = number(v);
         if (level > 2) usage("--optimization ", level, ": 0, 1 or 2 expected");
         a.session.optimization = static_cast<int>(level);
     }},
    {"--exact", "", "no algorithm that rounds more than a reordered sum does",
     [](Arguments& a, const std::string&) { a.session.exact = true; }},
    {"--memory-limit", "BYTES", "of weights, intermediates and results together (0: what the process may use)",
     [](Arguments& a, const std::string& v) { a.session.memory_limit = number(v); }},
    {"--time-limit", "MS", "milliseconds of a run (0: as long as it takes)",
     [](Arguments& a, const std::string& v) { a.run.time_limit = std::chrono::milliseconds(number(v)); }},
    {"--save-optimized", "FILE", "write the simplified model as ONNX",
     [](Arguments& a, const std::string& v) { a.session.optimized_model = v; }},
    {"--dump", "STAGE", "print the graph after build, simplify or lower",
     [](Arguments& a, const std::string& v) { a.dump = v; }},
    {"--plan", "", "print the steps of a run and the memory they use",
     [](Arguments& a, const std::string&) { a.plan = true; }},
    {"--profile", "", "print where the time of the measured runs goes",
     [](Arguments& a, const std::string&) { a.profile = a.session.profile = true; }},
    {"--trace", "FILE", "write the profile for Perfetto or chrome://tracing",
     [](Arguments& a, const std::string& v) {
         a.trace = v;
         a.session.profile = true;
     }},
    {"--json", "", "print one JSON object instead of text", [](Arguments& a, const std::string&) { a.json = true; }},
    {"--version", "", "print the version and the kernels in use", nullptr},
    {"--help", "", "print this", nullptr},
};

const Option* find_option(std::string_view name) {
    for (const Option& option : kOptions)
        if (option.name == name) return &option;
    return nullptr;
}

}  // namespace

std::string help_text() {
    std::string text =
        "usage: linnet-run MODEL [options]\n\n"
        "Runs an ONNX model, on given or random inputs, and says what came out and how long it took.\n\n";
    for (const Option& option : kOptions) {
        std::string left = cat("  ", option.name, option.value.empty() ? "" : " ", option.value);
        left.resize(std::max<size_t>(left.size() + 2, 30), ' ');
        text += cat(left, option.help, '\n');
    }
    text +=
        "\nexamples:\n"
        "  linnet-run resnet50.onnx --repeat 50\n"
        "  linnet-run model.onnx --input x=x.npy --check y=y.npy\n"
        "  linnet-run test_relu/model.onnx --check test_relu/test_data_set_0\n"
        "  linnet-run --tests onnx/backend/test/data/node --atol 1e-7\n"
        "  linnet-run bert.onnx --dim batch=1 --dim sequence=128 --repeat 20 --profile\n"
        "\nexit status: 0 all is well, 1 the model cannot be loaded or run, 2 wrong usage, 3 a check failed\n";
    return text;
}

std::optional<Arguments> parse_arguments(int count, const char* const* values) {
    Arguments arguments;
    for (int i = 1; i < count; ++i) {
        std::string word = values[i];
        if (word == "--help" || word == "-h") {
            std::fputs(help_text().c_str(), stdout);
            return std::nullopt;
        }
        if (word == "--version") {
            std::printf("linnet %s (%s kernels)\n", LINNET_VERSION, kernels::kernels().isa);
            return std::nullopt;
        }
        if (word.empty() || word[0] != '-') {
            if (!arguments.model.empty()) usage("one model expected, but '", word, "' follows '", arguments.model, "'");
            arguments.model = word;
            continue;
        }
        const Option* option = find_option(word);
        std::string value;
        bool has_value = false;
        if (!option && word.find('=') != std::string::npos) {  // --threads=4
            value = word.substr(word.find('=') + 1);
            word.resize(word.find('='));
            option = find_option(word);
            has_value = true;
        }
        if (!option) usage("there is no option '", word, "'");
        if (option->value.empty() && has_value) usage(word, " takes no value");
        if (!option->value.empty() && !has_value) {
            if (i + 1 == count) usage(word, " needs ", option->value);
            value = values[++i];
        }
        option->set(arguments, value);
    }
    if (arguments.model.empty() && arguments.tests_folder.empty()) usage("no model is given");
    if (!arguments.model.empty() && !arguments.tests_folder.empty())
        usage("--tests takes its models from the folder, but '", arguments.model, "' is given, too");
    return arguments;
}

}  // namespace linnet::tools
