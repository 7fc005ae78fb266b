// Pad (1: attribute paddings; 2: attributes pads, value; 11, 13: inputs pads, constant_value; 18 ... 25: input axes,
// mode wrap). Negative pads crop.
#include <algorithm>

#include "base/half.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// The pads of every axis, begins then ends, from the operator's pads and axes; kUnknownDim where not known.
Shape spread(const Shape& pads, const Shape& axes, int64_t rank) {
    Shape all(static_cast<size_t>(2 * rank), 0);
    for (size_t i = 0; i < axes.size(); ++i) {
        const auto axis = static_cast<size_t>(axes[i]);
        all[axis] = pads[i];
        all[axis + static_cast<size_t>(rank)] = pads[i + axes.size()];
    }
    return all;
}

Shape every_axis(int64_t rank) {
    Shape axes;
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
    return axes;
}

const char* pads_attribute(int since) { return since < 2 ? "paddings" : "pads"; }

enum class Mode { constant, reflect, edge, wrap };

Mode mode_of(const Attributes& attributes) {
    const std::string& mode = attributes.s("mode", "constant");
    if (mode == "constant") return Mode::constant;
    if (mode == "reflect") return Mode::reflect;
    if (mode == "edge") return Mode::edge;
    require(mode == "wrap", "mode '", mode, "' is none of constant, reflect, edge, wrap");
    return Mode::wrap;
}

void infer_pad(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const Mode mode = mode_of(ctx.attributes);
    const int since = ctx.op().since;
    const auto pads = since < 11 ? int_list(ctx.attributes, pads_attribute(since)) : int_list(ctx, 1);
    if (since < 11) require(pads.has_value(), "attribute ", pads_attribute(since), " is missing");
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    const bool has_axes = since >= 18 && ctx.has_input(3);
    const auto axes_list = has_axes ? int_list(ctx, 3) : std::optional<IntList>();
    if (!pads || (has_axes && (!axes_list || !axes_list->all_known())))
        return ctx.output(0, data.dtype, unknown_shape(data.rank()));
    const Shape axes = has_axes ? normal_axes(axes_list->values, data.rank()) : every_axis(data.rank());
    require(pads->values.size() == 2 * axes.size(), "pads has ", pads->values.size(), " values, expected ",
            2 * axes.size());
    const Shape all = spread(pads->values, axes, data.rank());
    Shape shape;
    for (size_t i = 0; i < data.shape.size(); ++i) {
        const int64_t before = all[i], after = all[i + data.shape.size()], size = data.shape[i];
        shape.push_back(ctx.dims.add(ctx.dims.add(size, before), after));
        if (!is_number(size) || !is_number(before) || !is_number(after)) continue;
        const int64_t kept = checked_add(size, checked_add(std::min<int64_t>(before, 0), std::min<int64_t>(after, 0)));
        if (shape[i] < 0 || kept < 0)
            fail(ErrorKind::invalid_argument, "pads ", before, " and ", after, " on axis ", i, " of size ", size,
                 " leave less than nothing");
        if (mode != Mode::constant && kept == 0 && shape[i] > 0)
            fail(ErrorKind::invalid_argument, "nothing to repeat on axis ", i, " of size ", size);
    }
    ctx.output(0, data.dtype, shape);
}

// The interior's index that place `at` (any integer, 0 is the interior's first) repeats.
int64_t repeated(Mode mode, int64_t at, int64_t size) {
    if (mode == Mode::edge) return std::clamp<int64_t>(at, 0, size - 1);
    const int64_t period = mode == Mode::wrap ? size : std::max<int64_t>(1, 2 * (size - 1));
    int64_t index = at % period;
    if (index < 0) index += period;
    return index < size ? index : period - index;
}

Tensor pad_value(const RunContext& ctx, DType dtype) {
    if (ctx.node.op->since >= 11) {
        if (ctx.has_input(2) && ctx.input(2).count() == 1) return ctx.input(2);
    } else if (const float value = ctx.attributes.f("value", 0); value != 0) {
        Tensor wanted = Tensor::allocate(dtype, {});
        if (dtype == DType::f32) *wanted.as<float>() = value;
        else if (dtype == DType::f64) *wanted.as<double>() = value;
        else if (dtype == DType::f16) *wanted.as<Half>() = to_half(value);
        else fail(ErrorKind::not_implemented, "Pad of ", dtype_name(dtype), " before opset 11 with a value");
        return wanted;
    }
    Tensor zero = Tensor::allocate(dtype, {});
    if (dtype != DType::string) __builtin_memset(zero.data, 0, dtype_size(dtype));
    return zero;
}

