// Numbers of JSON to floating point and back, correctly rounded; text with escapes. The standard library's from_chars
// and to_chars for floating point do the hard cases where there are any (GCC 11 on); elsewhere the C library does.
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "serve/json.h"

#if !defined(__cpp_lib_to_chars) || __cpp_lib_to_chars < 201611L
#define LINNET_C_NUMBERS 1
#include <clocale>
#include <cstdio>
#if defined(__APPLE__)
#include <xlocale.h>
#endif
#endif

namespace linnet::serve {
namespace {

#ifdef LINNET_C_NUMBERS
double parse(std::string_view text, double) {
    static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(std::string(text).c_str(), nullptr, plain);
}
float parse(std::string_view text, float) {
    static const locale_t plain = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtof_l(std::string(text).c_str(), nullptr, plain);
}
template <class T>
size_t shortest(char* out, size_t size, T value) {
    for (int digits = 1; digits <= std::numeric_limits<T>::max_digits10; ++digits) {
        const int length = std::snprintf(out, size, "%.*g", digits, static_cast<double>(value));
        for (int i = 0; i < length; ++i)  // a locale's decimal sign
            if (out[i] != '-' && out[i] != '+' && out[i] != 'e' && (out[i] < '0' || out[i] > '9')) out[i] = '.';
        if (parse({out, static_cast<size_t>(length)}, value) == value) return static_cast<size_t>(length);
    }
    return std::strlen(out);
}
#else
template <class T>
T parse(std::string_view text, T) {
    T value = 0;
    const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), value);
    if (result.ec != std::errc::result_out_of_range) return value;
    // Which of the two it is the standard library does not say.
    const bool negative = text[0] == '-';
    int64_t magnitude = 0;  // of the first digit that is not 0
    bool point = false, found = false;
    for (const char c : text) {
        if (c == 'e' || c == 'E') break;
        if (c == '.') point = true;
        else if (c >= '0' && c <= '9') {
            if (!found && point) --magnitude;
            if (c != '0') found = true;
            if (found && !point) ++magnitude;
        }
    }
    const size_t e = text.find_first_of("eE");
    if (e != std::string_view::npos) {
        const bool down = text[e + 1] == '-';
        int64_t exponent = 0;
        for (const char c : text.substr(e + 1))
            if (c >= '0' && c <= '9') exponent = std::min<int64_t>(exponent * 10 + (c - '0'), 1000000000);
        magnitude += down ? -exponent : exponent;
    }
    value = magnitude > 0 ? std::numeric_limits<T>::infinity() : T{0};
    return negative ? -value : value;
}
template <class T>
size_t shortest(char* out, size_t size, T value) {
    return static_cast<size_t>(std::to_chars(out, out + size, value).ptr - out);
}
#endif

// All of them are exact.
constexpr double kPowers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

double special(const JsonNumber& number) {
    if (number.text.back() == 'N') return std::numeric_limits<double>::quiet_NaN();
    const double infinite = std::numeric_limits<double>::infinity();
    return number.negative ? -infinite : infinite;
}

template <class T>
void put_real(std::string& out, T value) {
    if (std::isnan(value)) {
        out += "NaN";
    } else if (std::isinf(value)) {
        out += value < 0 ? "-Infinity" : "Infinity";
    } else {
        char text[48];
        const size_t size = shortest(text, sizeof(text), value);
        out.append(text, size);
        for (size_t i = 0; i < size; ++i)
            if (text[i] == '.' || text[i] == 'e') return;
        out += ".0";
    }
}

template <class T>
void put_whole(std::string& out, T value) {
    char text[24];
    out.append(text, std::to_chars(text, text + sizeof(text), value).ptr);
}

}  // namespace

bool to_whole(const JsonNumber& number, uint64_t& magnitude) {
    magnitude = number.digits;
    if (!number.whole || number.exact) return number.whole;
    magnitude = 0;
    for (const char c : number.text.substr(number.negative ? 1 : 0))
        if (__builtin_mul_overflow(magnitude, uint64_t{10}, &magnitude) ||
            __builtin_add_overflow(magnitude, static_cast<uint64_t>(c - '0'), &magnitude))
            return false;
    return true;
}

double to_double(const JsonNumber& number) {
    if (!number.finite) return special(number);
    // Both factors are exact, so that the only rounding is that of the result.
    if (number.exact && number.digits < uint64_t{1} << 53 && number.exponent >= -22 && number.exponent <= 22) {
        const auto digits = static_cast<double>(number.digits);
        const double value =
            number.exponent < 0 ? digits / kPowers[-number.exponent] : digits * kPowers[number.exponent];
        return number.negative ? -value : value;
    }
    return parse(number.text, double{});
}

float to_float(const JsonNumber& number) {
    const double value = to_double(number);
    if (!number.finite) return static_cast<float>(value);
    // A double that is just between two floats may itself have been rounded to there; below the normal floats, what is
    // between them has other bits.
    uint64_t bits;
    std::memcpy(&bits, &value, 8);
    constexpr double kNormal = std::numeric_limits<float>::min();
    const bool between = (bits & 0x1fffffff) == 0x10000000;
    if (between || (std::fabs(value) < 2 * kNormal && value != 0)) return parse(number.text, float{});
    return static_cast<float>(value);
}

void put_json(std::string& out, float value) { put_real(out, value); }
void put_json(std::string& out, double value) { put_real(out, value); }
void put_json(std::string& out, int64_t value) { put_whole(out, value); }
void put_json(std::string& out, uint64_t value) { put_whole(out, value); }

void put_json(std::string& out, std::string_view text) {
    if (!is_utf8(text)) refuse(Code::invalid_argument, "bytes that are not UTF-8 cannot be text in JSON");
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    constexpr char kHex[] = "0123456789abcdef";
                    out += "\\u00";
                    out += kHex[c >> 4];
                    out += kHex[c & 15];
                } else {
                    out += c;
                }
        }
    }
    out += '"';
}

}  // namespace linnet::serve
