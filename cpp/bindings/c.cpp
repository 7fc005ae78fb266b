// The C interface over Session: handles around the library's own objects; every exception becomes a status and a text.
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>

#include "bindings/c.h"
#include "kernels/kernels.h"
#include "runtime/session.h"

using namespace linnet;
using namespace linnet::c;

struct linnet_options {
    SessionOptions session;
};

struct linnet_flag {
    std::shared_ptr<std::atomic<bool>> on = std::make_shared<std::atomic<bool>>(false);
};

struct linnet_session {
    // What a linnet_port points to.
    struct Port {
        std::vector<int64_t> dims;
        std::vector<const char*> names;
    };
    template <class... Args>
    explicit linnet_session(const Args&... args) : session(args...) {
        describe(session.inputs(), inputs);
        describe(session.outputs(), outputs);
    }
    static void describe(const std::vector<PortInfo>& ports, std::vector<Port>& out) {
        for (const PortInfo& info : ports) {
            Port& port = out.emplace_back();
            for (size_t i = 0; i < info.fact.shape.size(); ++i) {
                port.dims.push_back(is_number(info.fact.shape[i]) ? info.fact.shape[i] : -1);
                port.names.push_back(info.dimension_names[i].c_str());
            }
        }
    }

    Session session;
    std::vector<Port> inputs, outputs;
};

namespace linnet::c {

thread_local std::string last_error;

linnet_status report(linnet_status status, const char* text) noexcept {
    try {
        last_error = text;
    } catch (...) {
        last_error.clear();  // no memory even for the text
    }
    return status;
}

linnet_status status_of(ErrorKind kind) {
    switch (kind) {
        case ErrorKind::invalid_argument: return LINNET_INVALID_ARGUMENT;
        case ErrorKind::no_such_file: return LINNET_NO_SUCH_FILE;
        case ErrorKind::invalid_protobuf: return LINNET_INVALID_PROTOBUF;
        case ErrorKind::invalid_graph: return LINNET_INVALID_GRAPH;
        case ErrorKind::not_implemented: return LINNET_NOT_IMPLEMENTED;
        case ErrorKind::runtime: return LINNET_RUNTIME_ERROR;
        case ErrorKind::cancelled: return LINNET_CANCELLED;
        default: return LINNET_FAIL;
    }
}

linnet_status report_exception() noexcept {
    try {
        throw;
    } catch (const Error& error) {
        return report(status_of(error.kind()), error.what());
    } catch (const std::bad_alloc&) {
        return report(LINNET_OUT_OF_MEMORY, "out of memory");
    } catch (const std::exception& error) {
        return report(LINNET_FAIL, error.what());
    } catch (...) {
        return report(LINNET_FAIL, "an unknown error");
    }
}

DType dtype_from(linnet_dtype dtype) {
    const int number = static_cast<int>(dtype);
    if (number <= 0 || number >= kDTypeCount) refuse("element type ", number, " is not known");
    return static_cast<DType>(number);
}

Shape shape_from(const int64_t* dims, size_t rank) {
    if (rank > kMostDims) refuse("rank ", rank, " is more than ", kMostDims);
    if (rank > 0) needed(dims, "dims");
    Shape shape(dims, dims + rank);
    element_count(shape);  // checks it
    return shape;
}

const Tensor& tensor_of(const linnet_value* value) {
    const Value& v = needed(value, "value").value;
    if (v.kind != Value::Kind::tensor) refuse("the value is not a tensor");
    return v.tensor;
}

}  // namespace linnet::c

namespace {

int64_t number_from(const std::string& key, const std::string& text) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty() || number < 0)
        refuse("option '", key, "' is '", text, "': a number is expected");
    return number;
}

bool switch_from(const std::string& key, const std::string& text) {
    if (text != "0" && text != "1") refuse("option '", key, "' is '", text, "': 0 or 1 is expected");
    return text == "1";
}

