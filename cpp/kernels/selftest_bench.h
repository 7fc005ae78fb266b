// Shared by the parts of linnet-kernel-test --bench.
#pragma once

#include <algorithm>
#include <chrono>

#include "kernels/selftest.h"

namespace linnet::kernels::test {

// Best of the runs that fit into `budget` seconds, at least one, in seconds.
template <class F>
double best_time(F f, double budget) {
    using Clock = std::chrono::steady_clock;
    double best = 1e9;
    const auto start = Clock::now();
    do {
        const auto t = Clock::now();
        f();
        best = std::min(best, std::chrono::duration<double>(Clock::now() - t).count());
    } while (std::chrono::duration<double>(Clock::now() - start).count() < budget);
    return best;
}

// What one kernel did: the best rate, and the best peak of the same moments. A machine whose clock or neighbours change
// slows both.
struct Result {
    double flops = 0, bytes = 0;  // of one call: the arithmetic, and the least traffic (each operand once)
    double seconds = 1e9, peak = 0;
};

template <class P, class F>
Result measure_against(P peak, double flops, double bytes, F f) {
    Result r;
    r.flops = flops;
    r.bytes = bytes;
    f();
    for (int turn = 0; turn < 6; ++turn) {
        r.peak = std::max(r.peak, peak());
        r.seconds = std::min(r.seconds, best_time(f, 15e-3));
    }
    return r;
}

// Operations/s of the instructions that this table multiplies bytes with; 0 if it has none.
double int8_peak(const Kernels&);

// u8 by s8 to u8, as a share of what the multiplying instructions alone reach. Weights are normally distributed.
Result gemm_s8(const Kernels&, size_t m, size_t n, size_t k, double deviation);
Result conv_s8(const Kernels&, size_t side, size_t in, size_t out, size_t kernel, size_t stride);
Result depthwise_s8(const Kernels&, size_t side, size_t channels, size_t kernel, size_t stride);
Result winograd_s8(const Kernels&, size_t m, size_t channels);  // counts the multiply-adds of the direct sum
// 4096 bytes in L1.
Result pair_bytes(const Kernels&, bool multiply);
Result map_bytes(const Kernels&);

}  // namespace linnet::kernels::test
