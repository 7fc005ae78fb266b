// Clip: bounds as attributes (opset 1, 6) or as scalar inputs (11 and later); lo <= x <= hi is made with min(max(x,
// lo), hi), so that hi wins when they cross. Shrink.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

using kernels::Unary;

// Applies fn to each element of a dtype's C++ type; 16-bit floats as float.
template <class Fn>
void each_element(const Tensor& x, Tensor& y, int64_t begin, int64_t end, const Fn& fn) {
    auto loop = [&](auto zero) {
        using T = decltype(zero);
        for (int64_t i = begin; i < end; ++i) y.as<T>()[i] = fn(x.as<T>()[i]);
    };
    switch (x.dtype) {
        case DType::f32: loop(0.0f); break;
        case DType::f64: loop(0.0); break;
        case DType::u8: loop(uint8_t{}); break;
        case DType::u16: loop(uint16_t{}); break;
        case DType::u32: loop(uint32_t{}); break;
        case DType::u64: loop(uint64_t{}); break;
        case DType::i8: loop(int8_t{}); break;
        case DType::i16: loop(int16_t{}); break;
        case DType::i32: loop(int32_t{}); break;
        case DType::i64: loop(int64_t{}); break;
        case DType::f16:
            for (int64_t i = begin; i < end; ++i) y.as<Half>()[i] = to_half(fn(to_float(x.as<Half>()[i])));
            break;
        default:
            for (int64_t i = begin; i < end; ++i) y.as<BFloat16>()[i] = to_bfloat16(fn(to_float(x.as<BFloat16>()[i])));
            break;
    }
}

// A bound as seen by each family of dtypes.
struct Bound {
    bool given = false;
    double real = 0;
    int64_t integer = 0;
    uint64_t natural = 0;
};

Bound bound_of(const RunContext& ctx, int input) {
    Bound bound;
    if (!ctx.has_input(input)) return bound;
    const Tensor& t = ctx.input(input);
    if (t.count() == 0) return bound;
    bound.given = true;
    if (t.dtype == DType::u64) bound.natural = t.as<uint64_t>()[0];
    else if (is_float(t.dtype)) bound.real = double_at(t, 0);
    else bound.natural = static_cast<uint64_t>(bound.integer = int_at(t, 0));
    return bound;
}

void clip(RunContext& ctx, const Bound& lo, const Bound& hi) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    constexpr double kInf = std::numeric_limits<double>::infinity();
    parallel_ranges(
        ctx.parallel(), x.count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            if (x.dtype == DType::f32) {
                kernels::kernels().map_f32(Unary::clip, static_cast<size_t>(end - begin), x.as<float>() + begin,
                                           y.as<float>() + begin, static_cast<float>(lo.given ? lo.real : -kInf),
                                           static_cast<float>(hi.given ? hi.real : kInf));
                return;
            }
            each_element(x, y, begin, end, [&](auto value) {
                using T = decltype(value);
                T result = value, low, high;
                if constexpr (std::is_floating_point_v<T>)
                    low = static_cast<T>(lo.real), high = static_cast<T>(hi.real);
                else if constexpr (std::is_signed_v<T>)
                    low = static_cast<T>(lo.integer), high = static_cast<T>(hi.integer);
                else low = static_cast<T>(lo.natural), high = static_cast<T>(hi.natural);
                if (lo.given && result < low) result = low;
                if (hi.given && result > high) result = high;
                return result;
            });
        },
        64);
}

void infer_clip_attributes(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    infer_same(ctx);
}
void run_clip_attributes(RunContext& ctx) {
    Bound lo, hi;
    lo.given = ctx.attributes.has("min");
    hi.given = ctx.attributes.has("max");
    lo.real = static_cast<double>(ctx.attributes.f("min", 0));
    hi.real = static_cast<double>(ctx.attributes.f("max", 0));
    clip(ctx, lo, hi);
}

void infer_clip(InferContext& ctx) {
    check_dtype(ctx, 0, kNumberTypes);
    const Fact& in = ctx.input(0);
    for (int i = 1; i < 3; ++i) {
        if (!ctx.has_input(i)) continue;
        const Fact& bound = ctx.input(i);
        if (bound.dtype != in.dtype && bound.dtype != DType::undefined && in.dtype != DType::undefined)
            fail(ErrorKind::invalid_graph, i == 1 ? "min" : "max", " is ", dtype_name(bound.dtype), ", expected ",
                 dtype_name(in.dtype), " as the input");
        if (bound.ranked && is_known(bound.shape) && element_count(bound.shape) > 1)
            fail(ErrorKind::invalid_graph, i == 1 ? "min" : "max", " must be a scalar, got ", shape_text(bound.shape));
    }
    infer_same(ctx);
}
void run_clip(RunContext& ctx) { clip(ctx, bound_of(ctx, 1), bound_of(ctx, 2)); }