int64_t* limit_of(SessionOptions& options, std::string_view key) {
    if (key == "memory_limit") return &options.memory_limit;
    if (key == "max_model_bytes") return &options.limits.model_bytes;
    if (key == "max_nodes") return &options.limits.nodes;
    if (key == "max_nesting") return &options.limits.nesting;
    if (key == "max_rank") return &options.limits.rank;
    return nullptr;
}

void set_option(SessionOptions& options, const std::string& key, const std::string& text) {
    constexpr std::string_view kDimension = "dimension:";
    if (key == "threads") {
        const int64_t threads = number_from(key, text);
        if (threads > 4096) refuse("option 'threads' is ", threads, ": at most 4096");
        options.threads = static_cast<int>(threads);
    } else if (key == "optimization") {
        const int64_t level = number_from(key, text);
        if (level > 2) refuse("option 'optimization' is ", level, ": 0, 1 or 2 is expected");
        options.optimization = static_cast<int>(level);
    } else if (key == "exact") {
        options.exact = switch_from(key, text);
    } else if (key == "profile") {
        options.profile = switch_from(key, text);
    } else if (key == "optimized_model") {
        options.optimized_model = text;
    } else if (int64_t* const limit = limit_of(options, key)) {
        *limit = number_from(key, text);
    } else if (key.substr(0, kDimension.size()) == kDimension) {
        options.dimensions[key.substr(kDimension.size())] = number_from(key, text);
    } else {
        refuse("there is no option '", key,
               "': threads, optimization, exact, profile, memory_limit, max_model_bytes, max_nodes, max_nesting, "
               "max_rank, optimized_model or dimension:NAME is expected");
    }
}

linnet_status describe_port(const std::vector<PortInfo>& infos, const std::vector<linnet_session::Port>& ports,
                            size_t index, linnet_port* out) {
    return guarded([&] {
        needed(out, "port");
        if (index >= ports.size()) refuse("index ", index, " of ", ports.size());
        const PortInfo& info = infos[index];
        out->name = info.name.c_str();
        out->kind = static_cast<linnet_kind>(info.fact.kind);
        out->dtype = static_cast<linnet_dtype>(info.fact.dtype);
        out->rank = info.fact.ranked ? info.fact.rank() : -1;
        out->dims = ports[index].dims.data();
        out->dim_names = ports[index].names.data();
    });
}

// A result goes to where the caller wants it. The session has already written there unless the value was made
// elsewhere.
void deliver(const Value& result, const Tensor& wanted, const std::string& name) {
    const bool tensor = result.kind == Value::Kind::tensor;
    if (tensor && result.tensor.data == wanted.data && result.tensor.shape == wanted.shape) return;
    if (!tensor || result.tensor.dtype != wanted.dtype || !(result.tensor.shape == wanted.shape))
        refuse("output '", name, "' is ",
               tensor ? cat(dtype_name(result.tensor.dtype), " ", shape_text(result.tensor.shape)) : "not a tensor",
               "; the memory given for it is ", dtype_name(wanted.dtype), " ", shape_text(wanted.shape));
    Tensor to = wanted;
    copy_elements(result.tensor, to);
}

// A result must outlive the caller's inputs, even where it holds one of them.
void own(Value& value) {
    if (value.kind == Value::Kind::tensor && !value.tensor.owner) value.tensor = value.tensor.clone();
    if (value.items) {
        auto items = std::make_shared<std::vector<Value>>(*value.items);
        for (Value& item : *items) own(item);
        value.items = std::move(items);
    }
}

