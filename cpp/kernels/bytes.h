// Elementwise kernels and pools on bytes, four vectors of lanes at a time. s8 is worked on as u8, 128 higher, and so
// are its zeros and bounds.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

// round_half_even(x) + zero in u8, clamped.
struct ByteClamp {
    int32_t zero;
    u8x lo, hi, flip;
    LINNET_MEMBER ByteClamp(int32_t z, int32_t l, int32_t h, bool is_signed) {
        const int32_t up = is_signed ? 128 : 0;
        zero = z + up;
        lo = u8x{} + (uint8_t)(l + up);
        hi = u8x{} + (uint8_t)(h + up);
        flip = u8x{} + (uint8_t)up;
    }
    LINNET_MEMBER u8x pack(f32* x) const {
        // Far beyond every clamp, and far from the end of int32; what is that low packs to 0.
        unroll<4>(LINNET_LAMBDA(i) { x[i] = min(x[i], splat(1024.0f)); });
        u8x q = pack_bytes(to_int(x[0]), to_int(x[1]), to_int(x[2]), to_int(x[3]), zero);
        q = q > lo ? q : lo;
        return (q < hi ? q : hi) ^ flip;
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

static void map_bytes(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) noexcept {
    ByteTable t;
    t.load(table);
    for (size_t i = 0; i < n; i += byte_lanes) {
        const size_t left = n - i;
        store_bytes(y + i, t.of(load_bytes(x + i, left)), left);
    }
}

template <bool Multiply>
LINNET_INLINE void pair_bytes(const PairBytes& p) {
    const ByteClamp range(p.zero, p.lo, p.hi, p.y_signed);
    // Bytes of s8 as u8 and back: x ^ 128.
    const i32 a_flip = splat_i(p.a_signed ? 128 : 0), b_flip = splat_i(p.b_signed ? 128 : 0);
    const i32 a_zero = splat_i(p.a_zero) + a_flip, b_zero = splat_i(p.b_zero) + b_flip;
    const f32 a_scale = splat(p.a_scale), b_scale = splat(p.b_scale);
    alignas(64) uint8_t a_copy[byte_lanes] = {}, b_copy[byte_lanes] = {};
    // Where the next bytes_lanes of an operand are: one byte repeated, or the last few copied.
    const auto place =
        [](const uint8_t* row, size_t step, size_t c, size_t left, uint8_t* copy) __attribute__((always_inline)) {
        if (step == 0) {
            const u8x all = u8x{} + *row;
            __builtin_memcpy(copy, &all, sizeof all);
            return (const uint8_t*)copy;
        }
        if (left >= byte_lanes) return row + c;
        copy_bytes(copy, row + c, left);
        return (const uint8_t*)copy;
    };
    for (size_t r = 0; r < p.rows; ++r) {
        const uint8_t* a = (const uint8_t*)p.a + (ptrdiff_t)r * p.a_stride;
        const uint8_t* b = (const uint8_t*)p.b + (ptrdiff_t)r * p.b_stride;
        uint8_t* y = (uint8_t*)p.y + (ptrdiff_t)r * p.y_stride;
        for (size_t c = 0; c < p.cols; c += byte_lanes) {
            const size_t left = p.cols - c;
            const uint8_t* pa = place(a, p.a_step, c, left, a_copy);
            const uint8_t* pb = place(b, p.b_step, c, left, b_copy);
            f32 x[4];
            unroll<4>(LINNET_LAMBDA(i) {
                const f32 va = to_float((load_narrow<u8_lanes>(pa + i * lanes) ^ a_flip) - a_zero);
                const f32 vb = to_float((load_narrow<u8_lanes>(pb + i * lanes) ^ b_flip) - b_zero);
                if constexpr (Multiply) {
                    x[i] = va * vb * a_scale;  // the first product is exact
                } else {
                    f32 first = va * a_scale, second = vb * b_scale;
                    keep(first);  // else one of the products is fused into the sum
                    keep(second);
                    x[i] = first + second;
                }
            });
            store_bytes(y + c, range.pack(x), left);
        }
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

static void max_pool_bytes(const PoolBytes& p, size_t begin, size_t end) noexcept {
    const uint8_t up = p.x_signed ? 128 : 0;
    const u8x flip = u8x{} + up;
    for (size_t pixel = begin; pixel < end; ++pixel) {
        uint8_t* y = (uint8_t*)p.y + (ptrdiff_t)pixel * p.y_stride;
        for (size_t c = 0; c < p.channels; c += byte_lanes) {
            const size_t left = p.channels - c;
            u8x most{};
            pool_taps(
                p, pixel, LINNET_LAMBDA(x) {
                    const u8x v = load_bytes(x + c, left) ^ flip;
                    most = most > v ? most : v;
                });
            store_bytes(y + c, most ^ flip, left);
        }
    }
}

static void avg_pool_bytes(const PoolBytes& p, size_t begin, size_t end) noexcept {
    const ByteClamp range(p.zero, p.lo, p.hi, p.y_signed);
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
            store_bytes(y + c, range.pack(x), left);
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
