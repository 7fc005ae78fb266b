// The command line of linnet-run.
#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/session.h"

namespace linnet::tools {

using NamedTexts = std::vector<std::pair<std::string, std::string>>;

struct Arguments {
    std::string model;
    NamedTexts inputs;         // name, file
    NamedTexts checks;         // name, file
    std::string check_folder;  // input_N.pb and output_N.pb
    std::string tests_folder;  // folders with a model.onnx and test_data_set_N; there is no `model` then
    std::vector<std::pair<std::string, Shape>> shapes;
    std::string output_folder;  // results are written there as .npy
    uint64_t seed = 1;
    double rtol = 1e-3, atol = 1e-5;
    int64_t repeat = 0, warmup = 3;
    bool plan = false, profile = false, json = false;
    std::string trace;  // a file for the profile's events
    std::string dump;   // a stage
    SessionOptions session;
    RunOptions run;
};

// What is printed for --help.
std::string help_text();
// Throws invalid_argument with a hint at --help. Nothing when the caller asked for help or the version, which has been
// printed then.
std::optional<Arguments> parse_arguments(int count, const char* const* values);

}  // namespace linnet::tools
