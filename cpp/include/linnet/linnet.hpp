// A C++17 wrapper of Linnet's C interface: handles that free themselves, exceptions instead of statuses.
//
//     linnet::Session session("model.onnx");
//     std::vector<float> pixels(1 * 3 * 224 * 224);
//     auto outputs = session.run({{"x", linnet::Value::view(pixels.data(), {1, 3, 224, 224})}});
//     const float* scores = outputs[0].data<float>();
#ifndef LINNET_LINNET_HPP
#define LINNET_LINNET_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "linnet/linnet.h"

namespace linnet {

using Shape = std::vector<std::int64_t>;

// What a function of the C interface reported.
class Error : public std::runtime_error {
  public:
    Error(linnet_status status, const std::string& text) : std::runtime_error(text), status_(status) {}
    linnet_status status() const noexcept { return status_; }

  private:
    linnet_status status_;
};

inline void check(linnet_status status) {
    if (status != LINNET_OK) throw Error(status, linnet_last_error());
}

// The element type of a C++ type; LINNET_UNDEFINED for one that is none.
template <class T>
constexpr linnet_dtype dtype_of() noexcept {
    if constexpr (std::is_same_v<T, float>) return LINNET_FLOAT32;
    else if constexpr (std::is_same_v<T, double>) return LINNET_FLOAT64;
    else if constexpr (std::is_same_v<T, bool>) return LINNET_BOOL;
    else if constexpr (std::is_integral_v<T>) {
        constexpr linnet_dtype kSigned[] = {LINNET_INT8, LINNET_INT16, LINNET_INT32, LINNET_INT64};
        constexpr linnet_dtype kUnsigned[] = {LINNET_UINT8, LINNET_UINT16, LINNET_UINT32, LINNET_UINT64};
        constexpr int kIndex = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
        return std::is_signed_v<T> ? kSigned[kIndex] : kUnsigned[kIndex];
    } else {
        return LINNET_UNDEFINED;
    }
}

// A tensor, sequence or map. Copies share the contents.
class Value {
  public:
    Value() = default;
    // Takes over a handle.
    explicit Value(linnet_value* handle) : handle_(handle, linnet_value_destroy) {}

    // A tensor over the caller's memory, which must outlive every use of the value.
    template <class T>
    static Value view(T* data, const Shape& shape) {
        static_assert(dtype_of<std::remove_const_t<T>>() != LINNET_UNDEFINED, "use view_bytes for other types");
        std::size_t bytes = sizeof(T);
        for (const std::int64_t size : shape) bytes *= static_cast<std::size_t>(size < 0 ? 0 : size);
        return view_bytes(dtype_of<std::remove_const_t<T>>(), shape, const_cast<std::remove_const_t<T>*>(data), bytes);
    }
    static Value view_bytes(linnet_dtype dtype, const Shape& shape, void* data, std::size_t bytes) {
        return made([&](linnet_value** out) {
            return linnet_tensor_view(dtype, shape.data(), shape.size(), data, bytes, out);
        });
    }
    // A tensor of zeros with memory of its own.
    static Value zeros(linnet_dtype dtype, const Shape& shape) {
        return made([&](linnet_value** out) { return linnet_tensor_create(dtype, shape.data(), shape.size(), out); });
    }
    static Value strings(const std::vector<std::string>& texts, const Shape& shape) {
        std::vector<const char*> pointers;
        std::vector<std::size_t> lengths;
        std::int64_t count = 1;
        for (const std::int64_t size : shape) count *= size;
        if (count != static_cast<std::int64_t>(texts.size()))
            throw Error(LINNET_INVALID_ARGUMENT, "the number of strings does not fit the shape");
        for (const std::string& text : texts) {
            pointers.push_back(text.c_str());
            lengths.push_back(text.size());
        }
        return made([&](linnet_value** out) {
            return linnet_tensor_create_strings(pointers.data(), lengths.data(), shape.data(), shape.size(), out);
        });
    }
    static Value sequence(const std::vector<Value>& items) {
        std::vector<const linnet_value*> handles;
        for (const Value& item : items) handles.push_back(item.handle());
        return made([&](linnet_value** out) { return linnet_sequence_create(handles.data(), handles.size(), out); });
    }

