// Channels-last convolution of bytes. Ways, as for floats (conv_plan.cpp): a plain GEMM where a window is one
// contiguous run of the input, the depthwise kernel, and the indirect GEMM for the rest, with whole kernel rows as taps
// for up to four input channels. What becomes of a sum is done in registers (kernels::ToBytes), except with wide
// weights.
#include "ops/spatial/conv_plan_s8.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/kernels.h"
#include "ops/shared/product.h"
#include "ops/shared/sparse.h"
#include "ops/spatial/window.h"
#include "ops/spatial/winograd_s8.h"

namespace linnet {
namespace {

using kernels::Kernels;

constexpr int64_t kFewChannels = 4;       // up to these, kernel rows are taps
constexpr int64_t kSerialWork = 1 << 17;  // multiply-adds below which threads cost more than they give

enum class Path : uint8_t {
    gemm,
    sparse,
    indirect,
    winograd,
    depthwise,
    depthwise_sums
};  // the last: int32 results, or 3-D

// What depends on the scales, zero points and bias: by column.
struct Columns {
    const int32_t* bias = nullptr;  // [groups][columns]
    const float* scale = nullptr;   // [filters]
    const uint8_t* zero = nullptr;  // a run of zero points of x
    int32_t x_zero = 0, y_zero = 0;
};

struct Plan {
    Path path = Path::indirect;
    bool linear = false;             // QLinearConv: bytes come out
    bool wide = false;               // weights need the sum of the inputs: a column of ones
    bool sums = false;               // through sums in memory
    int64_t images = 0, pixels = 0;  // images; output pixels of one
    int64_t in_elements = 0, in_channels = 0, filters = 0;
    int64_t groups = 1, k = 0, n = 0, taps = 1, all_taps = 1;
    kernels::Window window;
    TapTable table;
    bool merged = false;  // weights are reordered to [n][taps][channels]
    bool padded = false;  // the input is copied with padded rows
    int64_t padded_width = 0, padded_elements = 0;
    std::shared_ptr<const Tensor> packed;  // null: weights are packed in every run
    size_t packed_group = 0, packed_bytes = 0;
    int64_t row_block = 1, panel_block = 1, parts = 1;
    size_t zeros = 1;  // length of the run of zero points
    kernels::ToBytes bytes;
    // Bytes into the scratch.
    size_t packed_at = 0, padded_at = 0, sums_at = 0, bias_at = 0, scale_at = 0, zero_at = 0;
    WinogradS8Plan winograd;  // if that is the path
    SparsePlan sparse;        // the same
    bool fixed = false;       // the columns are known:
    std::vector<int32_t> bias;
    std::vector<float> scale;
    std::vector<uint8_t> zero;
    int32_t x_zero = 0, y_zero = 0;

