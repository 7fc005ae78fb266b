// The parts of messages.
#include "base/error.h"

#include <cstdio>

namespace linnet {

void append_text(std::string& out, std::string_view text) { out += text; }
void append_text(std::string& out, char c) { out += c; }
void append_text(std::string& out, int64_t number) { out += std::to_string(number); }
void append_text(std::string& out, uint64_t number) { out += std::to_string(number); }
void append_text(std::string& out, double number) {
    char text[32];
    std::snprintf(text, sizeof text, "%g", number);
    out += text;
}

}  // namespace linnet
