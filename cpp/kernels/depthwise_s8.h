// Depthwise convolution on bytes, for some rows, columns and channels of the output at a time:
//  1. tap_group input pixels above each other are interleaved, so that one instruction multiplies and adds as many taps
//     for a vector of channels. Rows of the output that are neighbours share them: their weights are shifted by a tap.
//  2. Weights times these gives sums, in L1.
//  3. bytes_block makes them bytes.
#pragma once

#include "kernels/depthwise.h"
#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t taps_unit = (size_t)tap_group * lanes;  // weights of a group
constexpr size_t dw8_header = 64;                        // bytes: how many `parts` there are
constexpr size_t dw8_sums = 4096;                        // int32 sums in L1
constexpr size_t dw8_units = (24 << 10) / sizeof(Taps);  // interleaved vectors in L1
constexpr size_t dw8_shifted = 64;                       // vectors of shifted weights
constexpr size_t dw8_cols = 28;                          // of a block; its tiles are 7 or 4 columns wide
constexpr int dw8_wide = 7, dw8_narrow = 4;
constexpr size_t dw8_rows_at_once = 4;

// Weights beyond s8 are split into as many parts that are s8, if weights are bytes.
LINNET_INLINE size_t dw8_parts(bool wide) { return wide && sizeof(TapWeight) == 1 ? 3 : 1; }
LINNET_INLINE size_t dw8_groups(size_t rows) { return (rows + tap_group - 1) / tap_group; }
// Bytes of a vector of channels: the sums of its weights, then the groups.
LINNET_INLINE size_t dw8_vector(size_t units, size_t parts) {
    return lanes * sizeof(int32_t) + parts * units * taps_unit * sizeof(TapWeight);
}
// Where a vector of channels begins. The last one overlaps the one before it rather than being partial.
LINNET_INLINE size_t dw8_channel(size_t vector, size_t channels) {
    const size_t c = vector * lanes;
    return channels < (size_t)lanes || c + lanes <= channels ? c : channels - lanes;
}

static size_t pack_depthwise_s8_size(size_t kernel_h, size_t kernel_w, size_t channels, bool wide) noexcept {
    return dw8_header + (channels + lanes - 1) / lanes * dw8_vector(dw8_groups(kernel_h) * kernel_w, dw8_parts(wide));
}

// Header, then for each vector of channels [sums][part][group of rows][column][lanes][tap_group].
static void pack_depthwise_s8(size_t kernel_h, size_t kernel_w, size_t channels, bool wide, const int16_t* w,
                              ptrdiff_t tap_stride, ptrdiff_t channel_stride, void* out) noexcept {
    const size_t units = dw8_groups(kernel_h) * kernel_w, parts = dw8_parts(wide);
    const int32_t header = (int32_t)parts;
    __builtin_memset(out, 0, dw8_header);
    __builtin_memcpy(out, &header, sizeof header);
    char* vector = (char*)out + dw8_header;
    for (size_t v = 0; v * lanes < channels; ++v, vector += dw8_vector(units, parts)) {
        int32_t sums[lanes] = {};
        TapWeight* o = (TapWeight*)(vector + sizeof sums);
        for (size_t part = 0; part < parts; ++part)
            for (size_t unit = 0; unit < units; ++unit)
                for (size_t i = 0; i < (size_t)lanes; ++i)
                    for (size_t g = 0; g < (size_t)tap_group; ++g) {
                        const size_t c = dw8_channel(v, channels) + i, row = unit / kernel_w * tap_group + g;
                        int32_t x = 0;
                        if (c < channels && row < kernel_h)
                            x = w[(ptrdiff_t)(row * kernel_w + unit % kernel_w) * tap_stride +
                                  (ptrdiff_t)c * channel_stride];
                        if (part == 0) sums[i] += x;
                        if (sizeof(TapWeight) == 1)  // what the parts before have left
                            for (size_t before = 0;; ++before) {
                                const int32_t now = x < -128 ? -128 : x > 127 ? 127 : x;
                                if (before == part) {
                                    x = now;
                                    break;
                                }
                                x -= now;
                            }
                        *o++ = (TapWeight)x;
                    }
        __builtin_memcpy(vector, sums, sizeof sums);
    }
}