    bool is_depthwise() const { return path == Path::depthwise || path == Path::depthwise_sums; }
    int64_t columns() const { return n + (wide && !is_depthwise() ? 1 : 0); }
    int64_t panels() const {
        const auto cols = static_cast<int64_t>(kernels::kernels().gemm_s8_cols);
        return (columns() + cols - 1) / cols;
    }
    bool one_matrix() const { return path == Path::gemm; }
};

const ConvOperands& operands(const Plan& plan) { return plan.linear ? kQLinearConv : kConvInteger; }

int64_t parameter(const Tensor* t, int64_t filter) { return t ? int_at(*t, t->count() == 1 ? 0 : filter) : 0; }
int64_t neutral_zero(DType dtype) { return dtype == DType::u8 ? 128 : 0; }

// `input(i)` gives the tensor of input i, or null.
template <class Input>
void fill_columns(const Plan& plan, const Input& input, int32_t* bias, float* scale, uint8_t* zero, int32_t& x_zero,
                  int32_t& y_zero) {
    const ConvOperands& at = operands(plan);
    x_zero = static_cast<int32_t>(parameter(input(at.x_zero), 0));
    std::memset(zero, static_cast<uint8_t>(x_zero), plan.zeros);
    const int64_t columns = plan.columns();
    std::fill_n(bias, plan.groups * columns, 0);
    if (!plan.linear) return;
    y_zero = static_cast<int32_t>(parameter(input(at.y_zero), 0));
    if (const Tensor* given = input(at.bias))
        for (int64_t i = 0; i < plan.filters; ++i) bias[i / plan.n * columns + i % plan.n] = given->as<int32_t>()[i];
    const float x_scale = *input(at.x_scale)->template as<float>(), y_scale = *input(at.y_scale)->template as<float>();
    const Tensor& w_scale = *input(at.w_scale);
    for (int64_t i = 0; i < plan.filters; ++i)
        scale[i] = x_scale * w_scale.as<float>()[w_scale.count() == 1 ? 0 : i] / y_scale;
}

// Weights as signed bytes, group by group [columns][k][taps], or [columns][taps][k] when merged; then packed.
void pack_gemm(const Plan& plan, const Tensor& w, std::byte* out) {
    const auto& table = kernels::kernels();
    const int64_t columns = plan.columns(), each = plan.k * plan.taps;
    const int64_t channels = plan.in_channels / plan.groups;
    std::vector<uint8_t> bytes(static_cast<size_t>(columns * each), 1);
    kernels::PackB layout;
    layout.taps = static_cast<size_t>(plan.taps), layout.k = static_cast<size_t>(plan.k);
    layout.n = static_cast<size_t>(columns);
    layout.tap_stride = plan.merged ? plan.k : 1;
    layout.k_stride = plan.merged ? 1 : plan.taps;
    layout.n_stride = each;
    const uint8_t flip = w.dtype == DType::u8 ? 0x80 : 0;  // minus 128
    for (int64_t g = 0; g < plan.groups; ++g) {
        for (int64_t o = 0; o < plan.n; ++o) {
            const uint8_t* from = w.as<uint8_t>() + (g * plan.n + o) * each;
            uint8_t* to = bytes.data() + o * each;
            if (plan.merged)
                table.transpose(1, static_cast<size_t>(channels), static_cast<size_t>(plan.all_taps), from,
                                plan.all_taps, to, channels);
            else std::copy_n(from, each, to);
            for (int64_t i = 0; i < each; ++i) to[i] ^= flip;
        }
        table.pack_b_s8(layout, reinterpret_cast<const int8_t*>(bytes.data()),
                        out + static_cast<size_t>(g) * plan.packed_group, 0, static_cast<size_t>(plan.panels()));
    }
}

// Depthwise weights less their zero points: [taps][channels].
void subtract_zeros(const Plan& plan, const Tensor& w, const Tensor* w_zero, int16_t* out) {
    for (int64_t c = 0; c < plan.in_channels; ++c)
        for (int64_t t = 0; t < plan.all_taps; ++t)
            out[t * plan.in_channels + c] =
                static_cast<int16_t>(int_at(w, c * plan.all_taps + t) - parameter(w_zero, c));
}

void pack(const Plan& plan, const Tensor& w, const Tensor* w_zero, std::byte* out) {
    if (plan.path == Path::winograd) {
        const auto columns = static_cast<int64_t>(kernels::kernels().winograd_s8_cols);
        return kernels::kernels().pack_winograd_s8(static_cast<size_t>(plan.k), static_cast<size_t>(plan.n),
                                                   w.as<int8_t>(), out, 0,
                                                   static_cast<size_t>((plan.n + columns - 1) / columns));
    }
    if (!plan.is_depthwise()) return pack_gemm(plan, w, out);
    if (plan.path == Path::depthwise_sums) return subtract_zeros(plan, w, w_zero, reinterpret_cast<int16_t*>(out));
    std::vector<int16_t> weights(static_cast<size_t>(plan.all_taps * plan.in_channels));
    subtract_zeros(plan, w, w_zero, weights.data());
    kernels::kernels().pack_depthwise_s8(plan.window.kernel[1], plan.window.kernel[2],
                                         static_cast<size_t>(plan.in_channels), plan.wide, weights.data(),
                                         plan.in_channels, 1, out);
}

bool is_plain(const kernels::Window& w) {
    for (size_t i = 0; i < kMaxSpatial; ++i)
        if (w.kernel[i] != 1 || w.stride[i] != 1 || w.pad_begin[i] != 0 || w.pad_end[i] != 0) return false;
    return true;
}
bool covers_image(const kernels::Window& w) {
    for (size_t i = 0; i < kMaxSpatial; ++i)
        if (w.kernel[i] != w.in[i] || w.pad_begin[i] != 0 || w.pad_end[i] != 0 ||
            (w.dilation[i] != 1 && w.kernel[i] != 1))
            return false;
    return true;
}
bool has_few_channels(const Plan& plan) {
    const kernels::Window& w = plan.window;
    return plan.in_channels <= kFewChannels && w.kernel[2] > 1 && w.dilation[2] == 1 &&
           w.pad_begin[2] + w.pad_end[2] <= static_cast<ptrdiff_t>(w.in[2]) + 64;
}

void plan_padded_rows(Plan& plan) {
    kernels::Window w = plan.window;
    const auto channels = static_cast<size_t>(plan.in_channels);
    const auto width = static_cast<int64_t>(w.in[2]) + w.pad_begin[2] + w.pad_end[2];
    plan.taps = static_cast<int64_t>(w.kernel[0] * w.kernel[1]);
    plan.k = static_cast<int64_t>(w.kernel[2] * channels);
    plan.padded = w.pad_begin[2] != 0 || w.pad_end[2] != 0;
    plan.padded_width = width;
    w.in[2] = static_cast<size_t>(width);
    w.kernel[2] = 1;
    w.pad_begin[2] = w.pad_end[2] = 0;
    w.x_stride[1] = static_cast<size_t>(width) * channels;
    w.x_stride[0] = w.in[1] * w.x_stride[1];
    plan.padded_elements = checked_mul(checked_mul(width, static_cast<int64_t>(w.in[0] * w.in[1])), plan.in_channels);
    plan.table.prepare(w, plan.padded_elements);
}

const char* choose_path(Plan& plan, bool constant, int threads) {
    if (plan.groups > 1 && plan.k == 1 && plan.n == 1) {
        const kernels::Window& w = plan.window;
        if (plan.linear && w.kernel[0] == 1 && w.in[0] == 1 && w.out[0] == 1 && w.pad_begin[0] == 0) {
            plan.path = Path::depthwise;
            return "int8 depthwise";
        }
        plan.path = Path::depthwise_sums;
        plan.table.prepare(plan.window, plan.in_elements);
        return "int8 depthwise, sums in memory";
    }
    if (is_plain(plan.window)) {
        plan.path = Path::gemm;
        return "int8 GEMM";
    }
    if (constant && plan.groups == 1 && covers_image(plan.window)) {
        plan.path = Path::gemm;
        plan.merged = true;
        plan.k *= plan.taps;
        plan.taps = 1;
        return "int8 GEMM, an image a row";
    }
    if (constant && plan.groups == 1 && has_few_channels(plan)) {
        plan.merged = true;
        plan_padded_rows(plan);
        return "indirect int8 GEMM over padded kernel rows";
    }
    if (constant && plan.linear && plan.groups == 1 && !plan.wide &&
        winograd_s8_pays(plan.window, plan.images, plan.k, plan.n)) {
        plan.path = Path::winograd;
        plan.winograd = plan_winograd_s8(plan.window, plan.images, plan.k, plan.n, threads);
        return "int8 Winograd F(2,3)";
    }
    plan.table.prepare(plan.window, plan.in_elements);
    return "indirect int8 GEMM";
}

void choose_blocks(Plan& plan, int threads) {
    const auto align = static_cast<int64_t>(kernels::kernels().gemm_s8_rows);
    const int64_t depth = std::max<int64_t>(1, plan.taps * plan.k);
    const int64_t most = std::clamp<int64_t>(262144 / depth, 48, 192);
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    const int64_t copies = plan.groups * (plan.one_matrix() ? 1 : plan.images);
    const GemmSplit split = split_gemm(threads, rows, plan.columns(), depth, copies, align,
                                       static_cast<int64_t>(kernels::kernels().gemm_s8_cols), most / align * align);
    plan.row_block = plan.path == Path::gemm ? split.row_step : plan.table.rows(1, split.row_step);
    plan.panel_block = plan.sums ? plan.panels() : split.panel_step;
}

void read_bytes(PrepareContext& ctx, Plan& plan) {
    const Attributes& from = ctx.attributes;
    const bool is_signed = ctx.output(0).dtype == DType::i8;
    const DType codes =
        ctx.has_input(kQLinearConv.y_zero) ? ctx.input(kQLinearConv.y_zero).dtype : ctx.input(kQLinearConv.x).dtype;
    const int64_t lowest = codes == DType::i8 ? -128 : 0;
    const auto whole = [&](const char* name, int64_t absent) { return static_cast<int32_t>(from.i(name, absent)); };
    kernels::ToBytes& to = plan.bytes;
    to.lo = whole("lo", lowest), to.hi = whole("hi", lowest + 255);
    to.is_signed = is_signed;
    if (const Tensor* table = from.t("table")) to.table = table->as<uint8_t>();
    if (!from.has("own_scale")) return;
    to.own_scale = from.f("own_scale", 1), to.add_scale = from.f("add_scale", 1);
    to.own_zero = whole("own_zero", 0), to.add_zero = whole("add_zero", 0), to.sum_zero = whole("sum_zero", 0);
    to.sum_lo = whole("sum_lo", 0), to.sum_hi = whole("sum_hi", 255);
    to.add_stride = plan.filters;
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

std::shared_ptr<const void> prepare(PrepareContext& ctx, bool linear) {
    auto made = std::make_shared<Plan>();
    Plan& plan = *made;
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
    std::string way = choose_path(plan, constant, ctx.threads);
    if (plan.path == Path::gemm && constant && plan.groups == 1 && !plan.wide && !plan.merged) {
        const kernels::PackB layout{1, static_cast<size_t>(plan.k), static_cast<size_t>(plan.n), 0, 1, plan.k};
        const int64_t rows = plan.images * plan.pixels;
        if (const SparseChoice choice = choose_sparse(ctx, at.w, layout, rows)) {
            plan.path = Path::sparse;
            plan.sparse = plan_sparse(ctx, at.w, layout, choice, rows, 1);
            way = choice.text();
        }
    }
    plan.sums = plan.path == Path::depthwise_sums || (plan.wide && plan.path != Path::depthwise);
    ctx.algorithm(plan.wide ? way + ", nine-bit weights" : way);
    if (linear) read_bytes(ctx, plan);
    const Kernels& table = kernels::kernels();
    if (plan.path == Path::gemm || plan.path == Path::indirect) choose_blocks(plan, ctx.threads);
    plan.zeros = static_cast<size_t>(std::max<int64_t>(1, std::max(plan.k, plan.in_channels)));
    if (plan.path == Path::depthwise_sums) {
        plan.packed_bytes = static_cast<size_t>(plan.all_taps * plan.in_channels) * sizeof(int16_t);
    } else if (plan.path == Path::depthwise) {
        plan.packed_bytes = table.pack_depthwise_s8_size(plan.window.kernel[1], plan.window.kernel[2],
                                                         static_cast<size_t>(plan.in_channels), plan.wide);
    } else if (plan.path == Path::winograd) {
        plan.packed_bytes = table.pack_winograd_s8_size(static_cast<size_t>(plan.k), static_cast<size_t>(plan.n));
    } else if (plan.path != Path::sparse) {
        plan.packed_group = aligned(table.pack_b_s8_size(static_cast<size_t>(plan.taps), static_cast<size_t>(plan.k),
                                                         static_cast<size_t>(plan.columns())));
        plan.packed_bytes = plan.packed_group * static_cast<size_t>(plan.groups);
    }

    size_t scratch = 0;
    const auto take = [&](size_t size) { return std::exchange(scratch, scratch + aligned(size)); };
    const Tensor* w_zero = ctx.constant(at.w_zero);
    const bool depthwise_zero = plan.is_depthwise() && ctx.has_input(at.w_zero);
    if (plan.path == Path::sparse) {
        plan.packed_at = take(static_cast<size_t>(plan.sparse.scratch()) * sizeof(float));
    } else if (constant && (!depthwise_zero || w_zero)) {
        std::string kind = cat("conv_s8 ", table.isa, ' ', static_cast<int>(plan.path), ' ', plan.groups, ' ',
                               plan.taps, ' ', plan.k, ' ', plan.columns(), ' ', plan.merged, ' ', plan.wide);
        for (int64_t i = 0; depthwise_zero && i < w_zero->count(); ++i) kind += cat(' ', int_at(*w_zero, i));
        plan.packed = ctx.pack<Tensor>(at.w, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::u8, {static_cast<int64_t>(plan.packed_bytes)}));
            pack(plan, weights, w_zero, static_cast<std::byte*>(out->data));
            return out;
        });
    } else {
        plan.packed_at = take(plan.packed_bytes);
    }
    if (plan.padded) plan.padded_at = take(static_cast<size_t>(checked_mul(plan.padded_elements, plan.images)));
    if (plan.path == Path::winograd) plan.sums_at = take(plan.winograd.scratch());
    plan.parts = 4 * std::max(1, ctx.threads);
    const int64_t width = plan.path == Path::depthwise_sums ? plan.filters : plan.columns();
    if (plan.sums) plan.sums_at = take(static_cast<size_t>(plan.parts * plan.row_block * width) * sizeof(int32_t));

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

Columns columns_of(const RunContext& ctx, const Plan& plan) {
    if (plan.fixed) return {plan.bias.data(), plan.scale.data(), plan.zero.data(), plan.x_zero, plan.y_zero};
    auto* bias = reinterpret_cast<int32_t*>(ctx.scratch() + plan.bias_at);
    auto* scale = reinterpret_cast<float*>(ctx.scratch() + plan.scale_at);
    auto* zero = reinterpret_cast<uint8_t*>(ctx.scratch() + plan.zero_at);
    Columns out{bias, scale, zero, 0, 0};
    fill_columns(
        plan, [&](int i) { return i >= 0 && ctx.has_input(i) ? &ctx.input(i) : nullptr; }, bias, scale, zero,
        out.x_zero, out.y_zero);
    return out;
}

// Copies the input with zero points before and behind each row.
void copy_padded(const Plan& plan, const uint8_t* x, int zero, uint8_t* out, const Parallel& parallel) {
    const int64_t width = static_cast<int64_t>(plan.window.in[2]) * plan.in_channels;
    const int64_t padded = plan.padded_width * plan.in_channels, before = plan.window.pad_begin[2] * plan.in_channels;
    const int64_t rows = plan.images * static_cast<int64_t>(plan.window.in[0] * plan.window.in[1]);
    parallel_ranges(parallel, rows, std::max<int64_t>(1, 131072 / std::max<int64_t>(1, padded)),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r) {
                            uint8_t* to = out + r * padded;
                            std::memset(to, zero, static_cast<size_t>(before));
                            std::memcpy(to + before, x + r * width, static_cast<size_t>(width));
                            std::memset(to + before + width, zero, static_cast<size_t>(padded - before - width));
                        }
                    });
}

