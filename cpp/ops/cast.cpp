// Cast, CastLike, BitCast: every pair of dtypes. A block of elements is widened to float, double, int64 or uint64 (the
// one that holds every value of the source) and narrowed from there.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>

#include "base/half.h"
#include "ops/convert.h"
#include "ops/elementwise.h"
#include "ops/text.h"

namespace linnet {
namespace {

constexpr DTypes kNarrowTypes = set_of({DType::f8e4m3fn, DType::f8e4m3fnuz, DType::f8e5m2, DType::f8e5m2fnuz,
                                        DType::f8e8m0, DType::f4e2m1, DType::u4, DType::i4, DType::u2, DType::i2});
constexpr DTypes kCastTypes = kNumberTypes | kBoolType | kNarrowTypes | set_of({DType::string});
constexpr size_t kBlock = 256;

// The type that holds every value of a dtype.
DType wide_of(DType d) {
    if (d == DType::f64 || d == DType::u64) return d;
    return is_float(d) || is_narrow_float(d) ? DType::f32 : DType::i64;
}

template <class T>
T real_to_int(double x) {
    constexpr double kTwo63 = 9223372036854775808.0;
    if constexpr (std::is_same_v<T, uint64_t>)
        if (x >= kTwo63 && x < 2 * kTwo63) return static_cast<uint64_t>(x);
    const int64_t whole = x >= -kTwo63 && x < kTwo63 ? static_cast<int64_t>(x) : std::numeric_limits<int64_t>::min();
    if constexpr (std::is_same_v<T, int32_t>)
        if (whole != static_cast<int32_t>(whole)) return std::numeric_limits<int32_t>::min();
    return static_cast<T>(whole);
}

template <class W, class T>
T to_integer(W x) {
    if constexpr (std::is_floating_point_v<W>) return real_to_int<T>(static_cast<double>(x));
    else return static_cast<T>(x);
}

template <int bits>
int8_t sign_extended(int x) {
    return static_cast<int8_t>(static_cast<int8_t>(static_cast<uint8_t>(x) << (8 - bits)) >> (8 - bits));
}

// Widens elements [0, n) of `in`; W is the type of wide_of(from).
template <class W>
void load(DType from, const void* in, size_t n, W* out) {
    auto each = [&](auto zero) {
        const auto* x = static_cast<const decltype(zero)*>(in);
        for (size_t i = 0; i < n; ++i) out[i] = static_cast<W>(x[i]);
    };
    const auto* bytes = static_cast<const uint8_t*>(in);
    if constexpr (std::is_same_v<W, float>) {
        if (from == DType::f16 || from == DType::bf16) {
            half_to_f32(from, n, in, out);
        } else if (from == DType::f32) {
            std::copy_n(static_cast<const float*>(in), n, out);
        } else {
            const float* values = narrow_values(from);
            for (size_t i = 0; i < n; ++i) out[i] = values[bytes[i]];
        }
    } else if constexpr (std::is_same_v<W, int64_t>) {
        switch (from) {
            case DType::u8: each(uint8_t{}); break;
            case DType::u16: each(uint16_t{}); break;
            case DType::u32: each(uint32_t{}); break;
            case DType::i8: each(int8_t{}); break;
            case DType::i16: each(int16_t{}); break;
            case DType::i32: each(int32_t{}); break;
            case DType::i64: each(int64_t{}); break;
            case DType::boolean:
                for (size_t i = 0; i < n; ++i) out[i] = bytes[i] != 0;
                break;
            case DType::u4:
                for (size_t i = 0; i < n; ++i) out[i] = bytes[i] & 0xf;
                break;
            case DType::i4:
                for (size_t i = 0; i < n; ++i) out[i] = sign_extended<4>(bytes[i]);
                break;
            case DType::u2:
                for (size_t i = 0; i < n; ++i) out[i] = bytes[i] & 0x3;
                break;
            default:
                for (size_t i = 0; i < n; ++i) out[i] = sign_extended<2>(bytes[i]);
                break;
        }
    } else {
        each(W{});
    }
}

// Narrows n wide values.
template <class W>
void store(DType to, const W* in, size_t n, void* out, const CastOptions& options) {
    auto each = [&](auto zero) {
        using T = decltype(zero);
        for (size_t i = 0; i < n; ++i) static_cast<T*>(out)[i] = to_integer<W, T>(in[i]);
    };
    auto* bytes = static_cast<uint8_t*>(out);
    switch (to) {
        case DType::f32:
            for (size_t i = 0; i < n; ++i) static_cast<float*>(out)[i] = static_cast<float>(in[i]);
            break;
        case DType::f64:
            for (size_t i = 0; i < n; ++i) static_cast<double*>(out)[i] = static_cast<double>(in[i]);
            break;
        case DType::f16:
        case DType::bf16:
            if constexpr (std::is_same_v<W, float>) {
                f32_to_half(to, n, in, out);
            } else if constexpr (std::is_same_v<W, double>) {
                for (size_t i = 0; i < n; ++i) static_cast<uint16_t*>(out)[i] = encode_float(to, in[i]);
            } else {
                float block[kBlock];
                for (size_t i = 0; i < n; ++i) block[i] = static_cast<float>(in[i]);
                f32_to_half(to, n, block, out);
            }
            break;
        case DType::u8: each(uint8_t{}); break;
        case DType::u16: each(uint16_t{}); break;
        case DType::u32: each(uint32_t{}); break;
        case DType::u64: each(uint64_t{}); break;
        case DType::i8: each(int8_t{}); break;
        case DType::i16: each(int16_t{}); break;
        case DType::i32: each(int32_t{}); break;
        case DType::i64: each(int64_t{}); break;
        case DType::boolean:
            for (size_t i = 0; i < n; ++i) bytes[i] = in[i] != W(0);
            break;
        case DType::u4:
            for (size_t i = 0; i < n; ++i) bytes[i] = to_integer<W, uint8_t>(in[i]) & 0xf;
            break;
        case DType::u2:
            for (size_t i = 0; i < n; ++i) bytes[i] = to_integer<W, uint8_t>(in[i]) & 0x3;
            break;
        case DType::i4:
            for (size_t i = 0; i < n; ++i)
                bytes[i] = static_cast<uint8_t>(sign_extended<4>(to_integer<W, uint8_t>(in[i])));
            break;
        case DType::i2:
            for (size_t i = 0; i < n; ++i)
                bytes[i] = static_cast<uint8_t>(sign_extended<2>(to_integer<W, uint8_t>(in[i])));
            break;
        case DType::f8e8m0:
            for (size_t i = 0; i < n; ++i)
                bytes[i] = encode_e8m0(static_cast<float>(in[i]), options.saturate, options.round_mode);
            break;
        default:
            for (size_t i = 0; i < n; ++i)
                bytes[i] = static_cast<uint8_t>(encode_float(to, static_cast<double>(in[i]), options.saturate));
    }
}

template <class W>
void convert_range(DType from, const std::byte* in, DType to, std::byte* out, size_t n, const CastOptions& options) {
    const size_t in_size = dtype_size(from), out_size = dtype_size(to);
    if (from == dtype_of<W>) {
        for (size_t i = 0; i < n; i += kBlock)
            store(to, reinterpret_cast<const W*>(in) + i, std::min(kBlock, n - i), out + i * out_size, options);
    } else if (to == dtype_of<W>) {
        load(from, in, n, reinterpret_cast<W*>(out));
    } else {
        W block[kBlock];
        for (size_t i = 0; i < n; i += kBlock) {
            const size_t m = std::min(kBlock, n - i);
            load(from, in + i * in_size, m, block);
            store(to, block, m, out + i * out_size, options);
        }
    }
}

// The pairs that models have most, for which there is a kernel.
constexpr std::tuple<DType, DType, kernels::Convert> kPairs[] = {
    {DType::f32, DType::i64, kernels::Convert::f32_i64},      {DType::f32, DType::i32, kernels::Convert::f32_i32},
    {DType::f32, DType::u8, kernels::Convert::f32_u8},        {DType::f32, DType::i8, kernels::Convert::f32_u8},
    {DType::f32, DType::boolean, kernels::Convert::f32_bool}, {DType::f32, DType::f64, kernels::Convert::f32_f64},
    {DType::f64, DType::f32, kernels::Convert::f64_f32},      {DType::i64, DType::f32, kernels::Convert::i64_f32},
    {DType::boolean, DType::f32, kernels::Convert::bool_f32},
};

void convert(DType from, const std::byte* in, DType to, std::byte* out, size_t n, const CastOptions& options) {
    const auto& k = kernels::kernels();
    for (const auto& [x, y, pair] : kPairs)
        if (x == from && y == to) return k.convert(pair, n, in, out);
    if (to == DType::f32 && from == DType::u8)
        k.u8_to_f32(n, reinterpret_cast<const uint8_t*>(in), reinterpret_cast<float*>(out));
    else if (to == DType::f32 && from == DType::i8)
        k.s8_to_f32(n, reinterpret_cast<const int8_t*>(in), reinterpret_cast<float*>(out));
    else if (to == DType::f32 && from == DType::i32)
        k.i32_to_f32(n, reinterpret_cast<const int32_t*>(in), reinterpret_cast<float*>(out));
    else if (wide_of(from) == DType::f32) convert_range<float>(from, in, to, out, n, options);
    else if (wide_of(from) == DType::f64) convert_range<double>(from, in, to, out, n, options);
    else if (wide_of(from) == DType::u64) convert_range<uint64_t>(from, in, to, out, n, options);
    else convert_range<int64_t>(from, in, to, out, n, options);
}

}  // namespace

void convert_elements(DType from, const void* in, DType to, void* out, int64_t n, const CastOptions& options,
                      const Parallel& parallel) {
    const auto in_size = static_cast<int64_t>(dtype_size(from)), out_size = static_cast<int64_t>(dtype_size(to));
    parallel_ranges(
        parallel, n, kCheapGrain,
        [&](int64_t begin, int64_t end) {
            convert(from, static_cast<const std::byte*>(in) + begin * in_size, to,
                    static_cast<std::byte*>(out) + begin * out_size, static_cast<size_t>(end - begin), options);
        },
        64);
}

void load_f32(DType from, const void* in, int64_t first, size_t n, float* out) {
    convert(from, static_cast<const std::byte*>(in) + first * static_cast<int64_t>(dtype_size(from)), DType::f32,
            reinterpret_cast<std::byte*>(out), n, {});
}
void store_f32(DType to, const float* in, size_t n, void* out, int64_t first, const CastOptions& options) {
    convert(DType::f32, reinterpret_cast<const std::byte*>(in), to,
            static_cast<std::byte*>(out) + first * static_cast<int64_t>(dtype_size(to)), n, options);
}

void parse_numbers(const std::string* text, int64_t n, Tensor& y, bool saturate) {
    CastOptions options;
    options.saturate = saturate;
    const size_t size = dtype_size(y.dtype);
    for (int64_t i = 0; i < n; ++i) {
        std::byte* out = static_cast<std::byte*>(y.data) + static_cast<size_t>(i) * size;
        // 64-bit integers do not fit into a double.
        const std::string& number = text[i];
        int64_t whole = 0;
        const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), whole);
        if (!is_float(y.dtype) && error == std::errc() && end == number.data() + number.size()) {
            convert(DType::i64, reinterpret_cast<const std::byte*>(&whole), y.dtype, out, 1, options);
            continue;
        }
        uint64_t natural = 0;
        const auto [stop, bad] = std::from_chars(number.data(), number.data() + number.size(), natural);
        if (y.dtype == DType::u64 && bad == std::errc() && stop == number.data() + number.size()) {
            y.as<uint64_t>()[i] = natural;
            continue;
        }
        const double value = parse_number(number, y.dtype == DType::f32);
        convert(DType::f64, reinterpret_cast<const std::byte*>(&value), y.dtype, out, 1, options);
    }
}

