// numpy's arrays and types to tensors and back, without a copy where the memory allows it.
#include "bindings/convert.h"

#include <array>
#include <string>

#include "base/error.h"

namespace linnet::bindings {
namespace {

bool is_ml_dtype(DType d) { return d == DType::bf16 || d >= DType::f8e4m3fn; }

std::string type_text(const py::handle& object) { return py::str(py::type::of(object).attr("__name__")); }

// numpy's type numbers: fixed by its ABI for built-in types (numpy/ndarraytypes.h); others count from 256.
DType dtype_of_number(const py::dtype& dtype) {
    static constexpr DType kInts[] = {DType::undefined, DType::i8,        DType::i16,
                                      DType::undefined, DType::i32,       DType::undefined,
                                      DType::undefined, DType::undefined, DType::i64};
    static constexpr DType kUnsigned[] = {DType::undefined, DType::u8,        DType::u16,
                                          DType::undefined, DType::u32,       DType::undefined,
                                          DType::undefined, DType::undefined, DType::u64};
    const int number = dtype.num();
    switch (number) {
        case 0: return DType::boolean;
        case 11: return DType::f32;
        case 12: return DType::f64;
        case 14: return DType::c64;
        case 15: return DType::c128;
        case 17:
        case 18:
        case 19: return DType::string;
        case 23: return DType::f16;
        default: break;
    }
    if (number >= 1 && number <= 10) {
        const auto size = static_cast<size_t>(dtype.itemsize());
        if (size <= 8) return number % 2 ? kInts[size] : kUnsigned[size];
    }
    return DType::undefined;
}

Tensor strings_from(const py::array& array) {
    py::list flat = array.attr("astype")("O").attr("ravel")().attr("tolist")();
    Shape shape;
    for (py::ssize_t i = 0; i < array.ndim(); ++i) shape.push_back(array.shape(i));
    Tensor t = Tensor::allocate(DType::string, shape);
    size_t i = 0;
    for (const py::handle item : flat) {
        t.as<std::string>()[i++] = py::isinstance<py::bytes>(item) ? item.cast<std::string>() : utf8(py::str(item));
    }
    return t;
}

bool is_plain(const py::array& array, const py::dtype& dtype) {
    constexpr int kPlain =
        static_cast<int>(py::array::c_style) | static_cast<int>(py::detail::npy_api::NPY_ARRAY_ALIGNED_);
    const char order = dtype.byteorder();  // numpy writes '=' for the machine's own, '|' where there is none
    return (array.flags() & kPlain) == kPlain && (order == '=' || order == '|');
}

Tensor view_of(const py::array& array, DType dtype) {
    Tensor t;
    t.dtype = dtype;
    const py::ssize_t* sizes = array.shape();
    for (py::ssize_t i = 0; i < array.ndim(); ++i) t.shape.push_back(sizes[i]);
    t.data = const_cast<void*>(array.data());
    return t;
}

Tensor tensor_from(const py::array& array, const Fact* wanted) {
    const py::dtype dtype = array.dtype();
    const DType d = dtype_from_numpy(dtype);
    if (d == DType::string) {
        if (wanted && wanted->dtype != DType::string && dtype.kind() == 'O')
            fail(ErrorKind::invalid_argument, "an array of Python objects is no tensor of ", dtype_name(wanted->dtype));
        return strings_from(array);
    }
    if (is_plain(array, dtype)) return view_of(array, d);
    const py::object copy = array.attr("astype")(numpy_dtype(d), py::arg("order") = "C", py::arg("copy") = true);
    return view_of(py::reinterpret_borrow<py::array>(copy), d).clone();
}

// Numbers and nested lists take the element type that is asked for, unless that would cut off fractions.
py::array array_from_python(const py::handle& object, const Fact* wanted) {
    const py::object asarray = py::module_::import("numpy").attr("asarray");
    const bool typed = py::hasattr(object, "dtype") || py::hasattr(object, "__array__");  // it has a type of its own
    try {
        const py::array natural = asarray(object);
        if (typed || !wanted || wanted->dtype == DType::undefined) return natural;
        const char kind = natural.dtype().kind();
        if (wanted->dtype == DType::string || kind == 'O' || kind == 'U' || kind == 'S') return natural;
        const bool fraction = (kind == 'f' || kind == 'c') && natural.size() > 0;
        if (fraction && !is_float(wanted->dtype) && !is_ml_dtype(wanted->dtype) && wanted->dtype != DType::c64 &&
            wanted->dtype != DType::c128)
            return natural;  // refused later, with what is expected and what is given
        return asarray(object, numpy_dtype(wanted->dtype));
    } catch (const py::error_already_set& e) {
        fail(ErrorKind::invalid_argument, "a ", type_text(object),
             " that is no array: ", std::string(py::str(e.value())));
    }
}

}  // namespace

std::string utf8(const py::handle& text) {
    if (!py::isinstance<py::str>(text))
        fail(ErrorKind::invalid_argument, "a name must be text, not ", type_text(text), " ", utf8(py::repr(text)));
    py::ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
    if (bytes) return {bytes, static_cast<size_t>(size)};
    PyErr_Clear();
    fail(ErrorKind::invalid_argument, "text that UTF-8 cannot express: ", utf8(py::repr(text)));
}

py::str readable(std::string_view text) {
    PyObject* decoded = PyUnicode_DecodeUTF8(text.data(), static_cast<py::ssize_t>(text.size()), "backslashreplace");
    if (!decoded) throw py::error_already_set();
    return py::reinterpret_steal<py::str>(decoded);
}

DType dtype_from_numpy(const py::dtype& dtype) {
    if (const DType d = dtype_of_number(dtype); d != DType::undefined) return d;
    if (dtype.kind() == 'T') return DType::string;  // numpy's variable-width strings
    const std::string name = py::str(dtype.attr("name"));
    for (int i = 1; i < kDTypeCount; ++i)
        if (dtype_name(static_cast<DType>(i)) == name) return static_cast<DType>(i);
    fail(ErrorKind::invalid_argument, "arrays of ", name, " cannot be used; ONNX has no such element type");
}

py::dtype numpy_dtype(DType dtype) {
    // Looked up once; never released, for the interpreter may be gone before static objects are.
    static std::array<PyObject*, kDTypeCount> known{};
    PyObject*& slot = known[static_cast<size_t>(dtype)];
    if (!slot) {
        const std::string name = dtype == DType::string ? "O" : std::string(dtype_name(dtype));
        try {
            slot = (is_ml_dtype(dtype) ? py::dtype::from_args(py::module_::import("ml_dtypes").attr(name.c_str()))
                                       : py::dtype(name))
                       .release()
                       .ptr();
        } catch (const py::error_already_set&) {
            fail(ErrorKind::invalid_argument, "numpy has no ", name, ": pip install ml_dtypes");
        }
    }
    return py::reinterpret_borrow<py::dtype>(slot);
}

std::vector<std::pair<std::string, Value>> to_feeds(const py::dict& feeds, const Session& session,
                                                    std::vector<py::object>& kept) {
    std::vector<std::pair<std::string, Value>> values;
    kept.reserve(feeds.size());
    values.reserve(feeds.size());
    for (const auto& [name, object] : feeds) {
        std::string key = utf8(name);
        const PortInfo* port = session.find_input(key, values.size());
        kept.push_back(py::reinterpret_borrow<py::object>(object));
        try {
            Value value = to_value(object, port ? &port->fact : nullptr);
            values.emplace_back(std::move(key), std::move(value));
        } catch (Error& e) {
            e.add_context("input '" + key + "'");
            throw;
        }
    }
    return values;
}

Tensor writable_view(const py::handle& object) {
    if (!py::isinstance<py::array>(object))
        fail(ErrorKind::invalid_argument, "a ", type_text(object), " cannot take an output; give a numpy array");
    const auto array = py::reinterpret_borrow<py::array>(object);
    const py::dtype dtype = array.dtype();
    const DType d = dtype_from_numpy(dtype);
    if (!is_plain(array, dtype) || !array.writeable() || d == DType::string)
        fail(ErrorKind::invalid_argument,
             "the array cannot take an output: it must be writable, C-contiguous, aligned, "
             "in the machine's byte order, and not of strings");
    return view_of(array, d);
}

Value to_value(const py::handle& object, const Fact* wanted) {
    if (py::isinstance<py::array>(object)) return tensor_from(py::reinterpret_borrow<py::array>(object), wanted);
    if (object.is_none()) return {};
    if (py::hasattr(object, "_linnet_value")) {  // an OrtValue
        const py::object inner = object.attr("_linnet_value");
        Value v = to_value(inner, wanted);
        return v;  // `inner` is kept alive by `object`
    }
    if (wanted && wanted->kind == Value::Kind::map && py::isinstance<py::dict>(object)) {
        const auto dict = py::reinterpret_borrow<py::dict>(object);
        Fact key, value;
        key.dtype = wanted->map_key;
        value.dtype = wanted->dtype;
        Value keys = to_value(py::list(dict.attr("keys")()), &key),
              values = to_value(py::list(dict.attr("values")()), &value);
        return Value::map(std::move(keys.tensor), std::move(values.tensor));
    }
    const bool sequence = wanted && wanted->kind == Value::Kind::sequence;
    if (sequence && (py::isinstance<py::list>(object) || py::isinstance<py::tuple>(object))) {
        std::vector<Value> items;
        Fact element;
        element.dtype = wanted->dtype;
        for (const py::handle item : object) {
            Value v = to_value(item, &element);
            // The list may change while it is read: nothing in it is sure to stay alive.
            if (v.kind == Value::Kind::tensor && !v.tensor.owner) v.tensor = v.tensor.clone();
            items.push_back(std::move(v));
        }
        return Value::sequence(std::move(items));
    }
    const Tensor t = tensor_from(array_from_python(object, wanted), wanted);
    return t.owner ? t : t.clone();  // the array is temporary
}

namespace {

py::object from_tensor(const Tensor& t) {
    std::vector<py::ssize_t> shape(t.shape.begin(), t.shape.end());
    if (t.dtype == DType::string) {
        py::array array(py::dtype("O"), shape);
        auto** slots = static_cast<PyObject**>(array.mutable_data());
        for (int64_t i = 0; i < t.count(); ++i) {
            py::str text = readable(t.as<std::string>()[i]);
            Py_XDECREF(slots[i]);
            slots[i] = text.release().ptr();
        }
        return array;
    }
    if (!t.owner) return py::array(numpy_dtype(t.dtype), shape, t.data);  // a copy: nobody promises the memory's life
    auto* owner = new std::shared_ptr<const void>(t.owner);
    py::capsule base(owner, [](void* p) { delete static_cast<std::shared_ptr<const void>*>(p); });
    return py::array(numpy_dtype(t.dtype), shape, t.data, base);
}

}  // namespace

py::object from_value(const Value& value) {
    switch (value.kind) {
        case Value::Kind::absent: return py::none();
        case Value::Kind::tensor: return from_tensor(value.tensor);
        case Value::Kind::sequence: {
            py::list list;
            for (const Value& v : *value.items) list.append(from_value(v));
            return list;
        }
        case Value::Kind::map: {
            const py::list keys = from_tensor((*value.items)[0].tensor).attr("tolist")();
            const py::list values = from_tensor((*value.items)[1].tensor).attr("tolist")();
            py::dict dict;
            for (size_t i = 0; i < keys.size(); ++i) dict[keys[i]] = values[i];
            return dict;
        }
    }
    return py::none();
}

}  // namespace linnet::bindings