// sums[p][c] over the taps, for channels that each have a filter of their own.
template <class T>
[[gnu::optimize("O3")]] void depthwise_sums(const Plan& plan, const T* x, int16_t zero, const int16_t* w,
                                            const int32_t* bias, const int32_t* offsets, size_t ld, int64_t count,
                                            int32_t* sums) {
    for (int64_t p = 0; p < count; ++p, sums += plan.in_channels) {
        std::copy_n(bias, plan.in_channels, sums);
        for (int64_t t = 0; t < plan.all_taps; ++t) {
            const int64_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p)];
            if (offset < 0) continue;
            const T* from = x + offset;
            const int16_t* weights = w + t * plan.in_channels;
            for (int64_t c = 0; c < plan.in_channels; ++c) sums[c] += static_cast<int16_t>(from[c] - zero) * weights[c];
        }
    }
}

// What one run shares between its tasks.
struct Job {
    const RunContext& ctx;
    const Plan& plan;
    Columns columns;
    const uint8_t* x = nullptr;
    int64_t image_elements = 0;
    const std::byte* weights = nullptr;
    kernels::ToBytes bytes;
};

kernels::GemmS8 gemm_call(const Job& job, int64_t image, int64_t group, int64_t begin, int64_t count) {
    const Plan& plan = job.plan;
    kernels::GemmS8 call;
    call.m = static_cast<size_t>(count);
    call.n = static_cast<size_t>(plan.columns());
    call.taps = static_cast<size_t>(plan.taps);
    call.k = static_cast<size_t>(plan.k);
    call.a = job.x + image * job.image_elements + group * plan.k;
    if (plan.path == Path::gemm || plan.path == Path::sparse) {
        call.lda = plan.groups > 1 ? plan.in_channels : plan.k;
        call.a = static_cast<const uint8_t*>(call.a) + begin * call.lda;
    }
    call.zero = job.columns.zero;
    call.a_signed = job.ctx.input(0).dtype == DType::i8;
    call.a_zero = job.columns.x_zero;
    call.b = job.weights + static_cast<size_t>(group) * plan.packed_group;
    call.bias = job.columns.bias + group * plan.columns();
    return call;
}

