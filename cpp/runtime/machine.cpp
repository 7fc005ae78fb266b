// The machine's limits, measured: multiply-adds from registers, bytes read from memory.
#include "runtime/machine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "runtime/thread_pool.h"

namespace linnet {
namespace {

double seconds_now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Independent accumulators: enough to hide the latency of two multiply-add units, few enough to stay in registers.
constexpr int kChains = 10;

// One function per vector width, compiled for the instructions that have it. `constraint` names a vector register in
// the assembler statement that keeps the loop from being shortened.
#define LINNET_CHAINS(NAME, TARGET, BYTES, CONSTRAINT)                                                  \
    TARGET __attribute__((noinline)) float NAME(int64_t rounds) {                                       \
        typedef float Vector __attribute__((vector_size(BYTES)));                                       \
        Vector factor = Vector{} + 0.999f, step = Vector{} + 1e-3f;                                     \
        Vector sum[kChains];                                                                            \
        for (auto& s : sum) s = step;                                                                   \
        for (int64_t i = 0; i < rounds; ++i) {                                                          \
            __asm__ volatile("" : "+" CONSTRAINT(factor), "+" CONSTRAINT(step));                        \
            _Pragma("GCC unroll 10") for (int c = 0; c < kChains; ++c) sum[c] = sum[c] * factor + step; \
        }                                                                                               \
        Vector total = sum[0];                                                                          \
        for (int c = 1; c < kChains; ++c) total += sum[c];                                              \
        return total[0];                                                                                \
    }

#if defined(__x86_64__)
LINNET_CHAINS(chains_64, __attribute__((target("avx512f"))), 64, "v")
LINNET_CHAINS(chains_32, __attribute__((target("avx2,fma"))), 32, "x")
LINNET_CHAINS(chains_16, , 16, "x")
#elif defined(__aarch64__)
LINNET_CHAINS(chains_16, , 16, "w")
#else
float chains_4(int64_t rounds) {
    volatile float factor = 0.999f, step = 1e-3f;
    float sum[kChains] = {};
    for (int64_t i = 0; i < rounds; ++i) {
        const float f = factor, s = step;
        for (float& x : sum) x = x * f + s;
    }
    return sum[0] + sum[kChains - 1];
}
#endif

struct Chains {
    float (*run)(int64_t rounds);
    int lanes;
};

Chains chains_in_use() {
#if defined(__x86_64__)
    const size_t lanes = kernels::kernels().lanes;
    if (lanes >= 16) return {chains_64, 16};
    if (lanes >= 8) return {chains_32, 8};
    return {chains_16, 4};
#elif defined(__aarch64__)
    return {chains_16, 4};
#else
    return {chains_4, 1};
#endif
}

// The shortest of many sweeps, each on all threads.
template <class Fn>
double best_seconds(int threads, double budget, const Fn& sweep) {
    ThreadPool::Scope pool(ThreadPool::shared(), threads);
    double best = 1e30;
    const double start = seconds_now();
    do {
        const double before = seconds_now();
        parallel_for(pool.parallel(), threads, sweep);
        best = std::min(best, seconds_now() - before);
    } while (seconds_now() - start < budget);
    return best;
}

}  // namespace

double measure_peak_gflops(int threads) {
    constexpr int64_t kRounds = 100000;
    const Chains chains = chains_in_use();
    std::vector<float> sink(static_cast<size_t>(threads) * 16);
    const double seconds =
        best_seconds(threads, 0.05, [&](int64_t t) { sink[static_cast<size_t>(t) * 16] = chains.run(kRounds); });
    return 2e-9 * kChains * chains.lanes * static_cast<double>(kRounds) * threads / seconds;
}

double measure_bandwidth_gbs(int threads, size_t bytes) {
    const size_t words = std::max<size_t>(bytes / sizeof(uint64_t), 64) / static_cast<size_t>(threads) / 8 * 8;
    std::vector<uint64_t> buffer(words * static_cast<size_t>(threads), 1);
    std::vector<uint64_t> sink(static_cast<size_t>(threads) * 8);
    const double seconds = best_seconds(threads, 0.1, [&](int64_t t) {
        typedef uint64_t Vector __attribute__((vector_size(16), aligned(8), may_alias));
        const uint64_t* from = buffer.data() + static_cast<size_t>(t) * words;
        Vector a{}, b{}, c{}, d{};
        for (size_t i = 0; i < words; i += 8) {
            const auto* v = reinterpret_cast<const Vector*>(from + i);
            a += v[0], b += v[1], c += v[2], d += v[3];
        }
        const Vector total = a + b + c + d;
        sink[static_cast<size_t>(t) * 8] = total[0] + total[1];
    });
    return 1e-9 * static_cast<double>(buffer.size() * sizeof(uint64_t)) / seconds;
}

}  // namespace linnet
