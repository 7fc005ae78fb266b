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

// Where `count` indices of a row lead, the first of them standing for `base`: each checked, `stride` apart, and `step`
// further than the one before.
template <class Index>
void read_places(const Index* indices, int64_t count, int64_t size, int64_t stride, int64_t base, int64_t step,
                 int64_t* places) {
    uint64_t outside = 0;
    for (int64_t i = 0; i < count; ++i) {
        const int64_t index = indices[i];
        outside |= outside_bit(index, size);
        // Wild indices must not overflow before they are refused.
        const auto from_start = static_cast<uint64_t>(index) + static_cast<uint64_t>(index < 0 ? size : 0);
        places[i] = base + i * step + static_cast<int64_t>(from_start * static_cast<uint64_t>(stride));
    }
    if (outside >> 63) check_indices(indices, count, size);
}

// Calls fn(position, count, places) for parts of the rows [begin, end) of the indices (a row runs along their last
// axis): `position` in the indices, places in data.
template <class Fn>
void for_places(const Tensor& indices, const Shape& data, size_t axis, int64_t begin, int64_t end, const Fn& fn) {
    const size_t last = data.size() - 1;
    const Shape strides = strides_of(data);
    const int64_t width = indices.shape[last], step = axis == last ? 0 : 1;
    int64_t places[kChunk];
    for (int64_t row = begin; row < end; ++row) {
        int64_t rest = row, base = 0;
        for (size_t i = last; i-- > 0;) {
            if (i != axis) base += rest % indices.shape[i] * strides[i];
            rest /= indices.shape[i];
        }
        for (int64_t first = 0; first < width; first += kChunk) {
            const int64_t position = row * width + first, count = std::min(kChunk, width - first);
            const auto read = [&](const auto* from) {
                read_places(from + position, count, data[axis], strides[axis], base + first * step, step, places);
            };
            if (indices.dtype == DType::i64) read(indices.as<int64_t>());
            else read(indices.as<int32_t>());
            fn(position, count, places);
        }
    }
}

void run_gather_elements(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    const int64_t width = y.shape.back();
    parallel_ranges(
        ctx.parallel(), y.count() / width, std::max<int64_t>(1, 8192 / width), [&](int64_t begin, int64_t end) {
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
