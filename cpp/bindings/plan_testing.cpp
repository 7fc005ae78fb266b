// linnet._core.testing: where a program's arena has its buffers, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "runtime/program.h"

namespace linnet::bindings {

namespace py = pybind11;

void bind_plan_testing(py::module_& m) {
    py::module_ testing = m.attr("testing");
    testing.def(
        "place_lifetimes",
        [](const std::vector<std::tuple<int32_t, int32_t, int64_t>>& given) {
            std::vector<Lifetime> lifetimes;
            for (const auto& [first, last, bytes] : given) lifetimes.push_back({first, last, bytes});
            const Placement placement = place_lifetimes(lifetimes);
            return py::make_tuple(placement.offsets, placement.bytes, placement.visits);
        },
        py::arg("lifetimes"),
        "(offsets, bytes in all, ranges that were looked at) of buffers (first step, last step, bytes).");
}

}  // namespace linnet::bindings
