// From a dtype at run time to a C++ type.
#pragma once
#include <limits>
#include <type_traits>

#include "base/error.h"
#include "base/half.h"
#include "base/tensor.h"

namespace linnet {

template <class T>
struct TypeTag {
    using type = T;
};

// Calls fn(TypeTag<T>{}) for float, double and the integers. 16-bit floats have been widened before.
template <class Fn>
void for_number(DType dtype, const Fn& fn) {
    switch (dtype) {
        case DType::f32: return fn(TypeTag<float>{});
        case DType::f64: return fn(TypeTag<double>{});
        case DType::i8: return fn(TypeTag<int8_t>{});
        case DType::i16: return fn(TypeTag<int16_t>{});
        case DType::i32: return fn(TypeTag<int32_t>{});
        case DType::i64: return fn(TypeTag<int64_t>{});
        case DType::u8: return fn(TypeTag<uint8_t>{});
        case DType::u16: return fn(TypeTag<uint16_t>{});
        case DType::u32: return fn(TypeTag<uint32_t>{});
        case DType::u64: return fn(TypeTag<uint64_t>{});
        default: fail(ErrorKind::not_implemented, "arithmetic on ", dtype_name(dtype));
    }
}

// Calls fn for float and double only.
template <class Fn>
void for_float(DType dtype, const Fn& fn) {
    if (dtype == DType::f32) return fn(TypeTag<float>{});
    if (dtype == DType::f64) return fn(TypeTag<double>{});
    fail(ErrorKind::not_implemented, "arithmetic on ", dtype_name(dtype), ", expected a float type");
}

// Stores a number in a tensor of any float or integer type; integers saturate, NaN becomes 0.
inline void set_number(Tensor& tensor, int64_t index, double value) {
    if (tensor.dtype == DType::f16) {
        tensor.as<Half>()[index] = to_half(static_cast<float>(value));
    } else if (tensor.dtype == DType::bf16) {
        tensor.as<BFloat16>()[index] = to_bfloat16(static_cast<float>(value));
    } else {
        for_number(tensor.dtype, [&](auto tag) {
            using T = typename decltype(tag)::type;
            using Limits = std::numeric_limits<T>;
            T& to = tensor.as<T>()[index];
            if constexpr (std::is_floating_point_v<T>) to = static_cast<T>(value);
            else if (!(value == value)) to = 0;
            else if (value <= static_cast<double>(Limits::min())) to = Limits::min();
            else if (value >= static_cast<double>(Limits::max())) to = Limits::max();
            else to = static_cast<T>(value);
        });
    }
}

}  // namespace linnet
