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
constexpr int sparse_s8_nv = 3;
constexpr SparseS8Cost sparse_s8_cost = {1.3f, 6, 10, 12};
constexpr int sparse_nv = 3;
constexpr SparseCost sparse_cost = {1.1f, 2.1f, 9, 14, 9, 3.2f, 5.5f, 1.3f};
constexpr int dot_mr = 12, dot_nv = 2;
constexpr bool dot_wants_signed = false;

LINNET_INLINE f32 splat(float x) { return _mm512_set1_ps(x); }
LINNET_INLINE i32 splat_i(int32_t x) { return (i32)_mm512_set1_epi32(x); }
LINNET_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
constexpr bool fma_rounds_once = true;
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
// Quads of a and, right behind each, those of b: half as many stores.
#define LINNET_QUAD_PAIRS
LINNET_INLINE void store_quad_pairs(float* p, ptrdiff_t stride, f32 a, f32 b) {
    const __m512d lo = _mm512_permutex2var_pd((__m512d)a, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), (__m512d)b);
    const __m512d hi = _mm512_permutex2var_pd((__m512d)a, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), (__m512d)b);
    _mm256_storeu_pd((double*)p, _mm512_castpd512_pd256(lo));
    _mm256_storeu_pd((double*)(p + stride), _mm512_extractf64x4_pd(lo, 1));
    _mm256_storeu_pd((double*)(p + 2 * stride), _mm512_castpd512_pd256(hi));
    _mm256_storeu_pd((double*)(p + 3 * stride), _mm512_extractf64x4_pd(hi, 1));
}
// Transposes the 4 x 4 matrices that quad q of four vectors make, for each q.
LINNET_INLINE void transpose_quads(f32 (&v)[4]) {
    const __m512d a = (__m512d)_mm512_unpacklo_ps(v[0], v[1]), b = (__m512d)_mm512_unpackhi_ps(v[0], v[1]);
    const __m512d c = (__m512d)_mm512_unpacklo_ps(v[2], v[3]), d = (__m512d)_mm512_unpackhi_ps(v[2], v[3]);
    v[0] = (f32)_mm512_unpacklo_pd(a, c), v[1] = (f32)_mm512_unpackhi_pd(a, c);
    v[2] = (f32)_mm512_unpacklo_pd(b, d), v[3] = (f32)_mm512_unpackhi_pd(b, d);
}

#define LINNET_KEEP_NAN
// The larger or smaller, but NaN if either is: b's comes from the instruction, a's is left as it is.
LINNET_INLINE f32 max_or_nan(f32 a, f32 b) { return _mm512_mask_max_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b); }
LINNET_INLINE f32 min_or_nan(f32 a, f32 b) { return _mm512_mask_min_ps(a, _mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a, b); }

#define LINNET_SWAP
// Lane i from lane i ^ Distance.
template <int Distance>
LINNET_INLINE f32 swap_lanes(f32 v) {
    if constexpr (Distance == 8) return _mm512_shuffle_f32x4(v, v, 0x4e);
    else if constexpr (Distance == 4) return _mm512_shuffle_f32x4(v, v, 0xb1);
    else return _mm512_permute_ps(v, Distance == 2 ? 0x4e : 0xb1);
}

#define LINNET_EXPAND
// The next floats at p in the lanes whose bits are set, 0 in the others. A whole vector at p is readable.
LINNET_INLINE f32 expand(const float* p, uint32_t bits) {
    return _mm512_maskz_expand_ps((__mmask16)bits, _mm512_loadu_ps(p));
}

#define LINNET_SCALE_2N
// x 2^n for whole numbers n, subnormals and infinity included.
LINNET_INLINE f32 scale_2n(f32 x, f32 n) { return _mm512_scalef_ps(x, n); }

#define LINNET_LOAD_S8
LINNET_INLINE i32 load_s8(const int8_t* p) { return (i32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }
#define LINNET_BOOK
// 16 floats, and those that the four bits from 4 I on of each lane choose: the permutation looks at no others.
struct Book {
    __m512 t;
    inline __attribute__((always_inline)) void load(const float* p) { t = _mm512_loadu_ps(p); }
    template <int I>
    inline __attribute__((always_inline)) f32 of(i32 x) const {
        return _mm512_permutexvar_ps(_mm512_srli_epi32((__m512i)x, 4 * I), t);
    }
};
constexpr bool book_is_cheap = true;
constexpr BookGain book_gain = {4, 0};

LINNET_INLINE __mmask16 mask_n(size_t n) { return (__mmask16)((1u << n) - 1); }
LINNET_INLINE f32 load_n(const float* p, size_t n) { return _mm512_maskz_loadu_ps(mask_n(n), p); }
LINNET_INLINE void store_n(float* p, f32 v, size_t n) { _mm512_mask_storeu_ps(p, mask_n(n), v); }
LINNET_INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
LINNET_INLINE f32 load_f16(const uint16_t* p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p)); }
LINNET_INLINE void store_f16(uint16_t* p, f32 v) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define LINNET_WIDEN
// A vector of bytes; GCC takes convertvector apart.
LINNET_INLINE i32 widen(const uint8_t* p) { return (i32)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
LINNET_INLINE i32 widen(const int8_t* p) { return (i32)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)); }

