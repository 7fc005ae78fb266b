// Reading protobuf's wire format with onnx::Cursor: what the codecs' messages have in common.
#pragma once
#include <string_view>

#include "onnx/wire.h"
#include "serve/json.h"

namespace linnet::serve {

using onnx::Cursor;

// The current field, which is a name or other text of at most so many bytes.
inline std::string_view utf8(const Cursor& in, const char* name, size_t longest = kLongestName) {
    const std::string_view text = in.text(name);
    if (text.size() > longest) in.error("'", name, "' has ", text.size(), " bytes, more than ", longest);
    if (!is_utf8(text)) in.error("'", name, "' is not UTF-8");
    return text;
}

// A list of elements in a message: the field's number and name; 0 where there is none.
struct ListField {
    uint32_t number;
    const char* name;
};

}  // namespace linnet::serve
