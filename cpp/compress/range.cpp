// Histograms that grow by merging their bins, and the four ways to choose a range from one.
#include "compress/range.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"

namespace linnet::compress {
namespace {

constexpr int kBins = Histogram::kBins;

Range percentile_range(const Histogram& h, double percentile) {
    const double clipped = static_cast<double>(h.total()) * (100 - percentile) / 200;  // on either side
    // From the outermost bin inwards: where `clipped` elements are passed, at most 0 (behind which all zeros lie).
    const auto end = [&](bool upper) {
        double left = clipped;
        for (int i = 0; i < kBins; ++i) {
            const int bin = upper ? kBins - 1 - i : i;
            const auto count = static_cast<double>(h.counts[static_cast<size_t>(bin)]);
            if (count > left) {
                const double share = left / count;
                return upper ? h.high - (i + share) * h.width() : h.low + (i + share) * h.width();
            }
            left -= count;
        }
        return 0.0;
    };
    return {std::min(0.0, end(false)), std::max(0.0, end(true))};
}

// Mean squared error times the number of elements.
double squared_error(const Histogram& h, Range range, int levels) {
    const double step = (range.high - range.low) / (levels - 1);
    if (!(step > 0)) return std::numeric_limits<double>::infinity();
    double error = 0;
    for (int bin = 0; bin < kBins; ++bin) {
        const auto count = static_cast<double>(h.counts[static_cast<size_t>(bin)]);
        if (count == 0) continue;
        const double x = h.centre(bin);
        const double inside = std::clamp(x, range.low, range.high);
        // Elements are spread over their bin and over the quantizer's step: the error of rounding has no phase.
        const double miss = x - inside;
        error += count * (miss * miss + (miss == 0 ? step * step / 12 : 0));
    }
    return error;
}

Range mse_range(const Histogram& h, Range seen, const RangeOptions& options) {
    constexpr int kTries = 100;
    Range best = seen;
    double least = squared_error(h, best, options.levels);
    const auto attempt = [&](Range range) {
        const double error = squared_error(h, range, options.levels);
        if (error < least) {
            least = error;
            best = range;
        }
    };
    if (options.symmetric) {
        for (int i = 1; i < kTries; ++i) attempt({seen.low * i / kTries, seen.high * i / kTries});
        return best;
    }
    for (int round = 0; round < 2; ++round) {  // one end after the other, and again
        for (int i = 0; i < kTries; ++i) attempt({best.low, seen.high * i / kTries});
        for (int i = 0; i < kTries; ++i) attempt({seen.low * i / kTries, best.high});
    }
    return best;
}

// The divergence of what is left of the distribution inside bins [first, last) from the same in `levels` levels.
double divergence(const Histogram& h, int first, int last, int levels) {
    const auto begin = h.counts.begin();
    std::vector<double> p(begin + first, begin + last);
    const double below = static_cast<double>(std::accumulate(begin, begin + first, int64_t{0}));
    const double above = static_cast<double>(std::accumulate(begin + last, h.counts.end(), int64_t{0}));
    // The quantized form knows nothing of what is clipped: that is what clipping costs.
    const std::vector<double> kept = p;
    p.front() += below;
    p.back() += above;
    const double all = std::accumulate(p.begin(), p.end(), 0.0);
    const double inside = std::accumulate(kept.begin(), kept.end(), 0.0);
    if (inside == 0) return std::numeric_limits<double>::infinity();
    const auto size = static_cast<int>(p.size());
    double sum = 0;
    for (int level = 0; level < levels; ++level) {
        const auto from = static_cast<size_t>(int64_t{size} * level / levels);
        const auto to = static_cast<size_t>(int64_t{size} * (level + 1) / levels);
        double mass = 0;
        int filled = 0;
        for (size_t i = from; i < to; ++i) {
            mass += kept[i];
            filled += p[i] > 0;
        }
        // A level's mass is spread over the bins that are not empty. A small floor keeps the divergence finite.
        const double q = std::max(filled ? mass / filled / inside : 0.0, 1e-9);
        for (size_t i = from; i < to; ++i)
            if (p[i] > 0) sum += p[i] / all * std::log(p[i] / all / q);
    }
    return sum;
}

Range entropy_range(const Histogram& h, Range seen, const RangeOptions& options) {
    constexpr int kTries = 128;
    Range best = seen;
    double least = std::numeric_limits<double>::infinity();
    for (int i = kTries; i > 0; --i) {
        const double end = std::max(-seen.low, seen.high) * i / kTries;
        const Range range{std::max(seen.low, -end), std::min(seen.high, end)};
        const int first = std::clamp(static_cast<int>(std::floor((range.low - h.low) / h.width())), 0, kBins);
        const int last = std::clamp(static_cast<int>(std::ceil((range.high - h.low) / h.width())), 0, kBins);
        if (last - first < options.levels) break;  // every level has at least a bin
        const double distance = divergence(h, first, last, options.levels);
        if (distance < least) {
            least = distance;
            best = range;
        }
    }
    return best;
}

Range mirrored(Range range) {
    const double end = std::max(-range.low, range.high);
    return {-end, end};
}

}  // namespace

int64_t Histogram::total() const { return std::accumulate(counts.begin(), counts.end(), zeros); }

void Histogram::cover(double from, double to) {
    if (low == high) {
        low = std::min(0.0, from);
        high = std::max(0.0, to);
        return;
    }
    while (from < low || to > high) {
        const bool up = to > high;
        std::array<int64_t, kBins> merged{};
        const size_t offset = up ? 0 : kBins / 2;
        for (size_t i = 0; i < kBins / 2; ++i) merged[offset + i] = counts[2 * i] + counts[2 * i + 1];
        counts = merged;
        if (up) high += high - low;
        else low -= high - low;
    }
}

void Histogram::add(const float* elements, int64_t count) {
    if (low == high) {
        zeros += count;
        return;
    }
    const double scale = kBins / (high - low);
    for (int64_t i = 0; i < count; ++i) {
        const double x = elements[i];
        const int bin = std::clamp(static_cast<int>((x - low) * scale), 0, kBins - 1);
        counts[static_cast<size_t>(bin)] += x != 0;
        zeros += x == 0;
    }
}

Range choose_range(const Histogram& h, Range seen, std::string_view method, const RangeOptions& options) {
    if (!(options.percentile > 50 && options.percentile <= 100))
        fail(ErrorKind::invalid_argument, "the percentile is ", options.percentile, "; expected (50, 100]");
    seen = {std::min(0.0, seen.low), std::max(0.0, seen.high)};
    if (options.symmetric) seen = mirrored(seen);
    if (method != "minmax" && method != "percentile" && method != "entropy" && method != "mse")
        fail(ErrorKind::invalid_argument, "there is no calibration method '", method,
             "'; choose minmax, percentile, entropy or mse");
    if (method == "minmax" || h.low == h.high) return seen;
    if (method == "entropy") return entropy_range(h, seen, options);
    if (method == "mse") return mse_range(h, seen, options);
    const Range range = percentile_range(h, options.percentile);
    const Range inside{std::max(range.low, seen.low), std::min(range.high, seen.high)};
    return options.symmetric ? mirrored(inside) : inside;
}

}  // namespace linnet::compress
