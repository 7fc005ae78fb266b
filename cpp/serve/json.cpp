// The JSON reader: structure, text, numbers.
#include "serve/json.h"

#include <cstring>

namespace linnet::serve {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, uint32_t code) {
    const auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
    if (code < 0x80) return put(code);
    if (code < 0x800) {
        put(0xc0 | code >> 6);
    } else {
        if (code < 0x10000) {
            put(0xe0 | code >> 12);
        } else {
            put(0xf0 | code >> 18);
            put(0x80 | (code >> 12 & 0x3f));
        }
        put(0x80 | (code >> 6 & 0x3f));
    }
    put(0x80 | (code & 0x3f));
}

}  // namespace

bool is_utf8(std::string_view text) {
    const auto* at = reinterpret_cast<const unsigned char*>(text.data());
    const auto* const end = at + text.size();
    while (at != end) {
        if (end - at >= 8) {  // eight bytes of ASCII at once
            uint64_t eight;
            std::memcpy(&eight, at, 8);
            if ((eight & 0x8080808080808080u) == 0) {
                at += 8;
                continue;
            }
        }
        const unsigned char lead = *at++;
        if (lead < 0x80) continue;
        // How many bytes follow, and the range of the first of them: no overlong forms, surrogates, or codes beyond
        // 0x10ffff.
        int follow = 0;
        unsigned char low = 0x80, high = 0xbf;
        if (lead >= 0xc2 && lead <= 0xdf) follow = 1;
        else if (lead >= 0xe0 && lead <= 0xef) {
            follow = 2;
            if (lead == 0xe0) low = 0xa0;
            if (lead == 0xed) high = 0x9f;
        } else if (lead >= 0xf0 && lead <= 0xf4) {
            follow = 3;
            if (lead == 0xf0) low = 0x90;
            if (lead == 0xf4) high = 0x8f;
        } else {
            return false;
        }
        if (end - at < follow || *at < low || *at > high) return false;
        ++at;
        for (; follow > 1; --follow)
            if ((*at++ & 0xc0) != 0x80) return false;
    }
    return true;
}

JsonReader::Kind JsonReader::kind() {
    blank();
    if (at_ == end_) error("a value is missing");
    switch (*at_) {
        case '{': return Kind::object;
        case '[': return Kind::array;
        case '"': return Kind::string;
        case 't':
        case 'f': return Kind::boolean;
        case 'n': return Kind::null;
        case '-':
        case 'N':
        case 'I': return Kind::number;
        default: break;
    }
    if (is_digit(*at_)) return Kind::number;
    error("no value begins like this");
}

void JsonReader::begin(char bracket) {
    blank();
    if (at_ == end_ || *at_ != bracket) error(bracket == '[' ? "a list" : "an object", " is expected");
    if (++depth_ > kDeepest) error("lists and objects are nested more than ", kDeepest, " deep");
    ++at_;
    first_ = true;
}

bool JsonReader::next_key(std::string& key) {
    if (!more('}')) return false;
    key = text();
    blank();
    if (at_ == end_ || *at_ != ':') error("':' is expected");
    ++at_;
    return true;
}

bool JsonReader::word(std::string_view text) {
    if (left() < text.size() || std::string_view(at_, text.size()) != text) return false;
    at_ += text.size();
    return true;
}

bool JsonReader::boolean() {
    blank();
    if (word("true")) return true;
    if (word("false")) return false;
    error("true or false is expected");
}

uint32_t JsonReader::four_digits() {
    if (left() < 4) error("the text ends inside \\u");
    uint32_t code = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
        const char c = *at_;
        code <<= 4;
        if (is_digit(c)) code |= static_cast<uint32_t>(c - '0');
        else if (c >= 'a' && c <= 'f') code |= static_cast<uint32_t>(c - 'a' + 10);
        else if (c >= 'A' && c <= 'F') code |= static_cast<uint32_t>(c - 'A' + 10);
        else error("\\u needs four hexadecimal digits");
    }
    return code;
}

