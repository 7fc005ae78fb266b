// Comparison of results with expected ones.
#include "tools/compare.h"

#include <cmath>

#include "base/error.h"
#include "base/narrow.h"

namespace linnet::tools {
namespace {

Comparison differs(const std::string& message) { return {false, 0, message}; }

// Narrow floats as float32; a complex tensor as numbers, two an element.
Tensor as_numbers(Tensor tensor) {
    if (is_narrow_float(tensor.dtype)) {
        const float* values = narrow_values(tensor.dtype);
        Tensor wide = Tensor::allocate(DType::f32, tensor.shape);
        for (int64_t i = 0, count = tensor.count(); i < count; ++i)
            wide.as<float>()[i] = values[tensor.as<uint8_t>()[i]];
        return wide;
    }
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
    if (given.dtype != DType::string) return compare_numbers(as_numbers(given), as_numbers(expected), rtol, atol);
    for (int64_t i = 0, count = given.count(); i < count; ++i)
        if (given.as<std::string>()[i] != expected.as<std::string>()[i])
            return differs(cat("element ", i, " is '", given.as<std::string>()[i], "' where '",
                               expected.as<std::string>()[i], "' is expected"));
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
