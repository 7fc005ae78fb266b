// Kernels on bytes other than GEMM: elementwise, pools, depthwise convolution and Winograd's, against plain loops.
#include "kernels/selftest.h"

#include <algorithm>
#include <cstdlib>

namespace linnet::kernels::test {

int32_t as_byte(uint8_t x, bool is_signed) { return is_signed ? (int8_t)x : x; }

// volatile keeps each product and sum of floats a rounding of its own.
uint8_t reference_bytes(const ToBytes& t, int32_t sum, size_t row, size_t col) {
    volatile float x = (float)sum * t.scale[col];
    uint8_t q = rounded_byte(x, t.zero, t.lo, t.hi);
    if (t.table) q = t.table[q];
    if (t.add) {
        const uint8_t other = ((const uint8_t*)t.add)[(ptrdiff_t)row * t.add_stride + (ptrdiff_t)col];
        volatile float first = (float)(as_byte(q, t.is_signed) - t.own_zero) * t.own_scale;
        volatile float second = (float)(as_byte(other, t.is_signed) - t.add_zero) * t.add_scale;
        volatile float both = first + second;
        q = rounded_byte(both, t.sum_zero, t.sum_lo, t.sum_hi);
    }
    return q;
}

uint8_t rounded_byte(float x, int32_t zero, int32_t lo, int32_t hi) {
    const double q = std::nearbyint((double)x) + zero;
    return (uint8_t)(int32_t)std::min<double>(hi, std::max<double>(lo, q));
}

namespace {

int32_t some_byte(Random& rng, bool is_signed) { return (int32_t)rng.below(256) - (is_signed ? 128 : 0); }

// Bounds of a result: all values, or some.
void some_range(Random& rng, bool is_signed, int32_t& lo, int32_t& hi) {
    const int32_t a = some_byte(rng, is_signed), b = some_byte(rng, is_signed);
    const bool whole = rng.below(2) != 0;
    lo = whole ? (is_signed ? -128 : 0) : std::min(a, b);
    hi = whole ? (is_signed ? 127 : 255) : std::max(a, b);
}

Edged<uint8_t> random_bytes(Random& rng, size_t n, bool ends = false) {
    Edged<uint8_t> x(n);
    for (auto& v : x) v = ends ? (rng.below(2) ? 255 : 0) : (uint8_t)rng.next();
    return x;
}

// Something for sums of `channels` columns to become; a residual is `before`, of rows `stride` apart.
struct SomeBytes {
    Edged<float> scale;
    Edged<uint8_t> table = Edged<uint8_t>(256);
    ToBytes t;
    SomeBytes(Random& rng, size_t kind, size_t channels, float spread, const uint8_t* before, size_t stride)
        : scale(channels) {
        for (auto& x : scale) x = rng.below(20) == 0 ? 1e6f : rng.below(8) == 0 ? 0.5f : rng.uniform(0, spread);
        for (auto& x : table) x = (uint8_t)rng.next();
        t.scale = scale.data();
        t.is_signed = rng.below(2) != 0;
        t.zero = some_byte(rng, t.is_signed);
        some_range(rng, t.is_signed, t.lo, t.hi);
        if (kind & 1) t.table = table.data();
        if (!(kind & 2)) return;
        t.add = before;
        t.add_stride = (ptrdiff_t)stride;
        t.own_scale = rng.uniform(0, 2);
        t.add_scale = rng.uniform(0, 2);
        t.own_zero = some_byte(rng, t.is_signed);
        t.add_zero = some_byte(rng, t.is_signed);
        t.sum_zero = some_byte(rng, t.is_signed);
        some_range(rng, t.is_signed, t.sum_lo, t.sum_hi);
    }
};

void test_map_bytes(const Kernels& K, Tally& tally, Random& rng) {
    for (size_t n = 0; n < 300; n += n < 140 ? 1 : 41) {
        const auto x = random_bytes(rng, n), table = random_bytes(rng, 256);
        Guarded<uint8_t> y(n);
        K.map_bytes(n, x.data(), table.data(), y.data());
        bool ok = y.intact();
        for (size_t i = 0; i < n; ++i) ok = ok && y[i] == table[x[i]];
        tally.check(ok, name("map_bytes", {n}));
    }
    Edged<uint8_t> all(256);
    for (size_t i = 0; i < 256; ++i) all[i] = (uint8_t)i;
    auto table = random_bytes(rng, 256), y = all;
    K.map_bytes(256, y.data(), table.data(), y.data());
    tally.check(y == table, "map_bytes in place");
}

void test_pair_bytes(const Kernels& K, Tally& tally, Random& rng, bool multiply, size_t rows, size_t cols) {
    PairBytes p;
    p.rows = rows;
    p.cols = cols;
    p.a_step = rng.below(4) != 0;
    p.b_step = rng.below(4) != 0;
    p.a_signed = rng.below(2) != 0;
    p.b_signed = rng.below(2) != 0;
    p.y_signed = rng.below(2) != 0;
    const size_t a_width = p.a_step ? cols : 1, b_width = p.b_step ? cols : 1, ldy = cols + rng.below(3);
    p.a_stride = rng.below(3) ? (ptrdiff_t)(a_width + rng.below(3)) : 0;
    p.b_stride = rng.below(3) ? (ptrdiff_t)(b_width + rng.below(3)) : 0;
    p.y_stride = (ptrdiff_t)ldy;
    const bool ends = rng.below(4) == 0;
    const auto a = random_bytes(rng, (rows - 1) * (size_t)p.a_stride + a_width, ends),
               b = random_bytes(rng, (rows - 1) * (size_t)p.b_stride + b_width, ends);
    p.a = a.data();
    p.b = b.data();
    p.a_zero = some_byte(rng, p.a_signed);
    p.b_zero = some_byte(rng, p.b_signed);
    p.a_scale = rng.below(3) ? rng.uniform(0, multiply ? 0.02f : 1) : rng.below(2) ? 0.5f : 1e6f;
    p.b_scale = rng.below(3) ? rng.uniform(0, 1) : 0.5f;
    p.zero = some_byte(rng, p.y_signed);
    some_range(rng, p.y_signed, p.lo, p.hi);
    Guarded<uint8_t> y(rows * ldy);
    const bool in_place = p.a_step && (size_t)p.a_stride == ldy && rng.below(2);
    if (in_place) std::copy(a.begin(), a.end(), y.data()), p.a = y.data();
    p.y = y.data();
    (multiply ? K.mul_bytes : K.add_bytes)(p);
    bool ok = y.intact();
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = 0; c < ldy; ++c) {
            const uint8_t got = y[r * ldy + c];
            if (c >= cols) {
                ok = ok && (in_place || got == 77);
                continue;
            }
            const int32_t va = as_byte(a[r * (size_t)p.a_stride + c * p.a_step], p.a_signed) - p.a_zero;
            const int32_t vb = as_byte(b[r * (size_t)p.b_stride + c * p.b_step], p.b_signed) - p.b_zero;
            volatile float x = (float)(multiply ? va * vb : va) * p.a_scale;
            volatile float second = (float)vb * p.b_scale;
            if (!multiply) x = x + second;
            ok = ok && got == rounded_byte(x, p.zero, p.lo, p.hi);
        }
    tally.check(ok, name(multiply ? "mul_bytes" : "add_bytes",
                         {rows, cols, p.a_step, p.b_step, p.a_signed, p.b_signed, p.y_signed, in_place}));
}

void test_pool_bytes(const Kernels& K, Tally& tally, Random& rng, size_t pixels, size_t taps, size_t channels,
                     bool indirect) {
    PoolBytes p;
    p.pixels = pixels;
    p.taps = taps;
    p.channels = channels;
    p.x_signed = rng.below(2) != 0;
    p.y_signed = rng.below(2) != 0;
    p.count_include_pad = rng.below(2) != 0;
    const size_t stride = channels + rng.below(3), places = indirect ? pixels + taps : pixels * taps;
    p.x_stride = (ptrdiff_t)stride;
    const auto x = random_bytes(rng, (places - 1) * stride + channels, rng.below(4) == 0);
    Edged<int32_t> offsets(taps * pixels);
    for (size_t i = 0; i < offsets.size(); ++i) {
        const size_t kind = i % pixels == 0 ? 1 + rng.below(2) : rng.below(6);  // pixel 0: all padding
        offsets[i] = kind == 1 ? tap_padding : kind == 2 ? tap_outside : (int32_t)(rng.below(places) * stride);
        if (!indirect) offsets[i] = (int32_t)((i % pixels * taps + i / pixels) * stride);
    }
    p.x = x.data();
    if (indirect) {
        p.offsets = offsets.data();
        p.offsets_ld = pixels;
    }
    p.x_zero = some_byte(rng, p.x_signed);
    p.zero = some_byte(rng, p.y_signed);
    p.scale = rng.uniform(0, 2);
    some_range(rng, p.y_signed, p.lo, p.hi);
    const size_t ldy = channels + rng.below(3), middle = rng.below(pixels + 1);
    p.y_stride = (ptrdiff_t)ldy;
    for (const bool is_max : {true, false}) {
        if (is_max) p.y_signed = p.x_signed;
        else some_range(rng, p.y_signed, p.lo, p.hi), p.zero = some_byte(rng, p.y_signed);
        Guarded<uint8_t> y(pixels * ldy);
        p.y = y.data();
        const auto run = is_max ? K.max_pool_bytes : K.avg_pool_bytes;
        run(p, middle, pixels);
        run(p, 0, middle);
        bool ok = y.intact();
        for (size_t i = 0; i < pixels; ++i)
            for (size_t c = 0; c < ldy; ++c) {
                int32_t most = p.x_signed ? -128 : 0, sum = 0, count = 0;
                for (size_t t = 0; t < taps && c < channels; ++t) {
                    const int32_t o = offsets[t * pixels + i];
                    count += o >= 0 || (o == tap_padding && p.count_include_pad);
                    if (o < 0) continue;
                    const int32_t v = as_byte(x[(size_t)o + c], p.x_signed);
                    most = std::max(most, v);
                    sum += v - p.x_zero;
                }
                volatile float factor = p.scale / (float)std::max(count, 1);
                volatile float mean = (float)sum * factor;
                const uint8_t want = c >= channels ? 77
                                     : is_max      ? (uint8_t)most
                                                   : rounded_byte(mean, p.zero, p.lo, p.hi);
                ok = ok && y[i * ldy + c] == want;
            }
        tally.check(ok, name(is_max ? "max_pool_bytes" : "avg_pool_bytes",
                             {pixels, taps, channels, indirect, p.x_signed, p.y_signed}));
    }
}

struct DepthwiseCase {
    size_t in_h, in_w, channels, kernel_h, kernel_w, stride, dilation;
    ptrdiff_t pad;
    size_t more_stride = 0, more_dilation = 0;  // along rows
};

void test_depthwise_s8(const Kernels& K, Tally& tally, Random& rng, const DepthwiseCase& t, size_t kind) {
    const size_t taps = t.kernel_h * t.kernel_w;
    const auto out = [&](size_t in, size_t kernel, size_t stride, size_t dilation) {
        const ptrdiff_t room = (ptrdiff_t)in + 2 * t.pad - (ptrdiff_t)((kernel - 1) * dilation) - 1;
        return room < 0 ? 0 : (size_t)room / stride + 1;
    };
    DepthwiseS8 d;
    d.in_h = t.in_h;
    d.in_w = t.in_w;
    d.channels = t.channels;
    d.kernel_h = t.kernel_h;
    d.kernel_w = t.kernel_w;
    d.stride_w = t.stride;
    d.stride_h = t.stride + t.more_stride;
    d.dilation_w = t.dilation;
    d.dilation_h = t.dilation + t.more_dilation;
    d.out_h = out(t.in_h, t.kernel_h, d.stride_h, d.dilation_h);
    d.out_w = out(t.in_w, t.kernel_w, d.stride_w, d.dilation_w);
    d.pad_top = d.pad_left = t.pad;
    d.x_signed = rng.below(2) != 0;
    d.x_zero = some_byte(rng, d.x_signed);
    const size_t pixel = t.channels + rng.below(3), row = t.in_w * pixel + rng.below(5),
                 ldy = t.channels + rng.below(3), y_row = d.out_w * ldy + (kind & 2 ? 0 : rng.below(5));
    const bool wide = rng.below(3) == 0, extreme = rng.below(4) == 0;
    const auto x = random_bytes(rng, (t.in_h - 1) * row + (t.in_w - 1) * pixel + t.channels, extreme);
    Edged<int16_t> w(taps * t.channels);
    for (auto& v : w) {
        v = (int16_t)((int)rng.below(256) - 128);
        if (wide) v = (int16_t)((int)rng.below(511) - 255);
        if (extreme) v = (int16_t)(rng.below(2) ? (wide ? 255 : 127) : (wide ? -255 : -128));
    }
    const size_t size = K.pack_depthwise_s8_size(t.kernel_h, t.kernel_w, t.channels, wide);
    Edged<uint8_t> packed(size + 4, 77);
    uint8_t* const aligned = packed.data() + ((-(uintptr_t)packed.data()) & 3);
    K.pack_depthwise_s8(t.kernel_h, t.kernel_w, t.channels, wide, w.data(), 1, (ptrdiff_t)taps, aligned);
    tally.check(std::all_of(aligned + size, packed.data() + size + 4, [](uint8_t v) { return v == 77; }),
                name("pack_depthwise_s8 writes outside", {t.kernel_h, t.kernel_w, t.channels}));
    const Edged<uint8_t> zero(t.channels, (uint8_t)d.x_zero);
    Edged<int32_t> bias(t.channels);
    for (auto& v : bias) v = (int32_t)rng.below(20000) - 10000;
    d.x = x.data();
    d.x_row_stride = (ptrdiff_t)row;
    d.x_stride = (ptrdiff_t)pixel;
    d.w = aligned;
    d.zero = zero.data();
    d.bias = rng.below(4) ? bias.data() : nullptr;
    Guarded<uint8_t> y(d.out_h * y_row);
    for (size_t i = 0; i < y.size(); ++i) y[i] = (uint8_t)rng.next();
    const std::vector<uint8_t> before(y.data(), y.data() + y.size());
    SomeBytes bytes(rng, kind, t.channels, 400.0f / (float)(1 + taps * 4000), before.data(), ldy);
    d.bytes = bytes.t;
    if (d.bytes.add && rng.below(2)) d.bytes.add = y.data();
    d.y = y.data();
    d.y_row_stride = (ptrdiff_t)y_row;
    d.y_stride = (ptrdiff_t)ldy;
    const size_t middle = rng.below(d.out_h + 1);
    K.depthwise_s8(d, middle, d.out_h);
    K.depthwise_s8(d, 0, middle);
    bool ok = y.intact();
    for (size_t oh = 0; oh < d.out_h; ++oh)
        for (size_t at = 0; at < y_row; ++at) {
            const size_t ow = at / ldy, c = at % ldy, i = oh * y_row + at;
            if (ow >= d.out_w || c >= t.channels) {
                ok = ok && y[i] == before[i];
                continue;
            }
            int32_t sum = d.bias ? bias[c] : 0;
            for (size_t k = 0; k < taps; ++k) {
                const ptrdiff_t ih = (ptrdiff_t)(oh * d.stride_h + k / t.kernel_w * d.dilation_h) - t.pad;
                const ptrdiff_t iw = (ptrdiff_t)(ow * t.stride + k % t.kernel_w * t.dilation) - t.pad;
                if (ih < 0 || iw < 0 || ih >= (ptrdiff_t)t.in_h || iw >= (ptrdiff_t)t.in_w) continue;
                const size_t from = (size_t)ih * row + (size_t)iw * pixel + c;
                sum += (as_byte(x[from], d.x_signed) - d.x_zero) * w[c * taps + k];
            }
            ok = ok && y[i] == reference_bytes(bytes.t, sum, oh * d.out_w + ow, c);
        }
    tally.check(ok, name("depthwise_s8", {t.in_h, t.in_w, t.channels, t.kernel_h, t.kernel_w, t.stride, t.dilation,
                                          (size_t)t.pad, d.x_signed, wide, extreme, kind}));
}

// extreme: inputs and weights at their ends, those of m = 4 only while their sum stays in its bound.
void test_winograd_s8(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t side_h, size_t side_w, size_t k,
                      size_t n, bool extreme, size_t kind) {
    WinogradS8 w;
    w.m = m;
    w.k = k;
    w.n = n;
    w.x_signed = rng.below(2) != 0;
    w.x_zero = extreme ? (w.x_signed ? -128 : 0) : some_byte(rng, w.x_signed);
    auto x = random_bytes(rng, side_h * side_w * k, rng.below(2) != 0);
    if (extreme && rng.below(2)) std::fill(x.begin(), x.end(), (uint8_t)(w.x_signed ? 127 : 255));
    const Edged<uint8_t> zero(k, (uint8_t)w.x_zero);
    Edged<int8_t> filters(n * k * 9);
    const int8_t end = rng.below(2) ? 127 : -128;
    for (auto& v : filters) v = extreme ? end : (int8_t)rng.next();
    if (m == 4)
        for (size_t c = 0; c < n; ++c) {
            int32_t left = WinogradS8::max_weights;
            for (size_t i = 0; i < k * 9; ++i) {
                int8_t& v = filters[c * k * 9 + i];
                if (std::abs((int)v) > left) v = (int8_t)(v < 0 ? -left : left);
                left -= std::abs((int)v);
            }
        }
    Edged<int32_t> bias(n);
    for (auto& v : bias) v = (int32_t)rng.below(20000) - 10000;
    const size_t panels = (n + K.winograd_s8_cols - 1) / K.winograd_s8_cols, size = K.pack_winograd_s8_size(m, k, n);
    Edged<int32_t> packed(size / 4 + 1, 77);
    K.pack_winograd_s8(m, k, n, filters.data(), packed.data(), 0, panels);
    tally.check(packed.back() == 77, name("pack_winograd_s8 writes outside", {k, n}));

    const size_t tiles_h = (side_h + m - 1) / m, tiles_w = (side_w + m - 1) / m, in = m + 2, ldy = n + rng.below(3);
    w.tiles = tiles_h * tiles_w;
    std::vector<const void*> pixels(w.tiles * in * in);
    std::vector<int32_t> rows(w.tiles * m * m);
    for (size_t tile = 0; tile < w.tiles; ++tile)
        for (size_t i = 0; i < in * in; ++i) {
            const ptrdiff_t h = (ptrdiff_t)(tile / tiles_w * m + i / in) - 1,
                            v = (ptrdiff_t)(tile % tiles_w * m + i % in) - 1;
            const bool inside = h >= 0 && v >= 0 && h < (ptrdiff_t)side_h && v < (ptrdiff_t)side_w;
            pixels[tile * in * in + i] = inside ? x.data() + ((size_t)h * side_w + (size_t)v) * k : zero.data();
            if (i >= m * m) continue;
            const size_t oh = tile / tiles_w * m + i / m, ow = tile % tiles_w * m + i % m;
            rows[tile * m * m + i] = oh < side_h && ow < side_w ? (int32_t)(oh * side_w + ow) : -1;
        }
    Guarded<uint8_t> y(side_h * side_w * ldy);
    for (size_t i = 0; i < y.size(); ++i) y[i] = (uint8_t)rng.next();
    const std::vector<uint8_t> before(y.data(), y.data() + y.size());
    const SomeBytes bytes(rng, kind, n, 400.0f / (float)(1 + k * 36000), before.data(), ldy);
    w.bytes = bytes.t;
    if (w.bytes.add && rng.below(2)) w.bytes.add = y.data();
    std::vector<uint8_t> scratch(K.winograd_s8_scratch(m, w.tiles, k) + 64);
    w.scratch = scratch.data() + ((-(uintptr_t)scratch.data()) & 63);
    w.pixels = pixels.data();
    w.rows = rows.data();
    w.w = packed.data();
    w.bias = rng.below(4) ? bias.data() : nullptr;
    w.y = y.data();
    w.ldy = (ptrdiff_t)ldy;
    const size_t middle = rng.below(panels + 1);
    K.winograd_s8(w, middle, panels);
    K.winograd_s8(w, 0, middle);
    bool ok = y.intact();
    for (size_t p = 0; p < side_h * side_w; ++p)
        for (size_t c = 0; c < ldy; ++c) {
            if (c >= n) {
                ok = ok && y[p * ldy + c] == before[p * ldy + c];
                continue;
            }
            int32_t sum = w.bias ? bias[c] : 0;
            for (size_t t = 0; t < 9; ++t) {
                const ptrdiff_t h = (ptrdiff_t)(p / side_w + t / 3) - 1, v = (ptrdiff_t)(p % side_w + t % 3) - 1;
                if (h < 0 || v < 0 || h >= (ptrdiff_t)side_h || v >= (ptrdiff_t)side_w) continue;
                const uint8_t* from = x.data() + ((size_t)h * side_w + (size_t)v) * k;
                for (size_t i = 0; i < k; ++i)
                    sum += (as_byte(from[i], w.x_signed) - w.x_zero) * filters[(c * k + i) * 9 + t];
            }
            ok = ok && y[p * ldy + c] == reference_bytes(bytes.t, sum, p, c);
        }
    tally.check(ok, name("winograd_s8", {m, side_h, side_w, k, n, extreme, kind}));
}

}  // namespace