// Interleaved pixels times weights: the sums of neighbouring output pixels for one vector of channels.
struct Dw8Dots {
    const char* x;
    const int32_t* offsets;  // bytes, from x to the pixels of each unit of weights
    ptrdiff_t col_step;      // bytes, from an output to the next
    const TapWeight* w;      // [unit]
    size_t units;
    i32 init;
    bool more;  // added to the sums that are there
    int32_t* sums;
    size_t ld;
    size_t tiles;  // of TC columns
};

template <int TC>
static __attribute__((noinline)) void dw8_dots(const Dw8Dots& t) noexcept {
    const DwSteps step(t.col_step);
    const size_t ld = t.ld, units = t.units;
    const char* x = t.x;
    int32_t* sums = t.sums;
    for (size_t tile = t.tiles; tile; --tile, x += TC * t.col_step, sums += TC * ld) {
        i32 acc[TC];
        if (t.more) unroll<TC>(LINNET_LAMBDA(q) { acc[q] = load_i(sums + q * ld); });
        else unroll<TC>(LINNET_LAMBDA(q) { acc[q] = t.init; });
        const TapWeight* w = t.w;
        for (size_t u = 0; u < units; ++u, w += taps_unit) {
            const TapWeights wv = load_tap_weights(w);
            const char* p = x + t.offsets[u];
            unroll<TC>(LINNET_LAMBDA(q) {
                Taps v;
                __builtin_memcpy(&v, step.from<q>(p), sizeof v);
                acc[q] = dot_taps(acc[q], v, wv);
            });
        }
        unroll<TC>(LINNET_LAMBDA(q) { store_i(sums + q * ld, acc[q]); });
    }
}

// How many tiles of dw8_wide and dw8_narrow cover some columns.
struct Dw8Tiles {
    size_t wide, narrow;
    LINNET_MEMBER explicit Dw8Tiles(size_t cols) {
        const size_t rest = cols % dw8_wide;
        wide = cols / dw8_wide + (rest > dw8_narrow);
        narrow = rest > 0 && rest <= dw8_narrow;
        if (rest == 1 && wide > 0) --wide, ++narrow;  // 8 = 4 + 4
    }
    LINNET_MEMBER size_t cols() const { return wide * dw8_wide + narrow * dw8_narrow; }
};

LINNET_INLINE void dw8_columns(Dw8Dots& t, const Dw8Tiles& tiles) {
    t.tiles = tiles.wide;
    if (tiles.wide) dw8_dots<dw8_wide>(t);
    t.x += (ptrdiff_t)(tiles.wide * dw8_wide) * t.col_step;
    t.sums += tiles.wide * dw8_wide * t.ld;
    t.tiles = tiles.narrow;
    if (tiles.narrow) dw8_dots<dw8_narrow>(t);
}

// Where tap_group rows of the input begin, and from a pixel to the next: 0 in the zero row.
struct Dw8Rows {
    const uint8_t* row[tap_group];
    ptrdiff_t step[tap_group];
};

// Rows [group * tap_group, ...) of the `rows` input rows from `top` on; those that are not there have no weight, and
// the first one of the group stands in.
LINNET_INLINE Dw8Rows dw8_rows(const DepthwiseS8& d, ptrdiff_t top, size_t rows, size_t group) {
    Dw8Rows to;
    for (size_t g = 0; g < (size_t)tap_group; ++g) {
        const size_t i = group * tap_group + (group * tap_group + g < rows ? g : 0);
        const ptrdiff_t h = top + (ptrdiff_t)(i * d.dilation_h);
        const bool inside = h >= 0 && h < (ptrdiff_t)d.in_h;
        to.row[g] = inside ? (const uint8_t*)d.x + h * d.x_row_stride : (const uint8_t*)d.zero;
        to.step[g] = inside ? d.x_stride : 0;
    }
    return to;
}

