// Conversions between element types. Rows whose length is no multiple of the vector are finished through a small copy.
#pragma once

#include "kernels/map.h"
#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

// y[i] = body(x + i) for whole vectors; the tail runs on copies. body(const X* in, Y* out, size_t i).
template <class X, class Y, class F>
LINNET_INLINE void convert_loop(size_t n, const X* x, Y* y, F body) {
    size_t i = 0;
    for (; i + lanes <= n; i += lanes) body(x + i, y + i, i);
    if (i < n) {
        X in[lanes] = {};
        Y out[lanes];
        for (size_t k = 0; k < n - i; ++k) in[k] = x[i + k];
        body(in, out, i);
        for (size_t k = 0; k < n - i; ++k) y[i + k] = out[k];
    }
}

LINNET_INLINE void store_bf16(uint16_t* p, f32 x) {
    const u32 u = (u32)bits(x);
    const i32 rounded = (i32)((u + (u32)splat_i(0x7fff) + ((u >> 16) & (u32)splat_i(1))) >> 16);
    const i32 quiet = (i32)(u >> 16) | splat_i(0x40);
    store_narrow<u16_lanes>(p, select(is_nan(x), quiet, rounded));
}
LINNET_INLINE f32 load_bf16(const uint16_t* p) { return from_bits(load_narrow<u16_lanes>(p) << 16); }

#define LINNET_BODY(X, Y) [&](const X* in, Y* out, [[maybe_unused]] size_t i) __attribute__((always_inline))

static void f16_to_f32(size_t n, const uint16_t* x, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(uint16_t, float) { store(out, load_f16(in)); });
}
static void f32_to_f16(size_t n, const float* x, uint16_t* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(float, uint16_t) { store_f16(out, load(in)); });
}
static void bf16_to_f32(size_t n, const uint16_t* x, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(uint16_t, float) { store(out, load_bf16(in)); });
}
static void f32_to_bf16(size_t n, const float* x, uint16_t* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(float, uint16_t) { store_bf16(out, load(in)); });
}
static void u8_to_f32(size_t n, const uint8_t* x, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(uint8_t, float) { store(out, to_float(load_narrow<u8_lanes>(in))); });
}
static void s8_to_f32(size_t n, const int8_t* x, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(int8_t, float) { store(out, to_float(load_narrow<s8_lanes>(in))); });
}
static void i32_to_f32(size_t n, const int32_t* x, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(int32_t, float) { store(out, to_float(load_i(in))); });
}

template <class X, class Y, class F>
LINNET_INLINE void convert_plain(size_t n, const void* x, void* y, F f) {
    const X* __restrict in = (const X*)x;
    Y* __restrict out = (Y*)y;
    for (size_t i = 0; i < n; ++i) out[i] = f(in[i]);
}
// The integer part, or the lowest integer for what is out of range or NaN.
LINNET_INLINE i32 whole(f32 x) {
    const i32 fits = less_equal(splat(-0x1p31f), x) & less(x, splat(0x1p31f));
    return select(fits, to_int(with_sign(floor(abs(x)), x)), splat_i(INT32_MIN));
}
static void convert(Convert pair, size_t n, const void* x, void* y) noexcept {
    switch (pair) {
        case Convert::f32_i64:
            return convert_plain<float, int64_t>(n, x, y, [](float v) {
                const bool fits = v >= -0x1p63f && v < 0x1p63f;
                return fits ? (int64_t)(fits ? v : 0.0f) : INT64_MIN;
            });
        case Convert::f32_i32:
            return convert_loop(
                n, (const float*)x, (int32_t*)y, LINNET_BODY(float, int32_t) { store_i(out, whole(load(in))); });
        case Convert::f32_u8:
            return convert_loop(
                n, (const float*)x, (uint8_t*)y,
                LINNET_BODY(float, uint8_t) { store_narrow<u8_lanes>(out, whole(load(in))); });
        case Convert::f32_bool:
            return convert_loop(
                n, (const float*)x, (uint8_t*)y, LINNET_BODY(float, uint8_t) {
                    store_narrow<u8_lanes>(out, ~equal(load(in), splat(0.0f)) & splat_i(1));
                });
        case Convert::bool_f32:
            return convert_loop(
                n, (const uint8_t*)x, (float*)y, LINNET_BODY(uint8_t, float) {
                    store(out, to_float((i32)(load_narrow<u8_lanes>(in) != splat_i(0)) & splat_i(1)));
                });
        case Convert::f32_f64: return convert_plain<float, double>(n, x, y, [](float v) { return (double)v; });
        case Convert::f64_f32: return convert_plain<double, float>(n, x, y, [](double v) { return (float)v; });
        case Convert::i64_f32: return convert_plain<int64_t, float>(n, x, y, [](int64_t v) { return (float)v; });
        case Convert::count: return;
    }
}

