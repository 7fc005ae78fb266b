// Vocabulary for aarch64; with LINNET_NEON_DOT also for the dot product instructions of Armv8.2.
#pragma once

#include <arm_neon.h>

#include "kernels/kernels.h"

#ifdef LINNET_NEON_DOT
#define LINNET_ISA neon_dot
#else
#define LINNET_ISA neon
#endif

namespace linnet::kernels::LINNET_ISA {

#define LINNET_INLINE static inline __attribute__((always_inline))

constexpr int lanes = 4;
typedef float32x4_t f32;
typedef int32x4_t i32;

constexpr int gemm_mr = 8, gemm_nv = 2, small_np[3] = {4, 2, 2};
constexpr int dw_rows = 3, dw_cols = 4, dw_taps = 7;
constexpr int sparse_s8_nv = 4;
constexpr SparseS8Cost sparse_s8_cost = {1.2f, 6, 10, 2};
constexpr int sparse_nv = 4;
constexpr SparseCost sparse_cost = {1.1f, 1.6f, 6, 6, 6, 3.2f, 5.5f, 3.0f};
// A is read four k at a time, and multiplied by lane.
#define LINNET_FMA_LANE

LINNET_INLINE f32 splat(float x) { return vdupq_n_f32(x); }
LINNET_INLINE i32 splat_i(int32_t x) { return vdupq_n_s32(x); }
LINNET_INLINE f32 fma(f32 a, f32 b, f32 c) { return vfmaq_f32(c, a, b); }
constexpr bool fma_rounds_once = true;
LINNET_INLINE f32 max(f32 a, f32 b) { return vmaxq_f32(a, b); }
LINNET_INLINE f32 min(f32 a, f32 b) { return vminq_f32(a, b); }
// Makes v a register: GCC otherwise repeats a load at every use, or moves it where registers are short.
LINNET_INLINE void keep(f32& v) { __asm__("" : "+w"(v)); }
// acc + b * a[L]
template <int L>
LINNET_INLINE f32 fma_lane(f32 acc, f32 b, f32 a) {
    return vfmaq_laneq_f32(acc, b, a, L);
}
LINNET_INLINE f32 round_even(f32 x) { return vrndnq_f32(x); }
LINNET_INLINE f32 sqrt(f32 x) { return vsqrtq_f32(x); }
LINNET_INLINE f32 floor(f32 x) { return vrndmq_f32(x); }
LINNET_INLINE i32 to_int(f32 x) { return vcvtnq_s32_f32(x); }

LINNET_INLINE f32 load_n(const float* p, size_t n) {
    float t[lanes] = {};
    for (size_t i = 0; i < n; ++i) t[i] = p[i];
    return vld1q_f32(t);
}
LINNET_INLINE void store_n(float* p, f32 v, size_t n) {
    float t[lanes];
    vst1q_f32(t, v);
    for (size_t i = 0; i < n; ++i) p[i] = t[i];
}
// Quads, groups of four floats: here a vector is one. Transposes the matrix that four of them make.
LINNET_INLINE f32 load_quads(const void* p, ptrdiff_t) { return vreinterpretq_f32_u8(vld1q_u8((const uint8_t*)p)); }
LINNET_INLINE void store_quads(float* p, ptrdiff_t, f32 v) { vst1q_f32(p, v); }
LINNET_INLINE void transpose_quads(f32 (&v)[4]) {
    const float32x4x2_t a = vtrnq_f32(v[0], v[1]), b = vtrnq_f32(v[2], v[3]);
    v[0] = vcombine_f32(vget_low_f32(a.val[0]), vget_low_f32(b.val[0]));
    v[1] = vcombine_f32(vget_low_f32(a.val[1]), vget_low_f32(b.val[1]));
    v[2] = vcombine_f32(vget_high_f32(a.val[0]), vget_high_f32(b.val[0]));
    v[3] = vcombine_f32(vget_high_f32(a.val[1]), vget_high_f32(b.val[1]));
}
LINNET_INLINE void prefetch(const void* p) { __builtin_prefetch(p); }
LINNET_INLINE f32 load_f16(const uint16_t* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p))); }
LINNET_INLINE void store_f16(uint16_t* p, f32 v) { vst1_u16(p, vreinterpret_u16_f16(vcvt_f16_f32(v))); }

