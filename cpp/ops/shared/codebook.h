// The values that codes of a byte stand for.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/tensor.h"

namespace linnet {

// Attribute "pairs" where a byte holds one code.
constexpr int64_t kNoPairs = -1;
// So many values have codes of 4 bits.
constexpr int64_t kNibbleCodes = 16;

// Attribute "axis" where all codes have the same book.
constexpr int64_t kOneBook = -1;

// What Gather says.
inline void check_code(int64_t code, int64_t count) {
    if (code >= count) fail(ErrorKind::invalid_argument, "index ", code, " is outside [", -count, ", ", count - 1, "]");
}

class BookValues {
  public:
    explicit BookValues(const Tensor& book) : count_(book.count()) {
        std::copy_n(book.as<float>(), std::min<int64_t>(count_, 256), values_);
    }
    // The first 16, zeros where there are fewer.
    const float* data() const { return values_; }
    float operator[](uint8_t code) const { return values_[code]; }
    void check(uint8_t code) const { check_code(code, count_); }

  private:
    int64_t count_;
    float values_[256] = {};
};

}  // namespace linnet
