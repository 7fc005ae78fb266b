// Unique (11, 28): distinct elements, or slices along `axis`, sorted or in order of appearance.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/half.h"
#include "base/held_memory.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/order_keys.h"

namespace linnet {
namespace {

void infer_unique(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const int64_t sorted = ctx.attributes.i("sorted", 1);
    require(sorted == 0 || sorted == 1, "sorted must be 0 or 1, not ", sorted);
    if (!ctx.attributes.has("axis")) {
        ctx.output(0, data.dtype, {kUnknownDim});
    } else if (data.ranked) {
        Shape shape = data.shape;
        shape[static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()))] = kUnknownDim;
        ctx.output(0, data.dtype, shape);
    } else {
        ctx.output_unranked(0, data.dtype);
    }
    for (int i = 1; i < 4; ++i)
        if (ctx.has_output(i)) ctx.output(i, DType::i64, {kUnknownDim});
}

// -1, 0 or 1; NaN is equal to itself and behind everything, as numpy has it.
template <class T>
int order(const T& a, const T& b) {
    if constexpr (std::is_floating_point_v<T>) {
        if (std::isnan(a) || std::isnan(b)) return static_cast<int>(std::isnan(a)) - static_cast<int>(std::isnan(b));
    }
    return a < b ? -1 : b < a ? 1 : 0;
}
int order(Half a, Half b) { return order(to_float(a), to_float(b)); }
int order(BFloat16 a, BFloat16 b) { return order(to_float(a), to_float(b)); }

struct Slices {
    int64_t count = 0, outer = 1, inner = 1;  // slice i is [outer, i, inner] of [outer, count, inner]
};

// The order of slices a and b. The only part that depends on the type: sorting itself exists once.
template <class T>
int order_slices(const Tensor& x, const Slices& slices, int64_t a, int64_t b) {
    const T* data = x.as<T>();
    for (int64_t o = 0; o < slices.outer; ++o)
        for (int64_t i = 0; i < slices.inner; ++i)
            if (const int c = order(data[(o * slices.count + a) * slices.inner + i],
                                    data[(o * slices.count + b) * slices.inner + i]))
                return c;
    return 0;
}
using OrderSlices = int (*)(const Tensor& x, const Slices& slices, int64_t a, int64_t b);

template <class T>
int64_t key_of(const Tensor& x, int64_t index) {
    return order_key(x.as<T>()[index]);
}
using KeyOf = int64_t (*)(const Tensor& x, int64_t index);

struct Numbered {
    uint64_t key;
    int64_t index;
};

// Sorts by keys and leaves the order of equal ones: a pass for each byte, but for those in which all keys agree.
void radix_sort(std::vector<Numbered>& items) {
    std::vector<Numbered> other(items.size());
    for (int shift = 0; shift < 64 && !items.empty(); shift += 8) {
        const auto digit = [shift](const Numbered& item) { return item.key >> shift & 255; };
        size_t start[256] = {};
        for (const Numbered& item : items) ++start[digit(item)];
        if (start[digit(items[0])] == items.size()) continue;
        size_t before = 0;
        for (size_t& place : start) before += std::exchange(place, before);
        for (const Numbered& item : items) other[start[digit(item)]++] = item;
        items.swap(other);
    }
}

