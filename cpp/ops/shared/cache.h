// Keys or values of the tokens before, float or quantized.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "base/tensor.h"

namespace linnet {

// [batch, heads, rows, head] of a float type, int8, or uint8 that holds two integers of 4 bits; a row at a time.
struct Cache {
    Tensor tensor;
    int64_t head = 0;
    const float* scale = nullptr;  // one, or one for each column of each head
    int64_t scale_step = 0;        // 0 or 1

    bool plain() const { return tensor.dtype == DType::f32; }
    std::byte* row(int64_t slot, int64_t index) const {
        const int64_t bytes = tensor.shape[3] * static_cast<int64_t>(dtype_size(tensor.dtype));
        return static_cast<std::byte*>(tensor.data) + (slot * tensor.shape[2] + index) * bytes;
    }
    float scale_of(int64_t slot, int64_t column) const {
        return scale[scale_step * (slot % tensor.shape[1] * head + column)];
    }
    void store(int64_t slot, int64_t index, const float* from) const {
        std::byte* const to = row(slot, index);
        if (plain()) std::memcpy(to, from, static_cast<size_t>(head) * 4);
        for (int64_t i = 0; i < head && !plain(); ++i) {
            if (tensor.dtype == DType::f16) reinterpret_cast<Half*>(to)[i] = to_half(from[i]);
            else if (tensor.dtype == DType::bf16) reinterpret_cast<BFloat16*>(to)[i] = to_bfloat16(from[i]);
            else {
                const float low = tensor.dtype == DType::i8 ? -128 : -8,
                            level = std::nearbyint(from[i] / scale_of(slot, i));
                const auto code = static_cast<int>(std::min(std::max(low, level), -1 - low));  // NaN: the lowest
                if (tensor.dtype == DType::i8) to[i] = static_cast<std::byte>(code);
                else if (i % 2 == 0) to[i / 2] = static_cast<std::byte>(code + 8);
                else to[i / 2] |= static_cast<std::byte>((code + 8) << 4);
            }
        }
    }
    void load(int64_t slot, int64_t index, float* to) const {
        const std::byte* const from = row(slot, index);
        for (int64_t i = 0; i < head; ++i) {
            if (tensor.dtype == DType::f16) to[i] = to_float(reinterpret_cast<const Half*>(from)[i]);
            else if (tensor.dtype == DType::bf16) to[i] = to_float(reinterpret_cast<const BFloat16*>(from)[i]);
            else {
                const auto byte = static_cast<uint8_t>(from[tensor.dtype == DType::i8 ? i : i / 2]);
                const int code = tensor.dtype == DType::i8 ? static_cast<int8_t>(byte) : (byte >> i % 2 * 4 & 15) - 8;
                to[i] = static_cast<float>(code) * scale_of(slot, i);
            }
        }
    }
    void copy(int64_t slot, const Cache& from, int64_t first, int64_t count) const {
        if (count > 0) std::memcpy(row(slot, 0), from.row(slot, first), static_cast<size_t>(row(0, count) - row(0, 0)));
    }
};

}  // namespace linnet
