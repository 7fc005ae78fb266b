// Elementary functions over vectors. Errors in units in the last place (ULP), measured over all finite inputs that
// matter by the self-test: exp 3, log 2, tanh 3, erf 6, sin and cos 2, tan 4 (|x| <= 8192; libm beyond), sigmoid 4,
// asin, acos and atan 2, sinh and cosh 3, asinh, acosh and atanh 4. Polynomials are near-minimax fits (iteratively
// reweighted least squares on Chebyshev nodes).
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

// Sine and cosine of r = x - n pi / 2, |r| <= pi / 4, and n.
LINNET_INLINE i32 sin_cos_parts(f32 x, f32& sine, f32& cosine) {
    const f32 n = round_even(x * splat(0.636619772f));
    f32 r = fma(n, splat(-1.5703125f), x);
    r = fma(n, splat(-4.837512969970703125e-4f), r);
    r = fma(n, splat(-7.549789948768648e-8f), r);
    const f32 s = r * r;
    sine = fma(r * s, poly(s, 2.717564412e-06f, -1.983925663e-04f, 8.333329144e-03f, -1.666666664e-01f), r);
    cosine = fma(s * s, poly(s, -2.720330316e-07f, 2.479943640e-05f, -1.388888344e-03f, 4.166666662e-02f),
                 fma(s, splat(-0.5f), splat(1.0f)));
    return to_int(n);
}
LINNET_INLINE i32 is_even(i32 q) { return (i32)((q & splat_i(1)) == splat_i(0)); }
// sin(x + quarter * pi / 2).
LINNET_INLINE f32 sin_quarter(f32 x, int quarter) {
    f32 sine, cosine;
    const i32 q = sin_cos_parts(x, sine, cosine) + splat_i(quarter);
    return from_bits(bits(select(is_even(q), sine, cosine)) ^ ((q & splat_i(2)) << 30));
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
LINNET_INLINE f32 tan(f32 x) {
    f32 sine, cosine;
    const i32 even = is_even(sin_cos_parts(x, sine, cosine));
    const f32 y = select(even, sine, -cosine) / select(even, cosine, sine);
    const i32 far = far_angle(x);
    if (__builtin_expect(!any(far), 1)) return y;
    return select(far, each(x, [](float v) { return __builtin_tanf(v); }), y);
}

// asin(a) for 0 <= a <= 1/2, and beyond of sqrt((1 - a) / 2): asin(a) = pi / 2 - 2 asin(sqrt((1 - a) / 2)).
LINNET_INLINE f32 asin_part(f32 a, i32& beyond) {
    beyond = less(splat(0.5f), a);
    const f32 z = select(beyond, fma(a, splat(-0.5f), splat(0.5f)), a * a);
    const f32 s = select(beyond, sqrt(z), a);
    const f32 p = poly(z, 4.221854614e-02f, 2.414761186e-02f, 4.547709711e-02f, 7.495241777e-02f, 1.666675393e-01f);
    return fma(s * z, p, s);
}
LINNET_INLINE f32 asin(f32 x) {
    i32 beyond;
    const f32 p = asin_part(abs(x), beyond);
    const f32 turned = fma(p, splat(-2.0f), splat(1.57079633f)) + splat(-4.37113883e-8f);
    return with_sign(select(beyond, turned, p), x);
}
LINNET_INLINE f32 acos(f32 x) {
    i32 beyond;
    const f32 p = asin_part(abs(x), beyond);
    const f32 rest = splat(-4.37113883e-8f);  // pi / 2 less its float
    const f32 near = splat(1.57079633f) - (with_sign(p, x) - rest);
    const f32 twice = p + p;
    return select(beyond, select(less(x, splat(0.0f)), splat(3.14159265f) - (twice - (rest + rest)), twice), near);
}
LINNET_INLINE f32 atan(f32 x) {
    // tan(pi / 8) and tan(3 pi / 8) part the ranges that are turned by 0, pi / 4 and pi / 2.
    const f32 a = abs(x), one = splat(1.0f), zero = splat(0.0f);
    const i32 middle = less(splat(0.414213562f), a), high = less(splat(2.41421356f), a);
    const f32 top = select(high, -one, select(middle, a - one, a));
    const f32 bottom = select(high, a, select(middle, a + one, one));
    const f32 t = top / bottom, z = t * t;
    const f32 p = poly(z, 8.060297612e-02f, -1.387984614e-01f, 1.997792568e-01f, -3.333295524e-01f);
    const f32 base = select(high, splat(1.57079633f), select(middle, splat(0.785398163f), zero));
    const f32 rest = select(high, splat(-4.37113883e-8f), select(middle, splat(-2.18556941e-8f), zero));
    return with_sign(base + (fma(t * z, p, t) + rest), x);
}

// exp(x) / 2 and no overflow before that has one.
LINNET_INLINE f32 half_exp(f32 x) {
    f32 n, biased;
    const f32 e = exp_parts<127 - 2>(min(splat(90.0f), x), n, biased);
    return e * from_bits(bits(biased) << 23) * splat(2.0f);
}
LINNET_INLINE f32 sinh(f32 x) {
    const f32 a = abs(x), s = x * x, e = half_exp(a);
    const f32 near = fma(x * s, poly(s, 2.037740596e-04f, 8.330211401e-03f, 1.666671825e-01f), x);
    return select(less(a, splat(1.0f)), near, with_sign(e - splat(0.25f) / e, x));
}
LINNET_INLINE f32 cosh(f32 x) {
    const f32 e = half_exp(abs(x));
    return e + splat(0.25f) / e;
}
// log(1 + u) and, for u beyond 2^30, log(u) + more: where squares would overflow.
LINNET_INLINE f32 log1p_or(f32 u, f32 x, float more) {
    return select(less(splat(0x1p30f), x), log(x) + splat(more), log1p(u));
}
LINNET_INLINE f32 asinh(f32 x) {
    const f32 a = abs(x), one = splat(1.0f), s = a * a;
    return with_sign(log1p_or(a + s / (one + sqrt(one + s)), a, 0.693147181f), x);
}
LINNET_INLINE f32 acosh(f32 x) {
    const f32 t = x - splat(1.0f);
    const f32 y = log1p_or(t + sqrt(fma(t, t, t + t)), x, 0.693147181f);
    return select(less(x, splat(1.0f)), splat(__builtin_nanf("")), y);
}
LINNET_INLINE f32 atanh(f32 x) {
    const f32 a = abs(x);
    const f32 y = splat(0.5f) * log1p((a + a) / (splat(1.0f) - a));
    return with_sign(y, x);
}

}  // namespace linnet::kernels::LINNET_ISA
