// Depthwise convolution: a register tile of output pixels, one vector of channels at a time. Input pixels that may lie
// in the padding are reached by pointers, to the zero row where they do: edges cost nothing and need no variants. Every
// output is one chain of multiply-adds in the order of the taps, those above and below the image left out, so that its
// bits do not depend on the tile it falls into.
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t dw_few = dw_cols / 2;  // fewest columns of a dw_run
constexpr size_t dw_any_cols = 12,
                 dw_partial_cols = 4;  // most columns of a dw_any, with less than a vector of channels
constexpr size_t dw_pixels = 1024;     // pointers of a tile
constexpr size_t dw_buffer = 4096;     // floats between two runs of an epilogue that is not free

static size_t pack_depthwise_f32_size(size_t taps, size_t channels) noexcept {
    return (channels + lanes - 1) / lanes * lanes * taps;
}

// Where a vector of channels begins. The last one overlaps the one before it rather than being partial.
LINNET_INLINE size_t dw_channel(size_t vector, size_t channels) {
    const size_t c = vector * lanes;
    return channels < (size_t)lanes || c + lanes <= channels ? c : channels - lanes;
}

// [vector of channels][tap][lanes]: one pointer reaches every tap of a vector.
static void pack_depthwise_f32(size_t taps, size_t channels, const float* w, ptrdiff_t tap_stride,
                               ptrdiff_t channel_stride, float* out) noexcept {
    for (size_t v = 0; v * lanes < channels; ++v)
        for (size_t t = 0; t < taps; ++t)
            for (size_t i = 0; i < (size_t)lanes; ++i) {
                const size_t c = dw_channel(v, channels) + i;
                *out++ = c < channels ? w[(ptrdiff_t)t * tap_stride + (ptrdiff_t)c * channel_stride] : 0.0f;
            }
}

// A tile of outputs, and how to reach the pixels it needs. Its columns are neighbours, or `phases` apart (DwPlan).
struct DwTile {
    const float* in[dw_pixels];  // [unit]...: a unit is a kernel row (dw_run) or a tap (dw_any)
    size_t units;
    ptrdiff_t in_col;    // from a column of the input to the next one that is needed
    bool inside;         // no column lies beside the image
    size_t channels;     // of this call: at least a vector, unless that is all there are
    ptrdiff_t at;        // the first of them
    const float* w;      // its packed taps of unit 0
    ptrdiff_t w_step;    // from a vector's to the next's
    const float* init;   // what sums begin with
    ptrdiff_t init_col;  // 0: one for all columns
    float* y;            // channel `at` of the first output
    ptrdiff_t y_row, y_col;
    float lo, hi;
    size_t count;  // tiles side by side, these apart
    ptrdiff_t in_step, y_step;
};

// p + I * step. x86 reaches 1, 2, 4 and 8 times a register without an instruction; GCC is kept from finding out that
// the four steps are multiples of one, which it would then compute again and again.
struct DwSteps {
    ptrdiff_t s1, s3, s5, s7;
    LINNET_MEMBER explicit DwSteps(ptrdiff_t bytes) {
        s1 = bytes;
        s3 = 3 * s1, s5 = 5 * s1, s7 = 7 * s1;
        __asm__("" : "+r"(s1), "+r"(s3), "+r"(s5), "+r"(s7));
    }
    template <int I, class T>
    LINNET_MEMBER const T* from(const T* p) const {
        const char* c = (const char*)p;
        if constexpr (I >= 8) return from<I - 8>((const T*)(c + 8 * s1));
        else if constexpr (I == 0) return p;
        else if constexpr (I % 7 == 0) return (const T*)(c + s7);
        else if constexpr (I % 5 == 0) return (const T*)(c + s5);
        else if constexpr (I % 3 == 0) return (const T*)(c + I / 3 * s3);
        else return (const T*)(c + I * s1);
    }
};

