// Channels-last convolution of bytes. Ways, as for floats (conv_plan.cpp): a plain GEMM where a window is one
// contiguous run of the input, the depthwise kernel, and a GEMM over windows copied into rows for up to four input
// channels, the indirect GEMM for the rest. What becomes of a sum is done in registers (kernels::ToBytes), except with
// wide weights.
#include <algorithm>

#include "ops/shared/product.h"
#include "ops/spatial/conv_s8.h"

namespace linnet {
namespace {

using kernels::Kernels;

constexpr size_t kRunSlack = 16;  // bytes that copies in steps of eight may pass an end by

void plan_padded_rows(ConvPlanS8& plan) {
    plan.runs = static_cast<int64_t>(plan.window.kernel[0] * plan.window.kernel[1]);
    plan.run = static_cast<int64_t>(plan.window.kernel[2]) * plan.in_channels;
    plan.taps = 1;
    plan.k = (plan.runs * plan.run + 3) / 4 * 4;  // whole groups of four: no tail
    // With room for the last run's steps of eight.
    plan.row_stride = ((plan.runs - 1) * plan.run + (plan.run + 7) / 8 * 8 + 15) / 16 * 16;
    plan.padded = true;  // even without padding: copying a run reads beyond its end
    const kernels::Window w = padded_rows(plan.window, plan.in_channels);
    plan.padded_width = static_cast<int64_t>(w.in[2]);
    plan.padded_elements = checked_mul(static_cast<int64_t>(w.in[0] * w.in[1]), static_cast<int64_t>(w.x_stride[1]));
    plan.table.prepare(w, plan.padded_elements);
}

const char* choose_path(ConvPlanS8& plan, const Tensor* weights, int threads) {
    const bool constant = weights != nullptr;
    if (plan.groups > 1 && plan.k == 1 && plan.n == 1) {
        const kernels::Window& w = plan.window;
        if (plan.linear && w.kernel[0] == 1 && w.in[0] == 1 && w.out[0] == 1 && w.pad_begin[0] == 0) {
            plan.path = ConvPath::depthwise;
            return "int8 depthwise";
        }
        plan.path = ConvPath::depthwise_sums;
        plan.table.prepare(plan.window, plan.in_elements);
        return "int8 depthwise, sums in memory";
    }
    if (is_pointwise(plan.window)) {
        plan.path = ConvPath::gemm;
        return "int8 GEMM";
    }
    if (constant && plan.groups == 1 && covers_image(plan.window)) {
        plan.path = ConvPath::gemm;
        plan.merged = true;
        plan.k *= plan.taps;
        plan.taps = 1;
        return "int8 GEMM, an image a row";
    }
    if (constant && plan.groups == 1 && takes_kernel_rows(plan.window, plan.in_channels)) {
        plan.merged = true;
        plan_padded_rows(plan);
        return "int8 GEMM over copied windows";
    }
    if (constant && plan.linear && plan.groups == 1 && !plan.wide) {
        if (const int64_t m = choose_winograd_s8(plan.window, plan.images, plan.k, plan.n, *weights)) {
            plan.path = ConvPath::winograd;
            plan.winograd = plan_winograd_s8(plan.window, m, plan.images, plan.k, plan.n, threads);
            return m == 2 ? "int8 Winograd F(2,3)" : "int8 Winograd F(4,3)";
        }
    }
    plan.table.prepare(plan.window, plan.in_elements);
    return "indirect int8 GEMM";
}

void choose_blocks(ConvPlanS8& plan, int threads) {
    const auto align = static_cast<int64_t>(kernels::kernels().gemm_s8_rows);
    const int64_t depth = std::max<int64_t>(1, plan.taps * plan.k);
    const int64_t most = std::clamp<int64_t>(262144 / depth, 48, 192);
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    const int64_t copies = plan.groups * (plan.one_matrix() ? 1 : plan.images);
    const GemmSplit split = split_gemm(threads, rows, plan.columns(), depth, copies, align,
                                       static_cast<int64_t>(kernels::kernels().gemm_s8_cols), most / align * align);
    plan.row_block = plan.path == ConvPath::gemm ? split.row_step : plan.table.rows(1, split.row_step);
    plan.panel_block = plan.in_parts() ? plan.panels() : split.panel_step;
}

void read_bytes(PrepareContext& ctx, ConvPlanS8& plan) {
    const Attributes& from = ctx.attributes;
    const DType codes =
        ctx.has_input(kQLinearConv.y_zero) ? ctx.input(kQLinearConv.y_zero).dtype : ctx.input(kQLinearConv.x).dtype;
    const int64_t lowest = codes == DType::i8 ? -128 : 0;
    const auto whole = [&](const char* name, int64_t absent) { return static_cast<int32_t>(from.i(name, absent)); };
    kernels::ToBytes& to = plan.bytes;
    to.lo = whole("lo", lowest), to.hi = whole("hi", lowest + 255);
    to.is_signed = codes == DType::i8;  // a table may give bytes of the other kind
    if (const Tensor* table = from.t("table")) to.table = table->as<uint8_t>();
    if (!from.has("own_scale")) return;
    to.own_scale = from.f("own_scale", 1), to.add_scale = from.f("add_scale", 1);
    to.own_zero = whole("own_zero", 0), to.add_zero = whole("add_zero", 0), to.sum_zero = whole("sum_zero", 0);
    to.sum_lo = whole("sum_lo", 0), to.sum_hi = whole("sum_hi", 255);
    to.add_stride = plan.filters;
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

std::shared_ptr<const void> prepare(PrepareContext& ctx, bool linear) {
    auto made = std::make_shared<ConvPlanS8>();
    ConvPlanS8& plan = *made;
    plan.linear = linear;
    const ConvOperands& at = operands(plan);
    const Shape &x = ctx.input(at.x).shape, &w = ctx.input(at.w).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    const Shape kernel(w.begin() + 2, w.end());
    plan.window = make_window(read_window(ctx.attributes, spatial, &kernel), &x[1], &y[1], x.back());
    plan.images = x[0];
    plan.pixels = product(y, 1, 1 + spatial);
    plan.in_elements = product(x, 1, x.size());
    plan.in_channels = x.back();
    plan.filters = y.back();
    plan.groups = ctx.attributes.i("group", 1);
    plan.k = plan.in_channels / plan.groups;
    plan.n = plan.filters / plan.groups;
    plan.taps = plan.all_taps = static_cast<int64_t>(plan.window.taps());
    if (element_count(y) == 0) return made;

    const bool constant = ctx.is_constant(at.w);
    plan.wide = ctx.input(at.w).dtype == DType::u8 || ctx.has_input(at.w_zero);
    std::string way = choose_path(plan, ctx.constant(at.w), ctx.threads);
    if (plan.path == ConvPath::gemm && constant && plan.groups == 1 && !plan.wide && !plan.merged) {
        const kernels::PackB layout{1, static_cast<size_t>(plan.k), static_cast<size_t>(plan.n), 0, 1, plan.k};
        const int64_t rows = plan.images * plan.pixels;
        if (const SparseChoice choice = choose_sparse(ctx, at.w, layout, rows)) {
            plan.path = ConvPath::sparse;
            plan.sparse = plan_sparse(ctx, at.w, layout, choice, rows, 1);
            way = choice.text();
        }
    }
    plan.sums = plan.path == ConvPath::depthwise_sums || (plan.wide && plan.path != ConvPath::depthwise);
    ctx.algorithm(plan.wide ? way + ", nine-bit weights" : way);
    if (linear) read_bytes(ctx, plan);
    const Kernels& table = kernels::kernels();
    const bool dense = plan.path != ConvPath::sparse && plan.path != ConvPath::winograd;
    if (dense && plan.path != ConvPath::depthwise) choose_blocks(plan, ctx.threads);
    plan.zeros = static_cast<size_t>(std::max<int64_t>(1, std::max(plan.k, plan.in_channels))) + kRunSlack;
    if (plan.path == ConvPath::depthwise_sums) {
        plan.packed_bytes = static_cast<size_t>(plan.all_taps * plan.in_channels) * sizeof(int16_t);
    } else if (plan.path == ConvPath::depthwise) {
        plan.packed_bytes = table.pack_depthwise_s8_size(plan.window.kernel[1], plan.window.kernel[2],
                                                         static_cast<size_t>(plan.in_channels), plan.wide);
    } else if (plan.path == ConvPath::winograd) {
        plan.packed_bytes = table.pack_winograd_s8_size(static_cast<size_t>(plan.winograd.m),
                                                        static_cast<size_t>(plan.k), static_cast<size_t>(plan.n));
    } else if (plan.path != ConvPath::sparse) {
        plan.packed_group = aligned(table.pack_b_s8_size(static_cast<size_t>(plan.taps), static_cast<size_t>(plan.k),
                                                         static_cast<size_t>(plan.columns())));
        plan.packed_bytes = plan.packed_group * static_cast<size_t>(plan.groups);
    }

    size_t scratch = 0;
    const auto take = [&](size_t size) { return std::exchange(scratch, scratch + aligned(size)); };
    const Tensor* w_zero = ctx.constant(at.w_zero);
    const bool depthwise_zero = plan.is_depthwise() && ctx.has_input(at.w_zero);
    if (plan.path == ConvPath::sparse) {
        plan.packed_at = take(static_cast<size_t>(plan.sparse.scratch()) * sizeof(float));
    } else if (constant && (!depthwise_zero || w_zero)) {
        std::string kind =
            cat("conv_s8 ", table.isa, ' ', static_cast<int>(plan.path), ' ', plan.groups, ' ', plan.taps, ' ', plan.k,
                ' ', plan.columns(), ' ', plan.merged, ' ', plan.wide, ' ', plan.winograd.m);
        for (int64_t i = 0; depthwise_zero && i < w_zero->count(); ++i) kind += cat(' ', int_at(*w_zero, i));
        plan.packed = ctx.pack<Tensor>(at.w, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::u8, {static_cast<int64_t>(plan.packed_bytes)}));
            pack_weights(plan, weights, w_zero, static_cast<std::byte*>(out->data));
            return out;
        });
    } else {
        plan.packed_at = take(plan.packed_bytes);
    }
    if (plan.padded)
        plan.padded_at = take(static_cast<size_t>(checked_mul(plan.padded_elements, plan.images)) + kRunSlack);
    if (plan.path == ConvPath::winograd) plan.sums_at = take(plan.winograd.scratch());
    plan.parts = 4 * std::max(1, ctx.threads);
    const int64_t width = plan.path == ConvPath::depthwise_sums ? plan.filters : plan.columns();
    plan.sums_slot = plan.row_block * width;
    if (plan.sums) plan.sums_at = take(static_cast<size_t>(plan.parts * plan.sums_slot) * sizeof(int32_t));
    plan.rows_slot = plan.row_block * plan.row_stride + static_cast<int64_t>(kRunSlack);
    if (plan.runs) plan.rows_at = take(static_cast<size_t>(plan.parts * plan.rows_slot));

    plan.fixed = true;
    for (int i : {at.x_zero, at.x_scale, at.w_scale, at.y_scale, at.y_zero, at.bias})
        plan.fixed &= i < 0 || !ctx.has_input(i) || ctx.is_constant(i);
    const auto columns = static_cast<size_t>(plan.groups * plan.columns());
    if (plan.fixed) {
        plan.bias.resize(columns);
        plan.scale.resize(static_cast<size_t>(plan.filters));
        plan.zero.resize(plan.zeros);
        fill_columns(
            plan, [&](int i) { return i < 0 ? nullptr : ctx.constant(i); }, plan.bias.data(), plan.scale.data(),
            plan.zero.data(), plan.x_zero, plan.y_zero);
    } else {
        plan.bias_at = take(columns * sizeof(int32_t));
        plan.scale_at = take(static_cast<size_t>(plan.filters) * sizeof(float));
        plan.zero_at = take(plan.zeros);
    }
    ctx.scratch(scratch);
    return made;
}

}  // namespace

std::shared_ptr<const void> prepare_conv_integer(PrepareContext& ctx) { return prepare(ctx, false); }
std::shared_ptr<const void> prepare_qlinear_conv(PrepareContext& ctx) { return prepare(ctx, true); }

}  // namespace linnet
