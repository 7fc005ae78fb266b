// com.microsoft DynamicQuantizeLSTM (1): an LSTM with weights of 8 bits. Inputs X, W [directions, input, 4 * hidden],
// R [directions, hidden, 4 * hidden], B, sequence_lens, initial_h, initial_c, P as LSTM has them; then scale and zero
// point of W and of R, [directions] or [directions, 4 * hidden]. Attributes as LSTM's of opset 7.
//
// The weights are what the model says, R as it is where it has no zero point, and the state is rounded to 16 bits then.
// Other runtimes round the activations, too, to 8 bits anew for every product.
#include "ops/elementwise.h"
#include "ops/shared/recurrent.h"

namespace linnet {
namespace {

constexpr int kW = 1, kR = 2, kLstmInputs = 8, kWScale = 8, kRScale = 10;

// A weight [directions, rows, columns] with its scale and zero point, as far as their shapes are known.
void check_weight(const InferContext& ctx, int weight, int scale) {
    const Fact& w = ctx.input(weight);
    check_dtype(ctx, weight, set_of({DType::u8, DType::i8}));
    require(ctx.has_input(scale), "input ", scale, ", the scale of input ", weight, ", is left out");
    check_dtype(ctx, scale, set_of({DType::f32}));
    if (!w.ranked) return;
    require(w.rank() == 3, "input ", weight, " has rank ", w.rank(), ", expected 3");
    for (int i : {scale, scale + 1}) {
        if (!ctx.has_input(i)) continue;
        const Fact& fact = ctx.input(i);
        require(fact.ranked && (fact.rank() == 1 || fact.rank() == 2), "input ", i, " must have rank 1 or 2");
        if (!fact.is_static() || !w.is_static()) continue;
        const Shape each{w.shape[0]}, columns{w.shape[0], w.shape[2]};
        require(fact.shape == each || fact.shape == columns, "input ", i, " is ", shape_text(fact.shape), ", expected ",
                shape_text(each), " or ", shape_text(columns));
    }
    if (ctx.has_input(scale + 1) && ctx.input(scale + 1).dtype != w.dtype)
        fail(ErrorKind::invalid_graph, "input ", scale + 1, " is ", dtype_name(ctx.input(scale + 1).dtype),
             ", expected ", dtype_name(w.dtype));
}

void infer(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::f32}));
    check_weight(ctx, kW, kWScale);
    check_weight(ctx, kR, kRScale);
    const Fact &x = ctx.input(0), &r = ctx.input(kR);
    require(!x.ranked || x.rank() == 3, "X has rank ", x.rank(), ", expected 3");
    const int64_t directions = r.ranked ? r.shape[0] : kUnknownDim, hidden = r.ranked ? r.shape[1] : kUnknownDim;
    const int64_t steps = x.ranked ? x.shape[0] : kUnknownDim, batch = x.ranked ? x.shape[1] : kUnknownDim;
    ctx.output(0, DType::f32, {steps, directions, batch, hidden});
    ctx.output(1, DType::f32, {directions, batch, hidden});
    ctx.output(2, DType::f32, {directions, batch, hidden});
}

bool has(const ValueIds& values, size_t i) { return i < values.size() && values[i] != kNoValue; }

// (weight - zero) * scale, turned to LSTM's [directions, 4 * hidden, rows].
ValueId real_weight(const Node& node, int weight, int scale, Patch& patch) {
    auto real = [&](ValueId x) {
        return patch.node("Cast", {x}, Attributes().set("to", static_cast<int64_t>(DType::f32)));
    };
    auto spread = [&](ValueId x) {  // over the rows
        std::vector<int64_t> axes{1};
        if (patch.fact(x).rank() == 1) axes.push_back(2);
        return patch.node("Unsqueeze", {x, patch.constant_ints(axes)});
    };
    const auto w = static_cast<size_t>(weight), s = static_cast<size_t>(scale);
    ValueId x = real(node.inputs[w]);
    if (has(node.inputs, s + 1)) x = patch.node("Sub", {x, real(spread(node.inputs[s + 1]))});
    x = patch.node("Mul", {x, spread(node.inputs[s])});
    return patch.node("Transpose", {x}, Attributes().set("perm", std::vector<int64_t>{0, 2, 1}));
}

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    Node lstm;
    lstm.name = node.name;
    lstm.op_type = "LSTM";
    lstm.attributes = node.attributes;
    lstm.inputs.assign(node.inputs.begin(), node.inputs.begin() + kLstmInputs);
    lstm.inputs[kW] = real_weight(node, kW, kWScale, patch);
    const Tensor *r = graph.constant(node.inputs[kR]), *scale = graph.constant(node.inputs[kRScale]);
    const bool zero = has(node.inputs, kRScale + 1);
    const Tensor* zeros = zero ? graph.constant(node.inputs[kRScale + 1]) : nullptr;
    std::optional<NarrowRecurrent> narrow;
    if (r && scale && (!zero || zeros)) narrow = narrow_recurrent(*r, *scale, zeros, true, true);
    if (narrow) {
        lstm.domain = "linnet";
        lstm.inputs[kR] = patch.constant(std::move(narrow->r));
        lstm.inputs.push_back(patch.constant(std::move(narrow->scale)));
    } else {
        lstm.inputs[kR] = real_weight(node, kR, kRScale, patch);
    }
    lstm.op = find_op(lstm.domain, "LSTM", kMaxOpset);
    const ValueIds made = patch.node(std::move(lstm), static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < made.size(); ++i)
        if (has(node.outputs, i)) patch.replace(node.outputs[i], made[i]);
    return true;
}

}  // namespace

std::span<const OpDef> dynamic_quantize_lstm_ops() {
    static const OpDef rows[] = {
        {.name = "DynamicQuantizeLSTM",
         .domain = "com.microsoft",
         .infer = infer,
         .lower = lower,
         .min_inputs = 3,
         .max_inputs = 12},
    };
    return rows;
}

}  // namespace linnet
