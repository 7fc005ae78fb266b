// Depthwise convolution on bytes. Taps are taken in groups of kernel rows: tap_group pixels above each other are
// interleaved, so that one instruction multiplies and adds them for a vector of channels. Input pixels are reached by
// pointers, to the zero row where they lie in the padding. Sums of some output pixels and channels lie in L1 until
// bytes_block has made them bytes.
#pragma once

#include "kernels/to_bytes.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t taps_unit = (size_t)tap_group * lanes;  // weights of a group
constexpr size_t dw8_header = 64;                        // bytes: how many `parts` there are
constexpr size_t dw8_sums = 4096;                        // int32 sums in L1
constexpr int dw8_cols = 7;                              // of a tile; sides are often multiples of it
constexpr int dw8_few_cols = 4;

// Weights beyond s8 are split into as many parts that are s8, if weights are bytes.
LINNET_INLINE size_t dw8_parts(bool wide) { return wide && sizeof(TapWeight) == 1 ? 3 : 1; }
LINNET_INLINE size_t dw8_units(size_t kernel_h, size_t kernel_w) {
    return (kernel_h + tap_group - 1) / tap_group * kernel_w;
}
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
    return dw8_header + (channels + lanes - 1) / lanes * dw8_vector(dw8_units(kernel_h, kernel_w), dw8_parts(wide));
}

