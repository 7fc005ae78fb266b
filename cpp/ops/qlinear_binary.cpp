// linnet.QLinearAdd and QLinearMul: two tensors of bytes, broadcast, give a third. Attributes a_scale, a_zero, b_scale,
// b_zero, y_scale, y_zero, and the bounds lo and hi of the result. All three have one dtype, u8 or s8.
//   Add: clamp(round_half_even(float(a - a_zero) * (a_scale / y_scale) + float(b - b_zero) * (b_scale / y_scale)) +
//        y_zero, lo, hi), each product and the sum rounded to float32
//   Mul: clamp(round_half_even(float((a - a_zero) * (b - b_zero)) * (a_scale * b_scale / y_scale)) + y_zero, lo, hi)
#include "ops/shared/bytes.h"

#include "ops/broadcast.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const DType dtype = common_dtype(ctx, 0, 2);
    Shape shape;
    ctx.output(0, ctx.broadcast({0, 1}, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype));
}

struct BinaryState {
    Broadcast plan;
    BinaryBytes call;
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto state = std::make_shared<BinaryState>();
    state->plan = make_broadcast({&ctx.input(0).shape, &ctx.input(1).shape}, ctx.output(0).shape);
    BinaryBytes& call = state->call;
    const Attributes& from = ctx.attributes;
    const auto zero = [&](const char* name) { return static_cast<int32_t>(from.i(name, 0)); };
    const float y_scale = from.f("y_scale", 1), a = from.f("a_scale", 1), b = from.f("b_scale", 1);
    call.is_signed = ctx.output(0).dtype == DType::i8;
    call.a_zero = zero("a_zero"), call.b_zero = zero("b_zero"), call.y_zero = zero("y_zero");
    call.lo = static_cast<int32_t>(from.i("lo", call.is_signed ? -128 : 0));
    call.hi = static_cast<int32_t>(from.i("hi", call.is_signed ? 127 : 255));
    call.multiply = ctx.node.op_type == "QLinearMul";
    call.a_scale = call.multiply ? a * b / y_scale : a / y_scale;
    call.b_scale = b / y_scale;
    return state;
}

void row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    binary_bytes(*static_cast<const BinaryBytes*>(context), n, in[0], step[0], in[1], step[1], out);
}

void run(RunContext& ctx) {
    const BinaryState& state = *ctx.state<BinaryState>();
    run_broadcast(state.plan, {ctx.input(0).data, ctx.input(1).data}, {1, 1}, ctx.output(0).data, 1, ctx.parallel(),
                  kCheapGrain, row, &state.call);
}

constexpr OpDef op(std::string_view name) {
    return {.name = name,
            .domain = "linnet",
            .infer = infer,
            .run = run,
            .prepare = prepare,
            .flags = kElementwise | kInPlace,
            .min_inputs = 2,
            .max_inputs = 2};
}

}  // namespace

std::span<const OpDef> qlinear_binary_ops() {
    static const OpDef rows[] = {op("QLinearAdd"), op("QLinearMul")};
    return rows;
}

}  // namespace linnet
