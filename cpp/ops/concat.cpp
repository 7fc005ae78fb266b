// Concat (1: axis defaults to 1; 4, 11, 13: axis required).
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

int64_t axis_of(const Attributes& attributes, int since, int64_t rank) {
    if (since >= 4) require(attributes.has("axis"), "attribute axis is missing");
    return normal_axis(attributes.i("axis", 1), rank);
}

void infer_concat(InferContext& ctx) {
    DType dtype = DType::undefined;
    int64_t rank = -1;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Fact& input = tensor_input(ctx, i);
        if (dtype == DType::undefined) dtype = input.dtype;
        require(input.dtype == dtype || input.dtype == DType::undefined, "input ", i, " is ", dtype_name(input.dtype),
                ", input 0 is ", dtype_name(dtype));
        if (!input.ranked) continue;
        require(rank < 0 || rank == input.rank(), "input ", i, " has rank ", input.rank(), ", another has ", rank);
        rank = input.rank();
    }
    if (rank < 0) return ctx.output_unranked(0, dtype);
    const auto axis = static_cast<size_t>(axis_of(ctx.attributes, ctx.op().since, rank));
    Shape shape = unknown_shape(rank);
    shape[axis] = 0;
    std::optional<Shape> ints;
    if (rank == 1) ints.emplace();
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Fact& input = ctx.input(i);
        const Shape dims = input.ranked ? input.shape : unknown_shape(rank);
        for (size_t a = 0; a < dims.size(); ++a)
            shape[a] = a == axis ? ctx.dims.add(shape[a], dims[a]) : same_dim(ctx.dims, shape[a], dims[a], "Concat");
        if (!ints) continue;
        if (const Shape* part = ctx.ints(i)) {
            for (int64_t value : *part) ints->push_back(value);
        } else if (is_number(dims[0]) && dims[0] <= static_cast<int64_t>(kMaxInts) && is_int(dtype)) {
            ints->resize(ints->size() + static_cast<size_t>(dims[0]), kUnknownDim);
        } else {
            ints.reset();
        }
    }
    Fact out = Fact::of(dtype, shape);
    if (ints && ints->size() <= kMaxInts && is_int(dtype)) out.ints = std::move(ints);
    ctx.output(0, std::move(out));
}

void run_concat(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const auto axis = static_cast<size_t>(axis_of(ctx.attributes, 1, y.rank()));
    const int64_t outer = product(y.shape, 0, axis), inner = product(y.shape, axis + 1, y.shape.size());
    const int64_t step = y.shape[axis] * inner;
    int64_t at = 0;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Tensor& x = ctx.input(i);
        const int64_t run = x.shape[axis] * inner;
        copy_box(ctx.parallel(), y.dtype, {outer, run}, x.data, {run, 1}, element(y.data, y.dtype, at), {step, 1});
        at += run;
    }
}

bool simplify_concat(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    // Inputs that are empty along the axis add nothing.
    ValueIds kept;
    const Fact& output = graph.fact(node.outputs[0]);
    for (ValueId input : node.inputs) {
        const Fact& fact = graph.fact(input);
        if (output.ranked && fact.ranked) {
            const auto axis = static_cast<size_t>(axis_of(node.attributes, node.op->since, output.rank()));
            if (fact.shape[axis] == 0) continue;
        }
        kept.push_back(input);
    }
    if (kept.size() == node.inputs.size() && kept.size() != 1) return false;
    if (kept.empty()) return false;
    if (kept.size() == 1) {
        if (node.inputs.size() > 1 && graph.fact(kept[0]).shape != output.shape) return false;
        patch.replace(node.outputs[0], kept[0]);
        return true;
    }
    patch.replace(node.outputs[0], patch.node("Concat", kept, node.attributes));
    return true;
}

bool permute_concat(const Graph&, Node& node, const Shape& perm, Patch&) {
    const int64_t axis = axis_of(node.attributes, node.op->since, static_cast<int64_t>(perm.size()));
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

constexpr OpDef row(int since) {
    return {.name = "Concat",
            .since = since,
            .infer = infer_concat,
            .run = run_concat,
            .simplify = simplify_concat,
            .permute = permute_concat,
            .layout_inputs = ~0u,
            .min_inputs = 1};
}

}  // namespace

std::span<const OpDef> concat_ops() {
    static const OpDef rows[] = {row(1), row(4)};
    return rows;
}

}  // namespace linnet
