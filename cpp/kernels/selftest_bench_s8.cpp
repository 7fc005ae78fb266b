// --bench of the int8 products, and the peak of the instructions that each table multiplies bytes with.
#include "kernels/selftest_bench.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace linnet::kernels::test {
namespace {

// Operations/s of ten independent chains of the instructions TEXT, which multiply and add PRODUCTS pairs of bytes, in
// registers.
#define LINNET_CHAINS_S8(NAME, TARGET, VECTOR, CONSTRAINT, PRODUCTS, TEXT)                         \
    TARGET __attribute__((noinline)) void chains_##NAME(int rounds) {                              \
        VECTOR acc[10] = {}, t = {}, a = {}, b = {};                                               \
        for (int i = 0; i < rounds; ++i)                                                           \
            _Pragma("GCC unroll 10") for (int j = 0; j < 10; ++j) __asm__ volatile(                \
                TEXT : "+" CONSTRAINT(acc[j]), "=&" CONSTRAINT(t) : CONSTRAINT(a), CONSTRAINT(b)); \
    }                                                                                              \
    double peak_##NAME() {                                                                         \
        constexpr int rounds = 5000;                                                               \
        return 2.0 * 10 * PRODUCTS * rounds / best_time([] { chains_##NAME(rounds); }, 3e-3);      \
    }

#if defined(__x86_64__)
LINNET_CHAINS_S8(vnni, __attribute__((target("avx512f,avx512vnni"))), __m512i, "v", 64, "vpdpbusd %3, %2, %0")
LINNET_CHAINS_S8(pairs, __attribute__((target("avx2"))), __m256i, "x", 32,
                 "vpmaddubsw %3, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0")
#ifdef LINNET_AMX
// Four tiles of sums, with the tiles that are multiplied loaded from L1.
__attribute__((target("amx-tile,amx-int8"))) double peak_amx() {
    alignas(64) static uint8_t operand[4096];
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } c;
    __asm__ volatile("" ::"r"(&c) : "memory");
    _tile_loadconfig(&c);
    constexpr int rounds = 1000;
    const double seconds = best_time(
        [] {
            for (int i = 0; i < rounds; ++i) {
                _tile_loadd(6, operand, 128);
                _tile_loadd(4, operand, 128);
                _tile_dpbusd(0, 4, 6);
                _tile_loadd(7, operand + 64, 128);
                _tile_dpbusd(1, 4, 7);
                _tile_loadd(5, operand + 64, 128);
                _tile_dpbusd(2, 5, 6);
                _tile_dpbusd(3, 5, 7);
            }
        },
        3e-3);
    _tile_release();
    return 2.0 * 4 * 16 * 16 * 64 * rounds / seconds;
}
#endif
#elif defined(__aarch64__)
typedef int32_t V __attribute__((vector_size(16)));
LINNET_CHAINS_S8(dot, __attribute__((target("arch=armv8.2-a+dotprod"))), V, "w", 16, "sdot %0.4s, %2.16b, %3.16b")
LINNET_CHAINS_S8(widening, , V, "w", 8, "smull %1.8h, %2.8b, %3.8b\n\tsadalp %0.4s, %1.8h")
#endif

// The generic table has no instruction for bytes: its 32-bit multiplications in vectors of four, as the compiler makes
// them, are not measured, and its share is of a peak of 0.
double int8_peak(const Kernels& K) {
    const std::string isa = K.isa;
#if defined(__x86_64__)
#ifdef LINNET_AMX
    if (isa == "amx") return peak_amx();
#endif
    if (isa == "avx512") return peak_vnni();
    if (isa == "avx2") return peak_pairs();
#elif defined(__aarch64__)
    if (isa == "neon_dot") return peak_dot();
    if (isa == "neon") return peak_widening();
#endif
    return 0;
}

