// One step of a recurrent layer for one image: the state times the recurrent weights, and the cell on the sums while
// they are in the first-level cache.
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

// Block: [k / 2][gate][unit][2] bytes in the order that pair_b takes, missing k and units zero.
LINNET_INLINE size_t recurrent_s8_bytes(size_t hidden, size_t gates) {
    return gates * recurrent_units * ((hidden + 1) / 2 * 2);
}
static size_t pack_recurrent_s8_size(size_t hidden, size_t gates) noexcept {
    return (hidden + recurrent_units - 1) / recurrent_units * recurrent_s8_bytes(hidden, gates);
}
static void pack_recurrent_s8(size_t hidden, size_t gates, const int8_t* r, void* out) noexcept {
    constexpr size_t nr = recurrent_units;
    const size_t width = gates * nr;
    auto* block = (int8_t*)out;
    for (size_t first = 0; first < hidden; first += nr, block += recurrent_s8_bytes(hidden, gates)) {
        __builtin_memset(block, 0, recurrent_s8_bytes(hidden, gates));
        for (size_t column = 0; column < width; ++column) {
            const size_t unit = first + column % nr, lane = column % lanes;
            if (unit >= hidden) continue;
            const int8_t* row = r + (column / nr * hidden + unit) * hidden;
            for (size_t k = 0; k < hidden; ++k) {
#ifdef LINNET_PAIRS_APART
                const size_t at = k % 2 * lanes + lane;
#else
                const size_t at = lane * 2 + k % 2;
#endif
                block[(k / 2 * width + column - lane) * 2 + at] = row[k];
            }
        }
    }
}

// The state in steps of the 32767th part of its largest element.
struct State16 {
    alignas(64) int16_t h[RecurrentF32::max_hidden_s8];
    float step;
};
static __attribute__((noinline)) void round_state(size_t hidden, const float* h, State16& out) noexcept {
    f32 most = splat(0.0f);
    for (size_t k = 0; k < hidden; k += lanes) most = max(abs(load_some(h + k, hidden - k)), most);
    const float largest = fold(
        most, LINNET_LAMBDA_2(a, b) { return max(a, b); });
    out.step = largest / 32767;
    // Nothing but zeros, or almost: any step will do.
    const float steps = largest > 1e-30f ? 32767 / largest : 0.0f;
    for (size_t k = 0; k < hidden; k += lanes)
        store_narrow<u16_lanes>((uint16_t*)out.h + k, to_int(load_some(h + k, hidden - k) * splat(steps)));
    if (hidden % 2) out.h[hidden] = 0;
}

// The sums [gate][unit] of one block.
template <int GATES>
static __attribute__((noinline)) void multiply_block_s8(size_t hidden, const State16& state, const int8_t* r,
                                                        const float* scale, float* s) noexcept {
    constexpr int vectors = GATES * gemm_nv;
    constexpr size_t width = (size_t)vectors * lanes, most = 512;  // k whose products fit into an int32
    f32 total[vectors];
    unroll<vectors>(LINNET_LAMBDA(j) { total[j] = splat(0.0f); });
    for (size_t k = 0; k < hidden;) {
        const size_t end = hidden - k < most ? hidden : k + most;
        i32 sum[vectors];
        unroll<vectors>(LINNET_LAMBDA(j) { sum[j] = splat_i(0); });
        for (; k < end; k += 2, r += width * 2) {
            const PairA h = pair_a(state.h + k);
            unroll<vectors>(LINNET_LAMBDA(j) { sum[j] = dot2(sum[j], h, pair_b(r + j * lanes * 2)); });
        }
        unroll<vectors>(LINNET_LAMBDA(j) { total[j] = total[j] + to_float(sum[j]); });
    }
    unroll<vectors>(
        LINNET_LAMBDA(j) { store(s + j * lanes, total[j] * (load(scale + j * lanes) * splat(state.step))); });
}

