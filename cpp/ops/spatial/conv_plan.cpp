// Channels-last float convolution. Five ways: Winograd's for 3 x 3 filters where it pays (winograd.h), a plain GEMM
// where a window is one contiguous run of the input (1x1 stride 1, or a kernel as large as the image), the same with
// a sparse matrix where 1x1 filters are mostly zeros, the depthwise kernel, and the indirect GEMM for the rest. With up
// to four input channels the indirect GEMM takes whole kernel rows as taps (kw * C contiguous floats), over a copy of
// the input that has its rows padded.
#include "ops/spatial/conv_plan.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/give_way.h"
#include "kernels/kernels.h"
#include "ops/epilogue.h"
#include "ops/shared/product.h"
#include "ops/shared/sparse.h"
#include "ops/spatial/window.h"
#include "ops/spatial/winograd.h"

namespace linnet {
namespace {

using kernels::Kernels;

constexpr int64_t kSerialWork = 1 << 17;  // multiply-adds below which threads cost more than they give

enum class Path : uint8_t { gemm, sparse, indirect, depthwise, winograd };

struct ConvPlan {
    Path path = Path::indirect;
    int64_t images = 0, pixels = 0;  // images; output pixels of one
    int64_t in_elements = 0;         // of one input image
    int64_t in_channels = 0, out_channels = 0;
    int64_t groups = 1, k = 0, n = 0, taps = 1;  // per group: A has taps * k columns, B has n
    kernels::Window window;                      // of the input as it is
    TapTable table;                              // over the padded copy, if there is one
    WinogradPlan winograd;                       // if that is the path
    SparsePlan sparse;                           // if that is the path
    EpilogueProgram program;
    std::vector<float> zero;
    std::shared_ptr<const Tensor> packed;  // null: weights are packed in every run
    size_t packed_group = 0;               // floats of one group's packed weights
    int gate = 0;                          // the input that scales each image's input channels, if any
    bool padded = false;                   // the input is copied with padded rows
    int64_t padded_width = 0, padded_elements = 0;
    size_t padded_at = 0;  // floats into the scratch
    size_t tiles_at = 0;   // the same, of a sparse product's tiles
    int64_t row_block = 0, panel_block = 0;
    int64_t panels() const {
        const auto cols = static_cast<int64_t>(kernels::kernels().gemm_cols);
        return (n + cols - 1) / cols;
    }
    // The pixels of all images are rows of one product.
    bool one_matrix() const {
        return (path == Path::gemm || path == Path::sparse) && !program.per_batch() && gate == 0;
    }
};

int64_t kernel_taps(const kernels::Window& w) { return static_cast<int64_t>(w.taps()); }

// Where B's element (tap, k, n) lies in the weights of a group.
kernels::PackB weight_layout(const ConvPlan& plan, int64_t merged) {
    kernels::PackB b;
    b.taps = static_cast<size_t>(plan.taps);
    b.k = static_cast<size_t>(plan.k);
    b.n = static_cast<size_t>(plan.n);
    if (merged) {  // weights reordered to [n][taps][kw][channels]
        b.tap_stride = plan.k;
        b.k_stride = 1;
    } else {
        b.tap_stride = 1;
        b.k_stride = plan.taps;
    }
    b.n_stride = plan.taps * plan.k;
    return b;
}

// ONNX's [n][channels][kernel] to [n][kernel][channels].
std::vector<float> channels_last_weights(const float* w, int64_t n, int64_t channels, int64_t taps) {
    std::vector<float> out(static_cast<size_t>(n * channels * taps));
    for (int64_t o = 0; o < n; ++o) {
        give_way();
        kernels::kernels().transpose(4, static_cast<size_t>(channels), static_cast<size_t>(taps),
                                     w + o * channels * taps, taps, out.data() + o * channels * taps, channels);
    }
    return out;
}

// Packs the weights of all groups; `task` counts panels of all groups.
void pack_panel(const ConvPlan& plan, const kernels::PackB& layout, const float* w, float* out, int64_t task) {
    const int64_t panels = plan.panels(), group = task / panels;
    const auto panel = static_cast<size_t>(task % panels);
    kernels::kernels().pack_b_f32(layout, w + group * plan.n * plan.k * plan.taps,
                                  out + static_cast<size_t>(group) * plan.packed_group, panel, panel + 1);
}

void pack_depthwise(const ConvPlan& plan, const float* w, float* out) {
    const int64_t taps = kernel_taps(plan.window);
    kernels::kernels().pack_depthwise_f32(static_cast<size_t>(taps), static_cast<size_t>(plan.in_channels), w, 1, taps,
                                          out);
}

void plan_padded_rows(ConvPlan& plan) {
    plan.taps = static_cast<int64_t>(plan.window.kernel[0] * plan.window.kernel[1]);
    plan.k = static_cast<int64_t>(plan.window.kernel[2]) * plan.in_channels;
    plan.padded = plan.window.pad_begin[2] != 0 || plan.window.pad_end[2] != 0;
    const kernels::Window w = padded_rows(plan.window, plan.in_channels);
    plan.padded_width = static_cast<int64_t>(w.in[2]);
    plan.padded_elements = checked_mul(static_cast<int64_t>(w.in[0] * w.in[1]), static_cast<int64_t>(w.x_stride[1]));
    plan.table.prepare(w, plan.padded_elements);
}

void choose_blocks(ConvPlan& plan, int threads) {
    const auto align = static_cast<int64_t>(kernels::kernels().gemm_rows);
    const int64_t depth = std::max<int64_t>(1, plan.taps * plan.k);
    // Rows whose part of A stays in half of the second-level cache.
    const int64_t most = std::clamp<int64_t>(65536 / depth, 48, 192);
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    const int64_t copies = plan.groups * (plan.one_matrix() ? 1 : plan.images);
    const GemmSplit split = split_gemm(threads, rows, plan.n, depth, copies, align,
                                       static_cast<int64_t>(kernels::kernels().gemm_cols), most / align * align);
    plan.row_block = plan.path == Path::gemm ? split.row_step : plan.table.rows(1, split.row_step);
    plan.panel_block = split.panel_step;
}

std::string algorithm_text(const ConvPlan& plan, bool merged, double winograd_cost, const SparseChoice& sparse) {
    switch (plan.path) {
        case Path::gemm: return merged ? "GEMM, an image a row" : plan.gate ? "GEMM, the gate in its weights" : "GEMM";
        case Path::sparse: return sparse.text();
        case Path::indirect: return merged ? "indirect GEMM over padded kernel rows" : "indirect GEMM";
        case Path::depthwise: return "depthwise";
        case Path::winograd: break;
    }
    const auto hundredths = static_cast<int>(winograd_cost * 100 + 0.5);
    return cat("Winograd F(", plan.winograd.m, ",3), expected at 0.", hundredths / 10, hundredths % 10, " of direct");
}

}  // namespace

std::shared_ptr<const void> prepare_conv(PrepareContext& ctx) {
    auto made = std::make_shared<ConvPlan>();
    ConvPlan& plan = *made;
    const Shape &x = ctx.input(0).shape, &w = ctx.input(1).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    const Shape kernel(w.begin() + 2, w.end());
    const WindowAttributes attributes = read_window(ctx.attributes, spatial, &kernel);
    plan.window = make_window(attributes, &x[1], &y[1], x.back());
    plan.images = x[0];
    plan.pixels = product(y, 1, 1 + spatial);
    plan.in_elements = product(x, 1, x.size());
    plan.in_channels = x.back();
    plan.out_channels = y.back();
    plan.groups = ctx.attributes.i("group", 1);
    plan.program = EpilogueProgram(ctx.attributes);
    plan.program.resolve(ctx, y);
    plan.gate = static_cast<int>(ctx.attributes.i("gate", 0));
    plan.n = plan.out_channels / plan.groups;
    plan.k = plan.in_channels / plan.groups;
    plan.taps = kernel_taps(plan.window);
    if (element_count(y) == 0) return made;

    const bool constant = ctx.is_constant(1);
    const Kernels& table = kernels::kernels();
    const int64_t all_taps = plan.taps;
    bool merged = false;
    double winograd_cost = 1;
    SparseChoice sparse;
    if (plan.groups > 1 && plan.groups == plan.in_channels && plan.n == 1 && plan.window.kernel[0] == 1 &&
        plan.window.in[0] == 1 && plan.window.out[0] == 1 && plan.window.pad_begin[0] == 0) {
        plan.path = Path::depthwise;
    } else if (is_pointwise(plan.window)) {
        plan.path = Path::gemm;
        const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
        if (constant && plan.groups == 1) sparse = choose_sparse(ctx, 1, weight_layout(plan, false), rows);
        if (sparse) {
            plan.path = Path::sparse;
            plan.sparse =
                plan_sparse(ctx, 1, weight_layout(plan, false), sparse, rows, plan.images * plan.pixels / rows);
        }
    } else if (constant && plan.groups == 1 && covers_image(plan.window)) {
        plan.path = Path::gemm;
        merged = true;
        plan.k *= plan.taps;
        plan.taps = 1;
    } else if (constant && plan.groups == 1 && takes_kernel_rows(plan.window, plan.in_channels)) {
        merged = true;
        plan_padded_rows(plan);
    } else if (const WinogradChoice choice = constant && plan.groups == 1 && !ctx.exact
                                                 ? choose_winograd(plan.window, plan.images, plan.k, plan.n)
                                                 : WinogradChoice{};
               choice.m) {
        plan.path = Path::winograd;
        winograd_cost = choice.cost;
        plan.winograd =
            plan_winograd(plan.window, choice.m, plan.images, plan.k, plan.n, ctx.threads, plan.program.per_batch());
    } else {
        plan.table.prepare(plan.window, plan.in_elements);
    }
    plan.zero.assign(static_cast<size_t>(plan.path == Path::depthwise ? plan.in_channels : plan.k), 0.0f);

    ctx.algorithm(algorithm_text(plan, merged, winograd_cost, sparse));

    if (plan.path == Path::sparse) {
        const size_t scaled = plan.gate ? plan.sparse.weights->values.size() * static_cast<size_t>(plan.images) : 0;
        plan.tiles_at = (scaled + 15) / 16 * 16;
        ctx.scratch((plan.tiles_at + static_cast<size_t>(plan.sparse.scratch())) * sizeof(float));
        return made;
    }
    size_t floats = 0;  // of packed weights
    if (plan.path == Path::depthwise) {
        floats = table.pack_depthwise_f32_size(static_cast<size_t>(all_taps), static_cast<size_t>(plan.in_channels));
    } else if (plan.path == Path::winograd) {
        floats = plan.winograd.packed();
    } else {
        choose_blocks(plan, ctx.threads);
        plan.packed_group = table.pack_b_f32_size(static_cast<size_t>(plan.taps), static_cast<size_t>(plan.k),
                                                  static_cast<size_t>(plan.n));
        floats = plan.packed_group * static_cast<size_t>(plan.groups);
    }
    size_t scratch = 0;
    if (constant) {
        const std::string kind = cat("conv ", table.isa, ' ', static_cast<int>(plan.path), ' ', plan.groups, ' ',
                                     plan.taps, ' ', plan.k, ' ', plan.n, ' ', plan.winograd.m);
        plan.packed = ctx.pack<Tensor>(1, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {static_cast<int64_t>(floats)}));
            const auto* source = weights.as<float>();
            if (plan.path == Path::depthwise) {
                pack_depthwise(plan, source, out->as<float>());
                return out;
            }
            if (plan.path == Path::winograd) {
                pack_winograd(plan.winograd, source, out->as<float>());
                return out;
            }
            std::vector<float> reordered;
            if (merged) {
                reordered = channels_last_weights(source, plan.n, plan.in_channels, all_taps);
                source = reordered.data();
            }
            const kernels::PackB layout = weight_layout(plan, merged);
            for (int64_t task = 0; task < plan.groups * plan.panels(); ++task) {
                give_way();
                pack_panel(plan, layout, source, out->as<float>(), task);
            }
            return out;
        });
    } else {
        scratch = (floats + 15) / 16 * 16;
    }
    if (plan.gate) scratch = plan.packed_group * static_cast<size_t>(plan.images);
    plan.padded_at = scratch;
    if (plan.padded) scratch += static_cast<size_t>(checked_mul(plan.padded_elements, plan.images));
    ctx.scratch(scratch * sizeof(float) + plan.winograd.scratch());
    return made;
}

