// What linnet-run gives a model, and what it expects of it.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "runtime/session.h"
#include "tools/arguments.h"
#include "tools/compare.h"

namespace linnet::tools {

std::string describe(const PortInfo& port);
std::string describe(const Value& value);

struct Feed {
    std::string name;
    Value value;
    std::string source;  // for the report
};

// Throws invalid_argument naming those that there are; `what` is "input" or "output".
const PortInfo& port_named(const std::vector<PortInfo>& ports, const std::string& name, const char* what);

// A value for each input: from a file of --input, from the folder of --check, or random.
std::vector<Feed> make_feeds(const Session& session, const Arguments& arguments);
std::vector<std::pair<std::string, Value>> values_of(const std::vector<Feed>& feeds);

struct Check {
    std::string name;
    Comparison comparison;
};

// The results against the files of --check.
std::vector<Check> check_outputs(const Session& session, const Arguments& arguments, const std::vector<Value>& results);

}  // namespace linnet::tools
