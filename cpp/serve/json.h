// JSON (RFC 8259) read from bytes by pulling one value after the other, and written. The reader looks at each byte
// once, builds nothing, and refuses what is malformed with the byte's offset. Beyond the standard it reads and writes
// the numbers NaN, Infinity and -Infinity, as Python's json, TensorFlow Serving and Triton do.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "serve/message.h"

namespace linnet::serve {

// A number's text, and what its digits say.
struct JsonNumber {
    std::string_view text;
    uint64_t digits = 0;   // all of them as one whole number, where `exact`
    int32_t exponent = 0;  // the number is digits * 10^exponent, where `exact`
    bool negative = false;
    bool whole = true;   // no point, no exponent
    bool exact = true;   // no more than 19 digits
    bool finite = true;  // neither NaN nor infinite
};

// Its digits as a whole number, where it is one of at most 64 bits; the sign is not looked at.
bool to_whole(const JsonNumber& number, uint64_t& magnitude);
// The nearest double; float: the nearest float. Numbers beyond the range are infinite.
double to_double(const JsonNumber& number);
float to_float(const JsonNumber& number);

class JsonReader {
  public:
    static constexpr int kDeepest = 64;

    enum class Kind : uint8_t { object, array, string, number, boolean, null };

    explicit JsonReader(Bytes bytes)
        : begin_(reinterpret_cast<const char*>(bytes.data())), at_(begin_), end_(begin_ + bytes.size()) {}

    // Of the value that comes next.
    Kind kind();
    bool comes(char c) {
        blank();
        return at_ != end_ && *at_ == c;
    }

    // Objects: `begin_object(); while (next_key(key)) ...` with each value read or skipped.
    void begin_object() { begin('{'); }
    bool next_key(std::string& key);
    // Arrays: `begin_array(); while (next_element()) ...`.
    void begin_array() { begin('['); }
    bool next_element() { return more(']'); }

    std::string text();
    bool boolean();
    JsonNumber number();
    void skip();

    // The end of the value that must have been all.
    void finish();
    // Bytes not read yet: a bound on how many values can follow.
    size_t left() const { return static_cast<size_t>(end_ - at_); }

    template <class... Parts>
    [[noreturn]] void error(const Parts&... parts) const {
        refuse(Code::invalid_argument, "JSON, byte ", at_ - begin_, ": ", parts...);
    }

  private:
    void blank() {
        while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) ++at_;
    }
    void begin(char bracket);
    // True when another item follows, false when `bracket` closes the list.
    bool more(char bracket) {
        blank();
        if (at_ == end_) error("the text ends inside ", bracket == ']' ? "a list" : "an object");
        if (*at_ == bracket) {
            ++at_;
            --depth_;
            first_ = false;
            return false;
        }
        if (!first_) {
            if (*at_ != ',') error("',' or '", bracket, "' is expected");
            ++at_;
        }
        first_ = false;
        return true;
    }
    bool word(std::string_view text);
    uint32_t four_digits();
    void escape(std::string& out);
    void special(JsonNumber& number);

    const char* begin_;
    const char* at_;
    const char* end_;
    int depth_ = 0;
    bool first_ = false;  // no item of the innermost list was read
};

bool is_utf8(std::string_view text);

// Appended to `out`; numbers as the shortest text that reads back as the same number. Those of floating point have a
// point or an exponent.
void put_json(std::string& out, float value);
void put_json(std::string& out, double value);
void put_json(std::string& out, int64_t value);
void put_json(std::string& out, uint64_t value);
// In quotes, escaped. Throws invalid_argument for what is not UTF-8.
void put_json(std::string& out, std::string_view text);

}  // namespace linnet::serve