// TR x TC outputs, kernels J wide, stride S. Of the input columns, E at either end may lie in the padding: they have
// pointers of their own. A unit of the table, for each output row: the first column that cannot (null: the whole row is
// above or below the image), and those 2 E.
template <int J, int S, int TR, int TC>
static __attribute__((noinline)) void dw_run(const DwTile& t) noexcept {
    constexpr int IC = (TC - 1) * S + J, E = J / 2, entries = 1 + 2 * E;
    const size_t n = t.channels;
    const ptrdiff_t y_row = t.y_row, y_col = t.y_col;
    const f32 lo = splat(t.lo), hi = splat(t.hi);
    const DwSteps step(t.in_col * (ptrdiff_t)sizeof(float));
    for (size_t tile = 0; tile < t.count; ++tile) {
        const float* w = t.w;
        for (size_t c = 0; c < n; c += lanes, w += t.w_step) {
            if (c + lanes > n) c = n - lanes;
            const ptrdiff_t at = t.at + (ptrdiff_t)tile * t.in_step + (ptrdiff_t)c;
            f32 acc[TR][TC];
            const f32 bias = load(t.init + c);
            unroll<TR>(LINNET_LAMBDA(r) { unroll<TC>(LINNET_LAMBDA(q) { acc[r][q] = bias; }); });
            const float* const* in = t.in;
            const float* taps = w;
            for (size_t u = t.units; u; --u, in += TR * entries, taps += J * lanes)
                unroll<(J + dw_taps - 1) / dw_taps>(LINNET_LAMBDA(group) {
                    constexpr int from = group * dw_taps, G = J - from < dw_taps ? J - from : dw_taps;
                    f32 wv[G];
                    unroll<G>(LINNET_LAMBDA(g) {
                        wv[g] = load(taps + (from + g) * lanes);
                        keep(wv[g]);
                    });
                    unroll<TR>(LINNET_LAMBDA(r) {
                        const float* const* row = in + r * entries;
                        const float* middle = row[0];
                        if (!middle) return;
                        middle += at;
                        unroll<(TC - 1) * S + G>(LINNET_LAMBDA(k) {
                            constexpr int i = from + k;
                            const float* p;
                            if constexpr (i < E) p = row[1 + i] + at;
                            else if constexpr (i >= IC - E) p = row[1 + E + i - (IC - E)] + at;
                            else p = step.from<i - E>(middle);
                            f32 x = load(p);
                            if constexpr (S == 1 || (k & 1) == 0) keep(x);
                            unroll<G>(LINNET_LAMBDA(g) {
                                if constexpr (k >= g && (k - g) % S == 0 && (k - g) / S < TC)
                                    acc[r][(k - g) / S] = fma(x, wv[g], acc[r][(k - g) / S]);
                            });
                        });
                    });
                });
            float* y = t.y + (ptrdiff_t)tile * t.y_step + (ptrdiff_t)c;
            unroll<TR>(LINNET_LAMBDA(r) {
                float* o = y;
                unroll<TC>(LINNET_LAMBDA(q) {
                    store(o, clip(acc[r][q], lo, hi));
                    o += y_col;
                    __asm__("" : "+r"(o));
                });
                y += y_row;
            });
        }
    }
}

