// Resampling by tables: see resample.h.
#include "ops/spatial/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/half.h"
#include "kernels/kernels.h"
#include "ops/shared/copy.h"

namespace linnet {
namespace {

// y = sum of taps of rows of `count` neighbours. Vectorised by the compiler.
[[gnu::optimize("O3")]] void blend_rows(const float* x, int64_t row, const int64_t* index, const float* weight,
                                        int64_t taps, int64_t count, float* y) {
    if (taps == 1) {
        std::copy_n(x + index[0] * row, count, y);
        return;
    }
    const float *a = x + index[0] * row, *b = x + index[1] * row;
    const float wa = weight[0], wb = weight[1];
    for (int64_t i = 0; i < count; ++i) y[i] = a[i] * wa + b[i] * wb;
    for (int64_t t = 2; t < taps; ++t) {
        const float* c = x + index[t] * row;
        const float wc = weight[t];
        for (int64_t i = 0; i < count; ++i) y[i] += c[i] * wc;
    }
}

// A row resampled with two taps.
[[gnu::optimize("O3")]] void blend_neighbours(const float* x, const int64_t* index, const float* weight, int64_t count,
                                              float* y) {
    for (int64_t o = 0; o < count; ++o)
        y[o] = x[index[2 * o]] * weight[2 * o] + x[index[2 * o + 1]] * weight[2 * o + 1];
}

void apply_axis(const AxisTable& table, const float* x, int64_t inner, float extrapolation, float* y) {
    if (inner == 1 && table.taps == 2 && !table.outside)
        return blend_neighbours(x, table.index.data(), table.weight.data(), table.out, y);
    for (int64_t o = 0; o < table.out; ++o, y += inner) {
        const int64_t* index = table.index.data() + o * table.taps;
        const float* weight = table.weight.data() + o * table.taps;
        if (index[0] < 0) {
            std::fill_n(y, inner, extrapolation);
        } else if (inner == 1) {
            float sum = 0;
            for (int64_t t = 0; t < table.taps; ++t) sum += x[index[t]] * weight[t];
            *y = sum;
        } else {
            blend_rows(x, inner, index, weight, table.taps, inner, y);
        }
    }
}

template <class T>
T saturated(float value) {
    if (std::isnan(value)) return 0;
    if (value <= static_cast<float>(std::numeric_limits<T>::lowest())) return std::numeric_limits<T>::lowest();
    if (value >= static_cast<float>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
    return static_cast<T>(value);
}

void store(const float* x, Tensor& y) {
    const int64_t count = y.count();
    auto each = [&](auto* to, auto convert) {
        for (int64_t i = 0; i < count; ++i) to[i] = convert(x[i]);
    };
    switch (y.dtype) {
        case DType::f64: return each(y.as<double>(), [](float v) { return static_cast<double>(v); });
        case DType::f16: return each(y.as<Half>(), to_half);
        case DType::bf16: return each(y.as<BFloat16>(), to_bfloat16);
        case DType::u8: return each(y.as<uint8_t>(), saturated<uint8_t>);
        case DType::i8: return each(y.as<int8_t>(), saturated<int8_t>);
        case DType::u16: return each(y.as<uint16_t>(), saturated<uint16_t>);
        case DType::i16: return each(y.as<int16_t>(), saturated<int16_t>);
        case DType::u32: return each(y.as<uint32_t>(), saturated<uint32_t>);
        case DType::i32: return each(y.as<int32_t>(), saturated<int32_t>);
        case DType::u64: return each(y.as<uint64_t>(), saturated<uint64_t>);
        default: return each(y.as<int64_t>(), saturated<int64_t>);
    }
}

// One element of dtype.
void store_one(float value, DType dtype, void* to) {
    if (dtype == DType::f32) {
        std::memcpy(to, &value, 4);
        return;
    }
    Tensor one;
    one.dtype = dtype;
    one.data = to;
    store(&value, one);
}

// Elements of a row, picked by index or each of them `times` times.
template <class T>
[[gnu::optimize("O3")]] void pick(const void* from, const int64_t* index, int64_t count, int64_t times, void* to) {
    const T* x = static_cast<const T*>(from);
    T* y = static_cast<T*>(to);
    if (times == 2) {
        for (int64_t i = 0; i < count / 2; ++i) {
            const T value = x[i];
            y[2 * i] = value;
            y[2 * i + 1] = value;
        }
    } else {
        for (int64_t o = 0; o < count; ++o) y[o] = x[index[o]];
    }
}
using Pick = void (*)(const void* from, const int64_t* index, int64_t count, int64_t times, void* to);

Pick pick_of(DType dtype) {
    if (dtype == DType::string) return nullptr;
    switch (dtype_size(dtype)) {
        case 1: return pick<uint8_t>;
        case 2: return pick<uint16_t>;
        case 4: return pick<uint32_t>;
        case 8: return pick<uint64_t>;
        default: return nullptr;
    }
}

// Slices of a growing axis are resampled before they are blended.
constexpr int64_t kMostKept = 4;
bool widens_first(const AxisTable& first) { return first.out > first.in && first.taps <= kMostKept; }

// How many times in a row each place of the input is read, if that is the same for all, else 0.
int64_t repeats_of(const AxisTable& table) {
    const int64_t times = table.out / table.in;
    if (times * table.in != table.out) return 0;
    for (int64_t o = 0; o < table.out; ++o)
        if (table.index[static_cast<size_t>(o)] != o / times) return 0;
    return times;
}

// All tables gather: elements are copied.
void gather(const std::vector<AxisTable>& tables, float extrapolation, const Parallel& parallel, const Tensor& x,
            Tensor& y) {
    const AxisTable& last = tables.back();
    const auto axis = static_cast<size_t>(last.axis);
    const int64_t inner = product(y.shape, axis + 1, y.shape.size()), rows = product(y.shape, 0, axis);
    const Shape strides = strides_of(x.shape);
    alignas(16) std::byte outside[16] = {};
    const bool plain = is_float(y.dtype) || is_int(y.dtype);
    if (plain) store_one(extrapolation, y.dtype, outside);
    std::vector<const AxisTable*> along(axis, nullptr);
    for (const AxisTable& t : tables)
        if (static_cast<size_t>(t.axis) < axis) along[static_cast<size_t>(t.axis)] = &t;
    const int64_t row_elements = last.out * inner;
    const auto bytes = static_cast<int64_t>(dtype_size(x.dtype));
    const char* source = static_cast<const char*>(x.data);
    char* target = static_cast<char*>(y.data);
    const Pick picks = inner == 1 && !last.outside ? pick_of(x.dtype) : nullptr;
    const int64_t times = picks ? repeats_of(last) : 0;
    parallel_ranges(parallel, rows, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, row_elements)),
                    [&](int64_t begin, int64_t end) {
                        SmallVector<int64_t, 6> at(axis);  // of the row
                        for (int64_t a = static_cast<int64_t>(axis), rest = begin; a-- > 0;) {
                            const int64_t size = y.shape[static_cast<size_t>(a)];
                            at[static_cast<size_t>(a)] = rest % size;
                            rest /= size;
                        }
                        int64_t before = -2, plane = 0;  // sources of the row before and of the plane
                        for (int64_t row = begin; row < end; ++row) {
                            const auto place = [&](size_t a) {
                                return along[a] ? along[a]->index[static_cast<size_t>(at[a])] : at[a];
                            };
                            if (axis > 0 && (row == begin || at[axis - 1] == 0)) {  // another plane
                                plane = 0;
                                for (size_t a = 0; a + 1 < axis; ++a)
                                    plane = place(a) < 0 || plane < 0 ? -1 : plane + place(a) * strides[a];
                            }
                            int64_t base = plane;
                            if (axis > 0) {
                                const int64_t from = place(axis - 1);
                                base = from < 0 || plane < 0 ? -1 : plane + from * strides[axis - 1];
                            }
                            for (size_t a = axis; a-- > 0 && ++at[a] == y.shape[a];) at[a] = 0;
                            char* to = target + row * row_elements * bytes;
                            if (base == before && base >= 0) {  // an enlarged row
                                copy_run(y.dtype, row_elements, to - row_elements * bytes, to);
                                continue;
                            }
                            before = base;
                            if (picks && base >= 0) {
                                picks(source + base * bytes, last.index.data(), last.out, times, to);
                                continue;
                            }
                            for (int64_t o = 0; o < last.out; ++o) {
                                const int64_t from = last.index[static_cast<size_t>(o)];
                                char* place = to + o * inner * bytes;
                                if (base >= 0 && from >= 0)
                                    copy_run(x.dtype, inner, source + (base + from * inner) * bytes, place);
                                else
                                    for (int64_t i = 0; i < inner && plain; ++i)
                                        std::memcpy(place + i * bytes, outside, static_cast<size_t>(bytes));
                            }
                        }
                    });
}

void dequantize(const ByteScales& s, DType dtype, const void* x, int64_t at, int64_t n, float* y) {
    const auto count = static_cast<size_t>(n);
    const auto zero = static_cast<uint8_t>(s.x_zero);
    const auto* from = static_cast<const uint8_t*>(x) + at;
    if (dtype == DType::u8) return kernels::kernels().dequantize_u8(count, from, &s.x_scale, 0, &zero, 0, y);
    const auto signed_zero = static_cast<int8_t>(zero);
    kernels::kernels().dequantize_s8(count, reinterpret_cast<const int8_t*>(from), &s.x_scale, 0, &signed_zero, 0, y);
}

template <class T>
void quantize(const ByteScales& s, int64_t n, const float* x, T* y) {
    const auto zero = static_cast<T>(s.y_zero);
    if constexpr (std::is_same_v<T, uint8_t>)
        kernels::kernels().quantize_u8(static_cast<size_t>(n), x, &s.y_scale, 0, &zero, 0, y);
    else kernels::kernels().quantize_s8(static_cast<size_t>(n), x, &s.y_scale, 0, &zero, 0, y);
    const auto lo = static_cast<T>(s.lo), hi = static_cast<T>(s.hi);
    if (lo == std::numeric_limits<T>::lowest() && hi == std::numeric_limits<T>::max()) return;
    for (int64_t i = 0; i < n; ++i) y[i] = std::clamp(y[i], lo, hi);
}

void quantize(const ByteScales& s, DType dtype, int64_t n, const float* x, void* y, int64_t at) {
    if (dtype == DType::u8) quantize(s, n, x, static_cast<uint8_t*>(y) + at);
    else quantize(s, n, x, static_cast<int8_t*>(y) + at);
}

}  // namespace

