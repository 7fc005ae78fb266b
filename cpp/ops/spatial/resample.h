// Resampling along axes by tables: for each place of the output, which places of the input count, and how much.
#pragma once
#include <optional>
#include <vector>

#include "base/held_memory.h"
#include "graph/op.h"

namespace linnet {

struct AxisTable {
    int64_t axis = 0, in = 0, out = 0, taps = 1;
    std::vector<int64_t> index;  // [out][taps], within the input; -1: outside, the extrapolation value
    std::vector<float> weight;   // [out][taps]
    HeldMemory memory;           // of both
    bool outside = false;        // some index is -1
    bool is_identity() const;
    bool is_gather() const { return taps == 1; }  // weights are 1
};

enum class Interpolation : uint8_t { nearest, linear, cubic };
enum class Coordinates : uint8_t {
    half_pixel,
    half_pixel_symmetric,
    pytorch_half_pixel,
    align_corners,
    asymmetric,
    tf_half_pixel_for_nn,
    tf_crop_and_resize,
};
enum class Rounding : uint8_t { prefer_floor, prefer_ceil, floor, ceil, simple /* opset 10: ceil when shrinking */ };

struct ResampleMode {
    Interpolation interpolation = Interpolation::nearest;
    Coordinates coordinates = Coordinates::half_pixel;
    Rounding rounding = Rounding::prefer_floor;
    float cubic_a = -0.75f;
    float extrapolation = 0;
    bool exclude_outside = false, antialias = false;
};

// `scale` is output over input; roi_* are used by tf_crop_and_resize only.
AxisTable make_axis_table(const ResampleMode& mode, int64_t axis, int64_t in, int64_t out, float scale, float roi_start,
                          float roi_end);

// Bytes that stand for (byte - zero) * scale; results between lo and hi.
struct ByteScales {
    float x_scale = 1, y_scale = 1;
    int32_t x_zero = 0, y_zero = 0, lo = 0, hi = 255;
};

// What resample() needs besides its operands.
struct Resampler {
    std::vector<AxisTable> tables;  // of the axes that change, ascending
    float extrapolation = 0;
    size_t scratch_floats = 0;
    std::optional<ByteScales> scales;  // x and y are bytes, resampled as the floats that they stand for
    // Fills scratch_floats.
    void prepare(DType dtype, const Shape& in, const Shape& out, int threads);
    // y = x resampled; any dtype when all tables gather, else floats and integers (computed in float32).
    void run(const Parallel& parallel, const Tensor& x, Tensor& y, float* scratch) const;

  private:
    struct Lines;
    bool by_lines() const { return scales && tables.size() <= 2; }
    Lines lines(const Shape& in, const Shape& out) const;
    void run_lines(const Parallel& parallel, const Tensor& x, Tensor& y, float* scratch) const;
};

}  // namespace linnet
