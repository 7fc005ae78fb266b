// ai.onnx.ml: ZipMap, DictVectorizer and CastMap (1), between tensors and maps.
#include <algorithm>
#include <locale>
#include <optional>
#include <sstream>

#include "ops/convert.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/keys.h"
#include "ops/shared/ml.h"

namespace linnet {
namespace {

const std::vector<Value>& map_input(const RunContext& ctx) {
    if (ctx.value(0).kind != Value::Kind::map) fail(ErrorKind::invalid_argument, "the input must be a map");
    const auto& items = *ctx.value(0).items;
    if (items.size() != 2 || items[0].tensor.count() != items[1].tensor.count())
        fail(ErrorKind::invalid_argument, "a map must have as many keys as values");
    return items;
}

void require_map(const InferContext& ctx) {
    const Fact& x = ctx.input(0);
    require(x.kind == Value::Kind::map || (x.kind == Value::Kind::tensor && x.dtype == DType::undefined),
            "the input must be a map");
}

// ---- ZipMap: each row becomes a map from labels to its scores ------------------------------------------------------
Tensor zip_labels(const Attributes& attributes) {
    const ClassLabels labels = class_labels(attributes, "classlabels_int64s", "classlabels_strings");
    require(labels.count() > 0, "classlabels_int64s or classlabels_strings must be given");
    return labels.text() ? string_tensor(labels.strings) : Tensor::vector(labels.ints);
}

void infer_zip_map(InferContext& ctx) {
    int64_t rows;
    const Fact& x = features_input(ctx, rows);
    require(x.dtype == DType::f32 || x.dtype == DType::undefined, "the input must be float, not ", dtype_name(x.dtype));
    const Tensor keys = zip_labels(ctx.attributes);
    const int64_t labels = keys.count();
    if (x.ranked && is_number(x.shape.back()) && x.shape.back() != labels)
        fail(ErrorKind::invalid_argument, "the input has ", x.shape.back(), " columns for ", labels, " labels");
    Fact fact = Fact::unranked(DType::f32);
    fact.kind = Value::Kind::sequence;
    fact.map_key = keys.dtype;
    ctx.output(0, fact);
}

void run_zip_map(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const Tensor labels = zip_labels(ctx.attributes);
    const FeatureRows view = feature_rows(x.shape);
    if (view.columns != labels.count())
        fail(ErrorKind::invalid_argument, "the input has ", view.columns, " columns for ", labels.count(), " labels");
    std::vector<Value> maps;
    for (int64_t r = 0; r < view.rows; ++r) {
        Tensor values = Tensor::allocate(DType::f32, {view.columns});
        std::copy_n(x.as<float>() + r * view.columns, view.columns, values.as<float>());
        maps.push_back(Value::map(labels, std::move(values)));
    }
    ctx.set_value(0, Value::sequence(std::move(maps)));
}

// ---- DictVectorizer: the values of the vocabulary's keys, in its order ----------------------------------------------
Tensor vocabulary(const Attributes& attributes) {
    Tensor strings = string_tensor(attributes.strings("string_vocabulary"));
    Tensor ints = Tensor::vector(attributes.ints("int64_vocabulary"));
    require((strings.count() == 0) != (ints.count() == 0),
            "one of string_vocabulary and int64_vocabulary must be given");
    return strings.count() ? strings : ints;
}

void infer_dict_vectorizer(InferContext& ctx) {
    require_map(ctx);
    ctx.output(0, ctx.input(0).dtype, {1, vocabulary(ctx.attributes).count()});
}

void run_dict_vectorizer(RunContext& ctx) {
    const auto& map = map_input(ctx);
    const Tensor &keys = map[0].tensor, &values = map[1].tensor, words = vocabulary(ctx.attributes);
    if (keys.dtype != words.dtype)
        fail(ErrorKind::invalid_argument, "the map's keys are ", dtype_name(keys.dtype), ", the vocabulary is ",
             dtype_name(words.dtype));
    const Keys index(keys);
    Tensor& y = ctx.allocate(0, values.dtype, {1, words.count()});
    for (int64_t i = 0; i < words.count(); ++i) {
        const int64_t at = index.find(words, i);
        if (at >= 0) copy_run(y.dtype, 1, element(values.data, y.dtype, at), element(y.data, y.dtype, i));
        else if (y.dtype != DType::string)
            std::fill_n(static_cast<char*>(element(y.data, y.dtype, i)), dtype_size(y.dtype), char(0));
    }
}

// ---- CastMap: a map's values by their integer keys -----------------------------------------------------------------
DType cast_dtype(const Attributes& attributes) {
    const std::string& to = attributes.s("cast_to", "TO_FLOAT");
    require(to == "TO_FLOAT" || to == "TO_STRING" || to == "TO_INT64", "cast_to '", to,
            "' is none of TO_FLOAT, TO_STRING, TO_INT64");
    return to == "TO_FLOAT" ? DType::f32 : to == "TO_STRING" ? DType::string : DType::i64;
}

// The width of a sparse map's row, nothing for a dense one.
std::optional<int64_t> sparse_width(const Attributes& attributes) {
    const std::string& form = attributes.s("map_form", "DENSE");
    require(form == "DENSE" || form == "SPARSE", "map_form '", form, "' is neither DENSE nor SPARSE");
    if (form == "DENSE") return std::nullopt;
    const int64_t width = attributes.i("max_map", 1);
    require(width > 0, "max_map is ", width);
    return width;
}

void infer_cast_map(InferContext& ctx) {
    require_map(ctx);
    ctx.output(0, cast_dtype(ctx.attributes), {1, sparse_width(ctx.attributes).value_or(kUnknownDim)});
}

void cast_value(const Tensor& values, int64_t from, Tensor& y, int64_t to) {
    if (values.dtype == y.dtype) {
        copy_run(y.dtype, 1, element(values.data, y.dtype, from), element(y.data, y.dtype, to));
    } else if (y.dtype == DType::string) {
        y.as<std::string>()[to] = cat(double_at(values, from));
    } else if (values.dtype == DType::string) {
        const std::string& text = values.as<std::string>()[from];
        std::istringstream in(text);
        in.imbue(std::locale::classic());
        double number = 0;
        if (!(in >> number) || in.peek() != std::istringstream::traits_type::eof())
            fail(ErrorKind::invalid_argument, "'", text, "' is no number");
        convert_elements(DType::f64, &number, y.dtype, element(y.data, y.dtype, to), 1, {}, {});
    } else {
        convert_elements(values.dtype, element(values.data, values.dtype, from), y.dtype, element(y.data, y.dtype, to),
                         1, {}, {});
    }
}

void run_cast_map(RunContext& ctx) {
    const auto& map = map_input(ctx);
    const Tensor &keys = map[0].tensor, &values = map[1].tensor;
    if (keys.dtype != DType::i64)
        fail(ErrorKind::invalid_argument, "the map's keys must be int64, not ", dtype_name(keys.dtype));
    std::vector<std::pair<int64_t, int64_t>> order;  // key, place
    for (int64_t i = 0; i < keys.count(); ++i) order.emplace_back(keys.as<int64_t>()[i], i);
    std::sort(order.begin(), order.end());
    const auto width = sparse_width(ctx.attributes);
    Tensor& y = ctx.allocate(0, cast_dtype(ctx.attributes), {1, width.value_or(keys.count())});
    if (y.dtype != DType::string) std::fill_n(static_cast<char*>(y.data), y.bytes(), char(0));
    int64_t next = 0;
    for (const auto& [key, place] : order) {
        if (width && key < 0) fail(ErrorKind::invalid_argument, "key ", key, " of a sparse map is negative");
        const int64_t to = width ? key : next++;
        if (to < y.shape[1]) cast_value(values, place, y, to);
    }
}

}  // namespace

std::span<const OpDef> dictionaries_ops() {
    static const OpDef rows[] = {
        {.name = "ZipMap",
         .domain = "ai.onnx.ml",
         .infer = infer_zip_map,
         .run = run_zip_map,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "DictVectorizer",
         .domain = "ai.onnx.ml",
         .infer = infer_dict_vectorizer,
         .run = run_dict_vectorizer,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "CastMap",
         .domain = "ai.onnx.ml",
         .infer = infer_cast_map,
         .run = run_cast_map,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
