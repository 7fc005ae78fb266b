// GlobalAveragePool, GlobalMaxPool (1, 22) and GlobalLpPool (1, 2, 22; attribute p 2): a reduction of all axes behind
// the first two, which stay as axes of size 1.
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/reduction.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_global_pool(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    infer_float_like_input(ctx);
    if (!x.ranked) return;
    require(x.rank() >= 2, "x has rank ", x.rank(), ", expected at least 2");
    Shape shape = x.shape;
    for (size_t i = 2; i < shape.size(); ++i) shape[i] = 1;
    ctx.output(0, x.dtype, shape);
}

double norm_of(const Node& node) {
    if (node.op_type != "GlobalLpPool") return 0;
    const Attribute* p = node.attributes.find("p");
    if (p && std::holds_alternative<float>(p->data)) return static_cast<double>(std::get<float>(p->data));
    return static_cast<double>(node.attributes.i("p", 2));
}

Shape spatial_axes(int64_t rank) {
    Shape axes;
    for (int64_t i = 2; i < rank; ++i) axes.push_back(i);
    return axes;
}

// y = (sum of |x|^p)^(1/p) for any p.
void run_norm(const RunContext& ctx, const Tensor& x, double p, Tensor& y) {
    const int64_t n = product(x.shape, 2, x.shape.size());
    parallel_ranges(ctx.parallel(), y.count(), row_grain(n, 32), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            double sum = 0;
            for (int64_t i = 0; i < n; ++i) sum += std::pow(std::fabs(double_at(x, r * n + i)), p);
            const double value = std::pow(sum, 1 / p);
            if (y.dtype == DType::f64) y.as<double>()[r] = value;
            else y.as<float>()[r] = static_cast<float>(value);
        }
    });
}

void run_global_pool(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_global_pool);
    const Tensor& x = ctx.input(0);
    const double p = norm_of(ctx.node);
    const Shape axes = spatial_axes(x.rank());
    if (ctx.node.op_type == "GlobalAveragePool") reduce(ctx.parallel(), Reduction::mean, x, axes, ctx.output(0));
    else if (ctx.node.op_type == "GlobalMaxPool") reduce(ctx.parallel(), Reduction::max, x, axes, ctx.output(0));
    else if (p == 1) reduce(ctx.parallel(), Reduction::l1, x, axes, ctx.output(0));
    else if (p == 2) reduce(ctx.parallel(), Reduction::l2, x, axes, ctx.output(0));
    else run_norm(ctx, x, p, ctx.output(0));
}

// As a reduction its axes can follow a change of layout.
bool lower_global_pool(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const Fact x = graph.fact(node.inputs[0]);
    const double p = norm_of(node);
    std::string_view name;
    if (node.op_type == "GlobalAveragePool") name = "ReduceMean";
    else if (node.op_type == "GlobalMaxPool") name = "ReduceMax";
    else if (p == 1) name = "ReduceL1";
    else if (p == 2) name = "ReduceL2";
    if (name.empty() || !x.ranked || x.rank() < 3) return lower_widened(graph, id, patch);
    const Shape axes = spatial_axes(x.rank());
    patch.replace(node.outputs[0], patch.node(name, {node.inputs[0], patch.constant_ints({axes.begin(), axes.end()})}));
    return true;
}

constexpr OpDef row(std::string_view name) {
    return {.name = name,
            .infer = infer_global_pool,
            .run = run_global_pool,
            .lower = lower_global_pool,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> global_pool_ops() {
    static const OpDef rows[] = {row("GlobalAveragePool"), row("GlobalMaxPool"), row("GlobalLpPool")};
    return rows;
}

}  // namespace linnet
