// Split (1: attribute or input `split`; 2, 11: attribute; 13: input; 18: input or `num_outputs`, last part smaller).
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_split(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const int since = ctx.op().since, parts = ctx.outputs();
    require(parts >= 1, "a Split without outputs");
    if (!data.ranked) {
        for (int i = 0; i < parts; ++i) ctx.output_unranked(i, data.dtype);
        return;
    }
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()));
    const int64_t size = data.shape[axis];
    std::optional<IntList> split;
    if (since < 13) split = int_list(ctx.attributes, "split");
    bool from_input = false;
    if (!split && since != 2 && ctx.has_input(1)) {
        from_input = true;
        split = int_list(ctx, 1);
    }
    if (since >= 18 && ctx.attributes.has("num_outputs")) {
        require(!from_input, "both the input split and num_outputs are given");
        require(ctx.attributes.i("num_outputs", 0) == parts, "num_outputs is ", ctx.attributes.i("num_outputs", 0),
                ", the node has ", parts, " outputs");
    }
    Shape sizes = unknown_shape(parts);
    if (split) {
        require(static_cast<int>(split->values.size()) == parts, "split has ", split->values.size(),
                " sizes, the node has ", parts, " outputs");
        int64_t sum = 0;
        for (size_t i = 0; i < sizes.size(); ++i) {
            sizes[i] = split->values[i];
            if (!split->known(i)) {
                sum = kUnknownDim;
                continue;
            }
            require(sizes[i] >= 0, "split has the size ", sizes[i]);
            sum = sum == kUnknownDim ? sum : checked_add(sum, sizes[i]);
        }
        if (is_number(sum) && is_number(size) && sum != size)
            fail(ErrorKind::invalid_argument, "split sums to ", sum, ", axis ", axis, " has size ", size);
    } else if (!from_input) {
        if (is_number(size) && since < 18 && size % parts != 0)
            fail(ErrorKind::invalid_argument, "axis ", axis, " of size ", size, " does not split into ", parts,
                 " equal parts");
        const int64_t each = since < 18 ? ctx.dims.floor_div(size, parts) : ctx.dims.ceil_div(size, parts);
        int64_t left = size;
        for (size_t i = 0; i < sizes.size(); ++i) {
            const bool last = i + 1 == sizes.size();
            if (is_number(size)) sizes[i] = std::min(each, left), left -= sizes[i];
            else sizes[i] = last && since >= 18 ? ctx.dims.sub(size, ctx.dims.mul(each, parts - 1)) : each;
        }
    }
    size_t begin = 0;
    for (int i = 0; i < parts; ++i) {
        const int64_t part = sizes[static_cast<size_t>(i)];
        Shape shape = data.shape;
        shape[axis] = part;
        Fact out = Fact::of(data.dtype, shape);
        if (data.ints && data.rank() == 1 && is_number(part) &&
            begin + static_cast<size_t>(part) <= data.ints->size()) {
            out.ints = Shape(data.ints->begin() + begin, data.ints->begin() + begin + part);
            begin += static_cast<size_t>(part);
        } else {
            begin = kMaxInts + 1;
        }
        ctx.output(i, std::move(out));
    }
}

void run_split(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    const int64_t outer = product(x.shape, 0, axis), inner = product(x.shape, axis + 1, x.shape.size());
    const int64_t step = x.shape[axis] * inner;
    // Outputs that the node leaves out still take their part: it follows from the sizes that infer uses.
    int64_t at = 0;
    for (int i = 0; i < ctx.outputs(); ++i) {
        int64_t part = 0;
        if (ctx.has_output(i)) {
            part = ctx.output(i).shape[axis];
        } else if (ctx.node.op->since < 13 && ctx.attributes.has("split")) {
            part = ctx.attributes.ints("split")[static_cast<size_t>(i)];
        } else if (ctx.node.op->since != 2 && ctx.has_input(1)) {
            part = int_at(ctx.input(1), i);
        } else {
            const int64_t each = (x.shape[axis] + ctx.outputs() - 1) / ctx.outputs();
            part = std::min(each, std::max<int64_t>(0, x.shape[axis] - i * each));
        }
        if (ctx.has_output(i)) {
            const int64_t run = part * inner;
            copy_box(ctx.parallel(), x.dtype, {outer, run}, element(x.data, x.dtype, at * inner), {step, 1},
                     ctx.output(i).data, {run, 1});
        }
        at += part;
    }
}

bool simplify_split(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.outputs.size() != 1 || node.outputs[0] == kNoValue) return false;
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

bool permute_split(const Graph&, Node& node, const Shape& perm, Patch&) {
    const int64_t axis = normal_axis(node.attributes.i("axis", 0), static_cast<int64_t>(perm.size()));
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

constexpr OpDef row(int since, int max_inputs) {
    return {.name = "Split",
            .since = since,
            .infer = infer_split,
            .run = run_split,
            .simplify = simplify_split,
            .permute = permute_split,
            .min_inputs = 1,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> split_ops() {
    static const OpDef rows[] = {row(1, 2), row(2, 1), row(13, 2), row(18, 2)};
    return rows;
}

}  // namespace linnet
