// Products of 8-bit integers: MatMulInteger (ONNX 10), QLinearMatMul (10, 21), and com.microsoft MatMulIntegerToFloat,
// DynamicQuantizeMatMul and QGemm. The sums are exact; scaling happens in float32, rounding half to even.
#include <algorithm>
#include <cmath>
#include <cstring>

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
    {"QLinearMatMul", 0, 1, 2, 3, 4, 5, 6, 7, -1},
    {"MatMulIntegerToFloat", 0, 2, 4, 1, 3, 5, -1, -1, 6},
    {"DynamicQuantizeMatMul", 0, -1, -1, 1, 2, 3, -1, -1, 4},
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

void infer(InferContext& ctx) {
    const Layout& at = layout_of(ctx.node());
    const Fact &a = ctx.input(at.a), &b = ctx.input(at.b);
    const bool dynamic = at.name == "DynamicQuantizeMatMul", gemm = at.name == "QGemm";
    if (dynamic)
        require(a.dtype == DType::f32 || a.dtype == DType::undefined, "a is ", dtype_name(a.dtype),
                ", expected float32");
    else
        require(is_8bit(a.dtype) || a.dtype == DType::undefined, "a is ", dtype_name(a.dtype),
                ", expected uint8 or int8");
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
        const DType expected = gemm ? DType::i32 : DType::f32;
        require(ctx.input(at.bias).dtype == expected, "the bias is ", dtype_name(ctx.input(at.bias).dtype));
    }
    if (at.name == "QLinearMatMul") require(ctx.has_input(at.y_zero), "y_zero_point is left out");
    DType out = DType::f32;
    if (at.name == "MatMulInteger") {
        out = DType::i32;
    } else if (at.y_zero >= 0 && ctx.has_input(at.y_zero)) {
        out = ctx.input(at.y_zero).dtype;
        require(is_8bit(out), "y_zero_point is ", dtype_name(out), ", expected uint8 or int8");
    }
    Shape perm_a, perm_b;
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
    int64_t a_bytes = 0;  // a is quantized or transposed into scratch first
    int64_t sums = 0;     // offsets in scratch
    int64_t floats = 0;
    int64_t inner = 0;
};

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    const Layout& at = layout_of(ctx.node);
    auto state = std::make_shared<State>();
    const bool gemm = at.name == "QGemm";
    const Shape perm_a = gemm ? transposition(ctx.attributes, "transA") : Shape{};
    const Shape perm_b = gemm ? transposition(ctx.attributes, "transB") : Shape{};
    Shape a = ctx.input(at.a).shape;
    if (!perm_a.empty()) std::swap(a[0], a[1]);  // a copy is made
    const bool dynamic = at.name == "DynamicQuantizeMatMul";
    state->product = prepare_product_s8(ctx, plan_product(a, {}, ctx.input(at.b).shape, perm_b, {}),
                                        dynamic ? DType::u8 : ctx.input(at.a).dtype, at.b);
    if (dynamic || !perm_a.empty()) state->a_bytes = aligned(element_count(a));
    state->sums = aligned(static_cast<int64_t>(state->product.scratch));
    const int64_t results = element_count(ctx.output(0).shape);
    const bool in_place = ctx.output(0).dtype == DType::i32 || ctx.output(0).dtype == DType::f32;
    state->inner = checked_add(state->sums, in_place ? 0 : aligned(checked_mul(results, 4)));
    ctx.scratch(static_cast<size_t>(checked_add(state->inner, state->a_bytes)));
    return state;
}

float float_at(const Tensor& tensor, int64_t index) { return static_cast<float>(double_at(tensor, index)); }

// a as uint8 by its own range, as ONNX's DynamicQuantizeLinear does.
void quantize(const Tensor& a, uint8_t* to, float& scale, uint8_t& zero) {
    const auto& kernels = kernels::kernels();
    const size_t n = static_cast<size_t>(a.count());
    float low = 0, high = 0;
    if (n > 0) kernels.min_max_f32(n, a.as<float>(), &low, &high);
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
    scale = (high - low) / 255.0f;
    if (!(scale > 0)) scale = 1;
    zero = static_cast<uint8_t>(std::clamp(std::nearbyint(-low / scale), 0.0f, 255.0f));
    kernels.quantize_u8(n, a.as<float>(), &scale, 0, &zero, 0, to);
}

