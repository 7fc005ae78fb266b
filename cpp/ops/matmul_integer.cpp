// Products of 8-bit integers: MatMulInteger (ONNX 10), QLinearMatMul (10, 21), and com.microsoft QGemm,
// MatMulIntegerToFloat and DynamicQuantizeMatMul. The sums are exact; scaling happens in float32, rounding half to
// even.
//
// The internal QLinearMatMul has a bias (int32, per column) as input 8, and attributes perm_b and lo, hi, which clamp
// the byte. The internal MatMulIntegerToFloat takes a, b, a_scale, b_scale, a_zero_point, b_zero_point (those may be
// left out) and from input 6 on operands of its epilogue: epilogue(float(sum) * (a_scale * b_scale)).
#include <algorithm>
#include <type_traits>

#include "ops/shared/product_s8.h"

namespace linnet {
namespace {

// Where each operator has its inputs (-1: it has none). The float operators have no y_scale.
struct Layout {
    std::string_view name;
    int a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero, bias;
};
constexpr Layout kLayouts[] = {
    {"MatMulInteger", 0, -1, 2, 1, -1, 3, -1, -1, -1},
    {"QLinearMatMul", 0, 1, 2, 3, 4, 5, 6, 7, 8},
    {"MatMulIntegerToFloat", 0, 2, 4, 1, 3, 5, -1, -1, -1},
    {"QGemm", 0, 1, 2, 3, 4, 5, 7, 8, 6},
};
const Layout& layout_of(const Node& node) {
    for (const Layout& layout : kLayouts)
        if (layout.name == node.op_type) return layout;
    fail(ErrorKind::not_implemented, "no integer product ", node.op_type);
}

bool is_8bit(DType d) { return d == DType::u8 || d == DType::i8; }

Shape transposition(const Attributes& attributes, const char* name) {
    return attributes.i(name, 0) ? Shape{1, 0} : Shape{};
}

Shape given_perm(const Attributes& attributes) {
    const auto perm = attributes.ints("perm_b");
    return Shape(perm.begin(), perm.end());
}

void infer(InferContext& ctx) {
    const Layout& at = layout_of(ctx.node());
    const Fact &a = ctx.input(at.a), &b = ctx.input(at.b);
    const bool gemm = at.name == "QGemm";
    require(is_8bit(a.dtype) || a.dtype == DType::undefined, "a is ", dtype_name(a.dtype), ", expected uint8 or int8");
    require(is_8bit(b.dtype) || b.dtype == DType::undefined, "b is ", dtype_name(b.dtype), ", expected uint8 or int8");
    for (const auto& [zero, operand] : {std::pair{at.a_zero, a.dtype}, std::pair{at.b_zero, b.dtype}})
        if (zero >= 0 && ctx.has_input(zero))
            require(ctx.input(zero).dtype == operand, "a zero point is ", dtype_name(ctx.input(zero).dtype),
                    ", its operand ", dtype_name(operand));
    for (int scale : {at.a_scale, at.b_scale, at.y_scale})
        if (scale >= 0 && !(scale == at.y_scale && gemm && !ctx.has_input(scale))) {
            const DType d = ctx.input(scale).dtype;
            require(d == DType::f32 || d == DType::f16 || d == DType::bf16, "a scale is ", dtype_name(d));
        }
    if (at.bias >= 0 && ctx.has_input(at.bias)) {
        require(ctx.input(at.bias).dtype == DType::i32, "the bias is ", dtype_name(ctx.input(at.bias).dtype));
    }
    if (at.name == "QLinearMatMul") require(ctx.has_input(at.y_zero), "y_zero_point is left out");
    DType out = DType::f32;
    if (at.name == "MatMulInteger") {
        out = DType::i32;
    } else if (at.y_zero >= 0 && ctx.has_input(at.y_zero)) {
        out = ctx.input(at.y_zero).dtype;
        require(is_8bit(out), "y_zero_point is ", dtype_name(out), ", expected uint8 or int8");
    }
    Shape perm_a, perm_b = given_perm(ctx.attributes);
    if (gemm) {
        require((!a.ranked || a.rank() == 2) && (!b.ranked || b.rank() == 2), "QGemm takes matrices");
        require(ctx.has_input(at.y_scale) == ctx.has_input(at.y_zero), "y_scale and y_zero_point go together");
        perm_a = transposition(ctx.attributes, "transA");
        perm_b = transposition(ctx.attributes, "transB");
    }
    ctx.output(0, product_fact(a, perm_a, b, perm_b, {}, out, ctx.dims));
}

struct State {
    ProductS8 product;
    EpilogueProgram epilogue;
    int64_t sums = 0, scales = 0, a = 0;  // offsets in scratch; a: a's transpose
};

int64_t aligned(int64_t bytes) { return checked_add(bytes, 63) / 64 * 64; }

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    const Layout& at = layout_of(ctx.node);
    auto state = std::make_shared<State>();
    const bool gemm = at.name == "QGemm";
    const Shape perm_a = gemm ? transposition(ctx.attributes, "transA") : Shape{};
    const Shape perm_b = gemm ? transposition(ctx.attributes, "transB") : given_perm(ctx.attributes);
    Shape a = ctx.input(at.a).shape;
    if (!perm_a.empty()) std::swap(a[0], a[1]);  // a copy is made
    state->product =
        prepare_product_s8(ctx, plan_product(a, {}, ctx.input(at.b).shape, perm_b, {}), ctx.input(at.a).dtype, at.b);
    if (at.name == "MatMulIntegerToFloat") {
        state->epilogue = EpilogueProgram(ctx.attributes);
        state->epilogue.resolve(ctx, ctx.output(0).shape);
        require(!state->epilogue.per_batch(), "epilogue: products take full and vector operands only");
    }
    state->sums = aligned(static_cast<int64_t>(state->product.scratch));
    const bool in_place = ctx.output(0).dtype == DType::i32 || ctx.output(0).dtype == DType::f32;
    const int64_t results = element_count(ctx.output(0).shape);
    state->scales = checked_add(state->sums, in_place ? 0 : aligned(checked_mul(results, 4)));
    state->a = checked_add(state->scales, aligned(checked_mul(state->product.plan.n, 8)));
    ctx.scratch(static_cast<size_t>(checked_add(state->a, perm_a.empty() ? 0 : aligned(element_count(a)))));
    return state;
}

float float_at(const Tensor& tensor, int64_t index) { return static_cast<float>(double_at(tensor, index)); }

// What the sums of one product become.
struct Scaling {
    const Tensor *a_scale, *b_scale;
    float alpha = 1, divisor = 1;
    int32_t zero = 0, lo = 0, hi = 0;

