// The engine of the server (linnet._core.serve): bytes in, bytes out, without the interpreter's lock.
#include "serve/server.h"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>

#include "bindings/convert.h"

namespace linnet::bindings {

void bind_serve_files(py::module_& m);

namespace {

using namespace linnet::serve;

// Copies of more bytes than this are made without the interpreter's lock.
constexpr size_t kLargeCopy = size_t{64} << 10;

Bytes view_of(const py::bytes& bytes) {
    const std::string_view view = bytes;
    return std::as_bytes(std::span(view.data(), view.size()));
}

py::bytes join(const Pieces& pieces) {
    PyObject* object = PyBytes_FromStringAndSize(nullptr, static_cast<py::ssize_t>(pieces.size()));
    if (!object) throw py::error_already_set();
    auto* to = reinterpret_cast<std::byte*>(PyBytes_AS_STRING(object));
    if (pieces.size() > kLargeCopy) {
        py::gil_scoped_release release;
        pieces.copy_to(to);
    } else {
        pieces.copy_to(to);
    }
    return py::reinterpret_steal<py::bytes>(object);
}

// A Cancel that tells a Python callable of itself when its request has to wait; false from there: it is set already.
class CallCancel : public Cancel {
  public:
    explicit CallCancel(py::object subscribe) : subscribe_(std::move(subscribe)) {}

  protected:
    void will_wait() override {
        py::gil_scoped_acquire acquire;
        const py::object subscribe = std::exchange(subscribe_, py::none());
        if (subscribe.is_none()) return;
        try {
            if (!subscribe(py::cast(static_cast<Cancel*>(this))).cast<bool>()) set();
        } catch (py::error_already_set& error) {
            error.discard_as_unraisable("linnet: a call that waits");
        }
    }

