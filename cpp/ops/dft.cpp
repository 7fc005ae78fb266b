// DFT (17: attribute axis 1; 20: input axis, -2): attributes inverse 0, onesided 0; input dft_length. STFT (17):
// signal, frame_step, window?, frame_length?; attribute onesided 1. The last axis is the real part or both parts.
// Computed in double.
#include <algorithm>
#include <complex>
#include <vector>

#include "ops/shared/facts.h"
#include "ops/shared/fft.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

using Complex = std::complex<double>;
constexpr int64_t kLongest = int64_t{1} << 24;

int64_t dft_axis(int64_t axis, int64_t rank) {
    const int64_t normal = normal_axis(axis, rank);
    require(normal != rank - 1, "axis ", axis, " is that of the complex parts");
    return normal;
}

void check_parts(const Fact& x) {
    if (x.ranked && !x.shape.empty() && is_number(x.shape.back()))
        require(x.shape.back() == 1 || x.shape.back() == 2, "the last axis has ", x.shape.back(),
                " elements, expected 1 or 2");
}

// The only element of an integer operand, as a size; kUnknownDim when it is not known.
int64_t size_operand(const InferContext& ctx, int i) {
    const auto list = int_list(ctx, i);
    if (!list) return kUnknownDim;
    require(list->values.size() == 1, "input ", i, " has ", list->values.size(), " elements, expected 1");
    if (list->exact) require(list->values[0] >= 0 && list->values[0] <= kLongest, "input ", i, " is ", list->values[0]);
    return list->values[0];
}

int64_t half_of(DimTable& dims, int64_t size) { return dims.add(dims.floor_div(size, 2), 1); }

void infer_dft(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype), "input is ", dtype_name(x.dtype));
    check_parts(x);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    require(x.rank() >= 2, "input has rank ", x.rank(), ", expected at least 2");
    const bool onesided = ctx.attributes.i("onesided", 0) != 0, inverse = ctx.attributes.i("inverse", 0) != 0;
    Shape shape = x.shape;
    int64_t axis = ctx.op().since < 20 ? ctx.attributes.i("axis", 1) : -2;
    if (ctx.op().since >= 20 && ctx.has_input(2)) {
        const auto list = int_list(ctx, 2);
        if (!list || list->values.size() != 1 || !list->exact) {
            std::fill(shape.begin(), shape.end(), kUnknownDim);
            shape.back() = onesided && inverse ? 1 : 2;
            return ctx.output(0, x.dtype, shape);
        }
        axis = list->values[0];
    }
    int64_t& size = shape[static_cast<size_t>(dft_axis(axis, x.rank()))];
    int64_t length = size;
    if (ctx.has_input(1)) length = size_operand(ctx, 1);
    else if (onesided && inverse) length = ctx.dims.mul(2, ctx.dims.sub(size, 1));
    if (is_number(length)) require(length > 0 && length <= kLongest, "dft_length is ", length);
    size = onesided && !inverse ? half_of(ctx.dims, length) : length;
    shape.back() = onesided && inverse ? 1 : 2;
    ctx.output(0, x.dtype, shape);
}

void run_dft(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    int64_t axis = ctx.node.op->since < 20 ? ctx.attributes.i("axis", 1) : -2;
    if (ctx.node.op->since >= 20 && ctx.has_input(2)) axis = int_at(ctx.input(2), 0);
    axis = dft_axis(axis, x.rank());
    const bool onesided = ctx.attributes.i("onesided", 0) != 0, inverse = ctx.attributes.i("inverse", 0) != 0;
    const int64_t have = x.shape[static_cast<size_t>(axis)], out = y.shape[static_cast<size_t>(axis)];
    const int64_t length = ctx.has_input(1) ? int_at(ctx.input(1), 0) : onesided && inverse ? 2 * (have - 1) : have;
    const int64_t inner = product(x.shape, static_cast<size_t>(axis) + 1, x.shape.size() - 1);
    const int64_t parts = x.shape.back(), out_parts = y.shape.back();
    const int64_t outer = product(x.shape, 0, static_cast<size_t>(axis));
    const Fft fft(length, inverse);
    const double scale = inverse ? 1 / static_cast<double>(length) : 1;
    // A onesided spectrum's other half is its mirror.
    const int64_t given = std::min(have, onesided && inverse ? length / 2 + 1 : length);
    parallel_ranges(ctx.parallel(), outer * inner, row_grain(length, 32), [&](int64_t begin, int64_t end) {
        std::vector<Complex> row(static_cast<size_t>(length)), room;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t o = r / inner, c = r % inner;
            std::fill(row.begin(), row.end(), Complex{});
            for (int64_t i = 0; i < given; ++i) {
                const int64_t at = ((o * have + i) * inner + c) * parts;
                row[static_cast<size_t>(i)] = {double_at(x, at), parts == 2 ? double_at(x, at + 1) : 0.0};
            }
            if (onesided && inverse) {
                row[0].imag(0);
                if (length % 2 == 0) row[static_cast<size_t>(length / 2)].imag(0);
                for (int64_t i = 1; i < (length + 1) / 2; ++i)
                    row[static_cast<size_t>(length - i)] = std::conj(row[static_cast<size_t>(i)]);
            }
            fft.run(row.data(), room);
            for (int64_t i = 0; i < out; ++i) {
                const int64_t at = ((o * out + i) * inner + c) * out_parts;
                set_number(y, at, row[static_cast<size_t>(i)].real() * scale);
                if (out_parts == 2) set_number(y, at + 1, row[static_cast<size_t>(i)].imag() * scale);
            }
        }
    });
}

