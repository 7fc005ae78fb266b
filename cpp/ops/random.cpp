// RandomUniform, RandomNormal, their Like forms, Bernoulli, Multinomial. Values come from a counter: element i of a run
// is a hash of (seed, i), so that threads need no order. With the attribute `seed` every run draws the same values.
#include <cmath>
#include <vector>

#include "base/half.h"
#include "ops/convert.h"
#include "ops/elementwise.h"
#include "ops/shared/seed.h"

namespace linnet {
namespace {

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct Stream {
    uint64_t key;
    double uniform(uint64_t i) const {  // [0, 1), 53 bits
        return static_cast<double>(mix(key + 0x9e3779b97f4a7c15u * i) >> 11) * 0x1.0p-53;
    }
    double normal(uint64_t i) const {  // Box and Muller
        const double radius = std::sqrt(-2 * std::log(1 - uniform(2 * i)));
        return radius * std::cos(6.28318530717958647693 * uniform(2 * i + 1));
    }
};

Stream stream_of(const Attributes& attributes) {
    if (attributes.has("seed")) return {mix(float_to_bits(attributes.f("seed", 0)))};
    return {mix(fresh_seed())};
}

DType dtype_of_attribute(const InferContext& ctx, DType absent, DTypes allowed) {
    const int64_t number = ctx.attributes.i("dtype", static_cast<int64_t>(absent));
    if (number == 0) return DType::undefined;
    if (number < 0 || number >= kDTypeCount || !contains(allowed, static_cast<DType>(number)))
        fail(ErrorKind::invalid_graph, "dtype is data type ", number, ", which is not allowed here");
    return static_cast<DType>(number);
}

void infer_shaped(InferContext& ctx) {
    const std::vector<int64_t> sizes = ctx.attributes.ints("shape");
    if (!ctx.attributes.has("shape")) fail(ErrorKind::invalid_graph, "the attribute 'shape' is missing");
    const Shape shape(sizes.begin(), sizes.end());
    element_count(shape);
    ctx.output(0, dtype_of_attribute(ctx, DType::f32, kFloatTypes), shape);
}
void infer_like(InferContext& ctx) {
    const Fact& in = ctx.input(0);
    const DType dtype = dtype_of_attribute(ctx, in.dtype, kFloatTypes);
    ctx.output(0, in.ranked ? Fact::of(dtype, in.shape) : Fact::unranked(dtype));
}

// Fills y with fn(element index).
template <class Fn>
void fill(const RunContext& ctx, Tensor& y, const Fn& fn) {
    parallel_ranges(
        ctx.parallel(), y.count(), kCostlyGrain,
        [&](int64_t begin, int64_t end) {
            if (y.dtype == DType::f64) {
                for (int64_t i = begin; i < end; ++i) y.as<double>()[i] = fn(static_cast<uint64_t>(i));
                return;
            }
            float block[256];
            for (int64_t i = begin; i < end; i += 256) {
                const int64_t n = std::min<int64_t>(256, end - i);
                for (int64_t j = 0; j < n; ++j) block[j] = static_cast<float>(fn(static_cast<uint64_t>(i + j)));
                store_f32(y.dtype, block, static_cast<size_t>(n), y.data, i);
            }
        },
        64);
}

void run_uniform(RunContext& ctx) {
    const auto low = static_cast<double>(ctx.attributes.f("low", 0)),
               high = static_cast<double>(ctx.attributes.f("high", 1));
    const Stream stream = stream_of(ctx.attributes);
    fill(ctx, ctx.output(0), [&](uint64_t i) { return low + (high - low) * stream.uniform(i); });
}
void run_normal(RunContext& ctx) {
    const auto mean = static_cast<double>(ctx.attributes.f("mean", 0)),
               scale = static_cast<double>(ctx.attributes.f("scale", 1));
    const Stream stream = stream_of(ctx.attributes);
    fill(ctx, ctx.output(0), [&](uint64_t i) { return mean + scale * stream.normal(i); });
}

void infer_bernoulli(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    const Fact& in = ctx.input(0);
    const DType dtype = dtype_of_attribute(ctx, in.dtype, kNumberTypes | kBoolType);
    ctx.output(0, in.ranked ? Fact::of(dtype, in.shape) : Fact::unranked(dtype));
}
void run_bernoulli(RunContext& ctx) {
    const Tensor& p = ctx.input(0);
    const Stream stream = stream_of(ctx.attributes);
    fill(ctx, ctx.output(0),
         [&](uint64_t i) { return stream.uniform(i) < double_at(p, static_cast<int64_t>(i)) ? 1.0 : 0.0; });
}

void infer_multinomial(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    const int64_t samples = ctx.attributes.i("sample_size", 1);
    if (samples < 0) fail(ErrorKind::invalid_graph, "sample_size is ", samples);
    const DType dtype = dtype_of_attribute(ctx, DType::i32, set_of({DType::i32, DType::i64}));
    const Fact& in = ctx.input(0);
    if (in.ranked && in.rank() != 2) fail(ErrorKind::invalid_graph, "the input has rank ", in.rank(), ", expected 2");
    if (in.ranked && in.shape[1] == 0) fail(ErrorKind::invalid_argument, "there are no classes to draw from");
    ctx.output(0, dtype, {in.ranked ? in.shape[0] : kUnknownDim, samples});
}
// Rows of unnormalised log-probabilities; draws by the inverse of the cumulative distribution.
void run_multinomial(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t classes = x.shape[1], samples = y.shape[1];
    const Stream stream = stream_of(ctx.attributes);
    std::vector<double> sums(static_cast<size_t>(classes));
    for (int64_t row = 0; row < x.shape[0]; ++row) {
        double most = -HUGE_VAL, total = 0;
        for (int64_t c = 0; c < classes; ++c) most = std::max(most, double_at(x, row * classes + c));
        for (int64_t c = 0; c < classes; ++c)
            sums[static_cast<size_t>(c)] = total += std::exp(double_at(x, row * classes + c) - most);
        for (int64_t s = 0; s < samples; ++s) {
            const double at = total * stream.uniform(static_cast<uint64_t>(row * samples + s));
            const auto found = std::upper_bound(sums.begin(), sums.end(), at);
            const int64_t drawn = std::min<int64_t>(found - sums.begin(), classes - 1);
            if (y.dtype == DType::i32) y.as<int32_t>()[row * samples + s] = static_cast<int32_t>(drawn);
            else y.as<int64_t>()[row * samples + s] = drawn;
        }
    }
}

}  // namespace

std::span<const OpDef> random_ops() {
    static const OpDef rows[] = {
        {.name = "RandomUniform",
         .infer = infer_shaped,
         .run = run_uniform,
         .flags = kRandom,
         .min_inputs = 0,
         .max_inputs = 0},
        {.name = "RandomNormal",
         .infer = infer_shaped,
         .run = run_normal,
         .flags = kRandom,
         .min_inputs = 0,
         .max_inputs = 0},
        {.name = "RandomUniformLike",
         .infer = infer_like,
         .run = run_uniform,
         .flags = kRandom,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "RandomNormalLike",
         .infer = infer_like,
         .run = run_normal,
         .flags = kRandom,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Bernoulli",
         .since = 15,
         .infer = infer_bernoulli,
         .run = run_bernoulli,
         .flags = kRandom,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Multinomial",
         .since = 7,
         .infer = infer_multinomial,
         .run = run_multinomial,
         .flags = kRandom,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