// Vectors of per-element parameters: from p[i], or the same everywhere if step is 0.
template <class Lanes, class T>
LINNET_INLINE i32 zeros_at(const T* zero, size_t step, size_t i, size_t n) {
    if (!zero) return splat_i(0);
    if (step == 0) return splat_i(*zero);
    if (i + lanes <= n) return load_narrow<Lanes>(zero + i);
    T t[lanes] = {};
    for (size_t k = 0; k < n - i; ++k) t[k] = zero[i + k];
    return load_narrow<Lanes>(t);
}
LINNET_INLINE f32 scales_at(const float* scale, size_t step, size_t i, size_t n) {
    return step ? load_some(scale + i, n - i) : splat(*scale);
}

// round_half_even(x) + zero, in reach of a byte's range; NaN counts as 0.
LINNET_INLINE i32 near_byte(f32 x, i32 zero) {
    x = clip(x, splat(-1024.0f), splat(1024.0f));
    return to_int(select(is_nan(x), splat(0.0f), x)) + zero;
}
// y[i] = saturate(value(i)), four vectors at a time: value(i) gives those from i on.
template <class T, class F>
LINNET_INLINE void saturate_loop(size_t n, T* y, F value) {
    constexpr uint8_t up = (T)-1 < 0 ? 128 : 0;
    constexpr size_t block = 4 * (size_t)lanes;
    for (size_t i = 0; i < n; i += block) {
        i32 v[4];
        unroll<4>(LINNET_LAMBDA(j) {
            const size_t at = i + (size_t)j * lanes;
            v[j] = value(at < n ? at : i);
        });
        const u8x q = pack_bytes(v[0], v[1], v[2], v[3], up) ^ (u8x{} + up);
        if (n - i >= block) __builtin_memcpy(y + i, &q, block);
        else copy_bytes((uint8_t*)y + i, (const uint8_t*)&q, n - i);
    }
}

// round_half_even(x / scale) + zero in 0..255, less `flip` bits. The quotient is that of a true division: a reciprocal
// that is rounded right, and two remainders that fma gives exactly (Markstein's theorem).
static __attribute__((noinline)) void quantize_by_one(size_t n, const float* x, float scale, int32_t zero, uint8_t flip,
                                                      uint8_t* y) noexcept {
    const f32 s = splat(scale), r = splat(1.0f / scale), most = splat(1024.0f * scale);
    const auto quotient = LINNET_LAMBDA(v) {
        v = select(is_nan(v), splat(0.0f), v);
        v = min(max(v, -most), most);  // far beyond every clamp, and where nothing overflows
        f32 q = v * r;
        q = fma(fma(-q, s, v), r, q);
        return fma(fma(-q, s, v), r, q);
    };
    const u8x flips = u8x{} + flip;
    for (size_t i = 0; i < n; i += byte_lanes) {
        const float* in = x + i;
        float room[byte_lanes];
        const size_t left = n - i;
        if (left < byte_lanes) {
            for (size_t k = 0; k < byte_lanes; ++k) room[k] = k < left ? in[k] : 0.0f;
            in = room;
        }
        i32 q[4];
        unroll<4>(LINNET_LAMBDA(j) { q[j] = to_int(quotient(load(in + j * lanes))); });
        const u8x bytes = pack_bytes(q[0], q[1], q[2], q[3], zero) ^ flips;
        __builtin_memcpy(y + i, &bytes, left < byte_lanes ? left : byte_lanes);
    }
}