// Any kernel: tap by tap, one row. A unit of the table: the tap's pixel for each column (null as above).
template <bool Whole, int TC>
static __attribute__((noinline)) void dw_any(const DwTile& t) noexcept {
    const size_t n = t.channels;
    const f32 lo = splat(t.lo), hi = splat(t.hi);
    const DwSteps step(t.in_col * (ptrdiff_t)sizeof(float));
    const auto load_c = [n](const float* p) __attribute__((always_inline)) { return Whole ? load(p) : load_n(p, n); };
    for (size_t tile = 0; tile < t.count; ++tile) {
        const float* taps = t.w;
        for (size_t c = 0; c < n; c += lanes, taps += t.w_step) {
            if (Whole && c + lanes > n) c = n - lanes;
            const ptrdiff_t at = t.at + (ptrdiff_t)tile * t.in_step + (ptrdiff_t)c;
            f32 acc[TC];
            unroll<TC>(LINNET_LAMBDA(q) { acc[q] = load_c(t.init + (ptrdiff_t)c + q * t.init_col); });
            const float* const* in = t.in;
            const float* w = taps;
            for (size_t u = t.units; u; --u, in += TC, w += lanes) {
                if (!*in) continue;
                f32 wv = load(w);
                keep(wv);
                if (t.inside) {
                    const float* p = *in + at;
                    unroll<TC>(LINNET_LAMBDA(q) { acc[q] = fma(load_c(step.from<q>(p)), wv, acc[q]); });
                } else {
                    unroll<TC>(LINNET_LAMBDA(q) { acc[q] = fma(load_c(in[q] + at), wv, acc[q]); });
                }
            }
            float* y = t.y + (ptrdiff_t)tile * t.y_step + (ptrdiff_t)c;
            unroll<TC>(LINNET_LAMBDA(q) {
                const f32 v = clip(acc[q], lo, hi);
                if (Whole) store(y, v);
                else store_n(y, v, n);
                y += t.y_col;
            });
        }
    }
}

typedef void (*DwRun)(const DwTile&) noexcept;

// [rows - 1][columns - dw_few]
template <int J, int S>
struct DwRuns {
    static constexpr int count = dw_rows * (dw_cols - dw_few + 1);
    template <int I>
    static constexpr DwRun run =
        dw_run<J, S, I / (int)(dw_cols - dw_few + 1) + 1, I % (int)(dw_cols - dw_few + 1) + (int)dw_few>;
};
// [columns - 1]
template <bool Whole>
struct DwAny {
    static constexpr int count = Whole ? dw_any_cols : dw_partial_cols;
    template <int I>
    static constexpr DwRun run = dw_any<Whole, I + 1>;
};
template <class Runs, int N = Runs::count, int... I>
struct DwTable : DwTable<Runs, N - 1, N - 1, I...> {};
template <class Runs, int... I>
struct DwTable<Runs, 0, I...> {
    static constexpr DwRun of[] = {Runs::template run<I>...};
};

// How one layer is done. Dilated columns at stride 1 fall apart into `phases` images without dilation.
struct DwPlan {
    const DepthwiseF32& d;
    const DwRun* runs = DwTable<DwAny<true>>::of;
    size_t unit = 1, phases = 1;  // taps of a unit
    size_t piece = 0;             // units that fit into a tile's table
    bool direct = false;          // the epilogue is free
    bool any() const { return unit == 1; }
    size_t rows() const { return any() ? 1 : dw_rows; }
    size_t cols() const { return !any() ? dw_cols : d.channels < (size_t)lanes ? dw_partial_cols : dw_any_cols; }
    size_t units() const { return d.kernel_h * (d.kernel_w / unit); }
    size_t entries(size_t rows, size_t cols) const { return any() ? cols : rows * (1 + d.kernel_w / 2 * 2); }
    DwRun run(size_t rows, size_t cols) const {
        return any() ? runs[cols - 1] : runs[(rows - 1) * (dw_cols - dw_few + 1) + cols - dw_few];
    }
};

static const DwRun* dw_fixed(const DepthwiseF32& d) noexcept {
    const size_t k = d.kernel_w, s = d.stride_w;
    // dw_run's conditions: little padding, rows of some length, and a table that holds all units.
    const ptrdiff_t edge = (ptrdiff_t)(k / 2 * d.dilation_w);
    const ptrdiff_t span = (ptrdiff_t)((d.out_w - 1) * s + (k - 1) * d.dilation_w + 1);
    if (d.channels < (size_t)lanes || d.pad_left > edge || span - d.pad_left - (ptrdiff_t)d.in_w > edge ||
        d.out_w / d.dilation_w < dw_few || d.kernel_h * dw_rows * (1 + k / 2 * 2) > dw_pixels)
        return nullptr;
    if (k == 3 && s == 1) return DwTable<DwRuns<3, 1>>::of;
    if (k == 5 && s == 1) return DwTable<DwRuns<5, 1>>::of;
    if (k == 7 && s == 1) return DwTable<DwRuns<7, 1>>::of;
    if (k == 3 && s == 2 && d.dilation_w == 1) return DwTable<DwRuns<3, 2>>::of;
    if (k == 5 && s == 2 && d.dilation_w == 1) return DwTable<DwRuns<5, 2>>::of;
    return nullptr;
}

