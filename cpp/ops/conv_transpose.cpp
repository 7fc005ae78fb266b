// ConvTranspose (ai.onnx 1, 11, 22): attributes auto_pad "NOTSET", dilations 1, group 1, kernel_shape (of w),
// output_padding 0, output_shape, pads 0, strides 1. Lowered to an internal, channels-last operator.
//
// Output places that agree modulo the stride (a phase) read the same taps of the kernel, from neighbouring inputs: each
// phase is a plain indirect convolution with its own part of the weights, so no multiplication is by a zero between
// the strides.
#include <algorithm>
#include <numeric>

#include "base/held_memory.h"
#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/epilogue.h"
#include "ops/spatial/conv_fold.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/operands.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

struct Geometry {
    WindowAttributes window;
    Shape output_padding, output_shape;  // empty: not given
};

Geometry read_geometry(const Attributes& attributes, size_t spatial, const Shape& kernel) {
    Geometry g;
    g.window = read_window(attributes, spatial, &kernel);
    const std::vector<int64_t> padding = attributes.ints("output_padding"), shape = attributes.ints("output_shape");
    require(padding.empty() || padding.size() == spatial, "output_padding has ", padding.size(), " entries, expected ",
            spatial);
    require(shape.empty() || shape.size() == spatial || shape.size() == spatial + 2, "output_shape has ", shape.size(),
            " entries, expected ", spatial);
    g.output_padding = Shape(spatial, 0);
    for (size_t i = 0; i < padding.size(); ++i) {
        require(padding[i] >= 0 && padding[i] < (int64_t{1} << 31), "output_padding entry ", padding[i]);
        g.output_padding[i] = padding[i];
    }
    for (size_t i = shape.size() - std::min(shape.size(), spatial); i < shape.size(); ++i) {
        require(shape[i] >= 0 && shape[i] < (int64_t{1} << 31), "output_shape entry ", shape[i]);
        g.output_shape.push_back(shape[i]);
    }
    return g;
}

// Elements along an axis before anything is cut off.
int64_t full_size(DimTable& dims, const Geometry& g, size_t axis, int64_t in) {
    if (!is_number(g.window.kernel[axis])) return kUnknownDim;
    return dims.add(dims.mul(dims.sub(in, 1), g.window.stride[axis]), g.output_padding[axis] + g.window.extent(axis));
}

int64_t output_size(DimTable& dims, const Geometry& g, size_t axis, int64_t in) {
    if (!g.output_shape.empty()) return g.output_shape[axis];
    if (g.window.auto_pad == AutoPad::same_upper || g.window.auto_pad == AutoPad::same_lower)
        return dims.mul(in, g.window.stride[axis]);
    const int64_t out =
        dims.sub(full_size(dims, g, axis, in), checked_add(g.window.pad_begin[axis], g.window.pad_end[axis]));
    if (is_number(out) && out < 0) fail(ErrorKind::invalid_argument, "pads cut off more than there is");
    return out;
}

// How many elements are cut off in front.
int64_t cut_in_front(const Geometry& g, size_t axis, int64_t full, int64_t out) {
    const bool computed =
        !g.output_shape.empty() || g.window.auto_pad == AutoPad::same_upper || g.window.auto_pad == AutoPad::same_lower;
    if (!computed) return g.window.pad_begin[axis];
    const int64_t total = std::max<int64_t>(0, full - out);
    return g.window.auto_pad == AutoPad::same_upper ? total / 2 : total - total / 2;
}

void infer(InferContext& ctx, size_t first) {
    const Fact &x = ctx.input(0), &w = ctx.input(1);
    const int64_t group = ctx.attributes.i("group", 1), spatial = check_operands(ctx);
    if (spatial < 0) return ctx.output_unranked(0, x.dtype);
    const auto axes = static_cast<size_t>(spatial);
    const Shape kernel = w.ranked ? Shape(w.shape.begin() + 2, w.shape.end()) : Shape(axes, kUnknownDim);
    const Geometry g = read_geometry(ctx.attributes, axes, kernel);
    Shape out(axes + 2, kUnknownDim);
    const size_t channel = first == 2 ? 1 : out.size() - 1;
    if (w.ranked) out[channel] = ctx.dims.mul(w.shape[1], group);
    if (x.ranked) {
        out[0] = x.shape[0];
        const int64_t given = x.shape[channel];
        check_channels(given, kUnknownDim, group);
        if (w.ranked && is_number(given) && is_number(w.shape[0]))
            require(given == w.shape[0], "x has ", given, " channels, the weights expect ", w.shape[0]);
        for (size_t i = 0; i < axes; ++i) out[first + i] = output_size(ctx.dims, g, i, x.shape[first + i]);
    }
    check_bias(ctx, out[channel]);
    ctx.output(0, x.dtype, out);
}

