// LayerNormalization (17), RMSNormalization (23) and onnxruntime's SimplifiedLayerNormalization (1): over the axes from
// `axis` (-1) on, `epsilon` 1e-5; `stash_type` 1 is the dtype of the outputs Mean and InvStdDev.
// The statistics are computed in float32 (float64 for float64), whatever stash_type says.
#include <algorithm>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool centred(const OpDef& op) { return op.name == "LayerNormalization"; }

void check_operand(const InferContext& ctx, int i, const Fact& x) {
    if (!ctx.has_input(i)) return;
    const Fact& fact = tensor_input(ctx, i);
    require(fact.dtype == DType::undefined || is_float(fact.dtype), "input ", i, " is ", dtype_name(fact.dtype));
    if (!fact.ranked || !x.ranked) return;
    require(fact.rank() <= x.rank(), "input ", i, " has rank ", fact.rank(), ", x has rank ", x.rank());
    for (int64_t j = 1; j <= fact.rank(); ++j) {
        const int64_t from = fact.shape[static_cast<size_t>(fact.rank() - j)];
        const int64_t to = x.shape[static_cast<size_t>(x.rank() - j)];
        if (is_number(from) && is_number(to) && from != 1 && from != to)
            fail(ErrorKind::invalid_argument, "input ", i, " of shape ", ctx.dims.text(fact.shape),
                 " does not broadcast to ", ctx.dims.text(x.shape));
    }
}

void infer_layer_norm(InferContext& ctx) {
    const Fact &x = tensor_input(ctx, 0), &scale = tensor_input(ctx, 1);
    require(x.dtype == DType::undefined || is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    check_operand(ctx, 1, x);
    check_operand(ctx, 2, x);
    const DType stash = static_cast<DType>(ctx.attributes.i("stash_type", 1));
    require(is_float(stash), "stash_type ", ctx.attributes.i("stash_type", 1), " is no float type");
    const DType out = ctx.op().name == "RMSNormalization" ? scale.dtype : x.dtype;
    if (!x.ranked) {
        ctx.output_unranked(0, out);
        for (int i = 1; i < ctx.outputs(); ++i) ctx.output_unranked(i, stash);
        return;
    }
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    ctx.output(0, out, x.shape);
    Shape reduced = x.shape;
    for (int64_t i = axis; i < x.rank(); ++i) reduced[static_cast<size_t>(i)] = 1;
    for (int i = 1; i < ctx.outputs(); ++i) ctx.output(i, stash, reduced);
}

// A scale or bias by rows: row r starts at data + r * step.
struct Operand {
    const void* data = nullptr;
    int64_t step = 0;
    Tensor expanded;
};

Operand operand_of(const RunContext& ctx, int i, const Shape& shape, int64_t axis) {
    Operand operand;
    if (!ctx.has_input(i)) return operand;
    const Tensor& t = ctx.input(i);
    // As wide as x, 1 in front.
    Shape own(shape.size(), 1);
    std::copy(t.shape.begin(), t.shape.end(), own.end() - static_cast<ptrdiff_t>(t.shape.size()));
    const auto first = static_cast<size_t>(axis);
    const bool by_rows = std::any_of(own.begin(), own.begin() + axis, [](int64_t size) { return size != 1; });
    const bool whole = std::equal(own.begin() + axis, own.end(), shape.begin() + axis);
    if (!by_rows && whole) {
        operand.data = t.data;
        return operand;
    }
    Shape to = shape;
    if (!by_rows) std::fill(to.begin(), to.begin() + axis, 1);
    Shape strides = strides_of(own);
    for (size_t j = 0; j < own.size(); ++j)
        if (own[j] == 1) strides[j] = 0;
    operand.expanded = Tensor::allocate(t.dtype, to);
    copy_box(ctx.parallel(), t.dtype, to, t.data, strides, operand.expanded.data, strides_of(to));
    operand.data = operand.expanded.data;
    operand.step = by_rows ? product(shape, first, shape.size()) : 0;
    return operand;
}

// Any mix of dtypes, in double.
void run_plain(RunContext& ctx, int64_t rows, int64_t n, double epsilon, bool centre) {
    const Tensor& x = ctx.input(0);
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    const Operand scale = operand_of(ctx, 1, x.shape, axis), bias = operand_of(ctx, 2, x.shape, axis);
    const auto view = [&](const Operand& operand, int i) {
        Tensor t;
        if (!operand.data) return t;
        t.dtype = ctx.input(i).dtype;
        t.shape = {operand.step ? rows * n : n};
        t.data = const_cast<void*>(operand.data);
        return t;
    };
    const Tensor scales = view(scale, 1), biases = view(bias, 2);
    for (int64_t r = 0; r < rows; ++r) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < n && centre; ++i) mean += double_at(x, r * n + i);
        mean /= static_cast<double>(n);
        for (int64_t i = 0; i < n; ++i) {
            const double d = double_at(x, r * n + i) - mean;
            var += d * d;
        }
        const double inverse = 1 / std::sqrt(var / static_cast<double>(n) + epsilon);
        for (int64_t i = 0; i < n; ++i) {
            double y = (double_at(x, r * n + i) - mean) * inverse;
            if (scale.data) y *= double_at(scales, r * scale.step + i);
            if (bias.data) y += double_at(biases, r * bias.step + i);
            set_number(ctx.output(0), r * n + i, y);
        }
        if (centre && ctx.has_output(1)) set_number(ctx.output(1), r, mean);
        const int last = centre ? 2 : 1;
        if (ctx.has_output(last)) set_number(ctx.output(last), r, inverse);
    }
}

