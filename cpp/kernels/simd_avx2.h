// Vocabulary for x86 with AVX2, FMA and F16C.
#pragma once

#include <immintrin.h>

#include "kernels/kernels.h"

#define LINNET_ISA avx2

namespace linnet::kernels::avx2 {

#define LINNET_INLINE static inline __attribute__((always_inline))

constexpr int lanes = 8;
typedef __m256 f32;
typedef int32_t i32 __attribute__((vector_size(32), may_alias));

constexpr int gemm_mr = 6, gemm_nv = 2, small_np[3] = {4, 2, 2};
constexpr int dw_rows = 3, dw_cols = 4, dw_taps = 3;
constexpr int sparse_s8_nv = 2;
constexpr SparseS8Cost sparse_s8_cost = {1.2f, 3, 6, 12};
constexpr int sparse_nv = 3;
constexpr SparseCost sparse_cost = {1.0f, 1.4f, 6, 6, 6, 3.2f, 5.5f, 2.0f};
constexpr int dot_mr = 4, dot_nv = 2;
constexpr bool dot_wants_signed = false;

LINNET_INLINE f32 splat(float x) { return _mm256_set1_ps(x); }
LINNET_INLINE i32 splat_i(int32_t x) { return (i32)_mm256_set1_epi32(x); }
LINNET_INLINE f32 fma(f32 a, f32 b, f32 c) { return _mm256_fmadd_ps(a, b, c); }
constexpr bool fma_rounds_once = true;
LINNET_INLINE f32 max(f32 a, f32 b) { return _mm256_max_ps(a, b); }
LINNET_INLINE f32 min(f32 a, f32 b) { return _mm256_min_ps(a, b); }
// Makes v a register: GCC otherwise repeats a load at every use, or moves it where registers are short.
LINNET_INLINE void keep(f32& v) { __asm__("" : "+x"(v)); }
// acc += a b. GCC, left to choose, also takes the forms of the instruction that overwrite a or b, and spills for it.
#define LINNET_ACCUMULATE
LINNET_INLINE void accumulate(f32& acc, f32 a, f32 b) {
    __asm__("vfmadd231ps %2, %1, %0" : "+x"(acc) : "x"(a), "xm"(b));
}
LINNET_INLINE f32 round_even(f32 x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
LINNET_INLINE f32 sqrt(f32 x) { return _mm256_sqrt_ps(x); }
LINNET_INLINE f32 floor(f32 x) { return _mm256_floor_ps(x); }
LINNET_INLINE i32 to_int(f32 x) { return (i32)_mm256_cvtps_epi32(x); }
#define LINNET_LOAD_S8
LINNET_INLINE i32 load_s8(const int8_t* p) { return (i32)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }

#define LINNET_BOOK
// 16 floats, and those that the four bits from 4 I on of each lane choose.
struct Book {
    __m256 low, high;
    inline __attribute__((always_inline)) void load(const float* p) {
        low = _mm256_loadu_ps(p), high = _mm256_loadu_ps(p + 8);
    }
    template <int I>
    inline __attribute__((always_inline)) f32 of(i32 x) const {
        const __m256i at = _mm256_srli_epi32((__m256i)x, 4 * I), sign = _mm256_slli_epi32((__m256i)x, 28 - 4 * I);
        return _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, at), _mm256_permutevar8x32_ps(high, at), (__m256)sign);
    }
};
constexpr bool book_is_cheap = false;
constexpr BookGain book_gain = {2, 512 * 1024};

