// ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, ReduceL1, ReduceL2, ReduceLogSum, ReduceLogSumExp,
// ReduceSumSquare (1, 11, 12, 13, 18, 20, 28): attribute `keepdims` 1; `axes` an attribute up to 17 (ReduceSum: 12), an
// input after that, with attribute `noop_with_empty_axes` 0. Without axes all are reduced.
#include <algorithm>
#include <optional>

#include "ops/shared/facts.h"
#include "ops/shared/norm_patterns.h"
#include "ops/shared/reduction.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

struct Named {
    std::string_view name;
    Reduction op;
    int axes_input;  // since this opset
};
constexpr Named kNames[] = {
    {"ReduceSum", Reduction::sum, 13},
    {"ReduceMean", Reduction::mean, 18},
    {"ReduceMax", Reduction::max, 18},
    {"ReduceMin", Reduction::min, 18},
    {"ReduceProd", Reduction::prod, 18},
    {"ReduceL1", Reduction::l1, 18},
    {"ReduceL2", Reduction::l2, 18},
    {"ReduceLogSum", Reduction::log_sum, 18},
    {"ReduceLogSumExp", Reduction::log_sum_exp, 18},
    {"ReduceSumSquare", Reduction::sum_square, 18},
};

Reduction reduction_of(std::string_view name) {
    for (const Named& row : kNames)
        if (row.name == name) return row.op;
    fail(ErrorKind::not_implemented, "no reduction ", name);
}

bool takes_axes_input(const OpDef& op) {
    for (const Named& row : kNames)
        if (row.name == op.name) return op.since >= row.axes_input;
    return false;
}

// What an empty or absent list of axes means.
Shape default_axes(const Attributes& attributes, bool input_form, int64_t rank) {
    Shape axes;
    if (input_form && attributes.i("noop_with_empty_axes", 0)) return axes;
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
    return axes;
}

void check_dtype(const InferContext& ctx, DType d, Reduction op) {
    const bool extreme = op == Reduction::max || op == Reduction::min;
    const bool ok = d == DType::undefined || is_float(d) || d == DType::i32 || d == DType::i64 || d == DType::u32 ||
                    d == DType::u64 || (extreme && (d == DType::i8 || d == DType::u8 || d == DType::boolean));
    require(ok, ctx.op().name, " does not take ", dtype_name(d));
}

// Elements of a small integer vector that is reduced whole: shape arithmetic.
std::optional<int64_t> reduced_ints(DimTable& dims, Reduction op, const Shape& ints) {
    if (ints.empty()) return std::nullopt;
    int64_t value = ints[0];
    for (size_t i = 1; i < ints.size(); ++i) {
        if (op == Reduction::sum) value = dims.add(value, ints[i]);
        else if (op == Reduction::prod) value = dims.mul(value, ints[i]);
        else if (op == Reduction::max) value = dims.max(value, ints[i]);
        else if (op == Reduction::min) value = dims.min(value, ints[i]);
        else return std::nullopt;
    }
    return value;
}

void infer_reduce(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    const Reduction op = reduction_of(ctx.op().name);
    check_dtype(ctx, x.dtype, op);
    const bool keep = ctx.attributes.i("keepdims", 1) != 0, input_form = takes_axes_input(ctx.op());
    std::optional<IntList> axes = input_form ? int_list(ctx, 1) : int_list(ctx.attributes, "axes");
    const bool given = input_form ? ctx.has_input(1) : axes.has_value();
    if (!x.ranked) {
        // Everything but one case leaves the rank open.
        const bool all = !keep && (!given || (axes && axes->values.empty())) &&
                         !(input_form && ctx.attributes.i("noop_with_empty_axes", 0));
        return all ? ctx.output(0, x.dtype, {}) : ctx.output_unranked(0, x.dtype);
    }
    if (given && (!axes || !axes->all_known())) {
        if (keep) {
            Shape shape(x.shape);
            for (int64_t& size : shape)
                if (size != 1) size = kUnknownDim;
            return ctx.output(0, x.dtype, shape);
        }
        if (!axes || axes->values.empty()) return ctx.output_unranked(0, x.dtype);
        const int64_t rank = x.rank() - static_cast<int64_t>(axes->values.size());
        require(rank >= 0, axes->values.size(), " axes for an input of rank ", x.rank());
        return ctx.output(0, x.dtype, unknown_shape(rank));
    }
    const Shape normal = given && !axes->values.empty() ? normal_axes(axes->values, x.rank())
                                                        : default_axes(ctx.attributes, input_form, x.rank());
    const Shape shape = reduced_shape(x.shape, normal, keep);
    if (x.ints && x.rank() == 1 && normal.size() == 1) {
        if (const auto value = reduced_ints(ctx.dims, op, *x.ints))
            return ctx.output(0, ints_fact(x.dtype, shape, {*value}));
    }
    ctx.output(0, x.dtype, shape);
}

void run_reduce(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const bool input_form = takes_axes_input(*ctx.node.op);
    Shape axes;
    if (input_form) {
        if (ctx.has_input(1)) axes = ints_of(ctx.input(1));
    } else {
        for (int64_t axis : ctx.attributes.ints("axes")) axes.push_back(axis);
    }
    axes = axes.empty() ? default_axes(ctx.attributes, input_form, x.rank()) : normal_axes(axes, x.rank());
    reduce(ctx.parallel(), reduction_of(ctx.node.op->name), x, axes, ctx.output(0));
}

// With keepdims the axes move along. Without, the output is the same as before, provided that the axes that stay are in
// the same order.
bool permute_reduce(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const int64_t rank = static_cast<int64_t>(perm.size());
    const bool keep = node.attributes.i("keepdims", 1) != 0, input_form = takes_axes_input(*node.op);
    Shape axes;
    if (input_form && node.inputs.size() > 1 && node.inputs[1] != kNoValue) {
        const Tensor* constant = graph.constant(node.inputs[1]);
        if (!constant) return false;
        axes = ints_of(*constant);
    } else if (!input_form) {
        for (int64_t axis : node.attributes.ints("axes")) axes.push_back(axis);
    }
    const bool given = !axes.empty();
    axes = given ? normal_axes(axes, rank) : default_axes(node.attributes, input_form, rank);
    const auto reduced = [&](int64_t axis) { return std::find(axes.begin(), axes.end(), axis) != axes.end(); };
    if (!keep) {
        int64_t last = -1;
        for (int64_t axis : perm) {
            if (reduced(axis)) continue;
            if (axis < last) return false;
            last = axis;
        }
    }
    if (!given) return true;
    std::vector<int64_t> moved;
    for (int64_t axis : axes) moved.push_back(permuted_axis(perm, axis));
    std::sort(moved.begin(), moved.end());
    if (input_form) node.inputs[1] = patch.constant_ints(moved);
    else node.attributes.set("axes", moved);
    return true;
}

OpDef row(const Named& named, int since, int max_inputs) {
    return {.name = named.name,
            .since = since,
            .infer = infer_reduce,
            .run = run_reduce,
            .simplify = named.op == Reduction::mean  ? match_normalization
                        : named.op == Reduction::sum ? match_softmax
                                                     : nullptr,
            .lower = lower_widened,
            .permute = permute_reduce,
            .min_inputs = 1,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> reduce_ops() {
    static const std::vector<OpDef> rows = [] {
        std::vector<OpDef> made;
        for (const Named& named : kNames) {
            made.push_back(row(named, 1, 1));
            made.push_back(row(named, named.axes_input, 2));
        }
        return made;
    }();
    return rows;
}

}  // namespace linnet
