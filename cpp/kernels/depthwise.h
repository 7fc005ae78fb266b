// Depthwise convolution: a register tile of output pixels, one vector of channels at a time. Every input pixel of the
// tile is a pointer, to the zero row where it lies in the padding: edges cost nothing and need no variants.
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

constexpr int dw_cols = 4, dw_rows = 2;
constexpr size_t dw_chunk = 128;  // channels between two runs of an epilogue that is not free

static size_t pack_depthwise_f32_size(size_t taps, size_t channels) noexcept {
    return (channels + lanes - 1) / lanes * lanes * taps;
}

// [channels / lanes][tap][lanes]: one pointer reaches every tap of a vector of channels.
static void pack_depthwise_f32(size_t taps, size_t channels, const float* w, ptrdiff_t tap_stride,
                               ptrdiff_t channel_stride, float* out) noexcept {
    for (size_t c = 0; c < channels; c += lanes)
        for (size_t t = 0; t < taps; ++t)
            for (size_t i = 0; i < (size_t)lanes; ++i)
                *out++ = c + i < channels ? w[(ptrdiff_t)t * tap_stride + (ptrdiff_t)(c + i) * channel_stride] : 0.0f;
}

LINNET_INLINE const float* dw_pixel(const DepthwiseF32& d, ptrdiff_t ih, ptrdiff_t iw) {
    if (ih < 0 || iw < 0 || ih >= (ptrdiff_t)d.in_h || iw >= (ptrdiff_t)d.in_w) return d.zero;
    return d.x + ih * d.x_row_stride + iw * d.x_stride;
}

// One vector of channels of a TR x TC tile. in[r][c]: the input pixels it needs; w: the packed taps.
template <int KH, int KW, int S, int TR, int TC, class Load, class Store>
LINNET_INLINE void dw_vector(const float* const* in, const float* w, f32 bias, Load load_x, Store store_y) {
    constexpr int IR = (TR - 1) * S + KH, IC = (TC - 1) * S + KW;
    f32 acc[TR][TC];
    unroll<TR>(LINNET_LAMBDA(r) { unroll<TC>(LINNET_LAMBDA(q) { acc[r][q] = bias; }); });
    unroll<IR>(LINNET_LAMBDA(ir) {
        unroll<IC>(LINNET_LAMBDA(ic) {
            const f32 x = load_x(in[ir * IC + ic]);
            unroll<TR>(LINNET_LAMBDA(r) {
                constexpr int i = ir - r * S;
                if constexpr (i >= 0 && i < KH)
                    unroll<TC>(LINNET_LAMBDA(q) {
                        constexpr int j = ic - q * S;
                        if constexpr (j >= 0 && j < KW) acc[r][q] = fma(x, load(w + (i * KW + j) * lanes), acc[r][q]);
                    });
            });
        });
    });
    // Backwards: see DwTile::out.
    unroll<TR>(LINNET_LAMBDA(r) {
        unroll<TC>(LINNET_LAMBDA(q) { store_y(Int<TR - 1 - r>{}, Int<TC - 1 - q>{}, acc[TR - 1 - r][TC - 1 - q]); });
    });
}

// Where a tile reads and writes. Columns beyond the output go to column 0, whose own value is stored last.
template <int KH, int KW, int S, int TR, int TC>
struct DwTile {
    static constexpr int IR = (TR - 1) * S + KH, IC = (TC - 1) * S + KW;
    const float* in[IR * IC];
    float* out[TR * TC];

    LINNET_MEMBER void place(const DepthwiseF32& d, size_t oh, size_t ow) {
        for (int r = 0; r < IR; ++r)
            for (int c = 0; c < IC; ++c)
                in[r * IC + c] = dw_pixel(d, (ptrdiff_t)(oh * S) - d.pad_top + r, (ptrdiff_t)(ow * S) - d.pad_left + c);
        for (int r = 0; r < TR; ++r)
            for (int q = 0; q < TC; ++q)
                out[r * TC + q] = d.y + (ptrdiff_t)(oh + r) * d.y_row_stride +
                                  (ptrdiff_t)(ow + q < d.out_w ? ow + q : ow) * d.y_stride;
    }
};

// `tiles` tiles side by side from t on, in_step and out_step apart; whole vectors of channels, epilogue in registers.
template <int KH, int KW, int S, int TR, int TC>
static __attribute__((noinline)) void dw_direct(const DwTile<KH, KW, S, TR, TC>& t, const Program& p, const float* w,
                                                const float* bias, size_t whole, size_t tiles, ptrdiff_t in_step,
                                                ptrdiff_t out_step) noexcept {
    const f32 lo = splat(p.lo), hi = splat(p.hi);
    for (size_t n = 0; n < tiles; ++n) {
        ptrdiff_t at = (ptrdiff_t)n * in_step, to = (ptrdiff_t)n * out_step;
        const float* taps = w;
        const float* b = bias;
        for (const float* end = bias + whole; b < end; b += lanes, at += lanes, to += lanes, taps += KH * KW * lanes) {
            // The pointers stay in the table: there are more of them than registers, and GCC would spill them worse.
            __asm__ volatile("" ::: "memory");
            dw_vector<KH, KW, S, TR, TC>(
                t.in, taps, load(b), [&](const float* x) __attribute__((always_inline)) { return load(x + at); },
                [&](auto r, auto q, f32 v)
                    __attribute__((always_inline)) { store(t.out[r * TC + q] + to, clip(v, lo, hi)); });
        }
    }
}

