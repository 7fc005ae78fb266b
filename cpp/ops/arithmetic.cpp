// Add, Sub, Mul, Div, Mod, PRelu: two operands of one dtype. Integers wrap around; Div truncates; division by zero
// gives 0 (as does Mod), and nothing traps.
#include <cmath>
#include <limits>
#include <type_traits>

#include "ops/binary.h"
#include "ops/patterns.h"

namespace linnet {
namespace {

using kernels::Binary;

// The unsigned type in which T's arithmetic wraps without undefined behaviour (not promoted to int).
template <class T>
using Wrap = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;

struct Add {
    static constexpr Binary kernel = Binary::add;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return a + b;
        else return static_cast<T>(static_cast<Wrap<T>>(a) + static_cast<Wrap<T>>(b));
    }
};
struct Sub {
    static constexpr Binary kernel = Binary::sub;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return a - b;
        else return static_cast<T>(static_cast<Wrap<T>>(a) - static_cast<Wrap<T>>(b));
    }
};
struct Mul {
    static constexpr Binary kernel = Binary::mul;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return a * b;
        else return static_cast<T>(static_cast<Wrap<T>>(a) * static_cast<Wrap<T>>(b));
    }
};
struct Div {
    static constexpr Binary kernel = Binary::div;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return a / b;
        else if constexpr (std::is_signed_v<T>)
            return b == 0 ? T(0) : b == T(-1) ? Sub::apply(T(0), a) : static_cast<T>(a / b);
        else return b == 0 ? T(0) : static_cast<T>(a / b);
    }
};
// Mod with fmod = 0: the sign of the divisor.
struct FloorMod {
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) {
            const T r = std::fmod(a, b);
            if (r == 0) return std::copysign(T(0), b);
            return (r < 0) != (b < 0) && !std::isnan(r) ? r + b : r;
        } else if constexpr (std::is_signed_v<T>) {
            if (b == 0 || b == T(-1)) return 0;
            const T r = static_cast<T>(a % b);
            return r != 0 && (r < 0) != (b < 0) ? static_cast<T>(r + b) : r;
        } else {
            return b == 0 ? T(0) : static_cast<T>(a % b);
        }
    }
};
// Mod with fmod = 1: the sign of the dividend.
struct TruncMod {
    static constexpr Binary kernel = Binary::fmod;
    template <class T>
    static T apply(T a, T b) {
        if constexpr (std::is_floating_point_v<T>) return std::fmod(a, b);
        else if constexpr (std::is_signed_v<T>) return b == 0 || b == T(-1) ? T(0) : static_cast<T>(a % b);
        else return b == 0 ? T(0) : static_cast<T>(a % b);
    }
};
struct PRelu {
    static constexpr Binary kernel = Binary::prelu;
    template <class T>
    static T apply(T a, T b) {
        return a < 0 ? Mul::apply(a, b) : a;
    }
};

template <class Op>
void f32_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_f32(Op::kernel, n, static_cast<const float*>(in[0]), step[0],
                                  static_cast<const float*>(in[1]), step[1], static_cast<float*>(out));
}
template <class Op>
void half_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const DType dtype = static_cast<const BinaryState*>(context)->dtype;
    half_blocks(dtype, n, in, step, [&](size_t m, float* a, size_t sa, float* b, size_t sb, size_t at) {
        float y[kHalfBlock];
        kernels::kernels().binary_f32(Op::kernel, m, a, sa, b, sb, y);
        f32_to_half(dtype, m, y, static_cast<uint16_t*>(out) + at);
    });
}
template <class Op>
void half_scalar_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    const DType dtype = static_cast<const BinaryState*>(context)->dtype;
    half_blocks(dtype, n, in, step, [&](size_t m, float* a, size_t sa, float* b, size_t sb, size_t at) {
        float y[kHalfBlock];
        for (size_t i = 0; i < m; ++i) y[i] = Op::apply(a[i * sa], b[i * sb]);
        f32_to_half(dtype, m, y, static_cast<uint16_t*>(out) + at);
    });
}
// Rows that the kernel table has for other types.
template <class Op>
void f64_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_f64(Op::kernel, n, static_cast<const double*>(in[0]), step[0],
                                  static_cast<const double*>(in[1]), step[1], static_cast<double*>(out));
}
template <class Op>
void i32_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_i32(Op::kernel, n, static_cast<const int32_t*>(in[0]), step[0],
                                  static_cast<const int32_t*>(in[1]), step[1], static_cast<int32_t*>(out));
}
template <class Op>
void i64_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().binary_i64(Op::kernel, n, static_cast<const int64_t*>(in[0]), step[0],
                                  static_cast<const int64_t*>(in[1]), step[1], static_cast<int64_t*>(out));
}

