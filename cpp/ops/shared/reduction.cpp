// Reductions: the axes are merged into alternating kept and reduced ones; float32 goes to the kernels by rows or
// columns, other types through plain loops. A result is made by one thread, whole.
#include "ops/shared/reduction.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/kernels.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

struct Axis {
    int64_t size, stride;
    bool reduced;
};

struct Layout {
    SmallVector<Axis, 6> axes;           // merged, without size 1
    SmallVector<Axis, 6> kept, reduced;  // the same, apart
    int64_t outputs = 1, inputs_per_output = 1;
};

Layout layout_of(const Shape& shape, const Shape& axes) {
    Layout layout;
    const Shape strides = strides_of(shape);
    bool nothing = false;
    for (size_t i = 0; i < shape.size(); ++i) {
        const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
        int64_t& count = reduced ? layout.inputs_per_output : layout.outputs;
        if (reduced && shape[i] == 0) nothing = true;
        else count = checked_mul(count, shape[i]);
        if (shape[i] == 1) continue;
        if (!layout.axes.empty() && layout.axes.back().reduced == reduced) {
            layout.axes.back().size *= shape[i];
            layout.axes.back().stride = strides[i];
        } else {
            layout.axes.push_back({shape[i], strides[i], reduced});
        }
    }
    if (nothing) layout.inputs_per_output = 0;
    for (const Axis& axis : layout.axes) (axis.reduced ? layout.reduced : layout.kept).push_back(axis);
    return layout;
}

// The offset of index `at` of the row-major space that the first `count` axes span.
int64_t offset_of(const SmallVector<Axis, 6>& axes, size_t count, int64_t at) {
    int64_t offset = 0;
    for (size_t i = count; i-- > 0;) {
        offset += at % axes[i].size * axes[i].stride;
        at /= axes[i].size;
    }
    return offset;
}

int64_t space_of(const SmallVector<Axis, 6>& axes, size_t count) {
    int64_t space = 1;
    for (size_t i = 0; i < count; ++i) space *= axes[i].size;
    return space;
}

// ---- float32 -------------------------------------------------------------------------------------------------------

kernels::Reduce kernel_op(Reduction op) {
    switch (op) {
        case Reduction::max: return kernels::Reduce::max;
        case Reduction::min: return kernels::Reduce::min;
        case Reduction::prod: return kernels::Reduce::prod;
        case Reduction::l1: return kernels::Reduce::sum_abs;
        case Reduction::l2:
        case Reduction::sum_square: return kernels::Reduce::sum_square;
        default: return kernels::Reduce::sum;
    }
}

float join(kernels::Reduce op, float a, float b) {
    switch (op) {
        case kernels::Reduce::max: return a != a || a > b ? a : b;
        case kernels::Reduce::min: return a != a || a < b ? a : b;
        case kernels::Reduce::prod: return a * b;
        default: return a + b;
    }
}

// What follows the sum, in place.
void finish_f32(Reduction op, int64_t n, float* y, int64_t terms) {
    const auto& k = kernels::kernels();
    const size_t count = static_cast<size_t>(n);
    if (op == Reduction::mean) {
        for (int64_t i = 0; i < n; ++i) y[i] /= static_cast<float>(terms);
    } else if (op == Reduction::l2) {
        k.map_f32(kernels::Unary::sqrt, count, y, y, 0, 0);
    } else if (op == Reduction::log_sum) {
        k.map_f32(kernels::Unary::log, count, y, y, 0, 0);
    }
}

// The largest element as what is subtracted before exp; 0 when it is not finite, so that infinities come out right.
float shift_of(float top) { return std::isfinite(top) ? top : 0.0f; }

