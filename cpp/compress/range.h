// What is known of a float value's elements after calibration, and the range that a quantizer should cover.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace linnet::compress {

// Counts of a value's non-zero elements in equal bins between `low` and `high`, which always enclose 0. A range that
// is too narrow is doubled and its bins are merged in pairs: the memory is fixed, however many elements are added.
struct Histogram {
    static constexpr int kBins = 2048;
    double low = 0, high = 0;  // equal as long as nothing but zeros was added
    int64_t zeros = 0;         // exact, as padding and rectifiers make them: they cost a quantizer nothing
    std::array<int64_t, kBins> counts{};

    double width() const { return (high - low) / kBins; }
    double centre(int bin) const { return low + (bin + 0.5) * width(); }
    int64_t total() const;
    // Makes room for values in [from, to].
    void cover(double from, double to);
    // Adds finite elements, all of which are covered.
    void add(const float* elements, int64_t count);
};

struct Range {
    double low = 0, high = 0;
};

struct RangeOptions {
    int levels = 256;           // that the quantizer has
    bool symmetric = false;     // the range shall be [-x, x]
    double percentile = 99.99;  // of the elements that choose_range "percentile" keeps, in %
};

// The range by `method`, with 0 in it:
// "minmax"      all that was seen, [min, max];
// "percentile"  without the outermost elements, as many on either side;
// "entropy"     the clipped distribution is nearest to its quantized form (Kullback-Leibler divergence; S. Migacz,
//               8-bit inference with TensorRT, 2017): what is beyond a limit on the magnitude is clipped;
// "mse"         the mean squared error of clipping and rounding is least.
// Throws invalid_argument for another method and for a percentile outside (50, 100].
Range choose_range(const Histogram& histogram, Range seen, std::string_view method, const RangeOptions& options);

}  // namespace linnet::compress
