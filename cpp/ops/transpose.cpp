// Transpose (1 ... 25): `perm`, default: axes reversed.
#include <algorithm>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/views.h"

namespace linnet {
namespace {

Shape perm_of(const Attributes& attributes, int64_t rank) {
    Shape perm;
    if (!attributes.has("perm")) {
        for (int64_t i = rank; i-- > 0;) perm.push_back(i);
        return perm;
    }
    for (int64_t axis : attributes.ints("perm")) perm.push_back(axis);
    require(static_cast<int64_t>(perm.size()) == rank, "perm has ", perm.size(), " axes, the input has ", rank);
    return normal_axes(perm, rank);
}

void infer_transpose(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    if (!data.ranked) {
        if (!ctx.attributes.has("perm")) return ctx.output_unranked(0, data.dtype);
        return ctx.output(0, data.dtype, unknown_shape(static_cast<int64_t>(ctx.attributes.ints("perm").size())));
    }
    Shape shape;
    for (int64_t axis : perm_of(ctx.attributes, data.rank())) shape.push_back(data.shape[static_cast<size_t>(axis)]);
    Fact out = Fact::of(data.dtype, shape);
    out.ints = data.ints;
    ctx.output(0, std::move(out));
}

void run_transpose(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const Shape perm = perm_of(ctx.attributes, x.rank()), strides = strides_of(x.shape);
    Shape from;
    for (int64_t axis : perm) from.push_back(strides[static_cast<size_t>(axis)]);
    copy_box(ctx.parallel(), x.dtype, y.shape, x.data, from, y.data, strides_of(y.shape));
}

bool is_identity(const Shape& perm) {
    for (size_t i = 0; i < perm.size(); ++i)
        if (perm[i] != static_cast<int64_t>(i)) return false;
    return true;
}

bool simplify_transpose(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact& input = graph.fact(node.inputs[0]);
    if (!input.ranked) return false;
    const Shape perm = perm_of(node.attributes, input.rank());
    if (is_identity(perm)) {
        patch.replace(node.outputs[0], node.inputs[0]);
        return true;
    }
    if (const Node* before = graph.producer(node.inputs[0], "Transpose")) {
        const Shape first = perm_of(before->attributes, input.rank());
        std::vector<int64_t> both;
        for (int64_t axis : perm) both.push_back(first[static_cast<size_t>(axis)]);
        const bool nothing = is_identity(Shape(both.begin(), both.end()));
        patch.replace(
            node.outputs[0],
            nothing ? before->inputs[0] : patch.node("Transpose", {before->inputs[0]}, Attributes().set("perm", both)));
        return true;
    }
    // Only axes of size 1 move: the elements stay in order.
    int64_t last = -1;
    for (int64_t axis : perm) {
        if (input.shape[static_cast<size_t>(axis)] == 1) continue;
        if (axis < last) return false;
        last = axis;
    }
    const Fact& output = graph.fact(node.outputs[0]);
    if (!output.ranked) return false;
    const auto operand = reshape_operand(input.shape, output.shape);
    if (!operand) return false;
    patch.replace(node.outputs[0], add_reshape(patch, node.inputs[0], *operand));
    return true;
}

}  // namespace

std::span<const OpDef> transpose_ops() {
    static const OpDef rows[] = {
        {.name = "Transpose",
         .infer = infer_transpose,
         .run = run_transpose,
         .simplify = simplify_transpose,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