// The innermost axis is reduced: output = over blocks of rows of `n` neighbours.
void reduce_rows(const Parallel& parallel, Reduction op, const Layout& layout, const float* x, float* y) {
    const auto& k = kernels::kernels();
    const int64_t n = layout.axes.back().size;
    const size_t outer = layout.reduced.size() - 1, size = static_cast<size_t>(n);
    const int64_t blocks = space_of(layout.reduced, outer);
    const kernels::Reduce what = kernel_op(op);
    const bool sums =
        what == kernels::Reduce::sum || what == kernels::Reduce::sum_abs || what == kernels::Reduce::sum_square;
    // Outputs whose rows are a step apart from one another.
    const int64_t run = layout.kept.empty() ? 1 : layout.kept.back().size;
    const int64_t step = layout.kept.empty() ? 0 : layout.kept.back().stride;
    const auto combine = [&](const float* from) {
        const auto row = [&](int64_t b) { return from + offset_of(layout.reduced, outer, b); };
        const auto reduced = [&](kernels::Reduce how, int64_t b) {
            float value;
            k.reduce_f32(how, 1, size, row(b), 0, &value);
            return value;
        };
        if (op == Reduction::log_sum_exp) {
            float top = -std::numeric_limits<float>::infinity();
            for (int64_t b = 0; b < blocks; ++b)
                top = join(kernels::Reduce::max, top, reduced(kernels::Reduce::max, b));
            const float shift = shift_of(top);
            double sum = 0;
            for (int64_t b = 0; b < blocks; ++b) sum += static_cast<double>(k.sum_exp_f32(size, row(b), shift));
            return static_cast<float>(std::log(sum) + static_cast<double>(shift));
        }
        if (sums) {
            double sum = 0;
            for (int64_t b = 0; b < blocks; ++b) sum += static_cast<double>(reduced(what, b));
            return static_cast<float>(sum);
        }
        float value = reduced(what, 0);
        for (int64_t b = 1; b < blocks; ++b) value = join(what, value, reduced(what, b));
        return value;
    };
    parallel_ranges(parallel, layout.outputs, row_grain(layout.inputs_per_output, op == Reduction::log_sum_exp ? 8 : 1),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t o = begin; o < end;) {
                            const float* from = x + offset_of(layout.kept, layout.kept.size(), o);
                            if (op == Reduction::log_sum_exp || blocks > 1) {
                                y[o++] = combine(from);
                                continue;
                            }
                            const int64_t rows = std::min(end - o, run - o % run);
                            k.reduce_f32(what, static_cast<size_t>(rows), size, from, step, y + o);
                            o += rows;
                        }
                        finish_f32(op, end - begin, y + begin, layout.inputs_per_output);
                    });
}

// log(sum of exp) of columns: exponentials go through a small buffer, a block of rows at a time.
void log_sum_exp_columns(const Layout& layout, const float* from, int64_t columns, float* y) {
    constexpr int64_t kWidth = 128, kRows = 32;
    const auto& k = kernels::kernels();
    const int64_t rows = layout.reduced.back().size, stride = layout.reduced.back().stride;
    const size_t outer = layout.reduced.size() - 1;
    const int64_t blocks = space_of(layout.reduced, outer);
    float buffer[kWidth * kRows], shift[kWidth];
    for (int64_t c = 0; c < columns; c += kWidth) {
        const int64_t width = std::min(kWidth, columns - c);
        const size_t w = static_cast<size_t>(width);
        for (int64_t b = 0; b < blocks; ++b)
            k.reduce_rows_f32(kernels::Reduce::max, static_cast<size_t>(rows), w,
                              from + c + offset_of(layout.reduced, outer, b), stride, shift, b > 0);
        for (int64_t i = 0; i < width; ++i) shift[i] = shift_of(shift[i]);
        bool first = true;
        for (int64_t b = 0; b < blocks; ++b) {
            const float* block = from + c + offset_of(layout.reduced, outer, b);
            for (int64_t r = 0; r < rows; r += kRows) {
                const int64_t height = std::min(kRows, rows - r);
                for (int64_t i = 0; i < height; ++i)
                    k.binary_f32(kernels::Binary::sub, w, block + (r + i) * stride, 1, shift, 1, buffer + i * width);
                k.map_f32(kernels::Unary::exp, static_cast<size_t>(height * width), buffer, buffer, 0, 0);
                k.reduce_rows_f32(kernels::Reduce::sum, static_cast<size_t>(height), w, buffer, width, y + c, !first);
                first = false;
            }
        }
        k.map_f32(kernels::Unary::log, w, y + c, y + c, 0, 0);
        k.binary_f32(kernels::Binary::add, w, y + c, 1, shift, 1, y + c);
    }
}

// The innermost axis is kept: output rows of `columns` neighbours, reduced over the axis in front of them.
void reduce_columns(const Parallel& parallel, Reduction op, const Layout& layout, const float* x, float* y) {
    const auto& k = kernels::kernels();
    const int64_t columns = layout.axes.back().size;
    const int64_t rows = layout.reduced.back().size, stride = layout.reduced.back().stride;
    const size_t outer = layout.reduced.size() - 1;
    const int64_t blocks = space_of(layout.reduced, outer);
    const int64_t kept = space_of(layout.kept, layout.kept.size() - 1);
    // Columns are shared out as well: a single image has one output row.
    const int64_t width = std::max<int64_t>(64, std::min<int64_t>(columns, 1024));
    const int64_t parts = (columns + width - 1) / width;
    parallel_ranges(parallel, kept * parts, row_grain(layout.inputs_per_output * std::min(width, columns)),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t task = begin; task < end; ++task) {
                            const int64_t o = task / parts, c = task % parts * width;
                            const int64_t part = std::min(width, columns - c);
                            const float* from = x + offset_of(layout.kept, layout.kept.size() - 1, o) + c;
                            float* to = y + o * columns + c;
                            if (op == Reduction::log_sum_exp) {
                                log_sum_exp_columns(layout, from, part, to);
                                continue;
                            }
                            for (int64_t b = 0; b < blocks; ++b)
                                k.reduce_rows_f32(kernel_op(op), static_cast<size_t>(rows), static_cast<size_t>(part),
                                                  from + offset_of(layout.reduced, outer, b), stride, to, b > 0);
                            finish_f32(op, part, to, layout.inputs_per_output);
                        }
                    });
}

