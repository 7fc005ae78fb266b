// What the elementwise operators share: sets of dtypes, checks, and 16-bit floats computed in float32.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "base/dtype.h"
#include "graph/op.h"
#include "kernels/kernels.h"

namespace linnet {

using DTypes = uint32_t;  // a set: bit d is DType d

constexpr DTypes set_of(std::initializer_list<DType> types) {
    DTypes set = 0;
    for (DType d : types) set |= DTypes{1} << static_cast<unsigned>(d);
    return set;
}
constexpr bool contains(DTypes set, DType d) { return (set >> static_cast<unsigned>(d)) & 1u; }

constexpr DTypes kFloatTypes = set_of({DType::f32, DType::f64, DType::f16, DType::bf16});
constexpr DTypes kSignedTypes = set_of({DType::i8, DType::i16, DType::i32, DType::i64});
constexpr DTypes kUnsignedTypes = set_of({DType::u8, DType::u16, DType::u32, DType::u64});
constexpr DTypes kIntTypes = kSignedTypes | kUnsignedTypes;
constexpr DTypes kNumberTypes = kFloatTypes | kIntTypes;
constexpr DTypes kBoolType = set_of({DType::boolean});
constexpr DTypes kAllTypes = ~DTypes{1};

// Throws invalid_graph unless input i is a tensor of one of the types (an unknown type passes).
inline void check_dtype(const InferContext& ctx, int i, DTypes allowed) {
    const Fact& fact = ctx.input(i);
    if (fact.kind != Value::Kind::tensor) fail(ErrorKind::invalid_graph, "input ", i, " is not a tensor");
    if (fact.dtype == DType::undefined || contains(allowed, fact.dtype)) return;
    std::string names;
    for (int d = 1; d < kDTypeCount; ++d)
        if (contains(allowed, static_cast<DType>(d)))
            names += (names.empty() ? "" : ", ") + std::string(dtype_name(static_cast<DType>(d)));
    fail(ErrorKind::invalid_graph, "input ", i, " is ", dtype_name(fact.dtype), ", expected one of ", names);
}

// The dtype that inputs [first, last) have in common; throws invalid_graph when they differ.
inline DType common_dtype(const InferContext& ctx, int first, int last) {
    DType dtype = DType::undefined;
    for (int i = first; i < last; ++i) {
        const DType own = ctx.input(i).dtype;
        if (own == DType::undefined) continue;
        if (dtype != DType::undefined && own != dtype)
            fail(ErrorKind::invalid_graph, "inputs must have one dtype, got ", dtype_name(dtype), " and ",
                 dtype_name(own));
        dtype = own;
    }
    return dtype;
}

// Output 0 has the dtype and shape of input 0.
inline void infer_same(InferContext& ctx) {
    const Fact& in = ctx.input(0);
    ctx.output(0, in.ranked ? Fact::of(in.dtype, in.shape) : Fact::unranked(in.dtype));
}

// 16-bit floats to float32 and back.
inline void half_to_f32(DType dtype, size_t n, const void* x, float* y) {
    const auto& k = kernels::kernels();
    (dtype == DType::f16 ? k.f16_to_f32 : k.bf16_to_f32)(n, static_cast<const uint16_t*>(x), y);
}
inline void f32_to_half(DType dtype, size_t n, const float* x, void* y) {
    const auto& k = kernels::kernels();
    (dtype == DType::f16 ? k.f32_to_f16 : k.f32_to_bf16)(n, x, static_cast<uint16_t*>(y));
}
constexpr size_t kHalfBlock = 512;  // elements converted at a time: stays in L1

constexpr int64_t kCheapGrain = 16384;  // fewest elements worth a thread: an addition
constexpr int64_t kCostlyGrain = 4096;  // an exponential

}  // namespace linnet
