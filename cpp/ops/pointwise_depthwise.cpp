// Internal operator PointwiseDepthwise: a 1x1 convolution and the depthwise one that alone reads it, by bands of rows.
// What lies between them is the largest tensor of a MobileNet block; here a band of it at a time stays in the second-
// level cache. Inputs: x [N, H, W, C], w1 [M, C, 1, 1], bias 1, w2 [M, 1, kh, kw], bias 2. Attributes: those of the
// depthwise convolution, "epilogue" being its own, and "pointwise_epilogue"; neither has operands.
#include <algorithm>
#include <cstring>

#include "kernels/kernels.h"
#include "ops/epilogue.h"
#include "ops/shared/sparse.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

using kernels::Kernels;

// A band, and what both kernels read and write beside it, shares a second-level cache of 512 KB.
constexpr int64_t kBandFloats = 80 * 1024;

struct Plan {
    int64_t images = 0, channels = 0, middle = 0;  // of x; of what lies between
    kernels::Window window;                        // of the depthwise convolution
    int64_t band = 0;                              // output rows at a time
    int64_t buffer = 0;                            // floats of one thread's band
    EpilogueProgram first, second;
    std::vector<float> zero;
    std::shared_ptr<const Tensor> pointwise, depthwise;  // packed weights
    std::shared_ptr<const SparseWeights> sparse;         // in the place of pointwise
    int64_t tile = 0;                                    // floats of its scratch, behind a thread's band
    int64_t parts = 1;                                   // of an image's output rows
    int64_t tasks = 1;                                   // share the parts of all images; each has a buffer

    int64_t panels() const {
        const auto cols = static_cast<int64_t>(kernels::kernels().gemm_cols);
        return (middle + cols - 1) / cols;
    }
};

void infer(InferContext& ctx) {
    const Fact &x = ctx.input(0), &w = ctx.input(3);
    require(x.ranked && x.rank() == 4 && w.ranked && w.rank() == 4, "x and w2 must have 4 axes");
    const Shape kernel(w.shape.begin() + 2, w.shape.end());
    const WindowAttributes window = read_window(ctx.attributes, 2, &kernel);
    Shape out{x.shape[0], 0, 0, w.shape[0]};
    for (size_t i = 0; i < 2; ++i) out[i + 1] = window_output(ctx.dims, window, i, x.shape[i + 1]);
    ctx.output(0, x.dtype, out);
}

Attributes with_epilogue(const Attributes& from, const char* name) {
    Attributes out;
    out.set("epilogue", from.strings(name));
    return out;
}

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto made = std::make_shared<Plan>();
    Plan& plan = *made;
    const Shape &x = ctx.input(0).shape, &w = ctx.input(3).shape, &y = ctx.output(0).shape;
    const Shape kernel(w.begin() + 2, w.end());
    plan.window = make_window(read_window(ctx.attributes, 2, &kernel), &x[1], &y[1], w[0]);
    plan.images = x[0];
    plan.channels = x[3];
    plan.middle = w[0];
    plan.first = EpilogueProgram(with_epilogue(ctx.attributes, "pointwise_epilogue"));
    plan.second = EpilogueProgram(ctx.attributes);
    plan.zero.assign(static_cast<size_t>(plan.middle), 0.0f);
    if (element_count(y) == 0) return made;

    const auto stride = static_cast<int64_t>(plan.window.stride[1]);
    const auto extent = static_cast<int64_t>((plan.window.kernel[1] - 1) * plan.window.dilation[1] + 1);
    const int64_t row = checked_mul(x[2], plan.middle), rows = kBandFloats / row;
    plan.band = std::clamp<int64_t>((rows - extent) / stride + 1, std::min<int64_t>(2, y[1]), y[1]);
    if (plan.band > 2) plan.band -= plan.band % 2;  // the depthwise kernel takes two rows at a time
    plan.buffer = checked_mul(std::min(x[1], checked_add(checked_mul(plan.band - 1, stride), extent)), row);
    plan.parts = std::min<int64_t>((ctx.threads + plan.images - 1) / plan.images, y[1]);
    plan.tasks = std::min<int64_t>(ctx.threads, plan.parts * plan.images);

    const auto c = static_cast<size_t>(plan.channels), m = static_cast<size_t>(plan.middle);
    const kernels::PackB layout{1, c, m, 0, 1, static_cast<ptrdiff_t>(c)};
    const int64_t pixels = checked_mul(plan.band, x[2]);
    const SparseChoice sparse = choose_sparse(ctx, 1, layout, pixels);
    ctx.algorithm(cat("bands of ", plan.band, " rows", sparse ? ", " : "", sparse ? sparse.text() : ""));

    const Kernels& table = kernels::kernels();
    const size_t taps = plan.window.taps();
    if (sparse) {
        plan.sparse = pack_sparse(ctx, 1, layout, sparse);
        plan.buffer = (plan.buffer + 15) / 16 * 16;
        plan.tile = sparse_scratch(plan.channels, sparse.form);
    } else {
        plan.pointwise = ctx.pack<Tensor>(1, cat("pointwise ", table.isa), [&](const Tensor& weights) {
            auto out = std::make_shared<Tensor>(
                Tensor::allocate(DType::f32, {static_cast<int64_t>(table.pack_b_f32_size(1, c, m))}));
            table.pack_b_f32(layout, weights.as<float>(), out->as<float>(), 0, static_cast<size_t>(plan.panels()));
            return out;
        });
    }
    plan.depthwise = ctx.pack<Tensor>(3, cat("depthwise ", table.isa), [&](const Tensor& weights) {
        auto out = std::make_shared<Tensor>(
            Tensor::allocate(DType::f32, {static_cast<int64_t>(table.pack_depthwise_f32_size(taps, m))}));
        table.pack_depthwise_f32(taps, m, weights.as<float>(), 1, static_cast<ptrdiff_t>(taps), out->as<float>());
        return out;
    });
    ctx.scratch(static_cast<size_t>(checked_mul(checked_add(plan.buffer, plan.tile), plan.tasks)) * sizeof(float));
    return made;
}