// Channels [c, channels) of one tile through a buffer, for a partial vector and for epilogues that are not free.
template <int KH, int KW, int S, int TR, int TC>
static __attribute__((noinline)) void dw_buffered(const DepthwiseF32& d, const DwTile<KH, KW, S, TR, TC>& t,
                                                  const Program& p, size_t oh, size_t ow, size_t c) noexcept {
    const size_t cols = d.out_w - ow < (size_t)TC ? d.out_w - ow : TC;
    float buffer[TR * TC][dw_chunk];
    while (c < d.channels) {
        const size_t n = d.channels - c < dw_chunk ? d.channels - c : dw_chunk;
        for (size_t i = 0; i < n; i += lanes) {
            const size_t left = n - i, at = c + i;
            __asm__ volatile("" ::: "memory");
            dw_vector<KH, KW, S, TR, TC>(
                t.in, d.w + at * KH * KW, p.bias ? load_some(p.bias + at, left) : splat(0),
                [&](const float* x) __attribute__((always_inline)) { return load_some(x + at, left); },
                [&](auto r, auto q, f32 v) __attribute__((always_inline)) { store(&buffer[r * TC + q][i], v); });
        }
        for (size_t r = 0; r < (size_t)TR; ++r)
            finish(p, (oh + r) * d.out_w + ow, cols, c, n, buffer[r * TC], dw_chunk, t.out[r * TC] + c, d.y_stride);
        c += n;
    }
}

template <int KH, int KW, int S, int TR>
static void dw_tile_row(const DepthwiseF32& d, const Program& p, const float* bias, size_t oh) noexcept {
    using Tile = DwTile<KH, KW, S, TR, dw_cols>;
    const bool direct = p.rest_count == 0 && !p.add;
    const size_t whole = direct ? d.channels / lanes * lanes : 0;
    const ptrdiff_t top = (ptrdiff_t)(oh * S) - d.pad_top;
    const bool rows_inside = top >= 0 && top + Tile::IR <= (ptrdiff_t)d.in_h;
    Tile t;
    for (size_t ow = 0; ow < d.out_w;) {
        t.place(d, oh, ow);
        // Tiles without any padding differ by a constant step.
        size_t tiles = 1;
        const ptrdiff_t left = (ptrdiff_t)(ow * S) - d.pad_left;
        if (rows_inside && left >= 0 && whole == d.channels)
            while (ow + (tiles + 1) * dw_cols <= d.out_w &&
                   left + (ptrdiff_t)tiles * dw_cols * S + Tile::IC <= (ptrdiff_t)d.in_w)
                ++tiles;
        if (whole)
            dw_direct<KH, KW, S, TR, dw_cols>(t, p, d.w, bias, whole, tiles, dw_cols * S * d.x_stride,
                                              dw_cols * d.y_stride);
        if (whole < d.channels) dw_buffered<KH, KW, S, TR, dw_cols>(d, t, p, oh, ow, whole);
        ow += tiles * dw_cols;
    }
}

// Any kernel, stride and dilation: one pixel, four vectors of channels.
static __attribute__((noinline)) void dw_any(const DepthwiseF32& d, const Program& p, size_t oh, size_t ow) noexcept {
    float buffer[dw_chunk];
    const size_t taps = d.kernel_h * d.kernel_w;
    for (size_t c = 0; c < d.channels; c += dw_chunk) {
        const size_t n = d.channels - c < dw_chunk ? d.channels - c : dw_chunk;
        for (size_t i = 0; i < n; i += lanes) store(buffer + i, p.bias ? load_some(p.bias + c + i, n - i) : splat(0));
        for (size_t i = 0; i < d.kernel_h; ++i)
            for (size_t j = 0; j < d.kernel_w; ++j) {
                const float* in = dw_pixel(d, (ptrdiff_t)(oh * d.stride_h + i * d.dilation_h) - d.pad_top,
                                           (ptrdiff_t)(ow * d.stride_w + j * d.dilation_w) - d.pad_left);
                const float* w = d.w + c * taps + (i * d.kernel_w + j) * lanes;
                for (size_t k = 0; k < n; k += lanes)
                    store(buffer + k, fma(load_some(in + c + k, n - k), load(w + k * taps), load(buffer + k)));
            }
        finish(p, oh * d.out_w + ow, 1, c, n, buffer, dw_chunk,
               d.y + (ptrdiff_t)oh * d.y_row_stride + (ptrdiff_t)ow * d.y_stride + c, d.y_stride);
    }
}

template <int K, int S>
static void dw_fixed(const DepthwiseF32& d, const Program& p, size_t row_begin, size_t row_end) noexcept {
    const float* bias = p.bias ? p.bias : d.zero;
    size_t oh = row_begin;
    for (; oh + dw_rows <= row_end; oh += dw_rows) dw_tile_row<K, K, S, dw_rows>(d, p, bias, oh);
    for (; oh < row_end; ++oh) dw_tile_row<K, K, S, 1>(d, p, bias, oh);
}

static void depthwise_f32(const DepthwiseF32& d, size_t row_begin, size_t row_end) noexcept {
    const Program p = parse(d.epilogue);
    const bool square = d.kernel_h == d.kernel_w && d.stride_h == d.stride_w && d.dilation_h == 1 && d.dilation_w == 1;
    if (square && d.kernel_h == 3 && d.stride_h == 1) return dw_fixed<3, 1>(d, p, row_begin, row_end);
    if (square && d.kernel_h == 3 && d.stride_h == 2) return dw_fixed<3, 2>(d, p, row_begin, row_end);
    if (square && d.kernel_h == 5 && d.stride_h == 1) return dw_fixed<5, 1>(d, p, row_begin, row_end);
    if (square && d.kernel_h == 5 && d.stride_h == 2) return dw_fixed<5, 2>(d, p, row_begin, row_end);
    for (size_t oh = row_begin; oh < row_end; ++oh)
        for (size_t ow = 0; ow < d.out_w; ++ow) dw_any(d, p, oh, ow);
}

}  // namespace linnet::kernels::LINNET_ISA