// Quads, groups of four floats: lane q of a vector from p + q * stride, here in bytes, and back.
LINNET_INLINE f32 load_quads(const void* p, ptrdiff_t stride) {
    const auto* at = (const char*)p;
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps((const float*)at)),
                                _mm_loadu_ps((const float*)(at + stride)), 1);
}
LINNET_INLINE void store_quads(float* p, ptrdiff_t stride, f32 v) {
    _mm_storeu_ps(p, _mm256_castps256_ps128(v));
    _mm_storeu_ps(p + stride, _mm256_extractf128_ps(v, 1));
}
#define LINNET_SWAP
// Lane i from lane i ^ Distance.
template <int Distance>
LINNET_INLINE f32 swap_lanes(f32 v) {
    if constexpr (Distance == 4) return _mm256_permute2f128_ps(v, v, 1);
    else return _mm256_permute_ps(v, Distance == 2 ? 0x4e : 0xb1);
}
// Transposes the 4 x 4 matrices that quad q of four vectors make, for each q.
LINNET_INLINE void transpose_quads(f32 (&v)[4]) {
    const __m256d a = (__m256d)_mm256_unpacklo_ps(v[0], v[1]), b = (__m256d)_mm256_unpackhi_ps(v[0], v[1]);
    const __m256d c = (__m256d)_mm256_unpacklo_ps(v[2], v[3]), d = (__m256d)_mm256_unpackhi_ps(v[2], v[3]);
    v[0] = (f32)_mm256_unpacklo_pd(a, c), v[1] = (f32)_mm256_unpackhi_pd(a, c);
    v[2] = (f32)_mm256_unpacklo_pd(b, d), v[3] = (f32)_mm256_unpackhi_pd(b, d);
}

#define LINNET_EXPAND
struct ExpandTable {
    int8_t lane[256][8];
    constexpr ExpandTable() : lane() {
        for (int bits = 0; bits < 256; ++bits)
            for (int i = 0, next = 0; i < 8; ++i) lane[bits][i] = bits >> i & 1 ? (int8_t)next++ : (int8_t)-1;
    }
};
static constexpr ExpandTable expand_table;
// The next floats at p in the lanes whose bits are set, 0 in the others. A whole vector at p is readable.
LINNET_INLINE f32 expand(const float* p, uint32_t bits) {
    const __m256i lane = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)expand_table.lane[bits]));
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(_mm256_loadu_ps(p), lane), _mm256_setzero_ps(), (f32)lane);
}

alignas(32) static const int32_t tail_mask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
LINNET_INLINE __m256i mask_n(size_t n) { return _mm256_loadu_si256((const __m256i*)(tail_mask + 8 - n)); }
LINNET_INLINE f32 load_n(const float* p, size_t n) { return _mm256_maskload_ps(p, mask_n(n)); }
LINNET_INLINE void store_n(float* p, f32 v, size_t n) { _mm256_maskstore_ps(p, mask_n(n), v); }
LINNET_INLINE void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T0); }
LINNET_INLINE f32 load_f16(const uint16_t* p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)); }
LINNET_INLINE void store_f16(uint16_t* p, f32 v) {
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#define LINNET_WIDEN
// A vector of bytes; GCC takes convertvector apart.
LINNET_INLINE i32 widen(const uint8_t* p) { return (i32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
LINNET_INLINE i32 widen(const int8_t* p) { return (i32)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)); }

// The bytes of four vectors: each value + zero, saturated to 0..255.
typedef uint8_t u8x __attribute__((vector_size(32), may_alias));
LINNET_INLINE u8x pack_bytes(i32 a, i32 b, i32 c, i32 d, int32_t zero) {
    const __m256i z = _mm256_set1_epi16((short)zero);
    const __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)a, (__m256i)b), z);
    const __m256i cd = _mm256_adds_epi16(_mm256_packs_epi32((__m256i)c, (__m256i)d), z);
    // Packing goes by 16-byte lanes: each lane now has four bytes of a, b, c and d.
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    return (u8x)_mm256_permutevar8x32_epi32(_mm256_packus_epi16(ab, cd), order);
}

#define LINNET_BYTE_TABLE
// 16 tables of 16 bytes, each xor the one before it within a half: x - 16 i is negative, and gives 0, from the table on
// that is beyond x.
struct ByteTable {
    __m256i t[16];
    inline __attribute__((always_inline)) void load(const uint8_t* p) {
        for (int i = 0; i < 16; ++i) t[i] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)(p + 16 * i)));
        for (int i = 15; i > 0; --i)
            if (i != 8) t[i] = _mm256_xor_si256(t[i], t[i - 1]);
    }
    inline __attribute__((always_inline)) u8x of(u8x x) const {
        const __m256i step = _mm256_set1_epi8(16);
        __m256i low = (__m256i)x, high = _mm256_xor_si256(low, _mm256_set1_epi8((char)128)), y = _mm256_setzero_si256();
        for (int i = 0; i < 8; ++i) {
            y = _mm256_xor_si256(y, _mm256_shuffle_epi8(t[i], low));
            y = _mm256_xor_si256(y, _mm256_shuffle_epi8(t[8 + i], high));
            low = _mm256_subs_epi8(low, step), high = _mm256_subs_epi8(high, step);
        }
        return (u8x)y;
    }
};

