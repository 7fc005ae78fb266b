// Equal, Less, LessOrEqual, Greater, GreaterOrEqual, And, Or, Xor: two operands, a bool.
#include <string>

#include "ops/binary.h"

namespace linnet {
namespace {

using kernels::Compare;

struct Equal {
    static constexpr Compare kernel = Compare::equal;
    template <class T>
    static bool apply(const T& a, const T& b) {
        return a == b;
    }
};
struct Less {
    static constexpr Compare kernel = Compare::less;
    template <class T>
    static bool apply(T a, T b) {
        return a < b;
    }
};
struct LessOrEqual {
    static constexpr Compare kernel = Compare::less_equal;
    template <class T>
    static bool apply(T a, T b) {
        return a <= b;
    }
};
struct Greater {
    static constexpr Compare kernel = Compare::greater;
    template <class T>
    static bool apply(T a, T b) {
        return a > b;
    }
};
struct GreaterOrEqual {
    static constexpr Compare kernel = Compare::greater_equal;
    template <class T>
    static bool apply(T a, T b) {
        return a >= b;
    }
};
template <class Op>
void f32_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().compare_f32(Op::kernel, n, static_cast<const float*>(in[0]), step[0],
                                   static_cast<const float*>(in[1]), step[1], static_cast<uint8_t*>(out));
}
template <class Op>
void half_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    half_blocks(static_cast<const BinaryState*>(context)->dtype, n, in, step,
                [&](size_t m, float* a, size_t sa, float* b, size_t sb, size_t at) {
                    kernels::kernels().compare_f32(Op::kernel, m, a, sa, b, sb, static_cast<uint8_t*>(out) + at);
                });
}

template <class Op>
RowFn row_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return f32_row<Op>;
        case DType::f16:
        case DType::bf16: return half_row<Op>;
        case DType::f64: return scalar_row<Op, double, uint8_t>;
        case DType::u8: return scalar_row<Op, uint8_t, uint8_t>;
        case DType::u16: return scalar_row<Op, uint16_t, uint8_t>;
        case DType::u32: return scalar_row<Op, uint32_t, uint8_t>;
        case DType::u64: return scalar_row<Op, uint64_t, uint8_t>;
        case DType::i8: return scalar_row<Op, int8_t, uint8_t>;
        case DType::i16: return scalar_row<Op, int16_t, uint8_t>;
        case DType::i32: return scalar_row<Op, int32_t, uint8_t>;
        case DType::i64: return scalar_row<Op, int64_t, uint8_t>;
        default: return nullptr;
    }
}

std::shared_ptr<const void> make_state(PrepareContext& ctx, RowFn row) {
    auto state = std::make_shared<BinaryState>();
    state->plan = operand_plan(ctx);
    state->dtype = ctx.input(0).dtype;
    state->row = row;
    if (!row) fail(ErrorKind::not_implemented, ctx.node.op_type, " of ", dtype_name(state->dtype));
    return state;
}
template <class Op>
std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    return make_state(ctx, row_of<Op>(ctx.input(0).dtype));
}
template <kernels::Logic op>
void logic_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().logic_bytes(op, n, static_cast<const uint8_t*>(in[0]), step[0],
                                   static_cast<const uint8_t*>(in[1]), step[1], static_cast<uint8_t*>(out));
}
template <kernels::Logic op>
std::shared_ptr<const void> prepare_logic(PrepareContext& ctx) {
    return make_state(ctx, logic_row<op>);
}
std::shared_ptr<const void> prepare_equal(PrepareContext& ctx) {
    const DType dtype = ctx.input(0).dtype;
    if (dtype == DType::string) return make_state(ctx, scalar_row<Equal, std::string, uint8_t>);
    if (dtype == DType::boolean) return make_state(ctx, logic_row<kernels::Logic::equal>);
    return make_state(ctx, row_of<Equal>(dtype));
}

int64_t equal_dims(DimTable& dims, int64_t a, int64_t b) {
    if (a == kUnknownDim || b == kUnknownDim) return kUnknownDim;
    if (a == b) return 1;
    if (is_number(a) && is_number(b)) return 0;
    const bool differ =
        (is_number(a) && a < 0 && not_negative(dims, b)) || (is_number(b) && b < 0 && not_negative(dims, a));
    return differ ? 0 : kUnknownDim;
}
template <class Op>
int64_t order_dims(DimTable&, int64_t a, int64_t b) {
    if (a != kUnknownDim && a == b) return Op::apply(0, 0);
    return is_number(a) && is_number(b) ? Op::apply(a, b) : kUnknownDim;
}
int64_t and_dims(DimTable&, int64_t a, int64_t b) {
    if (a == 0 || b == 0) return 0;
    return is_number(a) && is_number(b) ? 1 : kUnknownDim;
}
int64_t or_dims(DimTable&, int64_t a, int64_t b) {
    if ((is_number(a) && a != 0) || (is_number(b) && b != 0)) return 1;
    return a == 0 && b == 0 ? 0 : kUnknownDim;
}

void infer_equal(InferContext& ctx) {
    infer_binary(ctx, kNumberTypes | kBoolType | set_of({DType::string}), DType::boolean, equal_dims);
}
template <class Op>
void infer_order(InferContext& ctx) {
    infer_binary(ctx, kNumberTypes, DType::boolean, order_dims<Op>);
}
template <DimFn fn>
void infer_logic(InferContext& ctx) {
    infer_binary(ctx, kBoolType, DType::boolean, fn);
}

}  // namespace

std::span<const OpDef> comparison_ops() {
    constexpr uint32_t kFlags = kElementwise;
    static const OpDef rows[] = {
        {.name = "Equal",
         .since = 1,
         .infer = infer_equal,
         .run = run_binary,
         .prepare = prepare_equal,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Equal",
         .since = 7,
         .infer = infer_equal,
         .run = run_binary,
         .prepare = prepare_equal,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Less",
         .since = 1,
         .infer = infer_order<Less>,
         .run = run_binary,
         .prepare = prepare<Less>,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Less",
         .since = 7,
         .infer = infer_order<Less>,
         .run = run_binary,
         .prepare = prepare<Less>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Greater",
         .since = 1,
         .infer = infer_order<Greater>,
         .run = run_binary,
         .prepare = prepare<Greater>,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Greater",
         .since = 7,
         .infer = infer_order<Greater>,
         .run = run_binary,
         .prepare = prepare<Greater>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "LessOrEqual",
         .since = 12,
         .infer = infer_order<LessOrEqual>,
         .run = run_binary,
         .prepare = prepare<LessOrEqual>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "GreaterOrEqual",
         .since = 12,
         .infer = infer_order<GreaterOrEqual>,
         .run = run_binary,
         .prepare = prepare<GreaterOrEqual>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "And",
         .since = 1,
         .infer = infer_logic<and_dims>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::both>,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "And",
         .since = 7,
         .infer = infer_logic<and_dims>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::both>,
         .layout_inputs = ~0u,
         .flags = kFlags | kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Or",
         .since = 1,
         .infer = infer_logic<or_dims>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::either>,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Or",
         .since = 7,
         .infer = infer_logic<or_dims>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::either>,
         .layout_inputs = ~0u,
         .flags = kFlags | kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Xor",
         .since = 1,
         .infer = infer_logic<nullptr>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::one_of_two>,
         .lower = lower_legacy,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Xor",
         .since = 7,
         .infer = infer_logic<nullptr>,
         .run = run_binary,
         .prepare = prepare_logic<kernels::Logic::one_of_two>,
         .layout_inputs = ~0u,
         .flags = kFlags | kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