// With where the results go, which is not through sums in memory.
kernels::GemmS8 bytes_call(const Job& job, int64_t image, int64_t group, int64_t begin, int64_t count) {
    const Plan& plan = job.plan;
    const int64_t column = group * plan.n, offset = (image * plan.pixels + begin) * plan.filters + column;
    kernels::GemmS8 call = gemm_call(job, image, group, begin, count);
    call.ldc = plan.filters;
    if (plan.linear) {
        call.out = kernels::GemmS8::Out::bytes;
        call.bytes = job.bytes;
        call.bytes.scale += column;
        if (call.bytes.add) call.bytes.add = static_cast<const uint8_t*>(call.bytes.add) + offset;
        call.c = job.ctx.output(0).as<uint8_t>() + offset;
    } else {
        call.c = job.ctx.output(0).as<int32_t>() + offset;
    }
    return call;
}

// `n` sums of the filters from `column` on, to the output's element `at`. No table or residual comes with wide weights.
void finish(const Job& job, int64_t n, int64_t column, const int32_t* sums, int64_t at) {
    Tensor& y = job.ctx.output(0);
    const kernels::ToBytes& to = job.bytes;
    if (!job.plan.linear) {
        std::copy_n(sums, n, y.as<int32_t>() + at);
    } else if (to.is_signed) {
        auto* out = y.as<int8_t>() + at;
        kernels::kernels().requantize_s8(static_cast<size_t>(n), sums, to.scale + column, 1, to.zero, out);
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int8_t>(std::clamp<int32_t>(out[i], to.lo, to.hi));
    } else {
        auto* out = y.as<uint8_t>() + at;
        kernels::kernels().requantize_u8(static_cast<size_t>(n), sums, to.scale + column, 1, to.zero, out);
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(std::clamp<int32_t>(out[i], to.lo, to.hi));
    }
}