// Interleaves columns col, col + step ... of some rows, for the vectors of channels [v, end); out has those of a vector
// `vector` Taps before those of the next.
static __attribute__((noinline)) void dw8_interleave(const DepthwiseS8& d, const Dw8Rows& rows, ptrdiff_t col,
                                                     size_t step, size_t cols, size_t v, size_t end, Taps flip,
                                                     Taps* out, size_t vector) noexcept {
    const uint8_t* p[tap_group];
    const ptrdiff_t last = (ptrdiff_t)dw8_channel(end - 1, d.channels);
    for (size_t k = 0; k < cols; ++k, col += (ptrdiff_t)step, ++out) {
        const bool inside = col >= 0 && col < (ptrdiff_t)d.in_w;
        for (int g = 0; g < tap_group; ++g) p[g] = inside ? rows.row[g] + col * rows.step[g] : (const uint8_t*)d.zero;
        uint8_t copy[tap_group][lanes];
        if (d.channels < (size_t)lanes)
            for (int g = 0; g < tap_group; ++g) {
                copy_bytes(copy[g], p[g], d.channels);
                p[g] = copy[g];
            }
        Taps* o = out;
        ptrdiff_t c = (ptrdiff_t)(v * lanes);
        for (size_t i = v + 1; i < end; ++i, o += vector, c += lanes) *o = load_taps(p, c) ^ flip;
        *o = load_taps(p, last) ^ flip;
    }
}

// bias - x_zero * sum of the weights
LINNET_INLINE i32 dw8_init(const DepthwiseS8& d, int32_t x_zero, const char* vector, size_t c) {
    u32 v = (u32)splat_i(-x_zero) * (u32)load_i((const int32_t*)vector);
    if (d.bias) v = v + (u32)bits(load_some((const float*)(d.bias + c), d.channels - c));
    return (i32)v;
}

// The weights for an output row that lies `rows` below the one for which pixels have been interleaved.
LINNET_INLINE void dw8_shift(const TapWeight* w, size_t groups, size_t taps, size_t rows, u32* out) {
    const int down = (int)rows * (32 / tap_group), up = 32 - down;
    for (size_t g = 0; g < groups; ++g)
        for (size_t j = 0; j < taps; ++j) {
            u32 here, above{};
            __builtin_memcpy(&here, w + (g * taps + j) * taps_unit, sizeof here);
            if (g > 0) __builtin_memcpy(&above, w + ((g - 1) * taps + j) * taps_unit, sizeof above);
            *out++ = (here << down) | (above >> up);
        }
}

// Kernels of 3 x 3 at stride S, the commonest ones, without a detour over L1: dw8_wide columns of dw8_three_rows rows.
template <int S>
constexpr int dw8_three_rows = S == 1 && tap_group == 4 ? 2 : 1;  // share their pixels

struct Dw8Three {
    const uint8_t* const* in;  // [group of rows][input column][tap_group]
    ptrdiff_t at;              // the first channel of this call, added to every pointer
    const DepthwiseS8* d;
    int32_t x_zero;
    Taps flip;
    size_t vector, end;  // vectors of channels
    int32_t* sums;
    size_t ld, row;  // sums from a column and from a row to the next
};