    linnet_value* handle() const noexcept { return handle_.get(); }
    linnet_kind kind() const { return linnet_value_kind(handle()); }
    linnet_dtype dtype() const {
        linnet_dtype dtype = LINNET_UNDEFINED;
        check(linnet_tensor_info(handle(), &dtype, nullptr, nullptr, nullptr));
        return dtype;
    }
    Shape shape() const {
        const std::int64_t* dims = nullptr;
        std::size_t rank = 0;
        check(linnet_tensor_info(handle(), nullptr, &dims, &rank, nullptr));
        return Shape(dims, dims + rank);
    }
    std::size_t count() const {
        std::size_t count = 0;
        check(linnet_tensor_info(handle(), nullptr, nullptr, nullptr, &count));
        return count;
    }
    void* bytes() const {
        void* data = nullptr;
        check(linnet_tensor_data(handle(), &data, nullptr));
        return data;
    }
    // The elements, row-major; throws when they are of another type.
    template <class T>
    T* data() const {
        if (dtype() != dtype_of<std::remove_const_t<T>>())
            throw Error(LINNET_INVALID_ARGUMENT,
                        std::string("the tensor's elements are ") + linnet_dtype_name(dtype()));
        return static_cast<T*>(bytes());
    }
    std::string text(std::size_t index) const {
        const char* text = nullptr;
        std::size_t length = 0;
        check(linnet_tensor_string(handle(), index, &text, &length));
        return std::string(text, length);
    }
    // Of a sequence; of a map, its keys and its values.
    std::vector<Value> items() const {
        std::size_t size = 0;
        check(linnet_value_size(handle(), &size));
        std::vector<Value> items;
        for (std::size_t i = 0; i < size; ++i)
            items.push_back(made([&](linnet_value** out) { return linnet_value_item(handle(), i, out); }));
        return items;
    }

  private:
    template <class Fn>
    static Value made(const Fn& fn) {
        linnet_value* handle = nullptr;
        check(fn(&handle));
        return Value(handle);
    }
    std::shared_ptr<linnet_value> handle_;
};

// Options of a session, by the names that linnet_options_set has.
class Options {
  public:
    Options() {
        linnet_options* handle = nullptr;
        check(linnet_options_create(&handle));
        handle_.reset(handle);
    }
    Options& set(const std::string& key, const std::string& value) {
        check(linnet_options_set(handle_.get(), key.c_str(), value.c_str()));
        return *this;
    }
    Options& threads(int count) { return set("threads", std::to_string(count)); }
    const linnet_options* handle() const noexcept { return handle_.get(); }

  private:
    struct Destroy {
        void operator()(linnet_options* options) const { linnet_options_destroy(options); }
    };
    std::unique_ptr<linnet_options, Destroy> handle_;
};

// Stops runs that were given it, from any thread.
class Flag {
  public:
    Flag() {
        linnet_flag* handle = nullptr;
        check(linnet_flag_create(&handle));
        handle_.reset(handle);
    }
    void set(bool on = true) { linnet_flag_set(handle_.get(), on); }
    const linnet_flag* handle() const noexcept { return handle_.get(); }

  private:
    struct Destroy {
        void operator()(linnet_flag* flag) const { linnet_flag_destroy(flag); }
    };
    std::unique_ptr<linnet_flag, Destroy> handle_;
};

// An input or output as the model declares it.
struct Port {
    std::string name;
    linnet_kind kind = LINNET_TENSOR;
    linnet_dtype dtype = LINNET_UNDEFINED;
    bool ranked = false;
    Shape shape;                         // -1 where a size is symbolic or not known
    std::vector<std::string> dim_names;  // "batch" where a size is symbolic, else ""
};

struct Limits {
    const Flag* stop = nullptr;
    std::chrono::milliseconds time{0};  // 0: none
};

class Session {
  public:
    using Feeds = std::vector<std::pair<std::string, Value>>;

