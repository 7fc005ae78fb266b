// What a served model version counts. Written by every request, read by whoever asks; never locked.
#pragma once
#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <vector>

#include "serve/status.h"

namespace linnet::serve {

using Clock = std::chrono::steady_clock;

enum class Protocol : uint8_t { oip_grpc, tensorflow_grpc, oip_rest, tensorflow_rest };
constexpr size_t kProtocols = 4;
constexpr const char* kProtocolNames[kProtocols] = {"oip_grpc", "tensorflow_grpc", "oip_rest", "tensorflow_rest"};
constexpr size_t kCodes = 17;

using Count = std::atomic<uint64_t>;

inline void add(Count& count, uint64_t amount = 1) { count.fetch_add(amount, std::memory_order_relaxed); }

// Times from 1 us to about 2 minutes, eight buckets an octave: quantiles read from it are off by at most 12 %.
class Histogram {
  public:
    static constexpr int kPerOctave = 8, kOctaves = 27, kBuckets = kPerOctave * kOctaves + 1;

    void record(std::chrono::nanoseconds time) {
        const uint64_t ns = static_cast<uint64_t>(std::max<int64_t>(0, time.count()));
        add(buckets_[static_cast<size_t>(bucket_of(ns))]);
        add(total_ns_, ns);
    }
    uint64_t bucket(int index) const { return buckets_[static_cast<size_t>(index)].load(std::memory_order_relaxed); }
    uint64_t total_ns() const { return total_ns_.load(std::memory_order_relaxed); }
    // The first time that belongs to the next bucket, in microseconds.
    static double upper_us(int bucket) {
        const int octave = bucket / kPerOctave, part = bucket % kPerOctave;
        return static_cast<double>(uint64_t{1} << octave) * (1 + (part + 1) / static_cast<double>(kPerOctave));
    }

  private:
    static int bucket_of(uint64_t ns) {
        const uint64_t eighths = ns * kPerOctave / 1000;  // of a microsecond
        if (eighths < kPerOctave) return 0;
        const int octave = std::bit_width(eighths) - 1 - 3;
        const int part = static_cast<int>((eighths >> octave) & (kPerOctave - 1));
        return std::min(octave * kPerOctave + part, kBuckets - 1);
    }
    std::array<Count, kBuckets> buckets_{};
    Count total_ns_{0};
};

// A duration summed over requests.
struct Spent {
    Count count{0}, ns{0};
    void add(std::chrono::nanoseconds time) {
        serve::add(count);
        serve::add(ns, static_cast<uint64_t>(std::max<int64_t>(0, time.count())));
    }
};

struct Statistics {
    explicit Statistics(size_t max_batch) : batches(max_batch + 1) {}

    std::array<std::array<Count, kCodes>, kProtocols> requests{};  // finished, by code
    std::array<Histogram, kProtocols> latency;                     // of those that ended well
    Spent success, fail, queue, decode, run, encode;               // per request; what Triton's statistics name
    Count rows{0}, executions{0};                                  // inferred; runs of the session
    std::vector<Spent> batches;                                    // runs by rows; those of more rows count as the last
    Count bytes_in{0}, bytes_out{0};
    std::atomic<int64_t> last_ms{0};  // wall clock of the last request that was run
    std::atomic<int64_t> queued{0}, in_flight{0};
};

}  // namespace linnet::serve