LINNET_INLINE uint32_t four_bytes(const void* p) {
    uint32_t x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
}
#define LINNET_WIDEN
// A vector of bytes; GCC takes convertvector apart.
LINNET_INLINE i32 widen(const uint8_t* p) {
    const uint8x8_t v = vreinterpret_u8_u32(vdup_n_u32(four_bytes(p)));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
}
LINNET_INLINE i32 widen(const int8_t* p) {
    const int8x8_t v = vreinterpret_s8_u32(vdup_n_u32(four_bytes(p)));
    return vmovl_s16(vget_low_s16(vmovl_s8(v)));
}

// The bytes of four vectors: each value + zero, saturated to 0..255.
typedef uint8x16_t u8x;
LINNET_INLINE u8x pack_bytes(i32 a, i32 b, i32 c, i32 d, int32_t zero) {
    const int16x8_t z = vdupq_n_s16((int16_t)zero);
    const int16x8_t ab = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(a), b), z);
    const int16x8_t cd = vqaddq_s16(vqmovn_high_s32(vqmovn_s32(c), d), z);
    return vqmovun_high_s16(vqmovun_s16(ab), cd);
}
#define LINNET_BYTE_TABLE
struct ByteTable {
    uint8x16x4_t t[4];
    inline __attribute__((always_inline)) void load(const uint8_t* p) {
        for (int i = 0; i < 4; ++i) t[i] = vld1q_u8_x4(p + 64 * i);
    }
    inline __attribute__((always_inline)) u8x of(u8x x) const {  // an index beyond 64 leaves what is there
        u8x y = vqtbl4q_u8(t[0], x);
        for (int i = 1; i < 4; ++i) y = vqtbx4q_u8(y, t[i], vsubq_u8(x, vdupq_n_u8((uint8_t)(64 * i))));
        return y;
    }
};

#define LINNET_BOOK
// 16 floats, and those that the four bits from 4 I on of each lane choose.
struct Book {
    uint8x16x4_t t;
    inline __attribute__((always_inline)) void load(const float* p) { t = vld1q_u8_x4((const uint8_t*)p); }
    template <int I>
    inline __attribute__((always_inline)) f32 of(i32 x) const {
        const uint32x4_t at = vandq_u32(vreinterpretq_u32_s32(I ? vshrq_n_s32(x, I ? 4 * I : 1) : x), vdupq_n_u32(15));
        const uint32x4_t bytes = vmlaq_u32(vdupq_n_u32(0x03020100), at, vdupq_n_u32(0x04040404));
        return vreinterpretq_f32_u8(vqtbl4q_u8(t, vreinterpretq_u8_u32(bytes)));
    }
};
constexpr bool book_is_cheap = false;
constexpr BookGain book_gain = {1, 512 * 1024};

#ifdef LINNET_NEON_DOT
constexpr bool winograd_s8_pays = false;
// A is read 16 k at a time, and multiplied by lane.
#define LINNET_DOT_LANE
constexpr int dot_mr = 8, dot_nv = 2;
constexpr bool dot_wants_signed = true;
typedef int8x16_t DotA;
typedef int8x16_t DotB;
LINNET_INLINE DotA dot_a(uint32_t x) { return vreinterpretq_s8_u32(vdupq_n_u32(x)); }
LINNET_INLINE DotB dot_b(const void* p) { return vld1q_s8((const int8_t*)p); }
LINNET_INLINE i32 dot4(i32 acc, DotA a, DotB b) { return vdotq_s32(acc, a, b); }
LINNET_INLINE DotA dot_a_wide(const uint8_t* p, uint32_t flip) {
    return vreinterpretq_s8_u8(veorq_u8(vld1q_u8(p), vreinterpretq_u8_u32(vdupq_n_u32(flip))));
}
template <int L>
LINNET_INLINE i32 dot4_lane(i32 acc, DotA a, DotB b) {
    return vdotq_laneq_s32(acc, b, a, L);
}
#else
constexpr bool winograd_s8_pays = true;
constexpr int dot_mr = 4, dot_nv = 2;
constexpr bool dot_wants_signed = true;
typedef int8x8_t DotA;
typedef int8x16_t DotB;
LINNET_INLINE DotA dot_a(uint32_t x) { return vreinterpret_s8_u32(vdup_n_u32(x)); }
LINNET_INLINE DotB dot_b(const void* p) { return vld1q_s8((const int8_t*)p); }
// Products of bytes fit 16 bits, their sums in pairs go to int32: two of those make up one sum.
#define LINNET_DOT_ACC
struct DotAcc {
    int32x4_t lo, hi;
};
LINNET_INLINE DotAcc dot_first(i32 x) { return {vzip1q_s32(x, vdupq_n_s32(0)), vzip2q_s32(x, vdupq_n_s32(0))}; }
LINNET_INLINE i32 dot_sum(DotAcc a) { return vpaddq_s32(a.lo, a.hi); }
LINNET_INLINE DotAcc dot4(DotAcc acc, DotA a, DotB b) {
    return {vpadalq_s16(acc.lo, vmull_s8(vget_low_s8(b), a)), vpadalq_s16(acc.hi, vmull_s8(vget_high_s8(b), a))};
}
#endif

