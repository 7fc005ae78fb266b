// linnet._core.testing: the server's codecs as functions on bytes, for tests and timings.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>

#include "bindings/convert.h"
#include "serve/codecs.h"

namespace linnet::bindings {
namespace {

using namespace serve;

Bytes bytes_of(std::string_view view) { return std::as_bytes(std::span<const char>(view.data(), view.size())); }

using Ports = std::vector<std::pair<std::string, std::string>>;  // names, types

std::vector<PortInfo> ports_of(const Ports& given) {
    std::vector<PortInfo> ports;
    for (const auto& [name, type] : given) {
        PortInfo& port = ports.emplace_back();
        port.name = name;
        for (int d = 0; d < kDTypeCount; ++d)
            if (dtype_name(static_cast<DType>(d)) == type) port.fact = Fact::unranked(static_cast<DType>(d));
    }
    return ports;
}

Request decode_any(const std::string& wire, Bytes body, int64_t json_size, std::span<const PortInfo> ports) {
    if (wire == "oip") return decode_oip(body);
    if (wire == "tensorflow") return decode_tensorflow(body);
    if (wire == "rest_v2") return decode_rest_v2(body, json_size);
    if (wire == "rest_v1") return decode_rest_v1(body, ports);
    fail(ErrorKind::invalid_argument, "no wire is called '", wire, "'");
}

Pieces encode_any(const std::string& wire, const Request& request, const Answer& answer, int64_t& json_size) {
    if (wire == "oip") return encode_oip(request, answer);
    if (wire == "oip_stream") return encode_oip_stream(request, answer);
    if (wire == "tensorflow") return encode_tensorflow(request, answer);
    if (wire == "rest_v2") return encode_rest_v2(request, answer, json_size);
    return encode_rest_v1(request, answer);
}

// A failure is a ValueError of its code and message.
template <class Fn>
auto raising(const Fn& work) {
    try {
        return work();
    } catch (const Failure& failure) {
        const py::tuple args = py::make_tuple(static_cast<int>(failure.code()), readable(failure.message()));
        PyErr_SetObject(PyExc_ValueError, args.ptr());
        throw py::error_already_set();
    }
}

py::object array_of(const Tensor& tensor) {
    if (tensor.dtype != DType::string) return from_value(tensor.owner ? tensor : tensor.clone());
    py::list list;
    for (int64_t i = 0; i < tensor.count(); ++i) list.append(py::bytes(tensor.as<std::string>()[i]));
    py::list shape;
    for (const int64_t size : tensor.shape) shape.append(size);
    const py::module_ numpy = py::module_::import("numpy");
    return numpy.attr("array")(list, py::arg("dtype") = "O").attr("reshape")(py::tuple(shape));
}

py::dict decode(const std::string& wire, const py::bytes& body, int64_t json_size, const Ports& given) {
    const std::vector<PortInfo> ports = ports_of(given);
    const Request request = raising([&] { return decode_any(wire, bytes_of(body), json_size, ports); });
    py::list inputs, outputs;
    for (const auto& [name, tensor] : request.inputs)
        inputs.append(py::make_tuple(name, array_of(tensor), !tensor.owner));
    for (const WantedOutput& output : request.outputs)
        outputs.append(py::make_tuple(output.name, output.classes, output.binary));
    py::dict d;
    d["model"] = request.model;
    d["version"] = request.version;
    d["label"] = request.label;
    d["id"] = request.id;
    d["signature"] = request.signature;
    d["inputs"] = inputs;
    d["outputs"] = outputs;
    d["priority"] = request.priority;
    d["timeout_us"] = request.timeout_us;
    d["sequence"] = request.sequence;
    d["raw"] = request.raw;
    d["binary_outputs"] = request.binary_outputs;
    d["rows"] = request.rows;
    return d;
}

py::tuple answer(const std::string& wire, const py::bytes& body, const py::list& outputs, const std::string& model,
                 int64_t version, int64_t json_size, const Ports& given) {
    const std::vector<PortInfo> ports = ports_of(given);
    return raising([&] {
        const Request request = decode_any(wire == "oip_stream" ? "oip" : wire, bytes_of(body), json_size, ports);
        Answer answer{model, version, {}};
        for (const py::handle item : outputs) {
            const auto pair = item.cast<py::tuple>();
            answer.outputs.push_back({pair[0].cast<std::string>(), to_value(pair[1], nullptr).tensor});
        }
        int64_t size = -1;
        const Pieces pieces = encode_any(wire, request, answer, size);
        std::string bytes(pieces.size(), '\0');
        pieces.copy_to(reinterpret_cast<std::byte*>(bytes.data()));
        return py::make_tuple(py::bytes(bytes), size);
    });
}

// Seconds of the fastest of `repeats` decodings, and of encodings of its inputs as outputs (joined).
py::tuple fastest(const std::string& wire, const py::bytes& body, int64_t json_size, const Ports& given, int repeats) {
    const std::vector<PortInfo> ports = ports_of(given);
    using Clock = std::chrono::steady_clock;
    double decoding = 1e9, encoding = 1e9;
    std::vector<std::byte> joined;
    for (int i = 0; i < repeats; ++i) {
        const Clock::time_point start = Clock::now();
        Request request = raising([&] { return decode_any(wire, bytes_of(body), json_size, ports); });
        const Clock::time_point middle = Clock::now();
        const Answer answer{"model", 1, request.inputs};
        const Clock::time_point before = Clock::now();
        int64_t size = -1;
        const Pieces pieces = raising([&] { return encode_any(wire, request, answer, size); });
        joined.resize(pieces.size());
        pieces.copy_to(joined.data());
        const Clock::time_point end = Clock::now();
        decoding = std::min(decoding, std::chrono::duration<double>(middle - start).count());
        encoding = std::min(encoding, std::chrono::duration<double>(end - before).count());
    }
    return py::make_tuple(decoding, encoding);
}

}  // namespace

void bind_serve_testing(py::module_& m) {
    py::module_ testing = m.def_submodule("testing", "Parts of the library that no face shows, for tests.");
    testing.def("decode", &decode, py::arg("wire"), py::arg("body"), py::arg("json_size") = -1,
                py::arg("ports") = Ports{},
                "A request's bytes on a wire ('oip', 'tensorflow', 'rest_v2', 'rest_v1') as a dictionary; inputs are "
                "(name, array, whether it is a view of the bytes). Raises ValueError(code, message).");
    testing.def("answer", &answer, py::arg("wire"), py::arg("body"), py::arg("outputs"), py::arg("model") = "m",
                py::arg("version") = 1, py::arg("json_size") = -1, py::arg("ports") = Ports{},
                "The bytes that answer the request `body` with outputs (name, array), and the size of the JSON before "
                "raw tensors, -1 where none follow. Wire 'oip_stream': as an item of a stream.");
    testing.def(
        "stream_error",
        [](const std::string& id, const std::string& message) {
            const Pieces pieces = encode_oip_stream_error(id, message);
            std::string bytes(pieces.size(), '\0');
            pieces.copy_to(reinterpret_cast<std::byte*>(bytes.data()));
            return py::bytes(bytes);
        },
        py::arg("id"), py::arg("message"), "An item of an OIP stream that says what failed.");
    testing.def("fastest", &fastest, py::arg("wire"), py::arg("body"), py::arg("json_size") = -1,
                py::arg("ports") = Ports{}, py::arg("repeats") = 20,
                "(seconds to decode a request, seconds to encode its inputs as an answer), the least of `repeats`.");
}

}  // namespace linnet::bindings
