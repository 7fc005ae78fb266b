// Gradient (ai.onnx.preview.training 1): derivatives of a value that the attribute y names by those that xs names,
// where these and those that zs names have the values of the inputs. passes/gradient.cpp replaces it.
#include "ops/elementwise.h"

namespace linnet {
namespace {

void infer_gradient(InferContext& ctx) {
    const int xs = static_cast<int>(ctx.attributes.strings("xs").size());
    const int all = xs + static_cast<int>(ctx.attributes.strings("zs").size());
    require(xs > 0, "the attribute 'xs' names no value");
    require(ctx.inputs() == 2 * all + 1, ctx.inputs() - all - 1, " inputs given, xs and zs name ", all, " values");
    require(ctx.outputs() <= xs, "there are ", ctx.outputs(), " outputs, xs names ", xs, " values");
    for (int i = 0; i < xs; ++i) {
        check_dtype(ctx, i, kFloatTypes);
        const Fact& x = ctx.input(i);
        ctx.output(i, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
    }
}

}  // namespace

std::span<const OpDef> gradient_ops() {
    static const OpDef rows[] = {
        {.name = "Gradient", .domain = "ai.onnx.preview.training", .infer = infer_gradient, .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
