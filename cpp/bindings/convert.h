// numpy arrays and Python lists to values and back.
#pragma once
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/tensor.h"
#include "graph/fact.h"
#include "runtime/session.h"

namespace linnet::bindings {

namespace py = pybind11;

// A view of the array's memory where it is C-contiguous, aligned and of native byte order; an owned copy otherwise. The
// array must outlive the value. Lists become sequences, None becomes an absent optional. `wanted` (may be null) settles
// the element type of what numpy leaves open (str, empty lists).
// Raises invalid_argument for what is no value; does not check dtype and shape against `wanted`.
Value to_value(const py::handle& object, const Fact* wanted);
// A run's inputs by name. `kept` gets references to all that is read while the interpreter is free for other threads,
// which may change the dictionary.
std::vector<std::pair<std::string, Value>> to_feeds(const py::dict& feeds, const Session& session,
                                                    std::vector<py::object>& kept);
// An array's memory, to write an output into; raises invalid_argument when it cannot be written as it is.
Tensor writable_view(const py::handle& object);
// An array over the tensor's own memory (kept alive by the array).
py::object from_value(const Value& value);

// A Python text as bytes; raises invalid_argument for what is none, or has lone surrogates.
std::string utf8(const py::handle& text);
// Text that need not be UTF-8 (ONNX does not make sure of it); bytes that are not come as "\\xff".
py::str readable(std::string_view text);

// The exceptions of linnet._errors, by ErrorKind.
inline constexpr const char* kErrorNames[] = {"Fail",         "InvalidArgument",  "NoSuchFile",       "InvalidProtobuf",
                                              "InvalidGraph", "NotImplementedOp", "RuntimeException", "Cancelled"};

DType dtype_from_numpy(const py::dtype& dtype);
py::dtype numpy_dtype(DType dtype);

}  // namespace linnet::bindings
