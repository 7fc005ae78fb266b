// Are two values equal within a tolerance?
#pragma once
#include <string>

#include "base/tensor.h"

namespace linnet::tools {

struct Comparison {
    bool equal = true;
    double worst = 0;     // largest absolute difference of finite numbers
    std::string message;  // the first difference; empty when equal
};

// Numbers are equal when |given - expected| <= atol + rtol * |expected| (numpy's rule), or both are NaN, or the same
// infinity. dtype, shape and strings must be equal.
Comparison compare(const Value& given, const Value& expected, double rtol, double atol);

}  // namespace linnet::tools
