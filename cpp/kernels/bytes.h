// Elementwise kernels and pools on bytes, four vectors of lanes at a time. s8 is worked on as u8, 128 higher, and so
// are its zeros and bounds.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

// The bytes of a result, u8 or s8.
struct ByteResult {
    ByteRange range;
    u8x flip;
    LINNET_MEMBER ByteResult(int32_t zero, int32_t lo, int32_t hi, bool is_signed)
        : range(is_signed ? 128 : 0, zero, lo, hi), flip(u8x{}) {
        const uint8_t up = is_signed ? 128 : 0;
        flip = flip + up;
    }
    LINNET_MEMBER u8x of(f32 (&x)[4]) const {
        // Far beyond every clamp, and far from the end of int32; what is that low packs to 0.
        unroll<4>(LINNET_LAMBDA(i) { x[i] = min(x[i], splat(1024.0f)); });
        return range.of(x) ^ flip;
    }
};

LINNET_INLINE u8x load_bytes(const void* p) {
    u8x v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
// n <= byte_lanes; the others are 0.
LINNET_INLINE u8x load_bytes(const void* p, size_t n) {
    if (n >= byte_lanes) return load_bytes(p);
    alignas(64) uint8_t t[byte_lanes] = {};
    copy_bytes(t, (const uint8_t*)p, n);
    return load_bytes(t);
}
LINNET_INLINE void store_bytes(void* p, u8x v, size_t n) {
    if (n >= byte_lanes) {
        __builtin_memcpy(p, &v, sizeof v);
    } else {
        alignas(64) uint8_t t[byte_lanes];
        __builtin_memcpy(t, &v, sizeof v);
        copy_bytes((uint8_t*)p, t, n);
    }
}

static void logic_bytes(Logic op, size_t n, const uint8_t* a, size_t sa, const uint8_t* b, size_t sb,
                        uint8_t* y) noexcept {
    if (n == 0) return;
    // Every operation is (u & v & with_and | (u ^ v) & with_xor) ^ flip, of truth values or of the bits as they are.
    const auto all = [](uint8_t byte) __attribute__((always_inline)) { return u8x{} + byte; };
    const bool bits = op == Logic::bit_and || op == Logic::bit_or || op == Logic::bit_xor;
    const bool has_and = op == Logic::both || op == Logic::either || op == Logic::bit_and || op == Logic::bit_or;
    const bool has_xor = op != Logic::both && op != Logic::bit_and;
    const u8x plain = all(bits ? 255 : 0), with_and = all(has_and ? 255 : 0), with_xor = all(has_xor ? 255 : 0);
    const u8x flip = all(op == Logic::equal), a0 = all(*a), b0 = all(*b);
    const auto wanted = LINNET_LAMBDA(x) { return (x & plain) | (((u8x)(x != 0) & 1) & ~plain); };
    for (size_t i = 0; i < n; i += byte_lanes) {
        const size_t left = n - i;
        const u8x u = wanted(sa ? load_bytes(a + i, left) : a0), v = wanted(sb ? load_bytes(b + i, left) : b0);
        store_bytes(y + i, ((u & v & with_and) | ((u ^ v) & with_xor)) ^ flip, left);
    }
}

static void map_bytes(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) noexcept {
    ByteTable t;
    t.load(table);
    for (size_t i = 0; i < n; i += byte_lanes) {
        const size_t left = n - i;
        store_bytes(y + i, t.of(load_bytes(x + i, left)), left);
    }
}

LINNET_INLINE f32 centred(const uint8_t* p, i32 flip, i32 zero) {
    return to_float((load_narrow<u8_lanes>(p) ^ flip) - zero);
}
template <bool Multiply>
LINNET_INLINE f32 pair_of(f32 a, f32 b, f32 a_scale) {
    if constexpr (Multiply) return a * b * a_scale;  // the first product is exact
    a = a * a_scale;
    keep(a);  // else one of the products is fused into the sum
    return a + b;
}

template <bool Multiply>
LINNET_INLINE void pair_bytes(const PairBytes& p) {
    constexpr size_t block = 64;  // rows that use b's vectors again, if all have the same
    const ByteResult result(p.zero, p.lo, p.hi, p.y_signed);
    // Bytes of s8 as u8 and back: x ^ 128.
    const i32 a_flip = splat_i(p.a_signed ? 128 : 0), b_flip = splat_i(p.b_signed ? 128 : 0);
    const i32 a_zero = splat_i(p.a_zero) + a_flip, b_zero = splat_i(p.b_zero) + b_flip;
    const f32 a_scale = splat(p.a_scale), b_scale = splat(p.b_scale);
    alignas(64) uint8_t a_copy[byte_lanes] = {}, b_copy[byte_lanes] = {};
    // Where the next `left` bytes of an operand are: one byte repeated, or the last few copied.
    const auto place = [](const uint8_t* from, size_t step, size_t left, uint8_t* copy) __attribute__((always_inline)) {
        if (step == 0) {
            const u8x all = u8x{} + *from;
            __builtin_memcpy(copy, &all, sizeof all);
            return (const uint8_t*)copy;
        }
        if (left >= byte_lanes) return from;
        copy_bytes(copy, from, left);
        return (const uint8_t*)copy;
    };
    // Read once: a store of bytes might change p.
    const size_t all = p.rows, cols = p.cols, a_step = p.a_step, b_step = p.b_step;
    const ptrdiff_t a_stride = p.a_stride, b_stride = p.b_stride, y_stride = p.y_stride;
    const uint8_t *a = (const uint8_t*)p.a, *b = (const uint8_t*)p.b;
    uint8_t* y = (uint8_t*)p.y;
    const bool shared = all > 1 && b_stride == 0;
    for (size_t first = 0, rows; first < all; first += rows) {
        rows = !shared ? 1 : all - first < block ? all - first : block;
        for (size_t c = 0; c < cols; c += byte_lanes) {
            const size_t left = cols - c;
            const uint8_t *next = a + c * a_step, *pa = place(next, a_step, left, a_copy);
            const uint8_t* pb = place(b + c * b_step, b_step, left, b_copy);
            uint8_t* to = y + c;
            f32 x[4];
            if (!shared) {
                unroll<4>(LINNET_LAMBDA(i) {
                    f32 vb = centred(pb + i * lanes, b_flip, b_zero);
                    if constexpr (!Multiply) vb = vb * b_scale;
                    keep(vb);
                    x[i] = pair_of<Multiply>(centred(pa + i * lanes, a_flip, a_zero), vb, a_scale);
                });
                store_bytes(to, result.of(x), left);
                continue;
            }
            f32 vb[4];
            unroll<4>(LINNET_LAMBDA(i) {
                vb[i] = centred(pb + i * lanes, b_flip, b_zero);
                if constexpr (!Multiply) vb[i] = vb[i] * b_scale;
                keep(vb[i]);
            });
            for (size_t r = 0;;) {
                unroll<4>(LINNET_LAMBDA(i) {
                    x[i] = pair_of<Multiply>(centred(pa + i * lanes, a_flip, a_zero), vb[i], a_scale);
                });
                store_bytes(to, result.of(x), left);
                if (++r == rows) break;
                next += a_stride, to += y_stride;
                pa = place(next, a_step, left, a_copy);
            }
        }
        a += (ptrdiff_t)rows * a_stride, b += (ptrdiff_t)rows * b_stride, y += (ptrdiff_t)rows * y_stride;
    }
}
static void add_bytes(const PairBytes& p) noexcept { pair_bytes<false>(p); }
static void mul_bytes(const PairBytes& p) noexcept { pair_bytes<true>(p); }

// Calls body(x) for the bytes of every tap that is a pixel; returns how many, and paddings if those count.
template <class F>
LINNET_INLINE size_t pool_taps(const PoolBytes& p, size_t pixel, F body) {
    const uint8_t* x = (const uint8_t*)p.x;
    if (!p.offsets) {
        x += (ptrdiff_t)(pixel * p.taps) * p.x_stride;
        for (size_t t = 0; t < p.taps; ++t, x += p.x_stride) body(x);
        return p.taps;
    }
    size_t count = 0;
    for (size_t t = 0; t < p.taps; ++t) {
        const int32_t o = p.offsets[t * p.offsets_ld + pixel];
        count += o >= 0 || (p.count_include_pad && o == tap_padding);
        if (o >= 0) body(x + o);
    }
    return count;
}

// Vectors of Width <= p.channels bytes; the last one begins earlier and repeats some.
template <size_t Width>
static __attribute__((noinline)) void max_pool_wide(const PoolBytes& p, size_t begin, size_t end) noexcept {
    typedef uint8_t Bytes __attribute__((vector_size(Width)));
    const uint8_t up = p.x_signed ? 128 : 0;
    const Bytes flip = Bytes{} + up;
    for (size_t pixel = begin; pixel < end; ++pixel) {
        uint8_t* y = (uint8_t*)p.y + (ptrdiff_t)pixel * p.y_stride;
        for (size_t i = 0; i < p.channels; i += Width) {
            const size_t c = i + Width <= p.channels ? i : p.channels - Width;
            Bytes most{};
            pool_taps(
                p, pixel, LINNET_LAMBDA(x) {
                    Bytes v;
                    __builtin_memcpy(&v, x + c, Width);
                    v = v ^ flip;
                    most = most > v ? most : v;
                });
            most = most ^ flip;
            __builtin_memcpy(y + c, &most, Width);
        }
    }
}

static void max_pool_bytes(const PoolBytes& p, size_t begin, size_t end) noexcept {
    if (p.channels >= byte_lanes) max_pool_wide<byte_lanes>(p, begin, end);
    else if (p.channels >= 16) max_pool_wide<16>(p, begin, end);
    else if (p.channels >= 4) max_pool_wide<4>(p, begin, end);
    else max_pool_wide<1>(p, begin, end);
}

static void avg_pool_bytes(const PoolBytes& p, size_t begin, size_t end) noexcept {
    const ByteResult result(p.zero, p.lo, p.hi, p.y_signed);
    const uint8_t up = p.x_signed ? 128 : 0;
    const u8x flip = u8x{} + up;
    const i32 x_zero = splat_i(p.x_zero + (p.x_signed ? 128 : 0));
    for (size_t pixel = begin; pixel < end; ++pixel) {
        uint8_t* y = (uint8_t*)p.y + (ptrdiff_t)pixel * p.y_stride;
        for (size_t c = 0; c < p.channels; c += byte_lanes) {
            const size_t left = p.channels - c;
            i32 sums[4] = {};
            const size_t count = pool_taps(
                p, pixel, LINNET_LAMBDA(x) {
                    const u8x v = load_bytes(x + c, left) ^ flip;
                    unroll<4>(LINNET_LAMBDA(i) {
                        sums[i] = sums[i] + (load_narrow<u8_lanes>((const uint8_t*)&v + i * lanes) - x_zero);
                    });
                });
            const f32 factor = splat(p.scale / (float)(count ? count : 1));
            f32 x[4];
            unroll<4>(LINNET_LAMBDA(i) { x[i] = to_float(sums[i]) * factor; });
            store_bytes(y + c, result.of(x), left);
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
