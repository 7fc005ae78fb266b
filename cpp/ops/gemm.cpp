// Gemm (ONNX 1, 6, 7, 9, 11, 13): y = alpha a' b' + beta c, with a' and b' transposed on demand and c broadcast to y.
// Attributes: transA, transB (0), alpha, beta (1). c may be left out from opset 11 on. The attribute `broadcast` of
// opsets 1 and 6 adds nothing: it only permits what later opsets always permit.
#include <limits>
#include <type_traits>

#include "ops/shared/product.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

struct GemmAttributes {
    float alpha, beta;
    Shape perm_a, perm_b;
    explicit GemmAttributes(const Attributes& attributes)
        : alpha(attributes.f("alpha", 1.0f)), beta(attributes.f("beta", 1.0f)) {
        if (attributes.i("transA", 0)) perm_a = {1, 0};
        if (attributes.i("transB", 0)) perm_b = {1, 0};
    }
};

void infer_gemm(InferContext& ctx) {
    const GemmAttributes gemm(ctx.attributes);
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    const DType d = a.dtype;
    require(a.dtype == b.dtype, "a is ", dtype_name(a.dtype), " and b is ", dtype_name(b.dtype));
    require(d == DType::undefined || is_float(d) || d == DType::i32 || d == DType::i64 || d == DType::u32 ||
                d == DType::u64,
            "Gemm does not take ", dtype_name(d));
    require(!a.ranked || a.rank() == 2, "a has rank ", a.rank(), ", expected 2");
    require(!b.ranked || b.rank() == 2, "b has rank ", b.rank(), ", expected 2");
    Fact y = Fact::of(d, {kUnknownDim, kUnknownDim});
    if (a.ranked) y.shape[0] = a.shape[gemm.perm_a.empty() ? 0 : 1];
    if (b.ranked) y.shape[1] = b.shape[gemm.perm_b.empty() ? 1 : 0];
    if (a.ranked && b.ranked) y = product_fact(a, gemm.perm_a, b, gemm.perm_b, {}, d, ctx.dims);
    if (ctx.has_input(2)) {
        const Fact& c = ctx.input(2);
        require(c.dtype == d, "c is ", dtype_name(c.dtype), ", a is ", dtype_name(d));
        require(!c.ranked || c.rank() <= 2, "c has rank ", c.rank(), ", expected at most 2");
        for (int64_t i = 0; c.ranked && i < c.rank(); ++i) {
            const int64_t from = c.shape[static_cast<size_t>(c.rank() - 1 - i)];
            const int64_t to = y.shape[static_cast<size_t>(1 - i)];
            if (is_number(from) && is_number(to) && from != 1 && from != to)
                fail(ErrorKind::invalid_argument, "c of shape ", ctx.dims.text(c.shape), " does not broadcast to ",
                     ctx.dims.text(y.shape));
        }
    }
    ctx.output(0, std::move(y));
}

std::shared_ptr<const void> prepare_gemm(PrepareContext& ctx) {
    const GemmAttributes gemm(ctx.attributes);
    return prepare_any_product(ctx, gemm.perm_a, gemm.perm_b);
}

template <class T>
T saturated(double value) {
    constexpr double low = static_cast<double>(std::numeric_limits<T>::min());
    constexpr double high = static_cast<double>(std::numeric_limits<T>::max());
    if (!(value > low)) return std::numeric_limits<T>::min();
    return value >= high ? std::numeric_limits<T>::max() : static_cast<T>(value);
}

// y = alpha y + beta c. Integers take the factors in double, as the product of a float and an integer is one.
template <class T, class Number>
void finish(const GemmAttributes& gemm, T* y, const Shape& shape, const T* c, const Shape& c_shape) {
    const int64_t rows = shape[0], columns = shape[1];
    const int64_t c_columns = c_shape.empty() ? 1 : c_shape.back();
    const int64_t c_rows = c_shape.size() < 2 ? 1 : c_shape[0];
    const Number alpha = static_cast<Number>(gemm.alpha), beta = static_cast<Number>(gemm.beta);
    const bool plain = gemm.alpha == 1.0f && gemm.beta == 1.0f;
    for (int64_t i = 0; i < rows; ++i) {
        const T* row = c ? c + (c_rows == 1 ? 0 : i * c_columns) : nullptr;
        for (int64_t j = 0; j < columns; ++j) {
            T& value = y[i * columns + j];
            const T other = row ? row[c_columns == 1 ? 0 : j] : T{};
            if constexpr (std::is_integral_v<T>) {
                using Bits = std::make_unsigned_t<T>;  // wraps around
                value = plain ? static_cast<T>(static_cast<Bits>(value) + static_cast<Bits>(other))
                              : saturated<T>(alpha * static_cast<Number>(value) + beta * static_cast<Number>(other));
            } else {
                value = alpha * value + beta * other;
            }
        }
    }
}

