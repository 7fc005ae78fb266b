// What linnet-run prints besides results: times, plans, profiles.
#pragma once
#include <string>
#include <vector>

#include "runtime/session.h"

namespace linnet::tools {

struct Times {
    size_t runs = 0;
    double min = 0, median = 0, p90 = 0, mean = 0;  // milliseconds
};
Times summarize(std::vector<double> milliseconds);

// The steps of a plan, one a line, and the memory.
std::string plan_text(const Graph& graph, const Plan& plan);

struct OpTime {
    std::string op;
    size_t calls = 0;
    double milliseconds = 0;  // per run
    double share = 0;         // of all steps
};
// By operator, the most expensive first, from the events of runs `from_run` on.
std::vector<OpTime> profile_by_op(const std::vector<ProfileEvent>& events, int64_t from_run);
std::string profile_text(const std::vector<ProfileEvent>& events, int64_t from_run);

// "text" with JSON's escapes and quotes.
std::string quoted(const std::string& text);

}  // namespace linnet::tools