void infer_first(InferContext& ctx) { infer(ctx, 2); }
void infer_last(InferContext& ctx) { infer(ctx, 1); }

bool lower(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const int64_t spatial = spatial_rank(node.attributes, graph.fact(node.inputs[0]), &graph.fact(node.inputs[1]));
    return spatial > 0 && lower_channels_last(graph, id, "ConvTranspose", spatial, patch);
}

// One axis of one phase: output places first, first + stride ... and the taps that reach them.
struct PhaseAxis {
    int64_t first = 0, count = 0;
    std::vector<int64_t> taps;
    std::vector<int64_t> inputs;  // [tap][place], negative: none

    PhaseAxis without_inputs() const { return {first, count, taps, {}}; }
};

PhaseAxis phase_axis(int64_t phase, int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t dilation,
                     int64_t cut) {
    PhaseAxis axis;
    axis.first = phase;
    axis.count = out > phase ? (out - phase + stride - 1) / stride : 0;
    for (int64_t tap = 0; tap < kernel; ++tap) {
        const int64_t at = phase + cut - tap * dilation;
        if (at % stride != 0) continue;
        axis.taps.push_back(tap);
        for (int64_t j = 0; j < axis.count; ++j) {
            const int64_t i = at / stride + j;
            axis.inputs.push_back(i >= 0 && i < in ? i : -1);
        }
    }
    return axis;
}

// One for each combination of places that a stride has.
constexpr int64_t kMostPhases = int64_t{1} << 16;

struct Phase {
    std::array<PhaseAxis, kMaxSpatial> axes;
    int64_t taps = 0, places = 0;
    std::vector<int32_t> offsets;  // [taps][places]
    int64_t weights_at = 0;        // floats into the packed weights, of group 0
    int64_t weights_size = 0;      // of one group
};

struct Plan {
    int64_t images = 0, in_channels = 0, out_channels = 0, groups = 1, k = 0, n = 0;
    int64_t in[kMaxSpatial] = {1, 1, 1}, out[kMaxSpatial] = {1, 1, 1}, kernel[kMaxSpatial] = {1, 1, 1};
    int64_t phases_along[kMaxSpatial] = {1, 1, 1};
    std::vector<Phase> phases;
    HeldMemory offsets_memory;  // of the phases
    EpilogueProgram program;
    std::vector<float> zero;
    std::shared_ptr<const Tensor> packed;
    int64_t packed_size = 0, gathered_size = 0;

    const Phase& phase(int64_t a, int64_t b, int64_t c) const {
        return phases[static_cast<size_t>((a * phases_along[1] + b) * phases_along[2] + c)];
    }
    int64_t in_elements() const { return in[0] * in[1] * in[2] * in_channels; }
    int64_t pixels() const { return out[0] * out[1] * out[2]; }
};