namespace {

// Copies the input with zeros before and behind each row.
void copy_padded(const ConvPlan& plan, const float* x, float* out, const Parallel& parallel) {
    const auto width = static_cast<int64_t>(plan.window.in[2]) * plan.in_channels;
    const int64_t padded = plan.padded_width * plan.in_channels, before = plan.window.pad_begin[2] * plan.in_channels;
    const int64_t rows = plan.images * static_cast<int64_t>(plan.window.in[0] * plan.window.in[1]);
    parallel_ranges(parallel, rows, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, padded)),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r) {
                            float* to = out + r * padded;
                            std::fill(to, to + before, 0.0f);
                            std::copy(x + r * width, x + (r + 1) * width, to + before);
                            std::fill(to + before + width, to + padded, 0.0f);
                        }
                    });
}

// The packed weights of each image: row k of them times the gate's element k.
void scale_weights(const ConvPlan& plan, const float* gate, const float* packed, float* out, const Parallel& parallel) {
    const auto columns = static_cast<int64_t>(kernels::kernels().gemm_cols), panels = plan.panels();
    const auto group = static_cast<int64_t>(plan.packed_group);
    parallel_for(parallel, plan.images * panels, [&](int64_t task) {
        const float* scale = gate + task / panels * plan.k;
        const float* from = packed + task % panels * plan.k * columns;
        float* to = out + task / panels * group + task % panels * plan.k * columns;
        for (int64_t k = 0; k < plan.k; ++k, from += columns, to += columns)
            for (int64_t c = 0; c < columns; ++c) to[c] = from[c] * scale[k];
    });
}