void run_pad(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const Mode mode = mode_of(ctx.attributes);
    const size_t rank = x.shape.size();
    Shape pads, axes = every_axis(x.rank());
    if (ctx.node.op->since < 11) {
        const auto values = ctx.attributes.ints(pads_attribute(ctx.node.op->since));
        pads.assign(values.begin(), values.end());
    } else {
        pads = ints_of(ctx.input(1));
        if (ctx.node.op->since >= 18 && ctx.has_input(3)) axes = normal_axes(ints_of(ctx.input(3)), x.rank());
    }
    pads = spread(pads, axes, x.rank());
    if (y.count() == 0) return;

    // What is kept of x, and where it goes.
    const Shape src = strides_of(x.shape), dst = strides_of(y.shape);
    Shape kept(rank, 0), start(rank, 0);
    int64_t from = 0, to = 0;
    for (size_t i = 0; i < rank; ++i) {
        kept[i] = x.shape[i] + std::min<int64_t>(pads[i], 0) + std::min<int64_t>(pads[i + rank], 0);
        start[i] = std::max<int64_t>(pads[i], 0);
        from += std::max<int64_t>(-pads[i], 0) * src[i];
        to += start[i] * dst[i];
    }
    copy_box(ctx.parallel(), x.dtype, kept, element(x.data, x.dtype, from), src, element(y.data, y.dtype, to), dst);

    // Slabs axis by axis, the last first: behind the axis everything is there already, before it only the interior is.
    const Tensor value = mode == Mode::constant ? pad_value(ctx, x.dtype) : Tensor();
    Shape slab = kept;
    for (size_t axis = rank; axis-- > 0;) {
        to -= start[axis] * dst[axis];  // axes up to here at their interior's start, the others at 0
        auto fill = [&](int64_t first, int64_t last) {
            if (mode == Mode::constant) {
                slab[axis] = last - first;
                copy_box(ctx.parallel(), y.dtype, slab, value.data, Shape(rank, 0),
                         element(y.data, y.dtype, to + first * dst[axis]), dst);
                return;
            }
            slab[axis] = 1;
            for (int64_t at = first; at < last; ++at) {
                const int64_t source = start[axis] + repeated(mode, at - start[axis], kept[axis]);
                copy_box(ctx.parallel(), y.dtype, slab, element(y.data, y.dtype, to + source * dst[axis]), dst,
                         element(y.data, y.dtype, to + at * dst[axis]), dst);
            }
        };
        fill(0, start[axis]);
        fill(start[axis] + kept[axis], y.shape[axis]);
        slab[axis] = y.shape[axis];
    }
}

const Tensor* constant_pads(const Graph& graph, const Node& node, Tensor& storage) {
    if (node.op->since >= 11) return graph.constant(node.inputs[1]);
    storage = Tensor::vector(node.attributes.ints(pads_attribute(node.op->since)));
    return &storage;
}

bool simplify_pad(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    Tensor storage;
    const Tensor* pads = constant_pads(graph, node, storage);
    if (!pads) return false;
    for (int64_t pad : ints_of(*pads))
        if (pad != 0) return false;
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

bool permute_pad(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const auto rank = static_cast<int64_t>(perm.size());
    if (node.op->since >= 18 && node.inputs.size() > 3 && node.inputs[3] != kNoValue) {
        const Tensor* axes = graph.constant(node.inputs[3]);
        if (!axes) return false;
        std::vector<int64_t> moved;
        for (int64_t axis : normal_axes(ints_of(*axes), rank)) moved.push_back(permuted_axis(perm, axis));
        node.inputs[3] = patch.constant_ints(moved);
        return true;
    }
    Tensor storage;
    const Tensor* pads = constant_pads(graph, node, storage);
    if (!pads || pads->count() != 2 * rank) return false;
    std::vector<int64_t> moved;
    for (int64_t part : {int64_t{0}, rank})
        for (int64_t axis : perm) moved.push_back(int_at(*pads, part + axis));
    if (node.op->since >= 11) node.inputs[1] = patch.constant_ints(moved);
    else node.attributes.set(pads_attribute(node.op->since), moved);
    return true;
}

constexpr OpDef row(int since, int min_inputs, int max_inputs) {
    return {.name = "Pad",
            .since = since,
            .infer = infer_pad,
            .run = run_pad,
            .simplify = simplify_pad,
            .permute = permute_pad,
            .min_inputs = min_inputs,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> pad_ops() {
    static const OpDef rows[] = {row(1, 1, 1), row(2, 1, 1), row(11, 2, 3), row(18, 2, 4)};
    return rows;
}

}  // namespace linnet
