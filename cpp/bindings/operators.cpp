// Python functions as operators.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "base/error.h"
#include "bindings/convert.h"
#include "graph/custom.h"

namespace linnet::bindings {
namespace {

// A Python object that any thread may let go of.
std::shared_ptr<void> shared(py::object object) {
    return {object.release().ptr(), [](void* pointer) {
                if (!Py_IsInitialized()) return;
                const py::gil_scoped_acquire gil;
                Py_DECREF(static_cast<PyObject*>(pointer));
            }};
}

py::handle handle_of(const std::shared_ptr<void>& object) { return static_cast<PyObject*>(object.get()); }

// ---- errors --------------------------------------------------------------------------------------------------------

// Linnet's own exceptions keep their kind.
ErrorKind kind_of(const py::handle& error, ErrorKind otherwise) {
    const py::module_ errors = py::module_::import("linnet._errors");
    for (int kind = 0; kind < static_cast<int>(std::size(kErrorNames)); ++kind)
        if (py::type::of(error).is(errors.attr(kErrorNames[kind]))) return static_cast<ErrorKind>(kind);
    return otherwise;
}

// The error that a Python function raised. Its frames' variables go: they may view memory that is reused after the run.
[[noreturn]] void raise_error(py::error_already_set& raised, ErrorKind otherwise) {
    const py::object error = raised.value();
    if (raised.trace()) {
        py::module_::import("traceback").attr("clear_frames")(raised.trace());
        PyException_SetTraceback(error.ptr(), raised.trace().ptr());
    }
    const ErrorKind kind = kind_of(error, otherwise);
    std::string text = utf8(readable(std::string(py::str(error))));
    const bool own = py::isinstance(error, py::module_::import("linnet._errors").attr("LinnetError"));
    if (!own) text = cat(utf8(py::type::of(error).attr("__name__")), text.empty() ? "" : ": ", text);
    Error out(kind, text);
    out.set_cause(shared(error));
    throw out;
}

// fn(), whose Python errors become Linnet's.
template <class Fn>
auto translated(ErrorKind otherwise, const Fn& fn) {
    try {
        return fn();
    } catch (py::error_already_set& raised) {
        raise_error(raised, otherwise);
    } catch (const py::cast_error& error) {
        fail(ErrorKind::invalid_argument, error.what());
    }
}

// ---- facts ---------------------------------------------------------------------------------------------------------

// A size that is not a number yet, for arithmetic while shapes are inferred.
struct Size {
    std::shared_ptr<DimTable*> table;  // null inside when infer has ended
    int64_t code;
};

int64_t code_of(const py::handle& size) {
    if (py::isinstance<Size>(size)) return size.cast<Size>().code;
    if (size.is_none()) return kUnknownDim;
    const py::object number = py::reinterpret_steal<py::object>(PyNumber_Index(size.ptr()));
    if (!number) throw py::error_already_set();
    const auto value = number.cast<int64_t>();
    return value;
}

int64_t dim_of(const py::handle& size) {
    const int64_t dim = code_of(size);
    if (is_number(dim) && dim < 0) fail(ErrorKind::invalid_argument, "a size is ", dim);
    return dim;
}

py::object size_object(const std::shared_ptr<DimTable*>& table, int64_t dim) {
    if (is_number(dim)) return py::int_(dim);
    return py::cast(Size{table, dim});
}

using Arithmetic = int64_t (DimTable::*)(int64_t, int64_t);

template <Arithmetic operation>
py::object calculate(const Size& size, const py::handle& other, bool swapped) {
    if (!py::isinstance<Size>(other) && !PyIndex_Check(other.ptr()))
        return py::reinterpret_borrow<py::object>(Py_NotImplemented);
    if (!*size.table) fail(ErrorKind::invalid_argument, "a size is used after infer has ended");
    const int64_t a = swapped ? code_of(other) : size.code, b = swapped ? size.code : code_of(other);
    return size_object(size.table, ((*size.table)->*operation)(a, b));
}

template <Arithmetic operation>
void bind_operation(py::class_<Size>& type, const char* name, const char* reflected) {
    type.def(name, [](const Size& s, const py::handle& o) { return calculate<operation>(s, o, false); });
    type.def(reflected, [](const Size& s, const py::handle& o) { return calculate<operation>(s, o, true); });
}

py::object read_only(py::array array) {
    py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
    return array;
}

py::object tensor_info(const Fact& fact, const std::shared_ptr<DimTable*>& table) {
    py::object shape = py::none(), value = py::none();
    if (fact.ranked && fact.kind == Value::Kind::tensor) {
        py::tuple sizes(fact.shape.size());
        for (size_t i = 0; i < fact.shape.size(); ++i) sizes[i] = size_object(table, fact.shape[i]);
        shape = sizes;
    }
    if (fact.constant && fact.constant->data) value = read_only(from_value(fact.constant->clone()));
    const py::object dtype =
        fact.dtype == DType::undefined ? py::object(py::none()) : py::object(numpy_dtype(fact.dtype));
    return py::module_::import("linnet._operators")
        .attr("TensorInfo")(dtype, shape, value, fact.kind == Value::Kind::sequence);
}

Fact fact_from(const py::handle& info) {
    Fact fact;
    if (info.is_none()) return fact;
    if (!py::isinstance(info, py::module_::import("linnet._operators").attr("TensorInfo")))
        fail(ErrorKind::invalid_graph, "infer must give a TensorInfo for each output, not ", utf8(py::repr(info)));
    const py::object dtype = info.attr("dtype"), shape = info.attr("shape");
    if (!dtype.is_none()) fact.dtype = dtype_from_numpy(py::dtype::from_args(dtype));
    if (info.attr("sequence").cast<bool>()) {
        fact.kind = Value::Kind::sequence;
        return fact;
    }
    if (shape.is_none()) return fact;
    fact.ranked = true;
    for (const py::handle size : shape) fact.shape.push_back(dim_of(size));
    return fact;
}

// ---- attributes ----------------------------------------------------------------------------------------------------

struct ToPython {
    py::object operator()(int64_t value) const { return py::int_(value); }
    py::object operator()(float value) const { return py::float_(value); }
    py::object operator()(const std::string& value) const { return readable(value); }
    py::object operator()(const Tensor& value) const { return read_only(from_value(value.clone())); }
    py::object operator()(const Fact& value) const { return tensor_info(value, std::make_shared<DimTable*>(nullptr)); }
    py::object operator()(const std::shared_ptr<Graph>&) const {
        fail(ErrorKind::not_implemented, "is a graph, which a registered operator cannot be given");
    }
    template <class T>
    py::object operator()(const std::vector<T>& values) const {
        py::tuple items(values.size());
        for (size_t i = 0; i < values.size(); ++i) items[i] = (*this)(values[i]);
        return items;
    }
};

py::dict keywords(const Attributes& attributes) {
    py::dict named;
    for (const Attribute& a : attributes.items()) {
        try {
            named[readable(a.name)] = std::visit(ToPython{}, a.data);
        } catch (Error& e) {
            e.add_context(cat("attribute '", a.name, "'"));
            throw;
        }
    }
    return named;
}

py::object call(const py::handle& function, const py::tuple& arguments, const Attributes& attributes) {
    const py::dict named = keywords(attributes);
    PyObject* result = PyObject_Call(function.ptr(), arguments.ptr(), named.ptr());
    if (!result) throw py::error_already_set();
    return py::reinterpret_steal<py::object>(result);
}

// What a function gives for each of `count` outputs.
std::vector<py::object> results_of(const py::object& result, int count, const char* function) {
    std::vector<py::object> items;
    const bool several = py::isinstance<py::tuple>(result) || (count > 1 && py::isinstance<py::list>(result));
    if (!several) return {result};
    for (const py::handle item : result) items.push_back(py::reinterpret_borrow<py::object>(item));
    if (static_cast<int>(items.size()) < count)
        fail(ErrorKind::invalid_argument, function, " gives ", items.size(), " results; the node has ", count,
             " outputs");
    return items;
}

// ---- the two functions ---------------------------------------------------------------------------------------------

void call_infer(const std::shared_ptr<void>& function, InferContext& ctx) {
    const py::gil_scoped_acquire gil;
    translated(ErrorKind::invalid_graph, [&] {
        const auto table = std::make_shared<DimTable*>(&ctx.dims);
        struct End {
            DimTable*& table;
            ~End() { table = nullptr; }
        } end{*table};
        py::tuple arguments(static_cast<size_t>(ctx.inputs()));
        for (int i = 0; i < ctx.inputs(); ++i)
            arguments[static_cast<size_t>(i)] =
                ctx.has_input(i) ? tensor_info(ctx.input(i), table) : py::object(py::none());
        const py::object result = call(handle_of(function), arguments, ctx.attributes);
        const auto items = results_of(result, ctx.outputs(), "infer");
        for (size_t i = 0; i < items.size(); ++i) ctx.output(static_cast<int>(i), fact_from(items[i]));
    });
}

// A view of the value's memory that cannot be written to and keeps `base` alive.
py::object view_of(const Value& value, const py::object& base) {
    if (value.kind == Value::Kind::sequence) {
        py::list items;
        for (const Value& item : *value.items) items.append(view_of(item, base));
        return items;
    }
    if (value.kind != Value::Kind::tensor || value.tensor.dtype == DType::string) return from_value(value);
    const Tensor& t = value.tensor;
    const std::vector<py::ssize_t> shape(t.shape.begin(), t.shape.end());
    return read_only(py::array(numpy_dtype(t.dtype), shape, t.data, base));
}

void call_run(const std::shared_ptr<void>& function, CustomRun& ctx) {
    const RunContext& context = ctx.context;
    const py::gil_scoped_acquire gil;
    // Every view of this call refers to it, so that it tells whether one outlives the call.
    static char anything;
    const py::capsule guard(&anything, [](void*) {});
    translated(ErrorKind::runtime, [&] {
        py::tuple arguments(static_cast<size_t>(context.inputs()));
        for (int i = 0; i < context.inputs(); ++i)
            arguments[static_cast<size_t>(i)] =
                context.has_input(i) ? view_of(context.value(i), guard) : py::object(py::none());
        const py::object result = call(handle_of(function), arguments, context.attributes);
        const auto items = results_of(result, context.outputs(), "the function");
        for (size_t i = 0; i < items.size(); ++i) {
            const auto index = static_cast<int>(i);
            if (!context.has_output(index)) continue;
            try {
                if (items[i].is_none()) fail(ErrorKind::runtime, "the function gives None");
                Fact wanted = ctx.fact(index) ? *ctx.fact(index) : Fact{};
                if (wanted.dtype == DType::undefined && py::isinstance<py::list>(items[i]))
                    wanted.kind = Value::Kind::sequence;
                Value value = to_value(items[i], &wanted);
                ctx.put(index, value);
            } catch (Error& e) {
                e.add_context(cat("output ", i));
                throw;
            }
        }
    });
    if (guard.ref_count() > 1) py::module_::import("gc").attr("collect")();  // perhaps a cycle that is garbage
    if (guard.ref_count() > 1)
        fail(ErrorKind::runtime,
             "the function keeps an input, or a view of one, after it has returned; the memory is reused: keep a copy");
}

struct PythonOp : CustomOp {
    PythonOp(const std::string& domain, const std::string& name, int since, const py::object& infer_function,
             const py::object& run_function)
        : CustomOp(domain, name, since), for_infer(shared(infer_function)), for_run(shared(run_function)) {
        if (!infer_function.is_none())
            infer_outputs = [](const CustomOp& op, InferContext& ctx) {
                call_infer(static_cast<const PythonOp&>(op).for_infer, ctx);
            };
        compute = [](const CustomOp& op, CustomRun& ctx) { call_run(static_cast<const PythonOp&>(op).for_run, ctx); };
    }
    const std::shared_ptr<void> for_infer, for_run;
};

void add_operator(const std::string& domain, const std::string& name, int since, const py::object& infer_function,
                  const py::object& run_function) {
    register_op(std::make_shared<PythonOp>(domain, name, since, infer_function, run_function));
}

}  // namespace

void bind_operators(py::module_& m) {
    py::class_<Size> size(m, "Size", "A size that is not known yet; sums, products ... of such sizes are sizes, too.");
    bind_operation<&DimTable::add>(size, "__add__", "__radd__");
    bind_operation<&DimTable::sub>(size, "__sub__", "__rsub__");
    bind_operation<&DimTable::mul>(size, "__mul__", "__rmul__");
    bind_operation<&DimTable::floor_div>(size, "__floordiv__", "__rfloordiv__");
    size.def("__eq__", [](const Size& a, const py::handle& b) {
        return py::isinstance<Size>(b) && a.code != kUnknownDim && a.code == b.cast<Size>().code;
    });
    size.def("__hash__", [](const Size& s) { return s.code; });
    size.def("__repr__", [](const Size& s) {
        return *s.table && s.code != kUnknownDim ? readable((*s.table)->text(s.code)) : py::str("?");
    });
    m.def("register_operator", &add_operator, py::arg("domain"), py::arg("name"), py::arg("since_version"),
          py::arg("infer"), py::arg("run"));
    m.def("unregister_operator", &unregister_op, py::arg("domain"), py::arg("name"), py::arg("since_version"));
    m.def("registered_operators", [] {
        py::list rows;
        for (const auto& op : custom_ops()->rows)
            rows.append(py::make_tuple(op->domain_text, op->name_text, op->since));
        return rows;
    });
}

}  // namespace linnet::bindings
