// A dictionary from the strings, integers or floats of a tensor to positions.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"

namespace linnet {

inline Tensor string_tensor(const std::vector<std::string>& values) {
    Tensor t = Tensor::allocate(DType::string, {static_cast<int64_t>(values.size())});
    std::copy(values.begin(), values.end(), t.as<std::string>());
    return t;
}

class Keys {
  public:
    // Element i of a string or numeric tensor gets position i; of equal ones the first.
    explicit Keys(const Tensor& keys) : text_(keys.dtype == DType::string) {
        for (int64_t i = 0; i < keys.count(); ++i) {
            if (text_) strings_.emplace(keys.as<std::string>()[i], i);
            else if (!is_float(keys.dtype)) ints_.emplace(int_at(keys, i), i);
            else if (std::isnan(double_at(keys, i))) nan_ = nan_ < 0 ? i : nan_;
            else floats_.emplace(double_at(keys, i), i);
        }
    }
    // The position of element i of a tensor of the same kind; -1 when it is not there.
    int64_t find(const Tensor& tensor, int64_t i) const {
        if (text_) return find(strings_, tensor.as<std::string>()[i]);
        if (!is_float(tensor.dtype)) return find(ints_, int_at(tensor, i));
        const double value = double_at(tensor, i);
        return std::isnan(value) ? nan_ : find(floats_, value);
    }
    int64_t find(int64_t value) const { return find(ints_, value); }

    static bool is_float(DType dtype) noexcept {
        return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::f16 || dtype == DType::bf16;
    }

  private:
    template <class Map, class Key>
    static int64_t find(const Map& map, const Key& key) {
        const auto it = map.find(key);
        return it == map.end() ? -1 : it->second;
    }
    bool text_;
    int64_t nan_ = -1;
    std::unordered_map<std::string, int64_t> strings_;
    std::unordered_map<int64_t, int64_t> ints_;
    std::unordered_map<double, int64_t> floats_;
};

}  // namespace linnet