// Bytes go line by line: rows of x that count for a line of y are widened and kept while later lines read them, too,
// blended, resampled along the second axis, and narrowed.
struct Resampler::Lines {
    const AxisTable *blend = nullptr, *within = nullptr;  // either may be missing
    int64_t lines = 0;                                    // of y
    int64_t slice = 0, row = 0;                           // elements of a line of x and of y
    int64_t inner = 1;                                    // elements that `within` moves together
    int64_t taps() const { return blend ? blend->taps : 0; }
    // In the order in which floats are resampled, so that the results are the same.
    bool early() const { return blend && within && widens_first(*blend); }
    int64_t width() const { return early() ? row : slice; }  // of what is kept
    int64_t floats() const { return (4 * taps() + taps() * width() + slice + row + 15) / 16 * 16; }
};

Resampler::Lines Resampler::lines(const Shape& in, const Shape& out) const {
    constexpr int64_t kLongRow = 64;
    Lines l;
    const size_t rank = in.size();
    if (tables.empty()) {  // scales alone
        l.lines = rank ? out[0] : 1;
        l.slice = l.row = rank ? product(in, 1, rank) : 1;
        return l;
    }
    const auto last = static_cast<size_t>(tables.back().axis);
    l.inner = product(in, last + 1, rank);
    if (tables.size() == 2 || l.inner >= kLongRow) l.blend = &tables.front();
    if (tables.size() == 2 || !l.blend) l.within = &tables.back();
    const size_t first = l.blend ? static_cast<size_t>(l.blend->axis) + 1 : last;
    l.lines = product(out, 0, first);
    l.slice = product(in, first, rank);
    l.row = product(out, first, rank);
    return l;
}

