// The part of the vocabulary that GNU vectors give on every instruction set. Included by simd_<isa>.h.
#pragma once

namespace linnet::kernels::LINNET_ISA {

// Index that is a constant in unroll's body: GCC keeps an array of accumulators in registers only if every index is
// one.
template <int I>
struct Int {
    static constexpr int value = I;
    constexpr operator int() const { return I; }
};
template <int N, int I = 0, class F>
LINNET_INLINE void unroll(F&& f) {
    if constexpr (I < N) {
        f(Int<I>{});
        unroll<N, I + 1>(f);
    }
}
#define LINNET_MEMBER inline __attribute__((always_inline))
#define LINNET_LAMBDA(arg) [&](auto arg) __attribute__((always_inline))
#define LINNET_LAMBDA_2(first, second) [&](auto first, auto second) __attribute__((always_inline))

typedef uint32_t u32 __attribute__((vector_size(sizeof(f32)), may_alias));
typedef uint32_t u32_bytes __attribute__((vector_size(sizeof(u8x)), may_alias));
typedef uint16_t u16_lanes __attribute__((vector_size(2 * lanes), may_alias));
typedef uint8_t u8_lanes __attribute__((vector_size(lanes), may_alias));
typedef int8_t s8_lanes __attribute__((vector_size(lanes), may_alias));

LINNET_INLINE f32 load(const float* p) {
    f32 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
LINNET_INLINE void store(float* p, f32 v) { __builtin_memcpy(p, &v, sizeof v); }
#ifdef LINNET_HALF
LINNET_INLINE f32h load_half(const float* p) {
    f32h v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
LINNET_INLINE void store_half(float* p, f32h v) { __builtin_memcpy(p, &v, sizeof v); }
LINNET_INLINE f32h clip_half(f32h v, float lo, float hi) {
    const f32h l = f32h{} + lo, h = f32h{} + hi;
    v = v < l ? l : v;  // keeps NaN, as clip does
    return v > h ? h : v;
}
#else
constexpr int half_lanes = 0;
#endif
// n >= 1; the whole vector if n >= lanes.
LINNET_INLINE f32 load_some(const float* p, size_t n) { return n >= (size_t)lanes ? load(p) : load_n(p, n); }
LINNET_INLINE void store_some(float* p, f32 v, size_t n) {
    if (n >= (size_t)lanes) store(p, v);
    else store_n(p, v, n);
}
LINNET_INLINE i32 load_i(const int32_t* p) {
    i32 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
LINNET_INLINE void store_i(int32_t* p, i32 v) { __builtin_memcpy(p, &v, sizeof v); }
template <class Lanes, class T>
LINNET_INLINE i32 load_narrow(const T* p) {
#ifdef LINNET_WIDEN
    if constexpr (sizeof(T) == 1) return widen(p);
#endif
    Lanes v;
    __builtin_memcpy(&v, p, sizeof v);
    return __builtin_convertvector(v, i32);
}
#ifndef LINNET_LOAD_S8
LINNET_INLINE i32 load_s8(const int8_t* p) { return load_narrow<s8_lanes>(p); }
#endif
template <class Lanes, class T>
LINNET_INLINE void store_narrow(T* p, i32 x) {
    const Lanes v = __builtin_convertvector(x, Lanes);
    __builtin_memcpy(p, &v, sizeof v);
}

// In pieces of one size, of which the last two may overlap.
template <size_t Piece>
LINNET_INLINE void copy_pieces(uint8_t* to, const uint8_t* from, size_t n) {
    for (size_t i = 0; i + Piece < n; i += Piece) __builtin_memcpy(to + i, from + i, Piece);
    __builtin_memcpy(to + n - Piece, from + n - Piece, Piece);
}
[[maybe_unused]] static __attribute__((noinline)) void copy_bytes(uint8_t* to, const uint8_t* from, size_t n) {
    if (n >= 16) copy_pieces<16>(to, from, n);
    else if (n >= 4) copy_pieces<4>(to, from, n);
    else
        for (size_t i = 0; i < n; ++i) to[i] = from[i];
}
#ifndef LINNET_BYTE_TABLE
struct ByteTable {
    const uint8_t* t;
    LINNET_MEMBER void load(const uint8_t* p) { t = p; }
    LINNET_MEMBER u8x of(u8x x) const {
        uint8_t y[sizeof x];
        __builtin_memcpy(y, &x, sizeof x);
        for (uint8_t& v : y) v = t[v];
        __builtin_memcpy(&x, y, sizeof x);
        return x;
    }
};
#endif

#ifndef LINNET_TAPS
constexpr int tap_group = 1;
constexpr bool taps_are_signed = false;
typedef int32_t TapWeight;
typedef i32 Taps, TapWeights;
LINNET_INLINE Taps load_one_tap(const uint8_t* p) { return load_narrow<u8_lanes>(p); }
LINNET_INLINE Taps load_taps(const uint8_t* const* p, ptrdiff_t at) { return load_one_tap(*p + at); }
LINNET_INLINE Taps tap_flip(bool flip) { return splat_i(flip ? 128 : 0); }
LINNET_INLINE i32 dot_taps(i32 acc, Taps x, TapWeights w) { return acc + x * w; }
#endif
LINNET_INLINE TapWeights load_tap_weights(const TapWeight* p) {
    TapWeights v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}

#ifndef LINNET_ACCUMULATE
LINNET_INLINE void accumulate(f32& acc, f32 a, f32 b) { acc = fma(a, b, acc); }
#endif
#ifndef LINNET_EXPAND
// The next floats at p in the lanes whose bits are set, 0 in the others. A whole vector at p is readable.
LINNET_INLINE f32 expand(const float* p, uint32_t bits) {
    f32 v{};
    for (int i = 0; i < lanes; ++i)
        if (bits >> i & 1) v[i] = *p++;
    return v;
}
#endif
LINNET_INLINE i32 bits(f32 x) { return (i32)x; }
LINNET_INLINE f32 from_bits(i32 x) { return (f32)x; }
LINNET_INLINE f32 to_float(i32 x) { return __builtin_convertvector(x, f32); }
// The four bits from 4 I on of each lane, a number from 0 to 15, times 16^(I % 7).
template <int I>
LINNET_INLINE f32 nibble(i32 x) {
    if constexpr (I == 7) return to_float((i32)((u32)x >> 28));
    else return to_float(x & splat_i(15 << 4 * I));
}
#ifndef LINNET_BOOK
// 16 floats, and those that the four bits from 4 I on of each lane choose.
struct Book {
    const float* t;
    LINNET_MEMBER void load(const float* p) { t = p; }
    template <int I>
    LINNET_MEMBER f32 of(i32 x) const {
        f32 y;
        for (int i = 0; i < lanes; ++i) y[i] = t[(uint32_t)x[i] >> 4 * I & 15];
        return y;
    }
};
constexpr bool book_is_cheap = false;  // whether a look-up costs no more than an integer's conversion
constexpr BookGain book_gain = {0, 0};
#endif
// Comparisons as masks of all ones or zeros.
LINNET_INLINE i32 less(f32 a, f32 b) { return (i32)(a < b); }
LINNET_INLINE i32 less_equal(f32 a, f32 b) { return (i32)(a <= b); }
LINNET_INLINE i32 equal(f32 a, f32 b) { return (i32)(a == b); }
LINNET_INLINE i32 is_nan(f32 a) { return (i32)(a != a); }
LINNET_INLINE f32 select(i32 mask, f32 a, f32 b) { return from_bits((mask & bits(a)) | (~mask & bits(b))); }
LINNET_INLINE i32 select(i32 mask, i32 a, i32 b) { return (mask & a) | (~mask & b); }
LINNET_INLINE f32 abs(f32 x) { return from_bits(bits(x) & splat_i(INT32_MAX)); }
LINNET_INLINE f32 sign_bit(f32 x) { return from_bits(bits(x) & splat_i(INT32_MIN)); }
LINNET_INLINE f32 with_sign(f32 magnitude, f32 sign) { return from_bits(bits(magnitude) | bits(sign_bit(sign))); }

LINNET_INLINE bool any(i32 mask) {
    int32_t t[lanes], all = 0;
    store_i(t, mask);
    for (int i = 0; i < lanes; ++i) all |= t[i];
    return all != 0;
}

#ifndef LINNET_KEEP_NAN
// The larger or smaller, but NaN if either is.
LINNET_INLINE f32 max_or_nan(f32 a, f32 b) { return select(is_nan(a), a, max(a, b)); }
LINNET_INLINE f32 min_or_nan(f32 a, f32 b) { return select(is_nan(a), a, min(a, b)); }
#endif
#ifndef LINNET_SWAP
// Lane i from lane i ^ Distance.
template <int Distance>
LINNET_INLINE f32 swap_lanes(f32 v) {
    f32 swapped = v;
    for (int i = 0; i < lanes; ++i) swapped[i] = v[i ^ Distance];
    return swapped;
}
#endif
// Folds the lanes in halves, a fixed order; join must be commutative.
template <int Distance = lanes / 2, class F>
LINNET_INLINE float fold(f32 v, F join) {
    if constexpr (Distance == 0) return v[0];
    else return fold<Distance / 2>(join(v, swap_lanes<Distance>(v)), join);
}

#ifdef LINNET_SOFT_F16
LINNET_INLINE f32 load_f16(const uint16_t* p) {
    const i32 h = load_narrow<u16_lanes>(p), em = h & splat_i(0x7fff);
    // As a float, the shifted bits are 2^-112 of the value, subnormals included.
    const f32 finite = from_bits(em << 13) * splat(0x1p112f);
    const i32 special = (em << 13) | splat_i(0x7f800000);
    return from_bits(select((i32)(em >= splat_i(0x7c00)), special, bits(finite)) | ((h & splat_i(0x8000)) << 16));
}
LINNET_INLINE void store_f16(uint16_t* p, f32 x) {
    const i32 u = bits(x) & splat_i(INT32_MAX), sign = (i32)((u32)bits(x) >> 16) & splat_i(0x8000);
    const i32 normal = (u + splat_i(0xfff) + ((u >> 13) & splat_i(1)) - splat_i(0x38000000)) >> 13;
    // Adding 0.5 rounds to a multiple of 2^-24, the smallest half.
    const i32 subnormal = bits(from_bits(u) + splat(0.5f)) - splat_i(0x3f000000);
    i32 h = select((i32)(u < splat_i(0x38800000)), subnormal, normal);
    h = select((i32)(u >= splat_i(0x477ff000)), splat_i(0x7c00), h);
    h = select((i32)(u > splat_i(0x7f800000)), ((u >> 13) & splat_i(0x3ff)) | splat_i(0x7e00), h);
    store_narrow<u16_lanes>(p, h | sign);
}
#endif

}  // namespace linnet::kernels::LINNET_ISA
