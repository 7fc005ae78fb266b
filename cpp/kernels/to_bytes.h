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

// R rows of `cols` <= byte_lanes / R columns, of which four vectors of sums are made bytes at a time.
template <int R>
struct ByteRows {
    static constexpr int vectors = 4 / R;
    static constexpr size_t width = byte_lanes / R;
    size_t cols, at[vectors];  // where the columns end, the first vector stands in
    f32 scale[vectors];
    LINNET_MEMBER ByteRows(const float* scales, size_t columns) : cols(columns) {
        unroll<vectors>(LINNET_LAMBDA(j) {
            constexpr size_t begin = (size_t)j * lanes;
            at[j] = begin < cols ? begin : 0;
            scale[j] = load_some(scales + at[j], cols - at[j]);
        });
    }
    // next: 0 if a second row is missing, and the first one stands in.
    template <bool Large>
    LINNET_MEMBER u8x of(const int32_t* sums, size_t ld, size_t next, const ByteRange& range) const {
        f32 x[4];
        unroll<4>(LINNET_LAMBDA(i) {
            constexpr int second = i / vectors, j = i % vectors;
            x[i] = to_float(load_i(sums + second * next * ld + at[j])) * scale[j];
            // Far beyond every clamp, and far from the end of int32; what is that low packs to 0 anyway.
            if constexpr (Large) x[i] = min(x[i], splat(1024.0f));
        });
        return range.of(x);
    }
    LINNET_MEMBER void store(u8x q, uint8_t* out, ptrdiff_t out_stride, size_t next) const {
        unroll<R>(LINNET_LAMBDA(i) {
            uint8_t* to = out + i * (ptrdiff_t)next * out_stride;
            if (cols == width) __builtin_memcpy(to, (const uint8_t*)&q + i * width, width);
            else copy_bytes(to, (const uint8_t*)&q + i * width, cols);
        });
    }
};

// Without table and residual, with scales below 1.
template <int R>
static __attribute__((noinline)) void plain_rows(const ToBytes& t, size_t, size_t rows, size_t col, size_t cols,
                                                 const int32_t* sums, size_t ld, uint8_t* out,
                                                 ptrdiff_t out_stride) noexcept {
    const int32_t up = t.is_signed ? 128 : 0;
    const u8x flip = u8x{} + (uint8_t)up;
    const ByteRange own(up, t.zero, t.lo, t.hi);
    const ByteRows<R> all(t.scale + col, cols);
    for (size_t r = 0; r < rows; r += R, sums += R * ld, out += R * out_stride) {
        const size_t next = r + 1 < rows ? 1 : 0;
        all.store(all.template of<false>(sums, ld, next, own) ^ flip, out, out_stride, next);
    }
}

// Stage by stage, each for a few vectors of bytes in L1.
template <int R>
static __attribute__((noinline)) void staged_rows(const ToBytes& t, size_t row, size_t rows, size_t col, size_t cols,
                                                  const int32_t* sums, size_t ld, uint8_t* out,
                                                  ptrdiff_t out_stride) noexcept {
    constexpr size_t most = 16;  // vectors
    constexpr int vectors = ByteRows<R>::vectors;
    constexpr size_t width = ByteRows<R>::width;
    const int32_t up = t.is_signed ? 128 : 0;
    const u8x flip = u8x{} + (uint8_t)up;
    const ByteRange own(up, t.zero, t.lo, t.hi);
    const ByteRows<R> all(t.scale + col, cols);
    ByteTable table;
    const bool has_table = t.table;
    if (has_table) table.load(t.table);
    const uint8_t* add = t.add ? (const uint8_t*)t.add + (ptrdiff_t)row * t.add_stride + col : nullptr;
    const ptrdiff_t add_stride = t.add_stride;
    const ByteRange sum(up, t.sum_zero, t.sum_lo, t.sum_hi);
    const i32 own_zero = splat_i(t.own_zero + up), add_zero = splat_i(t.add_zero + up), turn = splat_i(up);
    const f32 own_scale = splat(t.own_scale), add_scale = splat(t.add_scale);
    u8x bytes[most];
    for (size_t r = 0, count; r < rows; r += count * R, sums += count * R * ld, out += count * R * out_stride) {
        count = (rows - r + R - 1) / R < most ? (rows - r + R - 1) / R : most;
        const auto next = LINNET_LAMBDA(v) { return r + v * R + 1 < rows ? (size_t)1 : (size_t)0; };
        for (size_t v = 0; v < count; ++v) bytes[v] = all.template of<true>(sums + v * R * ld, ld, next(v), own) ^ flip;
        if (has_table)
            for (size_t v = 0; v < count; ++v) bytes[v] = table.of(bytes[v]);
        for (size_t v = 0; v < count && add; ++v) {
            const uint8_t* mine = (const uint8_t*)(bytes + v);
            const uint8_t* other[R];
            uint8_t part[byte_lanes];
            unroll<R>(LINNET_LAMBDA(i) {
                other[i] = add + (ptrdiff_t)(r + v * R + i * next(v)) * add_stride;
                if (cols == width) return;
                copy_bytes(part + i * width, other[i], cols);
                other[i] = part + i * width;
            });
            f32 x[4];
            unroll<4>(LINNET_LAMBDA(i) {
                constexpr int second = i / vectors, j = i % vectors;
                const i32 p = (load_narrow<u8_lanes>(mine + i * lanes) ^ turn) - own_zero;
                const i32 q = (load_narrow<u8_lanes>(other[second] + j * lanes) ^ turn) - add_zero;
                f32 first = to_float(p) * own_scale, rest = to_float(q) * add_scale;
                keep(first);  // else one of the products is fused into the sum
                keep(rest);
                x[i] = min(first + rest, splat(1024.0f));
            });
            bytes[v] = sum.of(x) ^ flip;
        }
        for (size_t v = 0; v < count; ++v) all.store(bytes[v], out + v * R * out_stride, out_stride, next(v));
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
        const auto fn =
            2 * n <= byte_lanes ? (plain ? plain_rows<2> : staged_rows<2>) : (plain ? plain_rows<1> : staged_rows<1>);
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
