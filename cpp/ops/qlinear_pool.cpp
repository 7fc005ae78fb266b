// linnet.QLinearAveragePool and QLinearGlobalAveragePool, channels-last: sums of bytes in int32, exact, become
//   clamp(round_half_even(float(sum of (x - x_zero)) * (x_scale / y_scale / float(count))) + y_zero, lo, hi)
// where count is the number of pixels of the window (with count_include_pad, of padding too, which counts as 0).
// Attributes: those of AveragePool; x_scale, x_zero, y_scale, y_zero, lo, hi, dtype (of the result; absent: of x).
#include <algorithm>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/elementwise.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

constexpr size_t kMostTaps = size_t{1} << 23;  // int32 holds the sum

void infer_window(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const Fact& x = ctx.input(0);
    const auto dtype = static_cast<DType>(ctx.attributes.i("dtype", static_cast<int64_t>(x.dtype)));
    if (!x.ranked) return ctx.output_unranked(0, dtype);
    const auto spatial = static_cast<size_t>(x.rank() - 2);
    const WindowAttributes window = read_window(ctx.attributes, spatial, nullptr);
    Shape out = x.shape;
    for (size_t i = 0; i < spatial; ++i) out[1 + i] = window_output(ctx.dims, window, i, x.shape[1 + i]);
    ctx.output(0, dtype, out);
}

void infer_global(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const Fact& x = ctx.input(0);
    const auto dtype = static_cast<DType>(ctx.attributes.i("dtype", static_cast<int64_t>(x.dtype)));
    if (!x.ranked) return ctx.output_unranked(0, dtype);
    Shape out = x.shape;
    for (size_t i = 1; i + 1 < out.size(); ++i) out[i] = 1;
    ctx.output(0, dtype, out);
}

struct PoolState {
    kernels::Window window;
    TapTable table;
    int64_t images = 0, pixels = 0, channels = 0, in_elements = 0, block = 1;
    bool global = false;
    kernels::PoolBytes call;
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto made = std::make_shared<PoolState>();
    PoolState& plan = *made;
    const Shape &x = ctx.input(0).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    plan.global = ctx.node.op_type == "QLinearGlobalAveragePool";
    plan.images = x[0], plan.channels = x.back();
    plan.pixels = product(y, 1, 1 + spatial);
    plan.in_elements = product(x, 1, x.size());
    const Attributes& from = ctx.attributes;
    const auto whole = [&](const char* name, int64_t absent) { return static_cast<int32_t>(from.i(name, absent)); };
    kernels::PoolBytes& call = plan.call;
    call.x_signed = ctx.input(0).dtype == DType::i8;
    call.y_signed = ctx.output(0).dtype == DType::i8;
    call.y_stride = plan.channels;
    call.count_include_pad = from.i("count_include_pad", 0) != 0;
    call.scale = from.f("x_scale", 1) / from.f("y_scale", 1);
    call.x_zero = whole("x_zero", 0), call.zero = whole("y_zero", 0);
    call.lo = whole("lo", call.y_signed ? -128 : 0), call.hi = whole("hi", call.y_signed ? 127 : 255);
    if (plan.global) {
        call.taps = static_cast<size_t>(product(x, 1, 1 + spatial));
        call.x_stride = plan.channels;
    } else {
        plan.window = make_window(read_window(from, spatial, nullptr), &x[1], &y[1], x.back());
        call.taps = plan.window.taps();
    }
    if (call.taps > kMostTaps) fail(ErrorKind::not_implemented, "a window of ", call.taps, " pixels");
    if (plan.global || element_count(y) == 0) return made;
    plan.table.prepare(plan.window, plan.in_elements);
    const int64_t work = std::max<int64_t>(1, static_cast<int64_t>(call.taps) * plan.channels);
    plan.block = plan.table.rows(1, std::clamp<int64_t>(65536 / work, 1, plan.pixels));
    return made;
}

// An image and some of its channels are a task.
void run_global(const RunContext& ctx, const PoolState& plan) {
    constexpr int64_t kChannels = 256;
    const int64_t parts = (plan.channels + kChannels - 1) / kChannels;
    const Parallel serial;
    const bool small = plan.images * plan.in_elements < kCheapGrain * 4;
    parallel_for(small ? serial : ctx.parallel(), plan.images * parts, [&](int64_t task) {
        const int64_t image = task / parts, begin = task % parts * kChannels;
        kernels::PoolBytes call = plan.call;
        call.pixels = 1;
        call.channels = static_cast<size_t>(std::min(kChannels, plan.channels - begin));
        call.x = ctx.input(0).as<uint8_t>() + image * plan.in_elements + begin;
        call.y = ctx.output(0).as<uint8_t>() + image * plan.channels + begin;
        kernels::kernels().avg_pool_bytes(call, 0, 1);
    });
}

void run(RunContext& ctx) {
    const PoolState& plan = *ctx.state<PoolState>();
    if (ctx.output(0).count() == 0) return;
    if (plan.global) return run_global(ctx, plan);
    const int64_t blocks = (plan.pixels + plan.block - 1) / plan.block;
    parallel_for(ctx.parallel(), plan.images * blocks, [&](int64_t task) {
        const int64_t image = task / blocks, begin = task % blocks * plan.block;
        int32_t buffer[TapTable::kBuffer];
        kernels::PoolBytes call = plan.call;
        call.pixels = static_cast<size_t>(std::min(plan.pixels - begin, plan.block));
        call.channels = static_cast<size_t>(plan.channels);
        call.x = ctx.input(0).as<uint8_t>() + image * plan.in_elements;
        call.offsets = plan.table.taps(begin, begin + static_cast<int64_t>(call.pixels), buffer, call.offsets_ld);
        call.y = ctx.output(0).as<uint8_t>() + (image * plan.pixels + begin) * plan.channels;
        kernels::kernels().avg_pool_bytes(call, 0, call.pixels);
    });
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
