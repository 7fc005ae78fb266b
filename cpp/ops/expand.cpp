// Expand (8, 13) and Tile (1: scalar inputs tiles and axis; 6, 13: repeats).
#include <algorithm>

#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/views.h"

namespace linnet {
namespace {

void infer_expand(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto list = int_list(ctx, 1);
    if (!data.ranked || !list) return ctx.output_unranked(0, data.dtype);
    const size_t rank = std::max(data.shape.size(), list->values.size());
    Shape shape(rank, 1);
    std::copy(list->values.begin(), list->values.end(), shape.end() - static_cast<int64_t>(list->values.size()));
    for (int64_t size : shape)
        if (is_number(size) && size < 0) fail(ErrorKind::invalid_argument, "shape has the size ", size);
    const size_t skip = rank - data.shape.size();
    for (size_t i = 0; i < data.shape.size(); ++i) shape[skip + i] = ctx.dims.broadcast(data.shape[i], shape[skip + i]);
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints && rank <= 1) {
        const int64_t count = rank == 0 ? 1 : shape[0];
        if (is_number(count) && data.ints->size() == static_cast<size_t>(count)) out.ints = data.ints;
        else if (is_number(count) && data.ints->size() == 1 && count <= static_cast<int64_t>(kMaxInts))
            out.ints = Shape(static_cast<size_t>(count), (*data.ints)[0]);
    }
    ctx.output(0, std::move(out));
}

void run_expand(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    // The output's shape may follow from the input's alone; a shape that only comes now must fit it.
    const Shape wanted = ints_of(ctx.input(1));
    for (size_t i = 0; i < wanted.size(); ++i) {
        const int64_t size = y.shape[y.shape.size() - wanted.size() + i];
        if (wanted[i] != 1 && wanted[i] != size)
            fail(ErrorKind::invalid_argument, "shapes ", shape_text(x.shape), " and ", shape_text(wanted),
                 " do not broadcast");
    }
    const Shape strides = strides_of(x.shape);
    const size_t skip = y.shape.size() - x.shape.size();
    Shape from(y.shape.size(), 0);
    for (size_t i = 0; i < x.shape.size(); ++i)
        if (x.shape[i] != 1) from[skip + i] = strides[i];
    copy_box(ctx.parallel(), x.dtype, y.shape, x.data, from, y.data, strides_of(y.shape));
}

// Expand and Tile that change no size.
bool simplify_same(const Graph& graph, NodeId id, Patch& patch) {
    const Node& node = graph.node(id);
    if (!same_shape(graph.fact(node.inputs[0]), graph.fact(node.outputs[0]))) return false;
    patch.replace(node.outputs[0], node.inputs[0]);
    return true;
}

bool permute_expand(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    // Only when the shape has as many axes as the input.
    const Tensor* shape = graph.constant(node.inputs[1]);
    if (!shape || shape->count() > static_cast<int64_t>(perm.size())) return false;
    Shape sizes(perm.size(), 1);
    const Shape given = ints_of(*shape);
    std::copy(given.begin(), given.end(), sizes.end() - static_cast<int64_t>(given.size()));
    std::vector<int64_t> permuted;
    for (int64_t axis : perm) permuted.push_back(sizes[static_cast<size_t>(axis)]);
    node.inputs[1] = patch.constant_ints(permuted);
    return true;
}

void infer_tile(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    Shape repeats(data.shape.size(), 1);
    if (ctx.op().since < 6) {
        const auto tiles = int_list(ctx, 1), axis = int_list(ctx, 2);
        if (!axis || axis->values.empty() || !axis->known(0)) {
            repeats.assign(data.shape.begin(), data.shape.end());
            std::fill(repeats.begin(), repeats.end(), kUnknownDim);
        } else {
            const auto at = static_cast<size_t>(normal_axis(axis->values[0], data.rank()));
            repeats[at] = tiles && !tiles->values.empty() ? tiles->values[0] : kUnknownDim;
        }
    } else {
        const int64_t length = list_length(ctx, 1);
        require(length < 0 || length == data.rank(), "repeats has ", length, " values, the input has rank ",
                data.rank());
        const auto list = int_list(ctx, 1);
        repeats = list ? list->values : unknown_shape(data.rank());
    }
    Shape shape;
    for (size_t i = 0; i < data.shape.size(); ++i) {
        if (is_number(repeats[i]) && repeats[i] < 0)
            fail(ErrorKind::invalid_argument, "axis ", i, " is repeated ", repeats[i], " times");
        shape.push_back(ctx.dims.mul(data.shape[i], repeats[i]));
    }
    Fact out = Fact::of(data.dtype, shape);
    if (data.ints && data.rank() == 1 && is_number(repeats[0]) && is_number(shape[0]) &&
        shape[0] <= static_cast<int64_t>(kMaxInts)) {
        Shape ints;
        for (int64_t i = 0; i < repeats[0]; ++i)
            for (int64_t value : *data.ints) ints.push_back(value);
        out.ints = std::move(ints);
    }
    ctx.output(0, std::move(out));
}

// Repeats what an axis holds once it is there: whole blocks of neighbours instead of elements.
struct Tiles {
    size_t last = 0;            // the last axis that is repeated
    Shape sizes;                // of x
    Shape in_bytes, out_bytes;  // of an element of each axis: all that lies further in
    void fill(size_t axis, const char* from, char* to) const {
        const int64_t size = sizes[axis] * out_bytes[axis + 1];
        if (axis == last) __builtin_memcpy(to, from, static_cast<size_t>(size));
        else
            for (int64_t i = 0; i < sizes[axis]; ++i)
                fill(axis + 1, from + i * in_bytes[axis + 1], to + i * out_bytes[axis + 1]);
        repeat_bytes(to, static_cast<size_t>(size), static_cast<size_t>(out_bytes[axis]));
    }
};

// False where the elements are strings or nothing is left to share among threads.
bool run_blocks(const Parallel& parallel, const Tensor& x, Tensor& y) {
    const size_t rank = x.shape.size();
    if (x.dtype == DType::string || rank == 0) return false;
    Tiles tiles;
    tiles.sizes = x.shape;
    tiles.in_bytes = tiles.out_bytes = Shape(rank + 1, static_cast<int64_t>(dtype_size(x.dtype)));
    size_t first = rank;
    for (size_t i = rank; i-- > 0;) {
        tiles.in_bytes[i] = tiles.in_bytes[i + 1] * x.shape[i];
        tiles.out_bytes[i] = tiles.out_bytes[i + 1] * y.shape[i];
        if (x.shape[i] == y.shape[i]) continue;
        first = i;
        tiles.last = std::max(tiles.last, i);
    }
    if (first == rank) return false;
    const int64_t tasks = product(x.shape, 0, first);
    if (tasks == 1 && parallel.threads > 1) return false;
    parallel_ranges(parallel, tasks, std::max<int64_t>(1, (64 << 10) / tiles.out_bytes[first]),
                    [&](int64_t begin, int64_t end) {
                        for (int64_t i = begin; i < end; ++i)
                            tiles.fill(first, static_cast<const char*>(x.data) + i * tiles.in_bytes[first],
                                       static_cast<char*>(y.data) + i * tiles.out_bytes[first]);
                    });
    return true;
}

void run_tile(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    if (y.count() == 0 || run_blocks(ctx.parallel(), x, y)) return;
    // Each axis is a pair: the repetition and the place in the tile.
    const Shape src = strides_of(x.shape), dst = strides_of(y.shape);
    Shape sizes, from, to;
    for (size_t i = 0; i < x.shape.size(); ++i) {
        sizes.push_back(y.shape[i] / x.shape[i]);
        from.push_back(0);
        to.push_back(dst[i] * x.shape[i]);
        sizes.push_back(x.shape[i]);
        from.push_back(src[i]);
        to.push_back(dst[i]);
    }
    copy_box(ctx.parallel(), x.dtype, sizes, x.data, from, y.data, to);
}

bool permute_tile(const Graph& graph, Node& node, const Shape& perm, Patch& patch) {
    const Tensor* repeats = graph.constant(node.inputs[1]);
    if (!repeats || node.op->since < 6) return false;
    std::vector<int64_t> permuted;
    for (int64_t axis : perm) permuted.push_back(int_at(*repeats, axis));
    node.inputs[1] = patch.constant_ints(permuted);
    return true;
}

}  // namespace

std::span<const OpDef> expand_ops() {
    static const OpDef rows[] = {
        {.name = "Expand",
         .since = 8,
         .infer = infer_expand,
         .run = run_expand,
         .simplify = simplify_same,
         .permute = permute_expand,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "Tile", .since = 1, .infer = infer_tile, .run = run_tile, .min_inputs = 3, .max_inputs = 3},
        {.name = "Tile",
         .since = 6,
         .infer = infer_tile,
         .run = run_tile,
         .simplify = simplify_same,
         .permute = permute_tile,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
