// What kernels over sequences take, beside kernels.h: filters over rows of positions, the state of linear attention.
#pragma once

#include <cstddef>

namespace linnet::kernels {

// y[r, i] = bias[r] + sum over taps j of x[r, i + j] * w[r, j], in the order of j; bias may be null.
struct FilterF32 {
    size_t rows = 0, n = 0, taps = 0;
    const float* x = nullptr;  // [rows][n + taps - 1]
    ptrdiff_t x_stride = 0;
    const float* w = nullptr;  // [rows][taps]
    const float* bias = nullptr;
    float* y = nullptr;
    ptrdiff_t y_stride = 0;
};

// Linear attention over tokens t, for some columns of one state S [keys][columns], which `heads` queries read:
//   S = diag(decay[t]) S;  S += k[t] (x) v';  y[t, head] = scale * S^T q[t, head]
// where v' is v[t], or, with beta, beta[t] * (v[t] - S^T k[t]). Columns are independent of each other.
struct LinearAttentionF32 {
    size_t tokens = 0, keys = 0, columns = 0, heads = 1;  // 1 <= columns <= linear_attention_cols
    float* state = nullptr;                               // working memory, [keys][linear_attention_cols]
    const float* from = nullptr;                          // S before the first token, may be `state`; null: zeros
    float* to = nullptr;                                  // S after the last one; null: only in `state`
    ptrdiff_t from_stride = 0, to_stride = 0;
    const float *q = nullptr, *k = nullptr, *v = nullptr;
    ptrdiff_t q_stride = 0, k_stride = 0, v_stride = 0;  // from token to token; a token's heads of q are keys apart
    const float* decay = nullptr;
    ptrdiff_t decay_stride = 0;
    size_t decay_step = 0;        // 1: a factor for each key; 0: one for all
    const float* beta = nullptr;  // or null
    ptrdiff_t beta_stride = 0;
    float* y = nullptr;
    ptrdiff_t y_stride = 0, y_head = 0;
    float scale = 1;
};

}  // namespace linnet::kernels
