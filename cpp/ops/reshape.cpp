// Reshape (1: attribute `shape`; 5, 13, 14: input `shape`, `allowzero`; ... 25) and Flatten (1 ... 25).
#include <algorithm>
#include <numeric>

#include "ops/shared/facts.h"
#include "ops/shared/views.h"

namespace linnet {
namespace {

// What the -1 of a Reshape stands for: the product of `from` over that of the other sizes in `to`, with equal sizes
// cancelled first, so that symbols need no division.
int64_t solve(DimTable& dims, Shape from, Shape to) {
    for (size_t i = to.size(); i-- > 0;) {
        if (to[i] == kUnknownDim) continue;
        const auto found = std::find(from.begin(), from.end(), to[i]);
        if (found == from.end()) continue;
        from.erase(found);
        to.erase(to.begin() + i);
    }
    int64_t rest = 1;
    for (int64_t dim : from) rest = dims.mul(rest, dim);
    // Symbols first: an expression divides best by the very factors it was made of.
    for (int64_t dim : to)
        if (!is_number(dim)) rest = dims.floor_div(rest, dim);
    int64_t divisor = 1;
    for (int64_t dim : to)
        if (is_number(dim)) divisor = checked_mul(divisor, dim);
    if (divisor == 0) return is_number(rest) && rest != 0 ? -1 : 0;
    if (is_number(rest) && rest % divisor != 0) return -1;
    return dims.floor_div(rest, divisor);
}

void infer_reshape(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto list = ctx.op().since < 5 ? int_list(ctx.attributes, "shape") : int_list(ctx, 1);
    if (!list) {
        if (ctx.op().since < 5) fail(ErrorKind::invalid_graph, "attribute shape is missing");
        ctx.output_unranked(0, data.dtype);
        return;
    }
    const bool allow_zero = ctx.attributes.i("allowzero", 0) != 0;
    Shape shape, others, from = data.shape;
    int64_t guess = -1;
    for (size_t i = 0; i < list->values.size(); ++i) {
        const int64_t size = list->values[i];
        shape.push_back(size);
        if (!is_number(size)) {
            others.push_back(size);
        } else if (size == -1) {
            if (guess >= 0) fail(ErrorKind::invalid_argument, "shape has more than one -1");
            guess = static_cast<int64_t>(i);
        } else if (size < -1) {
            fail(ErrorKind::invalid_argument, "shape has the size ", size);
        } else if (size == 0 && !allow_zero) {
            if (data.ranked && static_cast<int64_t>(i) >= data.rank())
                fail(ErrorKind::invalid_argument, "shape copies size ", i, " of an input of rank ", data.rank());
            shape[i] = data.ranked ? data.shape[i] : kUnknownDim;
            // A copied size cancels, whatever it is.
            if (data.ranked) from[i] = 1;
        } else {
            others.push_back(size);
        }
    }
    if (guess >= 0) {
        const auto at = static_cast<size_t>(guess);
        shape[at] = kUnknownDim;
        if (data.ranked) {
            shape[at] = solve(ctx.dims, from, others);
            if (is_number(shape[at]) && shape[at] < 0)
                fail(ErrorKind::invalid_argument, "cannot reshape ", shape_text(data.shape), " into ",
                     ctx.dims.text(list->values));
        }
    } else if (data.ranked && is_known(data.shape) && is_known(shape)) {
        if (element_count(data.shape) != element_count(shape))
            fail(ErrorKind::invalid_argument, "cannot reshape ", shape_text(data.shape), " (",
                 element_count(data.shape), " elements) into ", shape_text(shape), " (", element_count(shape), ")");
    }
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints && shape.size() <= 1) out.ints = data.ints;
    ctx.output(0, std::move(out));
}

void infer_flatten(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    Shape shape = unknown_shape(2);
    if (data.ranked) {
        int64_t axis = ctx.attributes.i("axis", 1);
        const int64_t rank = data.rank();
        require(axis >= -rank && axis <= rank, "axis ", axis, " is outside [", -rank, ", ", rank, "]");
        if (axis < 0) axis += rank;
        shape[0] = product_of(ctx.dims, data.shape, 0, static_cast<size_t>(axis));
        shape[1] = product_of(ctx.dims, data.shape, static_cast<size_t>(axis), data.shape.size());
    }
    ctx.output(0, data.dtype, shape);
}

}  // namespace

std::span<const OpDef> reshape_ops() {
    static const OpDef rows[] = {
        {.name = "Reshape",
         .since = 1,
         .infer = infer_reshape,
         .run = run_view,
         .simplify = simplify_view,
         .flags = kView,
         .min_inputs = 1,
         .max_inputs = 1},
        {.name = "Reshape",
         .since = 5,
         .infer = infer_reshape,
         .run = run_view,
         .simplify = simplify_view,
         .flags = kView,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Flatten",
         .since = 1,
         .infer = infer_flatten,
         .run = run_view,
         .simplify = simplify_view,
         .flags = kView,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