namespace {

DType target_of(const Attributes& attributes) {
    const Attribute* to = attributes.find("to");
    if (!to) fail(ErrorKind::invalid_graph, "the attribute 'to' is missing");
    int64_t number = 0;
    if (const auto* name = std::get_if<std::string>(&to->data)) {  // opset 1: "FLOAT", "INT64" ...
        number = static_cast<int64_t>(dtype_from_text(*name));
        if (number == 0) fail(ErrorKind::invalid_graph, "to is '", *name, "', which is no data type");
    } else {
        number = attributes.i("to", 0);
    }
    if (number <= 0 || number >= kDTypeCount)
        fail(ErrorKind::invalid_graph, "to is data type ", number, ", which ONNX does not have");
    return static_cast<DType>(number);
}

void infer_to(InferContext& ctx, DType to) {
    check_dtype(ctx, 0, kCastTypes);
    if (to != DType::undefined && !contains(kCastTypes, to))
        fail(ErrorKind::not_implemented, "a cast to ", dtype_name(to));
    const std::string mode = ctx.attributes.s("round_mode", "up");
    if (mode != "up" && mode != "down" && mode != "nearest")
        fail(ErrorKind::invalid_graph, "round_mode is '", mode, "', expected up, down or nearest");
    const Fact& in = ctx.input(0);
    Fact out = in.ranked ? Fact::of(to, in.shape) : Fact::unranked(to);
    if (in.ints && (is_int(in.dtype) || in.dtype == DType::boolean)) {
        out.ints = *in.ints;
        if (to == DType::boolean) {
            for (int64_t& d : *out.ints) d = is_number(d) ? d != 0 : kUnknownDim;
        } else if (to == DType::i64 || to == DType::i32 || to == DType::u64) {
            for (int64_t& d : *out.ints)
                if (is_number(d) && to != DType::i64) d = d >= 0 && d < (int64_t{1} << 31) ? d : kUnknownDim;
        } else {
            out.ints.reset();
        }
    }
    ctx.output(0, std::move(out));
}
void infer_cast(InferContext& ctx) { infer_to(ctx, target_of(ctx.attributes)); }
void infer_cast_like(InferContext& ctx) { infer_to(ctx, ctx.input(1).dtype); }

void run_cast(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t n = x.count();
    if (x.dtype == y.dtype) {
        copy_elements(x, y);
    } else if (x.dtype == DType::string) {
        parse_numbers(x.as<std::string>(), n, y, ctx.attributes.i("saturate", 1) != 0);
    } else if (y.dtype == DType::string) {
        for (int64_t i = 0; i < n; ++i) y.as<std::string>()[i] = number_text(x, i);
    } else {
        CastOptions options;
        options.saturate = ctx.attributes.i("saturate", 1) != 0;
        const std::string mode = ctx.attributes.s("round_mode", "up");
        options.round_mode = mode == "down" ? RoundMode::down : mode == "nearest" ? RoundMode::nearest : RoundMode::up;
        convert_elements(x.dtype, x.data, y.dtype, y.data, n, options, ctx.parallel());
    }
}

// Every value of `from` is one of `to`.
bool lossless(DType from, DType to) {
    if (from == to) return true;
    if (from == DType::boolean) return is_int(to) || is_float(to);
    if (from == DType::f16 || from == DType::bf16) return to == DType::f32 || to == DType::f64;
    if (from == DType::f32) return to == DType::f64;
    const int bits = dtype_file_bits(from);
    if (is_signed_int(from))
        return (is_signed_int(to) && dtype_file_bits(to) > bits) || (to == DType::f64 && bits <= 32) ||
               (to == DType::f32 && bits <= 16);
    if (is_unsigned_int(from))
        return (is_int(to) && dtype_file_bits(to) > bits) || (to == DType::f64 && bits <= 32) ||
               (to == DType::f32 && bits <= 16);
    return false;
}

// A cast to its input's dtype is nothing; of two casts the first goes when it loses nothing.
bool simplify_cast(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    const ValueId x = node.inputs[0];
    const DType from = graph.fact(x).dtype, to = graph.fact(node.outputs[0]).dtype;
    if (from == DType::undefined || to == DType::undefined) return false;
    if (from == to) {
        patch.replace(node.outputs[0], x);
        return true;
    }
    if (node.op_type == "CastLike") {
        Attributes attributes = node.attributes;
        attributes.set("to", static_cast<int64_t>(to));
        patch.replace(node.outputs[0], patch.node("Cast", {x}, std::move(attributes)));
        return true;
    }
    const Node* before = graph.producer(x, "Cast");
    if (!before) return false;
    const DType origin = graph.fact(before->inputs[0]).dtype;
    if (origin == DType::undefined || !lossless(origin, from)) return false;
    patch.replace(node.outputs[0],
                  origin == to ? before->inputs[0] : patch.node("Cast", {before->inputs[0]}, node.attributes));
    return true;
}

void infer_bit_cast(InferContext& ctx) {
    const Fact& in = ctx.input(0);
    const DType to = target_of(ctx.attributes);
    if (in.dtype == DType::string || to == DType::string)
        fail(ErrorKind::invalid_graph, "strings have no bits to cast");
    if (in.dtype != DType::undefined && dtype_file_bits(in.dtype) != dtype_file_bits(to))
        fail(ErrorKind::invalid_graph, dtype_name(in.dtype), " and ", dtype_name(to), " differ in width");
    ctx.output(0, in.ranked ? Fact::of(to, in.shape) : Fact::unranked(to));
}
void run_bit_cast(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const auto* in = x.as<uint8_t>();
    auto* out = y.as<uint8_t>();
    const int bits = dtype_file_bits(y.dtype);
    const size_t n = y.bytes();
    if (bits >= 8) {
        if (out != in && n) std::copy_n(in, n, out);
        return;
    }
    // Narrow types keep their value, sign included, in a byte each.
    for (size_t i = 0; i < n; ++i) {
        if (y.dtype == DType::i4) out[i] = static_cast<uint8_t>(sign_extended<4>(in[i]));
        else if (y.dtype == DType::i2) out[i] = static_cast<uint8_t>(sign_extended<2>(in[i]));
        else out[i] = static_cast<uint8_t>(in[i] & ((1 << bits) - 1));
    }
}

}  // namespace

std::span<const OpDef> cast_ops() {
    static const OpDef rows[] = {
        {.name = "Cast",
         .infer = infer_cast,
         .run = run_cast,
         .simplify = simplify_cast,
         .flags = kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "CastLike",
         .since = 15,
         .infer = infer_cast_like,
         .run = run_cast,
         .simplify = simplify_cast,
         .flags = kElementwise,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "BitCast",
         .since = 26,
         .infer = infer_bit_cast,
         .run = run_bit_cast,
         .flags = kElementwise | kInPlace,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
