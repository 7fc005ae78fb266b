// Adagrad, Adam, Momentum (ai.onnx.preview.training 1): one step of an optimizer. Inputs: learning rate R, step T, then
// the tensors X, their gradients G, and the optimizer's memories of them; outputs: the new X, then the new memories.
#include "ops/elementwise.h"
#include "ops/shared/compose.h"

namespace linnet {
namespace {

constexpr DTypes kTypes = set_of({DType::f32, DType::f64});
constexpr int kFirst = 2;  // inputs in front of the tensors

// Tensors that an optimizer keeps for each X.
int memories_of(const OpDef& op) { return op.name == "Adam" ? 2 : 1; }

void infer_optimizer(InferContext& ctx) {
    check_dtype(ctx, 0, kTypes);
    check_dtype(ctx, 1, set_of({DType::i64}));
    for (int i = 0; i < kFirst; ++i) {
        const Fact& f = ctx.input(i);
        if (!f.ranked || !is_known(f.shape)) continue;
        require(element_count(f.shape) == 1, i == 0 ? "R" : "T", " has shape ", shape_text(f.shape),
                ", expected a scalar");
    }
    const int each = 2 + memories_of(ctx.op()), given = ctx.inputs() - kFirst, tensors = given / each;
    require(given > 0 && given % each == 0, given, " tensors given, expected a multiple of ", each,
            ": those to optimize, their gradients and what is kept of them");
    if (ctx.op().name == "Momentum") {
        const std::string mode = ctx.attributes.s("mode", "");
        require(mode == "standard" || mode == "nesterov", "mode is '", mode, "', expected 'standard' or 'nesterov'");
        for (const char* name : {"alpha", "beta", "norm_coefficient"})
            require(ctx.attributes.has(name), "the attribute '", name, "' is missing");
    }
    for (int i = 0; i < tensors; ++i) {
        const Fact& x = ctx.input(kFirst + i);
        check_dtype(ctx, kFirst + i, kTypes);
        Fact same = x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype);
        for (int j = 1; j < each; ++j) {
            const int at = kFirst + j * tensors + i;
            const Fact& f = ctx.input(at);
            require(f.dtype == x.dtype || f.dtype == DType::undefined || x.dtype == DType::undefined, "input ", at,
                    " is ", dtype_name(f.dtype), ", the tensor it belongs to ", dtype_name(x.dtype));
            if (!f.ranked || !x.ranked) continue;
            if (is_known(f.shape) && is_known(x.shape) && !(f.shape == x.shape))
                fail(ErrorKind::invalid_argument, "input ", at, " has shape ", shape_text(f.shape),
                     ", the tensor it belongs to ", shape_text(x.shape));
        }
        for (int j = 0; j + 1 < each; ++j) ctx.output(j * tensors + i, same);
    }
}

// With x, its gradient g, memories v and w, and the learning rate r: new x, new memories.
constexpr char kAdagrad[] =
    "norm_coefficient:0 x Mul g Add =g v g g Mul Add =v "
    "x r g Mul v Sqrt/1 epsilon:1e-6 Add Div Sub v";
constexpr char kAdam[] =
    "norm_coefficient:0 x Mul g Add =g alpha:0.9 v Mul 1 alpha:0.9 Sub g Mul Add =v "
    "beta:0.999 w Mul 1 beta:0.999 Sub g g Mul Mul Add =w "
    "1 norm_coefficient_post:0 Sub x r v Mul w Sqrt/1 epsilon:1e-6 Add Div Sub Mul v w";
constexpr char kStandard[] = "norm_coefficient:0 x Mul g Add =g alpha:0 v Mul b g Mul Add =v x r v Mul Sub v";
constexpr char kNesterov[] =
    "norm_coefficient:0 x Mul g Add =g alpha:0 v Mul b g Mul Add =v x r g alpha:0 v Mul Add Mul Sub v";
// The rate at step t, in float64, and what Momentum weighs the gradient by.
constexpr char kAdagradRate[] = "r 1 t decay_factor:0 Mul Add Div";
constexpr char kAdamRate[] = "t 0 Greater r 1 beta:0.999 t Pow Sub Sqrt/1 Mul 1 alpha:0.9 t Pow Sub Div r Where/3";
constexpr char kMomentumRate[] = "r t 0 Greater beta:0 1 Where/3";

bool lower_optimizer(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Compose make{patch};
    const bool adam = node.op_type == "Adam", momentum = node.op_type == "Momentum";
    const size_t memories = static_cast<size_t>(memories_of(*node.op));
    const size_t tensors = (node.inputs.size() - kFirst) / (2 + memories);
    const char* const step = adam                                          ? kAdam
                             : !momentum                                   ? kAdagrad
                             : node.attributes.s("mode", "") == "nesterov" ? kNesterov
                                                                           : kStandard;
    ValueIds letters;
    for (int i = 0; i < 26; ++i) letters.push_back(kNoValue);
    const auto letter = [&](char name) -> ValueId& { return letters[static_cast<size_t>(name - 'a')]; };
    const ValueId scalar = make.ints({});
    letter('r') = make.op("Reshape", {node.inputs[0], scalar});
    letter('t') = make.op("Reshape", {node.inputs[1], scalar});
    const ValueIds rates = make.run({adam       ? kAdamRate
                                     : momentum ? kMomentumRate
                                                : kAdagradRate,
                                     DType::f64, node.attributes, letters});
    letter('r') = rates[0];
    if (momentum) letter('b') = rates[1];
    for (size_t i = 0; i < tensors; ++i) {
        const auto input = [&](size_t group) { return node.inputs[kFirst + group * tensors + i]; };
        const DType dtype = graph.fact(input(0)).dtype;
        require(dtype != DType::undefined, "the element type of a tensor is not known when the model is loaded");
        letter('x') = input(0);
        letter('g') = input(1);
        letter('v') = input(2);
        if (adam) letter('w') = input(3);
        const ValueIds made = make.run({step, dtype, node.attributes, letters});
        for (size_t group = 0; group < made.size(); ++group) {
            const size_t at = group * tensors + i;
            if (at < node.outputs.size() && node.outputs[at] != kNoValue) patch.replace(node.outputs[at], made[group]);
        }
    }
    return true;
}

constexpr OpDef row(std::string_view name) {
    return {.name = name,
            .domain = "ai.onnx.preview.training",
            .infer = infer_optimizer,
            .lower = lower_optimizer,
            .min_inputs = 5};
}

}  // namespace

std::span<const OpDef> training_ops() {
    static const OpDef rows[] = {
        row("Adagrad"),
        row("Adam"),
        row("Momentum"),
    };
    return rows;
}

}  // namespace linnet
