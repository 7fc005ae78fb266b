// The inner loops, behind one table of function pointers per instruction set.
//
// Kernels take pointers, strides and sizes. They know no graph, no threads and no errors, allocate nothing and never
// fail. General contract, unless a kernel says otherwise:
//  - Sizes and strides count ELEMENTS, never bytes. Strides may be larger than the width they step over.
//  - Any size may be 0. No alignment is required. Nothing is read or written beyond the given extents.
//  - Outputs may be the very same pointer as an input of the same element size in elementwise kernels (map, binary,
//    row kernels); partial overlap is not allowed.
//  - A result element has the same bits however the caller splits rows, columns or pixels over threads or calls.
//    Different tables may differ in the last bits of floats; integer results are equal on all of them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernels_bytes.h"
#include "kernels/kernels_causal.h"
#include "kernels/kernels_rows.h"
#include "kernels/kernels_sparse.h"

namespace linnet::kernels {

// ---------------------------------------------------------------------------------------------------- epilogue
// What happens to a result before it is stored: a short program, applied in order, in registers or in L1.
// row is the row (output pixel) counted from row 0 of c; col the column counted from column 0 of c.
struct EpilogueStep {
    enum class Kind : int32_t {
        add,    // x += data[row * stride + col]; stride 0: a bias per column; else a residual tensor
        mul,    // x *= data[row * stride + col]; stride 0: a gate or scale per column
        prelu,  // x = x < 0 ? x * data[row * stride + col] : x
        unary,  // x = fn(x; a, b)
    };
    Kind kind = Kind::unary;
    Unary fn = Unary::identity;
    float a = 0, b = 0;
    const float* data = nullptr;
    ptrdiff_t stride = 0;
};

// [add stride 0] [add] [relu | clip], each part optional, is applied for free; anything else costs one pass through L1.
// A residual may be c itself (same pointer, same stride).
struct Epilogue {
    const EpilogueStep* steps = nullptr;
    size_t count = 0;
};

// ---------------------------------------------------------------------------------------------------- f32 GEMM
// c[m, n] = epilogue(a[m, k] b[k, n]). Sum order: k = 0, 1, 2 ... for every element, starting from the first
// per-column add of the epilogue (or 0): the same bits for any split into rows and panels and for any tile.
struct GemmF32 {
    size_t m = 0, n = 0, k = 0;
    const float* a = nullptr;  // row stride lda >= k, elements of a row contiguous
    ptrdiff_t lda = 0;
    const float* b = nullptr;  // packed by pack_b_f32
    float* c = nullptr;        // row stride ldc >= n
    ptrdiff_t ldc = 0;
    Epilogue epilogue;
};

// Convolution as an indirect GEMM: row p (an output pixel) of A is the concatenation, over taps t, of k floats at
// x + offsets[t * offsets_ld + p], or at `zero` where that offset is negative (padding). Fill offsets with fill_taps
// (taps.h). Groups: one call per group with x, b, c, n and the epilogue's data advanced by the caller.
// First layers (1..4 channels): copy the padded image to scratch once and use taps = kh and k = kw * channels.
struct ConvF32 {
    size_t pixels = 0, n = 0, taps = 0, k = 0;
    const float* x = nullptr;
    const int32_t* offsets = nullptr;  // [taps][offsets_ld], offsets_ld >= pixels
    size_t offsets_ld = 0;
    const float* zero = nullptr;  // k zeros
    const float* b = nullptr;     // packed by pack_b_f32 with the same taps and k
    float* c = nullptr;           // [pixels][ldc]
    ptrdiff_t ldc = 0;
    Epilogue epilogue;
};

// Winograd's F(m x m, 3 x 3), stride 1: a = m + 2 input pixels a side give m outputs. Tile by tile, the a * a input
// pixels become one row each of a * a matrices v; a GEMM per matrix gives t; a * a elements of t become m * m outputs.
struct WinogradF32 {
    size_t m = 4;  // 2 or 4
    size_t tiles = 0, k = 0;
    const float* const* pixels = nullptr;  // [tiles][a * a]: k floats each, `zero` ones for padding
    float* v = nullptr;                    // [a * a][tiles][k], matrices v_stride apart
    ptrdiff_t v_stride = 0;
    const float* t = nullptr;  // [a * a][tiles][ldt], matrices t_stride apart
    ptrdiff_t t_stride = 0, ldt = 0;
    const int32_t* rows = nullptr;  // [tiles][m * m]: the row of y, negative outside of it
    float* y = nullptr;
    ptrdiff_t ldy = 0;
    Epilogue epilogue;
};

// Where B lies before packing: element (tap, k, n) at b[tap * tap_stride + k * k_stride + n * n_stride].
// A row-major K x N matrix: taps 1, k_stride N, n_stride 1. Its transpose (N x K): k_stride 1, n_stride K.
// ONNX conv weights [n][k][taps]: tap_stride 1, k_stride taps, n_stride k * taps.
struct PackB {
    size_t taps = 1, k = 0, n = 0;
    ptrdiff_t tap_stride = 0, k_stride = 0, n_stride = 1;
};

// ---------------------------------------------------------------------------------------------------- f32 sparse GEMM
// c[m, n] = epilogue(a[m, k] b[k, n]), summed as in GemmF32, without the terms that B leaves out. Ranges of groups
// begin and end with strips, or with the last group.
struct SparseF32 {
    size_t m = 0, n = 0, k = 0;  // k < 65536
    const float* a = nullptr;
    ptrdiff_t lda = 0;
    SparseB b;
    float* c = nullptr;
    ptrdiff_t ldc = 0;
    Epilogue epilogue;
    float* scratch = nullptr;  // (k + 1) * sparse_rows floats for each call at a time; best aligned to 64 bytes
};

// ---------------------------------------------------------------------------------------------------- int8 GEMM
// sum[m, n] = bias[n] + sum over taps, k of (a - a_zero) * b, exact modulo 2^32. a is u8, or s8 if a_signed; b is s8.
// Rows of A as in ConvF32 when offsets is not null (offsets in bytes; `zero` holds k bytes of the zero point), else
// row r of A is a + r * lda with taps = 1.
struct GemmS8 {
    enum class Out : int32_t {
        sums,    // c is int32_t: the sums
        bytes,   // c is u8 or s8: what `bytes` makes of them; its columns and rows are those of c
        floats,  // c is float: epilogue(float(sum) * scale[n])
    };
    size_t m = 0, n = 0, taps = 1, k = 0;
    const void* a = nullptr;
    ptrdiff_t lda = 0;
    const int32_t* offsets = nullptr;
    size_t offsets_ld = 0;
    const void* zero = nullptr;
    bool a_signed = false;
    int32_t a_zero = 0;
    const void* b = nullptr;        // packed by pack_b_s8
    const int32_t* bias = nullptr;  // per column, or null
    Out out = Out::sums;
    void* c = nullptr;
    ptrdiff_t ldc = 0;
    ToBytes bytes;                 // Out::bytes
    const float* scale = nullptr;  // Out::floats: per column
    Epilogue epilogue;             // Out::floats
};

// ---------------------------------------------------------------------------------------------------- narrow weights
// c[m, n] = epilogue(a w) in float32, w[k, n] = (q[k, n] - zero) * scale: a scale and, where `zero` is not null, a zero
// point for each column and each `block` of k. q is -8..7 (bits = 4) or an int8 (bits = 8). With a book, for 4
// bits, it is the value that the stored number plus 8 chooses there. The products of a block are added in the order
// of k; their sum, less zero times the block's sum of a, times scale, is added block after block. For few rows: each
// four of them read all weights again. unpack_b_bits serves the rest.
struct GemmBits {
    size_t m = 0, n = 0, k = 0;
    size_t bits = 4, block = 32;  // block: a multiple of 8, or at least k
    const float* a = nullptr;
    ptrdiff_t lda = 0;
    const void* b = nullptr;       // packed by pack_b_bits
    const float* book = nullptr;   // 16 values, or null
    const float* scale = nullptr;  // [ceil(k / block)][n], packed by pack_b_f32
    const float* zero = nullptr;   // the same, or null
    const float* sums =
        nullptr;  // with `zero`, or if bits is 4 without a book: [m][ceil(k / block)], the sums of a's blocks
    float* c = nullptr;
    ptrdiff_t ldc = 0;
    Epilogue epilogue;
};

// gemm_bits with a book is faster than gemm_f32 for at most so many rows, where a model has at least so many weights:
// fewer stay in the L2 cache between runs, and are read from there as fast as they are looked up.
struct BookGain {
    size_t rows, weights;
};

// The same with a sparse B, in blocks of four columns by four k: for each group of four columns, steps start[group] ...
// start[group + 1], ascending in k. Columns past n and k past the last have zeros.
struct SparseS8 {
    GemmS8 gemm;                           // rows of A by stride, one tap; b is not read
    const uint32_t* start = nullptr;       // [groups + 1]
    const uint16_t* index = nullptr;       // [steps]: k / 4
    const int8_t* values = nullptr;        // [steps][4 columns][4 k]
    const int32_t* column_sums = nullptr;  // [n]: of b
    uint32_t* scratch = nullptr;           // (k + 3) / 4 * sparse_s8_rows words for each call at a time
};

// As SparseCost, in units of one of the dense kernel's multiply-adds of a vector of four k.
struct SparseS8Cost {
    float block, in, out, dense;
};

// ---------------------------------------------------------------------------------------------------- depthwise
// y[oh, ow, c] = epilogue(sum over taps of x[oh * stride_h - pad_top + i * dilation_h, ..., c] * w[i, j, c]).
// 1-D: in_h = out_h = kernel_h = 1. A residual's row is oh * out_w + ow.
struct DepthwiseF32 {
    size_t in_h = 0, in_w = 0, out_h = 0, out_w = 0, channels = 0;
    size_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
    ptrdiff_t pad_top = 0, pad_left = 0;
    const float* x = nullptr;  // [in_h][x_row_stride], pixels x_stride apart
    ptrdiff_t x_row_stride = 0, x_stride = 0;
    const float* w = nullptr;     // packed by pack_depthwise_f32
    const float* zero = nullptr;  // `channels` zeros
    float* y = nullptr;
    ptrdiff_t y_row_stride = 0, y_stride = 0;
    Epilogue epilogue;
};

// ---------------------------------------------------------------------------------------------------- recurrent layers
// One step for one image, activations sigmoid and tanh. Units come in blocks of `recurrent_units`; s is h times the
// gates' weights, x what the inputs add to it. A unit's bits do not depend on the blocks asked for or their order.
struct RecurrentF32 {
    enum class Cell : int32_t {
        rnn,         // h' = tanh(x + s)
        lstm,        // gates i, o, f, g: c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c')
        gru,         // gates z, r, g: h' = (1 - z) tanh(x_g + r (s_g + bias)) + z state
        gru_reset,   // gates z, r: h' = sigmoid(r) state; x_z becomes x_z + s_z
        gru_update,  // gate g: h' = (1 - z) tanh(x_g + s_g) + z state, z = sigmoid of what gru_reset left
    };
    Cell cell = Cell::rnn;
    static constexpr size_t max_hidden_s8 = 4096;
    size_t hidden = 0;             // at most max_hidden_s8 with r_s8
    const float* h = nullptr;      // [hidden]: what is multiplied
    const float* r = nullptr;      // packed by pack_recurrent_f32
    const void* r_s8 = nullptr;    // or: packed by pack_recurrent_s8; h is then rounded to steps of max |h| / 32767
    const float* scale = nullptr;  // of r_s8: [blocks][gates][recurrent_units]
    float* x = nullptr;            // [blocks][gates][recurrent_units]
    const float* z = nullptr;      // gru_update: the x of gru_reset
    const float* bias = nullptr;   // gru: [hidden] or null
    const float* state = nullptr;  // gru*: [hidden], the state before
    float* c = nullptr;            // lstm: [hidden]
    float* h_next = nullptr;       // [hidden]
};

// ---------------------------------------------------------------------------------------------------- pools
// Tap offsets as in ConvF32: >= 0 a pixel, tap_padding (-1) padding, tap_outside (-2) beyond the padding.
// Max ignores both (a window without pixels gives -inf). Average divides by the number of pixels, or, with
// count_include_pad, of pixels and tap_padding.
struct PoolF32 {
    size_t pixels = 0, taps = 0, channels = 0;
    const float* x = nullptr;
    const int32_t* offsets = nullptr;
    size_t offsets_ld = 0;
    float* y = nullptr;  // [pixels][y_stride]
    ptrdiff_t y_stride = 0;
    bool count_include_pad = false;
};

struct Kernels {
    const char* isa;
    size_t lanes;      // floats in a vector
    size_t gemm_rows;  // tallest row tile; splitting rows at multiples of it costs nothing
    size_t gemm_cols;  // columns in a panel of packed B (f32); panel p holds columns [p * gemm_cols, ...)
    size_t gemm_s8_rows, gemm_s8_cols;
    size_t winograd_s8_rows, winograd_s8_cols;  // rows: tiles of the tallest register tile
    bool winograd_s8_pays;                      // it is expected to be faster here than gemm_s8