    // The scales of the columns of a row.
    void of_row(int64_t row, int64_t slot, int64_t columns, float* to) const {
        const auto& kernels = kernels::kernels();
        const float of_row = alpha * float_at(*a_scale, row % a_scale->count());
        const int64_t count = b_scale->count(), first = count > columns ? slot * columns : 0;
        const auto n = static_cast<size_t>(columns);
        if (b_scale->dtype == DType::f32) {
            const size_t step = count == 1 ? 0 : 1;
            kernels.binary_f32(kernels::Binary::mul, n, b_scale->as<float>() + first, step, &of_row, 0, to);
        } else {
            for (int64_t j = 0; j < columns; ++j) to[j] = of_row * float_at(*b_scale, first + (count == 1 ? 0 : j));
        }
        if (divisor != 1) kernels.binary_f32(kernels::Binary::div, n, to, 1, &divisor, 0, to);
    }
};

// The sums, which lie in y's own memory where y is float, row by row.
void scale_rows(RunContext& ctx, const State& state, const Scaling& scaling, const int32_t* sums) {
    const auto& kernels = kernels::kernels();
    const ProductPlan& plan = state.product.plan;
    Tensor& y = ctx.output(0);
    const int64_t columns = plan.n, grain = std::max<int64_t>(1, 16384 / columns);
    const size_t n = static_cast<size_t>(columns);
    for (size_t batch = 0; batch < plan.batches(); ++batch) {
        const int64_t first = plan.c[batch] / columns, slot = state.product.slot[batch];
        parallel_ranges(ctx.parallel(), plan.m, grain, [&](int64_t begin, int64_t end) {
            std::vector<float> scales(n);
            for (int64_t i = first + begin; i < first + end; ++i) {
                if (i == first + begin || scaling.a_scale->count() > 1) scaling.of_row(i, slot, columns, scales.data());
                const int32_t* from = sums + i * columns;
                if (y.dtype == DType::u8) {
                    kernels.requantize_u8(n, from, scales.data(), 1, scaling.zero, y.as<uint8_t>() + i * columns);
                } else if (y.dtype == DType::i8) {
                    kernels.requantize_s8(n, from, scales.data(), 1, scaling.zero, y.as<int8_t>() + i * columns);
                } else {
                    float* to = y.as<float>() + i * columns;
                    kernels.i32_to_f32(n, from, to);
                    kernels.binary_f32(kernels::Binary::mul, n, to, 1, scales.data(), 1, to);
                }
            }
            auto clamped = [&](auto* values) {
                for (int64_t i = (first + begin) * columns; i < (first + end) * columns; ++i)
                    values[i] = static_cast<std::remove_reference_t<decltype(*values)>>(
                        std::clamp<int32_t>(values[i], scaling.lo, scaling.hi));
            };
            if (y.dtype == DType::u8 && (scaling.lo > 0 || scaling.hi < 255)) clamped(y.as<uint8_t>());
            if (y.dtype == DType::i8 && (scaling.lo > -128 || scaling.hi < 127)) clamped(y.as<int8_t>());
            if (y.dtype != DType::f32) return;
            const EpilogueSteps steps = state.epilogue.bind(ctx, nullptr, {plan.c[batch], plan.c_row, 0, 0});
            float* const to = y.as<float>() + plan.c[batch];
            if (steps.count)
                kernels.epilogue_f32(steps.view(), static_cast<size_t>(begin), static_cast<size_t>(end), n, to,
                                     plan.c_row, to, plan.c_row);
        });
    }
}

void run(RunContext& ctx) {
    const Layout& at = layout_of(ctx.node);
    const auto& state = *ctx.state<State>();
    const ProductPlan& plan = state.product.plan;
    Tensor& y = ctx.output(0);
    if (plan.empty()) return;
    auto optional = [&](int i) { return i >= 0 && ctx.has_input(i) ? &ctx.input(i) : nullptr; };
    const bool gemm = at.name == "QGemm";

    Tensor a = ctx.input(at.a);
    if (gemm && ctx.attributes.i("transA", 0)) {
        std::byte* const copied = ctx.scratch() + state.a;
        kernels::kernels().transpose(1, static_cast<size_t>(a.shape[0]), static_cast<size_t>(a.shape[1]), a.data,
                                     a.shape[1], copied, a.shape[0]);
        a.data = copied;
    }
    const Tensor *a_scale = optional(at.a_scale), *b_scale = optional(at.b_scale);
    OperandsS8 operands{&a, optional(at.a_zero), &ctx.input(at.b), optional(at.b_zero), nullptr};
    const int64_t columns = plan.n, all_rows = y.count() / columns;
    const Shape& a_shape = ctx.input(at.a).shape;
    const int64_t own_rows = gemm ? plan.m : a_shape.size() < 2 ? 1 : a_shape[a_shape.size() - 2];
    const int64_t slots = static_cast<int64_t>(state.product.slot_b.size());
    check_per_row(operands.a_zero, own_rows, all_rows / std::max<int64_t>(1, own_rows), "a_zero_point");
    check_per_row(a_scale, own_rows, all_rows / std::max<int64_t>(1, own_rows), "a_scale");
    check_per_row(operands.b_zero, columns, slots, "b_zero_point");
    check_per_row(b_scale, columns, slots, "b_scale");

    const Tensor* bias = optional(at.bias);
    auto* const scales = reinterpret_cast<float*>(ctx.scratch() + state.scales);
    auto* const column_bias = reinterpret_cast<int32_t*>(scales + columns);
    const bool full_bias = bias && bias->shape.size() == 2 && bias->shape[0] != 1;
    if (bias) {
        const int64_t count = bias->count();
        if (count != 1 && count != columns && !(full_bias && (count == y.count() || count == all_rows)))
            fail(ErrorKind::invalid_argument, "a bias of shape ", shape_text(bias->shape), " for a product of shape ",
                 shape_text(y.shape));
        if (!full_bias && count == columns) {
            operands.bias = bias->as<int32_t>();
        } else if (!full_bias) {
            std::fill_n(column_bias, columns, *bias->as<int32_t>());
            operands.bias = column_bias;
        }
    }
    const Tensor *y_scale = optional(at.y_scale), *y_zero = optional(at.y_zero);
    if (y_scale && y_scale->count() != 1) fail(ErrorKind::invalid_argument, "y_scale must have one element");
    if (y_zero && y_zero->count() != 1) fail(ErrorKind::invalid_argument, "y_zero_point must have one element");
    Scaling scaling{a_scale, b_scale};
    if (gemm) scaling.alpha = ctx.attributes.f("alpha", 1);
    if (y_scale) scaling.divisor = float_at(*y_scale, 0);
    if (y_zero) scaling.zero = static_cast<int32_t>(int_at(*y_zero, 0));
    const bool is_signed = y.dtype == DType::i8;
    scaling.lo = static_cast<int32_t>(ctx.attributes.i("lo", is_signed ? -128 : 0));
    scaling.hi = static_cast<int32_t>(ctx.attributes.i("hi", is_signed ? 127 : 255));

    if (y.dtype != DType::i32 && !full_bias && a_scale->count() == 1 && b_scale->count() <= columns &&
        one_pass(state.product, operands)) {
        scaling.of_row(0, 0, columns, scales);
        ResultS8 result;
        if (y.dtype == DType::f32) result.out = kernels::GemmS8::Out::floats;
        result.scale = scales;
        result.epilogue = &state.epilogue;
        result.bytes.scale = scales;
        result.bytes.zero = scaling.zero;
        result.bytes.lo = scaling.lo;
        result.bytes.hi = scaling.hi;
        result.bytes.is_signed = is_signed;
        return run_product_s8(state.product, ctx, operands, result, y.data, ctx.scratch());
    }
    const bool in_place = y.dtype == DType::i32 || y.dtype == DType::f32;
    auto* const sums =
        in_place ? static_cast<int32_t*>(y.data) : reinterpret_cast<int32_t*>(ctx.scratch() + state.sums);
    run_product_s8(state.product, ctx.parallel(), operands, sums, ctx.scratch());
    if (full_bias) {
        const size_t n = static_cast<size_t>(columns);
        const bool whole = bias->count() == y.count();
        for (int64_t i = 0; i < all_rows; ++i)
            kernels::kernels().binary_i32(kernels::Binary::add, n, sums + i * columns, 1,
                                          bias->as<int32_t>() + (whole ? i * columns : i), whole ? 1 : 0,
                                          sums + i * columns);
    }
    if (y.dtype != DType::i32) scale_rows(ctx, state, scaling, sums);
}

// ---- com.microsoft: into DynamicQuantizeLinear, the internal MatMulIntegerToFloat and Add
// ----------------------------

ValueId optional_input(const Node& node, size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; }

bool finish_lowering(const Node& node, const ValueIds& operands, ValueId bias, Patch& patch) {
    ValueId y = patch.node("MatMulIntegerToFloat", operands, {}, "linnet");
    if (bias != kNoValue) y = patch.node("Add", {y, bias});
    patch.replace(node.outputs[0], y);
    return true;
}

void check_bias(const InferContext& ctx, int i) {
    if (ctx.has_input(i))
        require(ctx.input(i).dtype == DType::f32, "the bias is ", dtype_name(ctx.input(i).dtype), ", expected float32");
}

// a, b, a_scale, b_scale, a_zero_point, b_zero_point, bias
void infer_to_float(InferContext& ctx) {
    infer(ctx);
    check_bias(ctx, 6);
}

bool lower_to_float(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueIds operands;
    for (size_t i = 0; i < 6; ++i) operands.push_back(optional_input(node, i));
    return finish_lowering(node, operands, optional_input(node, 6), patch);
}

// a, b, b_scale, b_zero_point, bias
void infer_dynamic(InferContext& ctx) {
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    require(a.dtype == DType::f32 || a.dtype == DType::undefined, "a is ", dtype_name(a.dtype), ", expected float32");
    require(is_8bit(b.dtype) || b.dtype == DType::undefined, "b is ", dtype_name(b.dtype), ", expected uint8 or int8");
    require(ctx.input(2).dtype == DType::f32, "b_scale is ", dtype_name(ctx.input(2).dtype));
    if (ctx.has_input(3))
        require(ctx.input(3).dtype == b.dtype, "a zero point is ", dtype_name(ctx.input(3).dtype), ", its operand ",
                dtype_name(b.dtype));
    check_bias(ctx, 4);
    ctx.output(0, product_fact(a, {}, b, {}, {}, DType::f32, ctx.dims));
}

bool lower_dynamic(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId a = patch.node("DynamicQuantizeLinear", {node.inputs[0]}, {}, "", 3);  // and its scale and zero
    return finish_lowering(node, {a, node.inputs[1], a + 1, node.inputs[2], a + 2, optional_input(node, 3)},
                           optional_input(node, 4), patch);
}

}  // namespace