void infer_stft(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype), "signal is ", dtype_name(x.dtype));
    if (x.ranked) require(x.rank() == 2 || x.rank() == 3, "signal has rank ", x.rank(), ", expected 3, or 2 (real)");
    if (!x.ranked || x.rank() == 3) check_parts(x);
    const bool onesided = ctx.attributes.i("onesided", 1) != 0;
    const int64_t batch = x.ranked ? x.shape[0] : kUnknownDim, length = x.ranked ? x.shape[1] : kUnknownDim;
    int64_t frame = length;
    if (ctx.has_input(2)) {
        const Fact& window = tensor_input(ctx, 2);
        if (window.ranked) require(window.rank() == 1, "window has rank ", window.rank(), ", expected 1");
        frame = window.ranked ? window.shape[0] : kUnknownDim;
        if (ctx.has_input(3)) frame = same_dim(ctx.dims, frame, size_operand(ctx, 3), "window against frame_length");
    } else if (ctx.has_input(3)) {
        frame = size_operand(ctx, 3);
    }
    const int64_t step = size_operand(ctx, 1);
    if (is_number(step)) require(step > 0, "frame_step is ", step);
    if (is_number(frame)) require(frame > 0 && frame <= kLongest, "frame_length is ", frame);
    if (is_number(frame) && is_number(length))
        require(frame <= length, "frame_length is ", frame, ", the signal has ", length, " samples");
    const int64_t frames = ctx.dims.add(ctx.dims.floor_div(ctx.dims.sub(length, frame), step), 1);
    ctx.output(0, x.dtype, {batch, frames, onesided ? half_of(ctx.dims, frame) : frame, 2});
}

void run_stft(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const int64_t step = int_at(ctx.input(1), 0), length = x.shape[1];
    const int64_t parts = x.shape.size() == 3 ? x.shape[2] : 1;
    const Tensor* window = ctx.has_input(2) ? &ctx.input(2) : nullptr;
    const int64_t frame = window ? window->count() : ctx.has_input(3) ? int_at(ctx.input(3), 0) : length;
    const int64_t frames = y.shape[1], bins = y.shape[2];
    const Fft fft(frame, false);
    parallel_ranges(ctx.parallel(), x.shape[0] * frames, row_grain(frame, 32), [&](int64_t begin, int64_t end) {
        std::vector<Complex> row(static_cast<size_t>(frame)), room;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t first = r / frames * length + r % frames * step;
            for (int64_t i = 0; i < frame; ++i) {
                const double w = window ? double_at(*window, i) : 1.0;
                const int64_t at = (first + i) * parts;
                row[static_cast<size_t>(i)] = {double_at(x, at) * w, parts == 2 ? double_at(x, at + 1) * w : 0.0};
            }
            fft.run(row.data(), room);
            for (int64_t i = 0; i < bins; ++i) {
                set_number(y, (r * bins + i) * 2, row[static_cast<size_t>(i)].real());
                set_number(y, (r * bins + i) * 2 + 1, row[static_cast<size_t>(i)].imag());
            }
        }
    });
}

}  // namespace

std::span<const OpDef> dft_ops() {
    static const OpDef rows[] = {
        {.name = "DFT", .since = 17, .infer = infer_dft, .run = run_dft, .min_inputs = 1, .max_inputs = 2},
        {.name = "DFT", .since = 20, .infer = infer_dft, .run = run_dft, .min_inputs = 1, .max_inputs = 3},
        {.name = "STFT", .since = 17, .infer = infer_stft, .run = run_stft, .min_inputs = 2, .max_inputs = 4},
    };
    return rows;
}

}  // namespace linnet
