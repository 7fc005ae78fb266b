// Unary elementwise functions: one functor each, one loop.
#pragma once

#include "kernels/math.h"

namespace linnet::kernels::LINNET_ISA {

LINNET_INLINE f32 relu(f32 x) { return max(splat(0.0f), x); }
LINNET_INLINE f32 clip(f32 x, f32 lo, f32 hi) { return min(hi, max(lo, x)); }
LINNET_INLINE f32 leaky(f32 x, f32 slope) { return select(less(x, splat(0.0f)), x * slope, x); }

template <Unary U>
LINNET_INLINE f32 unary(f32 x, f32 a, f32 b) {
    const f32 zero = splat(0.0f), one = splat(1.0f);
    if constexpr (U == Unary::identity) return x;
    if constexpr (U == Unary::abs) return abs(x);
    if constexpr (U == Unary::neg) return from_bits(bits(x) ^ splat_i(INT32_MIN));
    if constexpr (U == Unary::sign) return select(is_nan(x), x, select(equal(x, zero), zero, with_sign(one, x)));
    if constexpr (U == Unary::floor) return floor(x);
    if constexpr (U == Unary::ceil) return -floor(-x);
    if constexpr (U == Unary::round) return round_even(x);
    if constexpr (U == Unary::reciprocal) return one / x;
    if constexpr (U == Unary::sqrt) return sqrt(x);
    if constexpr (U == Unary::exp) return exp(x);
    if constexpr (U == Unary::log) return log(x);
    if constexpr (U == Unary::sin) return sin(x);
    if constexpr (U == Unary::cos) return cos(x);
    if constexpr (U == Unary::tan) return tan(x);
    if constexpr (U == Unary::asin) return asin(x);
    if constexpr (U == Unary::acos) return acos(x);
    if constexpr (U == Unary::atan) return atan(x);
    if constexpr (U == Unary::sinh) return sinh(x);
    if constexpr (U == Unary::cosh) return cosh(x);
    if constexpr (U == Unary::asinh) return asinh(x);
    if constexpr (U == Unary::acosh) return acosh(x);
    if constexpr (U == Unary::atanh) return atanh(x);
    if constexpr (U == Unary::erf) return erf(x);
    if constexpr (U == Unary::relu) return relu(x);
    if constexpr (U == Unary::clip) return clip(x, a, b);
    if constexpr (U == Unary::leaky_relu) return leaky(x, a);
    if constexpr (U == Unary::thresholded_relu) return select(less_equal(x, a), zero, x);
    if constexpr (U == Unary::shrink)
        return select(less(x, -a), x + b, select(less(a, x), x - b, select(is_nan(x), x, zero)));
    if constexpr (U == Unary::elu) return select(less(x, zero), a * expm1(x), x);
    if constexpr (U == Unary::selu) return b * select(less(x, zero), a * expm1(x), x);
    if constexpr (U == Unary::celu) return select(less(x, zero), a * expm1(x / a), x);
    if constexpr (U == Unary::sigmoid) return sigmoid(x);
    if constexpr (U == Unary::tanh) return tanh(x);
    if constexpr (U == Unary::softplus) return relu(x) + log1p(exp(-abs(x)));
    if constexpr (U == Unary::softsign) return x / (one + abs(x));
    if constexpr (U == Unary::hard_sigmoid) return clip(fma(x, a, b), zero, one);
    if constexpr (U == Unary::hard_swish) return x * (clip(x + splat(3.0f), zero, splat(6.0f)) * splat(1.0f / 6.0f));
    if constexpr (U == Unary::silu) return times_sigmoid(x, x);
    if constexpr (U == Unary::mish) {  // x tanh(log(1 + e)) with e = exp(x), as a ratio of polynomials in e
        const f32 e = exp(min(splat(20.0f), x)), t = fma(e, e, e + e);
        return select(less(splat(20.0f), x), x, x * (t / (t + splat(2.0f))));
    }
    if constexpr (U == Unary::gelu_erf) return gelu(x);
    // (1 + tanh(t)) / 2 = sigmoid(2 t) with t = sqrt(2 / pi) (x + 0.044715 x^3)
    if constexpr (U == Unary::gelu_tanh)
        return times_sigmoid(x, x * fma(x * x, splat(0.0713548163f), splat(1.59576912f)));
    if constexpr (U == Unary::quick_gelu) return times_sigmoid(x, a * x);
    if constexpr (U == Unary::add_scalar) return x + a;
    if constexpr (U == Unary::mul_scalar) return x * a;
}

// Long and seldom a model's bottleneck: one body for whole vectors and the rest, at half the code.
constexpr bool is_rare(Unary u) {
    return (u >= Unary::tan && u <= Unary::atanh) || u == Unary::celu || u == Unary::selu || u == Unary::softplus ||
           u == Unary::mish;
}

// rows of n values, x_stride and y_stride apart.
template <Unary U>
static __attribute__((noinline)) void map_loop(size_t rows, size_t n, const float* x, ptrdiff_t x_stride, float* y,
                                               ptrdiff_t y_stride, float a, float b) noexcept {
    const f32 va = splat(a), vb = splat(b);
    for (size_t r = 0; r < rows; ++r, x += x_stride, y += y_stride) {
        size_t i = 0;
        if constexpr (is_rare(U)) {
            for (; i < n; i += lanes) store_some(y + i, unary<U>(load_some(x + i, n - i), va, vb), n - i);
            continue;
        }
        for (; i + lanes <= n; i += lanes) store(y + i, unary<U>(load(x + i), va, vb));
        if (i < n) store_n(y + i, unary<U>(load_n(x + i, n - i), va, vb), n - i);
    }
}

typedef void (*MapLoop)(size_t, size_t, const float*, ptrdiff_t, float*, ptrdiff_t, float, float) noexcept;

template <int... U>
struct MapTable {
    static constexpr MapLoop loops[] = {map_loop<(Unary)U>...};
};
template <int N, int... U>
struct MakeMapTable : MakeMapTable<N - 1, N - 1, U...> {};
template <int... U>
struct MakeMapTable<0, U...> : MapTable<U...> {};

static MapLoop map_of(Unary fn) noexcept { return MakeMapTable<(int)Unary::count>::loops[(int)fn]; }

static void map_f32(Unary fn, size_t n, const float* x, float* y, float a, float b) noexcept {
    map_of(fn)(1, n, x, 0, y, 0, a, b);
}

static void scale_shift_f32(size_t n, const float* x, const float* scale, const float* shift, float* y) noexcept {
    for (size_t i = 0; i < n; i += lanes) {
        const size_t left = n - i;
        const f32 s = scale ? load_some(scale + i, left) : splat(1.0f);
        f32 v = load_some(x + i, left);
        v = shift ? fma(v, s, load_some(shift + i, left)) : v * s;
        store_some(y + i, v, left);
    }
}

}  // namespace linnet::kernels::LINNET_ISA
