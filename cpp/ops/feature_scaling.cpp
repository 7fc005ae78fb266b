// ai.onnx.ml: Scaler, Normalizer, Imputer and Binarizer (1), which rework features one by one or row by row.
#include <algorithm>
#include <cmath>

#include "ops/shared/facts.h"
#include "ops/shared/ml.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

// The last axis holds the features; -1 where it is not known.
int64_t features_of(const Fact& x) {
    if (!x.ranked) return -1;
    require(x.rank() >= 1, "the input must have a feature axis");
    return is_number(x.shape.back()) ? x.shape.back() : -1;
}

const Fact& number_input(const InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::f32 || x.dtype == DType::f64 || x.dtype == DType::i64 || x.dtype == DType::i32 ||
                x.dtype == DType::undefined,
            "the input must be float, double, int64 or int32, not ", dtype_name(x.dtype));
    return x;
}

void output_like(InferContext& ctx, DType dtype) {
    const Fact& x = ctx.input(0);
    if (x.ranked) ctx.output(0, dtype, x.shape);
    else ctx.output_unranked(0, dtype);
}

// A list with one element for all features or one for each.
void check_length(const char* name, size_t given, int64_t features) {
    require(given >= 1, name, " is empty");
    if (given != 1 && features >= 0 && static_cast<int64_t>(given) != features)
        fail(ErrorKind::invalid_argument, name, " has ", given, " elements, expected 1 or the ", features, " features");
}

// ---- Scaler: (x - offset) * scale ----------------------------------------------------------------------------------
void infer_scaler(InferContext& ctx) {
    const Fact& x = number_input(ctx);
    const auto scale = ctx.attributes.floats("scale"), offset = ctx.attributes.floats("offset");
    require(scale.size() == offset.size(), "scale has ", scale.size(), " elements, offset ", offset.size());
    check_length("scale", scale.size(), features_of(x));
    output_like(ctx, DType::f32);
}

void run_scaler(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const auto scale = ctx.attributes.floats("scale"), offset = ctx.attributes.floats("offset");
    const int64_t columns = x.shape.back(), each = scale.size() == 1 ? 0 : 1;
    float* y = ctx.output(0).as<float>();
    if (x.count() == 0) return;
    for_number(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        // float64 stays so until the end; integers are computed as float32.
        using Wide = std::conditional_t<std::is_same_v<T, double>, double, float>;
        const T* from = x.as<T>();
        parallel_ranges(ctx.parallel(), x.count() / columns, row_grain(columns, 2), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r)
                for (int64_t c = 0; c < columns; ++c) {
                    const auto at = static_cast<size_t>(c * each);
                    y[r * columns + c] = static_cast<float>((static_cast<Wide>(from[r * columns + c]) - offset[at]) *
                                                            static_cast<Wide>(scale[at]));
                }
        });
    });
}

// ---- Normalizer: rows divided by their maximum, sum of magnitudes or length ----------------------------------------
void infer_normalizer(InferContext& ctx) {
    number_input(ctx);
    int64_t rows;
    features_input(ctx, rows);
    const std::string& norm = ctx.attributes.s("norm", "MAX");
    require(norm == "MAX" || norm == "L1" || norm == "L2", "norm '", norm, "' is none of MAX, L1, L2");
    output_like(ctx, DType::f32);
}

void run_normalizer(RunContext& ctx) {
    const Tensor x = as_f32(ctx.parallel(), ctx.input(0));
    const FeatureRows view = feature_rows(x.shape);
    const std::string& norm = ctx.attributes.s("norm", "MAX");
    if (x.count() == 0) return;
    parallel_ranges(ctx.parallel(), view.rows, row_grain(view.columns, 2), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
            const float* from = x.as<float>() + r * view.columns;
            float* to = ctx.output(0).as<float>() + r * view.columns;
            float size = norm == "MAX" ? from[0] : 0.0f;
            for (int64_t c = 0; c < view.columns; ++c) {
                if (norm == "MAX") size = std::max(size, from[c]);
                else size += norm == "L1" ? std::fabs(from[c]) : from[c] * from[c];
            }
            if (norm == "L2") size = std::sqrt(size);
            if (size == 0) size = 1;
            for (int64_t c = 0; c < view.columns; ++c) to[c] = from[c] / size;
        }
    });
}

