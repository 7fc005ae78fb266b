// CumSum (11, 14) and CumProd (26): input `axis`, a scalar; attributes exclusive 0, reverse 0. Floats accumulate in
// double; integers wrap around.
#include <type_traits>

#include "kernels/kernels.h"
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

// How the loop goes: n rows `step` apart, columns `apart` from each other.
struct Walk {
    int64_t n, step, apart;
    bool product, exclusive;
};

constexpr int64_t kColumns = 64, kRows = 8;

// Several rows or columns at once, so that their sums do not wait for one another.
template <class T>
void scan(const Walk& walk, int64_t width, const T* x, T* y) {
    using Acc = std::conditional_t<std::is_floating_point_v<T>, double, T>;
    using Product = decltype(Acc{} + 0u);  // of 16 bits, it would be an int's, and overflow
    const int64_t apart = walk.apart;
    Acc total[kColumns], next[kColumns];
    std::fill_n(total, width, walk.product ? Acc{1} : Acc{0});
    for (int64_t i = 0; i < walk.n; ++i, x += walk.step, y += walk.step) {
        for (int64_t c = 0; c < width; ++c) next[c] = static_cast<Acc>(x[c * apart]);
        if (walk.exclusive)
            for (int64_t c = 0; c < width; ++c) y[c * apart] = static_cast<T>(total[c]);
        if (walk.product)
            for (int64_t c = 0; c < width; ++c) total[c] = static_cast<Acc>(Product{total[c]} * next[c]);
        else
            for (int64_t c = 0; c < width; ++c) total[c] = static_cast<Acc>(total[c] + next[c]);
        if (!walk.exclusive)
            for (int64_t c = 0; c < width; ++c) y[c * apart] = static_cast<T>(total[c]);
    }
}

template <class T>
void cumulate(const Parallel& parallel, const AxisView& view, Walk walk, bool reverse, const T* x, T* y) {
    // A task is a group of columns of one outer index, or of whole rows.
    const bool rows = view.inner == 1;
    const int64_t across = rows ? view.outer : view.inner, most = rows ? kRows : kColumns;
    const int64_t parts = (across + most - 1) / most;
    walk.step = reverse ? -view.inner : view.inner;
    walk.apart = rows ? view.n : 1;
    const int64_t start = reverse ? (view.n - 1) * view.inner : 0;
    parallel_ranges(parallel, rows ? parts : view.outer * parts, row_grain(view.n * std::min(most, across), 2),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t task = begin; task < end; ++task) {
                            const int64_t c = task % parts * most, count = std::min(most, across - c);
                            const int64_t at = task / parts * view.n * view.inner + c * walk.apart + start;
                            if constexpr (std::is_same_v<T, float>)
                                if (!rows && !walk.product) {
                                    kernels::kernels().running_sums_f32(static_cast<size_t>(walk.n),
                                                                        static_cast<size_t>(count), x + at, walk.step,
                                                                        walk.exclusive, y + at);
                                    continue;
                                }
                            scan(walk, count, x + at, y + at);
                        }
                    });
}

void run_cumulative(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_cumulative);
    const Tensor& x = ctx.input(0);
    if (x.count() == 0) return;
    if (ctx.input(1).count() != 1) fail(ErrorKind::invalid_argument, "axis has ", ctx.input(1).count(), " elements");
    const int64_t axis = normal_axis(int_at(ctx.input(1), 0), x.rank());
    const AxisView view = around(x.shape, axis, axis + 1);
    const Walk walk{view.n, 0, 0, ctx.node.op->name == "CumProd", ctx.attributes.i("exclusive", 0) != 0};
    const bool reverse = ctx.attributes.i("reverse", 0) != 0;
    const auto run = [&]<class T>(TypeTag<T>) {
        cumulate(ctx.parallel(), view, walk, reverse, x.as<T>(), ctx.output(0).as<T>());
    };
    // Signs do not matter where sums wrap around.
    if (is_float(x.dtype)) return for_float(x.dtype, run);
    switch (dtype_size(x.dtype)) {
        case 1: return run(TypeTag<uint8_t>{});
        case 2: return run(TypeTag<uint16_t>{});
        case 4: return run(TypeTag<uint32_t>{});
        default: return run(TypeTag<uint64_t>{});
    }
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
