// Reading protobuf's wire format with onnx::Cursor: what the codecs' messages have in common.
#pragma once
#include <string>
#include <string_view>

#include "onnx/wire.h"
#include "serve/json.h"

namespace linnet::serve {

using onnx::Cursor;

// The current field, a name or the like.
inline std::string utf8(const Cursor& in, const char* name) {
    const std::string_view text = in.text(name);
    if (text.size() > kLongestName) in.error("'", name, "' has ", text.size(), " bytes, more than ", kLongestName);
    if (!is_utf8(text)) in.error("'", name, "' is not UTF-8");
    return std::string(text);
}

// A list of elements in a message: the field's number and name; 0 where there is none.
struct ListField {
    uint32_t number;
    const char* name;
};

}  // namespace linnet::serve
