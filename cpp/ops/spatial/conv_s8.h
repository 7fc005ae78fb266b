// The inside of conv_plan_s8.h: what prepare hands to run.
#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/kernels.h"
#include "ops/shared/sparse.h"
#include "ops/spatial/conv_plan_s8.h"
#include "ops/spatial/window.h"
#include "ops/spatial/winograd_s8.h"

namespace linnet {

enum class ConvPath : uint8_t {
    gemm,
    sparse,  // a GEMM without the zeros of its weights
    indirect,
    winograd,
    depthwise,
    depthwise_sums  // int32 results, or 3-D
};

// What depends on the scales, zero points and bias: by column.
struct ConvColumns {
    const int32_t* bias = nullptr;  // [groups][columns]
    const float* scale = nullptr;   // [filters]
    const uint8_t* zero = nullptr;  // a run of zero points of x
    int32_t x_zero = 0, y_zero = 0;
};

struct ConvPlanS8 {
    ConvPath path = ConvPath::indirect;
    bool linear = false;             // QLinearConv: bytes come out
    bool wide = false;               // weights need the sum of the inputs: a column of ones
    bool sums = false;               // through sums in memory
    int64_t images = 0, pixels = 0;  // images; output pixels of one
    int64_t in_elements = 0, in_channels = 0, filters = 0;
    int64_t groups = 1, k = 0, n = 0, taps = 1, all_taps = 1;
    kernels::Window window;
    TapTable table;
    bool merged = false;  // weights are reordered to [n][taps][channels]
    bool padded = false;  // the input is copied with padded rows
    int64_t padded_width = 0, padded_elements = 0;
    std::shared_ptr<const Tensor> packed;  // null: weights are packed in every run
    size_t packed_group = 0, packed_bytes = 0;
    int64_t row_block = 1, panel_block = 1, parts = 1;
    // Windows are copied into rows: `runs` of `run` bytes each.
    int64_t runs = 0, run = 0, row_stride = 0;
    int64_t rows_slot = 0, sums_slot = 0;  // of a part's scratch: bytes, sums
    size_t zeros = 1;                      // length of the run of zero points
    kernels::ToBytes bytes;
    // Bytes into the scratch.
    size_t packed_at = 0, padded_at = 0, rows_at = 0, sums_at = 0, bias_at = 0, scale_at = 0, zero_at = 0;
    WinogradS8Plan winograd;  // if that is the path
    SparsePlan sparse;        // the same
    bool fixed = false;       // the columns are known:
    std::vector<int32_t> bias;
    std::vector<float> scale;
    std::vector<uint8_t> zero;
    int32_t x_zero = 0, y_zero = 0;

    bool is_depthwise() const { return path == ConvPath::depthwise || path == ConvPath::depthwise_sums; }
    int64_t columns() const { return n + (wide && !is_depthwise() ? 1 : 0); }
    int64_t panels() const {
        const auto cols = static_cast<int64_t>(kernels::kernels().gemm_s8_cols);
        return (columns() + cols - 1) / cols;
    }
    bool in_parts() const { return sums || runs; }  // tasks need scratch of their own
    bool one_matrix() const { return path == ConvPath::gemm; }
};

inline const ConvOperands& operands(const ConvPlanS8& plan) { return plan.linear ? kQLinearConv : kConvInteger; }

// Element `filter` of a parameter, or its only one; 0 without it.
inline int64_t conv_parameter(const Tensor* t, int64_t filter) {
    return t ? int_at(*t, t->count() == 1 ? 0 : filter) : 0;
}
// The zero point of weights that needs no correction.
inline int64_t neutral_zero(DType dtype) { return dtype == DType::u8 ? 128 : 0; }

// `input(i)` gives the tensor of input i, or null.
template <class Input>
void fill_columns(const ConvPlanS8& plan, const Input& input, int32_t* bias, float* scale, uint8_t* zero,
                  int32_t& x_zero, int32_t& y_zero) {
    const ConvOperands& at = operands(plan);
    x_zero = static_cast<int32_t>(conv_parameter(input(at.x_zero), 0));
    std::memset(zero, static_cast<uint8_t>(x_zero), plan.zeros);
    const int64_t columns = plan.columns();
    std::fill_n(bias, plan.groups * columns, 0);
    if (!plan.linear) return;
    y_zero = static_cast<int32_t>(conv_parameter(input(at.y_zero), 0));
    if (const Tensor* given = input(at.bias))
        for (int64_t i = 0; i < plan.filters; ++i) bias[i / plan.n * columns + i % plan.n] = given->as<int32_t>()[i];
    const float x_scale = *input(at.x_scale)->template as<float>(), y_scale = *input(at.y_scale)->template as<float>();
    const Tensor& w_scale = *input(at.w_scale);
    for (int64_t i = 0; i < plan.filters; ++i)
        scale[i] = x_scale * w_scale.as<float>()[w_scale.count() == 1 ? 0 : i] / y_scale;
}

// The weights in the form that the path's kernel wants: plan.packed_bytes.
void pack_weights(const ConvPlanS8& plan, const Tensor& w, const Tensor* w_zero, std::byte* out);

}  // namespace linnet
