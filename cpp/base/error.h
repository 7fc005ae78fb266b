// The one exception type of the library. Thrown while loading, planning and checking inputs; context is added on the
// way out ("loading m.onnx: node 'conv1' (Conv): ..."). Kernels never throw.
#pragma once
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
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
    // What a callback of another language threw, in that language's own form; null otherwise.
    const std::shared_ptr<void>& cause() const noexcept { return cause_; }
    void set_cause(std::shared_ptr<void> cause) { cause_ = std::move(cause); }

  private:
    ErrorKind kind_;
    std::string message_;
    std::shared_ptr<void> cause_;
};

// A part of a message: text, a character, or a number.
class Part {
  public:
    Part(const char* text) : text_(text), kind_(Kind::terminated) {}
    Part(std::string_view text) : text_(text.data()), size_(static_cast<uint32_t>(text.size())), kind_(Kind::text) {}
    Part(char c) : whole_(c), kind_(Kind::character) {}
    Part(int64_t number) : whole_(number), kind_(Kind::whole) {}
    Part(uint64_t number) : natural_(number), kind_(Kind::natural) {}
    Part(double number) : real_(number), kind_(Kind::real) {}  // six digits
    void append_to(std::string& out) const;

  private:
    enum class Kind : uint32_t { terminated, text, character, whole, natural, real };
    union {
        const char* text_;
        int64_t whole_;
        uint64_t natural_;
        double real_;
    };
    uint32_t size_ = 0;
    Kind kind_;
};

std::string join_parts(std::initializer_list<Part> parts);
[[noreturn]] void fail_with(ErrorKind kind, std::initializer_list<Part> parts);

// A part as one of the types that Part is made of. Messages are many and rarely made: with few types they share code.
template <class T>
[[gnu::always_inline]] inline auto plain_part(const T& part) {
    if constexpr (std::is_same_v<T, char>) return part;
    else if constexpr (std::is_floating_point_v<T>) return static_cast<double>(part);
    else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) return static_cast<int64_t>(part);
    else if constexpr (std::is_integral_v<T>) return static_cast<uint64_t>(part);
    else if constexpr (std::is_convertible_v<T, const char*>) return static_cast<const char*>(part);
    else return std::string_view(part);
}
template <class... Plain>
[[gnu::noinline]] std::string cat_plain(Plain... parts) {
    return join_parts({Part(parts)...});
}
template <class... Plain>
[[noreturn, gnu::noinline, gnu::cold]] void fail_plain(ErrorKind kind, Plain... parts) {
    fail_with(kind, {Part(parts)...});
}

// Joins text, characters and numbers (bools as 0 and 1) into one string.
template <class... Parts>
[[gnu::always_inline]] inline std::string cat(const Parts&... parts) {
    return cat_plain(plain_part(parts)...);
}

template <class... Parts>
[[noreturn, gnu::always_inline]] inline void fail(ErrorKind kind, const Parts&... parts) {
    fail_plain(kind, plain_part(parts)...);
}

// Checks what the specification demands of a model.
template <class... Parts>
[[gnu::always_inline]] inline void require(bool condition, const Parts&... parts) {
    if (!condition) fail(ErrorKind::invalid_graph, parts...);
}

}  // namespace linnet
