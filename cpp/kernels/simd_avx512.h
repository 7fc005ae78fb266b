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

#define LINNET_SCALE_2N
// x 2^n for whole numbers n, subnormals and infinity included.
LINNET_INLINE f32 scale_2n(f32 x, f32 n) { return _mm512_scalef_ps(x, n); }

#define LINNET_LOAD_S8
LINNET_INLINE i32 load_s8(const int8_t* p) { return (i32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
#define LINNET_NIBBLE
// The four bits from 4 I on of each lane, as a number from -8 to 7: the permutation looks at no others.
template <int I>
LINNET_INLINE f32 nibble(i32 x) {
    const f32 values = f32{-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
    return _mm512_permutexvar_ps(_mm512_srli_epi32((__m512i)x, 4 * I), values);
}
constexpr bool nibble_scaled = false;
constexpr float nibble_zero = 0;

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