// After the backslash.
void JsonReader::escape(std::string& out) {
    if (at_ == end_) error("the text ends inside a string");
    switch (*at_++) {
        case '"': out += '"'; return;
        case '\\': out += '\\'; return;
        case '/': out += '/'; return;
        case 'b': out += '\b'; return;
        case 'f': out += '\f'; return;
        case 'n': out += '\n'; return;
        case 'r': out += '\r'; return;
        case 't': out += '\t'; return;
        case 'u': break;
        default: error("no such escape");
    }
    uint32_t code = four_digits();
    if (code >= 0xdc00 && code < 0xe000) error("the second half of a surrogate pair without the first");
    if (code >= 0xd800 && code < 0xdc00) {
        if (!word("\\u")) error("half of a surrogate pair");
        const uint32_t second = four_digits();
        if (second < 0xdc00 || second >= 0xe000) error("half of a surrogate pair");
        code = 0x10000 + ((code - 0xd800) << 10) + (second - 0xdc00);
    }
    append_utf8(out, code);
}

std::string JsonReader::text() {
    blank();
    if (at_ == end_ || *at_ != '"') error("text in quotes is expected");
    ++at_;
    std::string out;
    const char* const start = at_;
    for (;;) {
        const char* const run = at_;
        while (at_ != end_ && *at_ != '"' && *at_ != '\\' && static_cast<unsigned char>(*at_) >= 0x20) ++at_;
        out.append(run, at_);
        if (at_ == end_) error("the text ends inside a string");
        if (*at_ == '"') break;
        if (*at_ != '\\') error("a control character inside a string");
        ++at_;
        escape(out);
    }
    if (!is_utf8({start, static_cast<size_t>(at_ - start)})) error("the string before is not UTF-8");
    ++at_;
    return out;
}

void JsonReader::special(JsonNumber& number) {
    number.whole = number.finite = number.exact = false;
    if (word("Infinity") || (!number.negative && word("NaN"))) return;
    error("a number is expected");
}

JsonNumber JsonReader::number() {
    blank();
    JsonNumber number;
    const char* const start = at_;
    const char* at = at_;
    const char* const end = end_;
    if (at != end && *at == '-') {
        number.negative = true;
        ++at;
    }
    if (at == end || !is_digit(*at)) {
        at_ = at;
        special(number);
        number.text = {start, static_cast<size_t>(at_ - start)};
        return number;
    }
    const char* digit = at;  // where the digits that count begin
    uint64_t digits = 0;
    int64_t exponent = 0;
    if (*at == '0') {
        digit = ++at;
        if (at != end && is_digit(*at)) {
            at_ = at;
            error("a number may not begin with 0");
        }
    } else {
        for (; at != end && is_digit(*at); ++at) digits = digits * 10 + static_cast<uint64_t>(*at - '0');
    }
    int64_t count = at - digit;
    if (at != end && *at == '.') {
        number.whole = false;
        const char* const point = ++at;
        if (count == 0)  // zeros before the first digit are none
            while (at != end && *at == '0') ++at;
        const char* const fraction = at;
        for (; at != end && is_digit(*at); ++at) digits = digits * 10 + static_cast<uint64_t>(*at - '0');
        if (at == point) {
            at_ = at;
            error("digits are expected after the point");
        }
        count += at - fraction;
        exponent = point - at;
    }
    if (at != end && (*at == 'e' || *at == 'E')) {
        number.whole = false;
        ++at;
        const bool minus = at != end && *at == '-';
        if (at != end && (*at == '-' || *at == '+')) ++at;
        if (at == end || !is_digit(*at)) {
            at_ = at;
            error("digits are expected in the exponent");
        }
        int64_t given = 0;
        for (; at != end && is_digit(*at); ++at) given = std::min<int64_t>(given * 10 + (*at - '0'), 1000000000);
        exponent += minus ? -given : given;
    }
    constexpr int64_t kFar = 1000000000;
    number.digits = digits;
    number.exact = count <= 19;
    number.exponent = static_cast<int32_t>(std::clamp(exponent, -kFar, kFar));
    number.text = {start, static_cast<size_t>(at - start)};
    at_ = at;
    return number;
}

void JsonReader::skip() {
    const int depth = depth_;
    std::string key;
    // The kind of list at each depth: whether it is an object.
    bool object[kDeepest + 1];
    do {
        if (depth_ > depth && !(object[depth_] ? next_key(key) : next_element())) continue;
        switch (kind()) {
            case Kind::object:
                begin_object();
                object[depth_] = true;
                break;
            case Kind::array:
                begin_array();
                object[depth_] = false;
                break;
            case Kind::string: text(); break;
            case Kind::number: number(); break;
            case Kind::boolean: boolean(); break;
            case Kind::null:
                if (!word("null")) error("null is expected");
                break;
        }
    } while (depth_ > depth);
}

void JsonReader::finish() {
    blank();
    if (at_ != end_) error("something follows after the end of the value");
}

}  // namespace linnet::serve