// Blocks of rows through sums in memory: `part` names the piece of scratch.
void run_sums(const Job& job, int64_t image, int64_t group, int64_t begin, int64_t end, int32_t* sums) {
    const Plan& plan = job.plan;
    const ConvOperands& at = operands(plan);
    int32_t buffer[TapTable::kBuffer];
    size_t ld = 0;
    const int32_t* offsets = plan.path == Path::gemm ? nullptr : plan.table.taps(begin, end, buffer, ld);
    const int64_t count = end - begin, row0 = image * plan.pixels + begin;
    if (plan.path == Path::depthwise_sums) {
        const auto* w = reinterpret_cast<const int16_t*>(job.weights);
        const uint8_t* x = job.x + image * job.image_elements;
        const auto zero = static_cast<int16_t>(job.columns.x_zero);
        if (job.ctx.input(0).dtype == DType::u8)
            depthwise_sums(plan, x, zero, w, job.columns.bias, offsets, ld, count, sums);
        else
            depthwise_sums(plan, reinterpret_cast<const int8_t*>(x), zero, w, job.columns.bias, offsets, ld, count,
                           sums);
        for (int64_t p = 0; p < count; ++p)
            finish(job, plan.filters, 0, sums + p * plan.filters, (row0 + p) * plan.filters);
        return;
    }
    kernels::GemmS8 call = gemm_call(job, image, group, begin, count);
    call.offsets = offsets;
    call.offsets_ld = ld;
    call.c = sums;
    call.ldc = plan.columns();
    kernels::kernels().gemm_s8(call, 0, call.m, 0, static_cast<size_t>(plan.panels()));
    const Tensor* w_zero = job.ctx.has_input(at.w_zero) ? &job.ctx.input(at.w_zero) : nullptr;
    const int64_t neutral = neutral_zero(job.ctx.input(at.w).dtype);
    for (int64_t p = 0; p < count; ++p) {
        int32_t* row = sums + p * plan.columns();
        const int64_t column = group * plan.n;
        for (int64_t j = 0; j < plan.n; ++j)
            row[j] = static_cast<int32_t>(static_cast<uint32_t>(row[j]) -
                                          static_cast<uint32_t>(parameter(w_zero, column + j) - neutral) *
                                              static_cast<uint32_t>(row[plan.n]));
        finish(job, plan.n, column, row, (row0 + p) * plan.filters + column);
    }
}

