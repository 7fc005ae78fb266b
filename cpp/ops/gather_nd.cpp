// GatherND (11; 12, 13 with `batch_dims`), ScatterND (11, 13; 16 with `reduction`, 18 also max and min) and
// TensorScatter (24).
#include <algorithm>

#include "ops/shared/combine.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/indices.h"

namespace linnet {
namespace {

void infer_gather_nd(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1);
    require_index_type(indices);
    const int64_t batch = ctx.attributes.i("batch_dims", 0);
    if (!data.ranked || !indices.ranked) return ctx.output_unranked(0, data.dtype);
    require(data.rank() >= 1 && indices.rank() >= 1, "data and indices must have rank 1 or more");
    require(batch >= 0 && batch < std::min(data.rank(), indices.rank()), "batch_dims ", batch, " is outside [0, ",
            std::min(data.rank(), indices.rank()), ")");
    const int64_t depth = indices.shape.back();
    for (size_t i = 0; i < static_cast<size_t>(batch); ++i)
        same_dim(ctx.dims, data.shape[i], indices.shape[i], "batch dims of data and indices");
    if (!is_number(depth)) return ctx.output_unranked(0, data.dtype);
    require(depth >= 1 && depth <= data.rank() - batch, "index tuples of ", depth, " in data of rank ", data.rank(),
            " with ", batch, " batch dims");
    Shape shape(indices.shape.begin(), indices.shape.end() - 1);
    for (auto i = static_cast<size_t>(batch + depth); i < data.shape.size(); ++i) shape.push_back(data.shape[i]);
    ctx.output(0, data.dtype, shape);
}

// The place that tuple `at` of the indices addresses in dims [first, first + depth) of shape, in slices of `inner`
// elements; checks.
int64_t place_of(const Indices& indices, int64_t at, int64_t depth, const Shape& shape, size_t first) {
    int64_t place = 0;
    for (int64_t i = 0; i < depth; ++i) {
        const int64_t size = shape[first + static_cast<size_t>(i)], index = indices[at * depth + i];
        check_index(index, size);
        place = place * size + index + (index < 0 ? size : 0);
    }
    return place;
}

void run_gather_nd(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    const auto batch = static_cast<size_t>(ctx.attributes.i("batch_dims", 0));
    const int64_t depth = indices.shape.back();
    const size_t tail = batch + static_cast<size_t>(depth);
    const int64_t inner = product(x.shape, tail, x.shape.size()), slices = product(x.shape, batch, tail);
    const int64_t tuples = product(indices.shape, 0, indices.shape.size() - 1);
    const int64_t each = product(indices.shape, batch, indices.shape.size() - 1);
    const Indices index(indices);
    // Slices, that may be empty, are found in parts.
    constexpr int64_t kChunk = 256;
    parallel_ranges(ctx.parallel(), tuples, std::max<int64_t>(1, 8192 / std::max<int64_t>(1, inner)),
                    [&](int64_t begin, int64_t end) {
                        int64_t places[kChunk];
                        for (int64_t first = begin; first < end; first += kChunk) {
                            const int64_t count = std::min(kChunk, end - first);
                            for (int64_t i = 0; i < count; ++i)
                                places[i] = (batch == 0 ? 0 : (first + i) / each * slices) +
                                            place_of(index, first + i, depth, x.shape, batch);
                            if (y.count() == 0) continue;
                            if (x.dtype != DType::string) {
                                gather_runs(static_cast<size_t>(inner) * dtype_size(x.dtype), count, x.data, places,
                                            element(y.data, x.dtype, first * inner));
                                continue;
                            }
                            for (int64_t i = 0; i < count; ++i)
                                copy_run(x.dtype, inner, element(x.data, x.dtype, places[i] * inner),
                                         element(y.data, x.dtype, (first + i) * inner));
                        }
                    });
}

void infer_scatter_nd(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1), &updates = tensor_input(ctx, 2);
    check_scatter(ctx);
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    if (indices.ranked) {
        require(data.rank() >= 1 && indices.rank() >= 1, "data and indices must have rank 1 or more");
        const int64_t depth = indices.shape.back();
        if (is_number(depth)) {
            require(depth >= 0 && depth <= data.rank(), "index tuples of ", depth, " in data of rank ", data.rank());
            Shape expected(indices.shape.begin(), indices.shape.end() - 1);
            for (auto i = static_cast<size_t>(depth); i < data.shape.size(); ++i) expected.push_back(data.shape[i]);
            if (updates.ranked) {
                require(updates.shape.size() == expected.size(), "updates have rank ", updates.rank(), ", expected ",
                        expected.size());
                for (size_t i = 0; i < expected.size(); ++i)
                    same_dim(ctx.dims, expected[i], updates.shape[i], "updates");
            }
        }
    }
    ctx.output(0, data.dtype, data.shape);
}

