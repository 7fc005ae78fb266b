// ArgMax and ArgMin (1, 11, 12, 13): attributes axis 0, keepdims 1, select_last_index 0 (from 12). A NaN is the
// extreme.
#include "kernels/kernels.h"
#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/reduction.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_arg(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype) || is_int(x.dtype), ctx.op().name, " does not take ",
            dtype_name(x.dtype));
    const bool keep = ctx.attributes.i("keepdims", 1) != 0;
    if (!x.ranked) return ctx.output_unranked(0, DType::i64);
    const int64_t axis = normal_axis(ctx.attributes.i("axis", 0), x.rank());
    if (x.shape[static_cast<size_t>(axis)] == 0)
        fail(ErrorKind::invalid_argument, "axis ", axis, " has no elements to choose from");
    ctx.output(0, DType::i64, reduced_shape(x.shape, {axis}, keep));
}

constexpr int64_t kColumns = 64;

// Columns [0, width) of one outer index: the extremes of all of them grow together, row by row.
template <class T>
void scan_columns(const AxisView& view, const T* x, int64_t width, bool largest, bool last, int64_t* y) {
    T best[kColumns];
    std::copy_n(x, width, best);
    std::fill_n(y, width, int64_t{0});
    for (int64_t i = 1; i < view.n; ++i) {
        const T* row = x + i * view.inner;
        for (int64_t c = 0; c < width; ++c)
            if (replaces(best[c], row[c], largest, last)) {
                best[c] = row[c];
                y[c] = i;
            }
    }
}

void run_arg(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_arg);
    const Tensor& x = ctx.input(0);
    int64_t* const y = ctx.output(0).as<int64_t>();
    if (x.count() == 0) {
        if (ctx.output(0).count() != 0) fail(ErrorKind::invalid_argument, "no elements to choose from");
        return;
    }
    const int64_t axis = normal_axis(ctx.attributes.i("axis", 0), x.rank());
    const bool largest = ctx.node.op->name == "ArgMax", last = ctx.attributes.i("select_last_index", 0) != 0;
    const AxisView view = around(x.shape, axis, axis + 1);
    if (view.inner == 1 && x.dtype == DType::f32) {
        parallel_ranges(ctx.parallel(), view.outer, row_grain(view.n), [&](int64_t begin, int64_t end) {
            for (int64_t r = begin; r < end; ++r)
                y[r] = find_extreme(view.n, x.as<float>() + r * view.n, largest, last);
        });
        return;
    }
    const int64_t parts = (view.inner + kColumns - 1) / kColumns;
    for_number(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        parallel_ranges(ctx.parallel(), view.outer * parts, row_grain(view.n * std::min(kColumns, view.inner), 2),
                        [&](int64_t begin, int64_t end) {
                            for (int64_t task = begin; task < end; ++task) {
                                const int64_t o = task / parts, c = task % parts * kColumns;
                                const int64_t width = std::min(kColumns, view.inner - c);
                                const T* const from = x.as<T>() + o * view.n * view.inner + c;
                                int64_t* const to = y + o * view.inner + c;
                                if (x.dtype == DType::f32 && view.n <= INT32_MAX)
                                    kernels::kernels().arg_rows_f32(
                                        largest, last, static_cast<size_t>(view.n), static_cast<size_t>(width),
                                        reinterpret_cast<const float*>(from), view.inner, to);
                                else scan_columns(view, from, width, largest, last, to);
                            }
                        });
    });
}

bool permute_arg(const Graph&, Node& node, const Shape& perm, Patch&) {
    const int64_t axis = normal_axis(node.attributes.i("axis", 0), static_cast<int64_t>(perm.size()));
    if (node.attributes.i("keepdims", 1) == 0) {
        int64_t before = -1;
        for (int64_t from : perm) {
            if (from == axis) continue;
            if (from < before) return false;
            before = from;
        }
    }
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

constexpr OpDef row(std::string_view name) {
    return {.name = name,
            .infer = infer_arg,
            .run = run_arg,
            .lower = lower_widened,
            .permute = permute_arg,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> arg_max_ops() {
    static const OpDef rows[] = {row("ArgMax"), row("ArgMin")};
    return rows;
}

}  // namespace linnet