// acc + a[0] b[0] + a[1] b[1] for 16-bit pairs, one of a for all lanes; of b the first ones of all lanes come first.
#define LINNET_PAIRS_APART
typedef int16x4_t PairA;
typedef int16x8_t PairB;
LINNET_INLINE PairA pair_a(const int16_t* p) {
    int32_t x;
    __builtin_memcpy(&x, p, sizeof x);
    return vreinterpret_s16_s32(vdup_n_s32(x));
}
LINNET_INLINE PairB pair_b(const int8_t* p) { return vmovl_s8(vld1_s8(p)); }
LINNET_INLINE i32 dot2(i32 acc, PairA a, PairB b) {
    return vmlal_high_lane_s16(vmlal_lane_s16(acc, vget_low_s16(b), a, 0), b, a, 1);
}

// Taps of depthwise convolution: of each of `lanes` channels, tap_group bytes of as many pixels.
#define LINNET_TAPS
#ifdef LINNET_NEON_DOT
constexpr int tap_group = 4;
constexpr bool taps_are_signed = true;
typedef int8_t TapWeight;
typedef int8x16_t Taps, TapWeights;
LINNET_INLINE Taps load_taps(const uint8_t* const* p, ptrdiff_t at) {
    const uint32x4_t v = {four_bytes(p[0] + at), four_bytes(p[1] + at), four_bytes(p[2] + at), four_bytes(p[3] + at)};
    const uint8x16_t order = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
    return vreinterpretq_s8_u8(vqtbl1q_u8(vreinterpretq_u8_u32(v), order));
}
LINNET_INLINE Taps load_one_tap(const uint8_t* p) {
    const uint8x8_t v = vreinterpret_u8_u32(vdup_n_u32(four_bytes(p)));
    return vreinterpretq_s8_u32(vmovl_u16(vget_low_u16(vmovl_u8(v))));
}
LINNET_INLINE Taps tap_flip(bool flip) { return vdupq_n_s8((int8_t)(flip ? 128 : 0)); }
LINNET_INLINE i32 dot_taps(i32 acc, Taps x, TapWeights w) { return vdotq_s32(acc, x, w); }
#else
constexpr int tap_group = 1;
constexpr bool taps_are_signed = false;
typedef int16_t TapWeight;
typedef int16x4_t Taps, TapWeights;
LINNET_INLINE Taps load_one_tap(const uint8_t* p) {
    const uint8x8_t v = vreinterpret_u8_u32(vdup_n_u32(four_bytes(p)));
    return vreinterpret_s16_u16(vget_low_u16(vmovl_u8(v)));
}
LINNET_INLINE Taps load_taps(const uint8_t* const* p, ptrdiff_t at) { return load_one_tap(*p + at); }
LINNET_INLINE Taps tap_flip(bool flip) { return vdup_n_s16(flip ? 128 : 0); }
LINNET_INLINE i32 dot_taps(i32 acc, Taps x, TapWeights w) { return vmlal_s16(acc, x, w); }
LINNET_INLINE i32 dot4(i32 acc, int8x16_t a, DotB b) {
    const int16x8_t lo = vmull_s8(vget_low_s8(b), vget_low_s8(a)), hi = vmull_s8(vget_high_s8(b), vget_high_s8(a));
    return vaddq_s32(acc, vpaddq_s32(vpaddlq_s16(lo), vpaddlq_s16(hi)));
}
#endif
// The operands the other way round: words of a, and one word of b for all lanes.
LINNET_INLINE int8x16_t dot_a_words(const void* p) { return vld1q_s8((const int8_t*)p); }
LINNET_INLINE DotB dot_b_word(uint32_t x) { return vreinterpretq_s8_u32(vdupq_n_u32(x)); }

}  // namespace linnet::kernels::LINNET_ISA

#include "kernels/simd_common.h"
