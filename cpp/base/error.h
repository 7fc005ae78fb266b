// The one exception type of the library. Thrown while loading, planning and checking inputs; context is added on the
// way out ("loading m.onnx: node 'conv1' (Conv): ..."). Kernels never throw.
#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace linnet {

// What went wrong, so that a face (C, Python) can map it to its own kind of error.
enum class ErrorKind {
    fail,              // anything without a better name
    invalid_argument,  // a caller's input: names, shapes, dtypes, options
    no_such_file,      // a path that cannot be opened
    invalid_protobuf,  // bytes that are not an ONNX model
    invalid_graph,     // an ONNX model that breaks the specification
    not_implemented,   // an operator, opset or type that Linnet does not have
    runtime,           // a step failed while running
    cancelled,         // a time limit or a caller stopped the run
};

class Error : public std::exception {
  public:
    Error(ErrorKind kind, std::string message) : kind_(kind), message_(std::move(message)) {}
    ErrorKind kind() const noexcept { return kind_; }
    const std::string& message() const noexcept { return message_; }
    const char* what() const noexcept override { return message_.c_str(); }
    // Puts "context: " before the message.
    void add_context(const std::string& context) { message_ = context + ": " + message_; }

  private:
    ErrorKind kind_;
    std::string message_;
};

// How cat() writes one part; out of line, because messages are many and rarely made.
void append_text(std::string& out, std::string_view text);
void append_text(std::string& out, char c);
void append_text(std::string& out, int64_t number);
void append_text(std::string& out, uint64_t number);
void append_text(std::string& out, double number);  // six digits

template <class T>
void append_part(std::string& out, const T& part) {
    if constexpr (std::is_same_v<T, char>) append_text(out, part);
    else if constexpr (std::is_floating_point_v<T>) append_text(out, static_cast<double>(part));
    else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) append_text(out, static_cast<int64_t>(part));
    else if constexpr (std::is_integral_v<T>) append_text(out, static_cast<uint64_t>(part));
    else append_text(out, std::string_view(part));
}

// Joins text, characters and numbers (bools as 0 and 1) into one string.
template <class... Parts>
[[gnu::noinline]] std::string cat(const Parts&... parts) {
    std::string out;
    (append_part(out, parts), ...);
    return out;
}

template <class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void fail(ErrorKind kind, const Parts&... parts) {
    throw Error(kind, cat(parts...));
}

// Checks what the specification demands of a model.
template <class... Parts>
void require(bool condition, const Parts&... parts) {
    if (!condition) fail(ErrorKind::invalid_graph, parts...);
}

}  // namespace linnet
