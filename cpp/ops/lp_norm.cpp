// LpNormalization (1, 22): attributes axis -1, p 2 (1 or 2): x divided by its norm along the axis; where the norm is 0
// the result is 0. MeanVarianceNormalization (9, 13): attribute axes [0, 2, 3]: (x - mean) / (standard deviation +
// 1e-9).
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_lp_norm(InferContext& ctx) {
    infer_float_like_input(ctx);
    const int64_t p = ctx.attributes.i("p", 2);
    require(p == 1 || p == 2, "p is ", p, ", expected 1 or 2");
    if (ctx.input(0).ranked) normal_axis(ctx.attributes.i("axis", -1), ctx.input(0).rank());
}

constexpr int64_t kColumns = 64;

// Columns [0, width) of one outer index, together.
template <class T>
void normalise(const AxisView& view, int64_t p, const T* x, T* y, int64_t width) {
    double norm[kColumns];
    std::fill_n(norm, width, 0.0);
    for (int64_t i = 0; i < view.n; ++i)
        for (int64_t c = 0; c < width; ++c) {
            const double v = static_cast<double>(x[i * view.inner + c]);
            norm[c] += p == 1 ? std::fabs(v) : v * v;
        }
    for (int64_t c = 0; c < width; ++c) {
        if (p == 2) norm[c] = std::sqrt(norm[c]);
        if (norm[c] == 0) norm[c] = 1;
    }
    for (int64_t i = 0; i < view.n; ++i)
        for (int64_t c = 0; c < width; ++c)
            y[i * view.inner + c] = static_cast<T>(static_cast<double>(x[i * view.inner + c]) / norm[c]);
}

void row_f32(int64_t n, int64_t p, const float* x, float* y) {
    const auto& k = kernels::kernels();
    const size_t size = static_cast<size_t>(n);
    float norm;
    k.reduce_f32(p == 1 ? kernels::Reduce::sum_abs : kernels::Reduce::sum_square, 1, size, x, 0, &norm);
    if (p == 2) norm = std::sqrt(norm);
    if (norm == 0) norm = 1;
    k.binary_f32(kernels::Binary::div, size, x, 1, &norm, 0, y);
}

void run_lp_norm(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_lp_norm);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const int64_t p = ctx.attributes.i("p", 2), axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    const AxisView view = around(x.shape, axis, axis + 1);
    if (view.inner == 1 && x.dtype == DType::f32) {
        parallel_ranges(ctx.parallel(), view.outer, row_grain(view.n, 2), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r)
                row_f32(view.n, p, x.as<float>() + r * view.n, ctx.output(0).as<float>() + r * view.n);
        });
        return;
    }
    const int64_t parts = (view.inner + kColumns - 1) / kColumns;
    for_float(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        parallel_ranges(ctx.parallel(), view.outer * parts, row_grain(view.n * std::min(kColumns, view.inner), 2),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t task = begin; task < end; ++task) {
                                const int64_t c = task % parts * kColumns;
                                const int64_t offset = task / parts * view.n * view.inner + c;
                                normalise(view, p, x.as<T>() + offset, ctx.output(0).as<T>() + offset,
                                          std::min(kColumns, view.inner - c));
                            }
                        });
    });
}

bool permute_lp_norm(const Graph&, Node& node, const Shape& perm, Patch&) {
    const int64_t axis = normal_axis(node.attributes.i("axis", -1), static_cast<int64_t>(perm.size()));
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

Shape mvn_axes(const Attributes& attributes, int64_t rank) {
    const std::vector<int64_t> axes = attributes.ints("axes", {0, 2, 3});
    return normal_axes(Shape(axes.begin(), axes.end()), rank);
}

void infer_mvn(InferContext& ctx) {
    infer_float_like_input(ctx);
    if (ctx.input(0).ranked) mvn_axes(ctx.attributes, ctx.input(0).rank());
}

// Calls fn(input index, index of its statistics) for every element.
template <class Fn>
void each_element(const Shape& shape, const Shape& axes, const Fn& fn) {
    Shape steps(shape.size(), 0), at(shape.size(), 0);
    int64_t step = 1;
    for (size_t i = shape.size(); i-- > 0;) {
        if (std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end()) continue;
        steps[i] = step;
        step *= shape[i];
    }
    int64_t own = 0;
    for (int64_t i = 0, count = element_count(shape); i < count; ++i) {
        fn(i, own);
        for (size_t d = shape.size(); d-- > 0;) {
            own += steps[d];
            if (++at[d] < shape[d]) break;
            own -= steps[d] * at[d];
            at[d] = 0;
        }
    }
}

void run_mvn(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_mvn);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const Shape axes = mvn_axes(ctx.attributes, x.rank());
    int64_t terms = 1;
    for (int64_t axis : axes) terms *= x.shape[static_cast<size_t>(axis)];
    std::vector<double> mean(static_cast<size_t>(x.count() / terms), 0.0), deviation(mean.size(), 0.0);
    for_float(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const T* from = x.as<T>();
        T* to = ctx.output(0).as<T>();
        each_element(x.shape, axes,
                     [&](int64_t i, int64_t s) { mean[static_cast<size_t>(s)] += static_cast<double>(from[i]); });
        for (double& value : mean) value /= static_cast<double>(terms);
        each_element(x.shape, axes, [&](int64_t i, int64_t s) {
            const double d = static_cast<double>(from[i]) - mean[static_cast<size_t>(s)];
            deviation[static_cast<size_t>(s)] += d * d;
        });
        for (double& value : deviation) value = std::sqrt(value / static_cast<double>(terms)) + 1e-9;
        each_element(x.shape, axes, [&](int64_t i, int64_t s) {
            const size_t own = static_cast<size_t>(s);
            to[i] = static_cast<T>((static_cast<double>(from[i]) - mean[own]) / deviation[own]);
        });
    });
}

// Reductions and elementwise steps, which are shared out and follow changes of layout.
bool lower_mvn(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const Fact x = graph.fact(node.inputs[0]);
    if (is_half(x.dtype)) return lower_widened(graph, id, patch);
    if (!x.ranked || x.dtype == DType::undefined) return false;
    const Shape axes = mvn_axes(node.attributes, x.rank());
    const ValueId list = patch.constant_ints({axes.begin(), axes.end()});
    const ValueId centred = patch.node("Sub", {node.inputs[0], patch.node("ReduceMean", {node.inputs[0], list})});
    const ValueId variance = patch.node("ReduceMean", {patch.node("Mul", {centred, centred}), list});
    const ValueId deviation = patch.node("Add", {patch.node("Sqrt", {variance}), patch.constant_float(1e-9f, x.dtype)});
    patch.replace(node.outputs[0], patch.node("Div", {centred, deviation}));
    return true;
}

}  // namespace

std::span<const OpDef> lp_norm_ops() {
    static const OpDef rows[] = {
        {.name = "LpNormalization",
         .infer = infer_lp_norm,
         .run = run_lp_norm,
         .lower = lower_widened,
         .permute = permute_lp_norm,
         .flags = kInPlace,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "MeanVarianceNormalization",
         .since = 9,
         .infer = infer_mvn,
         .run = run_mvn,
         .lower = lower_mvn,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