void run_blocks(const Job& job, const Parallel& parallel) {
    const Plan& plan = job.plan;
    const bool depthwise = plan.path == Path::depthwise_sums;
    const int64_t images = plan.one_matrix() ? 1 : plan.images;
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    const int64_t blocks = (rows + plan.row_block - 1) / plan.row_block, groups = depthwise ? 1 : plan.groups;
    const int64_t splits = plan.sums ? 1 : (plan.panels() + plan.panel_block - 1) / plan.panel_block;
    const int64_t tasks = images * blocks * groups * splits;
    const auto block_of = [&](int64_t task, const auto& body) {
        const int64_t group = task / splits % groups, block = task / splits / groups % blocks;
        const int64_t image = task / splits / groups / blocks;
        body(image, group, block * plan.row_block, std::min(rows, (block + 1) * plan.row_block));
    };
    if (plan.sums) {
        const int64_t parts = std::min(plan.parts, tasks);
        const int64_t width = depthwise ? plan.filters : plan.columns();
        auto* all = reinterpret_cast<int32_t*>(job.ctx.scratch() + plan.sums_at);
        parallel_for(parallel, parts, [&](int64_t part) {
            for (int64_t task = tasks * part / parts; task < tasks * (part + 1) / parts; ++task)
                block_of(task, [&](int64_t image, int64_t group, int64_t begin, int64_t end) {
                    run_sums(job, image, group, begin, end, all + part * plan.row_block * width);
                });
        });
        return;
    }
    parallel_for(parallel, tasks, [&](int64_t task) {
        block_of(task, [&](int64_t image, int64_t group, int64_t begin, int64_t end) {
            const int64_t split = task % splits;
            kernels::GemmS8 call = bytes_call(job, image, group, begin, end - begin);
            int32_t buffer[TapTable::kBuffer];
            if (plan.path != Path::gemm) call.offsets = plan.table.taps(begin, end, buffer, call.offsets_ld);
            kernels::kernels().gemm_s8(call, 0, call.m, static_cast<size_t>(split * plan.panel_block),
                                       static_cast<size_t>(std::min(plan.panels(), (split + 1) * plan.panel_block)));
        });
    });
}

