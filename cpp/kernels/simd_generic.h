// Vocabulary for any CPU: 16-byte GNU vectors, no intrinsics. The scalar twin that the other tables are tested against
// is the reference in selftest.cpp; this table is what runs where nothing better does.
#pragma once

#include "kernels/kernels.h"

#define LINNET_ISA generic

namespace linnet::kernels::generic {

#define LINNET_INLINE static inline __attribute__((always_inline))

constexpr int lanes = 4;
typedef float f32 __attribute__((vector_size(16), may_alias));
typedef int32_t i32 __attribute__((vector_size(16), may_alias));

constexpr int gemm_mr = 6, gemm_nv = 2, small_np[3] = {4, 2, 2};
constexpr int dw_rows = 1, dw_cols = 4, dw_taps = 3;
constexpr int sparse_s8_nv = 1;
constexpr SparseS8Cost sparse_s8_cost = {1.2f, 6, 10, 2};
constexpr int sparse_nv = 2;
constexpr SparseCost sparse_cost = {1.1f, 1.6f, 6, 6, 6, 3.2f, 5.5f, 3.0f};
constexpr int dot_mr = 3, dot_nv = 1;
constexpr bool dot_wants_signed = false;

LINNET_INLINE f32 splat(float x) { return f32{x, x, x, x}; }
LINNET_INLINE i32 splat_i(int32_t x) { return i32{x, x, x, x}; }
LINNET_INLINE f32 fma(f32 a, f32 b, f32 c) { return a * b + c; }
constexpr bool fma_rounds_once = false;
// If either is NaN: max and min return b, on every table but NEON, where a NaN of either side is kept.
LINNET_INLINE f32 max(f32 a, f32 b) { return a > b ? a : b; }
LINNET_INLINE f32 min(f32 a, f32 b) { return a < b ? a : b; }

// Makes v a register: GCC otherwise repeats a load at every use, or moves it where registers are short.
LINNET_INLINE void keep([[maybe_unused]] f32& v) {
#if defined(__x86_64__)
    __asm__("" : "+x"(v));
#elif defined(__aarch64__)
    __asm__("" : "+w"(v));
#endif
}
LINNET_INLINE f32 round_even(f32 x) {
    const i32 sign = (i32)x & splat_i(INT32_MIN);
    const f32 a = (f32)((i32)x & splat_i(INT32_MAX));
    f32 r = a + splat(8388608.0f);  // 2^23: the sum has no fraction bits left
    r = r - splat(8388608.0f);
    r = a < splat(8388608.0f) ? r : a;  // false for NaN
    return (f32)((i32)r | sign);
}
LINNET_INLINE f32 sqrt(f32 x) {
    f32 r{};
    for (int i = 0; i < lanes; ++i) r[i] = __builtin_sqrtf(x[i]);
    return r;
}
LINNET_INLINE f32 floor(f32 x) {
    const f32 r = round_even(x);
    return (f32)((i32)(r > x ? r - splat(1.0f) : r) | ((i32)x & splat_i(INT32_MIN)));
}
LINNET_INLINE i32 to_int(f32 x) { return __builtin_convertvector(round_even(x), i32); }

LINNET_INLINE f32 load_n(const float* p, size_t n) {
    float t[lanes] = {};
    for (size_t i = 0; i < n; ++i) t[i] = p[i];
    return f32{t[0], t[1], t[2], t[3]};
}
LINNET_INLINE void store_n(float* p, f32 v, size_t n) {
    for (size_t i = 0; i < n; ++i) p[i] = v[i];
}
// Quads, groups of four floats: here a vector is one. Transposes the matrix that four of them make.
LINNET_INLINE f32 load_quads(const void* p, ptrdiff_t) {
    f32 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
LINNET_INLINE void store_quads(float* p, ptrdiff_t, f32 v) { __builtin_memcpy(p, &v, sizeof v); }
LINNET_INLINE void transpose_quads(f32 (&v)[4]) {
    const f32 a = v[0], b = v[1], c = v[2], d = v[3];
    for (int i = 0; i < 4; ++i) v[i] = f32{a[i], b[i], c[i], d[i]};
}
LINNET_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }

// The bytes of four vectors: each value + zero, saturated to 0..255.
typedef uint8_t u8x __attribute__((vector_size(16), may_alias));
LINNET_INLINE u8x pack_bytes(i32 a, i32 b, i32 c, i32 d, int32_t zero) {
    const i32 v[4] = {a, b, c, d};
    u8x y{};
    for (int i = 0; i < 16; ++i) {
        const int32_t x = v[i / 4][i % 4] < -1024 ? 0 : v[i / 4][i % 4] + zero;
        y[i] = (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x);
    }
    return y;
}

struct DotA {
    i32 x[4];
};
struct DotB {
    i32 x[4];
};
LINNET_INLINE DotA dot_a(uint32_t x) {
    return {splat_i(x & 255), splat_i((x >> 8) & 255), splat_i((x >> 16) & 255), splat_i(x >> 24)};
}
LINNET_INLINE DotB dot_b(const void* p) {
    i32 b;
    __builtin_memcpy(&b, p, sizeof b);
    return {(b << 24) >> 24, (b << 16) >> 24, (b << 8) >> 24, b >> 24};
}
// acc[j] += sum over i < 4 of u8 a[i] * s8 b[j][i].
LINNET_INLINE i32 dot4(i32 acc, DotA a, DotB b) {
    return acc + (a.x[0] * b.x[0] + a.x[1] * b.x[1]) + (a.x[2] * b.x[2] + a.x[3] * b.x[3]);
}

constexpr bool winograd_s8_pays = true;
// acc + a[0] b[0] + a[1] b[1] for 16-bit pairs, one of a for all lanes, one of b a lane.
struct PairA {
    i32 x[2];
};
typedef i32 PairB;
LINNET_INLINE PairA pair_a(const int16_t* p) { return {splat_i(p[0]), splat_i(p[1])}; }
LINNET_INLINE PairB pair_b(const int8_t* p) {
    PairB b;
    for (int i = 0; i < lanes; ++i)
        b[i] = (int32_t)((uint32_t)p[2 * i] & 0xffff) | (int32_t)((uint32_t)p[2 * i + 1] << 16);
    return b;
}
LINNET_INLINE i32 dot2(i32 acc, PairA a, PairB b) { return acc + a.x[0] * ((b << 16) >> 16) + a.x[1] * (b >> 16); }
// The operands the other way round: words of a, and one word of b for all lanes.
LINNET_INLINE DotA dot_a_words(const void* p) {
    i32 a;
    __builtin_memcpy(&a, p, sizeof a);
    return {a & 255, (a >> 8) & 255, (a >> 16) & 255, (a >> 24) & 255};
}
LINNET_INLINE DotB dot_b_word(uint32_t x) {
    const uint32_t words[4] = {x, x, x, x};
    return dot_b(words);
}

}  // namespace linnet::kernels::generic

#define LINNET_SOFT_F16
#include "kernels/simd_common.h"
