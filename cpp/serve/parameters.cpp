// What the parameters of a request mean.
#include "serve/parameters.h"

#include <limits>

#include "serve/tensor_bytes.h"

namespace linnet::serve {
namespace {

using Kind = Parameter::Kind;

uint64_t natural(std::string_view key, const Parameter& value) {
    if (value.kind == Kind::natural || (value.kind == Kind::whole && static_cast<int64_t>(value.bits) >= 0))
        return value.bits;
    refuse(Code::invalid_argument, "parameter ", in_quotes(key), " must be a whole number that is not negative");
}

int64_t natural_i64(std::string_view key, const Parameter& value) {
    const uint64_t number = natural(key, value);
    if (number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        refuse(Code::invalid_argument, "parameter ", in_quotes(key), " is too large: ", number);
    return static_cast<int64_t>(number);
}

bool boolean(std::string_view key, const Parameter& value) {
    if (value.kind != Kind::boolean)
        refuse(Code::invalid_argument, "parameter ", in_quotes(key), " must be true or false");
    return value.bits != 0;
}

}  // namespace

void refuse_shared_memory(std::string_view key) {
    if (key.substr(0, 14) == "shared_memory_")
        refuse(Code::unimplemented, "tensors in shared memory are not supported: send them in the message");
}

void set_parameter(Request& request, std::string_view key, const Parameter& value) {
    if (key == "priority") request.priority = natural(key, value);
    else if (key == "timeout") request.timeout_us = natural_i64(key, value);
    else if (key == "binary_data_output") request.binary_outputs = boolean(key, value);
    else if (key == "sequence_id") {
        if (value.kind != Kind::text && value.kind != Kind::natural && value.kind != Kind::whole)
            refuse(Code::invalid_argument, "parameter 'sequence_id' must be text or a whole number");
        if (value.text.size() > kLongestName) refuse(Code::invalid_argument, "parameter 'sequence_id' is too long");
        if (value.kind == Kind::text) request.sequence = value.text;
        else if (value.bits == 0) request.sequence.clear();  // 0: none
        else
            request.sequence = value.kind == Kind::whole ? std::to_string(static_cast<int64_t>(value.bits))
                                                         : std::to_string(value.bits);
    }
}

void set_parameter(WantedOutput& output, std::string_view key, const Parameter& value) {
    refuse_shared_memory(key);
    if (key == "classification") output.classes = natural_i64(key, value);
    else if (key == "binary_data") output.binary = boolean(key, value);
}

}  // namespace linnet::serve