template <class Op, bool kTable>
RowFn row_of(DType dtype) {
    if (dtype == DType::f32) return f32_row<Op>;
    if (dtype == DType::f16 || dtype == DType::bf16) return half_row<Op>;
    if constexpr (kTable) {
        if (dtype == DType::f64) return f64_row<Op>;
        if (dtype == DType::i32) return i32_row<Op>;
        if (dtype == DType::i64) return i64_row<Op>;
    }
    if (dtype == DType::f64) return scalar_row<Op, double>;
    return integer_row<Op>(dtype);
}

template <class Op>
RowFn mod_row(DType dtype) {
    if (dtype == DType::f32) return scalar_row<Op, float>;
    if (dtype == DType::f64) return scalar_row<Op, double>;
    if (dtype == DType::f16 || dtype == DType::bf16) return half_scalar_row<Op>;
    return integer_row<Op>(dtype);
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
std::shared_ptr<const void> prepare_table(PrepareContext& ctx) {
    return make_state(ctx, row_of<Op, true>(ctx.input(0).dtype));
}
template <class Op>
std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    return make_state(ctx, row_of<Op, false>(ctx.input(0).dtype));
}
std::shared_ptr<const void> prepare_mod(PrepareContext& ctx) {
    const DType dtype = ctx.input(0).dtype;
    if (ctx.attributes.i("fmod", 0) == 0) return make_state(ctx, mod_row<FloorMod>(dtype));
    return make_state(ctx, dtype == DType::f32 ? f32_row<TruncMod> : mod_row<TruncMod>(dtype));
}

// Sizes as expressions: exact on numbers, unknown beyond what the table of expressions holds.
constexpr int64_t kExpressionLimit = int64_t{1} << 40;
bool small(int64_t d) { return is_number(d) && d > -kExpressionLimit && d < kExpressionLimit; }
bool usable(int64_t a, int64_t b) {
    return a != kUnknownDim && b != kUnknownDim && (!is_number(a) || small(a)) && (!is_number(b) || small(b));
}
int64_t as_dim(int64_t value) { return is_number(value) ? value : kUnknownDim; }

int64_t add_dims(DimTable& dims, int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(Add::apply(a, b));
    return usable(a, b) ? dims.add(a, b) : kUnknownDim;
}
int64_t sub_dims(DimTable& dims, int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(Sub::apply(a, b));
    return usable(a, b) ? dims.sub(a, b) : kUnknownDim;
}
int64_t mul_dims(DimTable& dims, int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(Mul::apply(a, b));
    return usable(a, b) ? dims.mul(a, b) : kUnknownDim;
}
int64_t div_dims(DimTable& dims, int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(Div::apply(a, b));
    // Truncation is floor when nothing is negative.
    return usable(a, b) && not_negative(dims, a) && not_negative(dims, b) && b != 0 ? dims.floor_div(a, b)
                                                                                    : kUnknownDim;
}
int64_t mod_dims(DimTable& dims, int64_t a, int64_t b) {
    if (is_number(a) && is_number(b)) return as_dim(FloorMod::apply(a, b));
    if (!usable(a, b) || !not_negative(dims, a) || !not_negative(dims, b) || b == 0) return kUnknownDim;
    return dims.sub(a, dims.mul(dims.floor_div(a, b), b));
}

