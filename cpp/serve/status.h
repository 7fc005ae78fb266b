// How a request can end: gRPC's status codes, with its numbers. Transports map them to their own (HTTP: rest.h).
#pragma once
#include <exception>
#include <string>
#include <utility>

#include "base/error.h"

namespace linnet::serve {

enum class Code : int {
    ok = 0,
    cancelled = 1,
    unknown = 2,
    invalid_argument = 3,
    deadline_exceeded = 4,
    not_found = 5,
    already_exists = 6,
    permission_denied = 7,
    resource_exhausted = 8,
    failed_precondition = 9,
    unimplemented = 12,
    internal = 13,
    unavailable = 14,
    unauthenticated = 16,
};

class Failure : public std::exception {
  public:
    Failure(Code code, std::string message) : code_(code), message_(std::move(message)) {}
    Code code() const noexcept { return code_; }
    const std::string& message() const noexcept { return message_; }
    const char* what() const noexcept override { return message_.c_str(); }
    // Puts "context: " before the message.
    void add_context(const std::string& context) { message_ = context + ": " + message_; }

  private:
    Code code_;
    std::string message_;
};

template <class... Parts>
[[noreturn, gnu::always_inline]] inline void refuse(Code code, const Parts&... parts) {
    throw Failure(code, cat(parts...));
}

// Does `work`; what the library refuses there is an invalid argument.
template <class Fn>
auto as_failures(Fn&& work) {
    try {
        return std::forward<Fn>(work)();
    } catch (const Error& error) {
        throw Failure(Code::invalid_argument, error.message());
    }
}

}  // namespace linnet::serve
