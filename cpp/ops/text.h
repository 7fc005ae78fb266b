// Numbers as text and back, whatever the process's locale: for Cast to and from strings.
#pragma once
#include <algorithm>
#include <cctype>
#include <cmath>
#include <iomanip>
#include <limits>
#include <locale>
#include <sstream>
#include <string>

#include "base/half.h"
#include "base/narrow.h"
#include "base/tensor.h"
#include "graph/op.h"

namespace linnet {

inline std::string lower_case(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

// "FLOAT", "INT64" ... as in TensorProto.DataType (opset 1 names dtypes so); undefined for anything else.
inline DType dtype_from_text(const std::string& text) {
    const std::string name = lower_case(text);
    for (int d = 1; d < kDTypeCount; ++d)
        if (dtype_onnx_name(static_cast<DType>(d)) == name) return static_cast<DType>(d);
    return DType::undefined;
}

// A decimal number, "inf" or "nan" in any case, with or without a sign. Throws invalid_argument.
inline double parse_number(const std::string& text, bool as_float) {
    std::string name = lower_case(text);
    while (!name.empty() && std::isspace(static_cast<unsigned char>(name.front()))) name.erase(0, 1);
    while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
    const bool negative = !name.empty() && name[0] == '-';
    const std::string magnitude = name.substr(!name.empty() && (name[0] == '-' || name[0] == '+') ? 1 : 0);
    constexpr double kInf = std::numeric_limits<double>::infinity();
    if (magnitude == "inf" || magnitude == "infinity") return negative ? -kInf : kInf;
    if (magnitude == "nan") return std::numeric_limits<double>::quiet_NaN();
    std::istringstream in(magnitude);
    in.imbue(std::locale::classic());
    double value = 0;
    float single = 0;
    // Straight to float, so that it is rounded once. Overflow sets the largest value and failbit: infinity.
    if (as_float) in >> single, value = static_cast<double>(single);
    else in >> value;
    const bool overflow = in.fail() && (as_float ? single == std::numeric_limits<float>::max()
                                                 : value == std::numeric_limits<double>::max());
    if (overflow) value = kInf;
    const bool digits =
        !magnitude.empty() && (std::isdigit(static_cast<unsigned char>(magnitude[0])) || magnitude[0] == '.');
    if (!digits || (in.fail() && !overflow) || in.peek() != std::istringstream::traits_type::eof())
        fail(ErrorKind::invalid_argument, "'", text.substr(0, 40), "' is not a number");
    return negative ? -value : value;
}

// The shortest decimal digits that `same` accepts as this number, plain between 1e-4 and 1e16 (as numpy prints it).
template <class Same>
std::string real_text(double value, const Same& same) {
    if (std::isnan(value)) return "nan";
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    std::string text;
    for (int precision = 0; precision < 17; ++precision) {
        std::ostringstream out;
        out.imbue(std::locale::classic());
        out << std::scientific << std::setprecision(precision) << value;
        text = out.str();
        if (same(text)) break;
    }
    const std::string sign = text[0] == '-' ? "-" : "";
    const size_t e = text.find('e');
    std::string digits;
    for (char c : text.substr(0, e))
        if (std::isdigit(static_cast<unsigned char>(c))) digits += c;
    while (digits.size() > 1 && digits.back() == '0') digits.pop_back();
    const int exponent = std::stoi(text.substr(e + 1));
    if (value != 0 && (exponent < -4 || exponent >= 16)) {
        const std::string power = std::to_string(std::abs(exponent));
        return sign + digits[0] + (digits.size() > 1 ? "." + digits.substr(1) : "") + (exponent < 0 ? "e-" : "e+") +
               (power.size() < 2 ? "0" : "") + power;
    }
    if (exponent < 0) return sign + "0." + std::string(static_cast<size_t>(-exponent - 1), '0') + digits;
    const auto whole = static_cast<size_t>(exponent) + 1;
    if (digits.size() <= whole) return sign + digits + std::string(whole - digits.size(), '0') + ".0";
    return sign + digits.substr(0, whole) + "." + digits.substr(whole);
}

// Element i of a numeric tensor as text.
inline std::string number_text(const Tensor& x, int64_t i) {
    const auto parse = [](const std::string& text, bool as_float) { return parse_number(text, as_float); };
    switch (x.dtype) {
        case DType::f32: {
            const float v = x.as<float>()[i];
            return real_text(static_cast<double>(v),
                             [&](const std::string& t) { return static_cast<float>(parse(t, true)) == v; });
        }
        case DType::f64: {
            const double v = x.as<double>()[i];
            return real_text(v, [&](const std::string& t) { return parse(t, false) == v; });
        }
        case DType::f16:
        case DType::bf16: {
            const uint16_t bits = x.as<uint16_t>()[i];
            const float v = x.dtype == DType::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits});
            return real_text(static_cast<double>(v),
                             [&](const std::string& t) { return encode_float(x.dtype, parse(t, false)) == bits; });
        }
        case DType::boolean: return x.as<uint8_t>()[i] ? "True" : "False";
        case DType::u64: return std::to_string(x.as<uint64_t>()[i]);
        default: break;
    }
    if (is_narrow_float(x.dtype)) {
        const float v = narrow_values(x.dtype)[x.as<uint8_t>()[i]];
        return real_text(static_cast<double>(v),
                         [&](const std::string& t) { return static_cast<float>(parse(t, true)) == v; });
    }
    return std::to_string(int_at(x, i));
}

// Text to the elements of y, of any numeric dtype. Integers may be written as floats ("3.7" is 3).
void parse_numbers(const std::string* text, int64_t n, Tensor& y, bool saturate);

}  // namespace linnet