// The bytes of four vectors: each value + zero, saturated to 0..255.
typedef uint8_t u8x __attribute__((vector_size(64), may_alias));
LINNET_INLINE u8x pack_bytes(i32 a, i32 b, i32 c, i32 d, int32_t zero) {
    const __m512i z = _mm512_set1_epi16((short)zero);
    const __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)a, (__m512i)b), z);
    const __m512i cd = _mm512_adds_epi16(_mm512_packs_epi32((__m512i)c, (__m512i)d), z);
    // Packing goes by 16-byte lanes: each lane now has four bytes of a, b, c and d.
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return (u8x)_mm512_permutexvar_epi32(order, _mm512_packus_epi16(ab, cd));
}
#define LINNET_BYTE_TABLE
// A table of 256 bytes as 128 words: the byte's upper seven bits choose the word, the lowest one its half.
struct ByteTable {
    __m512i t[4];
    inline __attribute__((always_inline)) void load(const uint8_t* p) {
        for (int i = 0; i < 4; ++i) t[i] = _mm512_loadu_si512(p + 64 * i);
    }
    inline __attribute__((always_inline)) __m512i words(__m512i index) const {
        const __mmask32 upper = _mm512_test_epi16_mask(index, _mm512_set1_epi16(0x80));
        const __m512i word = _mm512_srli_epi16(index, 1);
        const __m512i w = _mm512_mask_mov_epi16(_mm512_permutex2var_epi16(t[0], word, t[1]), upper,
                                                _mm512_permutex2var_epi16(t[2], word, t[3]));
        return _mm512_srlv_epi16(w, _mm512_and_si512(_mm512_slli_epi16(index, 3), _mm512_set1_epi16(8)));
    }
    inline __attribute__((always_inline)) u8x of(u8x x) const {
        const __m512i low = _mm512_set1_epi16(255);
        const __m512i even = words(_mm512_and_si512((__m512i)x, low)), odd = words(_mm512_srli_epi16((__m512i)x, 8));
        return (u8x)_mm512_or_si512(_mm512_and_si512(even, low), _mm512_slli_epi16(odd, 8));
    }
};

typedef __m512i DotA;
typedef __m512i DotB;
LINNET_INLINE DotA dot_a(uint32_t x) { return _mm512_set1_epi32((int)x); }
LINNET_INLINE DotB dot_b(const void* p) { return _mm512_loadu_si512(p); }
LINNET_INLINE i32 dot4(i32 acc, DotA a, DotB b) { return (i32)_mm512_dpbusd_epi32((__m512i)acc, a, b); }

constexpr bool winograd_s8_pays = false;
// acc + a[0] b[0] + a[1] b[1] for 16-bit pairs, one of a for all lanes, one of b a lane.
typedef __m512i PairA, PairB;
LINNET_INLINE PairA pair_a(const int16_t* p) { return _mm512_castps_si512(_mm512_set1_ps(*(const float*)p)); }
LINNET_INLINE PairB pair_b(const int8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)p)); }
LINNET_INLINE i32 dot2(i32 acc, PairA a, PairB b) { return (i32)_mm512_dpwssd_epi32((__m512i)acc, a, b); }

// Taps of depthwise convolution: of each of `lanes` channels, tap_group bytes of as many pixels.
#define LINNET_TAPS
constexpr int tap_group = 4;
constexpr bool taps_are_signed = false;
typedef int8_t TapWeight;
typedef __m512i Taps, TapWeights;
LINNET_INLINE Taps load_taps(const uint8_t* const* p, ptrdiff_t at) {
    __m512i v = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)(p[0] + at)));
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(p[1] + at)), 1);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(p[2] + at)), 2);
    v = _mm512_inserti32x4(v, _mm_loadu_si128((const __m128i*)(p[3] + at)), 3);
    v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15), v);
    return _mm512_shuffle_epi8(v, _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400));
}
LINNET_INLINE Taps load_one_tap(const uint8_t* p) { return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
LINNET_INLINE Taps tap_flip(bool flip) { return _mm512_set1_epi8((char)(flip ? 128 : 0)); }
LINNET_INLINE i32 dot_taps(i32 acc, Taps x, TapWeights w) { return (i32)_mm512_dpbusd_epi32((__m512i)acc, x, w); }
// The operands the other way round: words of a, and one word of b for all lanes.
LINNET_INLINE DotA dot_a_words(const void* p) { return _mm512_loadu_si512(p); }
LINNET_INLINE DotB dot_b_word(uint32_t x) { return _mm512_set1_epi32((int)x); }

}  // namespace linnet::kernels::avx512

#include "kernels/simd_common.h"
