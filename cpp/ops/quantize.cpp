// QuantizeLinear and DequantizeLinear (ONNX 10 to 28 and com.microsoft), DynamicQuantizeLinear. Scales per tensor, per
// index of an axis or per block; 16-, 8-, 4- and 2-bit integers, float8 and float4.
#include "ops/quantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "base/half.h"
#include "ops/convert.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

constexpr DTypes kNarrowFloats =
    set_of({DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz, DType::f4e2m1});
constexpr DTypes kQuantTypes =
    kNarrowFloats | set_of({DType::u8, DType::i8, DType::u16, DType::i16, DType::u4, DType::i4, DType::u2, DType::i2});
constexpr DTypes kHighTypes = set_of({DType::f32, DType::f16, DType::bf16});
constexpr size_t kBlock = 512;

struct Range {
    double low, high;
};
Range range_of(DType d) {
    switch (d) {
        case DType::u8: return {0, 255};
        case DType::i8: return {-128, 127};
        case DType::u16: return {0, 65535};
        case DType::i16: return {-32768, 32767};
        case DType::u4: return {0, 15};
        case DType::i4: return {-8, 7};
        case DType::u2: return {0, 3};
        default: return {-2, 1};
    }
}

DType dtype_attribute(const Attributes& attributes, const char* name, DTypes allowed) {
    const int64_t number = attributes.i(name, 0);
    if (number == 0) return DType::undefined;
    if (number < 0 || number >= kDTypeCount || !contains(allowed, static_cast<DType>(number)))
        fail(ErrorKind::invalid_graph, name, " is data type ", number, ", which is not allowed here");
    return static_cast<DType>(number);
}

void check_grid(const InferContext& ctx) {
    const Fact &x = ctx.input(0), &scale = ctx.input(1);
    if (x.is_static() && scale.is_static())
        QuantGrid::make(x.shape, scale.shape, ctx.attributes.i("axis", 1), ctx.attributes.i("block_size", 0));
    if (!ctx.has_input(2)) return;
    const Fact& zero = ctx.input(2);
    if (zero.is_static() && scale.is_static() && element_count(zero.shape) != element_count(scale.shape))
        fail(ErrorKind::invalid_argument, "the zero point is ", shape_text(zero.shape), ", the scale ",
             shape_text(scale.shape), ", expected equal shapes");
}

void infer_quantize(InferContext& ctx) {
    check_dtype(ctx, 0, kHighTypes | set_of({DType::i32}));
    check_dtype(ctx, 1, kHighTypes | set_of({DType::i32, DType::f8e8m0}));
    dtype_attribute(ctx.attributes, "precision", kHighTypes);
    const DType wanted = dtype_attribute(ctx.attributes, "output_dtype", kQuantTypes);
    DType dtype = wanted;
    if (ctx.has_input(2)) {
        check_dtype(ctx, 2, kQuantTypes);
        dtype = ctx.input(2).dtype;
        if (wanted != DType::undefined && dtype != wanted && dtype != DType::undefined)
            fail(ErrorKind::invalid_graph, "output_dtype is ", dtype_name(wanted), " but the zero point ",
                 dtype_name(dtype));
    }
    if (dtype == DType::undefined) dtype = DType::u8;
    check_grid(ctx);
    const Fact& x = ctx.input(0);
    ctx.output(0, x.ranked ? Fact::of(dtype, x.shape) : Fact::unranked(dtype));
}

void infer_dequantize(InferContext& ctx) {
    check_dtype(ctx, 0, kQuantTypes | set_of({DType::i32}));
    check_dtype(ctx, 1, kHighTypes | set_of({DType::f8e8m0}));
    if (ctx.has_input(2) && ctx.input(2).dtype != ctx.input(0).dtype && ctx.input(2).dtype != DType::undefined &&
        ctx.input(0).dtype != DType::undefined)
        fail(ErrorKind::invalid_graph, "the zero point is ", dtype_name(ctx.input(2).dtype), ", the input ",
             dtype_name(ctx.input(0).dtype));
    DType dtype = dtype_attribute(ctx.attributes, "output_dtype", kHighTypes);
    if (dtype == DType::undefined) dtype = ctx.input(1).dtype == DType::f8e8m0 ? DType::f32 : ctx.input(1).dtype;
    check_grid(ctx);
    const Fact& x = ctx.input(0);
    ctx.output(0, x.ranked ? Fact::of(dtype, x.shape) : Fact::unranked(dtype));
}

