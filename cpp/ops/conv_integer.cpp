// ConvInteger (ai.onnx 10) and QLinearConv (10): attributes of Conv. Inputs x, w, x_zero_point 0, w_zero_point 0; or
// x, x_scale, x_zero_point, w, w_scale, w_zero_point, y_scale, y_zero_point, bias. Sums are exact in int32 (modulo
// 2^32); then QLinearConv is float(sum) * (x_scale * w_scale / y_scale), rounded half to even, saturated.
//
// Lowered to internal, channels-last operators of the same names: an indirect int8 GEMM. Weights that are unsigned or
// have a zero point of their own get one more column, of ones: it yields the sum of the inputs by which the zero point
// is multiplied.
#include <algorithm>

#include "graph/op.h"
#include "kernels/kernels.h"
#include "ops/spatial/layouts.h"
#include "ops/spatial/window.h"

namespace linnet {
namespace {

struct Operands {
    int x, w, x_zero, w_zero, x_scale, w_scale, y_scale, y_zero, bias;
};
constexpr Operands kInteger{0, 1, 2, 3, -1, -1, -1, -1, -1};
constexpr Operands kLinear{0, 3, 2, 5, 1, 4, 6, 7, 8};

bool is_byte(DType d) { return d == DType::u8 || d == DType::i8; }

void check_parameter(const InferContext& ctx, int i, const char* name, DType dtype, int64_t channels) {
    if (i < 0 || !ctx.has_input(i)) return;
    const Fact& f = ctx.input(i);
    require(f.dtype == dtype, name, " is ", dtype_name(f.dtype), ", expected ", dtype_name(dtype));
    if (!f.ranked || f.rank() == 0) return;
    require(f.rank() == 1, name, " has rank ", f.rank(), ", expected 0 or 1");
    const int64_t size = f.shape[0];
    require(!is_number(size) || size == 1 || !is_number(channels) || size == channels, name, " has ", size,
            " elements, expected 1", channels == 1 ? "" : " or one per filter");
}

void infer(InferContext& ctx, const Operands& at, size_t first, bool linear) {
    const Fact &x = ctx.input(at.x), &w = ctx.input(at.w);
    require(is_byte(x.dtype), "x is ", dtype_name(x.dtype), ", expected int8 or uint8");
    require(is_byte(w.dtype), "w is ", dtype_name(w.dtype), ", expected int8 or uint8");
    const DType out_dtype = !linear ? DType::i32 : ctx.has_input(at.y_zero) ? ctx.input(at.y_zero).dtype : x.dtype;
    require(!linear || is_byte(out_dtype), "y_zero_point is ", dtype_name(out_dtype), ", expected int8 or uint8");
    const int64_t spatial = spatial_rank(ctx.attributes, x, &w);
    if (spatial < 0) return ctx.output_unranked(0, out_dtype);
    require(spatial >= 1, "x has rank ", spatial + 2, ", expected at least 3");
    const int64_t rank = spatial + 2, group = ctx.attributes.i("group", 1);
    require(group >= 1, "group is ", group);
    require(!x.ranked || x.rank() == rank, "x has rank ", x.rank(), ", expected ", rank);
    require(!w.ranked || w.rank() == rank, "w has rank ", w.rank(), ", x has rank ", rank);
    const auto axes = static_cast<size_t>(spatial);
    const Shape kernel = w.ranked ? Shape(w.shape.begin() + 2, w.shape.end()) : Shape(axes, kUnknownDim);
    const WindowAttributes window = read_window(ctx.attributes, axes, &kernel);
    Shape out(static_cast<size_t>(rank), kUnknownDim);
    const size_t channel = first == 2 ? 1 : out.size() - 1;
    const int64_t filters = w.ranked ? w.shape[0] : kUnknownDim;
    require(!is_number(filters) || filters % group == 0, filters, " filters do not split into ", group, " groups");
    out[channel] = filters;
    if (x.ranked) {
        out[0] = x.shape[0];
        const int64_t given = x.shape[channel];
        if (w.ranked && is_number(given) && is_number(w.shape[1]))
            require(given == checked_mul(w.shape[1], group), "x has ", given, " channels, the weights expect ",
                    w.shape[1], " x ", group, " groups");
        for (size_t i = 0; i < axes; ++i) out[first + i] = window_output(ctx.dims, window, i, x.shape[first + i]);
    }
    check_parameter(ctx, at.x_zero, "x_zero_point", x.dtype, 1);
    check_parameter(ctx, at.w_zero, "w_zero_point", w.dtype, filters);
    check_parameter(ctx, at.x_scale, "x_scale", DType::f32, 1);
    check_parameter(ctx, at.w_scale, "w_scale", DType::f32, filters);
    check_parameter(ctx, at.y_scale, "y_scale", DType::f32, 1);
    check_parameter(ctx, at.y_zero, "y_zero_point", out_dtype, 1);
    if (at.bias >= 0 && ctx.has_input(at.bias)) {
        const Fact& bias = ctx.input(at.bias);
        require(bias.dtype == DType::i32, "bias is ", dtype_name(bias.dtype), ", expected int32");
        require(!bias.ranked || (bias.rank() == 1 &&
                                 (!is_number(bias.shape[0]) || !is_number(filters) || bias.shape[0] == filters)),
                "bias must have one element per filter");
    }
    ctx.output(0, out_dtype, out);
}

void infer_integer_first(InferContext& ctx) { infer(ctx, kInteger, 2, false); }
void infer_integer_last(InferContext& ctx) { infer(ctx, kInteger, 1, false); }
void infer_linear_first(InferContext& ctx) { infer(ctx, kLinear, 2, true); }
void infer_linear_last(InferContext& ctx) { infer(ctx, kLinear, 1, true); }

bool lower(const Graph& graph, NodeId id, const Operands& at, Patch& patch) {
    const Node& node = graph.node(id);
    const auto input = [&](int i) -> const Fact& { return graph.fact(node.inputs[static_cast<size_t>(i)]); };
    const int64_t spatial = spatial_rank(node.attributes, input(at.x), &input(at.w));
    return spatial > 0 && lower_channels_last(graph, id, node.op_type, spatial, patch);
}
bool lower_integer(const Graph& graph, NodeId id, Patch& patch) { return lower(graph, id, kInteger, patch); }
bool lower_linear(const Graph& graph, NodeId id, Patch& patch) { return lower(graph, id, kLinear, patch); }

// One element, or one per filter, as int.
int64_t parameter(const Tensor* t, int64_t filter) { return t ? int_at(*t, t->count() == 1 ? 0 : filter) : 0; }

struct Plan {
    TapTable table;
    kernels::Window window;
    int64_t images = 0, pixels = 0, in_elements = 0, channels = 0, filters = 0;
    int64_t groups = 1, k = 0, n = 0, taps = 0;
    bool depthwise = false;
    bool corrected = false;   // a column of ones
    size_t packed_group = 0;  // bytes
    std::shared_ptr<const Tensor> packed;
    int64_t row_block = 1, parts = 1;
    // Bytes into the scratch: packed weights (when they are not constant), sums by part, and by column: bias, scale.
    size_t packed_at = 0, sums_at = 0, bias_at = 0, scale_at = 0, zero_at = 0;
    int64_t columns() const { return n + (corrected ? 1 : 0); }
};

// Weights as signed bytes, group by group [columns][k][taps].
void pack(const Plan& plan, const Tensor& w, std::byte* out) {
    const auto& table = kernels::kernels();
    const int64_t columns = plan.columns(), each = plan.k * plan.taps;
    std::vector<int8_t> bytes(static_cast<size_t>(columns * each), 1);
    const kernels::PackB layout{
        static_cast<size_t>(plan.taps), static_cast<size_t>(plan.k), static_cast<size_t>(columns), 1, plan.taps, each};
    const size_t panels = (static_cast<size_t>(columns) + table.gemm_s8_cols - 1) / table.gemm_s8_cols;
    const uint8_t flip = w.dtype == DType::u8 ? 0x80 : 0;  // minus 128
    for (int64_t g = 0; g < plan.groups; ++g) {
        const uint8_t* from = w.as<uint8_t>() + g * plan.n * each;
        for (int64_t i = 0; i < plan.n * each; ++i) bytes[static_cast<size_t>(i)] = static_cast<int8_t>(from[i] ^ flip);
        table.pack_b_s8(layout, bytes.data(), out + static_cast<size_t>(g) * plan.packed_group, 0, panels);
    }
}

// Depthwise weights less their zero points: [taps][channels].
void pack_depthwise(const Plan& plan, const Tensor& w, const Tensor* w_zero, int16_t* out) {
    for (int64_t c = 0; c < plan.channels; ++c)
        for (int64_t t = 0; t < plan.taps; ++t)
            out[t * plan.channels + c] = static_cast<int16_t>(int_at(w, c * plan.taps + t) - parameter(w_zero, c));
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

std::shared_ptr<const void> prepare(PrepareContext& ctx, const Operands& at) {
    auto made = std::make_shared<Plan>();
    Plan& plan = *made;
    const Shape &x = ctx.input(at.x).shape, &w = ctx.input(at.w).shape, &y = ctx.output(0).shape;
    const size_t spatial = x.size() - 2;
    const Shape kernel(w.begin() + 2, w.end());
    plan.window = make_window(read_window(ctx.attributes, spatial, &kernel), &x[1], &y[1], x.back());
    plan.images = x[0];
    plan.pixels = product(y, 1, 1 + spatial);
    plan.in_elements = product(x, 1, x.size());
    plan.channels = x.back();
    plan.filters = y.back();
    plan.groups = ctx.attributes.i("group", 1);
    plan.k = plan.channels / plan.groups;
    plan.n = plan.filters / plan.groups;
    plan.taps = static_cast<int64_t>(plan.window.taps());
    if (element_count(y) == 0) return made;
    plan.depthwise = plan.groups > 1 && plan.k == 1 && plan.n == 1;
    const DType w_dtype = ctx.input(at.w).dtype;
    const Tensor* w_zero = ctx.constant(at.w_zero);
    const int64_t neutral = w_dtype == DType::u8 ? 128 : 0;  // the zero point that needs no correction
    if (ctx.has_input(at.w_zero) && !w_zero) {
        plan.corrected = true;
    } else {
        const int64_t entries = w_zero ? w_zero->count() : 1;
        for (int64_t i = 0; i < entries; ++i) plan.corrected |= parameter(w_zero, i) != neutral;
    }
    plan.corrected &= !plan.depthwise;  // there the zero points are in the weights
    plan.table.prepare(plan.window, plan.in_elements);
    const auto& table = kernels::kernels();
    const auto align = static_cast<int64_t>(table.gemm_s8_rows);
    const int64_t depth = std::max<int64_t>(1, plan.taps * plan.k);
    plan.row_block = plan.table.rows(align, std::clamp<int64_t>(262144 / depth, 48, 192));
    plan.parts = 4 * std::max(1, ctx.threads);

    size_t bytes = 0;
    if (plan.depthwise) {
        bytes = static_cast<size_t>(plan.taps * plan.channels) * sizeof(int16_t);
    } else {
        plan.packed_group = aligned(table.pack_b_s8_size(static_cast<size_t>(plan.taps), static_cast<size_t>(plan.k),
                                                         static_cast<size_t>(plan.columns())));
        bytes = plan.packed_group * static_cast<size_t>(plan.groups);
    }
    size_t scratch = 0;
    auto take = [&](size_t size) { return std::exchange(scratch, scratch + aligned(size)); };
    if (ctx.is_constant(at.w) && (!plan.depthwise || w_zero || !ctx.has_input(at.w_zero))) {
        std::string kind = cat("conv_integer ", table.isa, ' ', plan.depthwise, ' ', plan.corrected, ' ', plan.groups);
        for (int64_t i = 0; plan.depthwise && w_zero && i < w_zero->count(); ++i) kind += cat(' ', int_at(*w_zero, i));
        plan.packed = ctx.pack<Tensor>(at.w, kind, [&](const Tensor& weights) -> std::shared_ptr<const Tensor> {
            auto out = std::make_shared<Tensor>(Tensor::allocate(DType::u8, {static_cast<int64_t>(bytes)}));
            if (plan.depthwise) pack_depthwise(plan, weights, w_zero, static_cast<int16_t*>(out->data));
            else pack(plan, weights, static_cast<std::byte*>(out->data));
            return out;
        });
    } else {
        plan.packed_at = take(bytes);
    }
    const auto widest = static_cast<size_t>(std::max(plan.columns(), plan.depthwise ? plan.filters : 0));
    plan.sums_at = take(static_cast<size_t>(plan.parts * plan.row_block) * widest * sizeof(int32_t));
    plan.bias_at = take(static_cast<size_t>(plan.groups * plan.columns()) * sizeof(int32_t));
    plan.scale_at = take(static_cast<size_t>(plan.filters) * sizeof(float));
    plan.zero_at = take(static_cast<size_t>(std::max<int64_t>(plan.k, 1)));
    ctx.scratch(scratch);
    return made;
}

std::shared_ptr<const void> prepare_integer(PrepareContext& ctx) { return prepare(ctx, kInteger); }
std::shared_ptr<const void> prepare_linear(PrepareContext& ctx) { return prepare(ctx, kLinear); }

// sums[p][c] over the taps, for channels that each have a filter of their own.
template <class T>
[[gnu::optimize("O3")]] void depthwise_sums(const Plan& plan, const T* x, int16_t zero, const int16_t* w,
                                            const int32_t* bias, const int32_t* offsets, size_t ld, int64_t count,
                                            int32_t* sums) {
    for (int64_t p = 0; p < count; ++p, sums += plan.channels) {
        std::copy_n(bias, plan.channels, sums);
        for (int64_t t = 0; t < plan.taps; ++t) {
            const int64_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p)];
            if (offset < 0) continue;
            const T* from = x + offset;
            const int16_t* weights = w + t * plan.channels;
            for (int64_t c = 0; c < plan.channels; ++c) sums[c] += static_cast<int16_t>(from[c] - zero) * weights[c];
        }
    }
}

// What becomes of `n` finished sums that belong to filters from `column` on and go to y[at].
using Finish = void (*)(const RunContext&, const Plan&, int64_t n, int64_t column, const int32_t* sums, int64_t at);

void finish_integer(const RunContext& ctx, const Plan&, int64_t n, int64_t, const int32_t* sums, int64_t at) {
    std::copy_n(sums, n, ctx.output(0).as<int32_t>() + at);
}

void finish_linear(const RunContext& ctx, const Plan& plan, int64_t n, int64_t column, const int32_t* sums,
                   int64_t at) {
    const auto* scale = reinterpret_cast<const float*>(ctx.scratch() + plan.scale_at) + column;
    const Tensor& y = ctx.output(0);
    const auto zero = static_cast<int32_t>(ctx.has_input(kLinear.y_zero) ? int_at(ctx.input(kLinear.y_zero), 0) : 0);
    if (y.dtype == DType::u8)
        kernels::kernels().requantize_u8(static_cast<size_t>(n), sums, scale, 1, zero,
                                         static_cast<uint8_t*>(y.data) + at);
    else
        kernels::kernels().requantize_s8(static_cast<size_t>(n), sums, scale, 1, zero,
                                         static_cast<int8_t*>(y.data) + at);
}

void run(RunContext& ctx, const Operands& at, Finish finish) {
    const Plan& plan = *ctx.state<Plan>();
    if (plan.images * plan.pixels * plan.filters == 0) return;
    const auto& table = kernels::kernels();
    const Tensor &x = ctx.input(at.x), &w = ctx.input(at.w);
    const Tensor* w_zero = ctx.has_input(at.w_zero) ? &ctx.input(at.w_zero) : nullptr;
    const auto zero = static_cast<int32_t>(ctx.has_input(at.x_zero) ? int_at(ctx.input(at.x_zero), 0) : 0);
    std::byte* scratch = ctx.scratch();
    const std::byte* weights = scratch + plan.packed_at;
    if (plan.packed) weights = static_cast<const std::byte*>(plan.packed->data);
    else if (plan.depthwise) pack_depthwise(plan, w, w_zero, reinterpret_cast<int16_t*>(scratch + plan.packed_at));
    else pack(plan, w, scratch + plan.packed_at);
    const int64_t columns = plan.columns();
    auto* bias = reinterpret_cast<int32_t*>(scratch + plan.bias_at);
    std::fill_n(bias, plan.groups * columns, 0);
    if (at.bias >= 0 && ctx.has_input(at.bias))
        for (int64_t i = 0; i < plan.filters; ++i)
            bias[i / plan.n * columns + i % plan.n] = ctx.input(at.bias).as<int32_t>()[i];
    if (at.x_scale >= 0) {
        auto* scale = reinterpret_cast<float*>(scratch + plan.scale_at);
        const Tensor& w_scale = ctx.input(at.w_scale);
        const float x_scale = *ctx.input(at.x_scale).as<float>(), y_scale = *ctx.input(at.y_scale).as<float>();
        for (int64_t i = 0; i < plan.filters; ++i)
            scale[i] = x_scale * w_scale.as<float>()[w_scale.count() == 1 ? 0 : i] / y_scale;
    }
    std::fill_n(reinterpret_cast<uint8_t*>(scratch + plan.zero_at), std::max<int64_t>(plan.k, 1),
                static_cast<uint8_t>(zero));

    const int64_t blocks = (plan.pixels + plan.row_block - 1) / plan.row_block;
    const int64_t groups = plan.depthwise ? 1 : plan.groups, tasks = plan.images * blocks * groups;
    const int64_t parts = std::min(plan.parts, tasks);
    const int64_t neutral = w.dtype == DType::u8 ? 128 : 0;
    const int64_t width = plan.depthwise ? plan.filters : columns;
    const size_t panels = (static_cast<size_t>(columns) + table.gemm_s8_cols - 1) / table.gemm_s8_cols;
    auto* all_sums = reinterpret_cast<int32_t*>(scratch + plan.sums_at);
    parallel_for(ctx.parallel(), parts, [&](int64_t part) {
        int32_t* sums = all_sums + part * plan.row_block * width;
        int32_t buffer[TapTable::kBuffer];
        for (int64_t task = tasks * part / parts; task < tasks * (part + 1) / parts; ++task) {
            const int64_t group = task % groups, block = task / groups % blocks, image = task / groups / blocks;
            const int64_t begin = block * plan.row_block, end = std::min(plan.pixels, begin + plan.row_block);
            size_t ld = 0;
            const int32_t* offsets = plan.table.taps(begin, end, buffer, ld);
            const int64_t count = end - begin, source = image * plan.in_elements;
            if (plan.depthwise) {
                const auto* dw = reinterpret_cast<const int16_t*>(weights);
                if (x.dtype == DType::u8)
                    depthwise_sums(plan, x.as<uint8_t>() + source, static_cast<int16_t>(zero), dw, bias, offsets, ld,
                                   count, sums);
                else
                    depthwise_sums(plan, x.as<int8_t>() + source, static_cast<int16_t>(zero), dw, bias, offsets, ld,
                                   count, sums);
            } else {
                kernels::GemmS8 call;
                call.m = static_cast<size_t>(count);
                call.n = static_cast<size_t>(columns);
                call.taps = static_cast<size_t>(plan.taps);
                call.k = static_cast<size_t>(plan.k);
                call.a = x.as<uint8_t>() + source + group * plan.k;
                call.offsets = offsets;
                call.offsets_ld = ld;
                call.zero = scratch + plan.zero_at;
                call.a_signed = x.dtype == DType::i8;
                call.a_zero = zero;
                call.b = weights + static_cast<size_t>(group) * plan.packed_group;
                call.bias = bias + group * columns;
                call.c = sums;
                call.ldc = columns;
                table.gemm_s8(call, 0, call.m, 0, panels);
            }
            for (int64_t p = 0; p < count; ++p) {
                int32_t* row = sums + p * width;
                const int64_t n = plan.depthwise ? plan.filters : plan.n, column = group * plan.n;
                if (plan.corrected)
                    for (int64_t j = 0; j < n; ++j)
                        row[j] = static_cast<int32_t>(static_cast<uint32_t>(row[j]) -
                                                      static_cast<uint32_t>(parameter(w_zero, column + j) - neutral) *
                                                          static_cast<uint32_t>(row[n]));
                finish(ctx, plan, n, column, row, (image * plan.pixels + begin + p) * plan.filters + column);
            }
        }
    });
}

void run_integer(RunContext& ctx) { run(ctx, kInteger, finish_integer); }
void run_linear(RunContext& ctx) { run(ctx, kLinear, finish_linear); }

}  // namespace

std::span<const OpDef> conv_integer_ops() {
    static const OpDef rows[] = {
        {.name = "ConvInteger", .infer = infer_integer_first, .lower = lower_integer, .min_inputs = 2, .max_inputs = 4},
        {.name = "QLinearConv", .infer = infer_linear_first, .lower = lower_linear, .min_inputs = 8, .max_inputs = 9},
        {.name = "ConvInteger",
         .domain = "linnet",
         .infer = infer_integer_last,
         .run = run_integer,
         .prepare = prepare_integer,
         .min_inputs = 2,
         .max_inputs = 4},
        {.name = "QLinearConv",
         .domain = "linnet",
         .infer = infer_linear_last,
         .run = run_linear,
         .prepare = prepare_linear,
         .min_inputs = 8,
         .max_inputs = 9},
    };
    return rows;
}

}  // namespace linnet