// Exact for some weights only: see gemm_s8_pairs.h.
#define LINNET_DOT_PAIRS
typedef __m256i DotA;
typedef __m256i DotB;
LINNET_INLINE DotA dot_a(const uint8_t* p) {
    int x;
    __builtin_memcpy(&x, p, 4);
    return _mm256_set1_epi32(x);
}
LINNET_INLINE DotB dot_b(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
// acc[j] += sum over i < 4 of u8 a[i] * s8 b[j][i], where no sum of two neighbours leaves 16 bits.
LINNET_INLINE void multiply_pairs(i32& acc, DotA a, DotB b) {
    const __m256i pairs = _mm256_maddubs_epi16(a, b);
    acc = (i32)_mm256_add_epi32((__m256i)acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// Groups of four bytes: those that a mask (mask_n) has, and of a vector of them the one that each lane chooses.
LINNET_INLINE DotA dot_a_window(const uint8_t* p, __m256i mask) { return _mm256_maskload_epi32((const int*)p, mask); }
LINNET_INLINE DotA choose_groups(DotA a, __m256i lane) { return _mm256_permutevar8x32_epi32(a, lane); }

constexpr bool winograd_s8_pays = true;
// acc + a[0] b[0] + a[1] b[1] for 16-bit pairs, one of a for all lanes, one of b a lane.
typedef __m256i PairA, PairB;
LINNET_INLINE PairA pair_a(const int16_t* p) { return _mm256_castps_si256(_mm256_broadcast_ss((const float*)p)); }
// 16 bytes as 16 bits each.
LINNET_INLINE void store_words(int16_t* to, const uint8_t* p) {
    _mm256_storeu_si256((__m256i*)to, _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i*)p)));
}
LINNET_INLINE PairB pair_b(const int8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)); }
LINNET_INLINE i32 dot2(i32 acc, PairA a, PairB b) {
    // GCC, left to choose, adds products among each other first, and runs out of registers.
    __m256i product;
    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+x"(acc), "=&x"(product) : "x"(a), "xm"(b));
    return acc;
}

// Taps of depthwise convolution: of each of `lanes` channels, tap_group bytes of as many pixels.
#define LINNET_TAPS
constexpr int tap_group = 2;
constexpr bool taps_are_signed = false;
typedef int16_t TapWeight;
typedef __m256i Taps, TapWeights;
LINNET_INLINE Taps load_taps(const uint8_t* const* p, ptrdiff_t at) {
    const __m128i a = _mm_loadl_epi64((const __m128i*)(p[0] + at)), b = _mm_loadl_epi64((const __m128i*)(p[1] + at));
    return _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(a, b));
}
LINNET_INLINE Taps load_one_tap(const uint8_t* p) { return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
LINNET_INLINE Taps tap_flip(bool flip) { return _mm256_set1_epi16(flip ? 128 : 0); }
LINNET_INLINE i32 dot_taps(i32 acc, Taps x, TapWeights w) { return dot2(acc, x, w); }

// Four products a lane, of words of a and one word of b for all lanes; bytes widened, even and odd ones.
struct WordsA {
    __m256i even, odd;
};
struct WordB {
    __m256i even, odd;
};
LINNET_INLINE WordsA dot_a_words(const void* p) {
    const __m256i v = _mm256_loadu_si256((const __m256i*)p);
    return {_mm256_and_si256(v, _mm256_set1_epi16(255)), _mm256_srli_epi16(v, 8)};
}
LINNET_INLINE WordB dot_b_word(uint32_t x) {
    const __m256i v = _mm256_set1_epi32((int)x);
    return {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8), _mm256_srai_epi16(v, 8)};
}
LINNET_INLINE i32 dot4(i32 acc, WordsA a, WordB b) {
    const __m256i sums = _mm256_add_epi32(_mm256_madd_epi16(a.even, b.even), _mm256_madd_epi16(a.odd, b.odd));
    return (i32)_mm256_add_epi32((__m256i)acc, sums);
}

}  // namespace linnet::kernels::avx2

#include "kernels/simd_common.h"