template <DimFn fn>
void infer_arithmetic(InferContext& ctx) {
    infer_binary(ctx, kNumberTypes, DType::undefined, fn);
}
void infer_mod(InferContext& ctx) {
    const bool fmod = ctx.attributes.i("fmod", 0) != 0;
    if (!fmod && ctx.op().since < 28 && ctx.input(0).dtype != DType::undefined && is_float(ctx.input(0).dtype))
        fail(ErrorKind::invalid_graph, "Mod of ", dtype_name(ctx.input(0).dtype), " needs fmod = 1 before opset 28");
    infer_binary(ctx, kNumberTypes, DType::undefined, fmod ? nullptr : mod_dims);
}
void infer_prelu(InferContext& ctx) {
    infer_binary(ctx, kNumberTypes, DType::undefined, nullptr);
    const Fact &x = ctx.input(0), &slope = ctx.input(1);
    if (!x.ranked) return;
    // The slope never widens the input.
    if (x.is_static() && slope.is_static()) make_broadcast({&slope.shape}, x.shape);
    infer_same(ctx);
}
// Before opset 7 a slope of rank 1 belongs to the channels (axis 1).
Shape legacy_slope(const Shape& x, const Shape& slope) {
    Shape shape = slope;
    if (slope.size() == 1 && x.size() > 2 && slope[0] != 1) shape.resize(x.size() - 1, 1);
    return shape;
}
void infer_prelu_legacy(InferContext& ctx) {
    check_dtype(ctx, 0, kNumberTypes);
    const Fact &x = ctx.input(0), &slope = ctx.input(1);
    common_dtype(ctx, 0, 2);
    if (x.is_static() && slope.is_static()) {
        const Shape shape = legacy_slope(x.shape, slope.shape);
        make_broadcast({&x.shape, &shape}, x.shape);
    }
    infer_same(ctx);
}
std::shared_ptr<const void> prepare_prelu_legacy(PrepareContext& ctx) {
    auto state = std::make_shared<BinaryState>();
    const Shape slope = legacy_slope(ctx.input(0).shape, ctx.input(1).shape);
    state->plan = make_broadcast({&ctx.input(0).shape, &slope}, ctx.output(0).shape);
    state->dtype = ctx.input(0).dtype;
    state->row = row_of<PRelu, false>(state->dtype);
    return state;
}

bool lower_legacy_prelu(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact &x = graph.fact(node.inputs[0]), &slope = graph.fact(node.inputs[1]);
    if (!x.ranked || !slope.is_static()) return false;
    return lower_to_current(graph, id, legacy_slope(x.shape, slope.shape), patch);
}

}  // namespace

std::span<const OpDef> arithmetic_ops() {
    constexpr uint32_t kFlags = kElementwise | kInPlace;
    static const OpDef rows[] = {
        {.name = "Add",
         .since = 1,
         .infer = infer_arithmetic<add_dims>,
         .run = run_binary,
         .prepare = prepare_table<Add>,
         .lower = lower_legacy,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Add",
         .since = 7,
         .infer = infer_arithmetic<add_dims>,
         .run = run_binary,
         .prepare = prepare_table<Add>,
         .simplify = simplify_add,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Sub",
         .since = 1,
         .infer = infer_arithmetic<sub_dims>,
         .run = run_binary,
         .prepare = prepare_table<Sub>,
         .lower = lower_legacy,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Sub",
         .since = 7,
         .infer = infer_arithmetic<sub_dims>,
         .run = run_binary,
         .prepare = prepare_table<Sub>,
         .simplify = simplify_sub,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Mul",
         .since = 1,
         .infer = infer_arithmetic<mul_dims>,
         .run = run_binary,
         .prepare = prepare_table<Mul>,
         .lower = lower_legacy,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Mul",
         .since = 7,
         .infer = infer_arithmetic<mul_dims>,
         .run = run_binary,
         .prepare = prepare_table<Mul>,
         .simplify = simplify_mul,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Div",
         .since = 1,
         .infer = infer_arithmetic<div_dims>,
         .run = run_binary,
         .prepare = prepare<Div>,
         .lower = lower_legacy,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Div",
         .since = 7,
         .infer = infer_arithmetic<div_dims>,
         .run = run_binary,
         .prepare = prepare<Div>,
         .simplify = simplify_div,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Mod",
         .since = 10,
         .infer = infer_mod,
         .run = run_binary,
         .prepare = prepare_mod,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Mod",
         .since = 28,
         .infer = infer_mod,
         .run = run_binary,
         .prepare = prepare_mod,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "PRelu",
         .since = 1,
         .infer = infer_prelu_legacy,
         .run = run_binary,
         .prepare = prepare_prelu_legacy,
         .lower = lower_legacy_prelu,
         .flags = kInPlace,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "PRelu",
         .since = 7,
         .infer = infer_prelu,
         .run = run_binary,
         .prepare = prepare<PRelu>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
