// GatherElements (11, 13), ScatterElements (11, 13; 16 with `reduction`, 18 also max and min) and Scatter (9, 11).
#include <algorithm>

#include "ops/shared/combine.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/indices.h"

namespace linnet {
namespace {

// Indices may not reach beyond data in any axis but `axis`.
void check_extent(const Fact& data, const Fact& indices, size_t axis) {
    require(indices.rank() == data.rank(), "indices have rank ", indices.rank(), ", data has ", data.rank());
    for (size_t i = 0; i < data.shape.size(); ++i)
        if (i != axis && is_number(data.shape[i]) && is_number(indices.shape[i]) && indices.shape[i] > data.shape[i])
            fail(ErrorKind::invalid_argument, "indices ", shape_text(indices.shape), " are larger than data ",
                 shape_text(data.shape), " on axis ", i);
}

void infer_gather_elements(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1);
    require_index_type(indices);
    if (data.ranked) {
        const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()));
        if (indices.ranked) check_extent(data, indices, axis);
    }
    if (!indices.ranked) return ctx.output_unranked(0, data.dtype);
    ctx.output(0, data.dtype, indices.shape);
}

constexpr int64_t kChunk = 256;

// A part of a row of the indices: index i leads to base + i * step + index * stride in data, whose axis has `size`.
struct IndexRun {
    int64_t position;  // in the indices
    int64_t count;     // at most kChunk
    int64_t size, stride, base, step;
};

// Calls fn(places) with a function that tells where index i of the run leads. All of them are checked before.
template <class Index, class Fn>
void read_run(const IndexRun& run, const Index* indices, const Fn& fn) {
    const Index* from = indices + run.position;
    if (check_indices(from, run.count, run.size).least < 0)
        return fn([&](int64_t i) {
            const int64_t index = from[i];
            return run.base + i * run.step + (index + (index < 0 ? run.size : 0)) * run.stride;
        });
    fn([&](int64_t i) { return run.base + i * run.step + from[i] * run.stride; });
}
template <class Fn>
void read_run(const IndexRun& run, const Tensor& indices, const Fn& fn) {
    if (indices.dtype == DType::i64) read_run(run, indices.as<int64_t>(), fn);
    else read_run(run, indices.as<int32_t>(), fn);
}

// Calls fn(run) for parts of the rows [begin, end) of the indices (a row runs along their last axis).
template <class Fn>
void for_runs(const Tensor& indices, const Shape& data, size_t axis, int64_t begin, int64_t end, const Fn& fn) {
    const size_t last = data.size() - 1;
    const Shape strides = strides_of(data);
    const int64_t width = indices.shape[last], step = axis == last ? 0 : 1;
    for (int64_t row = begin; row < end; ++row) {
        int64_t rest = row, base = 0;
        for (size_t i = last; i-- > 0;) {
            if (i != axis) base += rest % indices.shape[i] * strides[i];
            rest /= indices.shape[i];
        }
        for (int64_t first = 0; first < width; first += kChunk)
            fn(IndexRun{row * width + first, std::min(kChunk, width - first), data[axis], strides[axis],
                        base + first * step, step});
    }
}

// Calls fn(position, count, places) for the same parts.
template <class Fn>
void for_places(const Tensor& indices, const Shape& data, size_t axis, int64_t begin, int64_t end, const Fn& fn) {
    for_runs(indices, data, axis, begin, end, [&](const IndexRun& run) {
        int64_t places[kChunk];
        read_run(run, indices, [&](const auto& place) {
            for (int64_t i = 0; i < run.count; ++i) places[i] = place(i);
        });
        fn(run.position, run.count, places);
    });
}

void run_gather_elements(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    const int64_t width = y.shape.back();
    const auto rows = [&](const auto& gather) {
        parallel_ranges(ctx.parallel(), y.count() / width, std::max<int64_t>(1, 8192 / width), gather);
    };
    if (x.dtype != DType::string && dtype_size(x.dtype) == 4)  // without a list of places
        return rows([&](int64_t begin, int64_t end) {
            for_runs(indices, x.shape, axis, begin, end, [&](const IndexRun& run) {
                const auto* from = static_cast<const uint32_t*>(x.data);
                auto* to = static_cast<uint32_t*>(y.data) + run.position;
                read_run(run, indices, [&](const auto& place) {
                    for (int64_t i = 0; i < run.count; ++i) to[i] = from[place(i)];
                });
            });
        });
    rows([&](int64_t begin, int64_t end) {
        for_places(indices, x.shape, axis, begin, end, [&](int64_t position, int64_t count, const int64_t* places) {
            if (x.dtype != DType::string)
                return gather_runs(dtype_size(x.dtype), count, x.data, places, element(y.data, x.dtype, position));
            for (int64_t i = 0; i < count; ++i)
                copy_text(x.as<std::string>()[places[i]], y.as<std::string>()[position + i]);
        });
    });
}

void infer_scatter_elements(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1), &updates = tensor_input(ctx, 2);
    check_scatter(ctx);
    if (indices.ranked && updates.ranked) {
        require(indices.rank() == updates.rank(), "indices have rank ", indices.rank(), ", updates ", updates.rank());
        for (size_t i = 0; i < indices.shape.size(); ++i)
            same_dim(ctx.dims, indices.shape[i], updates.shape[i], "indices and updates");
    }
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()));
    if (indices.ranked) check_extent(data, indices, axis);
    ctx.output(0, data.dtype, data.shape);
}

void run_scatter_elements(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1), &updates = ctx.input(2);
    Tensor& y = ctx.output(0);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    copy_flat(ctx.parallel(), x.dtype, x.count(), x.data, y.data);
    if (indices.count() == 0) return;
    const std::string& reduction = ctx.attributes.s("reduction", "none");
    const Combine combine = reduction == "none" ? nullptr : combine_of(reduction, x.dtype);
    const int64_t rows = indices.count() / indices.shape.back();
    auto scatter = [&](int64_t begin, int64_t end) {
        for_places(indices, x.shape, axis, begin, end, [&](int64_t position, int64_t count, const int64_t* places) {
            const void* from = element(updates.data, x.dtype, position);
            if (combine) return combine(count, y.data, places, from);
            if (x.dtype != DType::string) return scatter_runs(dtype_size(x.dtype), count, from, places, y.data);
            for (int64_t i = 0; i < count; ++i)
                copy_text(updates.as<std::string>()[position + i], y.as<std::string>()[places[i]]);
        });
    };
    // Rows of different first indices never meet, unless that is the axis; a row along the last axis is never split.
    if (axis == 0) return scatter(0, rows);
    const int64_t step = rows / indices.shape[0];
    const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, step * indices.shape.back()));
    parallel_ranges(ctx.parallel(), indices.shape[0], grain,
                    [&](int64_t begin, int64_t end) { scatter(begin * step, end * step); });
}

constexpr OpDef scatter_row(std::string_view name, int since) {
    return {.name = name,
            .since = since,
            .infer = infer_scatter_elements,
            .run = run_scatter_elements,
            .min_inputs = 3,
            .max_inputs = 3};
}

}  // namespace

std::span<const OpDef> gather_elements_ops() {
    static const OpDef rows[] = {
        {.name = "GatherElements",
         .since = 11,
         .infer = infer_gather_elements,
         .run = run_gather_elements,
         .min_inputs = 2,
         .max_inputs = 2},
        scatter_row("ScatterElements", 11),
        scatter_row("Scatter", 9),
    };
    return rows;
}

}  // namespace linnet