// ---- other types ---------------------------------------------------------------------------------------------------

// Calls fn(first element, count, stride) for each run of reduced elements.
template <class T, class Fn>
void each_run(const Layout& layout, const T* from, const Fn& fn) {
    if (layout.reduced.empty()) return fn(from, int64_t{1}, int64_t{1});
    const size_t outer = layout.reduced.size() - 1;
    const int64_t blocks = space_of(layout.reduced, outer);
    for (int64_t b = 0; b < blocks; ++b)
        fn(from + offset_of(layout.reduced, outer, b), layout.reduced.back().size, layout.reduced.back().stride);
}

template <class T, class Acc, class Step>
Acc fold(const Layout& layout, const T* from, Acc value, const Step& step) {
    each_run(layout, from, [&](const T* p, int64_t n, int64_t stride) {
        for (int64_t i = 0; i < n; ++i) value = step(value, p[i * stride]);
    });
    return value;
}

template <class T>
T to_type(double value) {
    if constexpr (std::is_floating_point_v<T>) {
        return static_cast<T>(value);
    } else {  // saturating, NaN to 0: an out-of-range conversion is undefined
        if (!(value == value)) return 0;
        if (value <= static_cast<double>(std::numeric_limits<T>::min())) return std::numeric_limits<T>::min();
        if (value >= static_cast<double>(std::numeric_limits<T>::max())) return std::numeric_limits<T>::max();
        return static_cast<T>(value);
    }
}

template <class T>
T extreme(const Layout& layout, const T* from, bool largest) {
    using Limits = std::numeric_limits<T>;
    T start;
    if constexpr (Limits::has_infinity) start = largest ? -Limits::infinity() : Limits::infinity();
    else start = largest ? Limits::lowest() : Limits::max();
    if (largest) return fold(layout, from, start, [](T a, T b) { return a != a || a > b ? a : b; });
    return fold(layout, from, start, [](T a, T b) { return a != a || a < b ? a : b; });
}

// Integers wrap around in 64 bits.
template <class T>
T reduce_one(Reduction op, const Layout& layout, const T* from) {
    using Acc = std::conditional_t<std::is_floating_point_v<T>, T, uint64_t>;
    const auto absolute = [](T v) {
        return v < T{} ? static_cast<Acc>(Acc{} - static_cast<Acc>(v)) : static_cast<Acc>(v);
    };
    const auto number = [](Acc v) {  // a sum as a number of T's signedness
        if constexpr (std::is_signed_v<T> && !std::is_floating_point_v<T>) return static_cast<int64_t>(v);
        else return v;
    };
    const auto sum = [&] {
        return fold(layout, from, Acc{}, [](Acc a, T b) { return static_cast<Acc>(a + static_cast<Acc>(b)); });
    };
    const auto squares = [&] {
        return fold(layout, from, Acc{},
                    [](Acc a, T b) { return static_cast<Acc>(a + static_cast<Acc>(b) * static_cast<Acc>(b)); });
    };
    switch (op) {
        case Reduction::sum: return static_cast<T>(sum());
        case Reduction::mean: {
            const int64_t terms = layout.inputs_per_output;
            if constexpr (std::is_floating_point_v<T>) return sum() / static_cast<T>(terms);
            else if constexpr (std::is_signed_v<T>) return terms == 0 ? T{} : static_cast<T>(number(sum()) / terms);
            else return terms == 0 ? T{} : static_cast<T>(sum() / static_cast<uint64_t>(terms));
        }
        case Reduction::max: return extreme(layout, from, true);
        case Reduction::min: return extreme(layout, from, false);
        case Reduction::prod:
            return static_cast<T>(
                fold(layout, from, Acc{1}, [](Acc a, T b) { return static_cast<Acc>(a * static_cast<Acc>(b)); }));
        case Reduction::l1:
            return static_cast<T>(
                fold(layout, from, Acc{}, [&](Acc a, T b) { return static_cast<Acc>(a + absolute(b)); }));
        case Reduction::l2: return to_type<T>(std::sqrt(static_cast<double>(squares())));
        case Reduction::sum_square: return static_cast<T>(squares());
        case Reduction::log_sum: return to_type<T>(std::log(static_cast<double>(number(sum()))));
        case Reduction::log_sum_exp: {
            const double top = static_cast<double>(extreme(layout, from, true));
            const double shift = std::isfinite(top) ? top : 0.0;
            const double total =
                fold(layout, from, 0.0, [&](double a, T b) { return a + std::exp(static_cast<double>(b) - shift); });
            return to_type<T>(std::log(total) + shift);
        }
    }
    return T{};
}