void run_layer_norm(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    const AxisView view = around(x.shape, axis, x.rank());
    const int64_t rows = view.outer, n = view.n;
    const float epsilon = ctx.attributes.f("epsilon", 1e-5f);
    const bool centre = centred(*ctx.node.op);
    bool plain = false;
    for (int i = 0; i < ctx.inputs(); ++i) plain = plain || (ctx.has_input(i) && ctx.input(i).dtype == DType::f64);
    for (int i = 0; i < ctx.outputs(); ++i) plain = plain || (ctx.has_output(i) && ctx.output(i).dtype == DType::f64);
    if (plain) return run_plain(ctx, rows, n, static_cast<double>(epsilon), centre);
    bool half_out = false;
    for (int i = 0; i < ctx.outputs(); ++i) half_out = half_out || (ctx.has_output(i) && is_half(ctx.output(i).dtype));
    if (has_half(ctx) || half_out) return run_widened(ctx, run_layer_norm);

    const Operand scale = operand_of(ctx, 1, x.shape, axis), bias = operand_of(ctx, 2, x.shape, axis);
    const auto& k = kernels::kernels();
    const auto row_of = [](const Operand& operand, int64_t r) {
        return operand.data ? static_cast<const float*>(operand.data) + r * operand.step : nullptr;
    };
    const size_t size = static_cast<size_t>(n);
    const int last = centre ? 2 : 1;
    float* const means = centre && ctx.has_output(1) ? ctx.output(1).as<float>() : nullptr;
    float* const inverses = ctx.has_output(last) ? ctx.output(last).as<float>() : nullptr;
    const float* from = x.as<float>();
    float* to = ctx.output(0).as<float>();
    parallel_ranges(ctx.parallel(), rows, row_grain(n, 3), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const float* row = from + r * n;
            if (centre) {
                k.layer_norm_f32(size, row, row_of(scale, r), row_of(bias, r), epsilon, to + r * n,
                                 means ? means + r : nullptr, inverses ? inverses + r : nullptr);
                continue;
            }
            if (inverses) {
                float squares;
                k.reduce_f32(kernels::Reduce::sum_square, 1, size, row, 0, &squares);
                inverses[r] = 1.0f / std::sqrt(squares / static_cast<float>(n) + epsilon);
            }
            k.rms_norm_f32(size, row, row_of(scale, r), epsilon, to + r * n);
        }
    });
}

// The axes in front may change places.
bool permute_layer_norm(const Graph& graph, Node& node, const Shape& perm, Patch&) {
    const int64_t rank = static_cast<int64_t>(perm.size());
    const int64_t axis = normal_axis(node.attributes.i("axis", -1), rank);
    for (int64_t i = axis; i < rank; ++i)
        if (perm[static_cast<size_t>(i)] != i) return false;
    for (size_t i = 1; i < node.inputs.size(); ++i) {
        if (node.inputs[i] == kNoValue) continue;
        const Fact& fact = graph.fact(node.inputs[i]);
        if (!fact.ranked || fact.rank() > rank - axis) return false;
    }
    return true;
}

constexpr OpDef row(std::string_view name, int since, int max_inputs, uint32_t flags = 0) {
    return {.name = name,
            .since = since,
            .infer = infer_layer_norm,
            .run = run_layer_norm,
            .lower = lower_widened,
            .permute = permute_layer_norm,
            .flags = kInPlace | flags,
            .min_inputs = 2,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> layer_norm_ops() {
    static const OpDef rows[] = {
        row("LayerNormalization", 17, 3),
        row("RMSNormalization", 23, 2),
        // onnxruntime writes these into models of any opset.
        row("LayerNormalization", 1, 3, kForeign),
        row("RMSNormalization", 1, 2, kForeign),
        row("SimplifiedLayerNormalization", 1, 2, kForeign),
    };
    return rows;
}

}  // namespace linnet