template <class T, class Signed, class Number>
void run_plain(RunContext& ctx, const GemmAttributes& gemm) {
    Tensor& y = ctx.output(0);
    run_plain_product(ctx.state<AnyProduct>()->plan, ctx.parallel(), ctx.input(0).as<T>(), ctx.input(1).as<T>(),
                      y.as<T>());
    const bool has_c = ctx.has_input(2);
    finish<Signed, Number>(gemm, y.as<Signed>(), y.shape, has_c ? ctx.input(2).as<Signed>() : nullptr,
                           has_c ? ctx.input(2).shape : Shape{});
}

void run_gemm(RunContext& ctx) {
    const GemmAttributes gemm(ctx.attributes);
    const auto& state = *ctx.state<AnyProduct>();
    Tensor& y = ctx.output(0);
    const DType d = y.dtype;
    if (d == DType::f32 || is_half(d)) {  // only what lowering has not rewritten: constants being folded
        auto as_f32 = [&](const Tensor& t) { return d == DType::f32 ? t : convert_float(t, DType::f32); };
        const Tensor a = as_f32(ctx.input(0)), b = as_f32(ctx.input(1));
        const Tensor c = ctx.has_input(2) ? as_f32(ctx.input(2)) : Tensor{};
        Tensor sum = d == DType::f32 ? y : Tensor::allocate(DType::f32, y.shape);
        run_product(state.f32, ctx, a.as<float>(), b.as<float>(), sum.as<float>(), state.epilogue, nullptr,
                    ctx.scratch());
        finish<float, float>(gemm, sum.as<float>(), sum.shape, c.as<float>(), c.shape);
        if (d != DType::f32) copy_elements(convert_float(sum, d), y);
        return;
    }
    switch (d) {
        case DType::f64: run_plain<double, double, double>(ctx, gemm); break;
        case DType::i32: run_plain<uint32_t, int32_t, double>(ctx, gemm); break;
        case DType::u32: run_plain<uint32_t, uint32_t, double>(ctx, gemm); break;
        case DType::i64: run_plain<uint64_t, int64_t, double>(ctx, gemm); break;
        case DType::u64: run_plain<uint64_t, uint64_t, double>(ctx, gemm); break;
        default: fail(ErrorKind::not_implemented, "Gemm of ", dtype_name(d));
    }
}

// beta c as a constant when c is one.
Tensor scaled(const Tensor& tensor, float factor) {
    Tensor out = tensor.clone();
    for (int64_t i = 0; i < out.count(); ++i) out.as<float>()[i] *= factor;
    return out;
}

// The internal MatMul with alpha in its epilogue, then an Add, which the fusion of epilogues takes in where it can.
bool lower_gemm(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const GemmAttributes gemm(node.attributes);
    const DType d = graph.fact(node.inputs[0]).dtype;
    if (d != DType::f32 && !is_half(d)) return false;
    Attributes attributes;
    if (!gemm.perm_a.empty()) attributes.set("perm_a", std::vector<int64_t>{1, 0});
    if (!gemm.perm_b.empty()) attributes.set("perm_b", std::vector<int64_t>{1, 0});
    if (gemm.alpha != 1.0f)
        attributes.set("epilogue", std::vector<std::string>{epilogue_text(kernels::Unary::mul_scalar, gemm.alpha)});
    ValueId y = patch.node("MatMul", {as_float32(patch, node.inputs[0]), as_float32(patch, node.inputs[1])}, attributes,
                           "linnet");
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue && gemm.beta != 0.0f) {
        ValueId c = as_float32(patch, node.inputs[2]);
        if (gemm.beta != 1.0f) {
            const Tensor* constant = patch.graph().constant(c);
            c = constant ? patch.constant(scaled(*constant, gemm.beta))
                         : patch.node("Mul", {c, patch.constant_float(gemm.beta)});
        }
        y = patch.node("Add", {y, c});
    }
    if (d != DType::f32) y = patch.node("Cast", {y}, Attributes().set("to", static_cast<int64_t>(d)));
    patch.replace(node.outputs[0], y);
    return true;
}

}  // namespace

std::span<const OpDef> gemm_ops() {
    static const OpDef rows[] = {
        {.name = "Gemm",
         .infer = infer_gemm,
         .run = run_gemm,
         .prepare = prepare_gemm,
         .lower = lower_gemm,
         .min_inputs = 2,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
