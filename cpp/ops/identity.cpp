// Identity (any kind of value) and Dropout (at inference it is the identity; in training mode it draws numpy's legacy
// random stream, as the ONNX reference does).
#include <random>
#include <string>

#include "base/half.h"
#include "ops/elementwise.h"
#include "ops/shared/seed.h"

namespace linnet {
namespace {

void infer_identity(InferContext& ctx) {
    Fact fact = ctx.input(0);
    fact.constant = nullptr;  // made by running the node
    ctx.output(0, std::move(fact));
}
void run_identity(RunContext& ctx) {
    if (ctx.value(0).kind == Value::Kind::tensor && ctx.has_output(0) && ctx.output(0).defined() && ctx.output(0).data)
        copy_elements(ctx.input(0), ctx.output(0));
    else ctx.set_value(0, ctx.value(0));
}
bool simplify_identity(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

bool trains(const Graph& graph, const Node& node) {
    if (node.op->since < 12 || node.inputs.size() < 3 || node.inputs[2] == kNoValue) return false;
    const Tensor* mode = graph.constant(node.inputs[2]);
    return !mode || (mode->count() > 0 && int_at(*mode, 0) != 0);
}

void infer_dropout(InferContext& ctx) {
    check_dtype(ctx, 0, kFloatTypes);
    infer_same(ctx);
    // The mask has the data's dtype before opset 10 (bool since).
    const Fact& in = ctx.input(0);
    const DType mask = ctx.op().since < 10 ? in.dtype : DType::boolean;
    if (ctx.has_output(1)) ctx.output(1, in.ranked ? Fact::of(mask, in.shape) : Fact::unranked(mask));
}

void fill_ones(Tensor& mask) {
    const int64_t n = mask.count();
    if (mask.dtype == DType::boolean) std::fill_n(mask.as<uint8_t>(), n, uint8_t{1});
    else if (mask.dtype == DType::f32) std::fill_n(mask.as<float>(), n, 1.0f);
    else if (mask.dtype == DType::f64) std::fill_n(mask.as<double>(), n, 1.0);
    else std::fill_n(mask.as<uint16_t>(), n, mask.dtype == DType::f16 ? to_half(1).bits : to_bfloat16(1).bits);
}

void run_dropout(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const bool training = ctx.has_input(2) && ctx.input(2).count() > 0 && int_at(ctx.input(2), 0) != 0;
    double ratio = 0.5;
    if (ctx.has_input(1) && ctx.input(1).count() > 0) ratio = double_at(ctx.input(1), 0);
    if (!training || ratio == 0) {
        copy_elements(x, y);
        if (ctx.has_output(1)) fill_ones(ctx.output(1));
        return;
    }
    if (!(ratio >= 0 && ratio < 1)) fail(ErrorKind::invalid_argument, "ratio is ", ratio, ", expected 0 <= ratio < 1");
    const bool seeded = ctx.attributes.has("seed");
    std::mt19937 generator(static_cast<uint32_t>(seeded ? ctx.attributes.i("seed", 0) : fresh_seed() >> 32));
    const float scale = static_cast<float>(1 / (1 - ratio));
    for (int64_t i = 0, n = x.count(); i < n; ++i) {
        const uint32_t high = generator() >> 5, low = generator() >> 6;
        const double draw = (high * 67108864.0 + low) / 9007199254740992.0;  // 53 bits
        const bool keep = draw >= ratio;
        if (ctx.has_output(1)) ctx.output(1).as<uint8_t>()[i] = keep;
        if (y.dtype == DType::f32) y.as<float>()[i] = keep ? x.as<float>()[i] * scale : 0;
        else if (y.dtype == DType::f64) y.as<double>()[i] = keep ? x.as<double>()[i] / (1 - ratio) : 0;
        else if (y.dtype == DType::f16) y.as<Half>()[i] = to_half(keep ? to_float(x.as<Half>()[i]) * scale : 0);
        else y.as<BFloat16>()[i] = to_bfloat16(keep ? to_float(x.as<BFloat16>()[i]) * scale : 0);
    }
}

bool simplify_dropout(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (trains(graph, node)) return false;
    const bool masked = node.outputs.size() > 1 && node.outputs[1] != kNoValue &&
                        (!graph.value(node.outputs[1]).users.empty() || graph.is_output(node.outputs[1]));
    if (masked) return false;
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

}  // namespace

std::span<const OpDef> identity_ops() {
    static const OpDef rows[] = {
        {.name = "Identity",
         .infer = infer_identity,
         .run = run_identity,
         .simplify = simplify_identity,
         .flags = kView | kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Dropout",
         .since = 1,
         .infer = infer_dropout,
         .run = run_dropout,
         .simplify = simplify_dropout,
         .flags = kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Dropout",
         .since = 10,
         .infer = infer_dropout,
         .run = run_dropout,
         .simplify = simplify_dropout,
         .flags = kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Dropout",
         .since = 12,
         .infer = infer_dropout,
         .run = run_dropout,
         .simplify = simplify_dropout,
         .flags = kElementwise | kRandom,
         .min_inputs = 1,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
