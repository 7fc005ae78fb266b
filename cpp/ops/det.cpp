// Det (11, 22): the determinant of the last two axes, a square; by LU decomposition with row exchanges, in double.
// com.microsoft Inverse (1): its inverse, by Gauss-Jordan elimination, in double too.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/half.h"
#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_det(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    require(x.rank() >= 2, "x has rank ", x.rank(), ", expected at least 2");
    const size_t rank = x.shape.size();
    same_dim(ctx.dims, x.shape[rank - 2], x.shape[rank - 1], "rows against columns of a square");
    ctx.output(0, x.dtype, Shape(x.shape.begin(), x.shape.end() - 2));
}

// Destroys a.
double determinant(std::vector<double>& a, size_t n, const StopSignal* stop) {
    double det = 1;
    for (size_t i = 0; i < n; ++i) {
        if (stop) stop->check();
        size_t pivot = i;
        for (size_t r = i + 1; r < n; ++r)
            if (std::fabs(a[r * n + i]) > std::fabs(a[pivot * n + i])) pivot = r;
        if (a[pivot * n + i] == 0) return 0;
        if (pivot != i) {
            for (size_t c = i; c < n; ++c) std::swap(a[i * n + c], a[pivot * n + c]);
            det = -det;
        }
        det *= a[i * n + i];
        for (size_t r = i + 1; r < n; ++r) {
            const double factor = a[r * n + i] / a[i * n + i];
            for (size_t c = i + 1; c < n; ++c) a[r * n + c] -= factor * a[i * n + c];
        }
    }
    return det;
}

// Destroys a; what there is no inverse of becomes infinite or NaN.
void invert(std::vector<double>& a, std::vector<double>& inverse, size_t n, const StopSignal* stop) {
    inverse.assign(n * n, 0);
    for (size_t i = 0; i < n; ++i) inverse[i * n + i] = 1;
    for (size_t i = 0; i < n; ++i) {
        if (stop) stop->check();
        size_t pivot = i;
        for (size_t r = i + 1; r < n; ++r)
            if (std::fabs(a[r * n + i]) > std::fabs(a[pivot * n + i])) pivot = r;
        for (std::vector<double>* m : {&a, &inverse}) {
            const auto at = [&](size_t row) { return m->begin() + static_cast<std::ptrdiff_t>(row * n); };
            if (pivot != i) std::swap_ranges(at(i), at(i + 1), at(pivot));
        }
        const double scale = 1 / a[i * n + i];
        for (size_t c = 0; c < n; ++c) {
            a[i * n + c] *= scale;
            inverse[i * n + c] *= scale;
        }
        for (size_t r = 0; r < n; ++r) {
            const double factor = a[r * n + i];
            if (r == i || factor == 0) continue;
            for (size_t c = 0; c < n; ++c) {
                a[r * n + c] -= factor * a[i * n + c];
                inverse[r * n + c] -= factor * inverse[i * n + c];
            }
        }
    }
}

void infer_inverse(InferContext& ctx) {
    infer_float_like_input(ctx);
    const Fact& x = ctx.input(0);
    if (!x.ranked) return;
    require(x.rank() >= 2, "x has rank ", x.rank(), ", expected at least 2");
    same_dim(ctx.dims, x.shape.end()[-2], x.shape.back(), "rows against columns of a square");
}

void run_inverse(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t n = x.shape.back(), size = n * n;
    parallel_for(ctx.parallel(), size == 0 ? 0 : x.count() / size, [&](int64_t b) {
        std::vector<double> a(static_cast<size_t>(size)), inverse;
        for (int64_t i = 0; i < size; ++i) a[static_cast<size_t>(i)] = double_at(x, b * size + i);
        invert(a, inverse, static_cast<size_t>(n), ctx.parallel().stop);
        for (int64_t i = 0; i < size; ++i) {
            const double value = inverse[static_cast<size_t>(i)];
            if (y.dtype == DType::f64) y.as<double>()[b * size + i] = value;
            else if (y.dtype == DType::f32) y.as<float>()[b * size + i] = static_cast<float>(value);
            else if (y.dtype == DType::f16) y.as<Half>()[b * size + i] = to_half(static_cast<float>(value));
            else y.as<BFloat16>()[b * size + i] = to_bfloat16(static_cast<float>(value));
        }
    });
}

void run_det(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_det);
    const Tensor& x = ctx.input(0);
    const int64_t n = x.shape.back(), batch = ctx.output(0).count();
    for_float(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        parallel_ranges(ctx.parallel(), batch, row_grain(n * n, n), [&](int64_t begin, int64_t end) {
            std::vector<double> a;
            for (int64_t b = begin; b < end; ++b) {
                a.assign(x.as<T>() + b * n * n, x.as<T>() + (b + 1) * n * n);
                ctx.output(0).as<T>()[b] = static_cast<T>(determinant(a, static_cast<size_t>(n), ctx.parallel().stop));
            }
        });
    });
}

}  // namespace

std::span<const OpDef> det_ops() {
    static const OpDef rows[] = {
        {.name = "Det",
         .since = 11,
         .infer = infer_det,
         .run = run_det,
         .lower = lower_widened,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Inverse",
         .domain = "com.microsoft",
         .infer = infer_inverse,
         .run = run_inverse,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
