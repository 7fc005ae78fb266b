// CumSum (11, 14) and CumProd (26): input `axis`, a scalar; attributes exclusive 0, reverse 0. Floats accumulate in
// double; integers wrap around.
#include <type_traits>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_cumulative(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype) || is_int(x.dtype), ctx.op().name, " does not take ",
            dtype_name(x.dtype));
    const auto axis = int_list(ctx, 1);
    if (axis) {
        require(axis->values.size() == 1, "axis has ", axis->values.size(), " elements, expected 1");
        if (x.ranked && axis->exact) normal_axis(axis->values[0], x.rank());
    }
    ctx.output(0, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

constexpr int64_t kColumns = 32;

// Columns [0, width) of one outer index, together.
template <class T>
void scan(const AxisView& view, const T* x, T* y, int64_t width, bool product, bool exclusive, bool reverse) {
    using Acc = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
    Acc total[kColumns];
    std::fill_n(total, width, product ? Acc{1} : Acc{0});
    for (int64_t i = 0; i < view.n; ++i) {
        const int64_t at = (reverse ? view.n - 1 - i : i) * view.inner;
        for (int64_t c = 0; c < width; ++c) {
            const Acc next = static_cast<Acc>(x[at + c]);
            const Acc before = total[c];
            total[c] = product ? before * next : before + next;
            y[at + c] = static_cast<T>(exclusive ? before : total[c]);
        }
    }
}

void run_cumulative(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_cumulative);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    if (ctx.input(1).count() != 1) fail(ErrorKind::invalid_argument, "axis has ", ctx.input(1).count(), " elements");
    const int64_t axis = normal_axis(int_at(ctx.input(1), 0), x.rank());
    const AxisView view = around(x.shape, axis, axis + 1);
    const bool product = ctx.node.op->name == "CumProd", exclusive = ctx.attributes.i("exclusive", 0) != 0,
               reverse = ctx.attributes.i("reverse", 0) != 0;
    const int64_t parts = (view.inner + kColumns - 1) / kColumns;
    for_number(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        parallel_ranges(ctx.parallel(), view.outer * parts, row_grain(view.n * std::min(kColumns, view.inner), 2),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t task = begin; task < end; ++task) {
                                const int64_t c = task % parts * kColumns;
                                const int64_t offset = task / parts * view.n * view.inner + c;
                                scan(view, x.as<T>() + offset, ctx.output(0).as<T>() + offset,
                                     std::min(kColumns, view.inner - c), product, exclusive, reverse);
                            }
                        });
    });
}

bool permute_cumulative(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const Tensor* axis = graph.constant(node.inputs[1]);
    if (!axis || axis->count() != 1) return false;
    const int64_t moved = permuted_axis(perm, normal_axis(int_at(*axis, 0), static_cast<int64_t>(perm.size())));
    node.inputs[1] = patch.constant_ints({moved}, true);
    return true;
}

constexpr OpDef row(std::string_view name, int since) {
    return {.name = name,
            .since = since,
            .infer = infer_cumulative,
            .run = run_cumulative,
            .lower = lower_widened,
            .permute = permute_cumulative,
            .flags = kInPlace,
            .min_inputs = 2,
            .max_inputs = 2};
}

}  // namespace

std::span<const OpDef> cumulative_ops() {
    static const OpDef rows[] = {row("CumSum", 11), row("CumProd", 26)};
    return rows;
}

}  // namespace linnet
