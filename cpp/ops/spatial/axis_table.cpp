// Which places of an axis count for each place of the resampled one: see resample.h. The rules are those of ONNX's
// Resize.
#include <algorithm>
#include <cmath>

#include "ops/spatial/resample.h"

namespace linnet {
namespace {

float original(const ResampleMode& mode, int64_t at, int64_t in, int64_t out, float scale, float start, float end) {
    const auto x = static_cast<float>(at), length = static_cast<float>(in);
    switch (mode.coordinates) {
        case Coordinates::half_pixel: return (x + 0.5f) / scale - 0.5f;
        case Coordinates::half_pixel_symmetric: {
            const float adjustment = static_cast<float>(out) / (scale * length);
            return length / 2 * (1 - adjustment) + (x + 0.5f) / scale - 0.5f;
        }
        case Coordinates::pytorch_half_pixel: return out > 1 ? (x + 0.5f) / scale - 0.5f : 0.0f;
        case Coordinates::align_corners:  // the output's length is not rounded here
            return out > 1 ? x * (length - 1) / (scale * length - 1) : 0.0f;
        case Coordinates::asymmetric: return x / scale;
        case Coordinates::tf_half_pixel_for_nn: return (x + 0.5f) / scale;
        default:
            if (out > 1) return start * (length - 1) + x * (end - start) * (length - 1) / static_cast<float>(out - 1);
            return 0.5f * (start + end) * (length - 1);
    }
}

float rounded(Rounding rounding, float x, float scale) {
    switch (rounding) {
        case Rounding::prefer_floor: return std::ceil(x - 0.5f);
        case Rounding::prefer_ceil: return std::floor(x + 0.5f);
        case Rounding::floor: return std::floor(x);
        case Rounding::ceil: return std::ceil(x);
        default: return scale < 1 ? std::ceil(x) : std::trunc(x);
    }
}

// Keys' cubic with parameter a (Keys, "Cubic convolution interpolation for digital image processing", 1981).
double cubic(double x, double a) {
    x = std::fabs(x);
    if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return ((x - 5) * x + 8) * x * a - 4 * a;
    return 0;
}

}  // namespace

bool AxisTable::is_identity() const {
    if (in != out) return false;
    for (int64_t o = 0; o < out; ++o)
        for (int64_t t = 0; t < taps; ++t) {
            const auto i = static_cast<size_t>(o * taps + t);
            if (index[i] < 0 || weight[i] != (index[i] == o ? 1.0f : 0.0f)) return false;
        }
    return true;
}

AxisTable make_axis_table(const ResampleMode& mode, int64_t axis, int64_t in, int64_t out, float scale, float start,
                          float end) {
    AxisTable table;
    table.axis = axis;
    table.in = in;
    table.out = out;
    // Taps first ... first + taps - 1 around floor(x); antialiasing stretches the filter when shrinking.
    const bool nearest = mode.interpolation == Interpolation::nearest;
    const int64_t support = mode.interpolation == Interpolation::cubic ? 2 : 1;
    const double stretch = mode.antialias && !nearest ? std::min(1.0, static_cast<double>(scale)) : 1.0;
    const double reach = std::min(static_cast<double>(support) / stretch, 1e9);
    const int64_t first = static_cast<int64_t>(std::floor(-reach)) + 1;
    table.taps = nearest ? 1 : 2 - 2 * first;
    if (checked_mul(table.taps, out) > (int64_t{1} << 28))
        fail(ErrorKind::not_implemented, "resampling ", in, " to ", out, " elements needs too large a table");
    table.memory = HeldMemory(table.taps * out * static_cast<int64_t>(sizeof(int64_t) + sizeof(float)));
    table.index.resize(static_cast<size_t>(table.taps * out));
    table.weight.assign(table.index.size(), 1.0f);
    std::vector<double> weights(static_cast<size_t>(table.taps));
    for (int64_t o = 0; o < out; ++o) {
        const auto row = static_cast<size_t>(o * table.taps);
        float x = original(mode, o, in, out, scale, start, end);
        if (mode.coordinates == Coordinates::tf_crop_and_resize && !(x >= 0 && x <= static_cast<float>(in - 1))) {
            std::fill_n(table.index.begin() + static_cast<ptrdiff_t>(row), table.taps, -1);
            table.outside = true;
            continue;
        }
        // Beyond this nothing but the edge is read; casts below stay defined.
        const auto bound = static_cast<float>(in) + 4.0f + static_cast<float>(table.taps);
        x = x >= -bound ? std::min(x, bound) : -bound;
        if (nearest) {
            const auto at = static_cast<int64_t>(rounded(mode.rounding, x, scale));
            table.index[row] = std::clamp<int64_t>(at, 0, in - 1);
            continue;
        }
        const auto base = static_cast<int64_t>(std::ceil(x)) - 1;  // so that 0 < ratio <= 1
        const double ratio = static_cast<double>(x) - static_cast<double>(base);
        double sum = 0;
        for (int64_t t = 0; t < table.taps; ++t) {
            const double distance = (static_cast<double>(first + t) - ratio) * stretch;
            double w = mode.interpolation == Interpolation::cubic ? cubic(distance, static_cast<double>(mode.cubic_a))
                                                                  : std::max(0.0, 1 - std::fabs(distance));
            const int64_t at = base + first + t;
            if (mode.exclude_outside && (at < 0 || at >= in)) w = 0;
            weights[static_cast<size_t>(t)] = w;
            sum += w;
            table.index[row + static_cast<size_t>(t)] = std::clamp<int64_t>(at, 0, in - 1);
        }
        const bool normalise = (mode.exclude_outside || stretch < 1) && sum != 0;
        for (size_t t = 0; t < weights.size(); ++t)
            table.weight[row + t] = static_cast<float>(normalise ? weights[t] / sum : weights[t]);
    }
    return table;
}

}  // namespace linnet