std::vector<int8_t> weights(size_t count, double deviation) {
    Random rng;
    std::vector<int8_t> w(count);
    for (int8_t& x : w) {
        double sum = -6;  // of twelve uniform numbers: mean 0, deviation 1
        for (int i = 0; i < 12; ++i) sum += rng.uniform(0, 1);
        x = (int8_t)std::clamp(sum * deviation, -127.0, 127.0);
    }
    return w;
}

template <class T>
T* aligned(std::vector<T>& v) {  // to a cache line, of 64 more bytes than are needed
    return (T*)(((uintptr_t)v.data() + 63) & ~(uintptr_t)63);
}

// n columns of `depth` weights, and m rows of output; the caller says where A's rows are.
Result product(const Kernels& K, GemmS8 g, size_t a_bytes, double deviation) {
    const size_t depth = g.taps * g.k, panels = (g.n + K.gemm_s8_cols - 1) / K.gemm_s8_cols;
    std::vector<uint8_t> a(a_bytes + 64), c(g.m * g.n + 64), packed(K.pack_b_s8_size(g.taps, g.k, g.n) + 64);
    Random rng;
    for (uint8_t& x : a) x = (uint8_t)rng.next();
    const std::vector<int8_t> w = weights(depth * g.n, deviation);
    K.pack_b_s8({g.taps, g.k, g.n, (ptrdiff_t)(g.k * g.n), (ptrdiff_t)g.n, 1}, w.data(), aligned(packed), 0, panels);
    const std::vector<int32_t> bias(g.n, 100);
    const std::vector<float> scale(g.n, 1e-3f);
    const std::vector<uint8_t> zero(g.k, 120);
    g.a = aligned(a);
    g.a_zero = 120;
    g.zero = zero.data();
    g.b = aligned(packed);
    g.bias = bias.data();
    g.out = GemmS8::Out::bytes;
    g.bytes.scale = scale.data();
    g.bytes.zero = 3;
    g.c = aligned(c);
    g.ldc = (ptrdiff_t)g.n;
    return measure_against([&] { return int8_peak(K); }, 2.0 * (double)(g.m * g.n * depth),
                           (double)(a_bytes + depth * g.n + g.m * g.n), [&] { K.gemm_s8(g, 0, g.m, 0, panels); });
}

}  // namespace

Result gemm_s8(const Kernels& K, size_t m, size_t n, size_t k, double deviation) {
    GemmS8 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.lda = (ptrdiff_t)k;
    return product(K, g, m * k, deviation);
}

Result conv_s8(const Kernels& K, size_t side, size_t in, size_t out, size_t kernel, size_t stride) {
    const size_t pad = kernel / 2, padded = side + 2 * pad, to = (padded - kernel) / stride + 1;
    const bool first = in < 4;  // the image padded beforehand, a row of the kernel for a tap
    GemmS8 g;
    g.m = to * to;
    g.n = out;
    g.taps = first ? kernel : kernel * kernel;
    g.k = first ? kernel * in : in;
    std::vector<int32_t> offsets(g.taps * g.m);
    if (first) {
        for (size_t t = 0; t < kernel; ++t)
            for (size_t p = 0; p < g.m; ++p)
                offsets[t * g.m + p] = (int32_t)(((p / to * stride + t) * padded + p % to * stride) * in);
    } else {
        Window w;
        w.in[1] = w.in[2] = side;
        w.kernel[1] = w.kernel[2] = kernel;
        w.stride[1] = w.stride[2] = stride;
        w.pad_begin[1] = w.pad_begin[2] = w.pad_end[1] = w.pad_end[2] = (ptrdiff_t)pad;
        w.out[1] = w.out[2] = to;
        w.x_stride[2] = in;
        w.x_stride[1] = side * in;
        fill_taps(w, offsets.data(), g.m);
    }
    g.offsets = offsets.data();
    g.offsets_ld = g.m;
    return product(K, g, (first ? padded * padded : side * side) * in, 28);
}

}  // namespace linnet::kernels::test