void Resampler::run_lines(const Parallel& parallel, const Tensor& x, Tensor& y, float* scratch) const {
    const Lines l = lines(x.shape, y.shape);
    const int64_t parts = std::min<int64_t>(l.lines, std::max(1, parallel.threads)), width = l.width();
    const bool early = l.early();
    parallel_for(parallel, parts, [&](int64_t part) {
        // Which row each place of the cache has, where the rows of a line are, the cache.
        auto* held = reinterpret_cast<int64_t*>(scratch + part * l.floats());
        int64_t* places = held + l.taps();
        auto* cache = reinterpret_cast<float*>(places + l.taps());
        float *blended = cache + l.taps() * width, *row = blended + l.slice;
        std::fill_n(held, l.taps(), -1);
        const auto resample = [&] {  // blended to row
            const int64_t group_in = l.within->in * l.inner, group_out = l.within->out * l.inner;
            for (int64_t m = 0; m * group_in < l.slice; ++m)
                apply_axis(*l.within, blended + m * group_in, l.inner, extrapolation, row + m * group_out);
        };
        for (int64_t line = l.lines * part / parts; line < l.lines * (part + 1) / parts; ++line) {
            const int64_t at = l.blend ? line % l.blend->out : 0;
            const int64_t* index = l.blend ? l.blend->index.data() + at * l.taps() : nullptr;
            if (index && index[0] < 0) {
                std::fill_n(row, l.row, extrapolation);
                quantize(*scales, y.dtype, l.row, row, y.data, line * l.row);
                continue;
            }
            if (!index) dequantize(*scales, x.dtype, x.data, line * l.slice, l.slice, blended);
            for (int64_t t = 0; t < l.taps(); ++t) {
                const int64_t from = line / l.blend->out * l.blend->in + index[t];
                places[t] = index[t] % l.taps();  // rows that follow each other, less those beyond the edges
                if (held[places[t]] == from) continue;
                held[places[t]] = from;
                float* const kept = cache + places[t] * width;
                dequantize(*scales, x.dtype, x.data, from * l.slice, l.slice, early ? blended : kept);
                if (!early) continue;
                resample();
                std::copy_n(row, width, kept);
            }
            if (index)
                blend_rows(cache, width, places, l.blend->weight.data() + at * l.taps(), l.taps(), width,
                           early ? row : blended);
            if (l.within && !early) resample();
            quantize(*scales, y.dtype, l.row, l.within ? row : blended, y.data, line * l.row);
        }
    });
}

