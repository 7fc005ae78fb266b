// MaxPool (ai.onnx 1, 8, 10, 11, 12, 22), AveragePool (1, 7, 10, 11, 19, 22), LpPool (1, 2, 11, 18, 22). Attributes:
// kernel_shape, auto_pad "NOTSET", ceil_mode 0, dilations 1, pads 0, strides 1; storage_order 0 (MaxPool),
// count_include_pad 0 (AveragePool), p 2 (LpPool). Lowered to internal, channels-last operators of the same names.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/conv_fold.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

void infer(InferContext& ctx, size_t first, bool narrow) {
    const Fact& x = ctx.input(0);
    require(is_float(x.dtype) || (narrow && (x.dtype == DType::u8 || x.dtype == DType::i8)), "x is ",
            dtype_name(x.dtype), ", expected a float type", narrow ? ", int8 or uint8" : "");
    const int64_t spatial = spatial_rank(ctx.attributes, x, nullptr);
    require(spatial >= 1, "x has rank ", spatial + 2, ", expected at least 3");
    const WindowAttributes window = read_window(ctx.attributes, static_cast<size_t>(spatial), nullptr);
    Shape out(static_cast<size_t>(spatial) + 2, kUnknownDim);
    if (x.ranked) {
        out = x.shape;
        for (size_t i = 0; i < window.spatial; ++i)
            out[first + i] = window_output(ctx.dims, window, i, x.shape[first + i]);
    }
    ctx.output(0, x.dtype, out);
    if (narrow) ctx.output(1, DType::i64, out);  // MaxPool's indices
}

void infer_max_first(InferContext& ctx) { infer(ctx, 2, true); }
void infer_max_last(InferContext& ctx) { infer(ctx, 1, true); }
void infer_first(InferContext& ctx) { infer(ctx, 2, false); }
void infer_last(InferContext& ctx) { infer(ctx, 1, false); }

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const int64_t spatial = spatial_rank(node.attributes, graph.fact(node.inputs[0]), nullptr);
    return spatial > 0 && lower_channels_last(graph, id, node.op_type, spatial, patch);
}

struct PoolPlan {
    kernels::Window window;
    TapTable table;
    int64_t images = 0, pixels = 0, channels = 0, in_elements = 0, block = 1;
    bool count_include_pad = false, column_major = false;
    float p = 2;
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto plan = std::make_shared<PoolPlan>();
    const Shape &x = ctx.input(0).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    plan->window = make_window(read_window(ctx.attributes, spatial, nullptr), &x[1], &y[1], x.back());
    plan->images = x[0];
    plan->channels = x.back();
    plan->pixels = product(y, 1, 1 + spatial);
    plan->in_elements = product(x, 1, x.size());
    plan->count_include_pad = ctx.attributes.i("count_include_pad", 0) != 0;
    plan->column_major = ctx.attributes.i("storage_order", 0) != 0;
    if (const Attribute* p = ctx.attributes.find("p")) {  // a float before opset 2
        const auto* as_float = std::get_if<float>(&p->data);
        plan->p = as_float ? *as_float : static_cast<float>(ctx.attributes.i("p", 2));
    }
    require(plan->p > 0, "p is ", plan->p, ", expected a positive number");
    if (element_count(y) == 0) return plan;
    plan->table.prepare(plan->window, plan->in_elements);
    const int64_t work = std::max<int64_t>(1, static_cast<int64_t>(plan->window.taps()) * plan->channels);
    plan->block = plan->table.rows(1, std::clamp<int64_t>(65536 / work, 1, plan->pixels));
    return plan;
}

// Calls body(image, first pixel, last pixel, first channel, last channel, offsets of the first pixel, their ld) for
// parts of the output; windows of few pixels are split by channels as well.
template <class Body>
void for_parts(const RunContext& ctx, const PoolPlan& plan, const Body& body) {
    if (plan.images * plan.pixels * plan.channels == 0) return;
    const int64_t blocks = (plan.pixels + plan.block - 1) / plan.block;
    const int threads = ctx.parallel().threads;
    int64_t split = 1;
    if (plan.images * blocks < 2 * threads)
        split = std::max<int64_t>(1, std::min<int64_t>(threads, plan.channels / 64));
    const int64_t chunk = ((plan.channels + split - 1) / split + 15) / 16 * 16;
    split = (plan.channels + chunk - 1) / chunk;
    const Parallel serial;
    const double work = static_cast<double>(plan.images * plan.pixels) * static_cast<double>(plan.channels) *
                        static_cast<double>(plan.window.taps());
    parallel_for(work < 65536 ? serial : ctx.parallel(), plan.images * blocks * split, [&](int64_t task) {
        const int64_t part = task % split, block = task / split % blocks, image = task / split / blocks;
        const int64_t begin = block * plan.block, end = std::min(plan.pixels, begin + plan.block);
        int32_t buffer[TapTable::kBuffer];
        size_t ld = 0;
        const int32_t* offsets = plan.table.taps(begin, end, buffer, ld);
        body(image, begin, end, part * chunk, std::min(plan.channels, (part + 1) * chunk), offsets, ld);
    });
}

