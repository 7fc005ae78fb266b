// Sum, Mean, Max, Min: any number of operands, broadcast together (from opset 8; equal shapes before).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "ops/broadcast.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

using kernels::Binary;

struct Sum {
    static constexpr Binary kernel = Binary::add;
    template <class T>
    static T apply(T a, T b) {
        return a + b;
    }
};
struct Max {
    static constexpr Binary kernel = Binary::max;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return std::isnan(a) ? a : std::isnan(b) ? b : std::max(a, b);
        else return std::max(a, b);
    }
};
struct Min {
    static constexpr Binary kernel = Binary::min;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return std::isnan(a) ? a : std::isnan(b) ? b : std::min(a, b);
        else return std::min(a, b);
    }
};

struct VariadicState {
    std::vector<Broadcast> plans;  // of (output so far, input i); the first of inputs 0 and 1
    RowFn row = nullptr;
    float count = 0;  // operands
    DType dtype = DType::undefined;
    bool mean = false;
};

template <class Op, class T>
void typed_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    const T* a = static_cast<const T*>(in[0]);
    const T* b = static_cast<const T*>(in[1]);
    for (size_t i = 0; i < n; ++i) static_cast<T*>(out)[i] = Op::apply(a[i * step[0]], b[i * step[1]]);
}
template <class Op>
void f32_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_f32(Op::kernel, n, static_cast<const float*>(in[0]), step[0],
                                  static_cast<const float*>(in[1]), step[1], static_cast<float*>(out));
}
// The last sum of a Mean, divided while it is in the cache.
void mean_f32_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const float count = static_cast<const VariadicState*>(context)->count;
    const float* a = static_cast<const float*>(in[0]);
    const float* b = static_cast<const float*>(in[1]);
    float* y = static_cast<float*>(out);
    constexpr size_t kBlock = 2048;
    for (size_t i = 0; i < n; i += kBlock) {
        const size_t m = std::min(kBlock, n - i);
        const auto& k = kernels::kernels();
        k.binary_f32(Binary::add, m, a + i * step[0], step[0], b + i * step[1], step[1], y + i);
        k.binary_f32(Binary::div, m, y + i, 1, &count, 0, y + i);
    }
}
template <class Op>
void i64_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_i64(Op::kernel, n, static_cast<const int64_t*>(in[0]), step[0],
                                  static_cast<const int64_t*>(in[1]), step[1], static_cast<int64_t*>(out));
}
template <class Op>
void half_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const DType dtype = static_cast<const VariadicState*>(context)->dtype;
    float a[kHalfBlock], b[kHalfBlock];
    for (size_t i = 0; i < n; i += kHalfBlock) {
        const size_t m = std::min(kHalfBlock, n - i);
        half_to_f32(dtype, step[0] ? m : 1, static_cast<const uint16_t*>(in[0]) + i * step[0], a);
        half_to_f32(dtype, step[1] ? m : 1, static_cast<const uint16_t*>(in[1]) + i * step[1], b);
        float y[kHalfBlock];
        kernels::kernels().binary_f32(Op::kernel, m, a, step[0], b, step[1], y);
        f32_to_half(dtype, m, y, static_cast<uint16_t*>(out) + i);
    }
}

template <class Op>
RowFn float_row(DType dtype) {
    if (dtype == DType::f32) return f32_row<Op>;
    if (dtype == DType::f64) return typed_row<Op, double>;
    return half_row<Op>;
}
template <class Op>
RowFn number_row(DType dtype) {
    switch (dtype) {
        case DType::u8: return typed_row<Op, uint8_t>;
        case DType::u16: return typed_row<Op, uint16_t>;
        case DType::u32: return typed_row<Op, uint32_t>;
        case DType::u64: return typed_row<Op, uint64_t>;
        case DType::i8: return typed_row<Op, int8_t>;
        case DType::i16: return typed_row<Op, int16_t>;
        case DType::i32: return typed_row<Op, int32_t>;
        case DType::i64: return i64_row<Op>;
        default: return float_row<Op>(dtype);
    }
}

Shape joined(DimTable& dims, const Shape& a, const Shape& b) {
    Shape out(std::max(a.size(), b.size()));
    for (size_t i = 0; i < out.size(); ++i) {
        const size_t back = out.size() - i;
        out[i] = back > a.size()   ? b[b.size() - back]
                 : back > b.size() ? a[a.size() - back]
                                   : dims.broadcast(a[a.size() - back], b[b.size() - back]);
    }
    return out;
}

// Fact::ints of a maximum or minimum of small integer tensors.
void extreme_ints(InferContext& ctx, Fact& out, bool max) {
    if (!out.ranked || out.rank() > 1 || !is_int(out.dtype)) return;
    Shape values;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Shape* ints = ctx.ints(i);
        if (!ints || ints->empty()) return;
        if (i == 0) {
            values = *ints;
            continue;
        }
        if (values.size() == 1 && ints->size() > 1) values = Shape(ints->size(), values[0]);
        if (ints->size() != values.size() && ints->size() != 1) return;
        for (size_t e = 0; e < values.size(); ++e) {
            const int64_t a = values[e], b = (*ints)[ints->size() == 1 ? 0 : e];
            values[e] = a == kUnknownDim || b == kUnknownDim ? kUnknownDim
                        : max                                ? ctx.dims.max(a, b)
                                                             : ctx.dims.min(a, b);
        }
    }
    out.ints = values;
}

