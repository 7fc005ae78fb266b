// Optional (15, 28), OptionalHasElement and OptionalGetElement (15, 18, 28).
#include "ops/shared/body.h"

namespace linnet {
namespace {

Tensor flag(bool value) {
    Tensor tensor = Tensor::allocate(DType::boolean, {});
    *tensor.as<uint8_t>() = value;
    return tensor;
}

void infer_optional(InferContext& ctx) {
    Fact fact;
    if (ctx.has_input(0)) {
        fact = without_value(ctx.input(0));
    } else {
        const Fact* type = ctx.attributes.type("type");
        require(type != nullptr, "neither an input nor the attribute type is given");
        fact = *type;
    }
    fact.optional = true;
    ctx.output(0, std::move(fact));
}
void run_optional(RunContext& ctx) { ctx.set_value(0, ctx.has_input(0) ? ctx.value(0) : Value()); }

void infer_has_element(InferContext& ctx) {
    if (!ctx.has_input(0)) return ctx.output(0, Fact::of_constant(flag(false)));
    const Fact& fact = ctx.input(0);
    const bool certain = !fact.optional && fact.kind != Value::Kind::absent && !says_nothing(fact);
    ctx.output(0, certain ? Fact::of_constant(flag(true)) : Fact::of(DType::boolean, {}));
}
void run_has_element(RunContext& ctx) {
    ctx.set_value(0, flag(ctx.has_input(0) && ctx.value(0).kind != Value::Kind::absent));
}

void infer_get_element(InferContext& ctx) {
    Fact fact = ctx.input(0);
    fact.optional = false;
    if (fact.kind == Value::Kind::absent) fact = Fact();
    ctx.output(0, std::move(fact));
}
void run_get_element(RunContext& ctx) {
    if (ctx.value(0).kind == Value::Kind::absent) fail(ErrorKind::invalid_argument, "the optional has no element");
    ctx.set_value(0, ctx.value(0));
}

}  // namespace

std::span<const OpDef> optional_ops() {
    static const OpDef rows[] = {
        {.name = "Optional",
         .since = 15,
         .infer = infer_optional,
         .run = run_optional,
         .flags = kDynamic,
         .max_inputs = 1},
        {.name = "OptionalHasElement",
         .since = 15,
         .infer = infer_has_element,
         .run = run_has_element,
         .flags = kDynamic,
         .max_inputs = 1},
        {.name = "OptionalGetElement",
         .since = 15,
         .infer = infer_get_element,
         .run = run_get_element,
         .flags = kDynamic,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
