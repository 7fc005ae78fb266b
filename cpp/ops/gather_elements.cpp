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

// Calls fn(position, place) for the rows [begin, end) of the indices (a row runs along their last axis): `position` in
// the indices, `place` in data. Indices must have been checked.
template <class Fn>
void for_places(const Tensor& indices, const Shape& data, size_t axis, int64_t begin, int64_t end, const Fn& fn) {
    const size_t last = data.size() - 1;
    const Shape strides = strides_of(data);
    const Indices index(indices);
    const int64_t width = indices.shape[last];
    for (int64_t row = begin; row < end; ++row) {
        int64_t rest = row, base = 0;
        for (size_t i = last; i-- > 0;) {
            if (i != axis) base += rest % indices.shape[i] * strides[i];
            rest /= indices.shape[i];
        }
        const int64_t position = row * width;
        for (int64_t i = 0; i < width; ++i) {
            const int64_t picked = index.at(position + i, data[axis]) * strides[axis];
            fn(position + i, base + picked + (axis == last ? 0 : i));
        }
    }
}

template <size_t bytes>
void gather_rows(const Tensor& x, const Tensor& indices, Tensor& y, size_t axis, int64_t begin, int64_t end) {
    const auto* from = static_cast<const char*>(x.data);
    auto* to = static_cast<char*>(y.data);
    for_places(indices, x.shape, axis, begin, end, [&](int64_t position, int64_t place) {
        __builtin_memcpy(to + position * static_cast<int64_t>(bytes), from + place * static_cast<int64_t>(bytes),
                         bytes);
    });
}

void run_gather_elements(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    Tensor& y = ctx.output(0);
    if (y.count() == 0) return;
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    check_indices(indices, x.shape[axis]);
    const int64_t width = y.shape.back();
    parallel_ranges(ctx.parallel(), y.count() / width, std::max<int64_t>(1, 8192 / width),
                    [&](int64_t begin, int64_t end) {
                        if (x.dtype == DType::string) {
                            for_places(indices, x.shape, axis, begin, end, [&](int64_t position, int64_t place) {
                                copy_text(x.as<std::string>()[place], y.as<std::string>()[position]);
                            });
                            return;
                        }
                        switch (dtype_size(x.dtype)) {
                            case 1: return gather_rows<1>(x, indices, y, axis, begin, end);
                            case 2: return gather_rows<2>(x, indices, y, axis, begin, end);
                            case 4: return gather_rows<4>(x, indices, y, axis, begin, end);
                            case 8: return gather_rows<8>(x, indices, y, axis, begin, end);
                            default: return gather_rows<16>(x, indices, y, axis, begin, end);
                        }
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
    check_indices(indices, x.shape[axis]);
    copy_flat(ctx.parallel(), x.dtype, x.count(), x.data, y.data);
    if (indices.count() == 0) return;
    const std::string& reduction = ctx.attributes.s("reduction", "none");
    const Combine combine = reduction == "none" ? nullptr : combine_of(reduction, x.dtype);
    const int64_t rows = indices.count() / indices.shape.back();
    auto scatter = [&](int64_t begin, int64_t end) {
        for_places(indices, x.shape, axis, begin, end, [&](int64_t position, int64_t place) {
            const void* from = element(updates.data, x.dtype, position);
            void* to = element(y.data, x.dtype, place);
            if (combine) combine(1, to, from);
            else copy_run(x.dtype, 1, from, to);
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