void run_f32(const RunContext& ctx, const PoolPlan& plan,
             void (*kernel)(const kernels::PoolF32&, size_t, size_t) noexcept) {
    for_parts(ctx, plan,
              [&](int64_t image, int64_t begin, int64_t end, int64_t channel, int64_t last, const int32_t* offsets,
                  size_t ld) {
                  kernels::PoolF32 call;
                  call.pixels = static_cast<size_t>(end - begin);
                  call.taps = plan.window.taps();
                  call.channels = static_cast<size_t>(last - channel);
                  call.x = ctx.input(0).as<float>() + image * plan.in_elements + channel;
                  call.offsets = offsets;
                  call.offsets_ld = ld;
                  call.y = ctx.output(0).as<float>() + (image * plan.pixels + begin) * plan.channels + channel;
                  call.y_stride = plan.channels;
                  call.count_include_pad = plan.count_include_pad;
                  kernel(call, 0, call.pixels);
              });
}

void run_max_bytes(const RunContext& ctx, const PoolPlan& plan) {
    for_parts(ctx, plan,
              [&](int64_t image, int64_t begin, int64_t end, int64_t channel, int64_t last, const int32_t* offsets,
                  size_t ld) {
                  kernels::PoolBytes call;
                  call.pixels = static_cast<size_t>(end - begin);
                  call.taps = plan.window.taps();
                  call.channels = static_cast<size_t>(last - channel);
                  call.x = ctx.input(0).as<uint8_t>() + image * plan.in_elements + channel;
                  call.x_signed = call.y_signed = ctx.input(0).dtype == DType::i8;
                  call.offsets = offsets;
                  call.offsets_ld = ld;
                  call.y = ctx.output(0).as<uint8_t>() + (image * plan.pixels + begin) * plan.channels + channel;
                  call.y_stride = plan.channels;
                  kernels::kernels().max_pool_bytes(call, 0, call.pixels);
              });
}

template <class T>
auto comparable(T value) {
    if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>) return to_float(value);
    else return value;
}

template <class T>
T lowest() {
    if constexpr (std::is_same_v<T, Half>) return {0xfc00};
    else if constexpr (std::is_same_v<T, BFloat16>) return {0xff80};
    else
        return std::numeric_limits<T>::has_infinity ? -std::numeric_limits<T>::infinity()
                                                    : std::numeric_limits<T>::lowest();
}

// The position within a channels-first image of the pixel at `offset` of a channels-last one.
int64_t channels_first_position(const PoolPlan& plan, int64_t offset) {
    const int64_t pixel = offset / plan.channels;
    if (!plan.column_major) return pixel;
    const auto height = static_cast<int64_t>(plan.window.in[1]), width = static_cast<int64_t>(plan.window.in[2]);
    const auto depth = static_cast<int64_t>(plan.window.in[0]);
    const int64_t w = pixel % width, h = pixel / width % height, d = pixel / width / height;
    return (w * height + h) * depth + d;
}

template <class T>
void run_max_typed(const RunContext& ctx, const PoolPlan& plan) {
    const int64_t image_pixels = plan.channels ? plan.in_elements / plan.channels : 0;
    const auto taps = static_cast<int64_t>(plan.window.taps());
    for_parts(ctx, plan,
              [&](int64_t image, int64_t begin, int64_t end, int64_t channel, int64_t last, const int32_t* offsets,
                  size_t ld) {
                  const T* x = ctx.input(0).as<T>() + image * plan.in_elements;
                  int64_t* indices = ctx.has_output(1) ? ctx.output(1).as<int64_t>() : nullptr;
                  for (int64_t p = begin; p < end; ++p) {
                      const int64_t row = (image * plan.pixels + p) * plan.channels;
                      T* y = ctx.output(0).as<T>() + row;
                      bool found = false;
                      for (int64_t t = 0; t < taps; ++t) {
                          const int64_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p - begin)];
                          if (offset < 0) continue;
                          const T* from = x + offset;
                          const int64_t position = indices ? channels_first_position(plan, offset) : 0;
                          for (int64_t c = channel; c < last; ++c) {
                              if (found && !(comparable(from[c]) > comparable(y[c]))) continue;
                              y[c] = from[c];
                              if (indices) indices[row + c] = (image * plan.channels + c) * image_pixels + position;
                          }
                          found = true;
                      }
                      if (found) continue;
                      std::fill(y + channel, y + last, lowest<T>());
                      if (indices) std::fill(indices + row + channel, indices + row + last, 0);
                  }
              });
}

