// linnet.QLinearAveragePool and QLinearGlobalAveragePool, channels-last: sums of bytes in int32, exact, become
//   clamp(round_half_even(float(sum of (x - x_zero)) * (x_scale / (count * y_scale))) + y_zero, lo, hi)
// where count is the number of pixels of the window (with count_include_pad, of padding too, which counts as 0).
// Attributes: those of AveragePool; x_scale, x_zero, y_scale, y_zero, lo, hi.
#include <algorithm>
#include <cmath>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/elementwise.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

void infer_window(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const Fact& x = ctx.input(0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    const auto spatial = static_cast<size_t>(x.rank() - 2);
    const WindowAttributes window = read_window(ctx.attributes, spatial, nullptr);
    Shape out = x.shape;
    for (size_t i = 0; i < spatial; ++i) out[1 + i] = window_output(ctx.dims, window, i, x.shape[1 + i]);
    ctx.output(0, x.dtype, out);
}

void infer_global(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const Fact& x = ctx.input(0);
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    Shape out = x.shape;
    for (size_t i = 1; i + 1 < out.size(); ++i) out[i] = 1;
    ctx.output(0, x.dtype, out);
}

struct PoolState {
    kernels::Window window;
    TapTable table;
    int64_t images = 0, pixels = 0, channels = 0, in_elements = 0, block = 1;
    bool global = false, count_include_pad = false;
    int32_t x_zero = 0, y_zero = 0, lo = 0, hi = 255;
    float x_scale = 1, y_scale = 1;
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto made = std::make_shared<PoolState>();
    PoolState& plan = *made;
    const Shape &x = ctx.input(0).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    plan.global = ctx.node.op_type == "QLinearGlobalAveragePool";
    plan.images = x[0], plan.channels = x.back();
    plan.pixels = product(plan.global ? x : y, 1, 1 + spatial);
    plan.in_elements = product(x, 1, x.size());
    const Attributes& from = ctx.attributes;
    plan.count_include_pad = from.i("count_include_pad", 0) != 0;
    const bool is_signed = ctx.input(0).dtype == DType::i8;
    plan.x_scale = from.f("x_scale", 1), plan.y_scale = from.f("y_scale", 1);
    plan.x_zero = static_cast<int32_t>(from.i("x_zero", 0)), plan.y_zero = static_cast<int32_t>(from.i("y_zero", 0));
    plan.lo = static_cast<int32_t>(from.i("lo", is_signed ? -128 : 0));
    plan.hi = static_cast<int32_t>(from.i("hi", is_signed ? 127 : 255));
    if (plan.global || element_count(y) == 0) return made;
    plan.window = make_window(read_window(from, spatial, nullptr), &x[1], &y[1], x.back());
    plan.table.prepare(plan.window, plan.in_elements);
    const int64_t work = std::max<int64_t>(1, static_cast<int64_t>(plan.window.taps()) * plan.channels);
    plan.block = plan.table.rows(1, std::clamp<int64_t>(65536 / work, 1, plan.pixels));
    return made;
}

uint8_t finish(const PoolState& plan, int32_t sum, float scale) {
    const auto whole = static_cast<int32_t>(std::nearbyint(static_cast<float>(sum) * scale));
    return static_cast<uint8_t>(std::clamp(whole + plan.y_zero, plan.lo, plan.hi));
}

constexpr int64_t kChannels = 256;  // sums kept at a time

// Adds n bytes to sums.
template <class T>
[[gnu::optimize("O3")]] void add_bytes(const T* x, int64_t n, int32_t* sums) {
    for (int64_t c = 0; c < n; ++c) sums[c] += x[c];
}

template <class T>
void run_global_typed(const RunContext& ctx, const PoolState& plan) {
    const float scale = plan.x_scale / (static_cast<float>(plan.pixels) * plan.y_scale);
    const int64_t parts = (plan.channels + kChannels - 1) / kChannels;
    parallel_for(ctx.parallel(), plan.images * parts, [&](int64_t task) {
        const int64_t image = task / parts, begin = task % parts * kChannels;
        const int64_t n = std::min(kChannels, plan.channels - begin);
        int32_t sums[kChannels] = {};
        const T* x = ctx.input(0).as<T>() + image * plan.in_elements + begin;
        for (int64_t p = 0; p < plan.pixels; ++p) add_bytes(x + p * plan.channels, n, sums);
        auto* y = ctx.output(0).as<uint8_t>() + image * plan.channels + begin;
        const auto all = static_cast<int32_t>(plan.pixels) * plan.x_zero;
        for (int64_t c = 0; c < n; ++c) y[c] = finish(plan, sums[c] - all, scale);
    });
}

template <class T>
void run_window_typed(const RunContext& ctx, const PoolState& plan) {
    const int64_t blocks = (plan.pixels + plan.block - 1) / plan.block;
    const auto taps = static_cast<int64_t>(plan.window.taps());
    parallel_for(ctx.parallel(), plan.images * blocks, [&](int64_t task) {
        const int64_t image = task / blocks, begin = task % blocks * plan.block;
        const int64_t end = std::min(plan.pixels, begin + plan.block);
        int32_t buffer[TapTable::kBuffer], sums[kChannels];
        size_t ld = 0;
        const int32_t* offsets = plan.table.taps(begin, end, buffer, ld);
        const T* x = ctx.input(0).as<T>() + image * plan.in_elements;
        for (int64_t p = begin; p < end; ++p) {
            int32_t pixels = 0, padding = 0;
            const int32_t* own = offsets + (p - begin);
            for (int64_t t = 0; t < taps; ++t) {
                const int32_t offset = own[static_cast<size_t>(t) * ld];
                pixels += offset >= 0;
                padding += offset == kernels::tap_padding;
            }
            const int32_t count = plan.count_include_pad ? pixels + padding : pixels;
            const float scale = plan.x_scale / (static_cast<float>(std::max(1, count)) * plan.y_scale);
            auto* y = ctx.output(0).as<uint8_t>() + (image * plan.pixels + p) * plan.channels;
            for (int64_t c = 0; c < plan.channels; c += kChannels) {
                const int64_t n = std::min(kChannels, plan.channels - c);
                std::fill_n(sums, n, -pixels * plan.x_zero);
                for (int64_t t = 0; t < taps; ++t)
                    if (const int32_t offset = own[static_cast<size_t>(t) * ld]; offset >= 0)
                        add_bytes(x + offset + c, n, sums);
                for (int64_t i = 0; i < n; ++i) y[c + i] = finish(plan, sums[i], scale);
            }
        }
    });
}

void run(RunContext& ctx) {
    const PoolState& plan = *ctx.state<PoolState>();
    if (ctx.output(0).count() == 0) return;
    const bool is_signed = ctx.input(0).dtype == DType::i8;
    if (plan.global) is_signed ? run_global_typed<int8_t>(ctx, plan) : run_global_typed<uint8_t>(ctx, plan);
    else is_signed ? run_window_typed<int8_t>(ctx, plan) : run_window_typed<uint8_t>(ctx, plan);
}

constexpr OpDef op(std::string_view name, void (*infer)(InferContext&)) {
    return {.name = name,
            .domain = "linnet",
            .infer = infer,
            .run = run,
            .prepare = prepare,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> qlinear_pool_ops() {
    static const OpDef rows[] = {op("QLinearAveragePool", infer_window), op("QLinearGlobalAveragePool", infer_global)};
    return rows;
}

}  // namespace linnet
