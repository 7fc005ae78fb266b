// What kernels over rows and of plain products take, beside kernels.h: functions and operations, products, blends.
#pragma once
#include <cstddef>
#include <cstdint>

namespace linnet::kernels {

// Unary functions on float. a and b are the parameters named in brackets.
enum class Unary : int32_t {
    identity,
    abs,
    neg,
    sign,
    floor,
    ceil,
    round /* half to even */,
    reciprocal,
    sqrt,
    exp,
    log,
    sin,
    cos,
    tan,
    asin,
    acos,
    atan,
    sinh,
    cosh,
    asinh,
    acosh,
    atanh,
    erf,
    relu,
    clip /* [lo a, hi b] */,
    leaky_relu /* [slope a] */,
    thresholded_relu /* [alpha a] */,
    shrink /* [lambd a, bias b] */,
    elu /* [alpha a] */,
    selu /* [alpha a, gamma b] */,
    celu /* [alpha a] */,
    sigmoid,
    tanh,
    softplus,
    softsign,
    hard_sigmoid /* [alpha a, beta b] */,
    hard_swish,
    silu,
    mish,
    gelu_erf,
    gelu_tanh,
    quick_gelu /* x sigmoid(a x) */,
    add_scalar /* x + a */,
    mul_scalar /* x a */,
    count
};

enum class Binary : int32_t { add, sub, mul, div, min, max, pow, prelu /* a<0 ? a*b : a */, fmod, count };
enum class Compare : int32_t { equal, less, less_equal, greater, greater_equal, count };
enum class Reduce : int32_t { sum, max, min, prod, sum_abs, sum_square, count };

// Of bytes: truth values (0 is false, all else is true) to 0 or 1, and bits.
enum class Logic : int32_t { both, either, one_of_two, equal, bit_and, bit_or, bit_xor, count };

// From and to. A real number that the integer does not hold gives the lowest integer of the intermediate type: int64's
// for i64, int32's for i32, whose lowest byte is 0, for u8. A bool is 0 or 1.
enum class Convert : int32_t { f32_i64, f32_i32, f32_u8, f32_bool, f32_f64, f64_f32, i64_f32, bool_f32, count };

// c[m, n] = a[m, k] b[k, n] in double, or in integers that wrap around. Sum order: k = 0, 1, 2 ... from 0. Columns of c
// are contiguous, the other strides free.
template <class T>
struct GemmPlain {
    size_t m = 0, n = 0, k = 0;
    const T* a = nullptr;
    ptrdiff_t a_row = 0, a_col = 1;
    const T* b = nullptr;
    ptrdiff_t b_row = 0, b_col = 1;
    T* c = nullptr;
    ptrdiff_t c_row = 0;
};

// Rows of x mixed: y[p, c] is the sum over taps t of weights[p, t] * x[offsets[p, t] + c], or the largest of these
// products, of the taps whose offset is not negative; without any 0, or -inf. `accumulate`: joined with what y holds.
struct BlendF32 {
    size_t pixels = 0, taps = 0, channels = 0;
    const float* x = nullptr;
    const int64_t* offsets = nullptr;  // [pixels][taps]
    const float* weights = nullptr;    // [pixels][taps]
    float* y = nullptr;                // [pixels][y_stride]
    ptrdiff_t y_stride = 0;
    bool largest = false, accumulate = false;
};

}  // namespace linnet::kernels
