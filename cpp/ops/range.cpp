// Range (11, 27): start, start + delta, ... below limit.
#include <cmath>

#include "base/half.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// Elements of a range of integers, or of floats as doubles.
int64_t range_length(const Tensor& start, const Tensor& limit, const Tensor& delta) {
    if (is_int(start.dtype)) {
        const __int128 first = int_at(start, 0), last = int_at(limit, 0), step = int_at(delta, 0);
        if (step == 0) fail(ErrorKind::invalid_argument, "a range with a delta of 0");
        const __int128 distance = step > 0 ? last - first : first - last, pace = step > 0 ? step : -step;
        if (distance <= 0) return 0;
        const __int128 count = (distance + pace - 1) / pace;
        if (count > (static_cast<__int128>(1) << 48)) fail(ErrorKind::invalid_argument, "a range of too many elements");
        return static_cast<int64_t>(count);
    }
    const double first = double_at(start, 0), last = double_at(limit, 0), step = double_at(delta, 0);
    if (step == 0 || std::isnan(first) || std::isnan(last) || std::isnan(step))
        fail(ErrorKind::invalid_argument, "a range from ", first, " to ", last, " by ", step);
    const double count = std::ceil((last - first) / step);
    if (!(count > 0)) return 0;
    if (count > static_cast<double>(int64_t{1} << 48))
        fail(ErrorKind::invalid_argument, "a range of too many elements");
    return static_cast<int64_t>(count);
}

void infer_range(InferContext& ctx) {
    DType dtype = DType::undefined;
    for (int i = 0; i < 3; ++i) {
        const Fact& input = tensor_input(ctx, i);
        if (dtype == DType::undefined) dtype = input.dtype;
        require(input.dtype == dtype || input.dtype == DType::undefined, "start, limit and delta differ in type");
        if (input.ranked &&
            (input.rank() > 1 || (input.rank() == 1 && is_number(input.shape[0]) && input.shape[0] != 1)))
            fail(ErrorKind::invalid_graph, "start, limit and delta must be scalars");
    }
    const Tensor *start = ctx.constant(0), *limit = ctx.constant(1), *delta = ctx.constant(2);
    if (start && limit && delta) {
        const int64_t count = range_length(*start, *limit, *delta);
        Fact out = Fact::of(dtype, {count});
        if (is_int(dtype) && count <= static_cast<int64_t>(kMaxInts)) {
            out.ints.emplace();
            auto value = static_cast<uint64_t>(int_at(*start, 0));  // may wrap behind the last element
            for (int64_t i = 0; i < count; ++i, value += static_cast<uint64_t>(int_at(*delta, 0)))
                out.ints->push_back(as_dim(static_cast<int64_t>(value)));
        }
        return ctx.output(0, std::move(out));
    }
    int64_t count = kUnknownDim;
    const Shape *first = ctx.ints(0), *last = ctx.ints(1), *step = ctx.ints(2);
    if (first && last && step && first->size() == 1 && last->size() == 1 && step->size() == 1 &&
        is_number((*step)[0])) {
        if ((*step)[0] == 0) fail(ErrorKind::invalid_argument, "a range with a delta of 0");
        if ((*step)[0] > 0) count = ctx.dims.ceil_div(ctx.dims.sub((*last)[0], (*first)[0]), (*step)[0]);
        if (is_number(count) && count < 0) count = 0;
    }
    ctx.output(0, dtype, {count});
}

template <class T>
void integers(const Tensor& start, const Tensor& delta, Tensor& y) {
    // Unsigned steps wrap instead of overflowing behind the last element.
    auto value = static_cast<uint64_t>(*start.as<T>());
    const auto step = static_cast<uint64_t>(*delta.as<T>());
    const int64_t count = y.count();
    for (int64_t i = 0; i < count; ++i, value += step) y.as<T>()[i] = static_cast<T>(value);
}

void run_range(RunContext& ctx) {
    const Tensor &start = ctx.input(0), &delta = ctx.input(2);
    Tensor& y = ctx.output(0);
    const int64_t count = y.count();
    switch (y.dtype) {
        case DType::i64: return integers<int64_t>(start, delta, y);
        case DType::i32: return integers<int32_t>(start, delta, y);
        case DType::i16: return integers<int16_t>(start, delta, y);
        default: break;
    }
    const double first = double_at(start, 0), step = double_at(delta, 0);
    for (int64_t i = 0; i < count; ++i) {
        const double value = first + static_cast<double>(i) * step;
        switch (y.dtype) {
            case DType::f64: y.as<double>()[i] = value; break;
            case DType::f32: y.as<float>()[i] = static_cast<float>(value); break;
            case DType::f16: y.as<Half>()[i] = to_half(static_cast<float>(value)); break;
            case DType::bf16: y.as<BFloat16>()[i] = to_bfloat16(static_cast<float>(value)); break;
            default: fail(ErrorKind::not_implemented, "Range of ", dtype_name(y.dtype));
        }
    }
}

}  // namespace

std::span<const OpDef> range_ops() {
    static const OpDef rows[] = {
        {.name = "Range", .since = 11, .infer = infer_range, .run = run_range, .min_inputs = 3, .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
