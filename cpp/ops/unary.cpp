// Unary operators that integers take too, and those that give bool: Abs, Neg, Sign, Relu, BitwiseNot, Not, IsNaN,
// IsInf.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "base/half.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

using kernels::Unary;

// Integer results wrap around: |INT_MIN| and -INT_MIN are INT_MIN.
template <class T>
T negated(T x) {
    if constexpr (std::is_floating_point_v<T>) return -x;
    else return static_cast<T>(std::make_unsigned_t<T>(0) - static_cast<std::make_unsigned_t<T>>(x));
}

struct Abs {
    static constexpr Unary kernel = Unary::abs;
    static constexpr DTypes types = kNumberTypes;
    template <class T>
    static T apply(T x) {
        if constexpr (std::is_floating_point_v<T>) return std::fabs(x);
        else if constexpr (std::is_unsigned_v<T>) return x;
        else return x < 0 ? negated(x) : x;
    }
};
struct Neg {
    static constexpr Unary kernel = Unary::neg;
    static constexpr DTypes types = kFloatTypes | kSignedTypes;
    template <class T>
    static T apply(T x) {
        return negated(x);
    }
};
struct Sign {
    static constexpr Unary kernel = Unary::sign;
    static constexpr DTypes types = kNumberTypes;
    template <class T>
    static T apply(T x) {
        if constexpr (std::is_unsigned_v<T>) return x != 0;
        else return x > 0 ? T(1) : x < 0 ? T(-1) : x;
    }
};
struct Relu {
    static constexpr Unary kernel = Unary::relu;
    static constexpr DTypes types = kFloatTypes | kSignedTypes;
    template <class T>
    static T apply(T x) {
        return x < 0 ? T(0) : x;
    }
};

template <class Op>
void infer_unary(InferContext& ctx) {
    check_dtype(ctx, 0, Op::types);
    infer_same(ctx);
}

template <class Op, class T>
void loop(const Tensor& x, Tensor& y, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y.as<T>()[i] = Op::apply(x.as<T>()[i]);
}

template <class Op>
void run_unary(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    parallel_ranges(
        ctx.parallel(), x.count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            switch (x.dtype) {
                case DType::f32:
                    kernels::kernels().map_f32(Op::kernel, static_cast<size_t>(end - begin), x.as<float>() + begin,
                                               y.as<float>() + begin, 0, 0);
                    break;
                case DType::f64: loop<Op, double>(x, y, begin, end); break;
                case DType::f16:
                    for (int64_t i = begin; i < end; ++i)
                        y.as<Half>()[i] = to_half(Op::apply(to_float(x.as<Half>()[i])));
                    break;
                case DType::bf16:
                    for (int64_t i = begin; i < end; ++i)
                        y.as<BFloat16>()[i] = to_bfloat16(Op::apply(to_float(x.as<BFloat16>()[i])));
                    break;
                case DType::u8: loop<Op, uint8_t>(x, y, begin, end); break;
                case DType::u16: loop<Op, uint16_t>(x, y, begin, end); break;
                case DType::u32: loop<Op, uint32_t>(x, y, begin, end); break;
                case DType::u64: loop<Op, uint64_t>(x, y, begin, end); break;
                case DType::i8: loop<Op, int8_t>(x, y, begin, end); break;
                case DType::i16: loop<Op, int16_t>(x, y, begin, end); break;
                case DType::i32: loop<Op, int32_t>(x, y, begin, end); break;
                default: loop<Op, int64_t>(x, y, begin, end); break;
            }
        },
        64);
}

void infer_bitwise_not(InferContext& ctx) {
    check_dtype(ctx, 0, kIntTypes);
    infer_same(ctx);
}
void run_bitwise_not(RunContext& ctx) {
    const auto* x = static_cast<const uint8_t*>(ctx.input(0).data);
    auto* y = static_cast<uint8_t*>(ctx.output(0).data);
    parallel_ranges(
        ctx.parallel(), static_cast<int64_t>(ctx.input(0).bytes()), 4 * kCheapGrain,
        [&](int64_t begin, int64_t end) {
            const uint8_t ones = 0xff;
            kernels::kernels().logic_bytes(kernels::Logic::bit_xor, static_cast<size_t>(end - begin), x + begin, 1,
                                           &ones, 0, y + begin);
        },
        64);
}

