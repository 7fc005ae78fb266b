// Slice (1: attributes starts, ends, axes; 10, 11, 13: inputs starts, ends, axes, steps).
#include <algorithm>
#include <limits>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// One axis: elements first, first + step, ... (`size` of them).
struct Cut {
    int64_t first = 0, step = 1, size = 0;
};

// numpy's rule, for any int64.
Cut cut_axis(int64_t size, int64_t start, int64_t end, int64_t step) {
    if (step == 0) fail(ErrorKind::invalid_argument, "a step of 0");
    const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
    auto place = [&](int64_t at) { return std::clamp(at < 0 ? at + size : at, low, high); };
    const int64_t first = place(start), last = place(end);
    const __int128 distance = step > 0 ? static_cast<__int128>(last) - first : static_cast<__int128>(first) - last;
    const __int128 pace = step > 0 ? static_cast<__int128>(step) : -static_cast<__int128>(step);
    if (distance <= 0) return {0, 1, 0};
    const auto count = static_cast<int64_t>((distance + pace - 1) / pace);
    return {first, count == 1 ? 1 : step, count};
}

// The size when the axis or the bounds are expressions: non-negative bounds are taken to lie in order, and a single
// element from either end to exist.
int64_t cut_symbolic(DimTable& dims, int64_t size, int64_t start, int64_t end, int64_t step) {
    constexpr int64_t kFar = std::numeric_limits<int32_t>::max();
    if (start == kUnknownDim || end == kUnknownDim || !is_number(step)) return kUnknownDim;
    if (is_number(start) && is_number(end) && step == -1 && (start == -1 || start >= kFar) && end <= -kFar) return size;
    if (step <= 0) return kUnknownDim;
    const bool from_end = is_number(start) && start < 0, to_end = is_number(end) && end >= kFar;
    int64_t length = kUnknownDim;
    if (from_end) {
        if (start <= -kFar) start = 0;
        else if (start == -1 && to_end) return 1;
        else if (to_end) return step == 1 ? dims.min(size, -start) : kUnknownDim;
        else if (is_number(end) && end - start == 1) return 1;
        else return kUnknownDim;
    }
    if (to_end || end == size) {
        length = dims.sub(size, start);
    } else if (is_number(end) && end < 0) {
        length = dims.sub(dims.add(size, end), start);
    } else if (is_number(start) && is_number(end) && end - start <= 1) {
        return end > start ? 1 : 0;
    } else {
        length = dims.sub(dims.min(size, end), start);
    }
    return dims.ceil_div(length, step);
}

struct Operands {
    std::optional<IntList> starts, ends, axes, steps;
    bool has_axes = false, has_steps = false;
};

Operands operands_of(const InferContext& ctx) {
    Operands o;
    if (ctx.op().since < 10) {
        o.starts = int_list(ctx.attributes, "starts");
        o.ends = int_list(ctx.attributes, "ends");
        require(o.starts && o.ends, "attributes starts and ends are required");
        o.axes = int_list(ctx.attributes, "axes");
        o.has_axes = o.axes.has_value();
        return o;
    }
    o.starts = int_list(ctx, 1);
    o.ends = int_list(ctx, 2);
    o.has_axes = ctx.has_input(3);
    o.has_steps = ctx.has_input(4);
    o.axes = int_list(ctx, 3);
    o.steps = int_list(ctx, 4);
    return o;
}

void infer_slice(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const Operands o = operands_of(ctx);
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    if (!o.starts || !o.ends || (o.has_axes && (!o.axes || !o.axes->all_known())))
        return data.rank() ? ctx.output(0, data.dtype, unknown_shape(data.rank())) : ctx.output_unranked(0, data.dtype);
    const size_t count = o.starts->values.size();
    require(o.ends->values.size() == count, "starts has ", count, " values, ends has ", o.ends->values.size());
    require(!o.axes || o.axes->values.size() == count, "axes and starts differ in length");
    require(!o.steps || o.steps->values.size() == count, "steps and starts differ in length");
    require(o.has_axes || static_cast<int64_t>(count) <= data.rank(), "starts has ", count,
            " values, the input has rank ", data.rank());
    Shape axes;
    for (size_t i = 0; i < count; ++i) axes.push_back(o.has_axes ? o.axes->values[i] : static_cast<int64_t>(i));
    axes = normal_axes(axes, data.rank());
    Shape shape = data.shape;
    bool exact = !o.has_steps || (o.steps && o.steps->all_known());
    for (size_t i = 0; i < count; ++i) {
        const auto axis = static_cast<size_t>(axes[i]);
        const int64_t start = o.starts->values[i], end = o.ends->values[i];
        const bool step_known = !o.has_steps || (o.steps && o.steps->known(i));
        const int64_t step = !o.has_steps ? 1 : o.steps ? o.steps->values[i] : kUnknownDim;
        if (step_known && step == 0) fail(ErrorKind::invalid_argument, "a step of 0");
        const bool known = o.starts->known(i) && o.ends->known(i) && step_known;
        exact = exact && known;
        if (known && is_number(shape[axis])) {
            shape[axis] = cut_axis(shape[axis], start, end, step).size;
        } else if (!step_known) {
            shape[axis] = kUnknownDim;
        } else {
            // Bounds beyond what a dim can say are as good as infinite.
            auto fit = [](const IntList& list, size_t at) {
                return list.exact ? std::max(list.values[at], kFirstNumber) : list.values[at];
            };
            shape[axis] = cut_symbolic(ctx.dims, shape[axis], fit(*o.starts, i), fit(*o.ends, i), step);
        }
    }
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints && data.rank() == 1 && exact && is_known(data.shape)) {
        if (count == 0) {
            out.ints = data.ints;
        } else {
            const Cut cut =
                cut_axis(data.shape[0], o.starts->values[0], o.ends->values[0], o.has_steps ? o.steps->values[0] : 1);
            Shape ints;
            for (int64_t i = 0; i < cut.size; ++i)
                ints.push_back((*data.ints)[static_cast<size_t>(cut.first + i * cut.step)]);
            out.ints = std::move(ints);
        }
    }
    ctx.output(0, std::move(out));
}