std::span<const OpDef> matmul_integer_ops() {
    constexpr auto row = [](std::string_view name, std::string_view domain, int since, int fewest, int most) {
        return OpDef{.name = name,
                     .domain = domain,
                     .since = since,
                     .infer = infer,
                     .run = run,
                     .prepare = prepare,
                     .min_inputs = fewest,
                     .max_inputs = most};
    };
    OpDef to_float = row("MatMulIntegerToFloat", "linnet", 1, 6, -1);
    to_float.flags = kEpilogue;
    to_float.may_omit = 1 << 4 | 1 << 5;
    OpDef linear = row("QLinearMatMul", "linnet", 1, 8, 9);
    linear.may_omit = 1 << 2 | 1 << 5;
    static const OpDef rows[] = {
        row("MatMulInteger", "", 10, 2, 4),
        row("QLinearMatMul", "", 10, 8, 8),
        row("QGemm", "com.microsoft", 1, 6, 9),
        linear,
        to_float,
        {.name = "MatMulIntegerToFloat",
         .domain = "com.microsoft",
         .infer = infer_to_float,
         .lower = lower_to_float,
         .min_inputs = 4,
         .max_inputs = 7},
        {.name = "DynamicQuantizeMatMul",
         .domain = "com.microsoft",
         .infer = infer_dynamic,
         .lower = lower_dynamic,
         .min_inputs = 3,
         .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