void run_sparse_gemm(const RunContext& ctx, const ConvPlan& plan, const float* x, const float* bias, float* y,
                     const Parallel& parallel, float* scratch) {
    const SparseWeights& weights = *plan.sparse.weights;
    const size_t count = weights.values.size();
    if (plan.gate)  // the weights of each image: those of channel k times the gate's element k
        parallel_for(parallel, plan.images, [&](int64_t image) {
            const float* gate = ctx.input(plan.gate).as<float>() + image * plan.k;
            weights.scaled(gate, plan.k, scratch + static_cast<size_t>(image) * count);
        });
    run_sparse(plan.sparse, parallel, scratch + plan.tiles_at, [&](const SparsePart& part) {
        const int64_t row = part.copy * plan.pixels + part.begin;
        const EpilogueSteps steps = plan.program.bind(ctx, bias, {row * plan.n, plan.n, 0, part.copy});
        kernels::SparseB b = weights.view();
        if (plan.gate) b.values = scratch + static_cast<size_t>(part.copy) * count;
        sparse_product(plan.sparse, part, b, x + row * plan.k, plan.k, y + row * plan.n, plan.n, steps.view());
    });
}

void run_depthwise(const RunContext& ctx, const ConvPlan& plan, const float* weights, const float* bias,
                   const Parallel& parallel) {
    const kernels::Window& w = plan.window;
    kernels::DepthwiseF32 call;
    call.in_h = w.in[1], call.in_w = w.in[2], call.out_h = w.out[1], call.out_w = w.out[2];
    call.channels = static_cast<size_t>(plan.in_channels);
    call.kernel_h = w.kernel[1], call.kernel_w = w.kernel[2];
    call.stride_h = w.stride[1], call.stride_w = w.stride[2];
    call.dilation_h = w.dilation[1], call.dilation_w = w.dilation[2];
    call.pad_top = w.pad_begin[1], call.pad_left = w.pad_begin[2];
    call.x_stride = plan.in_channels;
    call.x_row_stride = static_cast<ptrdiff_t>(w.in[2]) * plan.in_channels;
    call.y_stride = plan.in_channels;
    call.y_row_stride = static_cast<ptrdiff_t>(w.out[2]) * plan.in_channels;
    call.w = weights;
    call.zero = plan.zero.data();
    // Rows are shared out; where there is one only, its pixels. (Not channels: two cores would write into each other's
    // pages, and what one of them prefetches the other has to give up.)
    constexpr int64_t kLeast = 6;  // windows of neighbouring parts overlap
    const bool by_column = w.out[1] == 1 && w.in[1] == 1;
    const auto length = static_cast<int64_t>(by_column ? w.out[2] : w.out[1]);
    const int64_t chunk = even_chunk(length, plan.images, parallel.threads, kLeast);
    const int64_t chunks = (length + chunk - 1) / chunk;
    parallel_for(parallel, plan.images * chunks, [&](int64_t task) {
        const int64_t image = task / chunks, begin = task % chunks * chunk, end = std::min(length, begin + chunk);
        kernels::DepthwiseF32 part = call;
        const int64_t first = by_column ? begin : 0;
        if (by_column) {
            part.out_w = static_cast<size_t>(end - begin);
            part.pad_left -= static_cast<ptrdiff_t>(begin * static_cast<int64_t>(w.stride[2]));
        }
        const int64_t offset = (image * plan.pixels + first) * plan.out_channels;
        part.x = ctx.input(0).as<float>() + image * plan.in_elements;
        part.y = ctx.output(0).as<float>() + offset;
        const EpilogueSteps steps = plan.program.bind(ctx, bias, {offset, plan.out_channels, 0, image});
        part.epilogue = steps.view();
        kernels::kernels().depthwise_f32(part, by_column ? 0 : static_cast<size_t>(begin),
                                         by_column ? 1 : static_cast<size_t>(end));
    });
}

}  // namespace