void run_scatter_nd(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
    Tensor& y = ctx.output(0);
    const int64_t depth = indices.shape.back();
    const int64_t inner = product(x.shape, static_cast<size_t>(depth), x.shape.size());
    const int64_t tuples = product(indices.shape, 0, indices.shape.size() - 1);
    const std::string& reduction = ctx.attributes.s("reduction", "none");
    const Combine combine = reduction == "none" ? nullptr : combine_of(reduction, x.dtype);
    const Indices index(indices);
    for (int64_t t = 0; t < tuples; ++t) place_of(index, t, depth, x.shape, 0);
    copy_flat(ctx.parallel(), x.dtype, x.count(), x.data, y.data);
    for (int64_t t = 0; t < tuples; ++t) {
        const void* from = element(updates.data, x.dtype, t * inner);
        void* to = element(y.data, x.dtype, place_of(index, t, depth, x.shape, 0) * inner);
        if (combine) combine(inner, to, nullptr, from);
        else copy_run(x.dtype, inner, from, to);
    }
}

void infer_tensor_scatter(InferContext& ctx) {
    const Fact &cache = tensor_input(ctx, 0), &update = tensor_input(ctx, 1);
    const std::string& mode = ctx.attributes.s("mode", "linear");
    require(mode == "linear" || mode == "circular", "mode '", mode, "' is neither linear nor circular");
    require(update.dtype == cache.dtype || update.dtype == DType::undefined || cache.dtype == DType::undefined,
            "update is ", dtype_name(update.dtype), ", the cache is ", dtype_name(cache.dtype));
    if (ctx.has_input(2)) require_index_type(tensor_input(ctx, 2));
    if (!cache.ranked) return ctx.output_unranked(0, cache.dtype);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", -2), cache.rank()));
    require(axis > 0, "axis must not be the batch axis");
    if (update.ranked) {
        require(update.rank() == cache.rank(), "update has rank ", update.rank(), ", the cache ", cache.rank());
        for (size_t i = 0; i < cache.shape.size(); ++i) {
            if (i != axis) same_dim(ctx.dims, cache.shape[i], update.shape[i], "cache and update");
            else if (is_number(cache.shape[i]) && is_number(update.shape[i]) && update.shape[i] > cache.shape[i])
                fail(ErrorKind::invalid_argument, "an update of ", update.shape[i], " steps for a cache of ",
                     cache.shape[i]);
        }
    }
    if (ctx.has_input(2) && ctx.input(2).ranked) {
        require(ctx.input(2).rank() == 1, "write_indices must have rank 1, not ", ctx.input(2).rank());
        same_dim(ctx.dims, cache.shape[0], ctx.input(2).shape[0], "batch and write_indices");
    }
    ctx.output(0, cache.dtype, cache.shape);
}

void run_tensor_scatter(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &update = ctx.input(1);
    Tensor& y = ctx.output(0);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", -2), x.rank()));
    const bool circular = ctx.attributes.s("mode", "linear") == "circular";
    const int64_t inner = product(x.shape, axis + 1, x.shape.size()), middle = product(x.shape, 1, axis);
    const int64_t most = x.shape[axis], steps = update.shape[axis];
    auto first_of = [&](int64_t batch) { return ctx.has_input(2) ? Indices(ctx.input(2))[batch] : 0; };
    for (int64_t batch = 0; batch < x.shape[0]; ++batch) {
        const int64_t first = first_of(batch);
        if (first < 0 || (!circular && first > most - steps))
            fail(ErrorKind::invalid_argument, "write index ", first, " with ", steps, " steps is outside a cache of ",
                 most);
    }
    copy_flat(ctx.parallel(), x.dtype, x.count(), x.data, y.data);
    if (update.count() == 0) return;
    for (int64_t batch = 0; batch < x.shape[0]; ++batch) {
        const int64_t first = circular ? first_of(batch) % most : first_of(batch);
        const int64_t before_end = std::min(steps, most - first);
        const int64_t from = batch * middle * steps * inner, to = batch * middle * most * inner;
        const Shape from_strides{steps * inner, 1}, to_strides{most * inner, 1};
        copy_box(ctx.parallel(), x.dtype, {middle, before_end * inner}, element(update.data, x.dtype, from),
                 from_strides, element(y.data, x.dtype, to + first * inner), to_strides);
        copy_box(ctx.parallel(), x.dtype, {middle, (steps - before_end) * inner},
                 element(update.data, x.dtype, from + before_end * inner), from_strides, element(y.data, x.dtype, to),
                 to_strides);
    }
}

}  // namespace

std::span<const OpDef> gather_nd_ops() {
    static const OpDef rows[] = {
        {.name = "GatherND",
         .since = 11,
         .infer = infer_gather_nd,
         .run = run_gather_nd,
         .min_inputs = 2,
         .max_inputs = 2},
        {.name = "ScatterND",
         .since = 11,
         .infer = infer_scatter_nd,
         .run = run_scatter_nd,
         .min_inputs = 3,
         .max_inputs = 3},
        {.name = "TensorScatter",
         .since = 24,
         .infer = infer_tensor_scatter,
         .run = run_tensor_scatter,
         .min_inputs = 2,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
