// Sequences read from front to back: filters over rows of positions, and the state of linear attention.
#pragma once

#include "kernels/kernels.h"

namespace linnet::kernels::LINNET_ISA {

LINNET_INLINE float fma_one(float a, float b, float c) {
    if constexpr (fma_rounds_once) return __builtin_fmaf(a, b, c);
    else return a * b + c;
}

// Vectors i ... i + V of one row of outputs; `left` of them are wanted, more than (V - 1) * lanes.
template <int V>
LINNET_INLINE void filter_block(size_t taps, const float* x, const float* w, float bias, float* y, size_t left) {
    f32 sums[V];
    unroll<V>(LINNET_LAMBDA(v) { sums[v] = splat(bias); });
    for (size_t j = 0; j < taps; ++j) {
        const f32 weight = splat(w[j]);
        unroll<V>(LINNET_LAMBDA(v) { sums[v] = fma(load_some(x + j + v * lanes, left - v * lanes), weight, sums[v]); });
    }
    unroll<V>(LINNET_LAMBDA(v) { store_some(y + v * lanes, sums[v], left - v * lanes); });
}

// One output of each of `lanes` rows with four taps, which all lie behind each other.
LINNET_INLINE void filter_step(const float* x, const float* w, const float* bias, float* y) {
    f32 taps[4], weights[4];
    unroll<4>(LINNET_LAMBDA(i) {
        taps[i] = load_quads(x + i * 4, 16 * sizeof(float));
        weights[i] = load_quads(w + i * 4, 16 * sizeof(float));
    });
    transpose_quads(taps);
    transpose_quads(weights);
    f32 sum = bias ? load(bias) : splat(0.0f);
    unroll<4>(LINNET_LAMBDA(j) { sum = fma(taps[j], weights[j], sum); });
    store(y, sum);
}

static void filter_f32(const FilterF32& a) noexcept {
    size_t r = 0;
    if (a.n == 1 && a.taps == 4 && a.x_stride == 4 && a.y_stride == 1)
        for (; r + lanes <= a.rows; r += lanes)
            filter_step(a.x + r * 4, a.w + r * 4, a.bias ? a.bias + r : nullptr, a.y + r);
    for (; r < a.rows; ++r) {
        const float* const x = a.x + (ptrdiff_t)r * a.x_stride;
        const float* const w = a.w + r * a.taps;
        float* const y = a.y + (ptrdiff_t)r * a.y_stride;
        const float bias = a.bias ? a.bias[r] : 0.0f;
        if (a.n < 4) {
            for (size_t i = 0; i < a.n; ++i) {
                float sum = bias;
                for (size_t j = 0; j < a.taps; ++j) sum = fma_one(x[i + j], w[j], sum);
                y[i] = sum;
            }
            continue;
        }
        size_t i = 0;
        for (; i + 4 * lanes <= a.n; i += 4 * lanes) filter_block<4>(a.taps, x + i, w, bias, y + i, 4 * lanes);
        for (; i < a.n; i += lanes) filter_block<1>(a.taps, x + i, w, bias, y + i, a.n - i);
    }
}

constexpr int state_vectors = 4;

// V vectors of columns from column c on, of which the last has `left` - (V - 1) * lanes columns.
template <int V>
LINNET_INLINE void walk_tokens(const LinearAttentionF32& a, size_t c, size_t left) {
    constexpr ptrdiff_t width = state_vectors * lanes;
    float* const state = a.state + c;
    const auto rows = [&](auto&& each) __attribute__((always_inline)) {
        for (size_t r = 0; r < a.keys; ++r)
            unroll<V>(LINNET_LAMBDA(i) { each(r, i, state + (ptrdiff_t)r * width + i * lanes); });
    };
    if (!a.from) rows([&](size_t, int, float* p) __attribute__((always_inline)) { store(p, splat(0.0f)); });
    else
        rows([&](size_t r, int i, float* p) __attribute__((always_inline)) {
            store(p, load_some(a.from + (ptrdiff_t)r * a.from_stride + c + i * lanes, left - i * lanes));
        });
    for (size_t t = 0; t < a.tokens; ++t) {
        const auto token = (ptrdiff_t)t;
        const float *const k = a.k + token * a.k_stride, *const q = a.q + token * a.q_stride;
        const float *const v = a.v + token * a.v_stride + c, *const decay = a.decay + token * a.decay_stride;
        float* const y = a.y + token * a.y_stride + c;
        // The state fades, and is asked for what it holds under this key.
        f32 sums[V], fresh[V];
        unroll<V>(LINNET_LAMBDA(i) { sums[i] = splat(0.0f); });
        for (size_t r = 0; r < a.keys; ++r) {
            const f32 factor = splat(decay[r * a.decay_step]), key = splat(k[r]);
            unroll<V>(LINNET_LAMBDA(i) {
                float* const p = state + (ptrdiff_t)r * width + i * lanes;
                const f32 s = load(p) * factor;
                store(p, s);
                sums[i] = fma(key, s, sums[i]);
            });
        }
        unroll<V>(LINNET_LAMBDA(i) {
            fresh[i] = load_some(v + i * lanes, left - i * lanes);
            if (a.beta) fresh[i] = splat(a.beta[token * a.beta_stride]) * (fresh[i] - sums[i]);
            sums[i] = splat(0.0f);
        });
        // It learns the value, and the first query reads it.
        for (size_t r = 0; r < a.keys; ++r) {
            const f32 key = splat(k[r]), query = splat(q[r]);
            unroll<V>(LINNET_LAMBDA(i) {
                float* const p = state + (ptrdiff_t)r * width + i * lanes;
                const f32 s = fma(key, fresh[i], load(p));
                store(p, s);
                sums[i] = fma(query, s, sums[i]);
            });
        }
        for (size_t head = 0;;) {
            unroll<V>(LINNET_LAMBDA(i) {
                store_some(y + (ptrdiff_t)head * a.y_head + i * lanes, sums[i] * splat(a.scale), left - i * lanes);
                sums[i] = splat(0.0f);
            });
            if (++head >= a.heads) break;
            for (size_t r = 0; r < a.keys; ++r) {
                const f32 query = splat(q[head * a.keys + r]);
                unroll<V>(LINNET_LAMBDA(i) {
                    sums[i] = fma(query, load(state + (ptrdiff_t)r * width + i * lanes), sums[i]);
                });
            }
        }
    }
    if (a.to)
        rows([&](size_t r, int i, const float* p) __attribute__((always_inline)) {
            store_some(a.to + (ptrdiff_t)r * a.to_stride + c + i * lanes, load(p), left - i * lanes);
        });
}

static void linear_attention_f32(const LinearAttentionF32& a) noexcept {
    constexpr size_t width = state_vectors * lanes;
    if (a.columns == width) return walk_tokens<state_vectors>(a, 0, width);
    for (size_t c = 0; c < a.columns; c += lanes) walk_tokens<1>(a, c, a.columns - c);
}

}  // namespace linnet::kernels::LINNET_ISA