void run_sparse_gemm(const Job& job, const Parallel& parallel) {
    const Plan& plan = job.plan;
    const SparseWeights& weights = *plan.sparse.weights;
    auto* scratch = reinterpret_cast<float*>(job.ctx.scratch() + plan.packed_at);
    run_sparse(plan.sparse, parallel, scratch, [&](const SparsePart& part) {
        kernels::SparseS8 call;
        call.gemm = bytes_call(job, 0, 0, part.begin, static_cast<int64_t>(part.rows));
        call.start = weights.start.data();
        call.index = weights.index.data();
        call.values = weights.bytes.data();
        call.column_sums = weights.column_sums.data();
        call.scratch = reinterpret_cast<uint32_t*>(part.scratch);
        kernels::kernels().sparse_s8(call, 0, part.rows, part.group_begin, part.group_end);
    });
}

// The part of a length such that the busiest thread has least.
int64_t even_chunk(int64_t length, int64_t images, int threads) {
    int64_t best = length, busiest = (images + threads - 1) / threads * length;
    for (int64_t parts = 2; parts <= threads; ++parts) {
        const int64_t chunk = (length + parts - 1) / parts, tasks = images * ((length + chunk - 1) / chunk);
        const int64_t load = (tasks + threads - 1) / threads * chunk;
        if (load < busiest) best = chunk, busiest = load;
    }
    return best;
}

void run_depthwise(const Job& job, const Parallel& parallel) {
    const Plan& plan = job.plan;
    const kernels::Window& w = plan.window;
    kernels::DepthwiseS8 call;
    call.in_h = w.in[1], call.in_w = w.in[2], call.out_h = w.out[1], call.out_w = w.out[2];
    call.channels = static_cast<size_t>(plan.in_channels);
    call.kernel_h = w.kernel[1], call.kernel_w = w.kernel[2];
    call.stride_h = w.stride[1], call.stride_w = w.stride[2];
    call.dilation_h = w.dilation[1], call.dilation_w = w.dilation[2];
    call.pad_top = w.pad_begin[1], call.pad_left = w.pad_begin[2];
    call.x_signed = job.ctx.input(0).dtype == DType::i8;
    call.x_zero = job.columns.x_zero;
    call.x_stride = call.y_stride = plan.in_channels;
    call.x_row_stride = static_cast<ptrdiff_t>(w.in[2]) * plan.in_channels;
    call.y_row_stride = static_cast<ptrdiff_t>(w.out[2]) * plan.in_channels;
    call.w = job.weights;
    call.zero = job.columns.zero;
    call.bias = job.columns.bias;
    call.bytes = job.bytes;
    const auto length = static_cast<int64_t>(w.out[1]);
    const int64_t chunk = even_chunk(length, plan.images, parallel.threads), chunks = (length + chunk - 1) / chunk;
    parallel_for(parallel, plan.images * chunks, [&](int64_t task) {
        const int64_t image = task / chunks, begin = task % chunks * chunk, end = std::min(length, begin + chunk);
        kernels::DepthwiseS8 part = call;
        const int64_t offset = image * plan.pixels * plan.filters;
        part.x = job.x + image * plan.in_elements;
        part.y = job.ctx.output(0).as<uint8_t>() + offset;
        if (part.bytes.add) part.bytes.add = static_cast<const uint8_t*>(part.bytes.add) + offset;
        kernels::kernels().depthwise_s8(part, static_cast<size_t>(begin), static_cast<size_t>(end));
    });
}

