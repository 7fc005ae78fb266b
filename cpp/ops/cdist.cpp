// com.microsoft CDist (1): distances of the rows of a [m, k] to those of b [n, k], as [m, n]; float32 or float64.
// Attribute metric "sqeuclidean" or "euclidean".
#include <cmath>

#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool squared(const Attributes& attributes) {
    const std::string& metric = attributes.s("metric", "sqeuclidean");
    require(metric == "sqeuclidean" || metric == "euclidean", "metric '", metric,
            "' is none of sqeuclidean, euclidean");
    return metric == "sqeuclidean";
}

void infer(InferContext& ctx) {
    const Fact &a = tensor_input(ctx, 0), &b = tensor_input(ctx, 1);
    squared(ctx.attributes);
    for (const Fact* x : {&a, &b}) {
        require(x->dtype == DType::f32 || x->dtype == DType::f64 || x->dtype == DType::undefined, "the inputs must be ",
                "float or double, not ", dtype_name(x->dtype));
        require(x->dtype == a.dtype || x->dtype == DType::undefined, "the inputs differ in dtype");
        require(!x->ranked || x->rank() == 2, "the inputs must have rank 2, not ", x->rank());
    }
    if (a.ranked && b.ranked) same_dim(ctx.dims, a.shape[1], b.shape[1], "columns of the inputs");
    ctx.output(0, a.dtype, {a.ranked ? a.shape[0] : kUnknownDim, b.ranked ? b.shape[0] : kUnknownDim});
}

float square_of(size_t n, const float* x) { return kernels::kernels().dot_f32(n, x, x); }
double square_of(size_t n, const double* x) {
    double sum = 0;
    for (size_t i = 0; i < n; ++i) sum += x[i] * x[i];
    return sum;
}

template <class T>
void distances(RunContext& ctx) {
    const Tensor &a = ctx.input(0), &b = ctx.input(1);
    const int64_t n = b.shape[0], columns = a.shape[1];
    const bool square = squared(ctx.attributes);
    T* y = ctx.output(0).as<T>();
    parallel_ranges(ctx.parallel(), a.shape[0] * n, row_grain(columns), [&](int64_t begin, int64_t end) {
        const auto k = static_cast<size_t>(columns);
        std::vector<T> difference(k);
        for (int64_t i = begin; i < end; ++i) {
            const T *p = a.as<T>() + i / n * columns, *q = b.as<T>() + i % n * columns;
            for (size_t c = 0; c < k; ++c) difference[c] = p[c] - q[c];
            const T sum = square_of(k, difference.data());
            y[i] = square ? sum : std::sqrt(sum);
        }
    });
}

void run(RunContext& ctx) {
    if (ctx.input(0).dtype == DType::f64) distances<double>(ctx);
    else distances<float>(ctx);
}

}  // namespace

std::span<const OpDef> cdist_ops() {
    static const OpDef rows[] = {
        {.name = "CDist", .domain = "com.microsoft", .infer = infer, .run = run, .min_inputs = 2, .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
