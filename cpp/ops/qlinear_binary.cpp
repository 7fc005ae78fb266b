// linnet.QLinearAdd and QLinearMul: two tensors of bytes, broadcast, give a third. Attributes a_scale, a_zero, b_scale,
// b_zero, y_scale, y_zero, dtype (of the result: u8 or s8, each by itself), and the bounds lo and
// hi of the result.
//   Add: clamp(round_half_even(float(a - a_zero) * (a_scale / y_scale) + float(b - b_zero) * (b_scale / y_scale)) +
//        y_zero, lo, hi), each product and the sum rounded to float32
//   Mul: clamp(round_half_even(float((a - a_zero) * (b - b_zero)) * (a_scale * b_scale / y_scale)) + y_zero, lo, hi)
#include <algorithm>

#include "ops/broadcast.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

constexpr int64_t kRowsFrom = 8;  // columns; less are spread into long rows (run_broadcast)

void infer(InferContext& ctx) {
    for (int i : {0, 1}) check_dtype(ctx, i, set_of({DType::u8, DType::i8}));
    const auto dtype = static_cast<DType>(ctx.attributes.i("dtype", static_cast<int64_t>(DType::u8)));
    Shape shape;
    ctx.output(0, ctx.broadcast({0, 1}, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype));
}

struct BinaryState {
    Broadcast plan;
    bool multiply = false;
    kernels::PairBytes call;
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto state = std::make_shared<BinaryState>();
    state->plan = make_broadcast({&ctx.input(0).shape, &ctx.input(1).shape}, ctx.output(0).shape);
    state->multiply = ctx.node.op_type == "QLinearMul";
    kernels::PairBytes& call = state->call;
    const Attributes& from = ctx.attributes;
    const auto whole = [&](const char* name, int64_t absent) { return static_cast<int32_t>(from.i(name, absent)); };
    const float y_scale = from.f("y_scale", 1), a = from.f("a_scale", 1), b = from.f("b_scale", 1);
    call.a_signed = ctx.input(0).dtype == DType::i8;
    call.b_signed = ctx.input(1).dtype == DType::i8;
    call.y_signed = ctx.output(0).dtype == DType::i8;
    call.a_zero = whole("a_zero", 0), call.b_zero = whole("b_zero", 0), call.zero = whole("y_zero", 0);
    call.lo = whole("lo", call.y_signed ? -128 : 0);
    call.hi = whole("hi", call.y_signed ? 127 : 255);
    call.a_scale = state->multiply ? a * b / y_scale : a / y_scale;
    call.b_scale = b / y_scale;
    return state;
}

void row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const auto& state = *static_cast<const BinaryState*>(context);
    kernels::PairBytes call = state.call;
    call.cols = n;
    call.a = in[0], call.b = in[1], call.y = out;
    call.a_step = step[0], call.b_step = step[1];
    (state.multiply ? kernels::kernels().mul_bytes : kernels::kernels().add_bytes)(call);
}

// Rows of a matrix, such as pixels times a factor for each channel: one call for many.
void run_rows(RunContext& ctx, const BinaryState& state) {
    const int64_t cols = state.plan.dims[1];
    const auto &a = state.plan.strides[0], &b = state.plan.strides[1];
    parallel_ranges(ctx.parallel(), state.plan.dims[0], std::max<int64_t>(1, kCheapGrain / cols),
                    [&](int64_t begin, int64_t end) {
                        kernels::PairBytes call = state.call;
                        call.rows = static_cast<size_t>(end - begin), call.cols = static_cast<size_t>(cols);
                        call.a = ctx.input(0).as<uint8_t>() + begin * a[0];
                        call.b = ctx.input(1).as<uint8_t>() + begin * b[0];
                        call.y = ctx.output(0).as<uint8_t>() + begin * cols;
                        call.a_stride = a[0], call.b_stride = b[0], call.y_stride = cols;
                        call.a_step = static_cast<size_t>(a[1]), call.b_step = static_cast<size_t>(b[1]);
                        (state.multiply ? kernels::kernels().mul_bytes : kernels::kernels().add_bytes)(call);
                    });
}

void run(RunContext& ctx) {
    const BinaryState& state = *ctx.state<BinaryState>();
    if (state.plan.dims.size() == 2 && state.plan.dims[1] >= kRowsFrom && state.plan.count > 0)
        return run_rows(ctx, state);
    run_broadcast(state.plan, {ctx.input(0).data, ctx.input(1).data}, {1, 1}, ctx.output(0).data, 1, ctx.parallel(),
                  kCheapGrain, row, &state);
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