void run(RunContext& ctx) {
    const Plan& plan = *ctx.state<Plan>();
    if (plan.images * plan.pixels * plan.filters == 0) return;
    const ConvOperands& at = operands(plan);
    const double work = static_cast<double>(plan.images * plan.pixels) * static_cast<double>(plan.filters) *
                        static_cast<double>(std::max<int64_t>(1, plan.taps * plan.k));
    const Parallel serial;
    const Parallel& parallel = work < kSerialWork ? serial : ctx.parallel();
    Job job{ctx, plan, columns_of(ctx, plan), ctx.input(at.x).as<uint8_t>(), plan.in_elements, nullptr, plan.bytes};
    job.bytes.scale = job.columns.scale;
    job.bytes.zero = job.columns.y_zero;
    if (at.add >= 0 && ctx.has_input(at.add)) job.bytes.add = ctx.input(at.add).data;
    job.weights = ctx.scratch() + plan.packed_at;
    if (plan.packed) job.weights = static_cast<const std::byte*>(plan.packed->data);
    else if (plan.path != Path::sparse)
        pack(plan, ctx.input(at.w), ctx.has_input(at.w_zero) ? &ctx.input(at.w_zero) : nullptr,
             ctx.scratch() + plan.packed_at);
    if (plan.padded) {
        auto* padded = reinterpret_cast<uint8_t*>(ctx.scratch() + plan.padded_at);
        copy_padded(plan, job.x, job.columns.zero[0], padded, parallel);
        job.x = padded;
        job.image_elements = plan.padded_elements;
    }
    if (plan.path == Path::winograd) {
        kernels::WinogradS8 call;
        call.x_signed = ctx.input(at.x).dtype == DType::i8;
        call.x_zero = job.columns.x_zero;
        call.w = job.weights;
        call.bias = job.columns.bias;
        call.y = ctx.output(0).data;
        call.bytes = job.bytes;
        run_winograd_s8(plan.winograd, call, job.x, job.columns.zero, parallel, ctx.scratch() + plan.sums_at);
    } else if (plan.path == Path::depthwise) run_depthwise(job, parallel);
    else if (plan.path == Path::sparse) run_sparse_gemm(job, parallel);
    else run_blocks(job, parallel);
}

}  // namespace

std::shared_ptr<const void> prepare_conv_integer(PrepareContext& ctx) { return prepare(ctx, false); }
std::shared_ptr<const void> prepare_qlinear_conv(PrepareContext& ctx) { return prepare(ctx, true); }
void run_conv_integer(RunContext& ctx) { run(ctx); }
void run_qlinear_conv(RunContext& ctx) { run(ctx); }

void narrow_weights(const Graph& graph, Patch& patch, ValueIds& inputs, const ConvOperands& at) {
    const auto w_at = static_cast<size_t>(at.w), zero_at = static_cast<size_t>(at.w_zero);
    const ValueId zero_value = zero_at < inputs.size() ? inputs[zero_at] : kNoValue;
    const Tensor *w = graph.constant(inputs[w_at]), *zero = graph.constant(zero_value);
    if (!w || (zero_value != kNoValue && !zero) || w->rank() < 1) return;
    const int64_t filters = w->shape[0], count = w->count();
    if (zero && zero->count() != 1 && zero->count() != filters) return;
    bool none = w->dtype == DType::i8;  // no zero point but 0
    for (int64_t i = 0; zero && i < zero->count(); ++i) none &= int_at(*zero, i) == 0;
    if (!none) {
        Tensor out = Tensor::allocate(DType::i8, w->shape);
        for (int64_t i = 0; i < count; ++i) {
            const int64_t value = int_at(*w, i) - parameter(zero, i / (count / filters));
            if (value < -128 || value > 127) return;
            out.as<int8_t>()[i] = static_cast<int8_t>(value);
        }
        inputs[w_at] = patch.constant(std::move(out), graph.value(inputs[w_at]).name);
    }
    if (zero_at < inputs.size()) inputs[zero_at] = kNoValue;
}

}  // namespace linnet
