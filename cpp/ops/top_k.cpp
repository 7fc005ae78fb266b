// TopK (1: attribute `k`; 10: input `k`; 11, 24: attributes largest 1, sorted 1): axis -1. Equal values come in order
// of their index; a NaN counts as larger than any number. The result is sorted whether asked for or not.
#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/order_keys.h"
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

// Elements are compared by keys of one type for all dtypes: the larger the better.
struct Entry {
    int64_t key, index;
    bool operator<(const Entry& other) const {  // better first
        return key != other.key ? key > other.key : index < other.index;
    }
};

// The keys of n elements, `step` apart.
void read_keys(DType dtype, const std::byte* x, int64_t n, int64_t step, bool largest, int64_t* keys) {
    for_number(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const T* from = reinterpret_cast<const T*>(x);
        const int64_t turn = largest ? 0 : -1;  // ~key is the opposite order
        for (int64_t i = 0; i < n; ++i) keys[i] = order_key(from[i * step]) ^ turn;
    });
}

// A few: they stay sorted, and most elements lose against the worst of them at once.
void select_few(int64_t n, int64_t k, const int64_t* keys, Entry* best) {
    for (int64_t i = 0; i < n; ++i) {
        if (i >= k && keys[i] <= best[k - 1].key) continue;
        int64_t at = std::min(i, k - 1);
        for (; at > 0 && best[at - 1].key < keys[i]; --at) best[at] = best[at - 1];
        best[at] = {keys[i], i};
    }
}

// The k best of n keys, in order.
void select(int64_t n, int64_t k, const int64_t* keys, std::vector<Entry>& room) {
    constexpr int64_t kFew = 16;
    // Elements that beat the k-th best so far are gathered, until there is no more room and the best of them are kept.
    // Equal ones that come later lose.
    const int64_t most = k <= kFew ? k : std::min(n, std::max<int64_t>(2 * k, 256));
    room.resize(static_cast<size_t>(most));
    if (k == 0) return;
    if (k <= kFew) return select_few(n, k, keys, room.data());
    int64_t i = 0, held = 0;
    for (; i < most; ++i) room[static_cast<size_t>(i)] = {keys[i], i};
    for (held = most;;) {
        if (held > k) std::nth_element(room.begin(), room.begin() + (k - 1), room.begin() + held);
        held = k;
        if (i == n) break;
        const int64_t worst = room[static_cast<size_t>(k - 1)].key;
        Entry* const more = room.data();
        for (; i < n && held < most; ++i) {
            more[held] = {keys[i], i};
            held += keys[i] > worst;
        }
    }
    std::sort(room.begin(), room.begin() + k);
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
    const auto size = static_cast<int64_t>(dtype_size(x.dtype));
    auto* const values = ctx.has_output(0) ? static_cast<std::byte*>(ctx.output(0).data) : nullptr;
    int64_t* const indices = ctx.has_output(1) ? ctx.output(1).as<int64_t>() : nullptr;
    parallel_ranges(ctx.parallel(), view.outer * view.inner, row_grain(view.n, 4), [&](int64_t begin, int64_t end) {
        std::vector<int64_t> keys(static_cast<size_t>(view.n));
        std::vector<Entry> room;
        for (int64_t r = begin; r < end; ++r) {
            const int64_t o = r / view.inner, c = r % view.inner, to = o * k * view.inner + c;
            const std::byte* from = static_cast<const std::byte*>(x.data) + (o * view.n * view.inner + c) * size;
            read_keys(x.dtype, from, view.n, view.inner, largest, keys.data());
            select(view.n, k, keys.data(), room);
            for (int64_t i = 0; i < k; ++i) {
                const int64_t index = room[static_cast<size_t>(i)].index, at = to + i * view.inner;
                if (values)
                    std::memcpy(values + at * size, from + index * view.inner * size, static_cast<size_t>(size));
                if (indices) indices[at] = index;
            }
        }
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
