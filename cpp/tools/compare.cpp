// Comparison of results with expected ones.
#include "tools/compare.h"

#include <cmath>

#include "base/error.h"

namespace linnet::tools {
namespace {

bool is_number_type(DType dtype) { return is_float(dtype) || is_int(dtype) || dtype == DType::boolean; }

Comparison differs(const std::string& message) { return {false, 0, message}; }

// A complex tensor as numbers, two an element.
Tensor as_numbers(Tensor tensor) {
    if (tensor.dtype == DType::c64 || tensor.dtype == DType::c128) {
        tensor.dtype = tensor.dtype == DType::c64 ? DType::f32 : DType::f64;
        tensor.shape.push_back(2);
    }
    return tensor;
}

Comparison compare_numbers(const Tensor& given, const Tensor& expected, double rtol, double atol) {
    Comparison result;
    int64_t wrong = 0, first = -1;
    const int64_t count = given.count();
    for (int64_t i = 0; i < count; ++i) {
        const double a = double_at(given, i), b = double_at(expected, i);
        const double difference = std::fabs(a - b);
        bool same = a == b || (std::isnan(a) && std::isnan(b));
        if (std::isfinite(a) && std::isfinite(b)) {
            result.worst = std::max(result.worst, difference);
            // Large integers lose bits as doubles.
            const bool exact = is_int(given.dtype) && rtol == 0 && atol == 0;
            same = exact ? int_at(given, i) == int_at(expected, i) : difference <= atol + rtol * std::fabs(b);
        }
        if (same) continue;
        if (first < 0) first = i;
        ++wrong;
    }
    if (wrong > 0) {
        result.equal = false;
        result.message = cat(wrong, " of ", count, " elements differ; the first, element ", first, ", is ",
                             double_at(given, first), " where ", double_at(expected, first), " is expected");
    }
    return result;
}

Comparison compare_tensors(const Tensor& given, const Tensor& expected, double rtol, double atol) {
    if (given.dtype != expected.dtype)
        return differs(cat("type ", dtype_name(given.dtype), " where ", dtype_name(expected.dtype), " is expected"));
    if (!(given.shape == expected.shape))
        return differs(cat("shape ", shape_text(given.shape), " where ", shape_text(expected.shape), " is expected"));
    const Tensor a = as_numbers(given), b = as_numbers(expected);
    if (is_number_type(a.dtype)) return compare_numbers(a, b, rtol, atol);
    for (int64_t i = 0, count = a.count(); i < count; ++i) {
        const bool same = a.dtype == DType::string ? a.as<std::string>()[i] == b.as<std::string>()[i]
                                                   : a.as<uint8_t>()[i] == b.as<uint8_t>()[i];
        if (!same) return differs(cat("element ", i, " differs"));
    }
    return {};
}

}  // namespace

Comparison compare(const Value& given, const Value& expected, double rtol, double atol) {
    if (given.kind != expected.kind) return differs("another kind of value");
    if (given.kind == Value::Kind::tensor) return compare_tensors(given.tensor, expected.tensor, rtol, atol);
    if (given.kind == Value::Kind::absent) return {};
    if (given.items->size() != expected.items->size())
        return differs(cat(given.items->size(), " items where ", expected.items->size(), " are expected"));
    Comparison all;
    for (size_t i = 0; i < given.items->size() && all.equal; ++i) {
        const Comparison one = compare((*given.items)[i], (*expected.items)[i], rtol, atol);
        all.worst = std::max(all.worst, one.worst);
        all.equal = one.equal;
        if (!one.equal) all.message = cat("item ", i, ": ", one.message);
    }
    return all;
}

}  // namespace linnet::tools