// The output rows [begin, end) of one image.
void run_rows(const RunContext& ctx, const Plan& plan, int64_t image, int64_t begin, int64_t end, float* buffer) {
    const Kernels& table = kernels::kernels();
    const kernels::Window& w = plan.window;
    const auto in_h = static_cast<int64_t>(w.in[1]), in_w = static_cast<int64_t>(w.in[2]),
               out_w = static_cast<int64_t>(w.out[2]), stride = static_cast<int64_t>(w.stride[1]),
               extent = static_cast<int64_t>((w.kernel[1] - 1) * w.dilation[1] + 1);
    const int64_t row = in_w * plan.middle;
    const float* x = ctx.input(0).as<float>() + image * in_h * in_w * plan.channels;
    float* y = ctx.output(0).as<float>() + image * static_cast<int64_t>(w.out[1]) * out_w * plan.middle;
    const auto bias = [&](int i) { return ctx.has_input(i) ? ctx.input(i).as<float>() : nullptr; };
    const EpilogueSteps first = plan.first.bind(ctx, bias(2), {}), second = plan.second.bind(ctx, bias(4), {});

    int64_t have = 0, to = 0;  // the buffer holds rows [have, to) of the middle
    for (int64_t o = begin; o < end; o += plan.band) {
        const int64_t last = std::min(end, o + plan.band), top = o * stride - w.pad_begin[1];
        const int64_t from = std::clamp<int64_t>(top, 0, in_h);
        const int64_t until = std::clamp<int64_t>(top + (last - 1 - o) * stride + extent, from, in_h);
        if (o == begin) to = from;
        else if (from < to)
            std::memmove(buffer, buffer + (from - have) * row, static_cast<size_t>((to - from) * row) * sizeof(float));
        to = std::max(to, from);
        have = from;
        if (to < until && plan.sparse) {
            kernels::SparseF32 call;
            call.m = static_cast<size_t>((until - to) * in_w);
            call.n = static_cast<size_t>(plan.middle);
            call.k = static_cast<size_t>(plan.channels);
            call.a = x + to * in_w * plan.channels;
            call.lda = plan.channels;
            call.b = plan.sparse->view();
            call.c = buffer + (to - have) * row;
            call.ldc = plan.middle;
            call.epilogue = first.view();
            call.scratch = buffer + plan.buffer;
            table.sparse_f32(call, 0, call.m, 0, static_cast<size_t>(plan.middle + 3) / 4);
        } else if (to < until) {
            kernels::GemmF32 call;
            call.m = static_cast<size_t>((until - to) * in_w);
            call.n = static_cast<size_t>(plan.middle);
            call.k = static_cast<size_t>(plan.channels);
            call.a = x + to * in_w * plan.channels;
            call.lda = plan.channels;
            call.b = plan.pointwise->as<float>();
            call.c = buffer + (to - have) * row;
            call.ldc = plan.middle;
            call.epilogue = first.view();
            table.gemm_f32(call, 0, call.m, 0, static_cast<size_t>(plan.panels()));
        }
        to = std::max(to, until);
        kernels::DepthwiseF32 call;
        call.in_h = static_cast<size_t>(to - have), call.in_w = w.in[2];
        call.out_h = static_cast<size_t>(last - o), call.out_w = w.out[2];
        call.channels = static_cast<size_t>(plan.middle);
        call.kernel_h = w.kernel[1], call.kernel_w = w.kernel[2];
        call.stride_h = w.stride[1], call.stride_w = w.stride[2];
        call.dilation_h = w.dilation[1], call.dilation_w = w.dilation[2];
        call.pad_top = have - top, call.pad_left = w.pad_begin[2];
        call.x = buffer;
        call.x_stride = call.y_stride = plan.middle;
        call.x_row_stride = row;
        call.w = plan.depthwise->as<float>();
        call.zero = plan.zero.data();
        call.y = y + o * out_w * plan.middle;
        call.y_row_stride = out_w * plan.middle;
        call.epilogue = second.view();
        table.depthwise_f32(call, 0, call.out_h);
    }
}

void run(RunContext& ctx) {
    const Plan& plan = *ctx.state<Plan>();
    if (!plan.depthwise) return;
    const auto rows = static_cast<int64_t>(plan.window.out[1]), chunk = (rows + plan.parts - 1) / plan.parts;
    auto* scratch = reinterpret_cast<float*>(ctx.scratch());
    const int64_t all = plan.images * plan.parts;
    parallel_for(ctx.parallel(), plan.tasks, [&](int64_t task) {
        for (int64_t part = all * task / plan.tasks; part < all * (task + 1) / plan.tasks; ++part) {
            const int64_t image = part / plan.parts, begin = part % plan.parts * chunk;
            run_rows(ctx, plan, image, begin, std::min(rows, begin + chunk),
                     scratch + task * (plan.buffer + plan.tile));
        }
    });
}

}  // namespace

std::span<const OpDef> pointwise_depthwise_ops() {
    static const OpDef rows[] = {
        {.name = "PointwiseDepthwise",
         .domain = "linnet",
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .flags = kFloat32Only,
         .min_inputs = 4,
         .max_inputs = 5,
         .may_omit = 1 << 2},
    };
    return rows;
}

}  // namespace linnet