struct QuantState {
    QuantGrid grid;
    int64_t scales = 0;                  // elements of the scale
    DType precision = DType::undefined;  // of the division
    bool saturate = true;
};

std::shared_ptr<const void> prepare_quant(PrepareContext& ctx) {
    auto state = std::make_shared<QuantState>();
    state->grid = QuantGrid::make(ctx.input(0).shape, ctx.input(1).shape, ctx.attributes.i("axis", 1),
                                  ctx.attributes.i("block_size", 0));
    state->scales = element_count(ctx.input(1).shape);
    state->saturate = ctx.attributes.i("saturate", 1) != 0;
    const DType x = ctx.input(0).dtype, scale = ctx.input(1).dtype;
    state->precision = dtype_attribute(ctx.attributes, "precision", kHighTypes);
    if (state->precision == DType::undefined) {
        // Without the attribute numpy's promotion: two operands of one 16-bit type stay there, integers go to double.
        if (x == DType::i32) state->precision = DType::f64;
        else if (x == scale) state->precision = x;
        else state->precision = DType::f32;
    }
    // Scales and zero points as float, where a kernel does not read them as they are.
    ctx.scratch(static_cast<size_t>(checked_mul(state->scales, 2 * static_cast<int64_t>(sizeof(float)))));
    return state;
}

double rounded(DType precision, double x) {
    if (precision == DType::f32) return static_cast<double>(static_cast<float>(x));
    if (precision == DType::f64) return x;
    const uint16_t bits = encode_float(precision, x);
    return static_cast<double>(precision == DType::f16 ? to_float(Half{bits}) : to_float(BFloat16{bits}));
}

// Scale and zero point as float arrays, in scratch where they have to be converted.
struct Parameters {
    const float* scale;
    const float* zero;  // null: none
};
Parameters parameters(const RunContext& ctx, int64_t n) {
    auto* space = reinterpret_cast<float*>(ctx.scratch());
    Parameters p{space, nullptr};
    if (ctx.input(1).dtype == DType::f32) p.scale = ctx.input(1).as<float>();
    else load_f32(ctx.input(1).dtype, ctx.input(1).data, 0, static_cast<size_t>(n), space);
    if (ctx.has_input(2)) {
        load_f32(ctx.input(2).dtype, ctx.input(2).data, 0, static_cast<size_t>(n), space + n);
        p.zero = space + n;
    }
    return p;
}

template <class Fn>
void each_row(const RunContext& ctx, const QuantGrid& grid, const Fn& fn) {
    if (grid.rows == 0) return;
    const int64_t width = std::max<int64_t>(1, grid.count / grid.rows);
    parallel_ranges(ctx.parallel(), grid.rows, std::max<int64_t>(1, kCheapGrain / width),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r) fn(grid.row(r));
                    });
}

