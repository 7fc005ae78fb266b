// One-row kernels: softmax, normalisations, gates of recurrent cells.
#pragma once

#include "kernels/map.h"
#include "kernels/reduce.h"

namespace linnet::kernels::LINNET_ISA {

static void softmax_f32(size_t n, const float* x, float scale, const float* mask, float* y) noexcept {
    if (n == 0) return;
    const f32 s = splat(scale);
    const bool plain = !mask && scale == 1.0f;
    if (!plain)
        for (size_t i = 0; i < n; i += lanes) {
            const size_t left = n - i;
            const f32 v = load_some(x + i, left);
            store_some(y + i, mask ? fma(v, s, load_some(mask + i, left)) : v * s, left);
        }
    const float* in = plain ? x : y;
    const float top = reduce_row<Reduce::max>(n, in);
    if (mask && top == -__builtin_inff()) {
        for (size_t i = 0; i < n; i += lanes) store_some(y + i, splat(0.0f), n - i);
        return;
    }
    const f32 shift = splat(top);
    const float total = reduce_loop<Reduce::sum>(
        n, [&](size_t i, size_t left) __attribute__((always_inline)) {
            const f32 e = exp(load_some(in + i, left) - shift);
            store_some(y + i, e, left);
            return cut(e, left, splat(0.0f));
        });
    const f32 share = splat(1.0f / total);
    for (size_t i = 0; i < n; i += lanes) store_some(y + i, load_some(y + i, n - i) * share, n - i);
}

static void log_softmax_f32(size_t n, const float* x, float* y) noexcept {
    if (n == 0) return;
    const float top = reduce_row<Reduce::max>(n, x);
    const float log_sum = __builtin_logf(sum_exp_f32(n, x, top));
    const f32 t = splat(top), l = splat(log_sum);
    for (size_t i = 0; i < n; i += lanes) store_some(y + i, load_some(x + i, n - i) - t - l, n - i);
}

static void layer_norm_f32(size_t n, const float* x, const float* scale, const float* bias, float eps, float* y,
                           float* mean_out, float* inv_std_out) noexcept {
    if (n == 0) return;
    const float mean = reduce_row<Reduce::sum>(n, x) / (float)n;
    const float inv_std = 1.0f / __builtin_sqrtf(sum_sq_dev_f32(n, x, mean) / (float)n + eps);
    if (mean_out) *mean_out = mean;
    if (inv_std_out) *inv_std_out = inv_std;
    const f32 m = splat(mean), s = splat(inv_std);
    for (size_t i = 0; i < n; i += lanes) {
        const size_t left = n - i;
        f32 v = (load_some(x + i, left) - m) * s;
        if (scale) v = v * load_some(scale + i, left);
        if (bias) v = v + load_some(bias + i, left);
        store_some(y + i, v, left);
    }
}

static void rms_norm_f32(size_t n, const float* x, const float* scale, float eps, float* y) noexcept {
    if (n == 0) return;
    const f32 s = splat(1.0f / __builtin_sqrtf(reduce_row<Reduce::sum_square>(n, x) / (float)n + eps));
    for (size_t i = 0; i < n; i += lanes) {
        const size_t left = n - i;
        f32 v = load_some(x + i, left) * s;
        if (scale) v = v * load_some(scale + i, left);
        store_some(y + i, v, left);
    }
}

static void lstm_cell_f32(size_t n, const float* i, const float* o, const float* f, const float* g, const float* c_prev,
                          float* c, float* h) noexcept {
    for (size_t k = 0; k < n; k += lanes) {
        const size_t left = n - k;
        const f32 keep = sigmoid(load_some(f + k, left)) * load_some(c_prev + k, left);
        const f32 cell = fma(sigmoid(load_some(i + k, left)), tanh(load_some(g + k, left)), keep);
        const f32 out = sigmoid(load_some(o + k, left)) * tanh(cell);
        store_some(c + k, cell, left);
        store_some(h + k, out, left);
    }
}
static void gru_reset_f32(size_t n, const float* r, const float* h, float* y) noexcept {
    for (size_t k = 0; k < n; k += lanes)
        store_some(y + k, sigmoid(load_some(r + k, n - k)) * load_some(h + k, n - k), n - k);
}
static void gru_update_f32(size_t n, const float* z, const float* g, const float* h_prev, float* h) noexcept {
    for (size_t k = 0; k < n; k += lanes) {
        const size_t left = n - k;
        const f32 s = sigmoid(load_some(z + k, left)), fresh = tanh(load_some(g + k, left));
        store_some(h + k, fma(s, load_some(h_prev + k, left) - fresh, fresh), left);
    }
}

}  // namespace linnet::kernels::LINNET_ISA
