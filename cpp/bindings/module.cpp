// The Python extension module linnet._core: the session and its parts, without logic of its own.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include "base/error.h"
#include "bindings/convert.h"
#include "graph/op.h"
#include "kernels/kernels.h"
#include "runtime/session.h"
#include "runtime/thread_pool.h"

namespace py = pybind11;
using namespace linnet;
using namespace linnet::bindings;

namespace linnet::bindings {
void bind_values(py::module_& m);           // values.cpp
void bind_inspect(py::module_& m);          // inspect.cpp
void bind_compress(py::module_& m);         // compress.cpp
void bind_operators(py::module_& m);        // operators.cpp
void bind_serve(py::module_& m);            // serve.cpp
void bind_serve_testing(py::module_& m);    // serve_testing.cpp
void bind_runtime_testing(py::module_& m);  // runtime_testing.cpp
}  // namespace linnet::bindings

namespace {

// What a Python function raised on the way is the error's __cause__, or goes on as it is when it means to end the
// program (KeyboardInterrupt).
void raise_python(const Error& e) {
    const py::handle cause = static_cast<PyObject*>(e.cause().get());
    if (cause && !PyErr_GivenExceptionMatches(cause.ptr(), PyExc_Exception))
        return PyErr_SetObject(py::type::of(cause).ptr(), cause.ptr());
    const py::object type = py::module_::import("linnet._errors").attr(kErrorNames[static_cast<int>(e.kind())]);
    const py::object error = type(readable(e.message()));
    if (cause) PyException_SetCause(error.ptr(), cause.inc_ref().ptr());
    PyErr_SetObject(type.ptr(), error.ptr());
}

py::dict port_dict(const PortInfo& port) {
    py::list shape;
    for (size_t i = 0; i < port.fact.shape.size(); ++i) {
        if (is_number(port.fact.shape[i])) shape.append(port.fact.shape[i]);
        else if (port.dimension_names[i].empty()) shape.append(py::none());
        else shape.append(readable(port.dimension_names[i]));
    }
    static const char* const kKinds[] = {"absent", "tensor", "sequence", "map"};
    py::dict d;
    d["name"] = readable(port.name);
    d["kind"] = kKinds[static_cast<int>(port.fact.kind)];
    d["optional"] = port.fact.optional;
    d["dtype"] = std::string(dtype_name(port.fact.dtype));
    d["onnx_dtype"] = std::string(dtype_onnx_name(port.fact.dtype));
    d["map_key"] = port.fact.map_key == DType::undefined ? "" : std::string(dtype_onnx_name(port.fact.map_key));
    d["shape"] = port.fact.ranked ? py::object(shape) : py::object(py::none());
    return d;
}

py::list run(Session& session, const py::dict& feeds, const py::object& output_names,
             const std::shared_ptr<std::atomic<bool>>& terminate, int64_t time_limit_ms, const py::object& destinations,
             int threads) {
    std::vector<py::object> kept;
    std::vector<std::pair<std::string, Value>> values = to_feeds(feeds, session, kept);
    std::vector<std::string> wanted;
    if (!output_names.is_none())
        for (const py::handle name : output_names) wanted.push_back(utf8(name));
    std::vector<Tensor> memory;
    std::vector<py::object> targets;  // by output asked for; null where the run allocates
    if (!destinations.is_none()) {
        const auto given = destinations.cast<py::dict>();
        for (size_t i = 0; i < (wanted.empty() ? session.outputs().size() : wanted.size()); ++i) {
            const std::string& name = wanted.empty() ? session.outputs()[i].name : wanted[i];
            memory.emplace_back();
            targets.emplace_back();
            if (!given.contains(name)) continue;
            targets.back() = given[name.c_str()];
            try {
                memory.back() = writable_view(targets.back());
            } catch (Error& e) {
                e.add_context("output '" + name + "'");
                throw;
            }
        }
    }
    RunOptions options;
    options.terminate = terminate;
    options.time_limit = std::chrono::milliseconds(time_limit_ms);
    options.threads = threads;
    std::vector<Value> results;
    {
        py::gil_scoped_release release;
        results = session.run(values, wanted, options, memory);
        values.clear();
    }
    py::list list(results.size());
    for (size_t i = 0; i < results.size(); ++i)
        list[i] = i < targets.size() && targets[i] ? targets[i] : from_value(results[i]);
    return list;
}

#define LIMIT(NAME) \
    [](const SessionOptions& o) { return o.limits.NAME; }, [](SessionOptions& o, int64_t most) { o.limits.NAME = most; }

void bind_session(py::module_& m) {
    py::class_<SessionOptions>(m, "SessionOptions")
        .def(py::init<>())
        .def_readwrite("threads", &SessionOptions::threads)
        .def_readwrite("optimization", &SessionOptions::optimization)
        .def_readwrite("exact", &SessionOptions::exact)
        .def_readwrite("profile", &SessionOptions::profile)
        .def_readwrite("memory_limit", &SessionOptions::memory_limit)
        .def_property("max_model_bytes", LIMIT(model_bytes))
        .def_property("max_nodes", LIMIT(nodes))
        .def_property("max_nesting", LIMIT(nesting))
        .def_property("max_rank", LIMIT(rank))
        .def_readwrite("dimensions", &SessionOptions::dimensions)
        .def_readwrite("denotations", &SessionOptions::denotations)
        .def(
            "set_initializer",
            [](SessionOptions& o, const std::string& name, const py::object& value) {
                const Tensor t = to_value(value, nullptr).tensor;
                o.initializers[name] = t.owner ? t : t.clone();
            },
            py::arg("name"), py::arg("value"))
        .def_readwrite("extra_outputs", &SessionOptions::extra_outputs)
        .def_readwrite("optimized_model", &SessionOptions::optimized_model)
        .def_readwrite("title", &SessionOptions::title)
        .def_readwrite("stop_after", &SessionOptions::stop_after);

    py::class_<std::atomic<bool>, std::shared_ptr<std::atomic<bool>>>(m, "Flag", "A switch another thread can set.")
        .def(py::init([] { return std::make_shared<std::atomic<bool>>(false); }))
        .def("set", [](std::atomic<bool>& f, bool on) { f = on; })
        .def("get", [](const std::atomic<bool>& f) { return f.load(); });

    py::class_<Session, std::shared_ptr<Session>>(m, "Session")
        .def(py::init([](const std::filesystem::path& path, const SessionOptions& options) {
                 py::gil_scoped_release release;
                 return std::make_shared<Session>(path, options);
             }),
             py::arg("path"), py::arg("options"))
        .def_static(
            "from_bytes",
            [](const py::bytes& data, const SessionOptions& options) {
                const std::string_view view = data;
                py::gil_scoped_release release;
                return std::make_shared<Session>(
                    onnx::Bytes(reinterpret_cast<const std::byte*>(view.data()), view.size()), nullptr, options);
            },
            py::arg("data"), py::arg("options"))
        .def("inputs",
             [](const Session& s) {
                 py::list list;
                 for (const PortInfo& p : s.inputs()) list.append(port_dict(p));
                 return list;
             })
        .def("outputs",
             [](const Session& s) {
                 py::list list;
                 for (const PortInfo& p : s.outputs()) list.append(port_dict(p));
                 return list;
             })
        .def("overridable",
             [](const Session& s) {
                 py::list list;
                 for (const PortInfo& p : s.overridable()) list.append(port_dict(p));
                 return list;
             })
        .def("info",
             [](const Session& s) {
                 const ModelInfo& i = s.info();
                 py::dict d;
                 d["producer_name"] = readable(i.producer_name);
                 d["producer_version"] = readable(i.producer_version);
                 d["domain"] = readable(i.domain);
                 d["graph_name"] = readable(i.graph_name);
                 d["description"] = readable(i.description);
                 d["graph_description"] = readable(i.graph_description);
                 d["version"] = i.version;
                 d["ir_version"] = i.ir_version;
                 d["opsets"] = i.opsets;
                 py::dict metadata;
                 for (const auto& [k, v] : i.metadata) metadata[readable(k)] = readable(v);
                 d["metadata"] = metadata;
                 return d;
             })
        .def_property_readonly("threads", &Session::threads)
        .def("run", &run, py::arg("feeds"), py::arg("output_names") = py::none(), py::arg("terminate") = nullptr,
             py::arg("time_limit_ms") = 0, py::arg("destinations") = py::none(), py::arg("threads") = 0)
        .def(
            "dump",
            [](const Session& s, const std::string& stage) {
                std::string text;
                {
                    py::gil_scoped_release release;
                    text = s.dump(stage);
                }
                return readable(text);
            },
            py::arg("stage") = "lower")
        .def("profile",
             [](Session& s) {
                 py::list list;
                 for (const ProfileEvent& e : s.profiler().events()) {
                     py::dict d;
                     d["name"] = readable(e.name);
                     d["op"] = e.op;
                     d["start_us"] = e.start_us;
                     d["duration_us"] = e.duration_us;
                     d["run"] = e.run;
                     d["depth"] = e.depth;
                     d["shapes"] = e.shapes;
                     d["macs"] = e.macs;
                     d["bytes"] = e.bytes;
                     list.append(d);
                 }
                 return list;
             })
        .def("trace_json", [](Session& s) { return readable(s.profiler().trace_json()); });
}

}  // namespace

PYBIND11_MODULE(_core, m) {
    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const Error& e) {
            raise_python(e);
        }
    });
    m.attr("version") = LINNET_VERSION;
    bind_session(m);
    bind_values(m);
    bind_inspect(m);
    bind_compress(m);
    bind_operators(m);
    bind_serve(m);
    bind_serve_testing(m);
    bind_runtime_testing(m);
    m.def("available_cpus", &available_cpus);
    m.def(
        "isa", [] { return std::string(kernels::kernels().isa); }, "Name of the kernel table in use.");
    m.def("ops", [] {
        py::list rows;
        for (const OpDef* op : all_ops())
            rows.append(py::make_tuple(std::string(op->domain), std::string(op->name), op->since));
        return rows;
    });
}