static DwPlan dw_plan(const DepthwiseF32& d, const Program& p) noexcept {
    DwPlan plan{d};
    if (const DwRun* runs = dw_fixed(d)) {
        plan.runs = runs;
        plan.unit = d.kernel_w;
        plan.phases = d.dilation_w;
    } else if (d.channels < (size_t)lanes) {
        plan.runs = DwTable<DwAny<false>>::of;
    }
    const size_t units = plan.units(), most = dw_pixels / plan.entries(plan.rows(), plan.cols());
    plan.piece = units < most ? units : most;
    plan.direct = p.rest_count == 0 && !p.add;
    return plan;
}

// Fills the table with units [begin, begin + t.units) of outputs (oh.., ow, ow + phases ..).
static void dw_place(const DwPlan& plan, DwTile& t, size_t oh, size_t ow, size_t rows, size_t cols,
                     size_t begin) noexcept {
    const DepthwiseF32& d = plan.d;
    const size_t k = d.kernel_w, row_units = k / plan.unit, edge = k / 2;
    const ptrdiff_t step = (ptrdiff_t)(plan.any() ? d.stride_w : plan.phases);
    const float** in = t.in;
    for (size_t u = begin; u < begin + t.units; ++u)
        for (size_t r = 0; r < rows; ++r) {
            const ptrdiff_t ih = (ptrdiff_t)((oh + r) * d.stride_h + u / row_units * d.dilation_h) - d.pad_top;
            const ptrdiff_t iw = (ptrdiff_t)(ow * d.stride_w + u % row_units * d.dilation_w) - d.pad_left;
            const bool outside = ih < 0 || ih >= (ptrdiff_t)d.in_h;
            const float* x = d.x + ih * d.x_row_stride;
            const auto pixel = [&](size_t i) {
                const ptrdiff_t at = iw + (ptrdiff_t)i * step;
                return at < 0 || at >= (ptrdiff_t)d.in_w ? d.zero : x + at * d.x_stride;
            };
            const float** entry = in;
            in += plan.entries(1, cols);
            if (outside) {
                *entry = nullptr;
                continue;
            }
            if (plan.any()) {
                for (size_t i = 0; i < cols; ++i) entry[i] = pixel(i);
                continue;
            }
            entry[0] = x + (iw + (ptrdiff_t)edge * step) * d.x_stride;
            for (size_t i = 0; i < edge; ++i) {
                entry[1 + i] = pixel(i);
                entry[1 + edge + i] = pixel((cols - 1) * d.stride_w + k - edge + i);
            }
        }
}