void Resampler::prepare(DType dtype, const Shape& in, const Shape& out, int threads) {
    scratch_floats = 0;
    if (by_lines()) {
        scratch_floats = static_cast<size_t>(checked_mul(lines(in, out).floats(), std::max(1, threads)));
        return;
    }
    if (!scales &&
        (tables.empty() || std::all_of(tables.begin(), tables.end(), [](const AxisTable& t) { return t.is_gather(); })))
        return;
    if (!is_float(dtype) && !is_int(dtype))
        fail(ErrorKind::not_implemented, "interpolation of ", dtype_name(dtype), " elements");
    // Whole tensors: the converted input and output, and what lies between; the last two axes share rows.
    int64_t floats = 0;
    if (dtype != DType::f32) floats = checked_add(element_count(in), element_count(out));
    Shape between = in;
    for (size_t i = 0; i + 2 < tables.size(); ++i) {
        between[static_cast<size_t>(tables[i].axis)] = tables[i].out;
        floats = checked_add(floats, element_count(between));
    }
    if (tables.size() >= 2) {
        const auto axis = static_cast<size_t>(tables[tables.size() - 2].axis);
        const int64_t parts = 4 * std::max(1, threads);
        int64_t row = product(in, axis + 1, in.size());
        if (widens_first(tables[tables.size() - 2]))
            row = checked_mul(row / tables.back().in * tables.back().out, tables[tables.size() - 2].taps);
        floats = checked_add(floats, checked_mul(parts, row));
    }
    scratch_floats = static_cast<size_t>(floats);
}

