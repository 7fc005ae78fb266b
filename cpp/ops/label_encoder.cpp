// ai.onnx.ml: LabelEncoder (1: between strings and their positions; 2: keys to values; 4: also as tensors),
// CategoryMapper and OneHotEncoder (1).
#include <algorithm>
#include <cmath>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/keys.h"

namespace linnet {
namespace {

// What is looked up, what is found, and what stands for everything else.
struct Table {
    Tensor keys, values, absent;  // [n], [n], one
};

struct State {
    Keys keys;
    Tensor values, absent;
};

Tensor positions(int64_t n) {
    Tensor t = Tensor::allocate(DType::i64, {n});
    for (int64_t i = 0; i < n; ++i) t.as<int64_t>()[i] = i;
    return t;
}

// The list that is given of `prefix`_strings, _int64s, _floats, _tensor.
Tensor list(const Attributes& attributes, const std::string& prefix) {
    Tensor found;
    int given = 0;
    auto take = [&](Tensor tensor) {
        if (tensor.count() == 0) return;
        found = std::move(tensor);
        ++given;
    };
    if (const Tensor* tensor = attributes.t(prefix + "_tensor")) take(*tensor);
    take(string_tensor(attributes.strings(prefix + "_strings")));
    take(Tensor::vector(attributes.ints(prefix + "_int64s")));
    take(Tensor::vector(attributes.floats(prefix + "_floats")));
    require(given == 1, given, " lists of ", prefix, " are given, expected one");
    require(found.rank() == 1, prefix, "_tensor must have rank 1, not ", found.rank());
    return found;
}

Tensor default_of(const Attributes& attributes, DType dtype) {
    if (const Tensor* tensor = attributes.t("default_tensor"); tensor && tensor->count() > 0) {
        require(tensor->count() == 1 && tensor->dtype == dtype, "default_tensor must be one ", dtype_name(dtype));
        return *tensor;
    }
    switch (dtype) {
        case DType::string: {
            Tensor text = string_tensor({attributes.s("default_string", "_Unused")});
            text.shape = {};
            return text;
        }
        case DType::i64: return Tensor::scalar(attributes.i("default_int64", -1));
        case DType::f32: return Tensor::scalar(attributes.f("default_float", -0.0f));
        case DType::f64: return Tensor::scalar(-0.0);
        case DType::i32: return Tensor::scalar(int32_t{-1});
        case DType::i16: return Tensor::scalar(int16_t{-1});
        default: fail(ErrorKind::invalid_graph, "values of ", dtype_name(dtype), " are not possible");
    }
}

Table encoder_table(const Attributes& attributes, DType) {
    Table table{list(attributes, "keys"), list(attributes, "values"), {}};
    require(table.keys.count() == table.values.count(), table.keys.count(), " keys for ", table.values.count(),
            " values");
    table.absent = default_of(attributes, table.values.dtype);
    return table;
}

// Strings to integers, or back, by two lists.
Table both_ways(const Attributes& attributes, DType input, Tensor strings, Tensor ints) {
    require(strings.count() == ints.count(), strings.count(), " strings for ", ints.count(), " integers");
    if (input == DType::string) return {std::move(strings), std::move(ints), default_of(attributes, DType::i64)};
    return {std::move(ints), std::move(strings), default_of(attributes, DType::string)};
}

Table classes_table(const Attributes& attributes, DType input) {
    Tensor strings = string_tensor(attributes.strings("classes_strings"));
    const int64_t count = strings.count();
    return both_ways(attributes, input, std::move(strings), positions(count));
}

Table mapper_table(const Attributes& attributes, DType input) {
    return both_ways(attributes, input, string_tensor(attributes.strings("cats_strings")),
                     Tensor::vector(attributes.ints("cats_int64s")));
}

using MakeTable = Table (*)(const Attributes&, DType);

template <MakeTable make>
void infer_table(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    if (x.dtype == DType::undefined) return ctx.output(0, x);
    const Table table = make(ctx.attributes, x.dtype);
    require(table.keys.dtype == x.dtype, "the input is ", dtype_name(x.dtype), ", the keys are ",
            dtype_name(table.keys.dtype));
    if (x.ranked) ctx.output(0, table.values.dtype, x.shape);
    else ctx.output_unranked(0, table.values.dtype);
}

template <MakeTable make>
std::shared_ptr<const void> prepare_table(PrepareContext& ctx) {
    Table table = make(ctx.attributes, ctx.input(0).dtype);
    return std::make_shared<State>(State{Keys(table.keys), std::move(table.values), std::move(table.absent)});
}

void run_table(RunContext& ctx) {
    const State& state = *ctx.state<State>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    parallel_ranges(ctx.parallel(), x.count(), 1024, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const int64_t at = state.keys.find(x, i);
            copy_run(y.dtype, 1, at < 0 ? state.absent.data : element(state.values.data, y.dtype, at),
                     element(y.data, y.dtype, i));
        }
    });
}