template <int S, bool Flip>
static __attribute__((noinline)) void dw8_three(const Dw8Three& t) noexcept {
    constexpr int TC = dw8_wide, TR = dw8_three_rows<S>, IC = (TC - 1) * S + 3, groups = (2 + tap_group) / tap_group;
    constexpr size_t w_step = lanes * sizeof(int32_t) + groups * 3 * taps_unit * sizeof(TapWeight);
    const DepthwiseS8& d = *t.d;
    const size_t first = dw8_channel(t.vector, d.channels);
    const char* packed = (const char*)d.w + dw8_header + t.vector * w_step;
    for (size_t v = t.vector; v < t.end; ++v, packed += w_step) {
        const size_t c = dw8_channel(v, d.channels);
        const ptrdiff_t at = t.at + (ptrdiff_t)c;
        const TapWeight* taps = (const TapWeight*)(packed + lanes * sizeof(int32_t));
        i32 acc[TR][TC];
        const i32 init = dw8_init(d, t.x_zero, packed, c);
        unroll<TR>(LINNET_LAMBDA(r) { unroll<TC>(LINNET_LAMBDA(q) { acc[r][q] = init; }); });
        unroll<groups>(LINNET_LAMBDA(g) {
            TapWeights wv[TR][3];
            unroll<3>(LINNET_LAMBDA(j) {
                wv[0][j] = load_tap_weights(taps + (g * 3 + j) * taps_unit);
                if constexpr (TR == 2) wv[1][j] = (TapWeights)((u32)wv[0][j] << 8);
            });
            unroll<IC>(LINNET_LAMBDA(k) {
                const uint8_t* const* p = t.in + (g * IC + k) * tap_group;
                Taps x;
                if constexpr (3 - g * tap_group == 1) x = load_one_tap(*p + at);
                else x = load_taps(p, at);
                if constexpr (Flip) x = x ^ t.flip;
                unroll<3>(LINNET_LAMBDA(j) {
                    if constexpr (k >= j && (k - j) % S == 0 && (k - j) / S < TC)
                        unroll<TR>(
                            LINNET_LAMBDA(r) { acc[r][(k - j) / S] = dot_taps(acc[r][(k - j) / S], x, wv[r][j]); });
                });
            });
        });
        unroll<TR>(LINNET_LAMBDA(r) {
            int32_t* sums = t.sums + r * t.row + (c - first);
            unroll<TC>(LINNET_LAMBDA(q) { store_i(sums + q * t.ld, acc[r][q]); });
        });
    }
}

template <int S>
static __attribute__((noinline)) void dw8_three_by_three(const DepthwiseS8& d, size_t row_begin, size_t row_end,
                                                         bool flip, int32_t x_zero) noexcept {
    constexpr size_t TC = dw8_wide, TR = dw8_three_rows<S>, IC = (TC - 1) * S + 3, groups = (2 + tap_group) / tap_group;
    const uint8_t* in[groups * IC * tap_group];
    int32_t sums[dw8_sums + lanes];
    const size_t vectors = (d.channels + lanes - 1) / lanes, most = dw8_sums / (TR * TC * lanes);
    Dw8Three t;
    t.in = in;
    t.d = &d;
    t.x_zero = x_zero;
    t.flip = tap_flip(flip);
    for (size_t oh = row_begin; oh < row_end; oh += TR) {
        const size_t height = row_end - oh < TR ? row_end - oh : TR, rows = (height - 1) * S + 3;
        const ptrdiff_t top = (ptrdiff_t)(oh * S) - d.pad_top;
        const bool inside = top >= 0 && top + (ptrdiff_t)((rows - 1) * d.dilation_h) < (ptrdiff_t)d.in_h;
        for (size_t ow = 0, cols; ow < d.out_w; ow += cols) {
            const ptrdiff_t left = (ptrdiff_t)(ow * S) - d.pad_left;
            for (size_t g = 0; g < groups; ++g) {
                const Dw8Rows from = dw8_rows(d, top, rows, g);
                for (size_t k = 0; k < IC; ++k) {
                    const ptrdiff_t col = left + (ptrdiff_t)k;
                    for (size_t i = 0; i < (size_t)tap_group; ++i)
                        in[(g * IC + k) * tap_group + i] = col >= 0 && col < (ptrdiff_t)d.in_w
                                                               ? from.row[i] + col * from.step[i]
                                                               : (const uint8_t*)d.zero;
                }
            }
            // Tiles inside the image differ by a constant step.
            size_t count = 1;
            if (inside && left >= 0)
                while (ow + (count + 1) * TC <= d.out_w && (count + 1) * vectors <= most &&
                       left + (ptrdiff_t)(count * TC * S + IC) <= (ptrdiff_t)d.in_w)
                    ++count;
            cols = d.out_w - ow < count * TC ? d.out_w - ow : count * TC;
            const size_t chunk = count > 1 ? vectors : most;
            for (size_t v = 0; v < vectors; v = t.end) {
                t.vector = v;
                t.end = v + chunk < vectors ? v + chunk : vectors;
                t.ld = (t.end - v) * lanes;
                t.row = count * TC * t.ld;
                for (size_t i = 0; i < count; ++i) {
                    t.at = (ptrdiff_t)(i * TC * S) * d.x_stride;
                    t.sums = sums + i * TC * t.ld;
                    if (flip) dw8_three<S, true>(t);
                    else dw8_three<S, false>(t);
                }
                const size_t begin = v * lanes, last = t.end * lanes < d.channels ? t.end * lanes : d.channels;
                for (size_t r = 0; r < height; ++r)
                    bytes_block(
                        d.bytes, (oh + r) * d.out_w + ow, cols, begin, last - begin,
                        sums + r * t.row + (begin - dw8_channel(v, d.channels)), t.ld,
                        (uint8_t*)d.y + (ptrdiff_t)(oh + r) * d.y_row_stride + (ptrdiff_t)ow * d.y_stride + begin,
                        d.y_stride);
            }
        }
    }
}

