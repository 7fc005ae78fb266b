// The transforms of Winograd's convolution with 3 x 3 filters, F(2 x 2) and F(4 x 4), points 0, 1, -1, infinity and,
// for four outputs, 2 and -2 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
#pragma once

#include "kernels/epilogue.h"

namespace linnet::kernels::LINNET_ISA {

// B^T d.
template <int M>
LINNET_INLINE void winograd_in(const f32* d, f32* o) {
    if constexpr (M == 2) {
        o[0] = d[0] - d[2], o[1] = d[1] + d[2], o[2] = d[2] - d[1], o[3] = d[1] - d[3];
    } else {
        const f32 four = splat(4.0f), five = splat(5.0f);
        const f32 even = d[4] - four * d[2], odd = d[3] - four * d[1], far = d[4] - d[2], step = d[3] - d[1];
        o[0] = d[4] + (four * d[0] - five * d[2]);
        o[1] = even + odd, o[2] = even - odd;
        o[3] = far + (step + step), o[4] = far - (step + step);
        o[5] = d[5] + (four * d[1] - five * d[3]);
    }
}

// A^T t.
template <int M>
LINNET_INLINE void winograd_out(const f32* t, f32* o) {
    const f32 sum = t[1] + t[2], difference = t[1] - t[2];
    if constexpr (M == 2) {
        o[0] = t[0] + sum, o[1] = difference - t[3];
    } else {
        const f32 far = t[3] + t[4], step = t[3] - t[4];
        o[0] = t[0] + sum + far;
        o[1] = difference + (step + step);
        o[2] = sum + splat(4.0f) * far;
        o[3] = difference + splat(8.0f) * step + t[5];
    }
}

template <int M, bool Whole>
LINNET_INLINE void winograd_in_tile(const float* const* pixels, size_t c, size_t left, float* v, ptrdiff_t v_stride) {
    constexpr int A = M + 2;
    f32 rows[A][A];
    unroll<A>(LINNET_LAMBDA(i) {
        f32 d[A];
        unroll<A>(LINNET_LAMBDA(j) {
            const float* p = pixels[i * A + j] + c;
            d[j] = Whole ? load(p) : load_n(p, left);
        });
        winograd_in<M>(d, rows[i]);
    });
    unroll<A>(LINNET_LAMBDA(j) {
        f32 d[A], o[A];
        unroll<A>(LINNET_LAMBDA(i) { d[i] = rows[i][j]; });
        winograd_in<M>(d, o);
        unroll<A>(LINNET_LAMBDA(i) {
            float* to = v + (i * A + j) * v_stride + c;
            if constexpr (Whole) store(to, o[i]);
            else store_n(to, o[i], left);
        });
    });
}

template <int M>
static void winograd_in_tiles(const WinogradF32& w) noexcept {
    constexpr int A = M + 2;
    for (size_t tile = 0; tile < w.tiles; ++tile) {
        const float* const* pixels = w.pixels + tile * A * A;
        float* v = w.v + tile * w.k;
        size_t c = 0;
        for (; c + lanes <= w.k; c += lanes) winograd_in_tile<M, true>(pixels, c, lanes, v, w.v_stride);
        if (c < w.k) winograd_in_tile<M, false>(pixels, c, w.k - c, v, w.v_stride);
    }
}

// One vector of columns: the M x M outputs, bias added.
template <int M>
LINNET_INLINE void winograd_out_tile(const float* t, ptrdiff_t t_stride, size_t left, f32 bias, f32 (*y)[M]) {
    constexpr int A = M + 2;
    f32 rows[M][A];
    unroll<A>(LINNET_LAMBDA(j) {
        f32 d[A], o[M];
        unroll<A>(LINNET_LAMBDA(i) { d[i] = load_some(t + (i * A + j) * t_stride, left); });
        winograd_out<M>(d, o);
        unroll<M>(LINNET_LAMBDA(i) { rows[i][j] = o[i]; });
    });
    unroll<M>(LINNET_LAMBDA(i) {
        winograd_out<M>(rows[i], y[i]);
        unroll<M>(LINNET_LAMBDA(j) { y[i][j] = y[i][j] + bias; });
    });
}

template <int M>
static void winograd_out_tiles(const WinogradF32& w, size_t col_begin, size_t col_end) noexcept {
    const Program p = parse(w.epilogue);
    const f32 lo = splat(p.lo), hi = splat(p.hi);
    constexpr size_t chunk = 4 * lanes;  // columns of a tile that the rest of a program takes at once
    float buffer[M * M][chunk];
    for (size_t tile = 0; tile < w.tiles; ++tile) {
        const int32_t* to = w.rows + tile * M * M;
        const float* t = w.t + tile * (size_t)w.ldt;
        for (size_t first = col_begin; first < col_end; first += chunk) {
            const size_t last = first + chunk < col_end ? first + chunk : col_end;
            for (size_t c = first; c < last; c += lanes) {
                const size_t left = last - c;
                f32 y[M][M];
                winograd_out_tile<M>(t + c, w.t_stride, left, p.bias ? load_some(p.bias + c, left) : splat(0.0f), y);
                if (p.rest_count) {
                    unroll<M>(LINNET_LAMBDA(i) {
                        unroll<M>(LINNET_LAMBDA(j) { store(buffer[i * M + j] + (c - first), y[i][j]); });
                    });
                    continue;
                }
                unroll<M>(LINNET_LAMBDA(i) {
                    unroll<M>(LINNET_LAMBDA(j) {
                        const ptrdiff_t row = to[i * M + j];
                        if (row >= 0) {
                            f32 v = y[i][j];
                            if (p.add) v = v + load_some(p.add + row * p.add_stride + c, left);
                            store_some(w.y + row * w.ldy + c, clip(v, lo, hi), left);
                        }
                    });
                });
            }
            if (!p.rest_count) continue;
            for (int i = 0; i < M * M; ++i)
                if (to[i] >= 0)
                    finish(p, (size_t)to[i], 1, first, last - first, buffer[i], chunk, w.y + to[i] * w.ldy + first,
                           w.ldy);
        }
    }
}

static void winograd_in_f32(const WinogradF32& w) noexcept {
    if (w.m == 2) winograd_in_tiles<2>(w);
    else winograd_in_tiles<4>(w);
}

static void winograd_out_f32(const WinogradF32& w, size_t col_begin, size_t col_end) noexcept {
    if (w.m == 2) winograd_out_tiles<2>(w, col_begin, col_end);
    else winograd_out_tiles<4>(w, col_begin, col_end);
}

}  // namespace linnet::kernels::LINNET_ISA