void run_conv(RunContext& ctx) {
    const ConvPlan& plan = *ctx.state<ConvPlan>();
    if (plan.images * plan.pixels * plan.out_channels == 0) return;
    const Kernels& table = kernels::kernels();
    const float* x = ctx.input(0).as<float>();
    const float* bias = ctx.has_input(2) ? ctx.input(2).as<float>() : nullptr;
    float* y = ctx.output(0).as<float>();
    const Parallel serial;
    const double work = static_cast<double>(plan.images * plan.pixels) * static_cast<double>(plan.out_channels) *
                        static_cast<double>(std::max<int64_t>(1, plan.taps * plan.k));
    const Parallel& parallel = work < kSerialWork ? serial : ctx.parallel();
    auto* scratch = reinterpret_cast<float*>(ctx.scratch());
    if (plan.path == Path::sparse) return run_sparse_gemm(ctx, plan, x, bias, y, parallel, scratch);
    const float* weights = scratch;
    if (plan.packed) {
        weights = plan.packed->as<float>();
    } else if (plan.path == Path::depthwise) {
        pack_depthwise(plan, ctx.input(1).as<float>(), scratch);
    } else {
        const kernels::PackB layout = weight_layout(plan, false);
        parallel_for(parallel, plan.groups * plan.panels(),
                     [&](int64_t task) { pack_panel(plan, layout, ctx.input(1).as<float>(), scratch, task); });
    }
    if (plan.path == Path::depthwise) return run_depthwise(ctx, plan, weights, bias, parallel);
    if (plan.path == Path::winograd)
        return run_winograd(plan.winograd, ctx, plan.program, x, plan.zero.data(), weights, bias, y, parallel,
                            ctx.scratch());

    int64_t image_elements = plan.in_elements;
    if (plan.padded) {
        copy_padded(plan, x, scratch + plan.padded_at, parallel);
        x = scratch + plan.padded_at;
        image_elements = plan.padded_elements;
    }
    const bool gemm = plan.path == Path::gemm;
    const int64_t images = plan.one_matrix() ? 1 : plan.images;
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    if (plan.gate) {
        scale_weights(plan, ctx.input(plan.gate).as<float>(), weights, scratch, parallel);
        weights = scratch;
    }
    const int64_t blocks = (rows + plan.row_block - 1) / plan.row_block;
    const int64_t splits = (plan.panels() + plan.panel_block - 1) / plan.panel_block;
    // A's row stride when windows are contiguous runs: a pixel, or a whole image.
    const int64_t lda = plan.groups > 1 ? plan.in_channels : plan.k;
    parallel_for(parallel, images * blocks * plan.groups * splits, [&](int64_t task) {
        const int64_t split = task % splits, group = task / splits % plan.groups;
        const int64_t block = task / splits / plan.groups % blocks, image = task / splits / plan.groups / blocks;
        const int64_t begin = block * plan.row_block, end = std::min(rows, begin + plan.row_block);
        const int64_t column = group * plan.n;
        const int64_t offset = (image * plan.pixels + begin) * plan.out_channels + column;
        const auto panel = static_cast<size_t>(split * plan.panel_block);
        const auto last = static_cast<size_t>(std::min(plan.panels(), (split + 1) * plan.panel_block));
        const EpilogueSteps steps =
            plan.program.bind(ctx, bias ? bias + column : nullptr, {offset, plan.out_channels, column, image});
        const float* b = weights + static_cast<size_t>(plan.gate ? image : group) * plan.packed_group;
        const float* a = x + image * image_elements + group * plan.k;
        const auto count = static_cast<size_t>(end - begin);
        if (gemm) {
            kernels::GemmF32 call{count,
                                  static_cast<size_t>(plan.n),
                                  static_cast<size_t>(plan.k),
                                  a + begin * lda,
                                  lda,
                                  b,
                                  y + offset,
                                  plan.out_channels,
                                  steps.view()};
            table.gemm_f32(call, 0, count, panel, last);
            return;
        }
        int32_t buffer[TapTable::kBuffer];
        size_t ld = 0;
        const int32_t* offsets = plan.table.taps(begin, end, buffer, ld);
        kernels::ConvF32 call{count,
                              static_cast<size_t>(plan.n),
                              static_cast<size_t>(plan.taps),
                              static_cast<size_t>(plan.k),
                              a,
                              offsets,
                              ld,
                              plan.zero.data(),
                              b,
                              y + offset,
                              plan.out_channels,
                              steps.view()};
        table.conv_f32(call, 0, count, panel, last);
    });
}

}  // namespace linnet