void Resampler::run(const Parallel& parallel, const Tensor& x, Tensor& y, float* scratch) const {
    if (y.count() == 0) return;
    if (by_lines()) return run_lines(parallel, x, y, scratch);
    if (tables.empty()) return copy_flat(parallel, x.dtype, x.count(), x.data, y.data);
    if (scratch_floats == 0 &&
        std::all_of(tables.begin(), tables.end(), [](const AxisTable& t) { return t.is_gather(); }))
        return gather(tables, extrapolation, parallel, x, y);

    const auto* from = static_cast<const float*>(x.data);
    auto* to = static_cast<float*>(y.data);
    if (x.dtype != DType::f32) {
        const int64_t count = x.count();
        if (scales) dequantize(*scales, x.dtype, x.data, 0, count, scratch);
        else
            for (int64_t i = 0; i < count; ++i) scratch[i] = static_cast<float>(double_at(x, i));
        from = scratch;
        to = scratch + count;
        scratch = to + y.count();
    }
    Shape shape = x.shape;
    size_t t = 0;
    for (; t + 2 < tables.size(); ++t) {  // one axis at a time
        const AxisTable& table = tables[t];
        const auto axis = static_cast<size_t>(table.axis);
        const int64_t outer = product(shape, 0, axis), inner = product(shape, axis + 1, shape.size());
        parallel_for(parallel, outer, [&](int64_t o) {
            apply_axis(table, from + o * table.in * inner, inner, extrapolation, scratch + o * table.out * inner);
        });
        shape[axis] = table.out;
        from = scratch;
        scratch += element_count(shape);
    }
    const AxisTable& second = tables.back();
    const auto axis_b = static_cast<size_t>(second.axis);
    const int64_t inner = product(shape, axis_b + 1, shape.size());
    if (t + 1 == tables.size()) {
        const int64_t outer = product(shape, 0, axis_b);
        parallel_ranges(parallel, outer, std::max<int64_t>(1, 16384 / std::max<int64_t>(1, second.out * inner)),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t o = begin; o < end; ++o)
                                apply_axis(second, from + o * second.in * inner, inner, extrapolation,
                                           to + o * second.out * inner);
                        });
    } else {
        // For each place along the first of the two: a blended slice, then the second axis within it. Where there are
        // more places than slices, the other way round: resampled slices are kept while later places read them.
        const AxisTable& first = tables[t];
        const auto axis_a = static_cast<size_t>(first.axis);
        const int64_t slice = product(shape, axis_a + 1, shape.size());
        const int64_t middle = product(shape, axis_a + 1, axis_b), width = middle * second.out * inner;
        const bool early = widens_first(first);
        const int64_t outer = product(shape, 0, axis_a), lines = outer * first.out;
        const int64_t parts = std::min<int64_t>(lines, 4 * std::max(1, parallel.threads));
        parallel_for(parallel, parts, [&](int64_t part) {
            float* buffer = scratch + part * (early ? first.taps * width : slice);
            const auto resample_slice = [&](const float* x, float* y) {
                for (int64_t m = 0; m < middle; ++m)
                    apply_axis(second, x + m * second.in * inner, inner, extrapolation, y + m * second.out * inner);
            };
            int64_t held[kMostKept], places[kMostKept];  // which slice each place of the buffer has
            std::fill_n(held, kMostKept, -1);
            for (int64_t line = lines * part / parts; line < lines * (part + 1) / parts; ++line) {
                const int64_t o = line / first.out, at = line % first.out;
                float* out = to + line * width;
                const int64_t* index = first.index.data() + at * first.taps;
                const float* weight = first.weight.data() + at * first.taps;
                if (index[0] < 0) {
                    std::fill_n(out, width, extrapolation);
                } else if (early) {
                    for (int64_t t = 0; t < first.taps; ++t) {
                        const int64_t source = o * first.in + index[t];
                        places[t] = index[t] % first.taps;  // slices that follow each other
                        if (held[places[t]] == source) continue;
                        held[places[t]] = source;
                        resample_slice(from + source * slice, buffer + places[t] * width);
                    }
                    blend_rows(buffer, width, places, weight, first.taps, width, out);
                } else {
                    blend_rows(from + o * first.in * slice, slice, index, weight, first.taps, slice, buffer);
                    resample_slice(buffer, out);
                }
            }
        });
    }
    if (scales) quantize(*scales, y.dtype, y.count(), to, y.data, 0);
    else if (x.dtype != DType::f32) store(to, y);
}

}  // namespace linnet
