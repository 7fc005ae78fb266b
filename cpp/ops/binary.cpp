// What two-operand operators share (binary.h), and those on bits: BitwiseAnd, BitwiseOr, BitwiseXor, BitShift.
#include "ops/binary.h"

#include <string>
#include <type_traits>

namespace linnet {

const Shape* small_ints(const InferContext& ctx, int i, Shape& storage) {
    if (const Shape* ints = ctx.ints(i)) return ints;
    const Tensor* t = ctx.constant(i);
    if (!t || t->dtype != DType::boolean || t->rank() > 1 || t->count() > 64) return nullptr;
    storage = ints_of(*t);
    return &storage;
}

void propagate_ints(InferContext& ctx, Fact& out, DimFn fn) {
    if (!out.ranked || out.rank() > 1 || !(is_int(out.dtype) || out.dtype == DType::boolean)) return;
    Shape storage[2];
    const Shape* a = small_ints(ctx, 0, storage[0]);
    const Shape* b = small_ints(ctx, 1, storage[1]);
    if (!a || !b || a->empty() || b->empty()) return;
    const size_t n = std::max(a->size(), b->size());
    if ((a->size() != n && a->size() != 1) || (b->size() != n && b->size() != 1)) return;
    Shape ints(n);
    for (size_t i = 0; i < n; ++i) ints[i] = fn(ctx.dims, (*a)[a->size() == 1 ? 0 : i], (*b)[b->size() == 1 ? 0 : i]);
    out.ints = ints;
}

bool not_negative(const DimTable& dims, int64_t dim) {
    if (is_number(dim)) return dim >= 0;
    // Sums, products and quotients of sizes and positive numbers are not negative; a difference shows as '-'.
    return is_symbol(dim) && dims.text(dim).find('-') == std::string::npos;
}

bool lower_to_current(const Graph& graph, NodeId id, const Shape& b_shape, Patch& patch) {
    const Node& node = graph.node(id);
    ValueId b = node.inputs[1];
    if (!(b_shape == graph.fact(b).shape)) {
        if (const Tensor* constant = graph.constant(b)) {
            Tensor reshaped = *constant;
            reshaped.shape = b_shape;
            b = patch.constant(std::move(reshaped));
        } else {
            const std::vector<int64_t> sizes(b_shape.begin(), b_shape.end());
            b = patch.node("Reshape", {b, patch.constant_ints(sizes)});
        }
    }
    patch.replace(node.outputs[0], patch.node(node.op_type, {node.inputs[0], b}));
    return true;
}

bool lower_legacy(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const Fact &a = graph.fact(node.inputs[0]), &b = graph.fact(node.inputs[1]);
    if (!a.ranked || !b.is_static()) return false;
    Shape shape = legacy_operand_shape(node.attributes, a.rank(), b.shape);
    if (shape.size() > a.shape.size()) shape = a.shape;
    return is_known(shape) && lower_to_current(graph, id, shape, patch);
}

namespace {

using kernels::Logic;

// Operands of T: bytes to the kernel, unless one element is repeated over a row.
template <Logic op, class T>
void bits_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    if (sizeof(T) == 1 || (step[0] && step[1]))
        return kernels::kernels().logic_bytes(op, n * sizeof(T), static_cast<const uint8_t*>(in[0]), step[0],
                                              static_cast<const uint8_t*>(in[1]), step[1], static_cast<uint8_t*>(out));
    const T *a = static_cast<const T*>(in[0]), *b = static_cast<const T*>(in[1]);
    for (size_t i = 0; i < n; ++i) {
        const T u = a[i * step[0]], v = b[i * step[1]];
        static_cast<T*>(out)[i] = static_cast<T>(op == Logic::bit_and ? u & v : op == Logic::bit_or ? u | v : u ^ v);
    }
}
// A shift by a negative amount or by the width and more leaves what sign extension alone gives.
struct ShiftLeft {
    template <class T>
    static T apply(T a, T b) {
        using U = std::conditional_t<(sizeof(T) < 4), uint32_t, std::make_unsigned_t<T>>;
        if (b < T(0) || static_cast<uint64_t>(b) >= sizeof(T) * 8) return 0;
        return static_cast<T>(static_cast<U>(a) << static_cast<unsigned>(b));
    }
};
struct ShiftRight {
    template <class T>
    static T apply(T a, T b) {
        if (b < T(0) || static_cast<uint64_t>(b) >= sizeof(T) * 8) return a < T(0) ? T(-1) : T(0);
        return static_cast<T>(a >> static_cast<unsigned>(b));
    }
};

void infer_bits(InferContext& ctx) { infer_binary(ctx, kIntTypes, DType::undefined, nullptr); }

void infer_shift(InferContext& ctx) {
    const std::string direction = ctx.attributes.s("direction", "");
    if (direction != "LEFT" && direction != "RIGHT")
        fail(ErrorKind::invalid_graph, "direction is '", direction, "', expected LEFT or RIGHT");
    infer_bits(ctx);
}

std::shared_ptr<const void> make_state(PrepareContext& ctx, RowFn row) {
    auto state = std::make_shared<BinaryState>();
    state->plan = operand_plan(ctx);
    state->dtype = ctx.input(0).dtype;
    state->row = row;
    return state;
}
template <Logic op>
std::shared_ptr<const void> prepare_bits(PrepareContext& ctx) {
    constexpr RowFn rows[] = {bits_row<op, uint8_t>, bits_row<op, uint16_t>, bits_row<op, uint32_t>,
                              bits_row<op, uint64_t>};
    const size_t size = dtype_size(ctx.input(0).dtype);
    return make_state(ctx, rows[size == 8 ? 3 : size / 2]);
}
std::shared_ptr<const void> prepare_shift(PrepareContext& ctx) {
    const DType dtype = ctx.input(0).dtype;
    const bool left = ctx.attributes.s("direction", "") == "LEFT";
    return make_state(ctx, left ? integer_row<ShiftLeft>(dtype) : integer_row<ShiftRight>(dtype));
}

}  // namespace

std::span<const OpDef> binary_ops() {
    constexpr uint32_t kFlags = kElementwise | kInPlace;
    static const OpDef rows[] = {
        {.name = "BitwiseAnd",
         .since = 18,
         .infer = infer_bits,
         .run = run_binary,
         .prepare = prepare_bits<Logic::bit_and>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "BitwiseOr",
         .since = 18,
         .infer = infer_bits,
         .run = run_binary,
         .prepare = prepare_bits<Logic::bit_or>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "BitwiseXor",
         .since = 18,
         .infer = infer_bits,
         .run = run_binary,
         .prepare = prepare_bits<Logic::bit_xor>,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "BitShift",
         .since = 11,
         .infer = infer_shift,
         .run = run_binary,
         .prepare = prepare_shift,
         .layout_inputs = ~0u,
         .flags = kFlags,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
