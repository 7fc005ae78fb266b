// Serialized values (TensorProto, SequenceProto, OptionalProto, MapProto) to Python objects and back.
#include <pybind11/pybind11.h>

#include "base/error.h"
#include "bindings/convert.h"
#include "onnx/writer.h"

namespace linnet::bindings {
namespace {

onnx::TypeProto::Kind kind_named(const std::string& name) {
    using Kind = onnx::TypeProto::Kind;
    if (name == "tensor") return Kind::tensor;
    if (name == "sparse") return Kind::sparse;
    if (name == "sequence") return Kind::sequence;
    if (name == "optional") return Kind::optional;
    if (name == "map") return Kind::map;
    fail(ErrorKind::invalid_argument, "no kind of value is called '", name, "'");
}

// What a list says of itself: a sequence, of sequences where its items are lists.
Value value_of(const py::handle& object) {
    if (!py::isinstance<py::list>(object)) return to_value(object, nullptr);
    std::vector<Value> items;
    for (const py::handle item : object) items.push_back(value_of(item));
    return Value::sequence(std::move(items));
}

}  // namespace

void bind_values(py::module_& m) {
    m.def(
        "read_value",
        [](const py::bytes& data, const std::string& kind) {
            const std::string_view view = data;
            return from_value(onnx::read_value_pb(std::as_bytes(std::span<const char>(view)), kind_named(kind)));
        },
        py::arg("data"), py::arg("kind") = "tensor",
        "A serialized TensorProto (or SparseTensorProto, SequenceProto, OptionalProto, MapProto) as a value.");
    m.def(
        "write_value",
        [](const py::object& object, const std::string& name) {
            return py::bytes(onnx::write_value_pb(value_of(object), name));
        },
        py::arg("value"), py::arg("name") = "", "A value, serialized as read_value reads it.");
}

}  // namespace linnet::bindings
