// Constant (1: value; 11: sparse_value; 12: value_float(s), value_int(s), value_string(s); ... 25) and ConstantOfShape
// (9 ... 25).
#include <algorithm>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

Tensor constant_of(const Attributes& attributes) {
    // A sparse value arrives dense.
    for (const char* name : {"value", "sparse_value"})
        if (const Tensor* tensor = attributes.t(name)) return *tensor;
    if (attributes.has("value_float")) return Tensor::scalar(attributes.f("value_float", 0));
    if (attributes.has("value_int")) return Tensor::scalar(attributes.i("value_int", 0));
    if (attributes.has("value_floats")) return Tensor::vector(attributes.floats("value_floats"));
    if (attributes.has("value_ints")) return Tensor::vector(attributes.ints("value_ints"));
    const bool list = attributes.has("value_strings");
    require(list || attributes.has("value_string"), "no attribute holds the value");
    std::vector<std::string> strings;
    if (list) strings = attributes.strings("value_strings");
    else strings.push_back(attributes.s("value_string", ""));
    Tensor tensor = Tensor::allocate(DType::string, list ? Shape{static_cast<int64_t>(strings.size())} : Shape{});
    std::copy(strings.begin(), strings.end(), tensor.as<std::string>());
    return tensor;
}

void infer_constant(InferContext& ctx) { ctx.output(0, Fact::of_constant(constant_of(ctx.attributes))); }

void run_constant(RunContext& ctx) {
    const Tensor value = constant_of(ctx.attributes);
    copy_flat(ctx.parallel(), value.dtype, value.count(), value.data, ctx.output(0).data);
}

// The value that ConstantOfShape repeats: float32 zero unless given.
Tensor repeated_value(const Attributes& attributes) {
    const Tensor* value = attributes.t("value");
    if (!value) return Tensor::scalar(0.0f);
    require(value->count() == 1, "attribute value must have one element, not ", value->count());
    return *value;
}

void infer_constant_of_shape(InferContext& ctx) {
    const Tensor value = repeated_value(ctx.attributes);
    const auto list = int_list(ctx, 0);
    if (!list) return ctx.output_unranked(0, value.dtype);
    const Fact& input = ctx.input(0);
    require(!input.ranked || input.rank() == 1, "the shape must have rank 1, not ", input.rank());
    Fact out = Fact::of(value.dtype, list->values);
    int64_t count = 1;
    for (int64_t size : list->values) {
        if (is_number(size) && size < 0) fail(ErrorKind::invalid_argument, "the shape has the size ", size);
        count = ctx.dims.mul(count, size);
    }
    if (out.rank() <= 1 && is_int(value.dtype) && is_number(count) && count <= static_cast<int64_t>(kMaxInts))
        out.ints = Shape(static_cast<size_t>(count), int_at(value, 0));
    ctx.output(0, std::move(out));
}

void run_constant_of_shape(RunContext& ctx) {
    const Tensor value = repeated_value(ctx.attributes);
    fill_flat(ctx.parallel(), value.dtype, ctx.output(0).count(), value.data, ctx.output(0).data);
}

}  // namespace

std::span<const OpDef> constant_ops() {
    static const OpDef rows[] = {
        {.name = "Constant", .infer = infer_constant, .run = run_constant, .min_inputs = 0, .max_inputs = 0},
        {.name = "ConstantOfShape",
         .since = 9,
         .infer = infer_constant_of_shape,
         .run = run_constant_of_shape,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
