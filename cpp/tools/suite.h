// Many tests in one process.
#pragma once
#include <cstddef>

#include "tools/arguments.h"

namespace linnet::tools {

// Runs every test in arguments.tests_folder: folders with a model.onnx and test_data_set_N folders of inputs and
// expected outputs. Prints a line for each, and which have failed; gives their number. Throws no_such_file when there
// is no test.
size_t run_tests(const Arguments& arguments);

}  // namespace linnet::tools
