// Included once per instruction set, after its simd_<isa>.h: compiles every kernel and fills the table.
#pragma once

#include "kernels/binary.h"
#include "kernels/bytes.h"
#include "kernels/causal.h"
#include "kernels/convert.h"
#include "kernels/depthwise.h"
#include "kernels/depthwise_s8.h"
#include "kernels/epilogue.h"
#include "kernels/gemm.h"
#include "kernels/gemm_bits.h"
#include "kernels/gemm_plain.h"
#include "kernels/gemm_s8.h"
#ifdef LINNET_AMX
#include "kernels/gemm_s8_amx.h"
#endif
#include "kernels/map.h"
#include "kernels/math.h"
#include "kernels/pool.h"
#include "kernels/reduce.h"
#include "kernels/rnn.h"
#include "kernels/rows.h"
#include "kernels/sparse.h"
#include "kernels/sparse_s8.h"
#include "kernels/transpose.h"
#include "kernels/winograd.h"
#include "kernels/winograd_s8.h"

namespace linnet::kernels::LINNET_ISA {

#define LINNET_STRING_(x) #x
#define LINNET_STRING(x) LINNET_STRING_(x)
#define LINNET_ENTRY(name) .name = name

extern const Kernels table;
constexpr Kernels table = {
    .isa = LINNET_STRING(LINNET_ISA),
    .lanes = lanes,
    .gemm_rows = gemm_mr,
    .gemm_cols = gemm_nr,
    .gemm_s8_rows = dot_mr,
    .gemm_s8_cols = dot_nr,
    .winograd_s8_rows = w16_mr,
    .winograd_s8_cols = w16_nr,
    .winograd_s8_pays = winograd_s8_pays,
    LINNET_ENTRY(pack_b_f32_size),
    LINNET_ENTRY(pack_b_f32),
    LINNET_ENTRY(gemm_f32),
    LINNET_ENTRY(conv_f32),
    .gemm_f64 = gemm_plain<double>,
    .gemm_u32 = gemm_plain<uint32_t>,
    .gemm_u64 = gemm_plain<uint64_t>,
    .sparse_rows = sparse_tile_rows,
    LINNET_ENTRY(sparse_cost),
    LINNET_ENTRY(sparse_f32),
    .sparse_s8_rows = sparse_s8_tile_rows,
    LINNET_ENTRY(sparse_s8_cost),
    LINNET_ENTRY(sparse_s8),
    LINNET_ENTRY(winograd_in_f32),
    LINNET_ENTRY(winograd_out_f32),
    LINNET_ENTRY(pack_b_s8_size),
    LINNET_ENTRY(pack_b_s8),
    LINNET_ENTRY(gemm_s8),
    LINNET_ENTRY(book_gain),
    LINNET_ENTRY(pack_b_bits_size),
    LINNET_ENTRY(pack_b_bits),
    LINNET_ENTRY(gemm_bits),
    LINNET_ENTRY(unpack_b_bits),
    LINNET_ENTRY(pack_winograd_s8_size),
    LINNET_ENTRY(pack_winograd_s8),
    LINNET_ENTRY(winograd_s8_scratch),
    LINNET_ENTRY(winograd_s8),
    LINNET_ENTRY(pack_depthwise_f32_size),
    LINNET_ENTRY(pack_depthwise_f32),
    LINNET_ENTRY(depthwise_f32),
    LINNET_ENTRY(pack_depthwise_s8_size),
    LINNET_ENTRY(pack_depthwise_s8),
    LINNET_ENTRY(depthwise_s8),
    LINNET_ENTRY(max_pool_f32),
    LINNET_ENTRY(avg_pool_f32),
    LINNET_ENTRY(max_pool_bytes),
    LINNET_ENTRY(avg_pool_bytes),
    LINNET_ENTRY(blend_f32),
    LINNET_ENTRY(pack_recurrent_f32),
    LINNET_ENTRY(pack_recurrent_s8_size),
    LINNET_ENTRY(pack_recurrent_s8),
    LINNET_ENTRY(recurrent_f32),
    LINNET_ENTRY(filter_f32),
    .linear_attention_cols = state_vectors * lanes,
    LINNET_ENTRY(linear_attention_f32),
    LINNET_ENTRY(epilogue_f32),
    LINNET_ENTRY(map_f32),
    LINNET_ENTRY(binary_f32),
    LINNET_ENTRY(binary_f64),
    LINNET_ENTRY(binary_i32),
    LINNET_ENTRY(binary_i64),
    LINNET_ENTRY(compare_f32),
    LINNET_ENTRY(logic_bytes),
    LINNET_ENTRY(classify_f32),
    LINNET_ENTRY(where),
    LINNET_ENTRY(scale_shift_f32),
    LINNET_ENTRY(reduce_f32),
    LINNET_ENTRY(reduce_rows_f32),
    LINNET_ENTRY(weighted_rows_f32),
    LINNET_ENTRY(running_sums_f32),
    LINNET_ENTRY(arg_rows_f32),
    LINNET_ENTRY(extremes_i64),
    LINNET_ENTRY(sum_exp_f32),
    LINNET_ENTRY(sum_sq_dev_f32),
    LINNET_ENTRY(dot_f32),
    LINNET_ENTRY(softmax_f32),
    LINNET_ENTRY(log_softmax_f32),
    LINNET_ENTRY(layer_norm_f32),
    LINNET_ENTRY(rms_norm_f32),
    LINNET_ENTRY(transpose),
    LINNET_ENTRY(f16_to_f32),
    LINNET_ENTRY(f32_to_f16),
    LINNET_ENTRY(bf16_to_f32),
    LINNET_ENTRY(f32_to_bf16),
    LINNET_ENTRY(u8_to_f32),
    LINNET_ENTRY(s8_to_f32),
    LINNET_ENTRY(i32_to_f32),
    LINNET_ENTRY(convert),
    LINNET_ENTRY(quantize_u8),
    LINNET_ENTRY(quantize_s8),
    LINNET_ENTRY(dequantize_u8),
    LINNET_ENTRY(dequantize_s8),
    LINNET_ENTRY(dequantize_i32),
    LINNET_ENTRY(requantize_u8),
    LINNET_ENTRY(requantize_s8),
    LINNET_ENTRY(map_bytes),
    LINNET_ENTRY(add_bytes),
    LINNET_ENTRY(mul_bytes),
    LINNET_ENTRY(min_max_f32),
    LINNET_ENTRY(lstm_cell_f32),
    LINNET_ENTRY(gru_reset_f32),
    LINNET_ENTRY(gru_update_f32),
};

#ifdef LINNET_AMX
constexpr Kernels with_amx(Kernels t) {
    t.isa = "amx";
    t.gemm_s8_rows = amx_rows;
    t.gemm_s8 = gemm_s8_amx;
    t.sparse_s8_cost = {4.0f, 0, 14, 12};  // its dense kernel has tiles
    return t;
}
extern const Kernels table_amx;
constexpr Kernels table_amx = with_amx(table);
#endif

}  // namespace linnet::kernels::LINNET_ISA
