// Tests as the ONNX backend suite writes them to a disk.
#include "tools/suite.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "tools/feeds.h"

namespace linnet::tools {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> folders_in(const fs::path& folder) {
    std::vector<fs::path> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error))
        if (entry.is_directory()) found.push_back(entry.path());
    if (error) fail(ErrorKind::no_such_file, "cannot read the folder '", folder.string(), "'");
    std::sort(found.begin(), found.end());
    return found;
}

// What is wrong; empty when nothing is.
std::string problem_of(const fs::path& test, const Arguments& common) {
    Arguments arguments = common;
    arguments.model = (test / "model.onnx").string();
    try {
        Session session(fs::path(arguments.model), arguments.session);
        size_t sets = 0;
        for (const fs::path& set : folders_in(test)) {
            if (set.filename().string().rfind("test_data_set_", 0) != 0) continue;
            ++sets;
            arguments.check_folder = set.string();
            const std::vector<Value> results = session.run(values_of(make_feeds(session, arguments)));
            for (const Check& check : check_outputs(session, arguments, results))
                if (!check.comparison.equal)
                    return cat(set.filename().string(), ": ", check.name, ": ", check.comparison.message);
        }
        return sets ? "" : "there is no test_data_set_0";
    } catch (const std::exception& error) {
        return error.what();
    }
}

}  // namespace

size_t run_tests(const Arguments& arguments) {
    size_t count = 0;
    std::vector<std::string> failed;
    for (const fs::path& test : folders_in(arguments.tests_folder)) {
        if (!fs::exists(test / "model.onnx")) continue;
        ++count;
        const std::string name = test.filename().string();
        std::printf("%s ", name.c_str());
        std::fflush(stdout);  // a test that ends the process is named, too
        const std::string problem = problem_of(test, arguments);
        std::printf("%s%s\n", problem.empty() ? "ok" : "FAILED: ", problem.c_str());
        if (!problem.empty()) failed.push_back(name);
    }
    if (count == 0) fail(ErrorKind::no_such_file, "no folder in '", arguments.tests_folder, "' has a model.onnx");
    std::printf("\n%zu tests, %zu failed%s", count, failed.size(), failed.empty() ? "" : ":");
    for (const std::string& name : failed) std::printf(" %s", name.c_str());
    std::printf("\n");
    return failed.size();
}

}  // namespace linnet::tools