// Outputs of rows oh.. and columns ow, ow + phases .. of t.count tiles, all channels.
static void dw_outputs(const DwPlan& plan, const Program& p, DwTile& t, size_t oh, size_t ow, size_t rows,
                       size_t cols) noexcept {
    const DepthwiseF32& d = plan.d;
    const bool direct = plan.direct;
    const size_t width = t.count * cols;
    const size_t units = plan.units(), channels = d.channels, vectors = (channels + lanes - 1) / lanes;
    // Vectors of channels of one call.
    const size_t chunk = direct ? vectors : dw_buffer / (rows * width * lanes);
    float buffer[dw_buffer];
    for (size_t v = 0, next; v < vectors; v = next) {
        next = v + chunk < vectors ? v + chunk : vectors;
        // The last vector's channels may not be added to a second time.
        if (plan.piece < units && next == vectors && next > v + 1) --next;
        const size_t c = dw_channel(v, channels), end = next * lanes < channels ? next * lanes : channels;
        float* y = d.y + (ptrdiff_t)oh * d.y_row_stride + (ptrdiff_t)ow * d.y_stride + c;
        t.at = (ptrdiff_t)c;
        t.channels = end - c;
        t.y = direct ? y : buffer;
        t.y_col = direct ? (ptrdiff_t)plan.phases * d.y_stride : (ptrdiff_t)t.channels;
        t.y_row = direct ? d.y_row_stride : t.y_col * (ptrdiff_t)width;
        t.y_step = t.y_col * (ptrdiff_t)cols;
        for (size_t u = 0; u < units; u += plan.piece) {
            t.units = units - u < plan.piece ? units - u : plan.piece;
            if (v == 0 || plan.piece < units) dw_place(plan, t, oh, ow, rows, cols, u);
            t.w = d.w + (ptrdiff_t)v * t.w_step + u * plan.unit * lanes;
            t.init = u ? t.y : (p.bias ? p.bias : d.zero) + c;
            t.init_col = u ? t.y_col : 0;
            const bool last = direct && u + t.units == units;
            t.lo = last ? p.lo : -__builtin_inff();
            t.hi = last ? p.hi : __builtin_inff();
            plan.run(rows, cols)(t);
        }
        if (direct) continue;
        const size_t done = v * lanes - c, at_once = plan.phases == 1 ? width : 1;  // channels of the vector before
        for (size_t r = 0; r < rows; ++r)
            for (size_t q = 0; q < width; q += at_once)
                finish(p, (oh + r) * d.out_w + ow + q * plan.phases, at_once, c + done, t.channels - done,
                       buffer + (r * width + q) * t.channels + done, t.channels,
                       y + (ptrdiff_t)r * d.y_row_stride + (ptrdiff_t)(q * plan.phases) * d.y_stride + done,
                       d.y_stride);
    }
}

static void depthwise_f32(const DepthwiseF32& d, size_t row_begin, size_t row_end) noexcept {
    if (d.channels == 0 || d.out_w == 0 || row_begin >= row_end) return;
    const Program p = parse(d.epilogue);
    const DwPlan plan = dw_plan(d, p);
    const size_t step = plan.phases * d.stride_w;  // input columns between two of a tile
    DwTile t;
    t.w_step = (ptrdiff_t)(d.kernel_h * d.kernel_w * lanes);
    t.in_col = (ptrdiff_t)(plan.any() ? d.stride_w : plan.phases) * d.x_stride;
    const size_t height = row_end - row_begin, bands = (height + plan.rows() - 1) / plan.rows();
    for (size_t band = 0, oh = row_begin; band < bands; ++band) {
        const size_t rows = height / bands + (band < height % bands);
        for (size_t phase = 0; phase < plan.phases; ++phase) {
            const size_t width = (d.out_w - phase + plan.phases - 1) / plan.phases;
            const size_t tiles = (width + plan.cols() - 1) / plan.cols(), wide = width % tiles;  // one column wider
            for (size_t tile = 0, ow = phase; tile < tiles;) {
                const size_t cols = width / tiles + (tile < wide), alike = tile < wide ? wide : tiles;
                const size_t span = (cols - 1) * step + (d.kernel_w - 1) * d.dilation_w + 1;
                const ptrdiff_t left = (ptrdiff_t)(ow * d.stride_w) - d.pad_left;
                const auto fits = [&](size_t n) {
                    return left + (ptrdiff_t)(n * cols * step + span) <= (ptrdiff_t)d.in_w;
                };
                // Tiles inside the image differ by a constant step.
                t.inside = left >= 0 && fits(0);
                t.count = 1;
                const size_t least = d.channels < (size_t)lanes ? (size_t)lanes : d.channels;
                const size_t most = plan.direct ? alike : dw_buffer / (rows * cols * least);
                if (t.inside && plan.piece == plan.units())
                    while (tile + t.count < alike && t.count < most && fits(t.count)) ++t.count;
                t.in_step = (ptrdiff_t)(cols * step) * d.x_stride;
                dw_outputs(plan, p, t, oh, ow, rows, cols);
                ow += t.count * cols * plan.phases;
                tile += t.count;
            }
        }
        oh += rows;
    }
}

}  // namespace linnet::kernels::LINNET_ISA