    explicit Session(const std::string& path, const Options& options = {}) {
        check(linnet_check_api(LINNET_API_VERSION));
        linnet_session* handle = nullptr;
        check(linnet_session_open(path.c_str(), options.handle(), &handle));
        handle_.reset(handle);
    }
    // From the bytes of an ONNX file.
    Session(const void* bytes, std::size_t size, const Options& options = {}) {
        check(linnet_check_api(LINNET_API_VERSION));
        linnet_session* handle = nullptr;
        check(linnet_session_create(bytes, size, options.handle(), &handle));
        handle_.reset(handle);
    }

    std::vector<Port> inputs() const { return ports(linnet_session_input_count, linnet_session_input); }
    std::vector<Port> outputs() const { return ports(linnet_session_output_count, linnet_session_output); }

    // Runs the model; `wanted` empty: all outputs, in the model's order. Any number of threads may run at once.
    std::vector<Value> run(const Feeds& feeds, std::vector<std::string> wanted = {}, const Limits& limits = {}) const {
        if (wanted.empty())
            for (const Port& port : outputs()) wanted.push_back(port.name);
        std::vector<linnet_value*> results(wanted.size(), nullptr);
        run_handles(feeds, wanted, results, limits);
        std::vector<Value> values;
        for (linnet_value* result : results) values.emplace_back(result);
        return values;
    }
    // Writes the named outputs into the given tensors.
    void run_into(const Feeds& feeds, const Feeds& outputs, const Limits& limits = {}) const {
        std::vector<std::string> wanted;
        std::vector<linnet_value*> results;
        for (const auto& [name, value] : outputs) {
            if (!value.handle()) throw Error(LINNET_INVALID_ARGUMENT, "output '" + name + "' is given no memory");
            wanted.push_back(name);
            results.push_back(value.handle());
        }
        run_handles(feeds, wanted, results, limits);
    }

    linnet_session* handle() const noexcept { return handle_.get(); }

  private:
    struct Destroy {
        void operator()(linnet_session* session) const { linnet_session_destroy(session); }
    };

    template <class Count, class Get>
    std::vector<Port> ports(Count count, Get get) const {
        std::vector<Port> ports;
        for (std::size_t i = 0; i < count(handle()); ++i) {
            linnet_port raw;
            check(get(handle(), i, &raw));
            Port port;
            port.name = raw.name;
            port.kind = raw.kind;
            port.dtype = raw.dtype;
            port.ranked = raw.rank >= 0;
            for (std::int64_t d = 0; d < raw.rank; ++d) {
                port.shape.push_back(raw.dims[d]);
                port.dim_names.emplace_back(raw.dim_names[d]);
            }
            ports.push_back(std::move(port));
        }
        return ports;
    }
    void run_handles(const Feeds& feeds, const std::vector<std::string>& wanted, std::vector<linnet_value*>& results,
                     const Limits& limits) const {
        std::vector<const char*> input_names, output_names;
        std::vector<const linnet_value*> inputs;
        for (const auto& [name, value] : feeds) {
            input_names.push_back(name.c_str());
            inputs.push_back(value.handle());
        }
        for (const std::string& name : wanted) output_names.push_back(name.c_str());
        check(linnet_session_run_limited(handle(), input_names.data(), inputs.data(), inputs.size(),
                                         output_names.data(), results.data(), results.size(),
                                         limits.stop ? limits.stop->handle() : nullptr,
                                         static_cast<std::uint64_t>(limits.time.count())));
    }

    std::unique_ptr<linnet_session, Destroy> handle_;
};

}  // namespace linnet

#endif
