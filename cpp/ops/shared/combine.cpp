// Elementwise accumulation for every numeric type.
#include "ops/shared/combine.h"

#include <type_traits>

#include "base/half.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

struct Add {
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
        else return a + b;
    }
};
struct Mul {
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
        else return a * b;
    }
};
struct Max {
    template <class T>
    static T apply(T a, T b) {
        return b > a || b != b ? b : a;
    }
};
struct Min {
    template <class T>
    static T apply(T a, T b) {
        return b < a || b != b ? b : a;
    }
};

template <class Op, class T>
void combine(int64_t count, void* into, const int64_t* places, const void* from) {
    for (int64_t i = 0; i < count; ++i) {
        T& a = static_cast<T*>(into)[places ? places[i] : i];
        const T b = static_cast<const T*>(from)[i];
        if constexpr (std::is_same_v<T, Half>) a = to_half(Op::apply(to_float(a), to_float(b)));
        else if constexpr (std::is_same_v<T, BFloat16>) a = to_bfloat16(Op::apply(to_float(a), to_float(b)));
        else a = Op::apply(a, b);
    }
}

template <class Op>
Combine for_type(DType dtype) {
    switch (dtype) {
        case DType::f32: return combine<Op, float>;
        case DType::f64: return combine<Op, double>;
        case DType::f16: return combine<Op, Half>;
        case DType::bf16: return combine<Op, BFloat16>;
        case DType::u8: return combine<Op, uint8_t>;
        case DType::i8: return combine<Op, int8_t>;
        case DType::u16: return combine<Op, uint16_t>;
        case DType::i16: return combine<Op, int16_t>;
        case DType::u32: return combine<Op, uint32_t>;
        case DType::i32: return combine<Op, int32_t>;
        case DType::u64: return combine<Op, uint64_t>;
        case DType::i64: return combine<Op, int64_t>;
        default: return nullptr;
    }
}

}  // namespace

Combine combine_of(std::string_view reduction, DType dtype) {
    if (dtype == DType::boolean) {  // bytes 0 and 1: or is the larger, and the smaller
        dtype = DType::u8;
        if (reduction == "add") reduction = "max";
        if (reduction == "mul") reduction = "min";
    }
    if (reduction == "add") return for_type<Add>(dtype);
    if (reduction == "mul") return for_type<Mul>(dtype);
    if (reduction == "max") return for_type<Max>(dtype);
    if (reduction == "min") return for_type<Min>(dtype);
    return nullptr;
}

void check_scatter(const InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &updates = tensor_input(ctx, 2);
    require_index_type(tensor_input(ctx, 1));
    require(updates.dtype == data.dtype || updates.dtype == DType::undefined || data.dtype == DType::undefined,
            "updates are ", dtype_name(updates.dtype), ", data is ", dtype_name(data.dtype));
    const std::string& reduction = ctx.attributes.s("reduction", "none");
    if (reduction != "none" && data.dtype != DType::undefined && !combine_of(reduction, data.dtype))
        fail(ErrorKind::invalid_graph, "no reduction '", reduction, "' of ", dtype_name(data.dtype));
}

}  // namespace linnet
