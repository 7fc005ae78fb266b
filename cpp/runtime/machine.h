// What this machine can reach at most, measured: the yardstick of the profile and info commands.
#pragma once
#include <cstddef>

namespace linnet {

// Multiply-adds (two operations each) from registers alone, in the vector width of the kernel table in use; 10^9
// operations per second over `threads` threads. Takes about 50 ms.
double measure_peak_gflops(int threads);

// Bytes read per second, in 10^9, from a buffer of `bytes` that is swept by `threads` threads. Takes about 100 ms after
// the buffer has been filled. The buffer must be larger than the caches for the number to be memory's.
double measure_bandwidth_gbs(int threads, size_t bytes);

}  // namespace linnet
