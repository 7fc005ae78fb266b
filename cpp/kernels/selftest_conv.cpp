// Convolution, depthwise convolution and pools against direct loops.
#include <algorithm>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

Window window(size_t d, size_t h, size_t w, size_t k, size_t s, size_t dil, size_t pad, size_t x_stride) {
    Window v;
    const size_t in[3] = {d, h, w};
    for (int i = 0; i < 3; ++i) {
        v.in[i] = in[i];
        if (in[i] == 1) continue;
        v.kernel[i] = k;
        v.stride[i] = s;
        v.dilation[i] = dil;
        v.pad_begin[i] = v.pad_end[i] = (ptrdiff_t)pad;
        v.out[i] = (in[i] + 2 * pad - dil * (k - 1) - 1) / s + 1;
    }
    v.x_stride[2] = x_stride;
    v.x_stride[1] = w * x_stride;
    v.x_stride[0] = h * w * x_stride;
    return v;
}

void conv_case(const Kernels& K, Tally& tally, Random& rng, const Window& w, size_t cin, size_t cout, size_t variant) {
    const size_t pixels = w.pixels(), taps = w.taps(), ldc = cout + rng.below(3);
    Edged<int32_t> offsets(taps * pixels);
    fill_taps(w, offsets.data(), pixels);
    const auto x = random_floats(rng, w.in[0] * w.in[1] * w.in[2] * w.x_stride[2]);
    const auto weights = random_floats(rng, cout * cin * taps), column = random_floats(rng, cout),
               tensor = random_floats(rng, pixels * ldc);
    const Edged<float> zero(cin, 0.0f);
    const size_t panels = (cout + K.gemm_cols - 1) / K.gemm_cols;
    Edged<float> packed(K.pack_b_f32_size(taps, cin, cout));
    K.pack_b_f32({taps, cin, cout, 1, (ptrdiff_t)taps, (ptrdiff_t)(taps * cin)}, weights.data(), packed.data(), 0,
                 panels);
    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldc);
    Guarded<float> y(pixels * ldc), split(pixels * ldc);
    ConvF32 c;
    c.pixels = pixels;
    c.n = cout;
    c.taps = taps;
    c.k = cin;
    c.x = x.data();
    c.offsets = offsets.data();
    c.offsets_ld = pixels;
    c.zero = zero.data();
    c.b = packed.data();
    c.c = y.data();
    c.ldc = (ptrdiff_t)ldc;
    c.epilogue = {steps.data(), steps.size()};
    K.conv_f32(c, 0, pixels, 0, panels);
    bool ok = true;
    for (size_t p = 0; p < pixels; ++p)
        for (size_t o = 0; o < cout; ++o) {
            double sum = 0;
            for (size_t t = 0; t < taps; ++t)
                for (size_t i = 0; i < cin && offsets[t * pixels + p] >= 0; ++i)
                    sum += (double)x[(size_t)offsets[t * pixels + p] + i] * weights[(o * cin + i) * taps + t];
            ok = ok && near(y[p * ldc + o], reference_epilogue(c.epilogue, sum, p, o), 1e-5 * (1 + (double)taps));
        }
    tally.check(ok && y.intact(), name("conv_f32 pixels cin cout taps", {pixels, cin, cout, taps}));
    c.c = split.data();
    const size_t cut = rng.below(pixels + 1);
    K.conv_f32(c, 0, cut, 0, panels);
    K.conv_f32(c, cut, pixels, 0, panels);
    tally.check(!std::memcmp(y.data(), split.data(), pixels * ldc * 4), name("conv_f32 split", {pixels, cin, cout}));
}

