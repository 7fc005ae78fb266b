// filter_f32 and linear_attention_f32 against plain loops in double.
#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

void test_filter(const Kernels& K, Tally& tally, size_t rows, size_t n, size_t taps, bool bias) {
    Random rng;
    const size_t wide = n + taps - 1, y_stride = n == 1 ? 1 : n + 3;
    const auto x = random_floats(rng, rows * wide), w = random_floats(rng, rows * taps), b = random_floats(rng, rows);
    Guarded<float> y(rows * y_stride);
    FilterF32 a;
    a.rows = rows, a.n = n, a.taps = taps;
    a.x = x.data(), a.x_stride = (ptrdiff_t)wide;
    a.w = w.data(), a.bias = bias ? b.data() : nullptr;
    a.y = y.data(), a.y_stride = (ptrdiff_t)y_stride;
    K.filter_f32(a);
    bool ok = y.intact();
    for (size_t r = 0; r < rows; ++r)
        for (size_t i = 0; i < y_stride; ++i) {
            double want = bias ? b[r] : 0;
            for (size_t j = 0; i < n && j < taps; ++j) want += (double)x[r * wide + i + j] * w[r * taps + j];
            ok = ok && near(y[r * y_stride + i], i < n ? want : y.mark, 1e-6 * (double)taps);
        }
    // One output by itself has the same bits.
    for (size_t i = 0; i < n; ++i) {
        float one = 0;
        a.rows = 1, a.n = 1, a.x = x.data() + i, a.y = &one;
        K.filter_f32(a);
        ok = ok && one == y[i];
    }
    tally.check(ok, name("filter_f32 rows, n, taps, bias", {rows, n, taps, bias}));
}

struct Form {
    bool delta, past, each_key;
    size_t heads;
};

void test_linear_attention(const Kernels& K, Tally& tally, size_t keys, size_t columns, Form form) {
    Random rng;
    const size_t tokens = 5, width = K.linear_attention_cols, ld = columns + 2;
    const auto q = random_floats(rng, tokens * form.heads * keys), k = random_floats(rng, tokens * keys);
    const auto v = random_floats(rng, tokens * columns), beta = random_floats(rng, tokens, 0, 1);
    const auto decay = random_floats(rng, tokens * keys, 0.5f, 1), past = random_floats(rng, (keys - 1) * ld + columns);
    Guarded<float> state(keys * width), to[2] = {Guarded<float>(keys * ld), Guarded<float>(keys * ld)};
    Guarded<float> y[2] = {Guarded<float>(tokens * form.heads * columns),
                           Guarded<float>(tokens * form.heads * columns)};
    // All tokens at once; then two, and the others from the state that is left.
    for (size_t way = 0; way < 2; ++way) {
        LinearAttentionF32 a;
        a.keys = keys, a.columns = columns, a.heads = form.heads;
        a.state = state.data();
        a.from = form.past ? past.data() : nullptr;
        a.from_stride = (ptrdiff_t)ld;
        a.q_stride = (ptrdiff_t)(form.heads * keys), a.k_stride = (ptrdiff_t)keys, a.v_stride = (ptrdiff_t)columns;
        a.decay_stride = (ptrdiff_t)keys, a.decay_step = form.each_key;
        a.beta_stride = 1;
        a.y_stride = (ptrdiff_t)(form.heads * columns), a.y_head = (ptrdiff_t)columns;
        a.scale = 0.25f;
        for (size_t first = 0; first < tokens; first += a.tokens) {
            a.tokens = way == 0 ? tokens : first == 0 ? 2 : tokens - first;
            a.q = q.data() + first * form.heads * keys, a.k = k.data() + first * keys;
            a.v = v.data() + first * columns, a.decay = decay.data() + first * keys;
            a.beta = form.delta ? beta.data() + first : nullptr;
            a.y = y[way].data() + first * form.heads * columns;
            a.to = first + a.tokens == tokens ? to[way].data() : nullptr;
            a.to_stride = (ptrdiff_t)ld;
            K.linear_attention_f32(a);
            a.from = state.data(), a.from_stride = (ptrdiff_t)width;
        }
    }
    bool ok = state.intact() && to[0].intact() && y[0].intact() && to[0].all == to[1].all && y[0].all == y[1].all;
    std::vector<double> s(keys);
    for (size_t c = 0; c < columns; ++c) {
        for (size_t r = 0; r < keys; ++r) s[r] = form.past ? past[r * ld + c] : 0;
        for (size_t t = 0; t < tokens; ++t) {
            double found = 0;
            for (size_t r = 0; r < keys; ++r) {
                s[r] *= decay[t * keys + (form.each_key ? r : 0)];
                found += s[r] * k[t * keys + r];
            }
            const double value = form.delta ? beta[t] * (v[t * columns + c] - found) : v[t * columns + c];
            for (size_t r = 0; r < keys; ++r) s[r] += k[t * keys + r] * value;
            for (size_t h = 0; h < form.heads; ++h) {
                double want = 0, size = 1;
                for (size_t r = 0; r < keys; ++r) {
                    want += s[r] * q[(t * form.heads + h) * keys + r];
                    size += std::fabs(s[r]);
                }
                ok = ok && near(y[0][(t * form.heads + h) * columns + c], want * 0.25, 2e-5 * size);
            }
        }
        for (size_t r = 0; r < keys; ++r) ok = ok && near(to[0][r * ld + c], s[r], 2e-5 * (1 + std::fabs(s[r])));
    }
    tally.check(ok, name("linear_attention_f32 keys, columns, delta, past, each_key, heads",
                         {keys, columns, form.delta, form.past, form.each_key, form.heads}));
}

}  // namespace

void test_causal(const Kernels& K, Tally& tally) {
    for (const size_t rows : {1, 3, 37})
        for (const size_t n : {1, 2, 3, 4, 7, 16, 31, 64, 65, 200})
            for (const size_t taps : {1, 2, 4, 7})
                for (const bool bias : {false, true}) test_filter(K, tally, rows, n, taps, bias);
    const size_t width = K.linear_attention_cols;
    for (const size_t keys : {size_t{1}, size_t{5}, size_t{24}})
        for (const size_t columns : {size_t{1}, size_t{3}, K.lanes, K.lanes + 1, width - 1, width})
            for (const bool delta : {false, true})
                for (const bool past : {false, true})
                    for (const size_t heads : {1, 3})
                        test_linear_attention(K, tally, keys, columns, {delta, past, delta != past, heads});
}

}  // namespace linnet::kernels::test
