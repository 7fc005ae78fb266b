// Binary elementwise rows; a step of 0 repeats one value.
#pragma once

#include "kernels/map.h"

namespace linnet::kernels::LINNET_ISA {

template <Binary B>
LINNET_INLINE f32 binary(f32 a, f32 b) {
    if constexpr (B == Binary::add) return a + b;
    if constexpr (B == Binary::sub) return a - b;
    if constexpr (B == Binary::mul) return a * b;
    if constexpr (B == Binary::div) return a / b;
    if constexpr (B == Binary::min) return min_or_nan(a, b);
    if constexpr (B == Binary::max) return max_or_nan(a, b);
    if constexpr (B == Binary::prelu) return select(less(a, splat(0.0f)), a * b, a);
    if constexpr (B == Binary::fmod && fma_rounds_once) {
        // The remainder is a float, so one rounding leaves it exact. A quotient that was rounded up to the next integer
        // is one too many, which the remainder's sign tells.
        const f32 q = a / b;
        f32 r = fma(-with_sign(floor(abs(q)), q), b, a);
        const i32 wrong = less(r * with_sign(splat(1.0f), a), splat(0.0f));
        r = with_sign(abs(select(wrong, abs(r) - abs(b), r)), a);
        const i32 good = less(abs(q), splat(0x1p22f)) & less(abs(b), splat(__builtin_inff()));
        if (__builtin_expect(!any(~good), 1)) return r;
        float x[lanes], y[lanes];
        store(x, a);
        store(y, b);
        for (int i = 0; i < lanes; ++i) x[i] = __builtin_fmodf(x[i], y[i]);
        return select(good, r, load(x));
    }
    float x[lanes], y[lanes];
    store(x, a);
    store(y, b);
    if constexpr (B == Binary::pow)
        for (int i = 0; i < lanes; ++i) x[i] = __builtin_powf(x[i], y[i]);
    if constexpr (B == Binary::fmod)
        for (int i = 0; i < lanes; ++i) x[i] = __builtin_fmodf(x[i], y[i]);
    return load(x);
}

// Calls body(i, left, a, b) for each vector.
template <class F>
LINNET_INLINE void for_pairs(size_t n, const float* a, size_t a_step, const float* b, size_t b_step, F body) {
    if (n == 0) return;
    const f32 a0 = splat(*a), b0 = splat(*b);
    for (size_t i = 0; i < n; i += lanes) {
        const size_t left = n - i;
        body(i, left, a_step ? load_some(a + i, left) : a0, b_step ? load_some(b + i, left) : b0);
    }
}

template <Binary B>
static __attribute__((noinline)) void binary_loop(size_t n, const float* a, size_t a_step, const float* b,
                                                  size_t b_step, float* y) noexcept {
    for_pairs(
        n, a, a_step, b, b_step, [&](size_t i, size_t left, f32 u, f32 v) __attribute__((always_inline)) {
            store_some(y + i, binary<B>(u, v), left);
        });
}

static void binary_f32(Binary op, size_t n, const float* a, size_t a_step, const float* b, size_t b_step,
                       float* y) noexcept {
    switch (op) {
        case Binary::add: return binary_loop<Binary::add>(n, a, a_step, b, b_step, y);
        case Binary::sub: return binary_loop<Binary::sub>(n, a, a_step, b, b_step, y);
        case Binary::mul: return binary_loop<Binary::mul>(n, a, a_step, b, b_step, y);
        case Binary::div: return binary_loop<Binary::div>(n, a, a_step, b, b_step, y);
        case Binary::min: return binary_loop<Binary::min>(n, a, a_step, b, b_step, y);
        case Binary::max: return binary_loop<Binary::max>(n, a, a_step, b, b_step, y);
        case Binary::prelu: return binary_loop<Binary::prelu>(n, a, a_step, b, b_step, y);
        case Binary::fmod: return binary_loop<Binary::fmod>(n, a, a_step, b, b_step, y);
        case Binary::pow:
            // Squares and roots are what models mean by most constant powers.
            if (n && b_step == 0 && *b == 2.0f) return binary_loop<Binary::mul>(n, a, a_step, a, a_step, y);
            if (n && b_step == 0 && *b == 1.0f && a_step) return map_f32(Unary::identity, n, a, y, 0, 0);
            return binary_loop<Binary::pow>(n, a, a_step, b, b_step, y);
        case Binary::count: return;
    }
}

// The operation is chosen vector by vector: a loop for each would be much code, and memory is what is waited for.
template <class T>
LINNET_INLINE void binary_plain(Binary op, size_t n, const T* a, size_t sa, const T* b, size_t sb, T* y) {
    typedef T V __attribute__((vector_size(sizeof(f32)), may_alias));
    constexpr size_t width = sizeof(V) / sizeof(T);
    if (n == 0) return;
    const V a0 = *a - V{}, b0 = *b - V{};  // -0 is kept so
    for (size_t i = 0; i < n; i += width) {
        const size_t bytes = (n - i < width ? n - i : width) * sizeof(T);
        V u = a0, v = b0;
        if (bytes == sizeof(V)) {
            if (sa) __builtin_memcpy(&u, a + i, sizeof u);
            if (sb) __builtin_memcpy(&v, b + i, sizeof v);
        } else {
            if (sa) copy_bytes((uint8_t*)&u, (const uint8_t*)(a + i), bytes);
            if (sb) copy_bytes((uint8_t*)&v, (const uint8_t*)(b + i), bytes);
        }
        switch (op) {
            case Binary::add: u = u + v; break;
            case Binary::sub: u = u - v; break;
            case Binary::mul: u = u * v; break;
            case Binary::min: u = (v < u) | ((v != v) & (u == u)) ? v : u; break;
            case Binary::max: u = (u < v) | ((v != v) & (u == u)) ? v : u; break;
            default: return;
        }
        if (bytes == sizeof(V)) __builtin_memcpy(y + i, &u, sizeof u);
        else copy_bytes((uint8_t*)(y + i), (const uint8_t*)&u, bytes);
    }
}
static void binary_f64(Binary op, size_t n, const double* a, size_t sa, const double* b, size_t sb,
                       double* y) noexcept {
    binary_plain(op, n, a, sa, b, sb, y);
}
static void binary_i32(Binary op, size_t n, const int32_t* a, size_t sa, const int32_t* b, size_t sb,
                       int32_t* y) noexcept {
    binary_plain(op, n, a, sa, b, sb, y);
}
static void binary_i64(Binary op, size_t n, const int64_t* a, size_t sa, const int64_t* b, size_t sb,
                       int64_t* y) noexcept {
    binary_plain(op, n, a, sa, b, sb, y);
}

static void compare_f32(Compare op, size_t n, const float* a, size_t a_step, const float* b, size_t b_step,
                        uint8_t* y) noexcept {
    if (op == Compare::greater) return compare_f32(Compare::less, n, b, b_step, a, a_step, y);
    if (op == Compare::greater_equal) return compare_f32(Compare::less_equal, n, b, b_step, a, a_step, y);
    for_pairs(
        n, a, a_step, b, b_step, [&](size_t i, size_t left, f32 u, f32 v) __attribute__((always_inline)) {
            const i32 m = op == Compare::equal ? equal(u, v) : op == Compare::less ? less(u, v) : less_equal(u, v);
            uint8_t t[lanes];
            store_narrow<u8_lanes>(t, m & splat_i(1));
            __builtin_memcpy(y + i, t, left < (size_t)lanes ? left : lanes);
        });
}

static void classify_f32(size_t n, const float* x, bool nan, bool positive, bool negative, uint8_t* y) noexcept {
    const f32 infinite = splat(__builtin_inff());
    const i32 with_nan = splat_i(nan), with_plus = splat_i(positive), with_minus = splat_i(negative);
    for (size_t i = 0; i < n; i += lanes) {
        const size_t left = n - i;
        const f32 v = load_some(x + i, left);
        const i32 found =
            (is_nan(v) & with_nan) | (equal(v, infinite) & with_plus) | (equal(v, -infinite) & with_minus);
        uint8_t t[lanes];
        store_narrow<u8_lanes>(t, found);
        __builtin_memcpy(y + i, t, left < (size_t)lanes ? left : lanes);
    }
}

template <class T>
static __attribute__((noinline)) void where_loop(size_t n, const uint8_t* c, const T* a, const T* b, T* y) noexcept {
    size_t i = 0;
    if constexpr (sizeof(T) == sizeof(float))
        for (; i + lanes <= n; i += lanes) {
            const i32 left_out = (i32)(load_narrow<u8_lanes>(c + i) == splat_i(0));
            store((float*)y + i, select(left_out, load((const float*)b + i), load((const float*)a + i)));
        }
    for (; i < n; ++i) y[i] = c[i] ? a[i] : b[i];
}
// Repeats the first `size` bytes in `bytes` ones, a power of two each.
static __attribute__((noinline)) void spread(void* to, const void* from, size_t size, size_t bytes) noexcept {
    __builtin_memcpy(to, from, size);
    for (; size < bytes; size *= 2) __builtin_memcpy((char*)to + size, to, size);
}
// Operands that stand still are spread over a block.
template <class T>
LINNET_INLINE void where_typed(size_t n, const uint8_t* c, size_t sc, const T* a, size_t sa, const T* b, size_t sb,
                               T* y) {
    if (n == 0) return;
    if (sc && sa && sb) return where_loop(n, c, a, b, y);
    constexpr size_t block = 64;
    uint8_t c_block[block];
    T a_block[block], b_block[block];
    spread(c_block, c, 1, sizeof c_block);
    spread(a_block, a, sizeof(T), sizeof a_block);
    spread(b_block, b, sizeof(T), sizeof b_block);
    for (size_t i = 0; i < n; i += block)
        where_loop(n - i < block ? n - i : block, sc ? c + i : c_block, sa ? a + i : a_block, sb ? b + i : b_block,
                   y + i);
}
static void where(size_t element_size, size_t n, const uint8_t* c, size_t sc, const void* a, size_t sa, const void* b,
                  size_t sb, void* y) noexcept {
    if (element_size == 1) where_typed(n, c, sc, (const uint8_t*)a, sa, (const uint8_t*)b, sb, (uint8_t*)y);
    if (element_size == 2) where_typed(n, c, sc, (const uint16_t*)a, sa, (const uint16_t*)b, sb, (uint16_t*)y);
    if (element_size == 4) where_typed(n, c, sc, (const uint32_t*)a, sa, (const uint32_t*)b, sb, (uint32_t*)y);
    if (element_size == 8) where_typed(n, c, sc, (const uint64_t*)a, sa, (const uint64_t*)b, sb, (uint64_t*)y);
}

}  // namespace linnet::kernels::LINNET_ISA
