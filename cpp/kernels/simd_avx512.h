// Vocabulary for x86 with AVX-512 F, BW, DQ, VL and VNNI.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"

#define LINNET_ISA avx512

namespace linnet::kernels::avx512 {

#define LINNET_INLINE static inline __attribute__((always_inline))

constexpr int lanes = 16;
typedef __m512 f32;
typedef int32_t i32 __attribute__((vector_size(64), may_alias));
// Half a vector costs half the time where the units are 256 bits wide: for the last columns of a GEMM.
#define LINNET_HALF
constexpr int half_lanes = 8;
typedef float f32h __attribute__((vector_size(32)));

constexpr int gemm_mr = 12, gemm_nv = 2, small_np[3] = {4, 4, 2};
constexpr int dw_rows = 3, dw_cols = 4, dw_taps = 7;
constexpr int sparse_nv = 3;
constexpr SparseCost sparse_cost = {1.1f, 1.8f, 9, 14, 9, 3.2f, 6.5f};
constexpr int dot_mr = 8, dot_nv = 2;
constexpr bool dot_wants_signed = false;

LINNET_INLINE f32 splat(float x) { return _mm512_set1_ps(x); }
LINNET_INLINE i32 splat_i(int32_t x) { return (i32)_mm512_set1_epi32(x); }
LINNET_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
LINNET_INLINE f32 max(f32 a, f32 b) { return _mm512_max_ps(a, b); }
LINNET_INLINE f32 min(f32 a, f32 b) { return _mm512_min_ps(a, b); }
// Makes v a register: GCC otherwise repeats a load at every use, or moves it where registers are short.
LINNET_INLINE void keep(f32& v) { __asm__("" : "+v"(v)); }
LINNET_INLINE f32 round_even(f32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LINNET_INLINE f32 sqrt(f32 x) { return _mm512_sqrt_ps(x); }
LINNET_INLINE f32 floor(f32 x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
LINNET_INLINE i32 to_int(f32 x) { return (i32)_mm512_cvtps_epi32(x); }

// Quads, groups of four floats: lane q of a vector from p + q * stride, here in bytes, and back.
LINNET_INLINE f32 load_quads(const void* p, ptrdiff_t stride) {
    const auto* at = (const char*)p;
    f32 v = _mm512_castps128_ps512(_mm_loadu_ps((const float*)at));
    // Unlike an insertion, a masked broadcast from memory is no shuffle.
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, _mm_loadu_ps((const float*)(at + stride)));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, _mm_loadu_ps((const float*)(at + 2 * stride)));
    return _mm512_mask_broadcast_f32x4(v, 0xf000, _mm_loadu_ps((const float*)(at + 3 * stride)));
}
LINNET_INLINE void store_quads(float* p, ptrdiff_t stride, f32 v) {
    _mm_storeu_ps(p, _mm512_castps512_ps128(v));
    _mm_storeu_ps(p + stride, _mm512_extractf32x4_ps(v, 1));
    _mm_storeu_ps(p + 2 * stride, _mm512_extractf32x4_ps(v, 2));
    _mm_storeu_ps(p + 3 * stride, _mm512_extractf32x4_ps(v, 3));
}
// Transposes the 4 x 4 matrices that quad q of four vectors make, for each q.
LINNET_INLINE void transpose_quads(f32 (&v)[4]) {
    const __m512d a = (__m512d)_mm512_unpacklo_ps(v[0], v[1]), b = (__m512d)_mm512_unpackhi_ps(v[0], v[1]);
    const __m512d c = (__m512d)_mm512_unpacklo_ps(v[2], v[3]), d = (__m512d)_mm512_unpackhi_ps(v[2], v[3]);
    v[0] = (f32)_mm512_unpacklo_pd(a, c), v[1] = (f32)_mm512_unpackhi_pd(a, c);
    v[2] = (f32)_mm512_unpacklo_pd(b, d), v[3] = (f32)_mm512_unpackhi_pd(b, d);
}

#define LINNET_SCALE_2N
// x 2^n for whole numbers n, subnormals and infinity included.
LINNET_INLINE f32 scale_2n(f32 x, f32 n) { return _mm512_scalef_ps(x, n); }

LINNET_INLINE __mmask16 mask_n(size_t n) { return (__mmask16)((1u << n) - 1); }
LINNET_INLINE f32 load_n(const float* p, size_t n) { return _mm512_maskz_loadu_ps(mask_n(n), p); }
LINNET_INLINE void store_n(float* p, f32 v, size_t n) { _mm512_mask_storeu_ps(p, mask_n(n), v); }
LINNET_INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
LINNET_INLINE f32 load_f16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
LINNET_INLINE void store_f16(uint16_t* p, f32 v) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

typedef __m512i DotA;
typedef __m512i DotB;
LINNET_INLINE DotA dot_a(uint32_t x) { return _mm512_set1_epi32((int)x); }
LINNET_INLINE DotB dot_b(const void* p) { return _mm512_loadu_si512(p); }
LINNET_INLINE i32 dot4(i32 acc, DotA a, DotB b) { return (i32)_mm512_dpbusd_epi32((__m512i)acc, a, b); }

}  // namespace linnet::kernels::avx512

#include "kernels/simd_common.h"