// Packs all groups of one phase; `gathered` is room for one group's [taps][k][n].
void pack_phase(const Plan& plan, const Phase& phase, const float* w, float* gathered, float* packed) {
    const int64_t all = plan.kernel[0] * plan.kernel[1] * plan.kernel[2];
    const auto& table = kernels::kernels();
    for (int64_t group = 0; group < plan.groups; ++group) {
        float* to = gathered;
        for (int64_t a : phase.axes[0].taps)
            for (int64_t b : phase.axes[1].taps)
                for (int64_t c : phase.axes[2].taps) {
                    const float* from =
                        w + group * plan.k * plan.n * all + (a * plan.kernel[1] + b) * plan.kernel[2] + c;
                    for (int64_t i = 0; i < plan.k * plan.n; ++i) *to++ = from[i * all];
                }
        const kernels::PackB layout{static_cast<size_t>(phase.taps),
                                    static_cast<size_t>(plan.k),
                                    static_cast<size_t>(plan.n),
                                    plan.k * plan.n,
                                    plan.n,
                                    1};
        const size_t panels = (static_cast<size_t>(plan.n) + table.gemm_cols - 1) / table.gemm_cols;
        table.pack_b_f32(layout, gathered, packed + phase.weights_at + group * phase.weights_size, 0, panels);
    }
}

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto made = std::make_shared<Plan>();
    Plan& plan = *made;
    const Shape &x = ctx.input(0).shape, &w = ctx.input(1).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    const Geometry g = read_geometry(ctx.attributes, spatial, Shape(w.begin() + 2, w.end()));
    plan.images = x[0];
    plan.in_channels = x.back();
    plan.out_channels = y.back();
    plan.groups = ctx.attributes.i("group", 1);
    plan.k = plan.in_channels / plan.groups;
    plan.n = plan.out_channels / plan.groups;
    plan.program = EpilogueProgram(ctx.attributes);
    plan.program.resolve(ctx, y);
    plan.zero.assign(static_cast<size_t>(plan.k), 0.0f);
    if (element_count(y) == 0) return made;
    int64_t stride[kMaxSpatial] = {1, 1, 1}, dilation[kMaxSpatial] = {1, 1, 1}, cut[kMaxSpatial] = {0, 0, 0};
    DimTable numbers;
    for (size_t i = 0; i < spatial; ++i) {
        const size_t to = i + kMaxSpatial - spatial;
        plan.in[to] = x[1 + i];
        plan.out[to] = y[1 + i];
        plan.kernel[to] = g.window.kernel[i];
        stride[to] = g.window.stride[i];
        dilation[to] = g.window.dilation[i];
        cut[to] = cut_in_front(g, i, full_size(numbers, g, i, x[1 + i]), y[1 + i]);
        plan.phases_along[to] = std::min(stride[to], plan.out[to]);
    }
    constexpr int64_t kLargest = int64_t{1} << 31;
    if (product(x, 1, x.size()) >= kLargest) fail(ErrorKind::not_implemented, "an image of more than 2^31 elements");
    int64_t phases = 1;
    for (const int64_t some : plan.phases_along) phases = checked_mul(phases, some);
    if (phases > kMostPhases) fail(ErrorKind::not_implemented, "strides that make ", phases, " phases");
    // Counted before anything is made: each tap reaches one place in `stride`.
    int64_t entries = 1, along_axes = 0;
    for (size_t i = 0; i < kMaxSpatial; ++i) {
        const int64_t some = checked_mul(plan.kernel[i], (plan.out[i] + stride[i] - 1) / stride[i]);
        entries = checked_mul(entries, some);
        along_axes = checked_add(along_axes, some);
    }
    if (entries > (int64_t{1} << 27)) fail(ErrorKind::not_implemented, "a window of ", entries, " places in all");
    plan.offsets_memory = HeldMemory(entries * static_cast<int64_t>(sizeof(int32_t)));
    const HeldMemory axes_memory(along_axes * 2 * static_cast<int64_t>(sizeof(int64_t)));  // lists grow twofold
    std::vector<PhaseAxis> along[kMaxSpatial];
    for (size_t i = 0; i < kMaxSpatial; ++i)
        for (int64_t p = 0; p < plan.phases_along[i]; ++p)
            along[i].push_back(phase_axis(p, plan.in[i], plan.out[i], plan.kernel[i], stride[i], dilation[i], cut[i]));
    const auto& table = kernels::kernels();
    for (const PhaseAxis& a : along[0])
        for (const PhaseAxis& b : along[1])
            for (const PhaseAxis& c : along[2]) {
                Phase phase;
                phase.axes = {a.without_inputs(), b.without_inputs(), c.without_inputs()};
                phase.taps = static_cast<int64_t>(a.taps.size() * b.taps.size() * c.taps.size());
                phase.places = a.count * b.count * c.count;
                phase.offsets.reserve(static_cast<size_t>(phase.taps * phase.places));
                for (size_t ta = 0; ta < a.taps.size(); ++ta)
                    for (size_t tb = 0; tb < b.taps.size(); ++tb)
                        for (size_t tc = 0; tc < c.taps.size(); ++tc)
                            for (int64_t pa = 0; pa < a.count; ++pa)
                                for (int64_t pb = 0; pb < b.count; ++pb)
                                    for (int64_t pc = 0; pc < c.count; ++pc) {
                                        const int64_t ia =
                                            a.inputs[ta * static_cast<size_t>(a.count) + static_cast<size_t>(pa)];
                                        const int64_t ib =
                                            b.inputs[tb * static_cast<size_t>(b.count) + static_cast<size_t>(pb)];
                                        const int64_t ic =
                                            c.inputs[tc * static_cast<size_t>(c.count) + static_cast<size_t>(pc)];
                                        const bool none = ia < 0 || ib < 0 || ic < 0;
                                        phase.offsets.push_back(
                                            none ? kernels::tap_padding
                                                 : static_cast<int32_t>(((ia * plan.in[1] + ib) * plan.in[2] + ic) *
                                                                        plan.in_channels));
                                    }
                phase.weights_at = plan.packed_size;
                phase.weights_size = static_cast<int64_t>(table.pack_b_f32_size(
                    static_cast<size_t>(phase.taps), static_cast<size_t>(plan.k), static_cast<size_t>(plan.n)));
                plan.packed_size += phase.weights_size * plan.groups;
                plan.gathered_size = std::max(plan.gathered_size, phase.taps * plan.k * plan.n);
                plan.phases.push_back(std::move(phase));
            }
    if (ctx.is_constant(1)) {
        std::string kind = cat("conv_transpose ", table.isa, ' ', plan.groups);
        for (const Phase& phase : plan.phases)
            for (const PhaseAxis& axis : phase.axes)
                for (int64_t tap : axis.taps) kind += cat(',', tap, ' ');
        plan.packed = ctx.pack<Tensor>(1, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {plan.packed_size}));
            std::vector<float> gathered(static_cast<size_t>(plan.gathered_size));
            for (const Phase& phase : plan.phases)
                pack_phase(plan, phase, weights.as<float>(), gathered.data(), out->as<float>());
            return out;
        });
    } else {
        ctx.scratch(static_cast<size_t>(plan.packed_size + plan.gathered_size) * sizeof(float));
    }
    return made;
}