void run_quantize(RunContext& ctx) {
    const QuantState& state = *ctx.state<QuantState>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const auto& k = kernels::kernels();
    if (x.dtype == DType::f32 && state.precision == DType::f32 && ctx.input(1).dtype == DType::f32 &&
        (y.dtype == DType::u8 || y.dtype == DType::i8)) {
        const float* scale = ctx.input(1).as<float>();
        const void* zero = ctx.has_input(2) ? ctx.input(2).data : nullptr;
        each_row(ctx, state.grid, [&](const QuantGrid::Row& row) {
            const auto n = static_cast<size_t>(row.n);
            if (y.dtype == DType::u8)
                k.quantize_u8(n, x.as<float>() + row.x, scale + row.scale, row.step,
                              zero ? static_cast<const uint8_t*>(zero) + row.scale : nullptr, row.step,
                              y.as<uint8_t>() + row.x);
            else
                k.quantize_s8(n, x.as<float>() + row.x, scale + row.scale, row.step,
                              zero ? static_cast<const int8_t*>(zero) + row.scale : nullptr, row.step,
                              y.as<int8_t>() + row.x);
        });
        return;
    }
    const Parameters p = parameters(ctx, state.scales);
    const bool real = is_narrow_float(y.dtype);
    const Range range = range_of(y.dtype);
    each_row(ctx, state.grid, [&](const QuantGrid::Row& row) {
        float block[kBlock], out[kBlock];
        for (int64_t i = 0; i < row.n; i += kBlock) {
            const size_t n = std::min(kBlock, static_cast<size_t>(row.n - i));
            if (x.dtype != DType::i32) load_f32(x.dtype, x.data, row.x + i, n, block);
            for (size_t j = 0; j < n; ++j) {
                const int64_t s = row.scale + static_cast<int64_t>(row.step) * (i + static_cast<int64_t>(j));
                double value = x.dtype == DType::i32
                                   ? static_cast<double>(x.as<int32_t>()[row.x + i + static_cast<int64_t>(j)])
                                   : static_cast<double>(block[j]);
                double scale = static_cast<double>(p.scale[s]);
                if (state.precision != DType::f64)
                    value = rounded(state.precision, value), scale = rounded(state.precision, scale);
                value = rounded(state.precision, value / scale);
                const double zero = p.zero ? static_cast<double>(p.zero[s]) : 0.0;
                if (real) {
                    y.as<uint8_t>()[row.x + i + static_cast<int64_t>(j)] =
                        static_cast<uint8_t>(encode_float(y.dtype, zero == 0 ? value : value + zero, state.saturate));
                    continue;
                }
                value = std::isnan(value) ? zero : std::nearbyint(value) + zero;
                out[j] = static_cast<float>(std::min(std::max(value, range.low), range.high));
            }
            if (!real) store_f32(y.dtype, out, n, y.data, row.x + i);
        }
    });
}

void run_dequantize(RunContext& ctx) {
    const QuantState& state = *ctx.state<QuantState>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const auto& k = kernels::kernels();
    const bool direct = y.dtype == DType::f32 && ctx.input(1).dtype == DType::f32;
    const void* zero = ctx.has_input(2) ? ctx.input(2).data : nullptr;
    if (direct && (x.dtype == DType::u8 || x.dtype == DType::i8 || (x.dtype == DType::i32 && !zero))) {
        const float* scale = ctx.input(1).as<float>();
        each_row(ctx, state.grid, [&](const QuantGrid::Row& row) {
            const auto n = static_cast<size_t>(row.n);
            float* out = y.as<float>() + row.x;
            if (x.dtype == DType::u8)
                k.dequantize_u8(n, x.as<uint8_t>() + row.x, scale + row.scale, row.step,
                                zero ? static_cast<const uint8_t*>(zero) + row.scale : nullptr, row.step, out);
            else if (x.dtype == DType::i8)
                k.dequantize_s8(n, x.as<int8_t>() + row.x, scale + row.scale, row.step,
                                zero ? static_cast<const int8_t*>(zero) + row.scale : nullptr, row.step, out);
            else k.dequantize_i32(n, x.as<int32_t>() + row.x, scale + row.scale, row.step, out);
        });
        return;
    }
    const Parameters p = parameters(ctx, state.scales);
    each_row(ctx, state.grid, [&](const QuantGrid::Row& row) {
        float block[kBlock];
        for (int64_t i = 0; i < row.n; i += kBlock) {
            const size_t n = std::min(kBlock, static_cast<size_t>(row.n - i));
            load_f32(x.dtype, x.data, row.x + i, n, block);
            for (size_t j = 0; j < n; ++j) {
                const int64_t s = row.scale + static_cast<int64_t>(row.step) * (i + static_cast<int64_t>(j));
                if (zero && x.dtype == DType::i32) {  // the difference of integers is exact
                    const double difference =
                        static_cast<double>(x.as<int32_t>()[row.x + i + static_cast<int64_t>(j)]) -
                        static_cast<double>(static_cast<const int32_t*>(zero)[s]);
                    block[j] = static_cast<float>(difference);
                } else if (p.zero) {
                    block[j] -= p.zero[s];
                }
                block[j] *= p.scale[s];
            }
            store_f32(y.dtype, block, n, y.data, row.x + i);
        }
    });
}

