// Elementary functions over vectors. Errors in units in the last place (ULP), measured over all finite inputs that
// matter by the self-test: exp 3, log 2, tanh 3, erf 6, sin and cos 2 (|x| <= 8192; libm beyond), sigmoid 4.
// Polynomials are near-minimax fits (iteratively reweighted least squares on Chebyshev nodes).
#pragma once

namespace linnet::kernels::LINNET_ISA {

template <class... C>
LINNET_INLINE f32 poly(f32 x, float highest, C... rest) {
    f32 r = splat(highest);
    ((r = fma(r, x, splat(rest))), ...);
    return r;
}

template <class F>
LINNET_INLINE f32 each(f32 x, F f) {
    float t[lanes];
    store(t, x);
    for (int i = 0; i < lanes; ++i) t[i] = f(t[i]);
    return load(t);
}

// exp(x) = e 2^n with n = round(x / ln 2): gives e, n and, in the last bits of `biased`, n + bias.
template <int bias>
LINNET_INLINE f32 exp_parts(f32 x, f32& n, f32& biased) {
    const f32 round = splat(12582912.0f + bias);  // 1.5 2^23: what is added to it loses its fraction
    biased = fma(x, splat(1.44269504f), round);
    n = biased - round;
    f32 r = fma(n, splat(-0.693359375f), x);
    r = fma(n, splat(2.12194440e-4f), r);
    return poly(r, 8.290272081e-03f, 4.189815963e-02f, 1.666763813e-01f, 4.999914784e-01f, 9.999997063e-01f, 1.0f);
}
LINNET_INLINE f32 exp(f32 x) {
    f32 n, biased;
    const f32 e = exp_parts<127>(min(splat(89.0f), max(splat(-104.0f), x)), n, biased);
#ifdef LINNET_SCALE_2N
    return scale_2n(e, n);
#else
    // In two factors: n reaches -150 (subnormals) and 128 (infinity).
    const i32 i = to_int(n), half = i >> 1;
    return e * from_bits((half + splat_i(127)) << 23) * from_bits((i - half + splat_i(127)) << 23);
#endif
}
// exp(x) 2^-24, which has room for all x that exp(-x) is a float for: up to 104. What is below -71 counts as -71.
LINNET_INLINE f32 exp_lowered(f32 x) {
    f32 n, biased;
    const f32 e = exp_parts<127 - 24>(min(splat(104.0f), max(splat(-71.0f), x)), n, biased);
    return e * from_bits(bits(biased) << 23);
}
// exp for sums with 1: what is below 2^-126 may come out as 2^-126, what is above 2^127.5 as infinity.
LINNET_INLINE f32 exp_coarse_ends(f32 x) {
    f32 n, biased;
    const f32 e = exp_parts<127>(min(splat(89.0f), max(splat(-87.3f), x)), n, biased);
    return e * from_bits(bits(biased) << 23);
}
// (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2.
LINNET_INLINE f32 exp_tail(f32 r) {
    return poly(r, 1.381313100e-03f, 8.369424527e-03f, 4.166845738e-02f, 1.666651474e-01f, 4.999999305e-01f);
}
LINNET_INLINE f32 expm1(f32 x) {
    const f32 near = fma(x * x, exp_tail(x), x);
    return select(less(abs(x), splat(0.34f)), near, exp(x) - splat(1.0f));
}
LINNET_INLINE f32 log(f32 x) {
    const i32 tiny = less(x, splat(0x1p-126f));
    const f32 y = select(tiny, x * splat(0x1p23f), x);
    // The exponent is counted from sqrt(1/2), so that the mantissa lies in [sqrt(1/2), sqrt(2)).
    const i32 u = bits(y) - splat_i(0x3f3504f3);
    const f32 e = to_float((u >> 23) - (tiny & splat_i(23)));
    const f32 f = from_bits((u & splat_i(0x007fffff)) + splat_i(0x3f3504f3)) - splat(1.0f);
    const f32 p = poly(f, 6.757530884e-02f, -1.169432444e-01f, 1.189352495e-01f, -1.240308633e-01f, 1.421855293e-01f,
                       -1.666809016e-01f, 2.000216714e-01f, -2.500000872e-01f, 3.333331197e-01f);
    const f32 f2 = f * f;
    f32 r = fma(f2 * f, p, e * splat(-2.12194440e-4f));
    r = fma(f2, splat(-0.5f), r) + f;
    r = fma(e, splat(0.693359375f), r);
    r = select(equal(x, splat(0.0f)), splat(-__builtin_inff()), r);
    r = select(less(x, splat(0.0f)), splat(__builtin_nanf("")), r);
    const i32 keep = is_nan(x) | equal(x, splat(__builtin_inff()));
    return select(keep, x, r);
}
// log(1 + u) for u >= 0.
LINNET_INLINE f32 log1p(f32 u) {
    const f32 w = splat(1.0f) + u;
    const f32 lost = (u - (w - splat(1.0f))) / w;
    return select(less(u, splat(0x1p60f)), log(w) + lost, log(u));
}
LINNET_INLINE f32 tanh(f32 x) {
    const f32 a = abs(x), s = x * x;
    const f32 p = poly(s, 2.130901977e-03f, -8.165032475e-03f, 2.169606943e-02f, -5.394599337e-02f, 1.333320061e-01f,
                       -3.333333069e-01f);
    const f32 near = fma(x * s, p, x);
    const f32 far = splat(1.0f) - splat(2.0f) / (exp_coarse_ends(min(splat(20.0f), a + a)) + splat(1.0f));
    return select(less(a, splat(0.625f)), near, with_sign(far, x));
}
// erf(x / sqrt(2)): x P(x^2) / Q(x^2), within 2e-8 of the value; from 5.5 on it is 1.
LINNET_INLINE f32 erf_normal(f32 x) {
    const f32 t = min(splat(5.5f), max(splat(-5.5f), x)), s = t * t;
    const f32 p = poly(s, 4.586247689e-08f, 1.260315785e-05f, 3.291448150e-04f, 9.302947747e-03f, 6.691752521e-02f,
                       7.978845476e-01f);
    const f32 q =
        poly(s, 1.199029895e-06f, 7.216659358e-05f, 1.860638345e-03f, 2.841605507e-02f, 2.505350818e-01f, 1.0f);
    return min(splat(1.0f), max(splat(-1.0f), t * p / q));
}
LINNET_INLINE f32 erf(f32 x) { return erf_normal(x * splat(1.41421356f)); }
// x (1 + erf(x / sqrt(2))) / 2
LINNET_INLINE f32 gelu(f32 x) {
    const f32 half = splat(0.5f) * x;
    return fma(half, erf_normal(x), half);
}
LINNET_INLINE f32 sigmoid(f32 x) {
    const f32 one = splat(0x1p-24f);
    return one / (one + exp_lowered(-x));
}
// x sigmoid(y), one multiplication less than that: 0 where exp(-y) is more than 2^127.5.
LINNET_INLINE f32 times_sigmoid(f32 x, f32 y) { return x / (splat(1.0f) + exp_coarse_ends(-y)); }

// sin(x + quarter * pi / 2).
LINNET_INLINE f32 sin_quarter(f32 x, int quarter) {
    const f32 n = round_even(x * splat(0.636619772f));
    f32 r = fma(n, splat(-1.5703125f), x);
    r = fma(n, splat(-4.837512969970703125e-4f), r);
    r = fma(n, splat(-7.549789948768648e-8f), r);
    const i32 q = to_int(n) + splat_i(quarter);
    const f32 s = r * r;
    const f32 sine = fma(r * s, poly(s, 2.717564412e-06f, -1.983925663e-04f, 8.333329144e-03f, -1.666666664e-01f), r);
    const f32 cosine = fma(s * s, poly(s, -2.720330316e-07f, 2.479943640e-05f, -1.388888344e-03f, 4.166666662e-02f),
                           fma(s, splat(-0.5f), splat(1.0f)));
    const f32 y = select((i32)((q & splat_i(1)) == splat_i(0)), sine, cosine);
    return from_bits(bits(y) ^ ((q & splat_i(2)) << 30));
}
// Lanes whose reduction has lost its digits, NaN and infinities among them, are libm's: each lane by itself, so that
// a result does not depend on its neighbours.
LINNET_INLINE i32 far_angle(f32 x) { return ~less_equal(abs(x), splat(8192.0f)); }
LINNET_INLINE f32 sin(f32 x) {
    const f32 y = sin_quarter(x, 0);
    const i32 far = far_angle(x);
    if (__builtin_expect(!any(far), 1)) return y;
    return select(far, each(x, [](float v) { return __builtin_sinf(v); }), y);
}
LINNET_INLINE f32 cos(f32 x) {
    const f32 y = sin_quarter(x, 1);
    const i32 far = far_angle(x);
    if (__builtin_expect(!any(far), 1)) return y;
    return select(far, each(x, [](float v) { return __builtin_cosf(v); }), y);
}

}  // namespace linnet::kernels::LINNET_ISA
