// MatMul (ONNX 1, 9, 13) and the internal MatMul that it becomes.
//
// "linnet" MatMul: inputs a, b, a bias per column, operands of the epilogue; attributes perm_a, perm_b (the operand is
// permuted like a Transpose before), perm_c (the product is permuted after; the last axis stays), epilogue. float32
// only.
#include "ops/shared/product.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

Shape perm_of(const Attributes& attributes, std::string_view name) {
    const auto values = attributes.ints(name);
    return Shape(values.begin(), values.end());
}

void check_dtypes(const Fact& a, const Fact& b) {
    require(a.dtype == b.dtype, "a is ", dtype_name(a.dtype), " and b is ", dtype_name(b.dtype),
            ": they must be of one type");
}

void infer_matmul(InferContext& ctx) {
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    check_dtypes(a, b);
    const DType d = a.dtype;
    require(d == DType::undefined || is_float(d) || d == DType::i32 || d == DType::i64 || d == DType::u32 ||
                d == DType::u64,
            "MatMul does not take ", dtype_name(d));
    ctx.output(0, product_fact(a, {}, b, {}, {}, d, ctx.dims));
}

std::shared_ptr<const void> prepare_matmul(PrepareContext& ctx) { return prepare_any_product(ctx, {}, {}); }

template <class T>
void run_plain(RunContext& ctx) {
    run_plain_product(ctx.state<AnyProduct>()->plan, ctx.parallel(), ctx.input(0).as<T>(), ctx.input(1).as<T>(),
                      ctx.output(0).as<T>());
}

void run_matmul(RunContext& ctx) {
    const auto& state = *ctx.state<AnyProduct>();
    const Tensor &a = ctx.input(0), &b = ctx.input(1);
    switch (a.dtype) {
        case DType::f32:
            run_product(state.f32, ctx, a.as<float>(), b.as<float>(), ctx.output(0).as<float>(), state.epilogue,
                        nullptr, ctx.scratch());
            break;
        case DType::f16:
        case DType::bf16: {  // only what lowering has not rewritten: constants being folded
            const Tensor a32 = convert_float(a, DType::f32), b32 = convert_float(b, DType::f32);
            Tensor c32 = Tensor::allocate(DType::f32, ctx.output(0).shape);
            run_product(state.f32, ctx, a32.as<float>(), b32.as<float>(), c32.as<float>(), state.epilogue, nullptr,
                        ctx.scratch());
            copy_elements(convert_float(c32, a.dtype), ctx.output(0));
            break;
        }
        case DType::f64: run_plain<double>(ctx); break;
        case DType::i32:
        case DType::u32: run_plain<uint32_t>(ctx); break;  // the same bits
        case DType::i64:
        case DType::u64: run_plain<uint64_t>(ctx); break;
        default: fail(ErrorKind::not_implemented, "MatMul of ", dtype_name(a.dtype));
    }
}

// float32 goes to the internal operator; 16-bit floats do through casts.
bool lower_matmul(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const DType d = graph.fact(node.inputs[0]).dtype;
    if (d != DType::f32 && !is_half(d)) return false;
    const ValueId a = as_float32(patch, node.inputs[0]), b = as_float32(patch, node.inputs[1]);
    ValueId c = patch.node("MatMul", {a, b}, {}, "linnet");
    if (d != DType::f32) c = patch.node("Cast", {c}, Attributes().set("to", static_cast<int64_t>(d)));
    patch.replace(node.outputs[0], c);
    return true;
}

void infer_internal(InferContext& ctx) {
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    check_dtypes(a, b);
    require(a.dtype == DType::f32 || a.dtype == DType::undefined, "the internal MatMul takes float32, given ",
            dtype_name(a.dtype));
    ctx.output(0, product_fact(a, perm_of(ctx.attributes, "perm_a"), b, perm_of(ctx.attributes, "perm_b"),
                               perm_of(ctx.attributes, "perm_c"), DType::f32, ctx.dims));
}

std::shared_ptr<const void> prepare_internal(PrepareContext& ctx) {
    auto state = std::make_shared<AnyProduct>();
    state->epilogue = EpilogueProgram(ctx.attributes);
    state->epilogue.resolve(ctx, ctx.output(0).shape);
    require(!state->epilogue.per_batch(), "epilogue: MatMul takes full and vector operands only");
    if (ctx.has_input(2))
        require(ctx.input(2).dtype == DType::f32 && ctx.input(2).shape == Shape{ctx.output(0).shape.back()},
                "bias of shape ", shape_text(ctx.input(2).shape), " for product ", shape_text(ctx.output(0).shape));
    state->f32 = prepare_product(ctx,
                                 plan_product(ctx.input(0).shape, perm_of(ctx.attributes, "perm_a"), ctx.input(1).shape,
                                              perm_of(ctx.attributes, "perm_b"), perm_of(ctx.attributes, "perm_c")),
                                 1);
    ctx.scratch(state->f32.scratch);
    return state;
}

void run_internal(RunContext& ctx) {
    const auto& state = *ctx.state<AnyProduct>();
    run_product(state.f32, ctx, ctx.input(0).as<float>(), ctx.input(1).as<float>(), ctx.output(0).as<float>(),
                state.epilogue, ctx.has_input(2) ? ctx.input(2).as<float>() : nullptr, ctx.scratch());
}

}  // namespace

std::span<const OpDef> matmul_ops() {
    static const OpDef rows[] = {
        {.name = "MatMul",
         .infer = infer_matmul,
         .run = run_matmul,
         .prepare = prepare_matmul,
         .lower = lower_matmul,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "MatMul",
         .domain = "linnet",
         .infer = infer_internal,
         .run = run_internal,
         .prepare = prepare_internal,
         .flags = kEpilogue,
         .min_inputs = 2,
         .max_inputs = -1},
    };
    return rows;
}

}  // namespace linnet
