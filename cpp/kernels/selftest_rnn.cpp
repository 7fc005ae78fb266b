// recurrent_f32 against plain loops in double.
#include <algorithm>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// narrow: weights of 8 bits.
void test_step(const Kernels& K, Tally& tally, RecurrentF32::Cell cell, size_t hidden, bool bias, bool narrow) {
    using Cell = RecurrentF32::Cell;
    const size_t nr = K.gemm_cols, blocks = (hidden + nr - 1) / nr;
    const size_t gates = cell == Cell::lstm ? 4 : cell == Cell::gru ? 3 : cell == Cell::gru_reset ? 2 : 1;
    Random rng;
    auto r = random_floats(rng, gates * hidden * hidden);
    const auto h = random_floats(rng, hidden), state = random_floats(rng, hidden),
               x = random_floats(rng, blocks * gates * nr), z = random_floats(rng, blocks * 2 * nr),
               c = random_floats(rng, hidden), column = random_floats(rng, hidden);
    Edged<int8_t> bytes(r.size());
    Edged<float> scale(blocks * gates * nr);
    if (narrow)
        for (size_t row = 0; row < gates * hidden; ++row) {
            const size_t unit = row % hidden;
            float& s = scale[(unit / nr * gates + row / hidden) * nr + unit % nr];
            s = rng.uniform(0.002f, 0.008f);
            for (size_t k = 0; k < hidden; ++k) {
                bytes[row * hidden + k] = (int8_t)rng.next();
                r[row * hidden + k] = (float)bytes[row * hidden + k] * s;
            }
        }
    Guarded<float> packed(narrow ? K.pack_recurrent_s8_size(hidden, gates) / 4 : blocks * nr * gates * hidden);
    if (narrow) K.pack_recurrent_s8(hidden, gates, bytes.data(), packed.data());
    else K.pack_recurrent_f32(hidden, gates, r.data(), packed.data());
    tally.check(packed.intact(), name("pack_recurrent hidden, gates, narrow", {hidden, gates, narrow}));
    // h is rounded to 16 bits.
    const double more = narrow ? 2e-5 * std::sqrt((double)hidden) : 0;

    // The whole step forward; then block by block, backward: the same bits.
    Edged<float> xs[2] = {x, x}, cs[2] = {c, c};
    Guarded<float> next[2] = {Guarded<float>(hidden), Guarded<float>(hidden)};
    for (int way = 0; way < 2; ++way) {
        RecurrentF32 a;
        a.cell = cell;
        a.hidden = hidden;
        a.h = h.data();
        if (narrow) a.r_s8 = packed.data();
        else a.r = packed.data();
        a.scale = scale.data();
        a.x = xs[way].data();
        a.z = z.data();
        a.bias = bias ? column.data() : nullptr;
        a.state = state.data();
        a.c = cs[way].data();
        a.h_next = next[way].data();
        const size_t middle = way ? blocks / 2 : blocks;
        K.recurrent_f32(a, middle, blocks, true);
        K.recurrent_f32(a, 0, middle, way);
    }
    bool ok = next[0].intact() && next[1].intact() && next[0].all == next[1].all && cs[0] == cs[1] && xs[0] == xs[1];
    for (size_t u = 0; u < hidden; ++u) {
        double s[4] = {}, in[4] = {};
        const size_t at = u / nr * gates * nr + u % nr;
        for (size_t g = 0; g < gates; ++g) {
            for (size_t k = 0; k < hidden; ++k) s[g] += (double)h[k] * r[(g * hidden + u) * hidden + k];
            in[g] = x[at + g * nr];
        }
        const auto updated = [&](double gate, double g) { return (1 - gate) * g + gate * state[u]; };
        double want = 0;
        if (cell == Cell::lstm) {
            const double now = logistic(in[2] + s[2]) * c[u] + logistic(in[0] + s[0]) * std::tanh(in[3] + s[3]);
            ok = ok && near(cs[0][u], now, 1e-5 + more);
            want = logistic(in[1] + s[1]) * std::tanh(now);
        } else if (cell == Cell::gru) {
            const double inner = s[2] + (bias ? column[u] : 0);
            want = updated(logistic(in[0] + s[0]), std::tanh(in[2] + logistic(in[1] + s[1]) * inner));
        } else if (cell == Cell::gru_reset) {
            ok = ok && near(xs[0][at], in[0] + s[0], 1e-5 + more);
            want = logistic(in[1] + s[1]) * state[u];
        } else if (cell == Cell::gru_update) {
            want = updated(logistic(z[u / nr * 2 * nr + u % nr]), std::tanh(in[0] + s[0]));
        } else {
            want = std::tanh(in[0] + s[0]);
        }
        ok = ok && near(next[0][u], want, 2e-5 + more);
    }
    tally.check(ok, name("recurrent_f32 cell, hidden, narrow", {(size_t)cell, hidden, narrow}));
}

}  // namespace

void test_recurrent(const Kernels& K, Tally& tally) {
    using Cell = RecurrentF32::Cell;
    for (const Cell cell : {Cell::rnn, Cell::lstm, Cell::gru, Cell::gru_reset, Cell::gru_update})
        for (const bool narrow : {false, true}) {
            for (const size_t hidden : {1, 7, 16, 32, 33, 64, 70, 130, 200})
                for (const bool bias : {false, true}) test_step(K, tally, cell, hidden, bias, narrow);
            if (narrow) test_step(K, tally, cell, 700, false, true);  // sums of more than 2^31 together
        }
}

}  // namespace linnet::kernels::test