// ---- Imputer: one value replaced by another ------------------------------------------------------------------------
bool imputes_ints(DType dtype) { return dtype == DType::i64 || dtype == DType::i32; }

void infer_imputer(InferContext& ctx) {
    const Fact& x = number_input(ctx);
    const auto floats = ctx.attributes.floats("imputed_value_floats");
    const auto ints = ctx.attributes.ints("imputed_value_int64s");
    require(floats.empty() || ints.empty(), "imputed_value_floats and imputed_value_int64s must not both be given");
    if (x.dtype != DType::undefined)
        check_length(imputes_ints(x.dtype) ? "imputed_value_int64s" : "imputed_value_floats",
                     imputes_ints(x.dtype) ? ints.size() : floats.size(), features_of(x));
    output_like(ctx, x.dtype);
}

template <class T, class From>
void impute(const RunContext& ctx, const std::vector<From>& values, From replaced) {
    const Tensor& x = ctx.input(0);
    const int64_t columns = x.shape.back(), each = values.size() == 1 ? 0 : 1;
    const T* from = x.as<T>();
    T* to = ctx.output(0).as<T>();
    const T old = static_cast<T>(replaced);
    parallel_ranges(ctx.parallel(), x.count() / columns, row_grain(columns, 2), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
            for (int64_t c = 0; c < columns; ++c) {
                const T value = from[r * columns + c];
                const bool hit = value == old || (value != value && old != old);  // NaN for NaN
                to[r * columns + c] = hit ? static_cast<T>(values[static_cast<size_t>(c * each)]) : value;
            }
    });
}

void run_imputer(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    if (imputes_ints(x.dtype)) {
        const auto values = ctx.attributes.ints("imputed_value_int64s");
        const int64_t replaced = ctx.attributes.i("replaced_value_int64", 0);
        return x.dtype == DType::i64 ? impute<int64_t>(ctx, values, replaced) : impute<int32_t>(ctx, values, replaced);
    }
    const auto values = ctx.attributes.floats("imputed_value_floats");
    const float replaced = ctx.attributes.f("replaced_value_float", 0.0f);
    return x.dtype == DType::f32 ? impute<float>(ctx, values, replaced) : impute<double>(ctx, values, replaced);
}

// ---- Binarizer: 1 where x > threshold ------------------------------------------------------------------------------
void infer_binarizer(InferContext& ctx) { output_like(ctx, number_input(ctx).dtype); }

void run_binarizer(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const float threshold = ctx.attributes.f("threshold", 0.0f);
    for_number(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const T* from = x.as<T>();
        T* to = ctx.output(0).as<T>();
        parallel_ranges(ctx.parallel(), x.count(), 32768, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i)
                to[i] = static_cast<double>(from[i]) > static_cast<double>(threshold) ? T(1) : T(0);
        });
    });
}

}  // namespace

std::span<const OpDef> feature_scaling_ops() {
    static const OpDef rows[] = {
        {.name = "Scaler",
         .domain = "ai.onnx.ml",
         .infer = infer_scaler,
         .run = run_scaler,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Normalizer",
         .domain = "ai.onnx.ml",
         .infer = infer_normalizer,
         .run = run_normalizer,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Imputer",
         .domain = "ai.onnx.ml",
         .infer = infer_imputer,
         .run = run_imputer,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Binarizer",
         .domain = "ai.onnx.ml",
         .infer = infer_binarizer,
         .run = run_binarizer,
         .flags = kInPlace | kElementwise,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