void unique(RunContext& ctx, const Slices& slices, OrderSlices order_of, KeyOf key_of) {
    const Tensor& x = ctx.input(0);
    const HeldMemory lists(checked_mul(slices.count, 10 * static_cast<int64_t>(sizeof(int64_t))));
    // Single numbers are sorted by their keys, longer slices and strings by looking at them.
    const bool keyed = key_of && slices.outer == 1 && slices.inner == 1;
    std::vector<Numbered> by_value(static_cast<size_t>(slices.count));
    for (int64_t i = 0; i < slices.count; ++i)
        by_value[static_cast<size_t>(i)] = {keyed ? static_cast<uint64_t>(key_of(x, i)) ^ uint64_t{1} << 63 : 0, i};
    const auto compare = [&](const Numbered& a, const Numbered& b) { return order_of(x, slices, a.index, b.index); };
    if (keyed) radix_sort(by_value);
    else std::stable_sort(by_value.begin(), by_value.end(), [&](auto& a, auto& b) { return compare(a, b) < 0; });
    // Groups of equal slices, each with its first appearance, which the stable sort puts in front.
    std::vector<int64_t> first, counts, group(by_value.size());
    for (size_t i = 0; i < by_value.size(); ++i) {
        const bool differs =
            i == 0 || (keyed ? by_value[i - 1].key != by_value[i].key : compare(by_value[i - 1], by_value[i]) != 0);
        if (differs) {
            first.push_back(by_value[i].index);
            counts.push_back(0);
        }
        ++counts.back();
        group[static_cast<size_t>(by_value[i].index)] = static_cast<int64_t>(first.size()) - 1;
    }
    std::vector<int64_t> place(first.size()), groups(first.size());
    std::iota(groups.begin(), groups.end(), 0);
    if (ctx.attributes.i("sorted", 1) == 0)
        std::sort(groups.begin(), groups.end(),
                  [&](int64_t a, int64_t b) { return first[static_cast<size_t>(a)] < first[static_cast<size_t>(b)]; });
    for (size_t i = 0; i < groups.size(); ++i) place[static_cast<size_t>(groups[i])] = static_cast<int64_t>(i);

    const auto found = static_cast<int64_t>(first.size());
    Shape shape{found};
    if (ctx.attributes.has("axis")) {
        shape = x.shape;
        shape[static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()))] = found;
    }
    Tensor& y = ctx.allocate(0, x.dtype, shape);
    for (int64_t o = 0; o < slices.outer && y.count() > 0; ++o)
        for (int64_t u = 0; u < found; ++u) {
            const int64_t from = first[static_cast<size_t>(groups[static_cast<size_t>(u)])];
            copy_run(x.dtype, slices.inner, element(x.data, x.dtype, (o * slices.count + from) * slices.inner),
                     element(y.data, x.dtype, (o * found + u) * slices.inner));
        }
    if (ctx.has_output(1)) {
        int64_t* out = ctx.allocate(1, DType::i64, {found}).as<int64_t>();
        for (int64_t g : groups) *out++ = first[static_cast<size_t>(g)];
    }
    if (ctx.has_output(2)) {
        int64_t* out = ctx.allocate(2, DType::i64, {slices.count}).as<int64_t>();
        for (int64_t g : group) *out++ = place[static_cast<size_t>(g)];
    }
    if (ctx.has_output(3)) {
        int64_t* out = ctx.allocate(3, DType::i64, {found}).as<int64_t>();
        for (int64_t g : groups) *out++ = counts[static_cast<size_t>(g)];
    }
}

void run_unique(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Slices slices{x.count(), 1, 1};
    if (ctx.attributes.has("axis")) {
        const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
        slices = {x.shape[axis], product(x.shape, 0, axis), product(x.shape, axis + 1, x.shape.size())};
    }
    const auto run = [&]<class T>(T) { unique(ctx, slices, order_slices<T>, key_of<T>); };
    switch (x.dtype) {
        case DType::f32: return run(float{});
        case DType::f64: return run(double{});
        case DType::f16: return run(Half{});
        case DType::bf16: return run(BFloat16{});
        case DType::boolean:
        case DType::u8: return run(uint8_t{});
        case DType::i8: return run(int8_t{});
        case DType::u16: return run(uint16_t{});
        case DType::i16: return run(int16_t{});
        case DType::u32: return run(uint32_t{});
        case DType::i32: return run(int32_t{});
        case DType::u64: return run(uint64_t{});
        case DType::i64: return run(int64_t{});
        case DType::string: return unique(ctx, slices, order_slices<std::string>, nullptr);
        default: fail(ErrorKind::not_implemented, "Unique of ", dtype_name(x.dtype));
    }
}

}  // namespace

std::span<const OpDef> unique_ops() {
    static const OpDef rows[] = {
        {.name = "Unique",
         .since = 11,
         .infer = infer_unique,
         .run = run_unique,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