template <int kind>  // 0: Sum and Mean, 1: Max, 2: Min
void infer_variadic(InferContext& ctx) {
    for (int i = 0; i < ctx.inputs(); ++i) check_dtype(ctx, i, kind == 0 ? kFloatTypes : kNumberTypes);
    const DType dtype = common_dtype(ctx, 0, ctx.inputs());
    Fact out = Fact::unranked(dtype);
    bool ranked = true;
    for (int i = 0; i < ctx.inputs(); ++i) ranked = ranked && ctx.input(i).ranked;
    if (ranked) {
        Shape shape = ctx.input(0).shape;
        for (int i = 1; i < ctx.inputs(); ++i) shape = joined(ctx.dims, shape, ctx.input(i).shape);
        out = Fact::of(dtype, shape);
        if (kind != 0) extreme_ints(ctx, out, kind == 1);
    }
    ctx.output(0, std::move(out));
}

std::shared_ptr<const void> make_state(PrepareContext& ctx, RowFn row, bool mean = false) {
    auto state = std::make_shared<VariadicState>();
    state->row = row;
    state->dtype = ctx.output(0).dtype;
    state->mean = mean;
    state->count = static_cast<float>(ctx.node.inputs.size());
    const Shape& y = ctx.output(0).shape;
    const int n = static_cast<int>(ctx.node.inputs.size());
    if (n == 1) state->plans.push_back(make_broadcast({&ctx.input(0).shape}, y));
    for (int i = 1; i < n; ++i)
        state->plans.push_back(make_broadcast({i == 1 ? &ctx.input(0).shape : &y, &ctx.input(i).shape}, y));
    return state;
}
template <class Op>
std::shared_ptr<const void> prepare_extreme(PrepareContext& ctx) {
    return make_state(ctx, number_row<Op>(ctx.output(0).dtype));
}
template <bool mean>
std::shared_ptr<const void> prepare_sum(PrepareContext& ctx) {
    return make_state(ctx, float_row<Sum>(ctx.output(0).dtype), mean);
}

void divide(Tensor& y, int n, const Parallel& parallel) {
    const float divisor = static_cast<float>(n);
    parallel_ranges(
        parallel, y.count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) {
                if (y.dtype == DType::f64) y.as<double>()[i] /= n;
                else if (y.dtype == DType::f16) y.as<Half>()[i] = to_half(to_float(y.as<Half>()[i]) / divisor);
                else y.as<BFloat16>()[i] = to_bfloat16(to_float(y.as<BFloat16>()[i]) / divisor);
            }
        },
        64);
}

void run_variadic(RunContext& ctx) {
    const VariadicState& state = *ctx.state<VariadicState>();
    Tensor& y = ctx.output(0);
    const size_t size = dtype_size(y.dtype);
    if (ctx.inputs() == 1) {
        copy_elements(ctx.input(0), y);
        return;
    }
    for (int i = 1; i < ctx.inputs(); ++i)
        run_broadcast(state.plans[static_cast<size_t>(i - 1)], {i == 1 ? ctx.input(0).data : y.data, ctx.input(i).data},
                      {size, size}, y.data, size, ctx.parallel(), kCheapGrain,
                      state.mean && y.dtype == DType::f32 && i + 1 == ctx.inputs() ? mean_f32_row : state.row, &state);
    if (state.mean && y.dtype != DType::f32) divide(y, ctx.inputs(), ctx.parallel());
}

// One operand: that operand.
bool simplify_single(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.inputs.size() != 1) return false;
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

// A sum is a chain of Adds, which other operators can take as their residual.
bool lower_sum(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.inputs.size() < 2) return false;
    ValueId total = node.inputs[0];
    for (size_t i = 1; i < node.inputs.size(); ++i) total = patch.node("Add", {total, node.inputs[i]});
    patch.replace(node.outputs[0], total);
    return true;
}

}  // namespace

std::span<const OpDef> variadic_ops() {
    static const OpDef rows[] = {
        {.name = "Sum",
         .infer = infer_variadic<0>,
         .run = run_variadic,
         .prepare = prepare_sum<false>,
         .simplify = simplify_single,
         .lower = lower_sum,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 1},
        {.name = "Mean",
         .infer = infer_variadic<0>,
         .run = run_variadic,
         .prepare = prepare_sum<true>,
         .simplify = simplify_single,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 1},
        {.name = "Max",
         .infer = infer_variadic<1>,
         .run = run_variadic,
         .prepare = prepare_extreme<Max>,
         .simplify = simplify_single,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 1},
        {.name = "Min",
         .infer = infer_variadic<2>,
         .run = run_variadic,
         .prepare = prepare_extreme<Min>,
         .simplify = simplify_single,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