struct DepthwiseCase {
    size_t h, w, channels, kernel[2], stride[2], dilation[2], before[2], after[2], variant;
    size_t out(int i) const {
        return ((i ? w : h) + before[i] + after[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1;
    }
};

void depthwise_case(const Kernels& K, Tally& tally, Random& rng, const DepthwiseCase& t) {
    DepthwiseF32 d;
    d.in_h = t.h, d.in_w = t.w, d.channels = t.channels;
    d.kernel_h = t.kernel[0], d.kernel_w = t.kernel[1];
    d.stride_h = t.stride[0], d.stride_w = t.stride[1];
    d.dilation_h = t.dilation[0], d.dilation_w = t.dilation[1];
    d.pad_top = (ptrdiff_t)t.before[0], d.pad_left = (ptrdiff_t)t.before[1];
    d.out_h = t.out(0), d.out_w = t.out(1);
    const size_t channels = t.channels, xs = channels + rng.below(3), ys = channels + rng.below(3),
                 taps = d.kernel_h * d.kernel_w;
    const auto x = random_floats(rng, (t.h * t.w - 1) * xs + channels), weights = random_floats(rng, taps * channels),
               column = random_floats(rng, channels), tensor = random_floats(rng, d.out_h * d.out_w * ys);
    const Edged<float> zero(channels, 0.0f);
    Guarded<float> y(d.out_h * d.out_w * ys), split(y.size());
    // A residual may be the output itself.
    const bool in_place = t.variant == 2 || t.variant == 3;
    const auto fill = [&](Guarded<float>& v) {
        for (size_t i = 0; i < v.size() && in_place; ++i) v[i] = i % ys < channels ? tensor[i] : 77;
        return epilogue_variant(t.variant, column.data(), in_place ? v.data() : tensor.data(), (ptrdiff_t)ys);
    };
    d.x = x.data();
    d.x_stride = (ptrdiff_t)xs;
    d.x_row_stride = (ptrdiff_t)(xs * t.w);
    Edged<float> packed(K.pack_depthwise_f32_size(taps, channels));
    K.pack_depthwise_f32(taps, channels, weights.data(), (ptrdiff_t)channels, 1, packed.data());
    d.w = packed.data();
    d.zero = zero.data();
    d.y = y.data();
    d.y_stride = (ptrdiff_t)ys;
    d.y_row_stride = (ptrdiff_t)(ys * d.out_w);
    const auto steps = fill(y);
    d.epilogue = {steps.data(), steps.size()};
    K.depthwise_f32(d, 0, d.out_h);
    const auto reference = epilogue_variant(t.variant, column.data(), tensor.data(), (ptrdiff_t)ys);
    bool ok = true;
    for (size_t oh = 0; oh < d.out_h; ++oh)
        for (size_t ow = 0; ow < d.out_w; ++ow) {
            const size_t p = oh * d.out_w + ow;
            for (size_t c = 0; c < ys; ++c) {
                if (c >= channels) {
                    ok = ok && y[p * ys + c] == 77;
                    continue;
                }
                double sum = 0;
                for (size_t i = 0; i < d.kernel_h; ++i)
                    for (size_t j = 0; j < d.kernel_w; ++j) {
                        const ptrdiff_t ih = (ptrdiff_t)(oh * d.stride_h + i * d.dilation_h) - d.pad_top;
                        const ptrdiff_t iw = (ptrdiff_t)(ow * d.stride_w + j * d.dilation_w) - d.pad_left;
                        if (ih < 0 || iw < 0 || ih >= (ptrdiff_t)t.h || iw >= (ptrdiff_t)t.w) continue;
                        sum += (double)x[((size_t)ih * t.w + (size_t)iw) * xs + c] *
                               weights[(i * d.kernel_w + j) * channels + c];
                    }
                ok = ok && near(y[p * ys + c], reference_epilogue({reference.data(), reference.size()}, sum, p, c),
                                1e-5 * (1 + (double)taps));
            }
        }
    const std::string what =
        name("h w c, k s dil, before after, epilogue",
             {t.h, t.w, channels, t.kernel[0], t.kernel[1], t.stride[0], t.stride[1], t.dilation[0], t.dilation[1],
              t.before[0], t.before[1], t.after[0], t.after[1], t.variant});
    tally.check(ok && y.intact(), "depthwise " + what);

    // The same bits from rows in two calls, and from columns in two calls: other tiles, other functions.
    const auto again = fill(split);
    d.epilogue = {again.data(), again.size()};
    d.y = split.data();
    const size_t cut = rng.below(d.out_h + 1);
    K.depthwise_f32(d, 0, cut);
    K.depthwise_f32(d, cut, d.out_h);
    tally.check(!std::memcmp(y.data(), split.data(), y.size() * 4), "depthwise rows split " + what);
    if (t.variant > 1 || d.out_w < 2) return;  // a residual's rows count whole output rows
    std::fill(split.all.begin(), split.all.end(), 77.0f);
    DepthwiseF32 part = d;
    const size_t left = 1 + rng.below(d.out_w - 1);
    part.out_w = left;
    K.depthwise_f32(part, 0, d.out_h);
    part.out_w = d.out_w - left;
    part.pad_left -= (ptrdiff_t)(left * d.stride_w);
    part.y += left * ys;
    K.depthwise_f32(part, 0, d.out_h);
    tally.check(!std::memcmp(y.data(), split.data(), y.size() * 4) && split.intact(),
                "depthwise columns split " + what);
}

void test_depthwise(const Kernels& K, Tally& tally) {
    Random rng;
    size_t turn = 0;
    const auto pick = [&](std::initializer_list<size_t> of) { return of.begin()[rng.below(of.size())]; };
    for (const size_t k : {1, 2, 3, 5, 7, 9})
        for (const size_t s : {1, 2, 3})
            for (const size_t channels : {1, 4, 8, 13, 16, 24, 33, 100, 150, 300}) {
                const size_t v = turn++ % epilogue_variants, p = k / 2, d = 1 + turn % 2, q = turn % 3;
                const auto next = [&](size_t i) { return (v + i) % epilogue_variants; };
                depthwise_case(K, tally, rng, {7, 7, channels, {k, k}, {s, s}, {1, 1}, {p, p}, {p, p}, v});
                if (d * (k - 1) < 9 + 2 * q)
                    depthwise_case(K, tally, rng, {9, 10, channels, {k, k}, {s, s}, {d, d}, {q, q}, {q, q}, next(1)});
                depthwise_case(K, tally, rng, {1, 31, channels, {1, k}, {1, s}, {1, d}, {0, p}, {0, p}, next(2)});
            }
    for (size_t i = 0; i < 300; ++i) {
        DepthwiseCase t = {1 + rng.below(20),           1 + rng.below(40), 1 + rng.below(70), {}, {}, {}, {}, {},
                           rng.below(epilogue_variants)};
        for (int side = 0; side < 2; ++side) {
            t.kernel[side] = pick({1, 2, 3, 3, 5, 5, 7, 7, 11});
            t.stride[side] = pick({1, 1, 1, 2, 2, 3});
            t.dilation[side] = pick({1, 1, 1, 2, 3, 5});
            const size_t span = t.dilation[side] * (t.kernel[side] - 1), half = span / 2, size = side ? t.w : t.h;
            const bool same = rng.below(2);
            t.before[side] = same ? half : rng.below(span + 2);
            t.after[side] = same ? span - half : rng.below(span + 2);
            while (size + t.before[side] + t.after[side] <= span) ++t.after[side];
        }
        depthwise_case(K, tally, rng, t);
    }
    // A last vector that overlaps one which an in-place residual has been added to.
    depthwise_case(K, tally, rng, {5, 9, 345, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 2});
    // Several tiles, and several chunks of channels, to one run of the epilogue.
    depthwise_case(K, tally, rng, {7, 50, 17, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 4});
    depthwise_case(K, tally, rng, {1, 80, 700, {1, 3}, {1, 1}, {1, 1}, {0, 1}, {0, 1}, 6});
    depthwise_case(K, tally, rng, {2, 300, 1, {1, 3}, {1, 1}, {1, 1}, {0, 1}, {0, 1}, 6});
    // Kernels of more taps than fit into a tile's table of pointers.
    depthwise_case(K, tally, rng, {40, 9, 20, {31, 31}, {1, 1}, {1, 1}, {15, 15}, {15, 15}, 1});
    depthwise_case(K, tally, rng, {90, 6, 17, {77, 3}, {1, 2}, {1, 1}, {38, 1}, {38, 1}, 0});
    depthwise_case(K, tally, rng, {1, 700, 18, {1, 500}, {1, 1}, {1, 1}, {0, 250}, {0, 249}, 4});
    depthwise_case(K, tally, rng, {1, 300, 3, {1, 200}, {1, 3}, {1, 1}, {0, 0}, {0, 0}, 5});
}

// Winograd's transforms, with plain products between them, against the direct sum.
void winograd_case(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t tiles, size_t k, size_t n,
                   size_t variant) {
    const size_t a = m + 2, pixels = tiles * m * m, ldy = n + rng.below(3);
    const auto column = random_floats(rng, n), tensor = random_floats(rng, pixels * ldy);
    const auto x = random_floats(rng, tiles * a * a * k), g = random_floats(rng, n * k * 9);
    const double g2[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
    const double g4[6][3] = {{1. / 4, 0, 0},
                             {-1. / 6, -1. / 6, -1. / 6},
                             {-1. / 6, 1. / 6, -1. / 6},
                             {1. / 24, 1. / 12, 1. / 6},
                             {1. / 24, -1. / 12, 1. / 6},
                             {0, 0, 1}};
    const double(*G)[3] = m == 2 ? g2 : g4;
    std::vector<const float*> sources(tiles * a * a);
    std::vector<int32_t> rows(pixels);
    for (size_t i = 0; i < sources.size(); ++i) sources[i] = x.data() + i * k;
    for (size_t i = 0; i < pixels; ++i) rows[i] = rng.below(5) ? (int32_t)i : -1;  // some outputs are not wanted
    Guarded<float> v(a * a * (tiles * k + 3)), t(a * a * (tiles * n + 5)), y(pixels * ldy), split(pixels * ldy);
    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldy);
    WinogradF32 w;
    w.m = m;
    w.tiles = tiles;
    w.k = k;
    w.pixels = sources.data();
    w.v = v.data();
    w.v_stride = (ptrdiff_t)(tiles * k + 3);
    w.t = t.data();
    w.t_stride = (ptrdiff_t)(tiles * n + 5);
    w.ldt = (ptrdiff_t)n;
    w.rows = rows.data();
    w.y = y.data();
    w.ldy = (ptrdiff_t)ldy;
    w.epilogue = {steps.data(), steps.size()};
    K.winograd_in_f32(w);
    for (size_t i = 0; i < a; ++i)
        for (size_t j = 0; j < a; ++j)
            for (size_t o = 0; o < n; ++o) {
                std::vector<double> filter(k, 0.0);
                for (size_t c = 0; c < k; ++c)
                    for (size_t e = 0; e < 9; ++e) filter[c] += G[i][e / 3] * G[j][e % 3] * g[(o * k + c) * 9 + e];
                for (size_t tile = 0; tile < tiles; ++tile) {
                    double sum = 0;
                    for (size_t c = 0; c < k; ++c)
                        sum += filter[c] * v[(i * a + j) * (size_t)w.v_stride + tile * k + c];
                    t[(i * a + j) * (size_t)w.t_stride + tile * n + o] = (float)sum;
                }
            }
    K.winograd_out_f32(w, 0, n);
    bool ok = v.intact() && t.intact() && y.intact();
    for (size_t p = 0; p < pixels; ++p)
        for (size_t o = 0; o < n; ++o) {
            if (rows[p] < 0) {
                ok = ok && y[p * ldy + o] == 77;
                continue;
            }
            const size_t tile = p / (m * m), top = p % (m * m) / m, left = p % m;
            double sum = 0;
            for (size_t e = 0; e < 9; ++e)
                for (size_t c = 0; c < k; ++c)
                    sum += (double)g[(o * k + c) * 9 + e] * sources[tile * a * a + (top + e / 3) * a + left + e % 3][c];
            ok = ok && near(y[p * ldy + o], reference_epilogue(w.epilogue, sum, p, o), 2e-5 * (4 + (double)k));
        }
    tally.check(ok, name("winograd m tiles k n epilogue", {m, tiles, k, n, variant}));
    w.y = split.data();
    const size_t cut = std::min(n, rng.below(3) * K.gemm_cols);
    K.winograd_out_f32(w, cut, n);
    K.winograd_out_f32(w, 0, cut);
    tally.check(!std::memcmp(y.data(), split.data(), y.size() * 4), name("winograd split", {m, tiles, k, n}));
}

void pool_case(const Kernels& K, Tally& tally, Random& rng, const Window& w, size_t channels) {
    const size_t pixels = w.pixels(), taps = w.taps(), ys = channels + 1;
    Edged<int32_t> offsets(taps * pixels);
    fill_taps(w, offsets.data(), pixels);
    auto x = random_floats(rng, w.in[0] * w.in[1] * w.in[2] * w.x_stride[2]);
    x[rng.below(x.size())] = NAN;
    for (int kind = 0; kind < 3; ++kind) {
        Guarded<float> y(pixels * ys);
        PoolF32 p;
        p.pixels = pixels;
        p.taps = taps;
        p.channels = channels;
        p.x = x.data();
        p.offsets = offsets.data();
        p.offsets_ld = pixels;
        p.y = y.data();
        p.y_stride = (ptrdiff_t)ys;
        p.count_include_pad = kind == 2;
        const size_t cut = rng.below(pixels + 1);
        (kind == 0 ? K.max_pool_f32 : K.avg_pool_f32)(p, 0, cut);
        (kind == 0 ? K.max_pool_f32 : K.avg_pool_f32)(p, cut, pixels);
        bool ok = true;
        for (size_t q = 0; q < pixels; ++q)
            for (size_t c = 0; c < channels; ++c) {
                double sum = 0, top = -INFINITY, count = 0;
                for (size_t t = 0; t < taps; ++t) {
                    const int32_t o = offsets[t * pixels + q];
                    count += o >= 0 || (kind == 2 && o == tap_padding);
                    if (o < 0) continue;
                    const double v = x[(size_t)o + c];
                    sum += v;
                    top = top != top || v != v ? NAN : std::max(top, v);
                }
                ok = ok && near(y[q * ys + c], kind == 0 ? top : count ? sum / count : 0, 1e-5);
            }
        tally.check(ok && y.intact(), name("pool kind pixels channels taps", {(size_t)kind, pixels, channels, taps}));
    }
}

void test_blend(const Kernels& K, size_t pixels, size_t taps, size_t channels, bool largest, bool accumulate,
                Random& rng, Tally& tally) {
    const size_t ys = channels + rng.below(3), rows = 7;
    const auto x = random_floats(rng, rows * channels), weights = random_floats(rng, pixels * taps);
    Edged<int64_t> offsets(pixels * taps);
    Guarded<float> y(pixels * ys);
    for (auto& o : offsets) o = rng.below(4) ? (int64_t)(rng.below(rows) * channels) : -1;
    for (size_t i = 0; i < pixels * ys; ++i) y[i] = 0.25f;
    BlendF32 b{pixels,         taps,     channels,      x.data(), offsets.data(),
               weights.data(), y.data(), (ptrdiff_t)ys, largest,  accumulate};
    K.blend_f32(b);
    bool ok = y.intact();
    for (size_t p = 0; p < pixels; ++p)
        for (size_t c = 0; c < channels; ++c) {
            double value = accumulate ? 0.25 : largest ? -INFINITY : 0.0;
            for (size_t t = p * taps; t < (p + 1) * taps; ++t) {
                if (offsets[t] < 0) continue;
                const double product = (double)x[(size_t)offsets[t] + c] * (double)weights[t];
                value = largest ? std::max(value, product) : value + product;
            }
            ok = ok && near(y[p * ys + c], value, 1e-5);
        }
    tally.check(ok, name("blend_f32 pixels taps channels", {pixels, taps, channels}));
}

}  // namespace

void test_conv(const Kernels& K, Tally& tally) {
    Random rng;
    size_t turn = 0;
    // Pixels 4 KB apart have tiles of their own.
    for (const size_t k : {1, 3})
        conv_case(K, tally, rng, window(1, 6, 10, k, 1, 1, k / 2, 1024), 64, 70, turn++ % epilogue_variants);
    for (const size_t k : {1, 2, 3, 5})
        for (const size_t s : {1, 2})
            for (const size_t dil : {1, 2})
                for (const size_t cin : {1, 3, 8, 17}) {
                    const size_t cout = 1 + rng.below(70), v = turn++ % epilogue_variants;
                    conv_case(K, tally, rng, window(1, 10, 11, k, s, dil, k / 2, cin + 1), cin, cout, v);
                    conv_case(K, tally, rng, window(1, 1, 23, k, s, dil, k - 1, cin), cin, cout, v);
                    if (k < 4) conv_case(K, tally, rng, window(4, 5, 6, k, s, dil, 1, cin), cin, cout, v);
                    pool_case(K, tally, rng, window(1, 9, 10, k, s, dil, k / 2, cin * 5 + 1), cin * 5);
                }
    for (const size_t channels : {1, 3, 8, 16, 33, 64, 100})
        for (const size_t taps : {0, 1, 4, 9})
            for (const int kind : {0, 1, 2, 3})
                test_blend(K, 1 + rng.below(4), taps, channels, kind % 2 != 0, kind / 2 != 0, rng, tally);
    for (const size_t m : {2, 4})
        for (const size_t k : {1, 4, 16, 19, 33})
            for (const size_t n : {1, 5, 16, 40, 100})
                winograd_case(K, tally, rng, m, 1 + rng.below(3), k, n, turn++ % epilogue_variants);
    test_depthwise(K, tally);
}

}  // namespace linnet::kernels::test
