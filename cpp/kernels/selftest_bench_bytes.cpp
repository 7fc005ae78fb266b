// --bench of the kernels on bytes other than products of matrices.
#include "kernels/selftest_bench.h"

namespace linnet::kernels::test {

Result depthwise_s8(const Kernels& K, size_t h, size_t channels, size_t k, size_t s) {
    DepthwiseS8 d;
    d.in_h = d.in_w = h;
    d.channels = channels;
    d.kernel_h = d.kernel_w = k;
    d.stride_h = d.stride_w = s;
    d.pad_top = d.pad_left = (ptrdiff_t)(k / 2);
    d.out_h = d.out_w = (h + 2 * (k / 2) - k) / s + 1;
    const std::vector<uint8_t> x(h * h * channels, 3), zero(channels, 5);
    const std::vector<int16_t> w(k * k * channels, 7);
    const std::vector<float> scale(channels, 0.01f);
    const std::vector<int32_t> bias(channels, 9);
    std::vector<int32_t> packed(K.pack_depthwise_s8_size(k, k, channels, false) / 4 + 1);
    K.pack_depthwise_s8(k, k, channels, false, w.data(), 1, (ptrdiff_t)(k * k), packed.data());
    std::vector<uint8_t> y(d.out_h * d.out_w * channels);
    d.x = x.data();
    d.x_zero = 5;
    d.x_stride = d.y_stride = (ptrdiff_t)channels;
    d.x_row_stride = (ptrdiff_t)(channels * h);
    d.w = packed.data();
    d.zero = zero.data();
    d.bias = bias.data();
    d.y = y.data();
    d.y_row_stride = (ptrdiff_t)(channels * d.out_w);
    d.bytes.scale = scale.data();
    return measure_against([&] { return int8_peak(K); }, 2.0 * (double)(y.size() * k * k),
                           (double)(x.size() + w.size() + y.size()), [&] { K.depthwise_s8(d, 0, d.out_h); });
}

// A block of 48 tiles inside an image.
Result winograd_s8(const Kernels& K, size_t m, size_t k) {
    constexpr size_t tiles = 48, wide = 12;
    const size_t row = m * wide + 2, in = m + 2;
    const std::vector<uint8_t> x(row * (m * tiles / wide + 2) * k, 3);
    const std::vector<int8_t> filters(k * k * 9, 5);
    const std::vector<float> scale(k, 0.001f);
    const size_t panels = (k + K.winograd_s8_cols - 1) / K.winograd_s8_cols;
    std::vector<int32_t> packed(K.pack_winograd_s8_size(m, k, k) / 4), rows(tiles * m * m);
    K.pack_winograd_s8(m, k, k, filters.data(), packed.data(), 0, panels);
    std::vector<const void*> pixels(tiles * in * in);
    for (size_t t = 0; t < tiles; ++t)
        for (size_t i = 0; i < in * in; ++i) {
            pixels[t * in * in + i] = x.data() + ((t / wide * m + i / in) * row + t % wide * m + i % in) * k;
            if (i < m * m) rows[t * m * m + i] = (int32_t)((t / wide * m + i / m) * m * wide + t % wide * m + i % m);
        }
    std::vector<uint8_t> y(tiles * m * m * k), scratch(K.winograd_s8_scratch(m, tiles, k) + 64);
    WinogradS8 w;
    w.m = m;
    w.tiles = tiles;
    w.k = w.n = k;
    w.pixels = pixels.data();
    w.w = packed.data();
    w.scratch = scratch.data() + (-(uintptr_t)scratch.data() & 63);
    w.rows = rows.data();
    w.y = y.data();
    w.ldy = (ptrdiff_t)k;
    w.bytes.scale = scale.data();
    return measure_against([&] { return int8_peak(K); }, 2.0 * (double)(y.size() * 9 * k),
                           (double)(4 * packed.size() + x.size() + y.size()), [&] { K.winograd_s8(w, 0, panels); });
}

Result pair_bytes(const Kernels& K, bool multiply) {
    const std::vector<uint8_t> a(4096, 3), b(4096, 5);
    std::vector<uint8_t> y(4096);
    PairBytes p;
    p.cols = 4096;
    p.a = a.data();
    p.b = b.data();
    p.y = y.data();
    return measure_against([] { return 0.0; }, 4096, 3 * 4096, [&] { (multiply ? K.mul_bytes : K.add_bytes)(p); });
}

Result map_bytes(const Kernels& K) {
    const std::vector<uint8_t> x(4096, 3), table(256, 7);
    std::vector<uint8_t> y(4096);
    return measure_against([] { return 0.0; }, 4096, 2 * 4096,
                           [&] { K.map_bytes(4096, x.data(), table.data(), y.data()); });
}

}  // namespace linnet::kernels::test
