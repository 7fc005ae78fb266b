// HannWindow, HammingWindow, BlackmanWindow (17): input size; attributes periodic 1, output_datatype 1. MelWeightMatrix
// (17): inputs num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz; attribute output_datatype 1.
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"

namespace linnet {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kLargest = int64_t{1} << 40;

DType output_type(const Attributes& attributes) {
    const int64_t code = attributes.i("output_datatype", 1);
    const DType d = code > 0 && code < kDTypeCount ? static_cast<DType>(code) : DType::undefined;
    require(is_float(d) || is_int(d), "output_datatype is ", code);
    return d;
}

int64_t size_operand(const InferContext& ctx, int i) {
    const auto list = int_list(ctx, i);
    if (!list) return kUnknownDim;
    require(list->values.size() == 1, "input ", i, " has ", list->values.size(), " elements, expected 1");
    if (list->exact) require(list->values[0] >= 0 && list->values[0] <= kLargest, "input ", i, " is ", list->values[0]);
    return list->values[0];
}

void infer_window(InferContext& ctx) { ctx.output(0, output_type(ctx.attributes), {size_operand(ctx, 0)}); }

void run_window(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    const int64_t size = y.count();
    const int64_t period = ctx.attributes.i("periodic", 1) ? size : size - 1;
    const std::string_view name = ctx.node.op->name;
    if (period <= 0) {  // a window of one sample
        for (int64_t i = 0; i < size; ++i) set_number(y, i, 1);
        return;
    }
    // Both halves are alike.
    for (int64_t i = 0; i <= period / 2 && i < size; ++i) {
        const double sine = std::sin(kPi * static_cast<double>(i) / static_cast<double>(period));
        const double cosine = 1 - 2 * sine * sine;  // of the double angle
        double value = 0;
        if (name == "HannWindow") value = sine * sine;
        else if (name == "HammingWindow") value = 25.0 / 46.0 - 21.0 / 46.0 * cosine;
        else value = 0.42 - 0.5 * cosine + 0.08 * (2 * cosine * cosine - 1);
        set_number(y, i, value);
        if (period - i < size) set_number(y, period - i, value);
    }
}

void infer_mel(InferContext& ctx) {
    const int64_t bins = size_operand(ctx, 0), length = size_operand(ctx, 1);
    ctx.output(0, output_type(ctx.attributes), {ctx.dims.add(ctx.dims.floor_div(length, 2), 1), bins});
}

double scalar(const RunContext& ctx, int i) {
    if (ctx.input(i).count() != 1)
        fail(ErrorKind::invalid_argument, "input ", i, " has ", ctx.input(i).count(), " elements, expected 1");
    return double_at(ctx.input(i), 0);
}

// Triangles between neighbouring points that are evenly spaced in mel(f) = 2595 log10(1 + f / 700).
void run_mel(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    const int64_t rows = y.shape[0], bins = y.shape[1];
    const double length = scalar(ctx, 1), rate = scalar(ctx, 2), lower = scalar(ctx, 3), upper = scalar(ctx, 4);
    if (!(rate > 0)) fail(ErrorKind::invalid_argument, "sample_rate is ", rate);
    if (!(lower >= 0 && upper >= lower)) fail(ErrorKind::invalid_argument, "edges are ", lower, " and ", upper, " Hz");
    const auto mel = [](double hertz) { return 2595 * std::log1p(hertz / 700) / std::log(10.0); };
    const double low = mel(lower), step = (mel(upper) - low) / static_cast<double>(bins + 2);
    std::vector<int64_t> points;
    for (int64_t i = 0; i < bins + 2; ++i) {
        const double hertz = 700 * std::expm1((static_cast<double>(i) * step + low) / 2595 * std::log(10.0));
        const double point = std::floor((length + 1) * hertz / rate);
        if (!(point >= 0 && point < static_cast<double>(rows)))
            fail(ErrorKind::invalid_argument, "a frequency of ", hertz, " Hz is beyond the spectrogram of ", rows,
                 " bins at ", rate, " samples a second");
        points.push_back(static_cast<int64_t>(point));
    }
    std::memset(y.data, 0, y.bytes());  // every type has zeros for 0
    for (int64_t i = 0; i < bins; ++i) {
        const auto at = [&](int64_t offset) { return points[static_cast<size_t>(i + offset)]; };
        const int64_t left = at(0), centre = at(1), right = at(2);
        if (left == centre) set_number(y, centre * bins + i, 1);
        for (int64_t j = left; j <= centre && left < centre; ++j)
            set_number(y, j * bins + i, static_cast<double>(j - left) / static_cast<double>(centre - left));
        for (int64_t j = centre; j < right; ++j)
            set_number(y, j * bins + i, static_cast<double>(right - j) / static_cast<double>(right - centre));
    }
}

constexpr OpDef row(std::string_view name) {
    return {.name = name, .since = 17, .infer = infer_window, .run = run_window, .min_inputs = 1, .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> window_ops() {
    static const OpDef rows[] = {
        row("HannWindow"),
        row("HammingWindow"),
        row("BlackmanWindow"),
        {.name = "MelWeightMatrix", .since = 17, .infer = infer_mel, .run = run_mel, .min_inputs = 5, .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
