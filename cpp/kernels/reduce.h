// Reductions. Sums run in blocks with several accumulators each, so that errors stay small and chains short.
#pragma once

namespace linnet::kernels::LINNET_ISA {

template <Reduce R>
LINNET_INLINE f32 reduce_start() {
    return splat(R == Reduce::max    ? -__builtin_inff()
                 : R == Reduce::min  ? __builtin_inff()
                 : R == Reduce::prod ? 1.0f
                                     : 0.0f);
}
// What one element contributes.
template <Reduce R>
LINNET_INLINE f32 reduce_in(f32 x) {
    if constexpr (R == Reduce::sum_abs) return abs(x);
    if constexpr (R == Reduce::sum_square) return x * x;
    return x;
}
// Combines two contributions.
template <Reduce R>
LINNET_INLINE f32 reduce_join(f32 a, f32 b) {
    if constexpr (R == Reduce::max) return max_or_nan(a, b);
    if constexpr (R == Reduce::min) return min_or_nan(a, b);
    if constexpr (R == Reduce::prod) return a * b;
    return a + b;
}

// Folds in(x + i, ...) over n elements: in(i, left) gives the contributions of elements i ... with `start` past the
// end.
template <Reduce R, class In>
LINNET_INLINE float reduce_loop(size_t n, In in) {
    constexpr int chains = 4;
    constexpr size_t block = 4096;
    f32 total = reduce_start<R>();
    for (size_t b = 0; b < n; b += block) {
        const size_t end = n - b < block ? n : b + block;
        f32 acc[chains];
        unroll<chains>(LINNET_LAMBDA(j) { acc[j] = reduce_start<R>(); });
        size_t i = b;
        for (; i + chains * lanes <= end; i += chains * lanes)
            unroll<chains>(LINNET_LAMBDA(j) { acc[j] = reduce_join<R>(acc[j], in(i + j * lanes, (size_t)lanes)); });
        for (; i < end; i += lanes) acc[0] = reduce_join<R>(acc[0], in(i, end - i));
        acc[0] = reduce_join<R>(reduce_join<R>(acc[0], acc[1]), reduce_join<R>(acc[2], acc[3]));
        total = reduce_join<R>(total, acc[0]);
    }
    return fold(
        total, [](f32 a, f32 b) __attribute__((always_inline)) { return reduce_join<R>(a, b); });
}

// v, but `start` in the lanes from n on.
LINNET_INLINE f32 cut(f32 v, size_t n, f32 start) {
    if (n >= (size_t)lanes) return v;
    float t[lanes];
    store(t, start);
    store_n(t, v, n);
    return load(t);
}

// y[r] of each row r. Rows do not wait for one another: the last steps of short ones overlap.
template <Reduce R>
static __attribute__((noinline)) void reduce_each(size_t rows, size_t n, const float* x, ptrdiff_t x_stride,
                                                  float* y) noexcept {
    const auto in = [&](size_t i, size_t left) __attribute__((always_inline)) {
        if (left >= (size_t)lanes) return reduce_in<R>(load(x + i));
        if constexpr (R == Reduce::max || R == Reduce::min) {  // an element may count twice
            if (i + left >= (size_t)lanes) return load(x + (i + left) - lanes);
        }
        const f32 v = reduce_in<R>(load_n(x + i, left));
        if constexpr (R == Reduce::sum || R == Reduce::sum_abs || R == Reduce::sum_square) return v;  // and zeros
        return cut(v, left, reduce_start<R>());
    };
    for (size_t r = 0; r < rows; ++r, x += x_stride) y[r] = reduce_loop<R>(n, in);
}
template <Reduce R>
LINNET_INLINE float reduce_row(size_t n, const float* x) {
    float y;
    reduce_each<R>(1, n, x, 0, &y);
    return y;
}

static void reduce_f32(Reduce op, size_t rows, size_t n, const float* x, ptrdiff_t x_stride, float* y) noexcept {
    switch (op) {
        case Reduce::sum: return reduce_each<Reduce::sum>(rows, n, x, x_stride, y);
        case Reduce::max: return reduce_each<Reduce::max>(rows, n, x, x_stride, y);
        case Reduce::min: return reduce_each<Reduce::min>(rows, n, x, x_stride, y);
        case Reduce::prod: return reduce_each<Reduce::prod>(rows, n, x, x_stride, y);
        case Reduce::sum_abs: return reduce_each<Reduce::sum_abs>(rows, n, x, x_stride, y);
        case Reduce::sum_square: return reduce_each<Reduce::sum_square>(rows, n, x, x_stride, y);
        case Reduce::count: break;
    }
}

template <Reduce R>
static __attribute__((noinline)) void reduce_columns(size_t rows, size_t cols, const float* x, ptrdiff_t x_stride,
                                                     float* y, bool accumulate) noexcept {
    constexpr size_t block = 256;  // rows summed before their sum joins the total
    const auto columns = [&](auto vectors, size_t c, size_t left) __attribute__((always_inline)) {
        constexpr int V = decltype(vectors)::value;
        f32 total[V], acc[V];
        unroll<V>(LINNET_LAMBDA(v) { total[v] = accumulate ? load_some(y + c + v * lanes, left) : reduce_start<R>(); });
        for (size_t r = 0; r < rows; r += block) {
            const size_t end = rows - r < block ? rows : r + block;
            unroll<V>(LINNET_LAMBDA(v) { acc[v] = reduce_start<R>(); });
            const float* p = x + (ptrdiff_t)r * x_stride + c;
            for (size_t i = r; i < end; ++i, p += x_stride)
                unroll<V>(LINNET_LAMBDA(v) {
                    acc[v] = reduce_join<R>(acc[v], reduce_in<R>(load_some(p + v * lanes, left)));
                });
            unroll<V>(LINNET_LAMBDA(v) { total[v] = reduce_join<R>(total[v], acc[v]); });
        }
        unroll<V>(LINNET_LAMBDA(v) { store_some(y + c + v * lanes, total[v], left); });
    };
    size_t c = 0;
    for (; c + 4 * lanes <= cols; c += 4 * lanes) columns(Int<4>{}, c, lanes);
    for (; c < cols; c += lanes) columns(Int<1>{}, c, cols - c);
}

static void reduce_rows_f32(Reduce op, size_t rows, size_t cols, const float* x, ptrdiff_t x_stride, float* y,
                            bool accumulate) noexcept {
    switch (op) {
        case Reduce::sum: return reduce_columns<Reduce::sum>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::max: return reduce_columns<Reduce::max>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::min: return reduce_columns<Reduce::min>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::prod: return reduce_columns<Reduce::prod>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::sum_abs: return reduce_columns<Reduce::sum_abs>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::sum_square: return reduce_columns<Reduce::sum_square>(rows, cols, x, x_stride, y, accumulate);
        case Reduce::count: break;
    }
}

static void weighted_rows_f32(size_t rows, size_t cols, const float* w, const float* x, ptrdiff_t x_stride,
                              float* y) noexcept {
    const auto columns = [&](auto vectors, size_t c, size_t left) __attribute__((always_inline)) {
        constexpr int V = decltype(vectors)::value;
        f32 sum[V];
        unroll<V>(LINNET_LAMBDA(v) { sum[v] = splat(0.0f); });
        const float* p = x + c;
        for (size_t r = 0; r < rows; ++r, p += x_stride) {
            const f32 weight = splat(w[r]);
            unroll<V>(LINNET_LAMBDA(v) { sum[v] = fma(load_some(p + v * lanes, left), weight, sum[v]); });
        }
        unroll<V>(LINNET_LAMBDA(v) { store_some(y + c + v * lanes, sum[v], left); });
    };
    size_t c = 0;
    for (; c + 4 * lanes <= cols; c += 4 * lanes) columns(Int<4>{}, c, lanes);
    for (; c < cols; c += lanes) columns(Int<1>{}, c, cols - c);
}

// Eight vectors of columns at a time, whose sums stay in registers.
static void running_sums_f32(size_t rows, size_t cols, const float* x, ptrdiff_t row_step, bool exclusive,
                             float* y) noexcept {
    typedef double f64 __attribute__((vector_size(sizeof(f32))));
    typedef float narrow __attribute__((vector_size(sizeof(f32) / 2)));
    constexpr size_t width = lanes / 2;
    const auto columns = [&](auto vectors, const float* from, float* to, size_t left) __attribute__((always_inline)) {
        constexpr int V = decltype(vectors)::value;
        f64 total[V];
        unroll<V>(LINNET_LAMBDA(v) { total[v] = f64{}; });
        for (size_t r = 0; r < rows; ++r, from += row_step, to += row_step)
            unroll<V>(LINNET_LAMBDA(v) {
                narrow in = {}, out;
                if (left >= width) __builtin_memcpy(&in, from + v * width, sizeof in);
                else __builtin_memcpy(&in, from, left * sizeof(float));
                const f64 before = total[v];
                total[v] += __builtin_convertvector(in, f64);
                out = __builtin_convertvector(exclusive ? before : total[v], narrow);
                if (left >= width) __builtin_memcpy(to + v * width, &out, sizeof out);
                else __builtin_memcpy(to, &out, left * sizeof(float));
            });
    };
    size_t c = 0;
    for (; c + 8 * width <= cols; c += 8 * width) columns(Int<8>{}, x + c, y + c, width);
    for (; c < cols; c += width) columns(Int<1>{}, x + c, y + c, cols - c);
}
static void extremes_i64(size_t n, const int64_t* x, int64_t* least, int64_t* largest) noexcept {
    typedef int64_t V __attribute__((vector_size(sizeof(f32))));
    constexpr size_t width = sizeof(V) / sizeof(int64_t);
    int64_t low = INT64_MAX, high = INT64_MIN;
    const auto join = [](auto v, auto& into_low, auto& into_high) __attribute__((always_inline)) {
        into_low = v < into_low ? v : into_low;
        into_high = v > into_high ? v : into_high;
    };
    size_t i = 0;
    if (n >= width) {
        V lows = V{} + low, highs = V{} + high, more_lows = lows, more_highs = highs;
        const auto at = [&](size_t place) __attribute__((always_inline)) {
            V v;
            __builtin_memcpy(&v, x + place, sizeof v);
            return v;
        };
        for (; i + 2 * width <= n; i += 2 * width) {
            join(at(i), lows, highs);
            join(at(i + width), more_lows, more_highs);
        }
        if (i + width <= n) join(at(i), lows, highs);
        join(at(n - width), lows, highs);  // elements may count twice
        lows = more_lows < lows ? more_lows : lows;
        highs = more_highs > highs ? more_highs : highs;
        for (size_t lane = 0; lane < width; ++lane) {
            low = lows[lane] < low ? lows[lane] : low;
            high = highs[lane] > high ? highs[lane] : high;
        }
        i = n;
    }
    for (; i < n; ++i) join(x[i], low, high);
    *least = low;
    *largest = high;
}

static void arg_rows_f32(bool largest, bool last, size_t rows, size_t cols, const float* x, ptrdiff_t x_stride,
                         int64_t* y) noexcept {
    if (rows == 0) return;
    const i32 turn = splat_i(largest ? 0 : INT32_MIN), late = splat_i(last ? -1 : 0);
    for (size_t c = 0; c < cols; c += lanes) {
        const size_t left = cols - c;
        const auto row = [&](size_t r) __attribute__((always_inline)) {
            return from_bits(bits(load_some(x + (ptrdiff_t)r * x_stride + c, left)) ^ turn);
        };
        f32 best = row(0);
        i32 at = splat_i(0);
        for (size_t r = 1; r < rows; ++r) {
            const f32 v = row(r);
            const i32 equals = equal(v, best) & late, nan = is_nan(v) & (late | ~is_nan(best));
            const i32 better = less(best, v) | equals | nan;
            best = select(better, v, best);
            at = select(better, splat_i((int32_t)r), at);
        }
        int32_t t[lanes];
        store_i(t, at);
        for (size_t i = 0; i < (left < (size_t)lanes ? left : (size_t)lanes); ++i) y[c + i] = t[i];
    }
}

static float sum_exp_f32(size_t n, const float* x, float shift) noexcept {
    const f32 s = splat(shift);
    return reduce_loop<Reduce::sum>(
        n, [&](size_t i, size_t left)
               __attribute__((always_inline)) { return cut(exp(load_some(x + i, left) - s), left, splat(0.0f)); });
}
static float sum_sq_dev_f32(size_t n, const float* x, float mean) noexcept {
    const f32 m = splat(mean);
    return reduce_loop<Reduce::sum>(
        n, [&](size_t i, size_t left) __attribute__((always_inline)) {
            const f32 d = load_some(x + i, left) - m;
            return cut(d * d, left, splat(0.0f));
        });
}
static float dot_f32(size_t n, const float* x, const float* y) noexcept {
    return reduce_loop<Reduce::sum>(
        n, [&](size_t i, size_t left)
               __attribute__((always_inline)) { return load_some(x + i, left) * load_some(y + i, left); });
}
static void min_max_f32(size_t n, const float* x, float* min, float* max) noexcept {
    *min = reduce_row<Reduce::min>(n, x);
    *max = reduce_row<Reduce::max>(n, x);
}

}  // namespace linnet::kernels::LINNET_ISA
