// Products of com.microsoft that are compositions: FusedMatMul (transposed operands, alpha), FusedGemm (Gemm and an
// activation), MatMulNBits (b as 2, 4 or 8 bit integers with a scale per block).
#include <algorithm>
#include <numeric>

#include "ops/shared/product.h"

namespace linnet {
namespace {

// ---- FusedMatMul: attributes transA, transB, transBatchA, transBatchB (0), alpha (1) -------------------------------

std::vector<int64_t> fused_perm(const Attributes& attributes, const std::string& side, int64_t rank) {
    std::vector<int64_t> perm(static_cast<size_t>(rank));
    std::iota(perm.begin(), perm.end(), 0);
    if (rank < 2) return perm;
    // The first axis becomes the row axis, the others move up.
    if (attributes.i("transBatch" + side, 0)) std::rotate(perm.begin(), perm.begin() + 1, perm.end() - 1);
    if (attributes.i("trans" + side, 0)) std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
    return perm;
}

void infer_fused(InferContext& ctx) {
    const Fact &a = ctx.input(0), &b = ctx.input(1);
    require(a.dtype == b.dtype && (is_float(a.dtype) || a.dtype == DType::undefined), "a is ", dtype_name(a.dtype),
            ", b is ", dtype_name(b.dtype), ": expected one float type");
    if (!a.ranked || !b.ranked) return ctx.output_unranked(0, a.dtype);
    const auto pa = fused_perm(ctx.attributes, "A", a.rank()), pb = fused_perm(ctx.attributes, "B", b.rank());
    ctx.output(0, product_fact(a, Shape(pa.begin(), pa.end()), b, Shape(pb.begin(), pb.end()), {}, a.dtype, ctx.dims));
}

bool lower_fused(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    ValueIds operands;
    for (size_t i = 0; i < 2; ++i) {
        const Fact& fact = graph.fact(node.inputs[i]);
        if (!fact.ranked) fail(ErrorKind::not_implemented, "FusedMatMul of inputs whose rank is not known");
        const auto perm = fused_perm(node.attributes, i == 0 ? "A" : "B", fact.rank());
        const bool identity = std::is_sorted(perm.begin(), perm.end());
        operands.push_back(identity ? node.inputs[i]
                                    : patch.node("Transpose", {node.inputs[i]}, Attributes().set("perm", perm)));
    }
    ValueId y = patch.node("MatMul", operands);
    const float alpha = node.attributes.f("alpha", 1);
    if (alpha != 1) y = patch.node("Mul", {y, patch.constant_float(alpha, graph.fact(node.inputs[0]).dtype)});
    patch.replace(node.outputs[0], y);
    return true;
}

// ---- FusedGemm: Gemm's attributes, activation, activation_alpha, activation_beta -----------------------------------

void infer_fused_gemm(InferContext& ctx) {
    const OpDef* gemm = find_op("", "Gemm", kMaxOpset);
    gemm->infer(ctx);
}

bool lower_fused_gemm(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    Attributes gemm;
    for (const char* name : {"transA", "transB", "alpha", "beta"})
        if (const Attribute* a = node.attributes.find(name)) gemm.set(name, a->data);
    ValueId y = patch.node("Gemm", node.inputs, gemm);
    const std::string activation = node.attributes.s("activation", "");
    if (!activation.empty()) {
        constexpr std::string_view kKnown[] = {"Relu",     "LeakyRelu", "Sigmoid", "Tanh",        "Elu",
                                               "Softplus", "Softsign",  "Selu",    "HardSigmoid", "ThresholdedRelu"};
        require(std::find(std::begin(kKnown), std::end(kKnown), activation) != std::end(kKnown), "activation '",
                activation, "' is not known");
        Attributes attributes;
        if (const Attribute* a = node.attributes.find("activation_alpha")) attributes.set("alpha", a->data);
        if (const Attribute* a = node.attributes.find("activation_beta"))
            attributes.set(activation == "Selu" ? "gamma" : "beta", a->data);
        if (const Attribute* a = node.attributes.find("activation_gamma")) attributes.set("gamma", a->data);
        y = patch.node(activation, {y}, attributes);
    }
    patch.replace(node.outputs[0], y);
    return true;
}

// ---- MatMulNBits ---------------------------------------------------------------------------------------------------
// Inputs a [..., K], b uint8 [N, blocks, block bytes], scales [N * blocks], zero_points (uint8, packed per row of
// blocks like b's elements; or of the scales' type, one each; absent: 2^(bits-1)), g_idx [K] (block of each k), bias
// [N]. Element k of a block lies in the bits from (k * bits) on, lowest first.

struct NBits {
    int64_t k, n, bits, block, blocks, block_bytes, zero_bytes;
    explicit NBits(const Attributes& attributes)
        : k(attributes.i("K", 0)),
          n(attributes.i("N", 0)),
          bits(attributes.i("bits", 4)),
          block(attributes.i("block_size", 0)) {
        require(k > 0 && n > 0 && k < (int64_t{1} << 32) && n < (int64_t{1} << 32), "K is ", k, ", N is ", n);
        require(bits == 2 || bits == 4 || bits == 8, "bits is ", bits, ", expected 2, 4 or 8");
        require(block >= 16 && (block & (block - 1)) == 0 && block < (int64_t{1} << 32), "block_size is ", block,
                ", expected a power of two from 16 on");
        blocks = (k + block - 1) / block;
        block_bytes = block * bits / 8;
        zero_bytes = (blocks * bits + 7) / 8;
    }
};

void check_count(const InferContext& ctx, int i, int64_t expected, const char* what) {
    if (!ctx.has_input(i)) return;
    const Fact& fact = ctx.input(i);
    if (fact.ranked && is_known(fact.shape))
        require(element_count(fact.shape) == expected, what, " has ", element_count(fact.shape), " elements, expected ",
                expected);
}

void infer_nbits(InferContext& ctx) {
    const NBits nbits(ctx.attributes);
    const Fact& a = ctx.input(0);
    require(a.dtype == DType::undefined || a.dtype == DType::f32 || a.dtype == DType::f16 || a.dtype == DType::bf16,
            "a is ", dtype_name(a.dtype));
    require(ctx.input(1).dtype == DType::u8, "b is ", dtype_name(ctx.input(1).dtype), ", expected uint8");
    require(ctx.input(2).dtype == a.dtype, "scales are ", dtype_name(ctx.input(2).dtype), ", a is ",
            dtype_name(a.dtype));
    check_count(ctx, 1, checked_mul(checked_mul(nbits.n, nbits.blocks), nbits.block_bytes), "b");
    check_count(ctx, 2, checked_mul(nbits.n, nbits.blocks), "scales");
    if (ctx.has_input(3)) {
        const DType d = ctx.input(3).dtype;
        require(d == DType::u8 || d == a.dtype, "zero_points are ", dtype_name(d));
        check_count(ctx, 3, checked_mul(nbits.n, d == DType::u8 ? nbits.zero_bytes : nbits.blocks), "zero_points");
    }
    if (ctx.has_input(4)) {
        require(ctx.input(4).dtype == DType::i32, "g_idx is ", dtype_name(ctx.input(4).dtype), ", expected int32");
        check_count(ctx, 4, nbits.k, "g_idx");
    }
    if (ctx.has_input(5)) {
        require(ctx.input(5).dtype == a.dtype, "bias is ", dtype_name(ctx.input(5).dtype));
        check_count(ctx, 5, nbits.n, "bias");
    }
    if (!a.ranked) return ctx.output_unranked(0, a.dtype);
    const Fact weights = Fact::of(a.dtype, {nbits.k, nbits.n});
    ctx.output(0, product_fact(a, {}, weights, {}, {}, a.dtype, ctx.dims));
}

// b as float32 [N, K].
Tensor dequantized(const NBits& nbits, const Tensor& b, const Tensor& scales, const Tensor* zeros,
                   const Tensor* g_idx) {
    Tensor out = Tensor::allocate(DType::f32, {nbits.n, nbits.k});
    const auto mask = static_cast<uint8_t>((1 << nbits.bits) - 1);
    auto field = [&](const uint8_t* bytes, int64_t index) {
        const int64_t bit = index * nbits.bits;
        return static_cast<float>((bytes[bit / 8] >> (bit % 8)) & mask);
    };
    for (int64_t row = 0; row < nbits.n; ++row) {
        const uint8_t* bytes = b.as<uint8_t>() + row * nbits.blocks * nbits.block_bytes;
        for (int64_t k = 0; k < nbits.k; ++k) {
            const int64_t group = g_idx ? g_idx->as<int32_t>()[k] : k / nbits.block;
            if (group < 0 || group >= nbits.blocks)
                fail(ErrorKind::invalid_argument, "g_idx holds ", group, ", expected 0 to ", nbits.blocks - 1);
            float zero = static_cast<float>(1 << (nbits.bits - 1));
            if (zeros && zeros->dtype == DType::u8) zero = field(zeros->as<uint8_t>() + row * nbits.zero_bytes, group);
            else if (zeros) zero = static_cast<float>(double_at(*zeros, row * nbits.blocks + group));
            const float scale = static_cast<float>(double_at(scales, row * nbits.blocks + group));
            out.as<float>()[row * nbits.k + k] = (field(bytes, k) - zero) * scale;
        }
    }
    return out;
}

struct NBitsState {
    ProductF32 product;
    EpilogueProgram epilogue;
};

std::shared_ptr<const void> prepare_nbits(PrepareContext& ctx) {
    const NBits nbits(ctx.attributes);
    auto state = std::make_shared<NBitsState>();
    state->product = prepare_product(ctx, plan_product(ctx.input(0).shape, {}, {nbits.n, nbits.k}, {1, 0}, {}), -1);
    ctx.scratch(state->product.scratch);
    return state;
}

// Only when b is no constant; else lowering has dequantized it.
void run_nbits(RunContext& ctx) {
    const NBits nbits(ctx.attributes);
    const auto& state = *ctx.state<NBitsState>();
    const Tensor b = dequantized(nbits, ctx.input(1), ctx.input(2), ctx.has_input(3) ? &ctx.input(3) : nullptr,
                                 ctx.has_input(4) ? &ctx.input(4) : nullptr);
    Tensor& y = ctx.output(0);
    const bool half = y.dtype != DType::f32;
    auto as_f32 = [&](const Tensor& t) { return half ? convert_float(t, DType::f32) : t; };
    const Tensor a = as_f32(ctx.input(0)), bias = ctx.has_input(5) ? as_f32(ctx.input(5)) : Tensor{};
    Tensor c = half ? Tensor::allocate(DType::f32, y.shape) : y;
    run_product(state.product, ctx, a.as<float>(), b.as<float>(), c.as<float>(), state.epilogue, bias.as<float>(),
                ctx.scratch());
    if (half) copy_elements(convert_float(c, y.dtype), y);
}

bool lower_nbits(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const NBits nbits(node.attributes);
    auto optional = [&](size_t i) { return i < node.inputs.size() ? node.inputs[i] : kNoValue; };
    const Tensor *b = graph.constant(node.inputs[1]), *scales = graph.constant(node.inputs[2]);
    const Tensor *zeros = graph.constant(optional(3)), *g_idx = graph.constant(optional(4));
    const DType d = graph.fact(node.inputs[0]).dtype;
    if (!b || !scales || (optional(3) != kNoValue && !zeros) || (optional(4) != kNoValue && !g_idx) ||
        d == DType::undefined)
        return false;
    ValueId a = node.inputs[0], y;
    const auto to = [](DType type) { return Attributes().set("to", static_cast<int64_t>(type)); };
    if (d != DType::f32) a = patch.node("Cast", {a}, to(DType::f32));
    if (!g_idx && b->rank() == 3) {
        Attributes attributes;
        for (const char* name : {"K", "N", "bits", "block_size"}) attributes.set(name, node.attributes.i(name, 4));
        y = patch.node("MatMulBits", {a, node.inputs[1], node.inputs[2], optional(3)}, attributes, "linnet");
    } else {
        y = patch.node("MatMul", {a, patch.constant(dequantized(nbits, *b, *scales, zeros, g_idx))},
                       Attributes().set("perm_b", std::vector<int64_t>{1, 0}), "linnet");
    }
    if (optional(5) != kNoValue) {
        ValueId bias = optional(5);
        if (d != DType::f32) bias = patch.node("Cast", {bias}, to(DType::f32));
        y = patch.node("Add", {y, bias});
    }
    if (d != DType::f32) y = patch.node("Cast", {y}, to(d));
    patch.replace(node.outputs[0], y);
    return true;
}

}  // namespace

std::span<const OpDef> fused_matmul_ops() {
    static const OpDef rows[] = {
        {.name = "FusedMatMul",
         .domain = "com.microsoft",
         .infer = infer_fused,
         .lower = lower_fused,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "TransposeMatMul",  // FusedMatMul's former name
         .domain = "com.microsoft",
         .infer = infer_fused,
         .lower = lower_fused,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "FusedGemm",
         .domain = "com.microsoft",
         .infer = infer_fused_gemm,
         .lower = lower_fused_gemm,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "MatMulNBits",
         .domain = "com.microsoft",
         .infer = infer_nbits,
         .run = run_nbits,
         .prepare = prepare_nbits,
         .lower = lower_nbits,
         .min_inputs = 3,
         .max_inputs = 6},
    };
    return rows;
}

}  // namespace linnet
