// Pow: base and exponent may have different dtypes from opset 12 on; the result has the base's. Integer bases with
// integer exponents wrap around; a negative exponent gives the truncated reciprocal (0 but for bases 1 and -1).
#include <cmath>
#include <limits>
#include <memory>
#include <type_traits>

#include "ops/binary.h"
#include "ops/convert.h"

namespace linnet {
namespace {

// Exponents are brought to a form that suits the base first.
DType exponent_form(DType base, DType exponent) {
    if (base == DType::f32 || base == DType::f16 || base == DType::bf16) return DType::f32;
    if (base == DType::f64 || is_float(exponent)) return DType::f64;
    return DType::i64;
}

struct PowState {
    Broadcast plan;
    RowFn row = nullptr;
    DType dtype = DType::undefined;  // of the base
    DType form = DType::undefined;
    bool convert = false;
};

template <class T>
T integer_power(T base, int64_t exponent) {
    using U = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;
    if (exponent < 0) {
        if (base == T(1)) return 1;
        if constexpr (std::is_signed_v<T>)
            if (base == T(-1)) return exponent % 2 ? T(-1) : T(1);
        return 0;
    }
    U result = 1, factor = static_cast<U>(base);
    for (auto e = static_cast<uint64_t>(exponent); e; e >>= 1, factor *= factor)
        if (e & 1) result *= factor;
    return static_cast<T>(result);
}

template <class T>
T to_integer(double x) {
    if (std::isnan(x)) return 0;
    if (x <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
    if (x >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(x);
}

template <class T>
void integer_row_int(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    for (size_t i = 0; i < n; ++i)
        static_cast<T*>(out)[i] =
            integer_power(static_cast<const T*>(in[0])[i * step[0]], static_cast<const int64_t*>(in[1])[i * step[1]]);
}
template <class T>
void integer_row_float(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    for (size_t i = 0; i < n; ++i)
        static_cast<T*>(out)[i] = to_integer<T>(std::pow(static_cast<double>(static_cast<const T*>(in[0])[i * step[0]]),
                                                         static_cast<const double*>(in[1])[i * step[1]]));
}
template <class T>
RowFn choose(bool real) {
    return real ? integer_row_float<T> : integer_row_int<T>;
}

void f64_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    for (size_t i = 0; i < n; ++i)
        static_cast<double*>(out)[i] =
            std::pow(static_cast<const double*>(in[0])[i * step[0]], static_cast<const double*>(in[1])[i * step[1]]);
}
void f32_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_f32(kernels::Binary::pow, n, static_cast<const float*>(in[0]), step[0],
                                  static_cast<const float*>(in[1]), step[1], static_cast<float*>(out));
}
void half_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const DType dtype = static_cast<const PowState*>(context)->dtype;
    float block[kHalfBlock];
    for (size_t i = 0; i < n; i += kHalfBlock) {
        const size_t m = std::min(kHalfBlock, n - i);
        half_to_f32(dtype, step[0] ? m : 1, static_cast<const uint16_t*>(in[0]) + i * step[0], block);
        float y[kHalfBlock];
        kernels::kernels().binary_f32(kernels::Binary::pow, m, block, step[0],
                                      static_cast<const float*>(in[1]) + i * step[1], step[1], y);
        f32_to_half(dtype, m, y, static_cast<uint16_t*>(out) + i);
    }
}

RowFn row_of(DType base, bool real) {
    switch (base) {
        case DType::f32: return f32_row;
        case DType::f64: return f64_row;
        case DType::u8: return choose<uint8_t>(real);
        case DType::u16: return choose<uint16_t>(real);
        case DType::u32: return choose<uint32_t>(real);
        case DType::u64: return choose<uint64_t>(real);
        case DType::i8: return choose<int8_t>(real);
        case DType::i16: return choose<int16_t>(real);
        case DType::i32: return choose<int32_t>(real);
        case DType::i64: return choose<int64_t>(real);
        default: return half_row;
    }
}

void infer_pow(InferContext& ctx) {
    check_dtype(ctx, 0, kNumberTypes);
    check_dtype(ctx, 1, kNumberTypes);
    if (ctx.op().since < 12) common_dtype(ctx, 0, 2);
    Shape shape;
    const DType dtype = ctx.input(0).dtype;
    ctx.output(0, infer_operands(ctx, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype));
}

std::shared_ptr<const void> prepare_pow(PrepareContext& ctx) {
    auto state = std::make_shared<PowState>();
    const Fact& exponent = ctx.input(1);
    state->plan = operand_plan(ctx);
    state->dtype = ctx.input(0).dtype;
    state->form = exponent_form(state->dtype, exponent.dtype);
    state->convert = state->form != exponent.dtype;
    if (state->convert)
        ctx.scratch(static_cast<size_t>(
            checked_mul(element_count(exponent.shape), static_cast<int64_t>(dtype_size(state->form)))));
    state->row = row_of(state->dtype, state->form == DType::f64);
    return state;
}

void run_pow(RunContext& ctx) {
    const PowState& state = *ctx.state<PowState>();
    const Tensor &base = ctx.input(0), &exponent = ctx.input(1);
    const void* exponents = exponent.data;
    if (state.convert) {
        convert_elements(exponent.dtype, exponent.data, state.form, ctx.scratch(), exponent.count(), {},
                         ctx.parallel());
        exponents = ctx.scratch();
    }
    const size_t size = dtype_size(base.dtype);
    run_broadcast(state.plan, {base.data, exponents}, {size, dtype_size(state.form)}, ctx.output(0).data, size,
                  ctx.parallel(), kCostlyGrain / 4, state.row, &state);
}

// x^1, x^2 and x^0.5 have cheaper forms.
bool simplify_pow(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Tensor* exponent = graph.constant(node.inputs[1]);
    const Fact& x = graph.fact(node.inputs[0]);
    if (!exponent || exponent->count() != 1 || exponent->dtype == DType::string || !is_float(x.dtype) || !x.ranked ||
        static_cast<int64_t>(exponent->shape.size()) > x.rank())
        return false;
    if (!is_float(exponent->dtype) && !is_int(exponent->dtype)) return false;
    const double e = double_at(*exponent, 0);
    const ValueId base = node.inputs[0];
    if (e == 1) patch.replace(node.outputs[0], base);
    else if (e == 2) patch.replace(node.outputs[0], patch.node("Mul", {base, base}));
    else if (e == 0.5) patch.replace(node.outputs[0], patch.node("Sqrt", {base}));
    else if (e == -1) patch.replace(node.outputs[0], patch.node("Reciprocal", {base}));
    else return false;
    return true;
}

// After patterns with x^3 had their turn.
bool lower_pow(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (node.op->since < 7 && node.attributes.i("broadcast", 0) && node.attributes.has("axis"))
        return lower_legacy(graph, id, patch);
    const Tensor* exponent = graph.constant(node.inputs[1]);
    const Fact& x = graph.fact(node.inputs[0]);
    if (!exponent || exponent->count() != 1 || !is_float(x.dtype) || !x.ranked ||
        static_cast<int64_t>(exponent->shape.size()) > x.rank() || double_at(*exponent, 0) != 3)
        return false;
    const ValueId base = node.inputs[0];
    patch.replace(node.outputs[0], patch.node("Mul", {patch.node("Mul", {base, base}), base}));
    return true;
}

}  // namespace

std::span<const OpDef> pow_ops() {
    constexpr uint32_t kFlags = kElementwise | kInPlace;
    // With mixed dtypes a broadcast exponent may have as many bytes as the result: not in place from opset 12 on.
    static const OpDef rows[] = {
        {.name = "Pow",
         .since = 1,
         .infer = infer_pow,
         .run = run_pow,
         .prepare = prepare_pow,
         .lower = lower_pow,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Pow",
         .since = 7,
         .infer = infer_pow,
         .run = run_pow,
         .prepare = prepare_pow,
         .simplify = simplify_pow,
         .lower = lower_pow,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Pow",
         .since = 12,
         .infer = infer_pow,
         .run = run_pow,
         .prepare = prepare_pow,
         .simplify = simplify_pow,
         .lower = lower_pow,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
