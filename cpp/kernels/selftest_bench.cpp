// --bench: what a few shapes reach, as a share of the multiply-add peak that is measured first (L1-resident GEMM).
#include <algorithm>
#include <chrono>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

// Best of several runs, in seconds.
template <class F>
double best_time(F f) {
    using Clock = std::chrono::steady_clock;
    f();
    double best = 1e9;
    const auto start = Clock::now();
    while (std::chrono::duration<double>(Clock::now() - start).count() < 0.15) {
        const auto t = Clock::now();
        f();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - t).count());
    }
    return best;
}

// Multiply-add peak: independent chains in registers, for each vector width.
#define LINNET_PEAK(NAME, TARGET, BYTES)                                                               \
    TARGET __attribute__((noinline)) float NAME##_run(int rounds) {                                    \
        typedef float V __attribute__((vector_size(BYTES)));                                           \
        V a = V{} + 1.0f, b = V{} + 1e-9f;                                                             \
        V v0 = b, v1 = v0 + b, v2 = v1 + b, v3 = v2 + b, v4 = v3 + b; /* equal ones would be merged */ \
        V v5 = v4 + b, v6 = v5 + b, v7 = v6 + b, v8 = v7 + b, v9 = v8 + b;                             \
        for (int i = 0; i < rounds; ++i) {                                                             \
            v0 = v0 * a + b, v1 = v1 * a + b, v2 = v2 * a + b, v3 = v3 * a + b, v4 = v4 * a + b;       \
            v5 = v5 * a + b, v6 = v6 * a + b, v7 = v7 * a + b, v8 = v8 * a + b, v9 = v9 * a + b;       \
            __asm__ volatile("" : "+m"(a), "+m"(b));                                                   \
        }                                                                                              \
        const V v = v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7 + v8 + v9;                                   \
        return v[0];                                                                                   \
    }                                                                                                  \
    double NAME() {                                                                                    \
        volatile float sink = 0;                                                                       \
        return 2e-9 * 10 * (BYTES / 4) * 20000 / best_time([&] { sink = NAME##_run(20000); });         \
    }
#if defined(__x86_64__)
LINNET_PEAK(peak_512, __attribute__((target("avx512f"))), 64)
LINNET_PEAK(peak_256, __attribute__((target("avx2,fma"))), 32)
#endif
LINNET_PEAK(peak_128, , 16)

double fma_peak([[maybe_unused]] const Kernels& K) {
#if defined(__x86_64__)
    if (K.lanes == 16) return peak_512();
    if (K.lanes == 8) return peak_256();
#endif
    return peak_128();
}

double gemm_rate(const Kernels& K, size_t m, size_t n, size_t k, size_t repeat = 1, size_t variant = 1) {
    Random rng;
    const auto a = random_floats(rng, m * k), b = random_floats(rng, k * n), column = random_floats(rng, n);
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols;
    std::vector<float> packed(K.pack_b_f32_size(1, k, n)), c(m * n);
    K.pack_b_f32({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    const auto steps = epilogue_variant(variant, column.data(), nullptr, 0);
    GemmF32 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)k;
    g.b = packed.data();
    g.c = c.data();
    g.ldc = (ptrdiff_t)n;
    g.epilogue = {steps.data(), steps.size()};
    const double t = best_time([&] {
        for (size_t r = 0; r < repeat; ++r) K.gemm_f32(g, 0, m, 0, panels);
    });
    return 2e-9 * (double)(m * n * k * repeat) / t;
}

double gemm_s8_rate(const Kernels& K, size_t m, size_t n, size_t k) {
    std::vector<uint8_t> a(m * k, 3);
    std::vector<int8_t> b(n * k, 5);
    const size_t panels = (n + K.gemm_s8_cols - 1) / K.gemm_s8_cols;
    std::vector<int32_t> packed(K.pack_b_s8_size(1, k, n) / 4), c(m * n);
    K.pack_b_s8({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    GemmS8 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)k;
    g.b = packed.data();
    g.c = c.data();
    g.ldc = (ptrdiff_t)n;
    return 2e-9 * (double)(m * n * k) / best_time([&] { K.gemm_s8(g, 0, m, 0, panels); });
}

double conv_rate(const Kernels& K, size_t h, size_t cin, size_t cout, size_t k, size_t s) {
    Random rng;
    Window w;
    w.in[1] = w.in[2] = h;
    w.kernel[1] = w.kernel[2] = k;
    w.stride[1] = w.stride[2] = s;
    w.pad_begin[1] = w.pad_begin[2] = w.pad_end[1] = w.pad_end[2] = (ptrdiff_t)(k / 2);
    w.out[1] = w.out[2] = (h + 2 * (k / 2) - k) / s + 1;
    w.x_stride[2] = cin;
    w.x_stride[1] = h * cin;
    const size_t pixels = w.pixels(), taps = w.taps(), panels = (cout + K.gemm_cols - 1) / K.gemm_cols;
    std::vector<int32_t> offsets(taps * pixels);
    fill_taps(w, offsets.data(), pixels);
    const auto x = random_floats(rng, h * h * cin), b = random_floats(rng, taps * cin * cout);
    std::vector<float> packed(K.pack_b_f32_size(taps, cin, cout)), y(pixels * cout), zero(cin);
    K.pack_b_f32({taps, cin, cout, 1, (ptrdiff_t)taps, (ptrdiff_t)(taps * cin)}, b.data(), packed.data(), 0, panels);
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
    c.ldc = (ptrdiff_t)cout;
    return 2e-9 * (double)(pixels * taps * cin * cout) / best_time([&] { K.conv_f32(c, 0, pixels, 0, panels); });
}

double depthwise_rate(const Kernels& K, size_t h, size_t channels, size_t k, size_t s, size_t variant) {
    Random rng;
    DepthwiseF32 d;
    d.in_h = d.in_w = h;
    d.channels = channels;
    d.kernel_h = d.kernel_w = k;
    d.stride_h = d.stride_w = s;
    d.pad_top = d.pad_left = (ptrdiff_t)(k / 2);
    d.out_h = d.out_w = (h + 2 * (k / 2) - k) / s + 1;
    const auto x = random_floats(rng, h * h * channels),
               w = random_floats(rng, K.pack_depthwise_f32_size(k * k, channels)),
               column = random_floats(rng, channels);
    std::vector<float> zero(channels), y(d.out_h * d.out_w * channels);
    const auto steps = epilogue_variant(variant, column.data(), nullptr, 0);
    d.x = x.data();
    d.x_stride = d.y_stride = (ptrdiff_t)channels;
    d.x_row_stride = (ptrdiff_t)(channels * h);
    d.w = w.data();
    d.zero = zero.data();
    d.y = y.data();
    d.y_row_stride = (ptrdiff_t)(channels * d.out_w);
    d.epilogue = {steps.data(), steps.size()};
    return 2e-9 * (double)(d.out_h * d.out_w * channels * k * k) / best_time([&] { K.depthwise_f32(d, 0, d.out_h); });
}

double map_rate(const Kernels& K, Unary fn) {
    Random rng;
    const auto x = random_floats(rng, 4096, 0.1f, 3);
    std::vector<float> y(4096);
    return 4096e-9 / best_time([&] { K.map_f32(fn, 4096, x.data(), y.data(), 0.1f, 1); });
}

}  // namespace

void bench(const Kernels& K) {
    const double peak = fma_peak(K);
    std::printf("%s: multiply-add peak %.1f GFLOP/s\n", K.isa, peak);
    const auto line = [&](const std::string& what, double rate) {
        std::printf("  %-42s %7.1f GFLOP/s %5.1f %%\n", what.c_str(), rate, 100 * rate / peak);
    };
    const size_t gemms[][3] = {{256, 256, 256}, {1, 1000, 2048},  {1, 256, 256},   {2, 512, 512},  {3, 512, 512},
                               {4, 512, 512},   {5, 512, 512},    {49, 160, 960},  {3136, 64, 64}, {3136, 24, 144},
                               {784, 512, 128}, {196, 1024, 256}, {128, 3072, 768}};
    for (const auto& g : gemms) line(name("gemm m n k", {g[0], g[1], g[2]}), gemm_rate(K, g[0], g[1], g[2]));
    line("gemm 784 192 32 bias + gelu", gemm_rate(K, 784, 192, 32, 1, 6));
    const size_t convs[][5] = {{56, 64, 64, 3, 1},  {28, 128, 128, 3, 1}, {14, 256, 256, 3, 1},
                               {7, 512, 512, 3, 1}, {224, 3, 32, 3, 2},   {56, 64, 128, 3, 2}};
    for (const auto& c : convs)
        line(name("conv h cin cout k s", {c[0], c[1], c[2], c[3], c[4]}), conv_rate(K, c[0], c[1], c[2], c[3], c[4]));
    const size_t depthwise[][5] = {{112, 32, 3, 1, 1}, {112, 96, 3, 2, 1}, {56, 144, 3, 1, 1},
                                   {28, 192, 3, 1, 1}, {14, 384, 3, 1, 1}, {14, 576, 3, 2, 1},
                                   {7, 960, 3, 1, 1},  {28, 120, 5, 1, 1}, {14, 480, 5, 1, 4}};
    for (const auto& d : depthwise)
        line(name("depthwise h c k s epilogue", {d[0], d[1], d[2], d[3], d[4]}),
             depthwise_rate(K, d[0], d[1], d[2], d[3], d[4] == 4 ? 6 : 1));
    line("gemm_s8 784 128 512", gemm_s8_rate(K, 784, 128, 512));
    const std::pair<const char*, Unary> maps[] = {{"relu", Unary::relu},     {"exp", Unary::exp},
                                                  {"tanh", Unary::tanh},     {"sigmoid", Unary::sigmoid},
                                                  {"erf", Unary::erf},       {"log", Unary::log},
                                                  {"sin", Unary::sin},       {"silu", Unary::silu},
                                                  {"gelu", Unary::gelu_erf}, {"gelu tanh", Unary::gelu_tanh}};
    for (const auto& m : maps) std::printf("  %-42s %7.2f G/s\n", m.first, map_rate(K, m.second));
}

}  // namespace linnet::kernels::test