void run(RunContext& ctx) {
    const Layout& at = layout_of(ctx.node);
    const auto& state = *ctx.state<State>();
    const ProductPlan& plan = state.product.plan;
    const auto& kernels = kernels::kernels();
    Tensor& y = ctx.output(0);
    if (plan.empty()) return;
    auto optional = [&](int i) { return i >= 0 && ctx.has_input(i) ? &ctx.input(i) : nullptr; };
    const bool gemm = at.name == "QGemm";

    // a
    Tensor a = ctx.input(at.a), zero_tensor, scale_tensor;
    const Tensor *a_zero = optional(at.a_zero), *a_scale = optional(at.a_scale);
    std::byte* const copied = ctx.scratch() + state.inner;
    if (at.name == "DynamicQuantizeMatMul") {
        float scale = 1;
        uint8_t zero = 0;
        quantize(a, reinterpret_cast<uint8_t*>(copied), scale, zero);
        a.dtype = DType::u8;
        a.data = copied;
        zero_tensor = Tensor::scalar<uint8_t>(zero);
        scale_tensor = Tensor::scalar<float>(scale);
        a_zero = &zero_tensor;
        a_scale = &scale_tensor;
    } else if (state.a_bytes) {
        kernels.transpose(1, static_cast<size_t>(a.shape[0]), static_cast<size_t>(a.shape[1]), a.data, a.shape[1],
                          copied, a.shape[0]);
        a.data = copied;
    }
    const Tensor &b = ctx.input(at.b), *b_zero = optional(at.b_zero), *b_scale = optional(at.b_scale);
    const int64_t columns = plan.n, all_rows = y.count() / columns;
    const Shape& a_shape = ctx.input(at.a).shape;
    const int64_t own_rows = gemm ? plan.m : a_shape.size() < 2 ? 1 : a_shape[a_shape.size() - 2];
    const int64_t slots = static_cast<int64_t>(state.product.slot_b.size());
    check_per_row(a_zero, own_rows, all_rows / std::max<int64_t>(1, own_rows), "a_zero_point");
    check_per_row(a_scale, own_rows, all_rows / std::max<int64_t>(1, own_rows), "a_scale");
    check_per_row(b_zero, columns, slots, "b_zero_point");
    check_per_row(b_scale, columns, slots, "b_scale");

    // Sums
    const Tensor* bias = optional(at.bias);
    std::vector<int32_t> column_bias;
    const bool in_place = y.dtype == DType::i32 || y.dtype == DType::f32;
    auto* const sums =
        in_place ? static_cast<int32_t*>(y.data) : reinterpret_cast<int32_t*>(ctx.scratch() + state.sums);
    const bool full_bias = gemm && bias && (bias->shape.size() == 2 && bias->shape[0] != 1);
    if (bias) {
        const int64_t count = bias->count();
        if (count != 1 && count != columns && !(full_bias && (count == y.count() || count == all_rows)))
            fail(ErrorKind::invalid_argument, "a bias of shape ", shape_text(bias->shape), " for a product of shape ",
                 shape_text(y.shape));
        if (gemm && !full_bias)
            for (int64_t j = 0; j < columns; ++j) column_bias.push_back(bias->as<int32_t>()[count == 1 ? 0 : j]);
    }
    run_product_s8(state.product, ctx.parallel(), a, a_zero, b, b_zero,
                   column_bias.empty() ? nullptr : column_bias.data(), sums, ctx.scratch());
    if (full_bias) {
        const int64_t step = bias->count() == y.count() ? 1 : columns;
        for (int64_t i = 0; i < y.count(); ++i)
            sums[i] = static_cast<int32_t>(static_cast<uint32_t>(sums[i]) +
                                           static_cast<uint32_t>(bias->as<int32_t>()[i / step]));
    }
    if (y.dtype == DType::i32) return;

    // Scales, row by row
    const float alpha = gemm ? ctx.attributes.f("alpha", 1) : 1;
    const Tensor *y_scale = optional(at.y_scale), *y_zero = optional(at.y_zero);
    if (y_scale && y_scale->count() != 1) fail(ErrorKind::invalid_argument, "y_scale must have one element");
    if (y_zero && y_zero->count() != 1) fail(ErrorKind::invalid_argument, "y_zero_point must have one element");
    const float divisor = y_scale ? float_at(*y_scale, 0) : 1;
    const int32_t zero = y_zero ? static_cast<int32_t>(int_at(*y_zero, 0)) : 0;
    const int64_t grain = std::max<int64_t>(1, 16384 / columns);
    for (size_t batch = 0; batch < plan.batches(); ++batch) {
        const int64_t first = plan.c[batch] / columns, slot = state.product.slot[batch];
        parallel_ranges(ctx.parallel(), plan.m, grain, [&](int64_t begin, int64_t end) {
            std::vector<float> scales(static_cast<size_t>(columns));
            for (int64_t i = first + begin; i < first + end; ++i) {
                if (i == first + begin || a_scale->count() > 1) {
                    const float of_row = float_at(*a_scale, i % a_scale->count());
                    for (int64_t j = 0; j < columns; ++j) {
                        const int64_t count = b_scale->count(), at_b = count > columns ? slot * columns + j : j % count;
                        scales[static_cast<size_t>(j)] = alpha * of_row * float_at(*b_scale, at_b) / divisor;
                    }
                }
                const int32_t* from = sums + i * columns;
                const size_t n = static_cast<size_t>(columns);
                if (y.dtype == DType::u8) {
                    kernels.requantize_u8(n, from, scales.data(), 1, zero, y.as<uint8_t>() + i * columns);
                } else if (y.dtype == DType::i8) {
                    kernels.requantize_s8(n, from, scales.data(), 1, zero, y.as<int8_t>() + i * columns);
                } else {
                    float* to = y.as<float>() + i * columns;
                    for (int64_t j = 0; j < columns; ++j) {
                        int32_t sum;
                        std::memcpy(&sum, to + j, 4);  // the sums lie in y's own memory
                        const float shift = bias && !gemm ? bias->as<float>()[bias->count() == 1 ? 0 : j] : 0;
                        to[j] = static_cast<float>(sum) * scales[static_cast<size_t>(j)] + shift;
                    }
                }
            }
        });
    }
}

}  // namespace

std::span<const OpDef> matmul_integer_ops() {
    static const OpDef rows[] = {
        {.name = "MatMulInteger",
         .since = 10,
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 2,
         .max_inputs = 4},
        {.name = "QLinearMatMul",
         .since = 10,
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 8,
         .max_inputs = 8},
        {.name = "MatMulIntegerToFloat",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 4,
         .max_inputs = 7},
        {.name = "DynamicQuantizeMatMul",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 3,
         .max_inputs = 5},
        {.name = "QGemm",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .min_inputs = 6,
         .max_inputs = 9},
    };
    return rows;
}

}  // namespace linnet