void run(linnet_session& session, const char* const* input_names, const linnet_value* const* inputs, size_t input_count,
         const char* const* output_names, linnet_value** outputs, size_t output_count, const RunOptions& options) {
    if (input_count > 0) needed(input_names, "input_names"), needed(inputs, "inputs");
    if (output_count > 0) needed(outputs, "outputs");
    std::vector<std::pair<std::string, Value>> feeds;
    for (size_t i = 0; i < input_count; ++i)
        feeds.emplace_back(&needed(input_names[i], "input_names[i]"), needed(inputs[i], "inputs[i]").value);
    const auto& ports = session.session.outputs();
    if (!output_names && output_count != ports.size())
        refuse("the model has ", ports.size(), " outputs, but there is room for ", output_count);
    if (output_count == 0) refuse("no output is asked for");
    std::vector<std::string> wanted;
    std::vector<Tensor> memory(output_count);
    for (size_t i = 0; i < output_count; ++i) {
        wanted.push_back(output_names ? &needed(output_names[i], "output_names[i]") : ports[i].name);
        if (outputs[i]) memory[i] = tensor_of(outputs[i]);
    }
    std::vector<Value> results = session.session.run(feeds, wanted, options, memory);
    std::vector<std::unique_ptr<linnet_value>> made(output_count);
    for (size_t i = 0; i < output_count; ++i) {
        if (outputs[i]) {
            deliver(results[i], memory[i], wanted[i]);
        } else {
            own(results[i]);
            made[i].reset(new linnet_value{std::move(results[i])});
        }
    }
    for (size_t i = 0; i < output_count; ++i)
        if (made[i]) outputs[i] = made[i].release();
}

}  // namespace

