// Parameters of requests and of the outputs they ask for: the same names on OIP's gRPC and REST wires.
#pragma once
#include <string>
#include <string_view>

#include "serve/message.h"

namespace linnet::serve {

struct Parameter {
    enum class Kind : uint8_t { none, boolean, whole, natural, real, text };

    static Parameter of(bool value) { return {Kind::boolean, value ? 1u : 0u, 0, {}}; }
    static Parameter of(int64_t value) { return {Kind::whole, static_cast<uint64_t>(value), 0, {}}; }
    static Parameter of(uint64_t value) { return {Kind::natural, value, 0, {}}; }
    static Parameter of(double value) { return {Kind::real, 0, value, {}}; }
    static Parameter of(std::string_view value) { return {Kind::text, 0, 0, value}; }

    Kind kind = Kind::none;
    uint64_t bits = 0;  // boolean, whole, natural
    double real = 0;
    std::string_view text;
};

// Take what the parameter says; others than these are ignored, since clients send their own: priority, timeout
// (microseconds), sequence_id, binary_data_output; classification and binary_data of an output. Throw invalid_argument
// for a value of the wrong kind, unimplemented for shared memory.
void set_parameter(Request& request, std::string_view key, const Parameter& value);
void set_parameter(WantedOutput& output, std::string_view key, const Parameter& value);
void refuse_shared_memory(std::string_view key);

}  // namespace linnet::serve