void infer_not(InferContext& ctx) {
    check_dtype(ctx, 0, kBoolType);
    const Fact& in = ctx.input(0);
    Fact out = in.ranked ? Fact::of(DType::boolean, in.shape) : Fact::unranked(DType::boolean);
    if (in.ints) {
        out.ints = *in.ints;
        for (int64_t& d : *out.ints) d = is_number(d) ? d == 0 : kUnknownDim;
    }
    ctx.output(0, std::move(out));
}
void run_not(RunContext& ctx) {
    const auto* x = ctx.input(0).as<uint8_t>();
    auto* y = ctx.output(0).as<uint8_t>();
    parallel_ranges(
        ctx.parallel(), ctx.input(0).count(), 4 * kCheapGrain,
        [&](int64_t begin, int64_t end) {
            const uint8_t no = 0;
            kernels::kernels().logic_bytes(kernels::Logic::equal, static_cast<size_t>(end - begin), x + begin, 1, &no,
                                           0, y + begin);
        },
        64);
}

// IsNaN and IsInf: float8 types are classified by their bits.
constexpr DTypes kFloat8Types =
    set_of({DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz, DType::f8e8m0});

void infer_classify(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes | kFloat8Types);
    const Fact& in = ctx.input(0);
    ctx.output(0, in.ranked ? Fact::of(DType::boolean, in.shape) : Fact::unranked(DType::boolean));
}

void classify(RunContext& ctx, bool nans, bool positive, bool negative) {
    const Tensor& x = ctx.input(0);
    auto* y = ctx.output(0).as<uint8_t>();
    parallel_ranges(
        ctx.parallel(), x.count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            if (x.dtype == DType::f32)
                return kernels::kernels().classify_f32(static_cast<size_t>(end - begin), x.as<float>() + begin, nans,
                                                       positive, negative, y + begin);
            for (int64_t i = begin; i < end; ++i) {
                double value = 0;
                switch (x.dtype) {
                    case DType::f64: value = x.as<double>()[i]; break;
                    case DType::f16: value = static_cast<double>(to_float(x.as<Half>()[i])); break;
                    case DType::bf16: value = static_cast<double>(to_float(x.as<BFloat16>()[i])); break;
                    default: {
                        const uint8_t bits = x.as<uint8_t>()[i];
                        const uint8_t rest = bits & 0x7f;
                        bool nan = false, inf = false;
                        if (x.dtype == DType::f8e4m3fn) nan = rest == 0x7f;
                        else if (x.dtype == DType::f8e5m2) nan = rest > 0x7c, inf = rest == 0x7c;
                        else if (x.dtype == DType::f8e8m0) nan = bits == 0xff;
                        else nan = bits == 0x80;
                        if (nan) value = std::nan("");
                        if (inf) value = bits & 0x80 ? -HUGE_VAL : HUGE_VAL;
                    }
                }
                y[i] = std::isnan(value) ? nans : std::isinf(value) && (value > 0 ? positive : negative);
            }
        },
        64);
}
void run_is_nan(RunContext& ctx) { classify(ctx, true, false, false); }
void run_is_inf(RunContext& ctx) {
    classify(ctx, false, ctx.attributes.i("detect_positive", 1) != 0, ctx.attributes.i("detect_negative", 1) != 0);
}

}  // namespace

std::span<const OpDef> unary_ops() {
    constexpr uint32_t kFlags = kElementwise | kInPlace;
    static const OpDef rows[] = {
        {.name = "Abs",
         .infer = infer_unary<Abs>,
         .run = run_unary<Abs>,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Neg",
         .infer = infer_unary<Neg>,
         .run = run_unary<Neg>,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Sign",
         .since = 9,
         .infer = infer_unary<Sign>,
         .run = run_unary<Sign>,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Relu",
         .infer = infer_unary<Relu>,
         .run = run_unary<Relu>,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "BitwiseNot",
         .since = 18,
         .infer = infer_bitwise_not,
         .run = run_bitwise_not,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Not", .infer = infer_not, .run = run_not, .flags = kFlags, .min_inputs = 1, .max_inputs = 1},
        {.name = "IsNaN",
         .since = 9,
         .infer = infer_classify,
         .run = run_is_nan,
         .flags = kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "IsInf",
         .since = 10,
         .infer = infer_classify,
         .run = run_is_inf,
         .flags = kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
