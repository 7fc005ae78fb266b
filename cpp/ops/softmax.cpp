// Softmax, LogSoftmax and Hardmax. Since 13 along `axis` (-1); up to 12 over all axes from `axis` (1) on, as if the
// input were a matrix.
#include <cmath>
#include <limits>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/reduction.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

enum class Form { soft, log, hard };

Form form_of(std::string_view name) {
    return name == "Softmax" ? Form::soft : name == "LogSoftmax" ? Form::log : Form::hard;
}

// `rank` itself is a legal axis of the matrix form: rows of one element.
int64_t axis_of(const Attributes& attributes, const OpDef& op, int64_t rank) {
    if (op.since >= 13) {
        if (rank == 0) return 0;
        return normal_axis(attributes.i("axis", -1), rank);
    }
    const int64_t axis = attributes.i("axis", 1);
    if (axis == rank || (rank == 0 && (axis == 0 || axis == 1 || axis == -1))) return rank;
    return normal_axis(axis, rank);
}

AxisView view_of(const Attributes& attributes, const OpDef& op, const Shape& shape) {
    const int64_t rank = static_cast<int64_t>(shape.size()), axis = axis_of(attributes, op, rank);
    if (rank == 0) return {};
    return op.since >= 13 ? around(shape, axis, axis + 1) : around(shape, axis, rank);
}

void infer_softmax(InferContext& ctx) {
    infer_float_like_input(ctx);
    const Fact& x = ctx.input(0);
    if (x.ranked) axis_of(ctx.attributes, ctx.op(), x.rank());
}

// Strided rows are turned into neighbours, kColumns at a time, in memory of their own.
constexpr int64_t kColumns = 16;

struct State {
    int64_t slots = 0;
};

std::shared_ptr<const void> prepare_softmax(PrepareContext& ctx) {
    const AxisView view = view_of(ctx.attributes, *ctx.node.op, ctx.input(0).shape);
    auto state = std::make_shared<State>();
    if (view.inner > 1 && ctx.input(0).dtype != DType::f64) {
        const int64_t tasks = checked_mul(view.outer, (view.inner + kColumns - 1) / kColumns);
        state->slots = std::max<int64_t>(1, std::min<int64_t>(ctx.threads, tasks));
        ctx.scratch(static_cast<size_t>(checked_mul(checked_mul(state->slots, view.n), kColumns * 4)));
    }
    return state;
}

void hard_row(int64_t n, const float* x, float* y) {
    const int64_t best = find_extreme(n, x, true, false);
    std::fill(y, y + n, 0.0f);
    y[best] = 1.0f;
}

void one_row(Form form, int64_t n, const float* x, float* y) {
    const auto& k = kernels::kernels();
    if (form == Form::soft) k.softmax_f32(static_cast<size_t>(n), x, 1.0f, nullptr, y);
    else if (form == Form::log) k.log_softmax_f32(static_cast<size_t>(n), x, y);
    else hard_row(n, x, y);
}

void run_f32(const RunContext& ctx, Form form, const AxisView& view, const float* x, float* y) {
    const auto& k = kernels::kernels();
    const int64_t cost = form == Form::hard ? 1 : 8;
    if (view.inner == 1) {
        parallel_ranges(ctx.parallel(), view.outer, row_grain(view.n, cost), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r) one_row(form, view.n, x + r * view.n, y + r * view.n);
        });
        return;
    }
    const int64_t parts = (view.inner + kColumns - 1) / kColumns;
    const size_t n = static_cast<size_t>(view.n);
    float* const memory = reinterpret_cast<float*>(ctx.scratch());
    parallel_slots(ctx.parallel(), ctx.state<State>()->slots, view.outer * parts, row_grain(view.n * kColumns, cost),
                   [&](int64_t slot, int64_t begin, int64_t end) {
                       float* rows = memory + slot * view.n * kColumns;
                       for (int64_t task = begin; task < end; ++task) {
                           const int64_t c = task % parts * kColumns, width = std::min(kColumns, view.inner - c);
                           const int64_t offset = task / parts * view.n * view.inner + c;
                           k.transpose(4, n, static_cast<size_t>(width), x + offset, view.inner, rows, view.n);
                           for (int64_t i = 0; i < width; ++i)
                               one_row(form, view.n, rows + i * view.n, rows + i * view.n);
                           k.transpose(4, static_cast<size_t>(width), n, rows, view.n, y + offset, view.inner);
                       }
                   });
}

void row_f64(Form form, const AxisView& view, const double* x, double* y) {
    const int64_t step = view.inner;
    int64_t best = 0;
    double top = x[0];
    for (int64_t i = 1; i < view.n; ++i)
        if (x[i * step] > top) {
            top = x[i * step];
            best = i;
        }
    if (form == Form::hard) {
        for (int64_t i = 0; i < view.n; ++i) y[i * step] = i == best ? 1.0 : 0.0;
        return;
    }
    double sum = 0;
    for (int64_t i = 0; i < view.n; ++i) sum += std::exp(x[i * step] - top);
    const double log_sum = std::log(sum);
    for (int64_t i = 0; i < view.n; ++i) {
        const double v = x[i * step] - top;
        y[i * step] = form == Form::soft ? std::exp(v) / sum : v - log_sum;
    }
}

void run_softmax(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_softmax);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const AxisView view = view_of(ctx.attributes, *ctx.node.op, x.shape);
    const Form form = form_of(ctx.node.op->name);
    if (x.dtype == DType::f32) return run_f32(ctx, form, view, x.as<float>(), ctx.output(0).as<float>());
    parallel_ranges(ctx.parallel(), view.outer * view.inner, row_grain(view.n, 16), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const int64_t offset = r / view.inner * view.n * view.inner + r % view.inner;
            row_f64(form, view, x.as<double>() + offset, ctx.output(0).as<double>() + offset);
        }
    });
}

// The matrix form is the other one where at most one of its axes is longer than 1.
bool permute_softmax(const Graph& graph, Node& node, const Shape& perm, Patch&) {
    const int64_t rank = static_cast<int64_t>(perm.size());
    int64_t axis = axis_of(node.attributes, *node.op, rank);
    if (node.op->since < 13) {
        const Shape& shape = graph.fact(node.inputs[0]).shape;
        int64_t longer = 0, only = std::min(axis, rank - 1);
        for (int64_t i = axis; i < rank; ++i)
            if (shape[static_cast<size_t>(i)] != 1) {
                ++longer;
                only = i;
            }
        if (longer > 1 || axis == rank) return false;
        axis = only;
        const OpDef* later = find_op("", node.op_type, 13);
        if (!later || !graph.lowered) return false;
        node.op = later;
    }
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

constexpr OpDef row(std::string_view name, int since) {
    return {.name = name,
            .since = since,
            .infer = infer_softmax,
            .run = run_softmax,
            .prepare = prepare_softmax,
            .lower = lower_widened,
            .permute = permute_softmax,
            .flags = kInPlace,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> softmax_ops() {
    static const OpDef rows[] = {
        row("Softmax", 1),     row("Softmax", 13), row("LogSoftmax", 1),
        row("LogSoftmax", 13), row("Hardmax", 1),  row("Hardmax", 13),
    };
    return rows;
}

}  // namespace linnet
