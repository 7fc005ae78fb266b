// 16-bit floats computed in float32, for operators along axes.
#include "ops/shared/rows.h"

#include "kernels/kernels.h"

namespace linnet {

namespace {

constexpr int64_t kGrain = 16384;

bool converted(DType d, bool double_too) { return is_half(d) || (double_too && d == DType::f64); }

}  // namespace

Tensor widened(const Parallel& parallel, const Tensor& tensor, bool double_too) {
    if (!converted(tensor.dtype, double_too)) return tensor;
    Tensor out = Tensor::allocate(DType::f32, tensor.shape);
    if (tensor.dtype == DType::f64) {
        const double* from = tensor.as<double>();
        std::transform(from, from + tensor.count(), out.as<float>(), [](double v) { return static_cast<float>(v); });
        return out;
    }
    const auto& k = kernels::kernels();
    const auto convert = tensor.dtype == DType::f16 ? k.f16_to_f32 : k.bf16_to_f32;
    parallel_ranges(parallel, tensor.count(), kGrain, [&](int64_t begin, int64_t end) {
        convert(static_cast<size_t>(end - begin), tensor.as<uint16_t>() + begin, out.as<float>() + begin);
    });
    return out;
}

void narrow_into(const Parallel& parallel, const Tensor& from, Tensor& to) {
    if (to.dtype == DType::f32) return copy_elements(from, to);
    if (to.dtype == DType::f64) {
        std::copy_n(from.as<float>(), to.count(), to.as<double>());
        return;
    }
    const auto& k = kernels::kernels();
    const auto convert = to.dtype == DType::f16 ? k.f32_to_f16 : k.f32_to_bf16;
    parallel_ranges(parallel, to.count(), kGrain, [&](int64_t begin, int64_t end) {
        convert(static_cast<size_t>(end - begin), from.as<float>() + begin, to.as<uint16_t>() + begin);
    });
}

namespace {

bool any_converted(const RunContext& ctx, bool double_too) {
    for (int i = 0; i < ctx.inputs(); ++i)
        if (ctx.has_input(i) && converted(ctx.input(i).dtype, double_too)) return true;
    return false;
}

void run_converted(RunContext& ctx, void (*run)(RunContext&), bool double_too) {
    std::vector<Value> in(static_cast<size_t>(ctx.inputs())), out(static_cast<size_t>(ctx.outputs()));
    std::vector<Value*> inputs(in.size(), nullptr), outputs(out.size(), nullptr);
    for (int i = 0; i < ctx.inputs(); ++i) {
        if (!ctx.has_input(i)) continue;
        in[static_cast<size_t>(i)] = Value(widened(ctx.parallel(), ctx.input(i), double_too));
        inputs[static_cast<size_t>(i)] = &in[static_cast<size_t>(i)];
    }
    for (int i = 0; i < ctx.outputs(); ++i) {
        if (!ctx.has_output(i)) continue;
        const Tensor& y = ctx.output(i);
        out[static_cast<size_t>(i)] = Value(converted(y.dtype, double_too) ? Tensor::allocate(DType::f32, y.shape) : y);
        outputs[static_cast<size_t>(i)] = &out[static_cast<size_t>(i)];
    }
    RunContext inner(ctx.node, inputs, outputs, ctx.parallel());
    inner.state_ = ctx.state_;
    inner.scratch_ = ctx.scratch_;
    run(inner);
    for (int i = 0; i < ctx.outputs(); ++i)
        if (ctx.has_output(i) && converted(ctx.output(i).dtype, double_too))
            narrow_into(ctx.parallel(), out[static_cast<size_t>(i)].tensor, ctx.output(i));
}

bool lower_converted(const Graph& graph, NodeId id, Patch& patch, bool double_too) {
    const Node node = graph.node(id);
    bool any = false;
    for (ValueId v : node.inputs) any = any || (v != kNoValue && converted(graph.fact(v).dtype, double_too));
    if (!any) return false;
    std::vector<DType> wanted;
    for (ValueId v : node.outputs) wanted.push_back(v == kNoValue ? DType::undefined : graph.fact(v).dtype);
    const auto cast = [&](ValueId v, DType to) {
        return patch.node("Cast", {v}, Attributes().set("to", static_cast<int64_t>(to)));
    };
    Node wide;
    wide.name = node.name;
    wide.op_type = node.op_type;
    wide.domain = node.domain;
    wide.op = node.op;
    wide.attributes = node.attributes;
    for (ValueId v : node.inputs)
        wide.inputs.push_back(v != kNoValue && converted(graph.fact(v).dtype, double_too) ? cast(v, DType::f32) : v);
    const ValueIds made = patch.node(std::move(wide), static_cast<int>(node.outputs.size()));
    for (size_t i = 0; i < node.outputs.size(); ++i) {
        if (node.outputs[i] == kNoValue) continue;
        patch.replace(node.outputs[i], converted(wanted[i], double_too) ? cast(made[i], wanted[i]) : made[i]);
    }
    return true;
}

}  // namespace

bool has_half(const RunContext& ctx) { return any_converted(ctx, false); }
void run_widened(RunContext& ctx, void (*run)(RunContext&)) { run_converted(ctx, run, false); }
bool lower_widened(const Graph& graph, NodeId id, Patch& patch) { return lower_converted(graph, id, patch, false); }

bool has_other_float(const RunContext& ctx) { return any_converted(ctx, true); }
void run_in_f32(RunContext& ctx, void (*run)(RunContext&)) { run_converted(ctx, run, true); }
bool lower_to_f32(const Graph& graph, NodeId id, Patch& patch) { return lower_converted(graph, id, patch, true); }

void infer_float_like_input(InferContext& ctx) {
    const Fact& x = ctx.input(0);
    require(x.is_tensor() && (x.dtype == DType::undefined || is_float(x.dtype)), "input 0 is ", dtype_name(x.dtype),
            ", expected a float tensor");
    ctx.output(0, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

}  // namespace linnet
