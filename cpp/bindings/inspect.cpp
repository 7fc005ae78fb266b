// What the inspect, profile and info commands show: graphs and plans as facts, tables of kernels, this machine's
// limits.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/convert.h"
#include "kernels/kernels.h"
#include "runtime/machine.h"
#include "runtime/session.h"

namespace linnet::bindings {
namespace {

using Shapes = std::map<std::string, std::vector<int64_t>>;

std::vector<std::pair<std::string, Shape>> pairs(const Shapes& shapes) {
    std::vector<std::pair<std::string, Shape>> result;
    for (const auto& [name, dims] : shapes) result.emplace_back(name, Shape(dims.begin(), dims.end()));
    return result;
}

py::dict to_dict(const GraphInfo& info) {
    py::list nodes;
    for (const NodeInfo& n : info.nodes) {
        py::dict d;
        d["name"] = readable(n.name);
        d["op"] = n.op;
        d["internal"] = n.internal;
        d["step"] = n.step;
        d["inputs"] = n.inputs;
        d["outputs"] = n.outputs;
        d["epilogue"] = n.epilogue;
        d["algorithm"] = n.algorithm;
        d["macs"] = n.macs;
        nodes.append(d);
    }
    py::dict d;
    d["nodes"] = nodes;
    d["constants"] = info.constants;
    d["constant_elements"] = info.constant_elements;
    d["constant_bytes"] = info.constant_bytes;
    d["layout_changes"] = info.layout_changes;
    py::list floats;
    for (const FloatNode& n : info.float_nodes) {
        py::dict row;
        row["name"] = readable(n.name);
        row["op"] = n.op_type;
        row["why"] = readable(n.why);
        floats.append(row);
    }
    d["float_nodes"] = floats;
    return d;
}

}  // namespace

void bind_inspect(py::module_& m) {
    m.def(
        "describe",
        [](const Session& session, const std::string& stage, const Shapes& shapes) {
            GraphInfo info;
            {
                py::gil_scoped_release release;
                info = session.describe(stage, pairs(shapes));
            }
            return to_dict(info);
        },
        py::arg("session"), py::arg("stage"), py::arg("shapes"));
    m.def(
        "plan",
        [](const Session& session, const Shapes& shapes) {
            std::shared_ptr<const Plan> plan;
            {
                py::gil_scoped_release release;
                plan = session.plan_for(pairs(shapes));
            }
            py::dict d = to_dict(describe(session.graph(), *plan));
            d["arena_bytes"] = plan->arena_bytes;
            d["unshared_bytes"] = plan->unshared_bytes;
            return d;
        },
        py::arg("session"), py::arg("shapes"));
    m.def(
        "kernel_tables",
        [] {
            py::list rows;
            for (const char* const* name = kernels::kernel_names(); *name; ++name)
                rows.append(py::make_tuple(std::string(*name), kernels::kernels_for(*name) != nullptr));
            return rows;
        },
        "Kernel tables of this build, best first: (name, whether this CPU runs it).");
    m.def(
        "measure_peak",
        [](int threads) {
            py::gil_scoped_release release;
            return measure_peak_gflops(std::max(1, std::min(threads, 1024)));
        },
        py::arg("threads"), "10^9 operations per second that multiply-adds reach from registers.");
    m.def(
        "measure_bandwidth",
        [](int threads, size_t bytes) {
            py::gil_scoped_release release;
            return measure_bandwidth_gbs(std::max(1, std::min(threads, 1024)), bytes);
        },
        py::arg("threads"), py::arg("bytes"), "10^9 bytes per second read from a buffer of that size.");
}

}  // namespace linnet::bindings