void run_slice(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    Shape starts, ends, axes, steps;
    if (ctx.node.op->since < 10) {
        auto read = [&](const char* name) {
            const auto values = ctx.attributes.ints(name);
            return Shape(values.begin(), values.end());
        };
        starts = read("starts"), ends = read("ends"), axes = read("axes");
    } else {
        starts = ints_of(ctx.input(1)), ends = ints_of(ctx.input(2));
        if (ctx.has_input(3)) axes = ints_of(ctx.input(3));
        if (ctx.has_input(4)) steps = ints_of(ctx.input(4));
    }
    const Shape strides = strides_of(x.shape);
    Shape from = strides;
    int64_t first = 0;
    for (size_t i = 0; i < starts.size(); ++i) {
        const auto axis = static_cast<size_t>(normal_axis(axes.empty() ? static_cast<int64_t>(i) : axes[i], x.rank()));
        const Cut cut = cut_axis(x.shape[axis], starts[i], ends[i], steps.empty() ? 1 : steps[i]);
        if (cut.size == 0) return;
        first += cut.first * strides[axis];
        from[axis] = strides[axis] * cut.step;
    }
    copy_box(ctx.parallel(), x.dtype, y.shape, element(x.data, x.dtype, first), from, y.data, strides_of(y.shape));
}

bool simplify_slice(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact &input = graph.fact(node.inputs[0]), &output = graph.fact(node.outputs[0]);
    if (!input.ranked || !output.ranked || input.shape != output.shape) return false;
    for (int64_t dim : input.shape)
        if (dim == kUnknownDim) return false;
    // Same size with positive steps: everything, in order.
    if (node.inputs.size() > 4 && node.inputs[4] != kNoValue) {
        const Tensor* steps = graph.constant(node.inputs[4]);
        if (!steps) return false;
        for (int64_t step : ints_of(*steps))
            if (step <= 0) return false;
    }
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

bool permute_slice(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const auto rank = static_cast<int64_t>(perm.size());
    std::vector<int64_t> axes;
    if (node.op->since < 10) {
        axes = node.attributes.ints("axes");
        if (axes.empty())
            for (size_t i = 0; i < node.attributes.ints("starts").size(); ++i) axes.push_back(static_cast<int64_t>(i));
        for (int64_t& axis : axes) axis = permuted_axis(perm, normal_axis(axis, rank));
        node.attributes.set("axes", axes);
        return true;
    }
    if (node.inputs.size() > 3 && node.inputs[3] != kNoValue) {
        const Tensor* constant = graph.constant(node.inputs[3]);
        if (!constant) return false;
        for (int64_t axis : ints_of(*constant)) axes.push_back(axis);
    } else {
        const Fact& starts = graph.fact(node.inputs[1]);
        if (!starts.ranked || starts.rank() != 1 || !is_number(starts.shape[0])) return false;
        for (int64_t i = 0; i < starts.shape[0]; ++i) axes.push_back(i);
    }
    for (int64_t& axis : axes) axis = permuted_axis(perm, normal_axis(axis, rank));
    // starts and axes have one dtype.
    Tensor tensor = Tensor::vector(axes);
    if (graph.fact(node.inputs[1]).dtype == DType::i32) {
        tensor = Tensor::allocate(DType::i32, {static_cast<int64_t>(axes.size())});
        std::copy(axes.begin(), axes.end(), tensor.as<int32_t>());
    }
    const ValueId value = patch.constant(std::move(tensor), "axes");
    if (node.inputs.size() > 3) node.inputs[3] = value;
    else node.inputs.push_back(value);
    return true;
}

constexpr OpDef row(int since, int min_inputs, int max_inputs) {
    return {.name = "Slice",
            .since = since,
            .infer = infer_slice,
            .run = run_slice,
            .simplify = simplify_slice,
            .permute = permute_slice,
            .min_inputs = min_inputs,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> slice_ops() {
    static const OpDef rows[] = {row(1, 1, 1), row(10, 3, 5)};
    return rows;
}

}  // namespace linnet