// The sums of one block, s[gate][unit], become the new state.
template <RecurrentF32::Cell C>
static __attribute__((noinline)) void finish_block(const RecurrentF32& a, size_t block, float* x,
                                                   const float* s) noexcept {
    using Cell = RecurrentF32::Cell;
    constexpr size_t nr = recurrent_units;
    for (size_t v = 0; v < nr && block * nr + v < a.hidden; v += lanes, x += lanes, s += lanes) {
        const size_t unit = block * nr + v, left = a.hidden - unit;
        const auto sum = LINNET_LAMBDA(gate) { return load(s + gate * nr) + load(x + gate * nr); };
        f32 h;
        if constexpr (C == Cell::lstm) {
            f32 c = load_some(a.c + unit, left);
            c = fma(sigmoid(sum(Int<0>{})), tanh(sum(Int<3>{})), sigmoid(sum(Int<2>{})) * c);
            h = sigmoid(sum(Int<1>{})) * tanh(c);
            store_some(a.c + unit, c, left);
        } else if constexpr (C == Cell::gru) {
            const f32 inner = a.bias ? load(s + 2 * nr) + load_some(a.bias + unit, left) : load(s + 2 * nr);
            const f32 g = tanh(fma(sigmoid(sum(Int<1>{})), inner, load(x + 2 * nr)));
            h = fma(sigmoid(sum(Int<0>{})), load_some(a.state + unit, left) - g, g);
        } else if constexpr (C == Cell::gru_reset) {
            store(x, sum(Int<0>{}));
            h = sigmoid(sum(Int<1>{})) * load_some(a.state + unit, left);
        } else if constexpr (C == Cell::gru_update) {
            const f32 g = tanh(sum(Int<0>{}));
            h = fma(sigmoid(load(a.z + block * 2 * nr + v)), load_some(a.state + unit, left) - g, g);
        } else {
            h = tanh(sum(Int<0>{}));
        }
        store_some(a.h_next + unit, h, left);
    }
}

// The sums [block][gate][unit] of neighbouring blocks, so many at once that enough independent chains are in flight.
template <int GATES, int BLOCKS>
static __attribute__((noinline)) void multiply_blocks(size_t hidden, const float* h, const float* r, const float* next,
                                                      float* s) noexcept {
    constexpr int vectors = GATES * gemm_nv;
    constexpr size_t width = (size_t)vectors * lanes;
    f32 sums[BLOCKS * vectors];
    unroll<BLOCKS * vectors>(LINNET_LAMBDA(i) { sums[i] = splat(0.0f); });
    const size_t stride = hidden * width;
    for (size_t k = 0; k < hidden; ++k, r += width) {
        const f32 state = splat(h[k]);
        unroll<BLOCKS * vectors>(
            LINNET_LAMBDA(i) { sums[i] = fma(state, load(r + i / vectors * stride + i % vectors * lanes), sums[i]); });
    }
    // The next block's stream begins while the cell is computed.
    for (size_t line = 0; line < 16; ++line) prefetch(next + line * 16);
    unroll<BLOCKS * vectors>(LINNET_LAMBDA(i) { store(s + i * lanes, sums[i]); });
}

template <RecurrentF32::Cell C, int GATES>
static void walk_blocks_s8(const RecurrentF32& a, size_t begin, size_t end, bool backward) noexcept {
    constexpr size_t width = GATES * recurrent_units;
    State16 h;
    round_state(a.hidden, a.h, h);
    for (size_t i = begin; i < end; ++i) {
        const size_t block = backward ? end - 1 - (i - begin) : i;
        float s[width];
        multiply_block_s8<GATES>(a.hidden, h, (const int8_t*)a.r_s8 + block * recurrent_s8_bytes(a.hidden, GATES),
                                 a.scale + block * width, s);
        finish_block<C>(a, block, a.x + block * width, s);
    }
}

template <RecurrentF32::Cell C, int GATES>
static void walk_blocks(const RecurrentF32& a, size_t begin, size_t end, bool backward) noexcept {
    if (a.r_s8) return walk_blocks_s8<C, GATES>(a, begin, end, backward);
    constexpr size_t most = GATES >= 3 ? 1 : 4 / GATES, width = GATES * recurrent_units;
    const size_t groups = (end - begin + most - 1) / most, stride = a.hidden * width;
    for (size_t i = 0; i < groups; ++i) {
        const size_t first = begin + (backward ? groups - 1 - i : i) * most;
        const size_t last = first + most < end ? first + most : end;
        const float* r = a.r + first * stride;
        const float* next = i + 1 == groups ? r : backward ? r - most * stride : r + most * stride;
        float s[most * width];
        // Far away where another core has computed it, and needed at the end.
        for (size_t x = first * width; x < last * width; x += 16) prefetch(a.x + x);
        if (last - first == most) multiply_blocks<GATES, (int)most>(a.hidden, a.h, r, next, s);
        else
            for (size_t b = 0; b < last - first; ++b)
                multiply_blocks<GATES, 1>(a.hidden, a.h, r + b * stride, next, s + b * width);
        for (size_t b = first; b < last; ++b) finish_block<C>(a, b, a.x + b * width, s + (b - first) * width);
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