static void depthwise_s8(const DepthwiseS8& d, size_t row_begin, size_t row_end) noexcept {
    Taps x[dw8_units];
    int32_t sums[dw8_sums + lanes], offsets[dw8_units], header;
    u32 shifted[dw8_shifted];
    __builtin_memcpy(&header, d.w, sizeof header);
    const size_t parts = (size_t)header, taps = d.kernel_w, packed = dw8_groups(d.kernel_h), units = packed * taps;
    const size_t vectors = (d.channels + lanes - 1) / lanes, w_step = dw8_vector(units, parts);
    const bool flip = d.x_signed != taps_are_signed;
    const int32_t x_zero = d.x_zero + (!flip ? 0 : taps_are_signed ? -128 : 128);
    if (d.kernel_h == 3 && taps == 3 && d.dilation_w == 1 && parts == 1 && d.channels >= (size_t)lanes &&
        d.stride_w == d.stride_h && d.stride_w <= 2 &&
        5 * d.out_w >= 4 * dw8_wide * ((d.out_w + dw8_wide - 1) / dw8_wide))
        return (d.stride_w == 1 ? dw8_three_by_three<1> : dw8_three_by_three<2>)(d, row_begin, row_end, flip, x_zero);
    const auto span_of = [&](size_t cols) { return (cols - 1) * d.stride_w + (taps - 1) * d.dilation_w + 1; };
    // What does not fit into x, not even for one tile, is done tap by tap.
    const bool by_taps = packed * span_of(dw8_wide) > dw8_units;
    // Rows of a block: those whose taps lie in no more groups than those of the first one.
    size_t most_rows = 1;
    if (!by_taps && d.dilation_h == 1 && units <= dw8_shifted)
        while (most_rows < dw8_rows_at_once && dw8_groups(most_rows * d.stride_h % tap_group + d.kernel_h) == packed &&
               dw8_groups(most_rows * d.stride_h + d.kernel_h) * span_of(dw8_wide) <= dw8_units)
            ++most_rows;
    Dw8Dots t;
    t.offsets = offsets;
    t.col_step = (ptrdiff_t)((by_taps ? 1 : d.stride_w) * sizeof(Taps));
    for (size_t oh = row_begin, height; oh < row_end; oh += height) {
        height = row_end - oh < most_rows ? row_end - oh : most_rows;
        const ptrdiff_t top = (ptrdiff_t)(oh * d.stride_h) - d.pad_top;
        const size_t rows = (height - 1) * d.stride_h + d.kernel_h, groups = dw8_groups(rows);
        for (size_t ow = 0, cols; ow < d.out_w; ow += cols) {
            // As wide as leaves room for enough channels to fill bytes_block's vectors.
            size_t width, span, vector, chunk;  // columns of sums and of x; Taps of a vector; vectors at once
            Dw8Tiles tiles(0);
            for (size_t most = by_taps ? (size_t)dw8_wide : dw8_cols;; most /= 2) {
                cols = d.out_w - ow < most ? d.out_w - ow : most;
                tiles = Dw8Tiles(cols);
                width = tiles.cols();
                span = by_taps ? width : span_of(width);
                vector = (by_taps ? 1 : groups) * span;
                const size_t sums_fit = dw8_sums / (height * width * lanes), x_fit = dw8_units / vector;
                chunk = sums_fit < x_fit ? sums_fit : x_fit;
                if (chunk >= 4) chunk = chunk / 4 * 4;
                if (chunk >= 4 || chunk >= vectors || most <= (size_t)dw8_wide) break;
            }
            const ptrdiff_t left = (ptrdiff_t)(ow * d.stride_w) - d.pad_left;
            for (size_t u = 0; u < units; ++u)
                offsets[u] = by_taps ? 0 : (int32_t)((u / taps * span + u % taps * d.dilation_w) * sizeof(Taps));
            for (size_t v = 0, end; v < vectors; v = end) {
                end = v + chunk < vectors ? v + chunk : vectors;
                // The last vector may not be added a second time to what it shares with the one before it.
                if ((by_taps || parts > 1) && end == vectors && end > v + 1) --end;
                const size_t first = dw8_channel(v, d.channels);
                t.ld = (end - v) * lanes;
                // `count` units of weights from `unit` on.
                const auto add = [&](size_t unit, size_t count) {
                    t.units = count;
                    t.more = unit > 0;
                    for (size_t i = v; i < end; ++i) {
                        const char* packed_vector = (const char*)d.w + dw8_header + i * w_step;
                        const TapWeight* w =
                            (const TapWeight*)(packed_vector + lanes * sizeof(int32_t)) + unit * taps_unit;
                        const size_t c = dw8_channel(i, d.channels);
                        t.init = dw8_init(d, x_zero, packed_vector, c);
                        size_t ready = 0;
                        for (size_t r = 0; r < height; ++r) {
                            const size_t down = r * d.stride_h, shift = down % tap_group;
                            if (shift != ready && shift > 0) dw8_shift(w, packed, taps, ready = shift, shifted);
                            t.w = shift > 0 ? (const TapWeight*)shifted : w;
                            t.x = (const char*)(x + (i - v) * vector + down / tap_group * span);
                            t.sums = sums + r * width * t.ld + (c - first);
                            dw8_columns(t, tiles);
                        }
                    }
                };
                if (by_taps) {
                    for (size_t unit = 0; unit < parts * units; ++unit) {
                        const Dw8Rows from = dw8_rows(d, top, rows, unit % units / taps);
                        dw8_interleave(d, from, left + (ptrdiff_t)(unit % taps * d.dilation_w), d.stride_w, cols, v,
                                       end, tap_flip(flip), x, vector);
                        add(unit, 1);
                    }
                } else {
                    for (size_t g = 0; g < groups; ++g)
                        dw8_interleave(d, dw8_rows(d, top, rows, g), left, 1, span_of(cols), v, end, tap_flip(flip),
                                       x + g * span, vector);
                    for (size_t part = 0; part < parts; ++part) add(part * units, units);
                }
                const size_t begin = v * lanes, last = end * lanes < d.channels ? end * lanes : d.channels;
                for (size_t r = 0; r < height; ++r)
                    bytes_block(
                        d.bytes, (oh + r) * d.out_w + ow, cols, begin, last - begin,
                        sums + r * width * t.ld + (begin - first), t.ld,
                        (uint8_t*)d.y + (ptrdiff_t)(oh + r) * d.y_row_stride + (ptrdiff_t)ow * d.y_stride + begin,
                        d.y_stride);
            }
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