// The bounds of a Clip of either form when they are known floats.
bool known_bounds(const Graph& graph, const Node& node, float& lo, float& hi) {
    lo = -std::numeric_limits<float>::infinity();
    hi = std::numeric_limits<float>::infinity();
    if (node.op->since < 11) {
        lo = node.attributes.f("min", lo);
        hi = node.attributes.f("max", hi);
        return true;
    }
    for (size_t i = 1; i < 3 && i < node.inputs.size(); ++i) {
        if (node.inputs[i] == kNoValue) continue;
        const Tensor* t = graph.constant(node.inputs[i]);
        if (!t || t->dtype != DType::f32 || t->count() != 1) return false;
        (i == 1 ? lo : hi) = t->as<float>()[0];
    }
    return true;
}

// Clip(Clip(x)) and Clip(Relu(x)) are one Clip; a Clip to [0, inf) is Relu; one to (-inf, inf) is nothing.
bool simplify_clip(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const DType dtype = graph.fact(node.inputs[0]).dtype;
    float lo, hi;
    if (dtype != DType::f32 || !known_bounds(graph, node, lo, hi) || !(lo <= hi)) return false;
    constexpr float kMost = std::numeric_limits<float>::max();
    ValueId x = node.inputs[0];
    bool merged = false;
    float lo2 = 0, hi2 = std::numeric_limits<float>::infinity();
    const Node* before = graph.producer(x, "Relu");
    if (!before && (before = graph.producer(x, "Clip")) && !(known_bounds(graph, *before, lo2, hi2) && lo2 <= hi2))
        before = nullptr;
    if (before) {  // what the outer one makes of the inner one's bounds
        lo = std::min(std::max(lo2, lo), hi);
        hi = std::max(lo, std::min(hi2, hi));
        x = before->inputs[0];
        merged = true;
    }
    if (lo == 0 && hi == std::numeric_limits<float>::infinity()) {
        patch.replace(node.outputs[0], patch.node("Relu", {x}));
        return true;
    }
    if (lo == -std::numeric_limits<float>::infinity() && hi == std::numeric_limits<float>::infinity()) {
        patch.replace(node.outputs[0], x);
        return true;
    }
    if (!merged) return false;
    if (node.op->since < 11) {
        patch.replace(
            node.outputs[0],
            patch.node("Clip", {x}, Attributes().set("min", std::max(lo, -kMost)).set("max", std::min(hi, kMost))));
    } else {
        patch.replace(node.outputs[0], patch.node("Clip", {x, patch.constant_float(lo), patch.constant_float(hi)}));
    }
    return true;
}

void infer_shrink(InferContext& ctx) {
    check_dtype(ctx, 0, kNumberTypes);
    infer_same(ctx);
}
void run_shrink(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const float lambd = ctx.attributes.f("lambd", 0.5f), bias = ctx.attributes.f("bias", 0.0f);
    parallel_ranges(
        ctx.parallel(), x.count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            if (x.dtype == DType::f32) {
                kernels::kernels().map_f32(Unary::shrink, static_cast<size_t>(end - begin), x.as<float>() + begin,
                                           y.as<float>() + begin, lambd, bias);
                return;
            }
            each_element(x, y, begin, end, [&](auto value) {
                using T = decltype(value);
                using Wide = std::conditional_t<std::is_same_v<T, float>, float, double>;
                const Wide wide = static_cast<Wide>(value);
                const Wide result = wide < -static_cast<Wide>(lambd)  ? wide + static_cast<Wide>(bias)
                                    : wide > static_cast<Wide>(lambd) ? wide - static_cast<Wide>(bias)
                                                                      : Wide(0);
                if constexpr (std::is_floating_point_v<T>) {
                    return static_cast<T>(std::isnan(wide) ? wide : result);
                } else {
                    // Beyond the type's range: its nearest end; a bias that is NaN gives 0.
                    constexpr double low = static_cast<double>(std::numeric_limits<T>::min());
                    constexpr double high = static_cast<double>(std::numeric_limits<T>::max());
                    if (std::isnan(result)) return T{0};
                    if (result <= low) return std::numeric_limits<T>::min();
                    if (result >= high) return std::numeric_limits<T>::max();
                    return static_cast<T>(result);
                }
            });
        },
        64);
}

}  // namespace

std::span<const OpDef> clip_ops() {
    constexpr uint32_t kFlags = kElementwise | kInPlace;
    static const OpDef rows[] = {
        {.name = "Clip",
         .since = 1,
         .infer = infer_clip_attributes,
         .run = run_clip_attributes,
         .simplify = simplify_clip,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Clip",
         .since = 11,
         .infer = infer_clip,
         .run = run_clip,
         .simplify = simplify_clip,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 3},
        {.name = "Shrink",
         .since = 9,
         .infer = infer_shrink,
         .run = run_shrink,
         .flags = kFlags,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