// The axis moves with the layout; blocked scales are permuted like the data.
bool permute_quant(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const Fact& scale = graph.fact(node.inputs[1]);
    if (!scale.is_static()) return false;
    const auto rank = static_cast<int64_t>(perm.size());
    const bool single = element_count(scale.shape) == 1 && scale.rank() <= 1;
    if (single) return true;
    const int64_t axis = normal_axis(node.attributes.i("axis", 1), rank);
    for (int64_t i = 0; i < rank; ++i)
        if (perm[static_cast<size_t>(i)] == axis) node.attributes.set("axis", i);
    if (node.attributes.i("block_size", 0) == 0) return true;
    Attributes order;
    order.set("perm", std::vector<int64_t>(perm.begin(), perm.end()));
    for (size_t i = 1; i < node.inputs.size(); ++i)
        if (node.inputs[i] != kNoValue) node.inputs[i] = patch.node("Transpose", {node.inputs[i]}, order);
    return true;
}

void infer_dynamic(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::f32}));
    const Fact& x = ctx.input(0);
    ctx.output(0, x.ranked ? Fact::of(DType::u8, x.shape) : Fact::unranked(DType::u8));
    if (ctx.has_output(1)) ctx.output(1, DType::f32, {});
    if (ctx.has_output(2)) ctx.output(2, DType::u8, {});
}

void run_dynamic(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const auto& k = kernels::kernels();
    const int64_t count = x.count();
    // Pieces of a fixed size: minimum and maximum do not depend on the split anyway.
    float low = 0, high = 0;
    if (count > 0) {
        constexpr int64_t kPiece = 32768;
        const int64_t pieces = (count + kPiece - 1) / kPiece;
        std::vector<float> lows(static_cast<size_t>(pieces)), highs(static_cast<size_t>(pieces));
        parallel_for(ctx.parallel(), pieces, [&](int64_t i) {
            const int64_t begin = i * kPiece;
            k.min_max_f32(static_cast<size_t>(std::min(kPiece, count - begin)), x.as<float>() + begin,
                          &lows[static_cast<size_t>(i)], &highs[static_cast<size_t>(i)]);
        });
        for (float v : lows) low = std::min(low, v);
        for (float v : highs) high = std::max(high, v);
    }
    // Nothing but zeros: any scale will do, 1 is what other runtimes give.
    const float scale = high == low ? 1.0f : (high - low) / 255.0f;
    const float start = std::min(255.0f, std::max(0.0f, 0.0f - low / scale));
    const auto zero = static_cast<uint8_t>(std::nearbyint(std::isnan(start) ? 0.0f : start));
    if (ctx.has_output(1)) *ctx.output(1).as<float>() = scale;
    if (ctx.has_output(2)) *ctx.output(2).as<uint8_t>() = zero;
    if (!ctx.has_output(0)) return;
    auto* y = ctx.output(0).as<uint8_t>();
    parallel_ranges(
        ctx.parallel(), count, kCheapGrain,
        [&](int64_t begin, int64_t end) {
            k.quantize_u8(static_cast<size_t>(end - begin), x.as<float>() + begin, &scale, 0, &zero, 0, y + begin);
        },
        64);
}

}  // namespace

std::span<const OpDef> quantize_ops() {
    static const OpDef rows[] = {
        {.name = "QuantizeLinear",
         .since = 10,
         .infer = infer_quantize,
         .run = run_quantize,
         .prepare = prepare_quant,
         .permute = permute_quant,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "QuantizeLinear",
         .domain = "com.microsoft",
         .infer = infer_quantize,
         .run = run_quantize,
         .prepare = prepare_quant,
         .permute = permute_quant,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "DequantizeLinear",
         .since = 10,
         .infer = infer_dequantize,
         .run = run_dequantize,
         .prepare = prepare_quant,
         .permute = permute_quant,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "DequantizeLinear",
         .domain = "com.microsoft",
         .infer = infer_dequantize,
         .run = run_dequantize,
         .prepare = prepare_quant,
         .permute = permute_quant,
         .min_inputs = 2,
         .max_inputs = 3},
        {.name = "DynamicQuantizeLinear",
         .since = 11,
         .infer = infer_dynamic,
         .run = run_dynamic,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