template <class Lanes, class T>
LINNET_INLINE void quantize(size_t n, const float* x, const float* scale, size_t ss, const T* zero, size_t zs, T* y) {
    if (fma_rounds_once && ss == 0 && (zs == 0 || !zero) && *scale > 0x1p-60f && *scale < 0x1p60f) {
        constexpr int32_t up = (T)-1 < 0 ? 128 : 0;
        return quantize_by_one(n, x, *scale, (zero ? *zero : 0) + up, (uint8_t)up, (uint8_t*)y);
    }
    saturate_loop(
        n, y, [&](size_t i) __attribute__((always_inline)) {
            return near_byte(load_some(x + i, n - i) / scales_at(scale, ss, i, n), zeros_at<Lanes>(zero, zs, i, n));
        });
}
template <class Lanes, class T>
LINNET_INLINE void dequantize(size_t n, const T* x, const float* scale, size_t ss, const T* zero, size_t zs, float* y) {
    convert_loop(
        n, x, y, LINNET_BODY(T, float) {
            const i32 v = load_narrow<Lanes>(in) - zeros_at<Lanes>(zero, zs, i, n);
            store(out, to_float(v) * scales_at(scale, ss, i, n));
        });
}
template <class T>
LINNET_INLINE void requantize(size_t n, const int32_t* x, const float* scale, size_t ss, int32_t zero, T* y) {
    saturate_loop(
        n, y, [&](size_t i) __attribute__((always_inline)) {
            const f32 v = to_float(bits(load_some((const float*)(x + i), n - i)));
            return near_byte(v * scales_at(scale, ss, i, n), splat_i(zero));
        });
}

static void quantize_u8(size_t n, const float* x, const float* scale, size_t ss, const uint8_t* zero, size_t zs,
                        uint8_t* y) noexcept {
    quantize<u8_lanes>(n, x, scale, ss, zero, zs, y);
}
static void quantize_s8(size_t n, const float* x, const float* scale, size_t ss, const int8_t* zero, size_t zs,
                        int8_t* y) noexcept {
    quantize<s8_lanes>(n, x, scale, ss, zero, zs, y);
}
static void dequantize_u8(size_t n, const uint8_t* x, const float* scale, size_t ss, const uint8_t* zero, size_t zs,
                          float* y) noexcept {
    dequantize<u8_lanes>(n, x, scale, ss, zero, zs, y);
}
static void dequantize_s8(size_t n, const int8_t* x, const float* scale, size_t ss, const int8_t* zero, size_t zs,
                          float* y) noexcept {
    dequantize<s8_lanes>(n, x, scale, ss, zero, zs, y);
}
static void dequantize_i32(size_t n, const int32_t* x, const float* scale, size_t ss, float* y) noexcept {
    convert_loop(
        n, x, y, LINNET_BODY(int32_t, float) { store(out, to_float(load_i(in)) * scales_at(scale, ss, i, n)); });
}
static void requantize_u8(size_t n, const int32_t* x, const float* scale, size_t ss, int32_t zero,
                          uint8_t* y) noexcept {
    requantize(n, x, scale, ss, zero, y);
}
static void requantize_s8(size_t n, const int32_t* x, const float* scale, size_t ss, int32_t zero, int8_t* y) noexcept {
    requantize(n, x, scale, ss, zero, y);
}

}  // namespace linnet::kernels::LINNET_ISA
