// One step of a recurrent layer for one image: the state times the recurrent weights, and the cell on the sums while
// they are in registers.
#pragma once

#include "kernels/gemm.h"
#include "kernels/math.h"

namespace linnet::kernels::LINNET_ISA {

constexpr size_t recurrent_units = gemm_nr;

// [block][k][gate][unit], missing units zero: one stream from the first byte to the last.
static void pack_recurrent_f32(size_t hidden, size_t gates, const float* r, float* out) noexcept {
    constexpr size_t nr = recurrent_units, line = 16;
    const size_t width = gates * nr;
    for (size_t first = 0; first < hidden; first += nr, out += hidden * width)
        for (size_t k0 = 0; k0 < hidden; k0 += line)
            for (size_t column = 0; column < width; ++column) {
                const size_t unit = first + column % nr;
                const float* row = r + (column / nr * hidden + unit) * hidden;
                for (size_t k = k0; k < k0 + line && k < hidden; ++k)
                    out[k * width + column] = unit < hidden ? row[k] : 0.0f;
            }
}

LINNET_INLINE void lstm_cell(f32 i, f32 o, f32 f, f32 g, f32& c, f32& h) {
    c = fma(sigmoid(i), tanh(g), sigmoid(f) * c);
    h = sigmoid(o) * tanh(c);
}
LINNET_INLINE f32 gru_update(f32 z, f32 g, f32 h) {
    const f32 fresh = tanh(g);
    return fma(sigmoid(z), h - fresh, fresh);
}

// The sums of one vector of units, s[gate], become the new state.
template <RecurrentF32::Cell C>
LINNET_INLINE void finish_units(const RecurrentF32& a, float* x, size_t unit, const f32* s) {
    using Cell = RecurrentF32::Cell;
    constexpr size_t nr = recurrent_units;
    const size_t left = a.hidden - unit;
    if constexpr (C == Cell::lstm) {
        f32 c = load_some(a.c + unit, left), h;
        lstm_cell(s[0] + load(x), s[1] + load(x + nr), s[2] + load(x + 2 * nr), s[3] + load(x + 3 * nr), c, h);
        store_some(a.c + unit, c, left);
        store_some(a.h_next + unit, h, left);
    } else if constexpr (C == Cell::gru) {
        const f32 inner = a.bias ? s[2] + load_some(a.bias + unit, left) : s[2];
        const f32 g = fma(sigmoid(s[1] + load(x + nr)), inner, load(x + 2 * nr));
        store_some(a.h_next + unit, gru_update(s[0] + load(x), g, load_some(a.state + unit, left)), left);
    } else if constexpr (C == Cell::gru_reset) {
        store(x, s[0] + load(x));
        store_some(a.h_next + unit, sigmoid(s[1] + load(x + nr)) * load_some(a.state + unit, left), left);
    } else if constexpr (C == Cell::gru_update) {
        const f32 z = load(a.z + unit / nr * 2 * nr + unit % nr);
        store_some(a.h_next + unit, gru_update(z, s[0] + load(x), load_some(a.state + unit, left)), left);
    } else {
        store_some(a.h_next + unit, tanh(s[0] + load(x)), left);
    }
}

// `count` neighbouring blocks at once, so that enough independent sums are in flight.
template <RecurrentF32::Cell C, int GATES, int BLOCKS>
static __attribute__((noinline)) void recurrent_blocks(const RecurrentF32& a, size_t block,
                                                       const float* next) noexcept {
    constexpr size_t width = (size_t)GATES * recurrent_units;
    f32 sums[BLOCKS * gemm_nv * GATES];  // [block][vector][gate]
    unroll<BLOCKS * gemm_nv * GATES>(LINNET_LAMBDA(i) { sums[i] = splat(0.0f); });
    const size_t stride = a.hidden * width;
    const float *r = a.r + block * stride, *h = a.h;
    // Far away where another core has computed it, and needed at the end.
    for (size_t i = 0; i < BLOCKS * width; i += 16) prefetch(a.x + block * width + i);
    for (size_t k = 0; k < a.hidden; ++k, r += width) {
        const f32 state = splat(h[k]);
        unroll<BLOCKS * GATES * gemm_nv>(LINNET_LAMBDA(i) {
            constexpr int b = i / (GATES * gemm_nv), gate = i / gemm_nv % GATES, v = i % gemm_nv;
            f32& sum = sums[(b * gemm_nv + v) * GATES + gate];
            sum = fma(state, load(r + b * stride + (gate * gemm_nv + v) * lanes), sum);
        });
    }
    // The next block's stream begins while the cell is computed.
    for (size_t line = 0; line < 16; ++line) prefetch(next + line * 16);
    unroll<BLOCKS * gemm_nv>(LINNET_LAMBDA(i) {
        const size_t at = block + i / gemm_nv, first = i % gemm_nv * lanes, unit = at * recurrent_units + first;
        if (unit < a.hidden) finish_units<C>(a, a.x + at * width + first, unit, sums + i * GATES);
    });
}

template <RecurrentF32::Cell C, int GATES>
static void walk_blocks(const RecurrentF32& a, size_t begin, size_t end, bool backward) noexcept {
    constexpr size_t most = GATES >= 3 ? 1 : 4 / GATES;
    const size_t groups = (end - begin + most - 1) / most, stride = a.hidden * GATES * recurrent_units;
    for (size_t i = 0; i < groups; ++i) {
        const size_t block = begin + (backward ? groups - 1 - i : i) * most;
        const float* next = a.r + (i + 1 == groups ? block : backward ? block - most : block + most) * stride;
        if (block + most <= end) recurrent_blocks<C, GATES, (int)most>(a, block, next);
        else
            for (size_t b = block; b < end; ++b) recurrent_blocks<C, GATES, 1>(a, b, next);
    }
}

static void recurrent_f32(const RecurrentF32& a, size_t begin, size_t end, bool backward) noexcept {
    using Cell = RecurrentF32::Cell;
    // What other cores have just written comes all at once, not line by line as the sums reach it.
    for (size_t k = 0; k < a.hidden; k += 16) prefetch(a.h + k);
    switch (a.cell) {
        case Cell::rnn: return walk_blocks<Cell::rnn, 1>(a, begin, end, backward);
        case Cell::lstm: return walk_blocks<Cell::lstm, 4>(a, begin, end, backward);
        case Cell::gru: return walk_blocks<Cell::gru, 3>(a, begin, end, backward);
        case Cell::gru_reset: return walk_blocks<Cell::gru_reset, 2>(a, begin, end, backward);
        case Cell::gru_update: return walk_blocks<Cell::gru_update, 1>(a, begin, end, backward);
    }
}

}  // namespace linnet::kernels::LINNET_ISA
