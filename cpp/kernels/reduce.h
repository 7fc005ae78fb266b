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

template <Reduce R>
static __attribute__((noinline)) float reduce_row(size_t n, const float* x) noexcept {
    return reduce_loop<R>(
        n, [&](size_t i, size_t left) __attribute__((always_inline)) {
            if (left >= (size_t)lanes) return reduce_in<R>(load(x + i));
            if constexpr (R == Reduce::max || R == Reduce::min) {  // an element may count twice
                if (i + left >= (size_t)lanes) return load(x + (i + left) - lanes);
            }
            const f32 v = reduce_in<R>(load_n(x + i, left));
            if constexpr (R == Reduce::sum || R == Reduce::sum_abs || R == Reduce::sum_square) return v;  // and zeros
            return cut(v, left, reduce_start<R>());
        });
}

static float reduce_f32(Reduce op, size_t n, const float* x) noexcept {
    switch (op) {
        case Reduce::sum: return reduce_row<Reduce::sum>(n, x);
        case Reduce::max: return reduce_row<Reduce::max>(n, x);
        case Reduce::min: return reduce_row<Reduce::min>(n, x);
        case Reduce::prod: return reduce_row<Reduce::prod>(n, x);
        case Reduce::sum_abs: return reduce_row<Reduce::sum_abs>(n, x);
        case Reduce::sum_square: return reduce_row<Reduce::sum_square>(n, x);
        case Reduce::count: break;
    }
    return 0;
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

template <bool exclusive>
LINNET_INLINE void running_sums(size_t rows, size_t cols, const float* x, ptrdiff_t row_step, float* y) {
    constexpr size_t block = 64;
    for (size_t c = 0; c < cols; c += block) {
        const size_t width = cols - c < block ? cols - c : block;
        double total[block] = {};
        float in[block] = {}, out[block];
        for (size_t r = 0; r < rows; ++r) {
            const ptrdiff_t at = (ptrdiff_t)r * row_step + (ptrdiff_t)c;
            if (width == block) __builtin_memcpy(in, x + at, sizeof in);
            else __builtin_memcpy(in, x + at, width * sizeof(float));
            for (size_t i = 0; i < block; ++i) {
                if constexpr (exclusive) out[i] = (float)total[i];
                total[i] += in[i];
                if constexpr (!exclusive) out[i] = (float)total[i];
            }
            if (width == block) __builtin_memcpy(y + at, out, sizeof out);
            else __builtin_memcpy(y + at, out, width * sizeof(float));
        }
    }
}
static void running_sums_f32(size_t rows, size_t cols, const float* x, ptrdiff_t row_step, bool exclusive,
                             float* y) noexcept {
    if (exclusive) running_sums<true>(rows, cols, x, row_step, y);
    else running_sums<false>(rows, cols, x, row_step, y);
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
