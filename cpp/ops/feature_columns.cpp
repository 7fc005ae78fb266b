// ai.onnx.ml: ArrayFeatureExtractor and FeatureVectorizer (1), which choose and join columns of features.
#include <algorithm>

#include "ops/convert.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// ---- ArrayFeatureExtractor: elements of the last axis --------------------------------------------------------------
void infer_extractor(InferContext& ctx) {
    const Fact &x = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1);
    require(indices.dtype == DType::i64 || indices.dtype == DType::undefined, "indices must be int64, not ",
            dtype_name(indices.dtype));
    if (!x.ranked) return ctx.output_unranked(0, x.dtype);
    require(x.rank() >= 1, "the input must have rank 1 or more");
    const int64_t count = indices.ranked ? product_of(ctx.dims, indices.shape, 0, indices.shape.size()) : kUnknownDim;
    require(!is_number(count) || count > 0, "there are no indices");
    Shape shape(x.shape.begin(), x.shape.end() - 1);
    if (shape.empty()) shape.push_back(1);
    shape.push_back(count);
    ctx.output(0, x.dtype, shape);
}

void run_extractor(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    const int64_t columns = x.shape.back(), count = indices.count();
    for (int64_t i = 0; i < count; ++i)
        if (const int64_t at = indices.as<int64_t>()[i]; at < 0 || at >= columns)
            fail(ErrorKind::invalid_argument, "index ", at, " is outside [0, ", columns, ")");
    if (x.count() == 0) return;
    parallel_ranges(ctx.parallel(), x.count() / columns, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, count)),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t r = begin; r < end; ++r)
                            for (int64_t i = 0; i < count; ++i)
                                copy_run(x.dtype, 1, element(x.data, x.dtype, r * columns + indices.as<int64_t>()[i]),
                                         element(y.data, x.dtype, r * count + i));
                    });
}

// ---- FeatureVectorizer: inputs side by side, each cut or filled with zeros to its width -----------------------------
void infer_vectorizer(InferContext& ctx) {
    const auto widths = ctx.attributes.ints("inputdimensions");
    require(ctx.inputs() == static_cast<int>(widths.size()), "inputdimensions has ", widths.size(), " elements for ",
            ctx.inputs(), " inputs");
    int64_t rows = kUnknownDim, columns = 0;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Fact& x = tensor_input(ctx, i);
        const int64_t width = widths[static_cast<size_t>(i)];
        require(width >= 0, "inputdimensions has ", width);
        columns = checked_add(columns, width);
        require(!x.ranked || x.rank() == 1 || x.rank() == 2, "input ", i, " must have rank 1 or 2, not ", x.rank());
        require(x.dtype != DType::string, "input ", i, " must be numbers");
        if (x.ranked) {
            const int64_t own = x.rank() == 1 ? 1 : x.shape[0];
            rows = i == 0 ? own : same_dim(ctx.dims, rows, own, "rows of the inputs");
        }
    }
    ctx.output(0, DType::f32, {rows, columns});
}

void run_vectorizer(RunContext& ctx) {
    Tensor& y = ctx.output(0);
    const auto widths = ctx.attributes.ints("inputdimensions");
    const int64_t all = y.shape[1];
    std::fill_n(y.as<float>(), y.count(), 0.0f);
    int64_t first = 0;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Tensor& x = ctx.input(i);
        const int64_t own = x.shape.back(), width = widths[static_cast<size_t>(i)];
        for (int64_t r = 0; r < y.shape[0] && own > 0; ++r)
            load_f32(x.dtype, x.data, r * own, static_cast<size_t>(std::min(own, width)),
                     y.as<float>() + r * all + first);
        first += width;
    }
}

}  // namespace

std::span<const OpDef> feature_columns_ops() {
    static const OpDef rows[] = {
        {.name = "ArrayFeatureExtractor",
         .domain = "ai.onnx.ml",
         .infer = infer_extractor,
         .run = run_extractor,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "FeatureVectorizer",
         .domain = "ai.onnx.ml",
         .infer = infer_vectorizer,
         .run = run_vectorizer,
         .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