// ---- OneHotEncoder -------------------------------------------------------------------------------------------------
Tensor categories(const Attributes& attributes) {
    Tensor strings = string_tensor(attributes.strings("cats_strings"));
    Tensor ints = Tensor::vector(attributes.ints("cats_int64s"));
    require((strings.count() == 0) != (ints.count() == 0), "one of cats_strings and cats_int64s must be given");
    return strings.count() ? strings : ints;
}

void infer_one_hot(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    const Tensor cats = categories(ctx.attributes);
    require(x.dtype == DType::undefined || (x.dtype == DType::string) == (cats.dtype == DType::string), "the input is ",
            dtype_name(x.dtype), ", the categories are ", dtype_name(cats.dtype));
    if (!x.ranked) return ctx.output_unranked(0, DType::f32);
    Shape shape = x.shape;
    shape.push_back(cats.count());
    ctx.output(0, DType::f32, shape);
}

struct OneHotState {
    Keys keys;
    int64_t count;
};

std::shared_ptr<const void> prepare_one_hot(PrepareContext& ctx) {
    const Tensor cats = categories(ctx.attributes);
    return std::make_shared<OneHotState>(OneHotState{Keys(cats), cats.count()});
}

// Floats count as the integer they are cut to.
int64_t category(const Keys& keys, const Tensor& x, int64_t i) {
    if (!Keys::is_float(x.dtype)) return keys.find(x, i);
    const double value = std::trunc(double_at(x, i));
    return value >= -9.2e18 && value <= 9.2e18 ? keys.find(static_cast<int64_t>(value)) : -1;
}

void run_one_hot(RunContext& ctx) {
    const auto& state = *ctx.state<OneHotState>();
    const Tensor& x = ctx.input(0);
    float* y = ctx.output(0).as<float>();
    const bool zeros = ctx.attributes.i("zeros", 1) != 0;
    parallel_ranges(ctx.parallel(), x.count(), 1024, [&](int64_t begin, int64_t end) {
        std::fill_n(y + begin * state.count, (end - begin) * state.count, 0.0f);
        for (int64_t i = begin; i < end; ++i) {
            const int64_t at = category(state.keys, x, i);
            if (at >= 0) y[i * state.count + at] = 1.0f;
            else if (!zeros) fail(ErrorKind::invalid_argument, "element ", i, " is none of the categories");
        }
    });
}

}  // namespace

std::span<const OpDef> label_encoder_ops() {
    static const OpDef rows[] = {
        {.name = "LabelEncoder",
         .domain = "ai.onnx.ml",
         .infer = infer_table<classes_table>,
         .run = run_table,
         .prepare = prepare_table<classes_table>,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "LabelEncoder",
         .domain = "ai.onnx.ml",
         .since = 2,
         .infer = infer_table<encoder_table>,
         .run = run_table,
         .prepare = prepare_table<encoder_table>,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "CategoryMapper",
         .domain = "ai.onnx.ml",
         .infer = infer_table<mapper_table>,
         .run = run_table,
         .prepare = prepare_table<mapper_table>,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "OneHotEncoder",
         .domain = "ai.onnx.ml",
         .infer = infer_one_hot,
         .run = run_one_hot,
         .prepare = prepare_one_hot,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
