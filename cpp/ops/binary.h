// Two-operand elementwise operators: facts, legacy broadcasting and the run over rows.
#pragma once
#include <algorithm>
#include <memory>

#include "ops/broadcast.h"
#include "ops/elementwise.h"

namespace linnet {

// The state of a broadcasting step.
struct BinaryState {
    Broadcast plan;
    RowFn row = nullptr;
    DType dtype = DType::undefined;  // of the inputs
    int64_t grain = kCheapGrain;
};

// Shape of output 0 for operands 0 and 1; false when it is not even ranked.
inline bool infer_operands(InferContext& ctx, Shape& shape) {
    if (ctx.op().since >= 7 || !ctx.input(0).ranked || !ctx.input(1).ranked) return ctx.broadcast({0, 1}, shape);
    // Before opset 7 the second operand is fitted to the first.
    const Fact& a = ctx.input(0);
    const Shape b = legacy_operand_shape(ctx.attributes, a.rank(), ctx.input(1).shape);
    if (b.size() > a.shape.size()) {
        if (ctx.attributes.i("broadcast", 0) == 0 && element_count(b) == 1 && a.shape.empty()) {
            shape = a.shape;
            return true;
        }
        fail(ErrorKind::invalid_graph, "the second operand has rank ", b.size(), ", the first only ", a.rank());
    }
    for (size_t i = 0; i < b.size(); ++i) {
        const int64_t da = a.shape[a.shape.size() - b.size() + i];
        if (is_number(da) && is_number(b[i]) && b[i] != 1 && da != b[i])
            fail(ErrorKind::invalid_argument, "shapes ", shape_text(a.shape), " and ", shape_text(b),
                 " do not broadcast");
    }
    shape = a.shape;
    return true;
}

// Symbolic arithmetic on one pair of elements of two small integer tensors.
using DimFn = int64_t (*)(DimTable& dims, int64_t a, int64_t b);

// The elements of input i as dims, for integer and bool tensors; null when unknown.
const Shape* small_ints(const InferContext& ctx, int i, Shape& storage);

// Combines what is known of the elements of inputs 0 and 1 into out.ints.
void propagate_ints(InferContext& ctx, Fact& out, DimFn fn);

// A dimension expression that cannot be negative: a size, or sums, products ... of sizes.
bool not_negative(const DimTable& dims, int64_t dim);

inline void infer_binary(InferContext& ctx, DTypes allowed, DType result, DimFn fn) {
    check_dtype(ctx, 0, allowed);
    check_dtype(ctx, 1, allowed);
    const DType common = common_dtype(ctx, 0, 2);
    if (result == DType::undefined) result = common;
    Shape shape;
    Fact out = infer_operands(ctx, shape) ? Fact::of(result, shape) : Fact::unranked(result);
    if (fn) propagate_ints(ctx, out, fn);
    ctx.output(0, std::move(out));
}

inline Broadcast operand_plan(const PrepareContext& ctx) {
    const Shape& a = ctx.input(0).shape;
    Shape b = ctx.input(1).shape;
    if (ctx.node.op->since < 7) {
        b = legacy_operand_shape(ctx.attributes, static_cast<int64_t>(a.size()), b);
        if (b.size() > a.size()) b = a;  // one element against a scalar
    }
    return make_broadcast({&a, &b}, ctx.output(0).shape);
}

inline void run_binary(RunContext& ctx) {
    const BinaryState& state = *ctx.state<BinaryState>();
    const size_t size = dtype_size(state.dtype);
    run_broadcast(state.plan, {ctx.input(0).data, ctx.input(1).data}, {size, size}, ctx.output(0).data,
                  dtype_size(ctx.output(0).dtype), ctx.parallel(), state.grain, state.row, &state);
}

// The row of a functor for an integer type: Op::apply(a, b).
template <class Op, class T, class R = T>
void scalar_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    const T* a = static_cast<const T*>(in[0]);
    const T* b = static_cast<const T*>(in[1]);
    R* y = static_cast<R*>(out);
    if (step[0] == 1 && step[1] == 1) {
        for (size_t i = 0; i < n; ++i) y[i] = static_cast<R>(Op::apply(a[i], b[i]));
        return;
    }
    for (size_t i = 0; i < n; ++i) y[i] = static_cast<R>(Op::apply(a[i * step[0]], b[i * step[1]]));
}

template <class Op>
RowFn integer_row(DType dtype) {
    switch (dtype) {
        case DType::u8: return scalar_row<Op, uint8_t>;
        case DType::u16: return scalar_row<Op, uint16_t>;
        case DType::u32: return scalar_row<Op, uint32_t>;
        case DType::u64: return scalar_row<Op, uint64_t>;
        case DType::i8: return scalar_row<Op, int8_t>;
        case DType::i16: return scalar_row<Op, int16_t>;
        case DType::i32: return scalar_row<Op, int32_t>;
        case DType::i64: return scalar_row<Op, int64_t>;
        default: return nullptr;
    }
}

// Widens the operands of a 16-bit row in blocks and hands them to fn(n, a, a_step, b, b_step, first element).
template <class Fn>
void half_blocks(DType dtype, size_t n, const void* const* in, const size_t* step, const Fn& fn) {
    float a[kHalfBlock], b[kHalfBlock];
    for (size_t i = 0; i < n; i += kHalfBlock) {
        const size_t count = std::min(kHalfBlock, n - i);
        half_to_f32(dtype, step[0] ? count : 1, static_cast<const uint16_t*>(in[0]) + i * step[0], a);
        half_to_f32(dtype, step[1] ? count : 1, static_cast<const uint16_t*>(in[1]) + i * step[1], b);
        fn(count, a, step[0], b, step[1], i);
    }
}

// lower() of the rows before opset 7: today's operator on a reshaped second operand.
bool lower_legacy(const Graph& graph, NodeId id, Patch& patch);
// The same for a known shape of the second operand.
bool lower_to_current(const Graph& graph, NodeId id, const Shape& b_shape, Patch& patch);

}  // namespace linnet
