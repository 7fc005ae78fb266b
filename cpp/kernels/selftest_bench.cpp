// --bench: what the shapes of well-known models reach, as a share of the multiply-add peak measured in turns with them.
#include "kernels/selftest_bench.h"

namespace linnet::kernels::test {
namespace {

std::string sizes(std::initializer_list<size_t> all) {
    std::string text;
    for (const size_t n : all) text += (text.empty() ? "" : "x") + std::to_string(n);
    return text;
}

// For each vector width: the multiply-add peak in FLOP/s, of independent chains in registers, and the rate in bytes/s
// at which `n` floats are read.
#define LINNET_LIMITS(WIDTH, TARGET, BYTES)                                                             \
    typedef float V##WIDTH __attribute__((vector_size(BYTES), aligned(4), may_alias));                  \
    TARGET __attribute__((noinline)) float chains_##WIDTH(int rounds) {                                 \
        typedef V##WIDTH V;                                                                             \
        V a = V{} + 1.0f, b = V{} + 1e-9f;                                                              \
        V v0 = b, v1 = v0 + b, v2 = v1 + b, v3 = v2 + b, v4 = v3 + b; /* equal ones would be merged */  \
        V v5 = v4 + b, v6 = v5 + b, v7 = v6 + b, v8 = v7 + b, v9 = v8 + b;                              \
        for (int i = 0; i < rounds; ++i) {                                                              \
            v0 = v0 * a + b, v1 = v1 * a + b, v2 = v2 * a + b, v3 = v3 * a + b, v4 = v4 * a + b;        \
            v5 = v5 * a + b, v6 = v6 * a + b, v7 = v7 * a + b, v8 = v8 * a + b, v9 = v9 * a + b;        \
            __asm__ volatile("" : "+m"(a), "+m"(b));                                                    \
        }                                                                                               \
        const V v = v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7 + v8 + v9;                                    \
        return v[0];                                                                                    \
    }                                                                                                   \
    TARGET __attribute__((noinline)) float sum_##WIDTH(const float* x, size_t n) {                      \
        typedef V##WIDTH V;                                                                             \
        V v0{}, v1{}, v2{}, v3{}, v4{}, v5{}, v6{}, v7{};                                               \
        const V* p = (const V*)x;                                                                       \
        for (const V* const end = p + n / (BYTES / 4); p + 8 <= end; p += 8) {                          \
            v0 += p[0], v1 += p[1], v2 += p[2], v3 += p[3];                                             \
            v4 += p[4], v5 += p[5], v6 += p[6], v7 += p[7];                                             \
        }                                                                                               \
        const V v = v0 + v1 + v2 + v3 + v4 + v5 + v6 + v7;                                              \
        return v[0];                                                                                    \
    }                                                                                                   \
    double peak_##WIDTH() {                                                                             \
        volatile float sink = 0;                                                                        \
        return 2.0 * 10 * (BYTES / 4) * 10000 / best_time([&] { sink = chains_##WIDTH(10000); }, 3e-3); \
    }                                                                                                   \
    double read_##WIDTH(const float* x, size_t n) {                                                     \
        volatile float sink = 0;                                                                        \
        return (double)(n * sizeof(float)) / best_time([&] { sink = sum_##WIDTH(x, n); }, 50e-3);       \
    }
#if defined(__x86_64__)
LINNET_LIMITS(512, __attribute__((target("avx512f"))), 64)
LINNET_LIMITS(256, __attribute__((target("avx2,fma"))), 32)
#endif
LINNET_LIMITS(128, , 16)

double fma_peak([[maybe_unused]] const Kernels& K) {
#if defined(__x86_64__)
    if (K.lanes == 16) return peak_512();
    if (K.lanes == 8) return peak_256();
#endif
    return peak_128();
}

double read_rate([[maybe_unused]] const Kernels& K, size_t bytes) {
    const std::vector<float> x(bytes / sizeof(float));
#if defined(__x86_64__)
    if (K.lanes == 16) return read_512(x.data(), x.size());
    if (K.lanes == 8) return read_256(x.data(), x.size());
#endif
    return read_128(x.data(), x.size());
}

template <class F>
Result measure(const Kernels& K, double flops, size_t floats, F f) {
    return measure_against([&] { return fma_peak(K); }, flops, (double)(floats * sizeof(float)), f);
}

Result gemm(const Kernels& K, size_t m, size_t n, size_t k, size_t variant = 1) {
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
    return measure(K, 2.0 * (double)(m * n * k), m * k + k * n + m * n, [&] { K.gemm_f32(g, 0, m, 0, panels); });
}

// A product that reads its weights once, of 4 or 8 bits: numbers in blocks of 32, or places in a book.
Result gemm_bits(const Kernels& K, size_t m, size_t n, size_t k, size_t bits, bool has_book) {
    const size_t block = has_book ? k : 32;
    Random rng;
    const auto a = random_floats(rng, m * k), scale = random_floats(rng, k / block * n), book = random_floats(rng, 16);
    std::vector<int8_t> b(n * k);
    for (int8_t& x : b) x = (int8_t)rng.below(256);
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols, bytes = K.pack_b_bits_size(bits, k, n);
    std::vector<int32_t> packed(bytes / 4);
    std::vector<float> scales(K.pack_b_f32_size(1, k / block, n)), sums(m * k / block), c(m * n);
    K.pack_b_bits({1, k, n, 0, (ptrdiff_t)n, 1}, bits, b.data(), packed.data(), 0, panels);
    K.pack_b_f32({1, k / block, n, 0, (ptrdiff_t)n, 1}, scale.data(), scales.data(), 0, panels);
    GemmBits g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.bits = bits;
    g.block = block;
    g.a = a.data();
    g.lda = (ptrdiff_t)k;
    g.b = packed.data();
    if (has_book) g.book = book.data();
    g.scale = scales.data();
    g.sums = sums.data();
    g.c = c.data();
    g.ldc = (ptrdiff_t)n;
    return measure(K, 2.0 * (double)(m * n * k), bytes / 4 + scales.size() + m * (k + n),
                   [&] { K.gemm_bits(g, 0, m, 0, panels); });
}

// A step of a recurrent layer, its weights float32 or of 8 bits.
Result recurrent(const Kernels& K, RecurrentF32::Cell cell, size_t gates, size_t hidden, bool narrow) {
    Random rng;
    const size_t blocks = (hidden + K.gemm_cols - 1) / K.gemm_cols, rows = blocks * gates * K.gemm_cols;
    const auto r = random_floats(rng, gates * hidden * hidden, -0.1f, 0.1f), h = random_floats(rng, hidden);
    const std::vector<int8_t> bytes(r.size(), 5);
    const std::vector<float> scale(rows, 0.001f);
    std::vector<float> packed(narrow ? K.pack_recurrent_s8_size(hidden, gates) / 4 : rows * hidden), x(rows), c(hidden),
        next(hidden);
    if (narrow) K.pack_recurrent_s8(hidden, gates, bytes.data(), packed.data());
    else K.pack_recurrent_f32(hidden, gates, r.data(), packed.data());
    RecurrentF32 a;
    a.cell = cell;
    a.hidden = hidden;
    a.h = a.state = h.data();
    if (narrow) a.r_s8 = packed.data();
    else a.r = packed.data();
    a.scale = scale.data();
    a.x = x.data();
    a.c = c.data();
    a.h_next = next.data();
    return measure(K, 2.0 * (double)r.size(), packed.size(), [&] { K.recurrent_f32(a, 0, blocks, false); });
}

Result conv(const Kernels& K, size_t h, size_t cin, size_t cout, size_t k, size_t s) {
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
    return measure(K, 2.0 * (double)(pixels * taps * cin * cout), x.size() + b.size() + y.size(),
                   [&] { K.conv_f32(c, 0, pixels, 0, panels); });
}

Result depthwise(const Kernels& K, size_t h, size_t channels, size_t k, size_t s, size_t variant) {
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
    return measure(K, 2.0 * (double)(y.size() * k * k), x.size() + w.size() + y.size(),
                   [&] { K.depthwise_f32(d, 0, d.out_h); });
}

Result map(const Kernels& K, Unary fn) {
    Random rng;
    const auto x = random_floats(rng, 4096, 0.1f, 3);
    std::vector<float> y(4096);
    return measure(K, 4096, 2 * 4096, [&] { K.map_f32(fn, 4096, x.data(), y.data(), 0.1f, 1); });
}

// {m, n, k}
constexpr size_t gemms[][3] = {{256, 256, 256}, {1024, 1024, 1024}, {1, 1000, 2048}, {1, 256, 256}, {1, 384, 384},
                               {2, 512, 512},   {3, 512, 512},      {4, 512, 512},   {5, 512, 512}, {128, 3072, 768}};

// In int8, those of transformers and of a classifier's last layer among them.
constexpr size_t gemms_s8[][3] = {{784, 128, 128}, {196, 256, 1024}, {49, 960, 320},   {784, 512, 128},
                                  {128, 384, 384}, {128, 1536, 384}, {128, 384, 1536}, {197, 1536, 384},
                                  {8, 512, 512},   {1, 1000, 2048}};

// The 1 x 1 convolutions of two models: {pixels, channels out, channels in}.
constexpr size_t mobilenetv2[][3] = {{12544, 16, 32}, {12544, 96, 16}, {3136, 24, 96}, {3136, 144, 24}, {3136, 24, 144},
                                     {784, 32, 144},  {784, 192, 32},  {784, 32, 192}, {196, 64, 192},  {196, 384, 64},
                                     {196, 64, 384},  {196, 96, 384},  {196, 576, 96}, {196, 96, 576},  {49, 160, 576},
                                     {49, 960, 160},  {49, 160, 960},  {49, 320, 960}, {49, 1280, 320}};
constexpr size_t resnet50[][3] = {{3136, 64, 64},   {3136, 256, 64},  {3136, 64, 256},  {3136, 128, 256},
                                  {784, 512, 128},  {784, 128, 512},  {784, 256, 512},  {784, 512, 256},
                                  {196, 1024, 256}, {196, 256, 1024}, {196, 512, 1024}, {196, 1024, 512},
                                  {49, 2048, 512},  {49, 512, 2048},  {49, 2048, 1024}};

// {side, channels in, channels out, kernel, stride}, padded so that stride 1 keeps the side.
constexpr size_t convs[][5] = {{56, 64, 64, 3, 1},   {28, 128, 128, 3, 1}, {14, 256, 256, 3, 1}, {7, 512, 512, 3, 1},
                               {56, 128, 128, 3, 2}, {28, 256, 256, 3, 2}, {14, 512, 512, 3, 2}, {56, 64, 128, 3, 2},
                               {224, 3, 64, 7, 2},   {224, 3, 32, 3, 2}};

// The depthwise convolutions of MobileNetV2, of EfficientNet-B0 and of MobileNetV3-Small: {side, channels, kernel,
// stride}, padded in the same way.
constexpr size_t depthwises[][4] = {{112, 32, 3, 1}, {112, 96, 3, 2}, {56, 144, 3, 1}, {56, 144, 3, 2}, {28, 192, 3, 1},
                                    {28, 192, 3, 2}, {14, 384, 3, 1}, {14, 576, 3, 1}, {14, 576, 3, 2}, {7, 960, 3, 1},
                                    {56, 144, 5, 2}, {28, 240, 5, 1}, {28, 240, 3, 2}, {14, 480, 3, 1}, {14, 480, 5, 1},
                                    {14, 672, 5, 1}, {14, 672, 5, 2}, {7, 1152, 5, 1}, {7, 1152, 3, 1}, {112, 16, 3, 2},
                                    {56, 72, 3, 2},  {28, 88, 3, 1},  {28, 96, 5, 2},  {14, 240, 5, 1}, {14, 120, 5, 1},
                                    {14, 144, 5, 1}, {14, 288, 5, 2}, {7, 576, 5, 1}};

// Products with narrow weights: {m, n, k, bits}.
constexpr size_t narrow_gemms[][4] = {{1, 768, 768, 4},   {1, 3072, 768, 4}, {1, 768, 3072, 4}, {4, 3072, 768, 4},
                                      {1, 50257, 768, 4}, {1, 3072, 768, 8}, {4, 3072, 768, 8}, {1, 50257, 768, 8}};

constexpr std::pair<const char*, Unary> maps[] = {{"relu", Unary::relu},     {"exp", Unary::exp},
                                                  {"tanh", Unary::tanh},     {"sigmoid", Unary::sigmoid},
                                                  {"erf", Unary::erf},       {"log", Unary::log},
                                                  {"sin", Unary::sin},       {"silu", Unary::silu},
                                                  {"gelu", Unary::gelu_erf}, {"gelu_tanh", Unary::gelu_tanh}};

}  // namespace

void bench(const Kernels& K, bool json) {
    if (!json) std::printf("%s: multiply-add peak %.1f GFLOP/s\n", K.isa, 1e-9 * fma_peak(K));
    const auto report = [&](const char* group, const std::string& shape, const Result& r) {
        const double rate = r.flops / r.seconds;
        if (json)
            std::printf(
                "{\"isa\": \"%s\", \"group\": \"%s\", \"shape\": \"%s\", \"flops\": %.0f, \"bytes\": %.0f, "
                "\"seconds\": %.4e, \"peak\": %.4e}\n",
                K.isa, group, shape.c_str(), r.flops, r.bytes, r.seconds, r.peak);
        else if (!std::strcmp(group, "map"))
            std::printf("  %-17s %-20s %8.2f G/s\n", group, shape.c_str(), 1e-9 * rate);
        else if (!std::strcmp(group, "gemm narrow") || !std::strncmp(group, "recurrent", 9))  // limited by what is read
            std::printf("  %-17s %-20s %8.1f GFLOP/s %5.1f GB/s\n", group, shape.c_str(), 1e-9 * rate,
                        1e-9 * r.bytes / r.seconds);
        else
            std::printf("  %-17s %-20s %8.1f %s %5.1f %%\n", group, shape.c_str(), 1e-9 * rate,
                        std::strncmp(group, "int8", 4) ? "GFLOP/s" : "Gop/s", r.peak > 0 ? 100 * rate / r.peak : 0);
        std::fflush(stdout);
    };
    for (const size_t kilobytes : {16, 256, 8192}) {  // from L1, from L2, from L3 where there is one
        const double rate = read_rate(K, kilobytes << 10);
        if (json)
            std::printf("{\"isa\": \"%s\", \"group\": \"read\", \"shape\": \"%zu\", \"bytes_per_second\": %.4e}\n",
                        K.isa, kilobytes, rate);
        else
            std::printf("  %-17s %-20s %8.1f GB/s\n", "read", (std::to_string(kilobytes) + " kB").c_str(), 1e-9 * rate);
    }
    for (const auto& g : gemms) report("gemm", sizes({g[0], g[1], g[2]}), gemm(K, g[0], g[1], g[2]));
    report("gemm gelu", sizes({784, 192, 32}), gemm(K, 784, 192, 32, 6));
    for (const auto& g : mobilenetv2) report("1x1 mobilenet", sizes({g[0], g[1], g[2]}), gemm(K, g[0], g[1], g[2]));
    for (const auto& g : resnet50) report("1x1 resnet", sizes({g[0], g[1], g[2]}), gemm(K, g[0], g[1], g[2]));
    for (const auto& c : convs)
        report("conv", sizes({c[0], c[1], c[2], c[3], c[4]}), conv(K, c[0], c[1], c[2], c[3], c[4]));
    for (const auto& d : depthwises)
        report(d[3] == 1 ? "depthwise" : "depthwise s2", sizes({d[0], d[1], d[2], d[3]}),
               depthwise(K, d[0], d[1], d[2], d[3], 1));
    report("depthwise gelu", sizes({14, 480, 5, 1}), depthwise(K, 14, 480, 5, 1, 6));
    for (const auto& g : gemms_s8) report("int8", sizes({g[0], g[1], g[2]}), gemm_s8(K, g[0], g[1], g[2], 28));
    for (const auto& g : gemms_s8)
        report("int8 full range", sizes({g[0], g[1], g[2]}), gemm_s8(K, g[0], g[1], g[2], 70));
    for (const auto& g : mobilenetv2)
        report("int8 mobilenet", sizes({g[0], g[1], g[2]}), gemm_s8(K, g[0], g[1], g[2], 28));
    for (const auto& g : resnet50) report("int8 resnet", sizes({g[0], g[1], g[2]}), gemm_s8(K, g[0], g[1], g[2], 28));
    for (const auto& c : convs)
        report("int8 conv", sizes({c[0], c[1], c[2], c[3], c[4]}), conv_s8(K, c[0], c[1], c[2], c[3], c[4]));
    for (const auto& d : depthwises)
        report(d[3] == 1 ? "int8 depthwise" : "int8 depthwise s2", sizes({d[0], d[1], d[2], d[3]}),
               depthwise_s8(K, d[0], d[1], d[2], d[3]));
    for (const size_t m : {2, 4})
        for (const size_t k : {64, 128, 256})
            if (K.winograd_s8_pays) report("int8 winograd", sizes({m, k, k}), winograd_s8(K, m, k));
    for (const auto& g : narrow_gemms)
        report("gemm narrow", sizes({g[0], g[1], g[2], g[3]}), gemm_bits(K, g[0], g[1], g[2], g[3], false));
    for (const auto& g : narrow_gemms)
        if (g[3] == 4) report("gemm book", sizes({g[0], g[1], g[2], g[3]}), gemm_bits(K, g[0], g[1], g[2], g[3], true));
    for (const bool narrow : {false, true}) {
        const char* group = narrow ? "recurrent int8" : "recurrent";
        report(group, "lstm 256", recurrent(K, RecurrentF32::Cell::lstm, 4, 256, narrow));
        report(group, "gru 256", recurrent(K, RecurrentF32::Cell::gru, 3, 256, narrow));
    }
    bench_sparse(K, json);
    for (const auto& m : maps) report("map", m.first, map(K, m.second));
    report("map", "bytes by table", map_bytes(K));
    report("map", "bytes add", pair_bytes(K, false));
    report("map", "bytes mul", pair_bytes(K, true));
}

}  // namespace linnet::kernels::test