void run_max(RunContext& ctx) {
    const PoolPlan& plan = *ctx.state<PoolPlan>();
    const DType dtype = ctx.input(0).dtype;
    if (dtype == DType::f32 && !ctx.has_output(1)) return run_f32(ctx, plan, kernels::kernels().max_pool_f32);
    if (dtype_size(dtype) == 1 && !ctx.has_output(1)) return run_max_bytes(ctx, plan);
    switch (dtype) {
        case DType::f32: return run_max_typed<float>(ctx, plan);
        case DType::f64: return run_max_typed<double>(ctx, plan);
        case DType::f16: return run_max_typed<Half>(ctx, plan);
        case DType::bf16: return run_max_typed<BFloat16>(ctx, plan);
        case DType::u8: return run_max_typed<uint8_t>(ctx, plan);
        default: return run_max_typed<int8_t>(ctx, plan);
    }
}

void run_average(RunContext& ctx) { run_f32(ctx, *ctx.state<PoolPlan>(), kernels::kernels().avg_pool_f32); }

void run_lp(RunContext& ctx) {
    const PoolPlan& plan = *ctx.state<PoolPlan>();
    const auto taps = static_cast<int64_t>(plan.window.taps());
    for_parts(ctx, plan,
              [&](int64_t image, int64_t begin, int64_t end, int64_t channel, int64_t last, const int32_t* offsets,
                  size_t ld) {
                  const float* x = ctx.input(0).as<float>() + image * plan.in_elements;
                  for (int64_t p = begin; p < end; ++p) {
                      float* y = ctx.output(0).as<float>() + (image * plan.pixels + p) * plan.channels;
                      std::fill(y + channel, y + last, 0.0f);
                      for (int64_t t = 0; t < taps; ++t) {
                          const int64_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p - begin)];
                          if (offset < 0) continue;
                          const float* from = x + offset;
                          if (plan.p == 1)
                              for (int64_t c = channel; c < last; ++c) y[c] += std::fabs(from[c]);
                          else if (plan.p == 2)
                              for (int64_t c = channel; c < last; ++c) y[c] += from[c] * from[c];
                          else
                              for (int64_t c = channel; c < last; ++c) y[c] += std::pow(std::fabs(from[c]), plan.p);
                      }
                      if (plan.p == 2)
                          for (int64_t c = channel; c < last; ++c) y[c] = std::sqrt(y[c]);
                      else if (plan.p != 1)
                          for (int64_t c = channel; c < last; ++c) y[c] = std::pow(y[c], 1 / plan.p);
                  }
              });
}

// com.microsoft NhwcMaxPool.
bool lower_last(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    patch.replace(node.outputs[0], patch.node("MaxPool", node.inputs, node.attributes, "linnet"));
    return true;
}

}  // namespace

std::span<const OpDef> pool_ops() {
    static const OpDef rows[] = {
        {.name = "MaxPool",
         .infer = infer_max_first,
         .simplify = fold_pad_into_pool,
         .lower = lower,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "AveragePool",
         .infer = infer_first,
         .simplify = fold_pad_into_pool,
         .lower = lower,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "NhwcMaxPool",
         .domain = "com.microsoft",
         .infer = infer_max_last,
         .lower = lower_last,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "LpPool", .infer = infer_first, .lower = lower, .min_inputs = 1, .max_inputs = 1},
        {.name = "MaxPool",
         .domain = "linnet",
         .infer = infer_max_last,
         .run = run_max,
         .prepare = prepare,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "AveragePool",
         .domain = "linnet",
         .infer = infer_last,
         .run = run_average,
         .prepare = prepare,
         .flags = kFloat32Only,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "LpPool",
         .domain = "linnet",
         .infer = infer_last,
         .run = run_lp,
         .prepare = prepare,
         .flags = kFloat32Only,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