void test_bytes(const Kernels& K, Tally& tally) {
    Random rng;
    test_map_bytes(K, tally, rng);
    for (const bool multiply : {false, true}) {
        for (size_t cols = 1; cols < 200; cols += cols < 70 ? 1 : 13)
            for (const size_t rows : {1, 3}) test_pair_bytes(K, tally, rng, multiply, rows, cols);
        for (const size_t cols : {5, 16, 32, 33, 64, 100})  // more rows than share what is made of the other operand
            for (size_t turn = 0; turn < 6; ++turn) test_pair_bytes(K, tally, rng, multiply, 65 + turn, cols);
    }
    for (const size_t channels : {1, 3, 4, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 150})
        for (const size_t taps : {1, 2, 9, 49})
            for (const bool indirect : {false, true})
                test_pool_bytes(K, tally, rng, 1 + rng.below(6), taps, channels, indirect);
    test_pool_bytes(K, tally, rng, 1, 70000, 5, false);
    size_t kind = 0;
    for (const size_t channels : {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 32, 40, 67})
        for (const size_t stride : {1, 2, 3})
            for (const size_t side : {1, 2, 4, 5, 7, 8, 9, 12, 16, 23})
                for (const size_t k : {1, 2, 3, 4, 5, 7}) {
                    const size_t turn = kind++;
                    test_depthwise_s8(K, tally, rng,
                                      {side, side + turn % 3, channels, k, turn % 5 == 0 ? 1 + k % 5 : k, stride,
                                       (size_t)(turn % 7 == 0 ? 2 : 1), (ptrdiff_t)(turn % 4 == 0 ? turn % 3 : k / 2),
                                       turn % 11 / 10, turn % 13 / 12},
                                      turn % 4);
                }
    for (const size_t channels : {576, 700, 1100})
        for (const size_t k : {3, 5, 6})
            for (const size_t stride : {1, 2})
                test_depthwise_s8(K, tally, rng, {14, 14, channels, k, k, stride, 1, (ptrdiff_t)(k / 2)}, kind++ % 4);
    for (const size_t channels : {5, 19, 33}) {  // kernels that reach far, and rows of many tiles
        test_depthwise_s8(K, tally, rng, {9, 9, channels, 5, 5, 1, 200, 400}, kind++ % 4);
        test_depthwise_s8(K, tally, rng, {41, 39, channels, 40, 40, 1, 1, 20}, kind++ % 4);
        test_depthwise_s8(K, tally, rng, {6, 9, channels, 3, 2, 130, 1, 0}, kind++ % 4);
        for (const size_t stride : {1, 2, 3})
            test_depthwise_s8(K, tally, rng, {9, 90, channels, 3, 3, stride, 1, 1}, kind++ % 4);
    }
    if (!K.winograd_s8_pays) return;
    for (size_t k = 1; k <= 70; k += k < 20 ? 1 : 7)
        for (const size_t n : {1, 4, 8, 15, 16, 17, 32, 33, 50})
            for (const size_t m : {2, 4})
                test_winograd_s8(K, tally, rng, m, 1 + rng.below(9), 1 + rng.below(9), k, n, kind % 5 == 0, kind % 4),
                    ++kind;
    for (size_t i = 0; i < 8; ++i)
        test_winograd_s8(K, tally, rng, 2 + i / 4 * 2, 4, 4, WinogradS8::max_k, 5, true, i % 4);
}

}  // namespace linnet::kernels::test
