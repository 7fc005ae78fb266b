// What becomes of a block of int32 sums that lies in L1: bytes, floats, or the sums themselves.
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t byte_lanes = 4 * (size_t)lanes;

// The clamped bytes of four vectors. Signed bytes are worked on as unsigned ones, `up` = 128 higher.
struct ByteRange {
    int32_t zero;
    u8x lo, hi;
    LINNET_MEMBER ByteRange(int32_t up, int32_t z, int32_t low, int32_t high)
        : zero(z + up), lo(u8x{} + (uint8_t)(low + up)), hi(u8x{} + (uint8_t)(high + up)) {}
    LINNET_MEMBER u8x of(const f32 (&x)[4]) const {
        u8x q = pack_bytes(to_int(x[0]), to_int(x[1]), to_int(x[2]), to_int(x[3]), zero);
        q = q > lo ? q : lo;
        return q < hi ? q : hi;
    }
};

// R rows of `cols` <= byte_lanes / R columns at a time. Plain: no table, no residual, and scales below 1.
template <int R, bool Plain>
static __attribute__((noinline)) void bytes_rows(const ToBytes& t, size_t row, size_t rows, size_t col, size_t cols,
                                                 const int32_t* sums, size_t ld, uint8_t* out,
                                                 ptrdiff_t out_stride) noexcept {
    constexpr int vectors = 4 / R;
    constexpr size_t width = byte_lanes / R;
    const int32_t up = t.is_signed ? 128 : 0;
    const u8x flip = u8x{} + (uint8_t)up;
    const ByteRange own(up, t.zero, t.lo, t.hi);
    f32 scale[vectors];
    size_t at[vectors];  // where the columns end, the first vector stands in
    unroll<vectors>(LINNET_LAMBDA(j) {
        constexpr size_t begin = (size_t)j * lanes;
        at[j] = begin < cols ? begin : 0;
        scale[j] = load_some(t.scale + col + at[j], cols - at[j]);
    });
    [[maybe_unused]] ByteTable table;
    if (!Plain && t.table) table.load(t.table);
    for (size_t r = 0; r < rows; r += R) {
        const size_t next = r + 1 < rows ? 1 : 0;  // a second row that is missing repeats the first
        f32 x[4];
        unroll<4>(LINNET_LAMBDA(i) {
            constexpr int second = i / vectors, j = i % vectors;
            x[i] = to_float(load_i(sums + second * next * ld + at[j])) * scale[j];
            // Far beyond every clamp, and far from the end of int32; what is that low packs to 0 anyway.
            if constexpr (!Plain) x[i] = min(x[i], splat(1024.0f));
        });
        u8x q = own.of(x);
        if constexpr (!Plain) {
            if (t.table) q = table.of(q ^ flip) ^ flip;
            if (t.add) {
                const uint8_t* a = (const uint8_t*)t.add + (ptrdiff_t)(row + r) * t.add_stride + col;
                alignas(64) uint8_t mine[byte_lanes], other[byte_lanes];
                u8x o{};
                unroll<R>(LINNET_LAMBDA(i) {
                    const uint8_t* from = a + i * (ptrdiff_t)next * t.add_stride;
                    if (cols == width) __builtin_memcpy(other + i * width, from, width);
                    else copy_bytes(other + i * width, from, cols);
                });
                __builtin_memcpy(&o, other, byte_lanes);
                o = o ^ flip;
                __builtin_memcpy(other, &o, byte_lanes);
                __builtin_memcpy(mine, &q, byte_lanes);
                unroll<4>(LINNET_LAMBDA(i) {
                    const i32 p = load_narrow<u8_lanes>(mine + i * lanes) - splat_i(t.own_zero + up);
                    const i32 v = load_narrow<u8_lanes>(other + i * lanes) - splat_i(t.add_zero + up);
                    f32 first = to_float(p) * splat(t.own_scale), rest = to_float(v) * splat(t.add_scale);
                    keep(first);  // else one of the products is fused into the sum
                    keep(rest);
                    x[i] = min(first + rest, splat(1024.0f));
                });
                q = ByteRange(up, t.sum_zero, t.sum_lo, t.sum_hi).of(x);
            }
        }
        q = q ^ flip;
        unroll<R>(LINNET_LAMBDA(i) {
            uint8_t* to = out + i * (ptrdiff_t)next * out_stride;
            if (cols == width) __builtin_memcpy(to, (const uint8_t*)&q + i * width, width);
            else copy_bytes(to, (const uint8_t*)&q + i * width, cols);
        });
        sums += R * ld;
        out += R * out_stride;
    }
}

// sums: rows of ld ints, readable to the vector in which the columns end. row and col place the block in the whole
// output, for the scales and the residual; out is where the block itself begins.
static __attribute__((noinline)) void bytes_block(const ToBytes& t, size_t row, size_t rows, size_t col, size_t cols,
                                                  const int32_t* sums, size_t ld, void* out,
                                                  ptrdiff_t out_stride) noexcept {
    uint8_t* y = (uint8_t*)out;
    f32 large = splat(0.0f);
    for (size_t c = 0; c < cols; c += lanes) large = max(large, abs(load_some(t.scale + col + c, cols - c)));
    const bool plain = !t.table && !t.add && !any(less_equal(splat(1.0f), large));
    while (cols > 0) {
        const size_t n = cols < byte_lanes ? cols : byte_lanes;
        const auto fn = 2 * n <= byte_lanes ? (plain ? bytes_rows<2, true> : bytes_rows<2, false>)
                                            : (plain ? bytes_rows<1, true> : bytes_rows<1, false>);
        fn(t, row, rows, col, n, sums, ld, y, out_stride);
        cols -= n;
        col += n;
        sums += n;
        y += n;
    }
}

// The same place, sums as floats: epilogue(float(sum) * scale[col]), or as they are. sums is scratch.
static __attribute__((noinline)) void floats_block(const float* scale, const Program& p, size_t row, size_t rows,
                                                   size_t col, size_t cols, int32_t* sums, size_t ld, float* out,
                                                   ptrdiff_t out_stride) noexcept {
    for (size_t c = 0; c < cols; c += lanes) {
        const f32 factor = load_some(scale + col + c, cols - c);
        const f32 bias = p.bias ? load_some(p.bias + col + c, cols - c) : splat(0.0f);
        for (size_t r = 0; r < rows; ++r) {
            f32 x = to_float(load_i(sums + r * ld + c)) * factor;
            keep(x);
            store((float*)sums + r * ld + c, x + bias);
        }
    }
    finish(p, row, rows, col, cols, (float*)sums, ld, out, out_stride);
}

static __attribute__((noinline)) void sums_block(size_t rows, size_t cols, const int32_t* sums, size_t ld, int32_t* out,
                                                 ptrdiff_t out_stride) noexcept {
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < cols; c += lanes)
            store_some((float*)out + (ptrdiff_t)r * out_stride + c, from_bits(load_i(sums + r * ld + c)), cols - c);
}

}  // namespace linnet::kernels::LINNET_ISA
