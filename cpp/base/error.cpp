// The parts of messages.
#include "base/error.h"

#include <cstdio>

namespace linnet {

void Part::append_to(std::string& out) const {
    char digits[32];
    switch (kind_) {
        case Kind::terminated: out += text_; return;
        case Kind::text: out.append(text_, size_); return;
        case Kind::character: out += static_cast<char>(whole_); return;
        case Kind::whole: out += std::to_string(whole_); return;
        case Kind::natural: out += std::to_string(natural_); return;
        case Kind::real: out.append(digits, static_cast<size_t>(std::snprintf(digits, sizeof digits, "%g", real_)));
    }
}

std::string join_parts(std::initializer_list<Part> parts) {
    std::string out;
    for (const Part& part : parts) part.append_to(out);
    return out;
}

void fail_with(ErrorKind kind, std::initializer_list<Part> parts) { throw Error(kind, join_parts(parts)); }

}  // namespace linnet