template <class T>
void reduce_plain(const Parallel& parallel, Reduction op, const Layout& layout, const Tensor& x, Tensor& y) {
    parallel_ranges(parallel, layout.outputs, row_grain(layout.inputs_per_output, 2), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o)
            y.as<T>()[o] = reduce_one(op, layout, x.as<T>() + offset_of(layout.kept, layout.kept.size(), o));
    });
}

template <class T>
void extreme_plain(const Parallel& parallel, Reduction op, const Layout& layout, const Tensor& x, Tensor& y) {
    if (op != Reduction::max && op != Reduction::min)
        fail(ErrorKind::not_implemented, "this reduction of ", dtype_name(x.dtype));
    parallel_ranges(parallel, layout.outputs, row_grain(layout.inputs_per_output, 2), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; ++o)
            y.as<T>()[o] =
                extreme(layout, x.as<T>() + offset_of(layout.kept, layout.kept.size(), o), op == Reduction::max);
    });
}

void reduce_f32(const Parallel& parallel, Reduction op, const Layout& layout, const float* x, float* y) {
    if (layout.inputs_per_output == 0 || layout.reduced.empty()) {
        // Nothing, or single elements, to combine.
        parallel_ranges(parallel, layout.outputs, 4096, [&](int64_t begin, int64_t end) {
            for (int64_t o = begin; o < end; ++o) y[o] = reduce_one(op, layout, x + o);
        });
        return;
    }
    if (layout.axes.back().reduced) reduce_rows(parallel, op, layout, x, y);
    else reduce_columns(parallel, op, layout, x, y);
}

}  // namespace

int64_t find_extreme(int64_t n, const float* x, bool largest, bool last) {
    constexpr int64_t kBlock = 256;
    const auto op = largest ? kernels::Reduce::max : kernels::Reduce::min;
    const auto extreme = [&](int64_t first) {
        float value;
        kernels::kernels().reduce_f32(op, 1, static_cast<size_t>(std::min(kBlock, n - first)), x + first, 0, &value);
        return value;
    };
    // The block that holds it, then the place in the block.
    int64_t block = 0;
    float best = extreme(0);
    for (int64_t first = kBlock; first < n; first += kBlock)
        if (const float value = extreme(first); replaces(best, value, largest, last)) {
            best = value;
            block = first;
        }
    const auto is_best = [&](int64_t i) { return x[i] == best || (best != best && x[i] != x[i]); };
    int64_t at = last ? std::min(n, block + kBlock) - 1 : block;
    while (!is_best(at)) at += last ? -1 : 1;
    return at;
}

Shape reduced_shape(const Shape& shape, const Shape& axes, bool keep) {
    Shape out;
    for (size_t i = 0; i < shape.size(); ++i) {
        const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(i)) != axes.end();
        if (!reduced) out.push_back(shape[i]);
        else if (keep) out.push_back(1);
    }
    return out;
}

void reduce(const Parallel& parallel, Reduction op, const Tensor& x, const Shape& axes, Tensor& y) {
    if (y.count() == 0) return;
    const Layout layout = layout_of(x.shape, axes);
    switch (x.dtype) {
        case DType::f32: return reduce_f32(parallel, op, layout, x.as<float>(), y.as<float>());
        case DType::f16:
        case DType::bf16: {
            const Tensor wide = widened(parallel, x);
            Tensor out = Tensor::allocate(DType::f32, y.shape);
            reduce_f32(parallel, op, layout, wide.as<float>(), out.as<float>());
            return narrow_into(parallel, out, y);
        }
        case DType::f64: return reduce_plain<double>(parallel, op, layout, x, y);
        case DType::i32: return reduce_plain<int32_t>(parallel, op, layout, x, y);
        case DType::i64: return reduce_plain<int64_t>(parallel, op, layout, x, y);
        case DType::u32: return reduce_plain<uint32_t>(parallel, op, layout, x, y);
        case DType::u64: return reduce_plain<uint64_t>(parallel, op, layout, x, y);
        case DType::i8: return extreme_plain<int8_t>(parallel, op, layout, x, y);
        case DType::u8: return extreme_plain<uint8_t>(parallel, op, layout, x, y);
        case DType::boolean: return extreme_plain<bool>(parallel, op, layout, x, y);
        default: fail(ErrorKind::not_implemented, "a reduction of ", dtype_name(x.dtype));
    }
}

}  // namespace linnet