    // Floats needed for packed B.
    size_t (*pack_b_f32_size)(size_t taps, size_t k, size_t n) noexcept;
    // Packs the panels [panel_begin, panel_end) of b into out, the start of the whole packed matrix.
    void (*pack_b_f32)(const PackB&, const float* b, float* out, size_t panel_begin, size_t panel_end) noexcept;
    // Computes rows [row_begin, row_end) of the columns of panels [panel_begin, panel_end).
    void (*gemm_f32)(const GemmF32&, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept;
    void (*conv_f32)(const ConvF32&, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept;
    void (*gemm_f64)(const GemmPlain<double>&) noexcept;
    void (*gemm_u32)(const GemmPlain<uint32_t>&) noexcept;
    void (*gemm_u64)(const GemmPlain<uint64_t>&) noexcept;

    size_t sparse_rows;  // tallest row tile of sparse_f32
    SparseCost sparse_cost;
    // Computes rows [row_begin, row_end) of the columns of groups [group_begin, group_end).
    void (*sparse_f32)(const SparseF32&, size_t row_begin, size_t row_end, size_t group_begin,
                       size_t group_end) noexcept;
    size_t sparse_s8_rows;
    SparseS8Cost sparse_s8_cost;
    void (*sparse_s8)(const SparseS8&, size_t row_begin, size_t row_end, size_t group_begin, size_t group_end) noexcept;

    void (*winograd_in_f32)(const WinogradF32&) noexcept;                                     // pixels to v
    void (*winograd_out_f32)(const WinogradF32&, size_t col_begin, size_t col_end) noexcept;  // t to y

    // Bytes. out must be 4-byte aligned; 64 makes the products much faster on some tables, as does A aligned so.
    size_t (*pack_b_s8_size)(size_t taps, size_t k, size_t n) noexcept;
    void (*pack_b_s8)(const PackB&, const int8_t* b, void* out, size_t panel_begin, size_t panel_end) noexcept;
    void (*gemm_s8)(const GemmS8&, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept;

    BookGain book_gain;
    size_t (*pack_b_bits_size)(size_t bits, size_t k, size_t n) noexcept;  // bytes; out must be 4-byte aligned
    // taps is 1; of each byte the low `bits` count.
    void (*pack_b_bits)(const PackB&, size_t bits, const int8_t* b, void* out, size_t panel_begin,
                        size_t panel_end) noexcept;
    void (*gemm_bits)(const GemmBits&, size_t row_begin, size_t row_end, size_t panel_begin, size_t panel_end) noexcept;
    // The panels [panel_begin, panel_end) of w, which has no book, as pack_b_f32 would pack them; out is where the
    // first begins.
    void (*unpack_b_bits)(const GemmBits&, size_t panel_begin, size_t panel_end, float* out) noexcept;

    // Bytes needed, and packing of filters w[n][k][9] into the panels [panel_begin, panel_end) of winograd_s8_cols
    // columns; out, the start of all panels, must be 4-byte aligned.
    size_t (*pack_winograd_s8_size)(size_t m, size_t k, size_t n) noexcept;
    void (*pack_winograd_s8)(size_t m, size_t k, size_t n, const int8_t* w, void* out, size_t panel_begin,
                             size_t panel_end) noexcept;
    size_t (*winograd_s8_scratch)(size_t m, size_t tiles, size_t k) noexcept;
    void (*winograd_s8)(const WinogradS8&, size_t panel_begin, size_t panel_end) noexcept;

    // Floats needed, and packing of element (tap, channel) at w[tap * tap_stride + channel * channel_stride].
    // ONNX weights [channels][1][kh][kw]: tap_stride 1, channel_stride taps.
    size_t (*pack_depthwise_f32_size)(size_t taps, size_t channels) noexcept;
    void (*pack_depthwise_f32)(size_t taps, size_t channels, const float* w, ptrdiff_t tap_stride,
                               ptrdiff_t channel_stride, float* out) noexcept;
    // Output rows [row_begin, row_end). Tiles are up to three rows high: splits into fewer rows cost some speed.
    void (*depthwise_f32)(const DepthwiseF32&, size_t row_begin, size_t row_end) noexcept;
    // Bytes needed, and packing of element (tap, channel) of kernels [kernel_h][kernel_w] as above, zero point
    // subtracted, |w| <= 255. `wide`: some weight is no s8. out must be 4-byte aligned.
    size_t (*pack_depthwise_s8_size)(size_t kernel_h, size_t kernel_w, size_t channels, bool wide) noexcept;
    void (*pack_depthwise_s8)(size_t kernel_h, size_t kernel_w, size_t channels, bool wide, const int16_t* w,
                              ptrdiff_t tap_stride, ptrdiff_t channel_stride, void* out) noexcept;
    // Output rows [row_begin, row_end). Blocks are up to four rows high: splits into fewer rows cost some speed.
    void (*depthwise_s8)(const DepthwiseS8&, size_t row_begin, size_t row_end) noexcept;
    // Output pixels [begin, end).
    void (*max_pool_f32)(const PoolF32&, size_t begin, size_t end) noexcept;
    void (*avg_pool_f32)(const PoolF32&, size_t begin, size_t end) noexcept;
    void (*max_pool_bytes)(const PoolBytes&, size_t begin, size_t end) noexcept;
    void (*avg_pool_bytes)(const PoolBytes&, size_t begin, size_t end) noexcept;

    void (*blend_f32)(const BlendF32&) noexcept;

    // Packs element (gate, unit, k) at r[(gate * hidden + unit) * hidden + k]: recurrent_units * gates * hidden floats
    // a block. recurrent_units is gemm_cols.
    void (*pack_recurrent_f32)(size_t hidden, size_t gates, const float* r, float* out) noexcept;
    // The same of int8, in bytes; out must be 4-byte aligned.
    size_t (*pack_recurrent_s8_size)(size_t hidden, size_t gates) noexcept;
    void (*pack_recurrent_s8)(size_t hidden, size_t gates, const int8_t* r, void* out) noexcept;
    // Blocks [begin, end), last to first if `backward`.
    void (*recurrent_f32)(const RecurrentF32&, size_t begin, size_t end, bool backward) noexcept;

    void (*filter_f32)(const FilterF32&) noexcept;
    size_t linear_attention_cols;
    void (*linear_attention_f32)(const LinearAttentionF32&) noexcept;

    // The program of an epilogue alone: y[r, c] = epilogue(x[r, c]) for row_begin <= r < row_end; y may be x.
    void (*epilogue_f32)(const Epilogue&, size_t row_begin, size_t row_end, size_t cols, const float* x,
                         ptrdiff_t x_stride, float* y, ptrdiff_t y_stride) noexcept;

    // y[i] = fn(x[i]). NaN in gives NaN out. Errors of the transcendental ones are stated in math.h.
    void (*map_f32)(Unary, size_t n, const float* x, float* y, float a, float b) noexcept;
    // y[i] = op(a[i * a_step], b[i * b_step]), steps 0 or 1. min, max and prelu keep a NaN of either side (as numpy).
    void (*binary_f32)(Binary, size_t n, const float* a, size_t a_step, const float* b, size_t b_step,
                       float* y) noexcept;
    // add, sub, mul, min, max only (integers wrap around); other operations leave y untouched.
    void (*binary_f64)(Binary, size_t n, const double* a, size_t a_step, const double* b, size_t b_step,
                       double* y) noexcept;
    void (*binary_i32)(Binary, size_t n, const int32_t* a, size_t a_step, const int32_t* b, size_t b_step,
                       int32_t* y) noexcept;
    void (*binary_i64)(Binary, size_t n, const int64_t* a, size_t a_step, const int64_t* b, size_t b_step,
                       int64_t* y) noexcept;
    // y[i] = 1 or 0.
    void (*compare_f32)(Compare, size_t n, const float* a, size_t a_step, const float* b, size_t b_step,
                        uint8_t* y) noexcept;
    // y[i] = op(a[i * a_step], b[i * b_step]), steps 0 or 1.
    void (*logic_bytes)(Logic, size_t n, const uint8_t* a, size_t a_step, const uint8_t* b, size_t b_step,
                        uint8_t* y) noexcept;
    // y[i] = 1 where x[i] is NaN (if nan), infinite (if positive), minus infinity (if negative), else 0.
    void (*classify_f32)(size_t n, const float* x, bool nan, bool positive, bool negative, uint8_t* y) noexcept;
    // y[i] = cond[i * cond_step] ? a[i * a_step] : b[i * b_step] for elements of 1, 2, 4 or 8 bytes.
    void (*where)(size_t element_size, size_t n, const uint8_t* cond, size_t cond_step, const void* a, size_t a_step,
                  const void* b, size_t b_step, void* y) noexcept;
    // y[i] = x[i] * scale[i] + shift[i] (one rounding where the CPU has fma); scale or shift may be null.
    void (*scale_shift_f32)(size_t n, const float* x, const float* scale, const float* shift, float* y) noexcept;

    // y[r] = over the n contiguous values from x + r * x_stride. n = 0 gives 0 (sums), 1 (prod), -inf (max), +inf
    // (min). max and min keep NaN. Sums run in blocks with many accumulators: the error grows with about n / 4096, not
    // n.
    void (*reduce_f32)(Reduce, size_t rows, size_t n, const float* x, ptrdiff_t x_stride, float* y) noexcept;
    // y[c] = over rows r of x[r * x_stride + c]; with accumulate, combined with what y holds.
    void (*reduce_rows_f32)(Reduce, size_t rows, size_t cols, const float* x, ptrdiff_t x_stride, float* y,
                            bool accumulate) noexcept;
    // y[c] = sum over rows r of w[r] * x[r * x_stride + c], in the order of r.
    void (*weighted_rows_f32)(size_t rows, size_t cols, const float* w, const float* x, ptrdiff_t x_stride,
                              float* y) noexcept;
    // y[r][c] = the sum of x[0][c] ... x[r][c] in double, or, if exclusive, without the last; rows are row_step apart
    // in both, which may be one.
    void (*running_sums_f32)(size_t rows, size_t cols, const float* x, ptrdiff_t row_step, bool exclusive,
                             float* y) noexcept;
    // y[c] = the row r < 2^31 of the largest or smallest x[r * x_stride + c], the first or last of equals. A NaN is
    // the extreme.
    void (*arg_rows_f32)(bool largest, bool last, size_t rows, size_t cols, const float* x, ptrdiff_t x_stride,
                         int64_t* y) noexcept;
    // The least and the largest of x; of none of them, the largest and the least that there are.
    void (*extremes_i64)(size_t n, const int64_t* x, int64_t* least, int64_t* largest) noexcept;
    float (*sum_exp_f32)(size_t n, const float* x, float shift) noexcept;    // sum of exp(x - shift)
    float (*sum_sq_dev_f32)(size_t n, const float* x, float mean) noexcept;  // sum of (x - mean)^2
    float (*dot_f32)(size_t n, const float* x, const float* y) noexcept;

    // One row. y = softmax(x * scale + mask); mask may be null. A row that is -inf everywhere gives zeros if
    // masked, NaN (as ONNX) if not.
    void (*softmax_f32)(size_t n, const float* x, float scale, const float* mask, float* y) noexcept;
    void (*log_softmax_f32)(size_t n, const float* x, float* y) noexcept;
    // y = (x - mean) / sqrt(var + eps) * scale + bias; bias may be null. mean and 1/sqrt(var + eps) are stored
    // where the pointers are not null.
    void (*layer_norm_f32)(size_t n, const float* x, const float* scale, const float* bias, float eps, float* y,
                           float* mean, float* inv_std) noexcept;
    void (*rms_norm_f32)(size_t n, const float* x, const float* scale, float eps, float* y) noexcept;

    // dst[c * dst_stride + r] = src[r * src_stride + c]; elements of 1, 2, 4 or 8 bytes.
    void (*transpose)(size_t element_size, size_t rows, size_t cols, const void* src, ptrdiff_t src_stride, void* dst,
                      ptrdiff_t dst_stride) noexcept;

    // Conversions round to nearest even and keep NaN.
    void (*f16_to_f32)(size_t n, const uint16_t* x, float* y) noexcept;
    void (*f32_to_f16)(size_t n, const float* x, uint16_t* y) noexcept;
    void (*bf16_to_f32)(size_t n, const uint16_t* x, float* y) noexcept;
    void (*f32_to_bf16)(size_t n, const float* x, uint16_t* y) noexcept;
    void (*u8_to_f32)(size_t n, const uint8_t* x, float* y) noexcept;
    void (*s8_to_f32)(size_t n, const int8_t* x, float* y) noexcept;
    void (*i32_to_f32)(size_t n, const int32_t* x, float* y) noexcept;
    void (*convert)(Convert, size_t n, const void* x, void* y) noexcept;
    // y = saturate(round_half_even(x / scale) + zero), a true division. Steps 0 or 1; zero may be null. NaN gives
    // saturate(zero).
    void (*quantize_u8)(size_t n, const float* x, const float* scale, size_t scale_step, const uint8_t* zero,
                        size_t zero_step, uint8_t* y) noexcept;
    void (*quantize_s8)(size_t n, const float* x, const float* scale, size_t scale_step, const int8_t* zero,
                        size_t zero_step, int8_t* y) noexcept;
    // y = (x - zero) * scale.
    void (*dequantize_u8)(size_t n, const uint8_t* x, const float* scale, size_t scale_step, const uint8_t* zero,
                          size_t zero_step, float* y) noexcept;
    void (*dequantize_s8)(size_t n, const int8_t* x, const float* scale, size_t scale_step, const int8_t* zero,
                          size_t zero_step, float* y) noexcept;
    void (*dequantize_i32)(size_t n, const int32_t* x, const float* scale, size_t scale_step, float* y) noexcept;
    // y = saturate(round_half_even(float(x) * scale) + zero).
    void (*requantize_u8)(size_t n, const int32_t* x, const float* scale, size_t scale_step, int32_t zero,
                          uint8_t* y) noexcept;
    void (*requantize_s8)(size_t n, const int32_t* x, const float* scale, size_t scale_step, int32_t zero,
                          int8_t* y) noexcept;
    // y[i] = table[x[i]].
    void (*map_bytes)(size_t n, const uint8_t* x, const uint8_t* table, uint8_t* y) noexcept;
    void (*add_bytes)(const PairBytes&) noexcept;
    void (*mul_bytes)(const PairBytes&) noexcept;
    void (*min_max_f32)(size_t n, const float* x, float* min, float* max) noexcept;

    // c = sigmoid(f) c_prev + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c). All arguments pre-activation.
    void (*lstm_cell_f32)(size_t n, const float* i, const float* o, const float* f, const float* g, const float* c_prev,
                          float* c, float* h) noexcept;
    // y = sigmoid(r) * h.
    void (*gru_reset_f32)(size_t n, const float* r, const float* h, float* y) noexcept;
    // h = (1 - sigmoid(z)) tanh(g) + sigmoid(z) h_prev.
    void (*gru_update_f32)(size_t n, const float* z, const float* g, const float* h_prev, float* h) noexcept;
};

constexpr int32_t tap_padding = -1, tap_outside = -2;

// ---------------------------------------------------------------------------------------------------- dispatch
// The table in use: the best the CPU runs, or the one LINNET_ISA names; chosen at the first call and kept, since packed
// weights belong to one table. A LINNET_ISA that kernels_for does not know counts for nothing here: who can report
// errors looks first.
const Kernels& kernels() noexcept;

// Names of the tables compiled in, best first, null-terminated: "avx512" "avx2" "generic", or "neon_dot" "neon"
// "generic".
const char* const* kernel_names() noexcept;

// Null if the name is unknown or this CPU cannot run that table.
const Kernels* kernels_for(const char* name) noexcept;

}  // namespace linnet::kernels