// Header, then for each vector of channels [sums][part][group of rows][column][lanes][tap_group].
static void pack_depthwise_s8(size_t kernel_h, size_t kernel_w, size_t channels, bool wide, const int16_t* w,
                              ptrdiff_t tap_stride, ptrdiff_t channel_stride, void* out) noexcept {
    const size_t units = dw8_units(kernel_h, kernel_w), parts = dw8_parts(wide);
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

// Output pixels side by side and some of their channels.
struct Dw8Tile {
    const uint8_t* const* in;  // see dw8_run, dw8_any
    ptrdiff_t at;              // channel of the first vector, added to every pointer
    size_t channels;           // of this call: at least a vector, unless that is all there are
    const char* w;             // the first vector
    size_t w_step;             // from a vector to the next
    const int32_t* bias;
    int32_t x_zero;  // as the taps are
    Taps flip;
    int32_t* sums;  // [cols][ld]
    size_t ld;
};

// bias - x_zero * sum of the weights
LINNET_INLINE i32 dw8_init(const Dw8Tile& t, const char* w, size_t c) {
    u32 v = (u32)splat_i(-t.x_zero) * (u32)load_i((const int32_t*)w);
    if (t.bias) v = v + (u32)bits(load_some((const float*)(t.bias + c), t.channels - c));
    return (i32)v;
}

// K x K kernels of one part, stride S, TC columns. in: [group of rows][input column][tap_group].
template <int K, int S, int TC>
static __attribute__((noinline)) void dw8_run(const Dw8Tile& t) noexcept {
    constexpr int IC = (TC - 1) * S + K, groups = (K + tap_group - 1) / tap_group;
    const char* w = t.w;
    for (size_t c = 0; c < t.channels; c += lanes, w += t.w_step) {
        if (c + lanes > t.channels) c = t.channels - lanes;
        const ptrdiff_t at = t.at + (ptrdiff_t)c;
        const TapWeight* taps = (const TapWeight*)(w + lanes * sizeof(int32_t));
        const Taps flip = t.flip;
        i32 acc[TC];
        const i32 init = dw8_init(t, w, c);
        unroll<TC>(LINNET_LAMBDA(q) { acc[q] = init; });
        unroll<groups>(LINNET_LAMBDA(g) {
            TapWeights wv[K];
            unroll<K>(LINNET_LAMBDA(j) { wv[j] = load_tap_weights(taps + (g * K + j) * taps_unit); });
            unroll<IC>(LINNET_LAMBDA(k) {
                const uint8_t* const* p = t.in + (g * IC + k) * tap_group;
                Taps x;
                if constexpr (K - g * tap_group == 1) x = load_one_tap(*p + at) ^ flip;
                else x = load_taps(p, at) ^ flip;
                unroll<K>(LINNET_LAMBDA(j) {
                    if constexpr (k >= j && (k - j) % S == 0 && (k - j) / S < TC)
                        acc[(k - j) / S] = dot_taps(acc[(k - j) / S], x, wv[j]);
                });
            });
        });
        unroll<TC>(LINNET_LAMBDA(q) { store_i(t.sums + q * t.ld + c, acc[q]); });
    }
}

// One group of taps of any kernel for dw8_few_cols columns: added to their sums, or, if it is the first one, begun
// with. in: [column][tap_group].
static __attribute__((noinline)) void dw8_any(const Dw8Tile& t, size_t unit) noexcept {
    constexpr size_t skip = lanes * sizeof(int32_t);
    const char* w = t.w;
    for (size_t c = 0; c < t.channels; c += lanes, w += t.w_step) {
        const TapWeights wv = load_tap_weights((const TapWeight*)(w + skip) + unit * taps_unit);
        const i32 init = unit == 0 ? dw8_init(t, w, c) : splat_i(0);
        const size_t left = t.channels - c;  // less than a vector only where there are no more channels than that
        unroll<dw8_few_cols>(LINNET_LAMBDA(q) {
            int32_t* sums = t.sums + (size_t)q * t.ld + c;
            const i32 acc = unit == 0 ? init : load_i(sums);
            const uint8_t* const* p = t.in + q * tap_group;
            Taps x;
            if (left >= (size_t)lanes) {
                x = load_taps(p, t.at + (ptrdiff_t)c);
            } else {
                uint8_t copy[tap_group][lanes] = {};
                const uint8_t* copies[tap_group];
                for (int g = 0; g < tap_group; ++g) {
                    copies[g] = copy[g];
                    copy_bytes(copy[g], p[g] + t.at, left);
                }
                x = load_taps(copies, 0);
            }
            store_i(sums, dot_taps(acc, x ^ t.flip, wv));
        });
    }
}

typedef void (*Dw8Run)(const Dw8Tile&) noexcept;

// The kernels that have a run of their own, else null.
static Dw8Run dw8_fixed(const DepthwiseS8& d, bool few) noexcept {
    const size_t k = d.kernel_w, s = d.stride_w;
    if (d.kernel_h != k || d.dilation_w != 1 || d.channels < (size_t)lanes) return nullptr;
    if (k == 3 && s == 1) return few ? dw8_run<3, 1, dw8_few_cols> : dw8_run<3, 1, dw8_cols>;
    if (k == 3 && s == 2) return few ? dw8_run<3, 2, dw8_few_cols> : dw8_run<3, 2, dw8_cols>;
    if (k == 5 && s == 1) return few ? dw8_run<5, 1, dw8_few_cols> : dw8_run<5, 1, dw8_cols>;
    if (k == 5 && s == 2) return few ? dw8_run<5, 2, dw8_few_cols> : dw8_run<5, 2, dw8_cols>;
    return nullptr;
}

// in: [column of the input][tap_group] for rows from `row` and `cols` columns `step` apart from `col` on.
static void dw8_place(const DepthwiseS8& d, const uint8_t** in, size_t group, ptrdiff_t row, ptrdiff_t col, size_t cols,
                      size_t step) noexcept {
    for (size_t g = 0; g < (size_t)tap_group; ++g) {
        const size_t i = group * tap_group + g;
        // Rows that the kernel lacks have no weight: the group's first one stands in.
        const ptrdiff_t ih = row + (ptrdiff_t)((i < d.kernel_h ? i : group * tap_group) * d.dilation_h);
        const bool inside = ih >= 0 && ih < (ptrdiff_t)d.in_h;
        for (size_t k = 0; k < cols; ++k) {
            const ptrdiff_t iw = col + (ptrdiff_t)(k * step);
            in[k * tap_group + g] = inside && iw >= 0 && iw < (ptrdiff_t)d.in_w
                                        ? (const uint8_t*)d.x + ih * d.x_row_stride + iw * d.x_stride
                                        : (const uint8_t*)d.zero;
        }
    }
}

static void depthwise_s8(const DepthwiseS8& d, size_t row_begin, size_t row_end) noexcept {
    constexpr size_t widest = (dw8_cols - 1) * 2 + 5, most_groups = (5 + tap_group - 1) / tap_group;
    const uint8_t* in[most_groups * widest * tap_group];
    int32_t sums[dw8_sums + lanes];
    int32_t header;
    __builtin_memcpy(&header, d.w, sizeof header);
    const size_t units = dw8_units(d.kernel_h, d.kernel_w), parts = (size_t)header, groups = units / d.kernel_w;
    const size_t vectors = (d.channels + lanes - 1) / lanes;
    const bool fixed = parts == 1 && dw8_fixed(d, true), flip = d.x_signed != taps_are_signed;
    Dw8Tile t;
    t.in = in;
    t.x_zero = d.x_zero + (!flip ? 0 : taps_are_signed ? -128 : 128);
    t.flip = tap_flip(flip);
    t.w_step = dw8_vector(units, parts);
    for (size_t oh = row_begin; oh < row_end; ++oh) {
        const ptrdiff_t row = (ptrdiff_t)(oh * d.stride_h) - d.pad_top;
        const bool rows_inside = row >= 0 && row + (ptrdiff_t)((d.kernel_h - 1) * d.dilation_h) < (ptrdiff_t)d.in_h;
        for (size_t ow = 0, done; ow < d.out_w; ow += done) {
            const auto wide = [&](size_t left) { return left > dw8_few_cols && left != 2 * dw8_few_cols; };
            const bool few = !fixed || !wide(d.out_w - ow);
            const size_t cols = few ? dw8_few_cols : dw8_cols, span = (cols - 1) * d.stride_w + d.kernel_w;
            const ptrdiff_t col = (ptrdiff_t)(ow * d.stride_w) - d.pad_left;
            // Tiles inside the image differ by a constant step.
            size_t count = 1;
            if (fixed && rows_inside && col >= 0)
                while (d.out_w - ow - count * cols >= cols && d.out_w - ow > count * cols &&
                       wide(d.out_w - ow - count * cols) != few &&
                       col + (ptrdiff_t)(count * cols * d.stride_w + span) <= (ptrdiff_t)d.in_w &&
                       (count + 1) * cols * vectors * lanes <= dw8_sums)
                    ++count;
            done = count * cols < d.out_w - ow ? count * cols : d.out_w - ow;
            if (fixed)
                for (size_t g = 0; g < groups; ++g) dw8_place(d, in + g * span * tap_group, g, row, col, span, 1);
            const size_t chunk = count > 1 ? vectors : dw8_sums / (cols * lanes);
            for (size_t v = 0, next; v < vectors; v = next) {
                next = v + chunk < vectors ? v + chunk : vectors;
                // The last vector may not be added a second time to what it shares with the one before it.
                if (!fixed && next == vectors && next > v + 1) --next;
                const size_t c = dw8_channel(v, d.channels),
                             end = next * lanes < d.channels ? next * lanes : d.channels;
                t.at = (ptrdiff_t)c;
                t.channels = end - c;
                t.w = (const char*)d.w + dw8_header + v * t.w_step;
                t.bias = d.bias ? d.bias + c : nullptr;
                t.ld = (next - v) * lanes;
                t.sums = sums;
                if (fixed) {
                    const Dw8Run run = dw8_fixed(d, few);
                    for (size_t i = 0; i < count; ++i) {
                        run(t);
                        t.at += (ptrdiff_t)(cols * d.stride_w) * d.x_stride;
                        t.sums += cols * t.ld;
                    }
                } else {
                    for (size_t u = 0; u < parts * units; ++u) {
                        const ptrdiff_t tap = (ptrdiff_t)(u % d.kernel_w * d.dilation_w);
                        dw8_place(d, in, u % units / d.kernel_w, row, col + tap, cols, d.stride_w);
                        dw8_any(t, u);
                    }
                }
                const size_t begin = v * lanes;
                bytes_block(d.bytes, oh * d.out_w + ow, done, begin, end - begin, sums + (begin - c), t.ld,
                            (uint8_t*)d.y + (ptrdiff_t)oh * d.y_row_stride + (ptrdiff_t)ow * d.y_stride + begin,
                            d.y_stride);
            }
        }
    }
}

}  // namespace linnet::kernels::LINNET_ISA