extern "C" {

const char* linnet_version(void) { return LINNET_VERSION; }
uint32_t linnet_api_version(void) { return LINNET_API_VERSION; }
const char* linnet_isa(void) {
    try {
        return kernels::kernels().isa;
    } catch (...) {
        return "";
    }
}

const char* linnet_last_error(void) { return last_error.c_str(); }

const char* linnet_status_text(linnet_status status) {
    static const char* const kTexts[] = {"no error",         "failed",        "invalid argument", "no such file",
                                         "not an ONNX file", "invalid model", "not implemented",  "error while running",
                                         "cancelled",        "out of memory"};
    const auto index = static_cast<size_t>(status);
    return index < std::size(kTexts) ? kTexts[index] : "an unknown status";
}

linnet_status linnet_check_api(uint32_t api_version) {
    return guarded([&] {
        if (api_version > LINNET_API_VERSION)
            refuse("the program needs version ", api_version, " of Linnet's C interface; the library ", LINNET_VERSION,
                   " has version ", LINNET_API_VERSION);
    });
}

size_t linnet_dtype_size(linnet_dtype dtype) {
    const auto number = static_cast<unsigned>(dtype);
    if (number >= static_cast<unsigned>(kDTypeCount) || dtype == LINNET_STRING) return 0;
    return dtype_size(static_cast<DType>(number));
}

const char* linnet_dtype_name(linnet_dtype dtype) {
    const auto number = static_cast<unsigned>(dtype);
    return dtype_name(number < static_cast<unsigned>(kDTypeCount) ? static_cast<DType>(number) : DType::undefined)
        .data();  // literals, so they end with a zero
}

linnet_status linnet_tensor_view(linnet_dtype dtype, const int64_t* dims, size_t rank, void* data, size_t bytes,
                                 linnet_value** value) {
    return guarded([&] {
        needed(value, "value");
        Tensor tensor;
        tensor.dtype = dtype_from(dtype);
        if (tensor.dtype == DType::string) refuse("strings have no memory to view: linnet_tensor_create_strings");
        tensor.shape = shape_from(dims, rank);
        const int64_t size = checked_mul(element_count(tensor.shape), static_cast<int64_t>(dtype_size(tensor.dtype)));
        if (static_cast<uint64_t>(size) > bytes)
            refuse("the memory has ", bytes, " bytes, but ", dtype_name(tensor.dtype), " ", shape_text(tensor.shape),
                   " needs ", size);
        if (size > 0) needed(static_cast<char*>(data), "data");
        const size_t align = std::min<size_t>(dtype_size(tensor.dtype), 8);
        if (reinterpret_cast<uintptr_t>(data) % align != 0)
            refuse("the memory of a ", dtype_name(tensor.dtype), " tensor must be aligned to ", align, " bytes");
        tensor.data = data;
        *value = new linnet_value{Value(std::move(tensor))};
    });
}

linnet_status linnet_tensor_create(linnet_dtype dtype, const int64_t* dims, size_t rank, linnet_value** value) {
    return guarded([&] {
        needed(value, "value");
        const DType type = dtype_from(dtype);
        if (type == DType::string) refuse("strings are made by linnet_tensor_create_strings");
        Tensor tensor = Tensor::allocate(type, shape_from(dims, rank));
        std::memset(tensor.data, 0, tensor.bytes());
        *value = new linnet_value{Value(std::move(tensor))};
    });
}

linnet_status linnet_tensor_create_strings(const char* const* strings, const size_t* lengths, const int64_t* dims,
                                           size_t rank, linnet_value** value) {
    return guarded([&] {
        needed(value, "value");
        Tensor tensor = Tensor::allocate(DType::string, shape_from(dims, rank));
        const auto count = static_cast<size_t>(tensor.count());
        if (count > 0) needed(strings, "strings");
        for (size_t i = 0; i < count; ++i) {
            const char* text = &needed(strings[i], "strings[i]");
            tensor.as<std::string>()[i] = lengths ? std::string(text, lengths[i]) : std::string(text);
        }
        *value = new linnet_value{Value(std::move(tensor))};
    });
}

linnet_status linnet_sequence_create(const linnet_value* const* items, size_t count, linnet_value** value) {
    return guarded([&] {
        needed(value, "value");
        if (count > 0) needed(items, "items");
        std::vector<Value> values;
        for (size_t i = 0; i < count; ++i) values.push_back(needed(items[i], "items[i]").value);
        *value = new linnet_value{Value::sequence(std::move(values))};
    });
}

void linnet_value_destroy(linnet_value* value) { delete value; }

linnet_kind linnet_value_kind(const linnet_value* value) {
    return value ? static_cast<linnet_kind>(value->value.kind) : LINNET_ABSENT;
}

linnet_status linnet_tensor_info(const linnet_value* value, linnet_dtype* dtype, const int64_t** dims, size_t* rank,
                                 size_t* count) {
    return guarded([&] {
        const Tensor& tensor = tensor_of(value);
        if (dtype) *dtype = static_cast<linnet_dtype>(tensor.dtype);
        if (dims) *dims = tensor.shape.data();
        if (rank) *rank = tensor.shape.size();
        if (count) *count = static_cast<size_t>(tensor.count());
    });
}

linnet_status linnet_tensor_data(const linnet_value* value, void** data, size_t* bytes) {
    return guarded([&] {
        const Tensor& tensor = tensor_of(value);
        if (tensor.dtype == DType::string) refuse("a tensor of strings: linnet_tensor_string gives each");
        needed(data, "data") = tensor.data;
        if (bytes) *bytes = tensor.bytes();
    });
}

linnet_status linnet_tensor_string(const linnet_value* value, size_t index, const char** text, size_t* length) {
    return guarded([&] {
        const Tensor& tensor = tensor_of(value);
        needed(text, "text");
        if (tensor.dtype != DType::string) refuse("the tensor is ", dtype_name(tensor.dtype), ", not strings");
        const auto count = static_cast<size_t>(tensor.count());
        if (index >= count) refuse("string ", index, " of ", count);
        const std::string& item = tensor.as<std::string>()[index];
        *text = item.c_str();
        if (length) *length = item.size();
    });
}

linnet_status linnet_value_size(const linnet_value* value, size_t* size) {
    return guarded([&] {
        const Value& v = needed(value, "value").value;
        if (!v.items) refuse("the value is not a sequence or map");
        needed(size, "size") = v.items->size();
    });
}

linnet_status linnet_value_item(const linnet_value* value, size_t index, linnet_value** item) {
    return guarded([&] {
        const Value& v = needed(value, "value").value;
        if (!v.items) refuse("the value is not a sequence or map");
        if (index >= v.items->size()) refuse("item ", index, " of ", v.items->size());
        needed(item, "item") = new linnet_value{(*v.items)[index]};
    });
}

linnet_status linnet_options_create(linnet_options** options) {
    return guarded([&] { needed(options, "options") = new linnet_options; });
}
void linnet_options_destroy(linnet_options* options) { delete options; }
linnet_status linnet_options_set(linnet_options* options, const char* key, const char* value) {
    return guarded(
        [&] { set_option(needed(options, "options").session, &needed(key, "key"), &needed(value, "value")); });
}

linnet_status linnet_session_open(const char* path, const linnet_options* options, linnet_session** session) {
    return guarded([&] {
        const std::filesystem::path file(&needed(path, "path"));
        needed(session, "session") = new linnet_session(file, options ? options->session : SessionOptions{});
    });
}

linnet_status linnet_session_create(const void* bytes, size_t size, const linnet_options* options,
                                    linnet_session** session) {
    return guarded([&] {
        if (size > 0) needed(static_cast<const char*>(bytes), "bytes");
        const onnx::Bytes model(static_cast<const std::byte*>(bytes), size);
        needed(session, "session") =
            new linnet_session(model, std::shared_ptr<const void>(), options ? options->session : SessionOptions{});
    });
}

void linnet_session_destroy(linnet_session* session) { delete session; }

size_t linnet_session_input_count(const linnet_session* session) { return session ? session->inputs.size() : 0; }
size_t linnet_session_output_count(const linnet_session* session) { return session ? session->outputs.size() : 0; }

linnet_status linnet_session_input(const linnet_session* session, size_t index, linnet_port* port) {
    if (!session) return report(LINNET_INVALID_ARGUMENT, "'session' is NULL");
    return describe_port(session->session.inputs(), session->inputs, index, port);
}
linnet_status linnet_session_output(const linnet_session* session, size_t index, linnet_port* port) {
    if (!session) return report(LINNET_INVALID_ARGUMENT, "'session' is NULL");
    return describe_port(session->session.outputs(), session->outputs, index, port);
}

const char* linnet_session_metadata(const linnet_session* session, const char* key) {
    if (!session || !key) return nullptr;
    for (const auto& [name, text] : session->session.info().metadata)
        if (name == key) return text.c_str();
    return nullptr;
}

linnet_status linnet_session_trace(linnet_session* session, char** text) {
    return guarded([&] {
        needed(text, "text");
        const std::string json = needed(session, "session").session.profiler().trace_json();
        char* copy = static_cast<char*>(std::malloc(json.size() + 1));
        if (!copy) throw std::bad_alloc();
        std::memcpy(copy, json.c_str(), json.size() + 1);
        *text = copy;
    });
}
void linnet_text_destroy(char* text) { std::free(text); }

linnet_status linnet_flag_create(linnet_flag** flag) {
    return guarded([&] { needed(flag, "flag") = new linnet_flag; });
}
void linnet_flag_destroy(linnet_flag* flag) { delete flag; }
void linnet_flag_set(linnet_flag* flag, int on) {
    if (flag) flag->on->store(on != 0, std::memory_order_relaxed);
}

linnet_status linnet_session_run(linnet_session* session, const char* const* input_names,
                                 const linnet_value* const* inputs, size_t input_count, const char* const* output_names,
                                 linnet_value** outputs, size_t output_count) {
    return linnet_session_run_limited(session, input_names, inputs, input_count, output_names, outputs, output_count,
                                      nullptr, 0);
}

linnet_status linnet_session_run_limited(linnet_session* session, const char* const* input_names,
                                         const linnet_value* const* inputs, size_t input_count,
                                         const char* const* output_names, linnet_value** outputs, size_t output_count,
                                         const linnet_flag* stop, uint64_t time_limit_ms) {
    return guarded([&] {
        RunOptions options;
        if (stop) options.terminate = stop->on;
        // A century is no limit either, and fits.
        options.time_limit = std::chrono::milliseconds(std::min<uint64_t>(time_limit_ms, 3'153'600'000'000));
        run(needed(session, "session"), input_names, inputs, input_count, output_names, outputs, output_count, options);
    });
}

}  // extern "C"
