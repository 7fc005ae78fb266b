// TopK (1: attribute `k`; 10: input `k`; 11, 24: attributes largest 1, sorted 1): axis -1. Equal values come in order
// of their index; a NaN counts as larger than any number. The result is sorted whether asked for or not.
#include <algorithm>
#include <vector>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_top_k(InferContext& ctx) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::undefined || is_float(x.dtype) || is_int(x.dtype), "TopK does not take ",
            dtype_name(x.dtype));
    int64_t k = kUnknownDim;
    if (ctx.op().since < 10) {
        require(ctx.attributes.has("k"), "attribute k is missing");
        k = ctx.attributes.i("k", 0);
        require(k >= 0, "k is ", k);
    } else {
        const auto list = int_list(ctx, 1);
        if (list) {
            require(list->values.size() == 1, "k has ", list->values.size(), " elements, expected 1");
            if (list->exact && list->values[0] < 0) fail(ErrorKind::invalid_argument, "k is ", list->values[0]);
            k = list->values[0];
        }
    }
    if (!x.ranked) {
        ctx.output_unranked(0, x.dtype);
        return ctx.output_unranked(1, DType::i64);
    }
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    Shape shape = x.shape;
    int64_t& size = shape[static_cast<size_t>(axis)];
    if (is_number(k) && is_number(size) && k > size)
        fail(ErrorKind::invalid_argument, "k is ", k, ", axis ", axis, " has ", size, " elements");
    size = k;
    ctx.output(0, x.dtype, shape);
    ctx.output(1, DType::i64, shape);
}

template <class T>
struct Entry {
    T value;
    int64_t index;
};

// A strict order: better first.
template <class T>
struct Better {
    bool largest;
    bool operator()(const Entry<T>& a, const Entry<T>& b) const {
        const bool nan_a = a.value != a.value, nan_b = b.value != b.value;
        if (nan_a || nan_b) {
            if (nan_a != nan_b) return nan_a == largest;
            return a.index < b.index;
        }
        if (a.value != b.value) return largest ? a.value > b.value : a.value < b.value;
        return a.index < b.index;
    }
};

// The k best of n elements, `step` apart.
template <class T>
void select(int64_t n, int64_t k, int64_t step, bool largest, const T* x, T* values, int64_t* indices,
            std::vector<Entry<T>>& room) {
    const Better<T> better{largest};
    room.clear();
    if (k <= 32 || k <= n / 16) {
        // A heap of the best so far, the worst of them on top: most elements lose against it at once.
        for (int64_t i = 0; i < k; ++i) room.push_back({x[i * step], i});
        std::make_heap(room.begin(), room.end(), better);
        for (int64_t i = k; i < n && k > 0; ++i) {
            const Entry<T> entry{x[i * step], i};
            if (!better(entry, room.front())) continue;
            std::pop_heap(room.begin(), room.end(), better);
            room.back() = entry;
            std::push_heap(room.begin(), room.end(), better);
        }
    } else {
        for (int64_t i = 0; i < n; ++i) room.push_back({x[i * step], i});
        if (k < n) std::nth_element(room.begin(), room.begin() + k, room.end(), better);
        room.resize(static_cast<size_t>(k));
    }
    std::sort(room.begin(), room.end(), better);
    for (int64_t i = 0; i < k; ++i) {
        if (values) values[i * step] = room[static_cast<size_t>(i)].value;
        if (indices) indices[i * step] = room[static_cast<size_t>(i)].index;
    }
}

void run_top_k(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_top_k);
    const Tensor& x = ctx.input(0);
    const int64_t axis = normal_axis(ctx.attributes.i("axis", -1), x.rank());
    const AxisView view = around(x.shape, axis, axis + 1);
    const int64_t k = ctx.node.op->since < 10 ? ctx.attributes.i("k", 0) : int_at(ctx.input(1), 0);
    if (k < 0 || k > view.n)
        fail(ErrorKind::invalid_argument, "k is ", k, ", axis ", axis, " has ", view.n, " elements");
    const bool largest = ctx.attributes.i("largest", 1) != 0;
    for_number(x.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        T* const values = ctx.has_output(0) ? ctx.output(0).as<T>() : nullptr;
        int64_t* const indices = ctx.has_output(1) ? ctx.output(1).as<int64_t>() : nullptr;
        parallel_ranges(ctx.parallel(), view.outer * view.inner, row_grain(view.n, 4), [&](int64_t begin, int64_t end) {
            std::vector<Entry<T>> room;
            for (int64_t r = begin; r < end; ++r) {
                const int64_t o = r / view.inner, c = r % view.inner, to = o * k * view.inner + c;
                select(view.n, k, view.inner, largest, x.as<T>() + o * view.n * view.inner + c,
                       values ? values + to : nullptr, indices ? indices + to : nullptr, room);
            }
        });
    });
}

bool permute_top_k(const Graph&, Node& node, const Shape& perm, Patch&) {
    const int64_t axis = normal_axis(node.attributes.i("axis", -1), static_cast<int64_t>(perm.size()));
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

constexpr OpDef row(int since, int inputs) {
    return {.name = "TopK",
            .since = since,
            .infer = infer_top_k,
            .run = run_top_k,
            .lower = lower_widened,
            .permute = permute_top_k,
            .min_inputs = inputs,
            .max_inputs = inputs};
}

}  // namespace

std::span<const OpDef> top_k_ops() {
    static const OpDef rows[] = {row(1, 1), row(10, 2)};
    return rows;
}

}  // namespace linnet