  private:
    py::object subscribe_;
};

CallOptions call_options(double timeout_s, Cancel* cancel, const std::string& traceparent, bool at_once = false) {
    CallOptions options;
    options.at_once = at_once;
    constexpr double kLongest = 1e9;
    if (timeout_s >= 0 && timeout_s < kLongest)
        options.deadline = serve::Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(timeout_s * 1e9));
    options.cancel = cancel;
    options.traceparent = traceparent;
    return options;
}

// fn() without the interpreter's lock, its bytes with it. The tensors are freed without it, too.
template <class Fn>
auto answer(const Fn& fn) {
    Response response;
    {
        py::gil_scoped_release release;
        response = fn();
    }
    py::bytes bytes = join(response.pieces);
    const int64_t json_size = response.json_size;
    if (response.pieces.size() > kLargeCopy) {
        py::gil_scoped_release release;
        response = {};
    }
    return std::make_pair(std::move(bytes), json_size);
}

// The bytes of answer(fn); None where the request is not run at once and should be.
template <class Fn>
py::object answer_or_none(const Fn& fn) {
    try {
        return answer(fn).first;
    } catch (const NotAtOnce&) {
        return py::none();
    }
}

py::dict spent(const Spent& s) {
    py::dict d;
    d["count"] = s.count.load();
    d["ns"] = s.ns.load();
    return d;
}

py::dict statistics(const Served& served) {
    const Statistics& s = served.statistics;
    py::dict d;
    py::dict requests;
    for (size_t p = 0; p < kProtocols; ++p) {
        py::dict codes;
        for (size_t c = 0; c < kCodes; ++c)
            if (const uint64_t n = s.requests[p][c].load()) codes[py::int_(c)] = n;
        requests[kProtocolNames[p]] = codes;
    }
    d["requests"] = requests;
    d["success"] = spent(s.success);
    d["fail"] = spent(s.fail);
    d["queue"] = spent(s.queue);
    d["decode"] = spent(s.decode);
    d["run"] = spent(s.run);
    d["encode"] = spent(s.encode);
    d["inference_count"] = s.rows.load();
    d["execution_count"] = s.executions.load();
    py::dict batches;
    for (size_t rows = 1; rows < s.batches.size(); ++rows)
        if (s.batches[rows].count.load()) batches[py::int_(rows)] = spent(s.batches[rows]);
    d["batches"] = batches;
    d["last_ms"] = s.last_ms.load();
    d["queued"] = s.queued.load();
    d["in_flight"] = s.in_flight.load();
    d["bytes_in"] = s.bytes_in.load();
    d["bytes_out"] = s.bytes_out.load();
    // Of all protocols together: (upper end in microseconds, count) of buckets that are not empty.
    py::list latency;
    for (int b = 0; b < Histogram::kBuckets; ++b) {
        uint64_t n = 0;
        for (const Histogram& h : s.latency) n += h.bucket(b);
        if (n) latency.append(py::make_tuple(Histogram::upper_us(b), n));
    }
    d["latency"] = latency;
    return d;
}

py::tuple entry_tuple(const JournalEntry& e) {
    const auto end = std::chrono::duration_cast<std::chrono::nanoseconds>(e.end.time_since_epoch()).count();
    return py::make_tuple(end, readable(e.model), e.version, kProtocolNames[static_cast<size_t>(e.protocol)],
                          static_cast<int>(e.code), readable(e.message), readable(e.id), readable(e.traceparent),
                          e.total.count(), e.decode.count(), e.queue.count(), e.run.count(), e.encode.count(), e.rows,
                          e.batch, e.bytes_in, e.bytes_out);
}

// The last owner of a version frees a model's weights, which takes milliseconds: never with the interpreter's lock.
void drop(Served* served) {
    if (PyGILState_Check()) {
        py::gil_scoped_release release;
        delete served;
    } else {
        delete served;
    }
}

void bind_served(py::module_& m) {
    py::class_<Served, std::shared_ptr<Served>>(m, "Served")
        .def(py::init([](std::shared_ptr<Session> session, std::string name, int64_t version, int64_t max_batch,
                         bool refuse_larger, int64_t queue_delay_us, int instances, size_t max_queue_requests,
                         size_t max_queue_bytes, uint32_t priority_levels, uint32_t default_priority, double weight,
                         int64_t default_timeout_us) {
                 serve::Limits limits;
                 limits.max_batch = std::max<int64_t>(1, max_batch);
                 limits.refuse_larger = refuse_larger;
                 limits.queue_delay = std::chrono::microseconds(queue_delay_us);
                 limits.instances = instances;
                 limits.max_queue_requests = max_queue_requests;
                 limits.max_queue_bytes = max_queue_bytes;
                 limits.priority_levels = priority_levels;
                 limits.default_priority = default_priority;
                 limits.weight = weight;
                 limits.default_timeout = std::chrono::microseconds(default_timeout_us);
                 return std::shared_ptr<Served>(new Served(std::move(session), std::move(name), version, limits),
                                                &drop);
             }),
             py::arg("session"), py::arg("name"), py::arg("version"), py::kw_only(), py::arg("max_batch") = 1,
             py::arg("refuse_larger") = false, py::arg("queue_delay_us") = 0, py::arg("instances") = 0,
             py::arg("max_queue_requests") = 1024, py::arg("max_queue_bytes") = size_t{256} << 20,
             py::arg("priority_levels") = 0, py::arg("default_priority") = 0, py::arg("weight") = 1.0,
             py::arg("default_timeout_us") = 0)
        .def_readonly("name", &Served::name)
        .def_readonly("version", &Served::version)
        .def_property_readonly("in_flight", [](const Served& s) { return s.statistics.in_flight.load(); })
        .def("statistics", &statistics)
        .def(
            "set_reference",
            [](Served& served, const py::list& sketches, uint64_t window) {
                std::vector<ReferenceSketch> reference;
                for (const py::handle item : sketches) {
                    const auto d = item.cast<py::dict>();
                    reference.push_back({d["name"].cast<std::string>(), d["output"].cast<bool>(),
                                         d["edges"].cast<std::vector<double>>(),
                                         d["bins"].cast<std::vector<double>>()});
                }
                served.drift = std::make_unique<Drift>(std::move(reference), window);
            },
            py::arg("sketches"), py::arg("window") = 10000, "Only before it is given to an engine.")
        .def("drift", [](const Served& served) {
            py::list list;
            if (!served.drift) return list;
            for (const DriftRow& row : served.drift->rows()) {
                py::dict d;
                d["name"] = readable(row.name);
                d["output"] = row.output;
                d["elements"] = static_cast<uint64_t>(row.elements);
                d["psi"] = row.psi;
                d["ks"] = row.ks;
                d["nans"] = row.nans;
                d["edges"] = row.edges;
                d["shares"] = row.shares;
                d["reference"] = row.reference;
                list.append(d);
            }
            return list;
        });
}

// Its threads are waited for, and one may run a Python function, which needs the interpreter's lock.
struct DropEngine {
    void operator()(Engine* engine) const {
        py::gil_scoped_release release;
        delete engine;
    }
};

void bind_engine(py::module_& m) {
    py::class_<Budget>(m, "Budget", "The bytes of requests under way, over all wires together.")
        .def("take", &Budget::take, py::arg("count"), py::arg("own") = 0)
        .def("check", &Budget::check, py::arg("count"))
        .def("give", &Budget::give, py::arg("count"))
        .def_property_readonly("used", &Budget::used)
        .def_property_readonly("refused", &Budget::refused);
    py::class_<Engine, std::unique_ptr<Engine, DropEngine>>(m, "Engine")
        .def(py::init<int, uint64_t>(), py::arg("cpus") = 0, py::arg("max_bytes_in_flight") = uint64_t{1} << 30)
        .def_property_readonly(
            "budget", [](Engine& engine) -> Budget& { return engine.budget(); },
            py::return_value_policy::reference_internal)
        .def(
            "set_model",
            [](Engine& engine, const std::string& name, std::vector<std::shared_ptr<Served>> versions,
               std::map<std::string, int64_t> labels, std::map<int64_t, double> split,
               std::optional<int64_t> preferred) {
                py::gil_scoped_release release;
                engine.set_model(name, {std::move(versions), std::move(labels), std::move(split), preferred});
            },
            py::arg("name"), py::arg("versions"), py::kw_only(), py::arg("labels") = std::map<std::string, int64_t>(),
            py::arg("split") = std::map<int64_t, double>(), py::arg("default") = py::none())
        .def("remove_model", &Engine::remove_model, py::arg("name"), py::call_guard<py::gil_scoped_release>())
        .def(
            "infer_oip",
            [](Engine& engine, const py::bytes& request, double timeout_s, Cancel* cancel,
               const std::string& traceparent, bool at_once) {
                const Bytes bytes = view_of(request);
                const CallOptions options = call_options(timeout_s, cancel, traceparent, at_once);
                return answer_or_none([&] { return engine.infer_oip(bytes, options); });
            },
            py::arg("request"), py::arg("timeout_s") = -1.0, py::arg("cancel") = nullptr, py::arg("traceparent") = "",
            py::arg("at_once") = false)
        .def(
            "infer_oip_stream",
            [](Engine& engine, const py::bytes& request, double timeout_s, Cancel* cancel,
               const std::string& traceparent, bool raise_errors) {
                const Bytes bytes = view_of(request);
                const CallOptions options = call_options(timeout_s, cancel, traceparent);
                return answer([&] { return engine.infer_oip_stream(bytes, options, raise_errors); }).first;
            },
            py::arg("request"), py::arg("timeout_s") = -1.0, py::arg("cancel") = nullptr, py::arg("traceparent") = "",
            py::arg("raise_errors") = false)
        .def(
            "predict_tensorflow",
            [](Engine& engine, const py::bytes& request, double timeout_s, Cancel* cancel,
               const std::string& traceparent, bool at_once) {
                const Bytes bytes = view_of(request);
                const CallOptions options = call_options(timeout_s, cancel, traceparent, at_once);
                return answer_or_none([&] { return engine.predict_tensorflow(bytes, options); });
            },
            py::arg("request"), py::arg("timeout_s") = -1.0, py::arg("cancel") = nullptr, py::arg("traceparent") = "",
            py::arg("at_once") = false)
        .def(
            "infer_rest_v2",
            [](Engine& engine, const py::bytes& body, int64_t json_size, const std::string& model,
               const std::string& version, double timeout_s, Cancel* cancel, const std::string& traceparent) {
                const Bytes bytes = view_of(body);
                const CallOptions options = call_options(timeout_s, cancel, traceparent);
                return answer([&] { return engine.infer_rest_v2(bytes, json_size, {model, version, {}}, options); });
            },
            py::arg("body"), py::arg("json_size"), py::arg("model"), py::arg("version") = "",
            py::arg("timeout_s") = -1.0, py::arg("cancel") = nullptr, py::arg("traceparent") = "",
            "The answer's bytes and the length of the JSON before the tensors' bytes, -1 when all is JSON.")
        .def(
            "predict_rest_v1",
            [](Engine& engine, const py::bytes& body, const std::string& model, const std::string& version,
               const std::string& label, double timeout_s, Cancel* cancel, const std::string& traceparent) {
                const Bytes bytes = view_of(body);
                const CallOptions options = call_options(timeout_s, cancel, traceparent);
                return answer([&] { return engine.predict_rest_v1(bytes, {model, version, label}, options); }).first;
            },
            py::arg("body"), py::arg("model"), py::arg("version") = "", py::arg("label") = "",
            py::arg("timeout_s") = -1.0, py::arg("cancel") = nullptr, py::arg("traceparent") = "")
        .def(
            "metrics", [](const Engine& engine, bool triton_names) { return readable(engine.metrics(triton_names)); },
            py::arg("triton_names") = false)
        .def(
            "enable_journal", [](Engine& engine, bool on) { engine.journal().enable(on); }, py::arg("on") = true)
        .def(
            "journal",
            [](Engine& engine, size_t most) {
                auto [entries, lost] = engine.journal().take(most);
                py::list list;
                for (const JournalEntry& entry : entries) list.append(entry_tuple(entry));
                return py::make_tuple(list, lost);
            },
            py::arg("most"), "The oldest finished requests, at most so many, and how many were lost before.");
}

}  // namespace

void bind_serve(py::module_& core) {
    py::module_ m = core.def_submodule("serve", "The engine of the server.");
    py::register_exception_translator([](std::exception_ptr p) {
        try {
            if (p) std::rethrow_exception(p);
        } catch (const Failure& failure) {
            const py::object type = py::module_::import("linnet._errors").attr("ServeError");
            const py::object error = type(static_cast<int>(failure.code()), readable(failure.message()));
            PyErr_SetObject(type.ptr(), error.ptr());
        }
    });
    py::class_<Cancel>(m, "Cancel", "Calling it stops a request that waits.")
        .def(py::init([](py::object subscribe) -> std::unique_ptr<Cancel> {
                 if (subscribe.is_none()) return std::make_unique<Cancel>();
                 return std::make_unique<CallCancel>(std::move(subscribe));
             }),
             py::arg("subscribe") = py::none())
        .def("__call__", [](Cancel& cancel) { cancel.set(); });
    bind_serve_files(m);
    bind_served(m);
    bind_engine(m);
}

}  // namespace linnet::bindings