void run(RunContext& ctx) {
    const Plan& plan = *ctx.state<Plan>();
    if (plan.phases.empty()) return;
    const auto& table = kernels::kernels();
    const float* weights = nullptr;
    if (plan.packed) {
        weights = plan.packed->as<float>();
    } else {
        auto* scratch = reinterpret_cast<float*>(ctx.scratch());
        for (const Phase& phase : plan.phases)
            pack_phase(plan, phase, ctx.input(1).as<float>(), scratch + plan.packed_size, scratch);
        weights = scratch;
    }
    const float* x = ctx.input(0).as<float>();
    const float* bias = ctx.has_input(2) ? ctx.input(2).as<float>() : nullptr;
    float* y = ctx.output(0).as<float>();
    const size_t panels = (static_cast<size_t>(plan.n) + table.gemm_cols - 1) / table.gemm_cols;
    // A task is what one phase has of one output row, for one group.
    const int64_t lines = plan.out[0] * plan.out[1], across = plan.phases_along[2];
    parallel_for(ctx.parallel(), plan.images * lines * across * plan.groups, [&](int64_t task) {
        const int64_t group = task % plan.groups, phase_c = task / plan.groups % across;
        const int64_t line = task / plan.groups / across % lines, image = task / plan.groups / across / lines;
        const int64_t out_a = line / plan.out[1], out_b = line % plan.out[1];
        const int64_t phase_a = out_a % plan.phases_along[0], phase_b = out_b % plan.phases_along[1];
        const Phase& phase = plan.phase(phase_a, phase_b, phase_c);
        const int64_t count = phase.axes[2].count;
        const int64_t row = (out_a / plan.phases_along[0] * phase.axes[1].count + out_b / plan.phases_along[1]) * count;
        const ptrdiff_t ldc = across * plan.out_channels;
        const int64_t column = group * plan.n;
        const int64_t offset =
            ((image * lines + line) * plan.out[2] + phase.axes[2].first) * plan.out_channels + column;
        const EpilogueSteps steps =
            plan.program.bind(ctx, bias ? bias + column : nullptr, {offset, ldc, column, image});
        kernels::ConvF32 call;
        call.pixels = static_cast<size_t>(count);
        call.n = static_cast<size_t>(plan.n);
        call.taps = static_cast<size_t>(phase.taps);
        call.k = static_cast<size_t>(plan.k);
        call.x = x + image * plan.in_elements() + group * plan.k;
        call.offsets = phase.taps ? phase.offsets.data() + row : nullptr;
        call.offsets_ld = static_cast<size_t>(phase.places);
        call.zero = plan.zero.data();
        call.b = weights + phase.weights_at + group * phase.weights_size;
        call.c = y + offset;
        call.ldc = ldc;
        call.epilogue = steps.view();
        table.conv_f32(call, 0, call.pixels, 0, panels);
    });
}

}  // namespace

std::span<const OpDef> conv_transpose_ops() {
    static const OpDef rows[] = {
        {.name = "ConvTranspose",
         .infer = infer_first,
         .simplify = fold_behind_conv_transpose,
         .lower = lower,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "ConvTranspose",
         .domain = "linnet",
         .infer = infer_last,
         .run = run,
         .prepare = prepare,
         .flags = kFloat32Only | kEpilogue,
         .min_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
