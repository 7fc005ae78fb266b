// Quantization parameters: which scale belongs to which element.
#pragma once
#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "base/shape.h"

namespace linnet {

// The elements of x as rows that walk the scales with one step: 0 (the row has one scale) or 1 (a scale an element).
struct QuantGrid {
    enum class Kind : uint8_t { tensor, axis, block } kind = Kind::tensor;
    int64_t count = 0, outer = 1, axis = 1, inner = 1, scales = 1, block = 1;
    int64_t rows = 0;

    struct Row {
        int64_t x, n, scale;
        size_t step;
    };
    Row row(int64_t r) const {
        constexpr int64_t kPiece = 4096;
        if (kind == Kind::tensor) return {r * kPiece, std::min(kPiece, count - r * kPiece), 0, 0};
        if (kind == Kind::axis) {
            if (inner == 1) return {r * axis, axis, 0, 1};
            return {r * inner, inner, r % axis, 0};
        }
        if (inner == 1) {
            const int64_t start = r % scales * block;
            return {r / scales * axis + start, std::min(block, axis - start), r, 0};
        }
        return {r * inner, inner, (r / axis * scales + r % axis / block) * inner, 1};
    }
    static QuantGrid make(const Shape& x, const Shape& scale, int64_t axis_attribute, int64_t block_size);
};

inline QuantGrid QuantGrid::make(const Shape& x, const Shape& scale, int64_t axis_attribute, int64_t block_size) {
    QuantGrid grid;
    grid.count = element_count(x);
    const int64_t n = element_count(scale);
    if (n == 1 && (block_size == 0 || scale.size() <= 1)) {
        grid.rows = (grid.count + 4095) / 4096;
        return grid;
    }
    const auto rank = static_cast<int64_t>(x.size());
    const auto axis = static_cast<size_t>(normal_axis(axis_attribute, rank));
    grid.outer = product(x, 0, axis);
    grid.axis = x[axis];
    grid.inner = product(x, axis + 1, x.size());
    if (block_size == 0) {
        grid.kind = Kind::axis;
        if (scale.size() != 1 || scale[0] != grid.axis)
            fail(ErrorKind::invalid_argument, "scale is ", shape_text(scale), ", expected one per index of axis ", axis,
                 " of ", shape_text(x));
        grid.rows = grid.inner == 1 ? grid.outer : grid.outer * grid.axis;
    } else {
        grid.kind = Kind::block;
        if (block_size < 0)
            fail(ErrorKind::invalid_graph, "block_size is ", block_size, ", expected a positive number");
        grid.block = block_size;
        grid.scales = grid.axis / block_size + (grid.axis % block_size != 0);
        Shape expected = x;
        expected[axis] = grid.scales;
        if (!(scale == expected))
            fail(ErrorKind::invalid_argument, "scale is ", shape_text(scale), ", expected ", shape_text(expected),
                 " for blocks of ", block_size, " along axis ", axis, " of ", shape_text(x));
        grid.rows = grid.inner == 1 ? grid.outer * grid.scales : grid.outer * grid.axis;
    }
    if (grid.count == 0) grid.rows = 0;
    return grid;
}

}  // namespace linnet
