// A sparse matrix as kernels take it, and what products by it cost: a part of kernels.h, whose general contract holds.
#pragma once

#include <cstddef>
#include <cstdint>

namespace linnet::kernels {

constexpr size_t sparse_strip = 16;  // columns, four groups: a cache line of C

// B without its zeros, in a form for tiles of rows or, row_..., for few rows, that are taken one by one.
// blocks, columns: for each group of four columns, steps start[group] ... start[group + 1], ascending in k. A step
//   multiplies four values, one per column, of one k or, in `columns`, of a k for each; columns past n and columns that
//   ran out of values have zeros. `columns`, but not row_columns, may have the columns of a strip in any order.
// row_bits: for each strip and k, bit c of `bits` tells whether column c has a value; the values of a strip begin at
//   start[strip], ordered by k and column.
struct SparseB {
    enum class Form : uint8_t { blocks, columns, row_blocks, row_columns, row_bits };
    Form form = Form::blocks;
    const uint32_t* start = nullptr;  // [groups + 1], or [strips + 1]
    const uint32_t* index = nullptr;  // [steps], or [steps][4] for columns: k, for tiles times sparse_rows; the size of
                                      // k in the place of k stands for a zero
    const float* values = nullptr;    // [steps][4], or packed, with sparse_strip readable ones behind
    const uint8_t* order = nullptr;   // columns: [groups][4]: which column of its strip that is
    const uint16_t* bits = nullptr;   // row_bits: [strips][k]
};

// What a sparse product costs, in units of one of the dense GEMM's multiply-adds of a vector; measured.
struct SparseCost {
    float block, column;                    // a value of a step, in blocks or not
    float in, out;                          // an element of A, of C: transposed
    float dense;                            // what the dense GEMM pays for an element of C beside its k multiply-adds
    float row_block, row_column, row_bits;  // a value or a bit for one row, where dense B has one to read and multiply
};

}  // namespace linnet::kernels
