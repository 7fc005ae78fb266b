// GEMM and indirect convolution in int8: exact sums, what becomes of them, guards, and the same for any split.
#include "kernels/selftest.h"

#include <algorithm>

namespace linnet::kernels::test {
namespace {

// Weights and activations that drive the sums of 16 bits inside a kernel to their ends.
enum class Fill { random, small, rare, often, highest, lowest, alternating, count };

int8_t weight(Random& rng, Fill fill, size_t k, size_t n) {
    switch (fill) {
        case Fill::small: return (int8_t)((int)rng.below(129) - 64);
        case Fill::rare: return (int8_t)(rng.below(200) ? (int)rng.below(97) - 48 : rng.below(2) ? 127 : -128);
        case Fill::often: return (int8_t)(rng.below(12) ? (int)rng.below(97) - 48 : rng.below(2) ? 127 : -128);
        case Fill::highest: return 127;
        case Fill::lowest: return -128;
        case Fill::alternating: return (k / 2 + n) % 2 ? 127 : -128;
        default: return (int8_t)rng.next();
    }
}

uint8_t activation(Random& rng, size_t kind) {
    constexpr uint8_t ends[] = {0, 255, 128, 127};
    return kind < 4 ? ends[kind] : kind == 4 ? ends[rng.below(4)] : (uint8_t)rng.next();
}

struct Case {
    size_t m, n, taps, k;
    bool a_signed, indirect;
    Fill fill;
    size_t activations;
};

template <class T, class F>
void check_out(const Kernels& K, Tally& tally, Random& rng, const Case& t, GemmS8 g, Guarded<T>& c, const char* what,
               F expected) {
    const size_t panels = (t.n + K.gemm_s8_cols - 1) / K.gemm_s8_cols;
    const std::vector<T> before = c.all;
    g.c = c.data();
    K.gemm_s8(g, 0, t.m, 0, panels);
    bool ok = c.intact();
    for (size_t i = 0; i < t.m; ++i)
        for (size_t j = 0; j < (size_t)g.ldc; ++j) {
            const T got = c[i * (size_t)g.ldc + j];
            ok = ok && (j < t.n ? expected(i, j, got) : got == before[c.guard + i * (size_t)g.ldc + j]);
        }
    tally.check(ok, name(what, {t.m, t.n, t.taps, t.k, t.a_signed, t.indirect, (size_t)t.fill, t.activations}));
    Guarded<T> split(c.size());
    split.all = before;
    g.c = split.data();
    if (g.bytes.add == c.data()) g.bytes.add = split.data();
    const size_t r = rng.below(t.m + 1), p = rng.below(panels + 1);
    K.gemm_s8(g, 0, r, 0, p);
    K.gemm_s8(g, r, t.m, 0, p);
    K.gemm_s8(g, 0, t.m, p, panels);
    tally.check(split.all == c.all, name(what, {t.m, t.n, t.taps, t.k}) + " split");
}

void gemm_s8_case(const Kernels& K, Tally& tally, Random& rng, const Case& t) {
    const size_t m = t.m, n = t.n, taps = t.taps, k = t.k, ldc = n + rng.below(3), depth = taps * k;
    const size_t pixels = t.indirect ? m + 3 : m, lda = k + rng.below(3);
    Edged<uint8_t> a(pixels ? (pixels - 1) * lda + k : 0);
    for (auto& x : a) x = activation(rng, t.activations);
    Edged<int8_t> b(depth * n);
    for (size_t q = 0; q < depth; ++q)
        for (size_t j = 0; j < n; ++j) b[q * n + j] = weight(rng, t.fill, q, j);
    Edged<int32_t> bias(n), offsets(taps * m);
    for (auto& x : bias) x = (int32_t)(rng.next() % 200000) - 100000;
    for (size_t i = 0; i < offsets.size(); ++i) {
        const bool regular = i % 40 < 20;
        offsets[i] = (int32_t)(lda * (regular ? (i % m) : rng.below(pixels)));
        if (!regular && rng.below(4) == 0) offsets[i] = tap_padding;
    }
    GemmS8 g;
    g.m = m;
    g.n = n;
    g.taps = taps;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.a_signed = t.a_signed;
    g.a_zero = t.a_signed ? (int32_t)rng.below(256) - 128 : (int32_t)rng.below(256);
    const Edged<uint8_t> zero(k, (uint8_t)g.a_zero);
    if (t.indirect) {
        g.offsets = offsets.data();
        g.offsets_ld = m;
        g.zero = zero.data();
    }
    const size_t panels = (n + K.gemm_s8_cols - 1) / K.gemm_s8_cols, bytes = K.pack_b_s8_size(taps, k, n);
    Edged<int32_t> packed((bytes + 3) / 4 + 1, 77);
    K.pack_b_s8({taps, k, n, (ptrdiff_t)(k * n), (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    tally.check(packed.back() == 77, name("pack_b_s8 writes outside", {n, taps, k}));
    g.b = packed.data();
    g.bias = rng.below(4) ? bias.data() : nullptr;
    g.ldc = (ptrdiff_t)ldc;

    std::vector<int32_t> sums(m * n);
    for (size_t i = 0; i < m; ++i)
        for (size_t tap = 0; tap < taps; ++tap) {
            const uint8_t* row = a.data() + i * lda;
            if (t.indirect) {
                const int32_t o = offsets[tap * m + i];
                row = o < 0 ? zero.data() : a.data() + o;
            }
            for (size_t q = 0; q < k; ++q)
                for (size_t j = 0; j < n; ++j)
                    sums[i * n + j] += (as_byte(row[q], t.a_signed) - g.a_zero) * b[(tap * k + q) * n + j];
        }
    if (g.bias)
        for (size_t i = 0; i < m * n; ++i) sums[i] += bias[i % n];

    Guarded<int32_t> c(m * ldc);
    check_out(K, tally, rng, t, g, c, "gemm_s8 sums",
              [&](size_t i, size_t j, int32_t got) { return got == sums[i * n + j]; });

    Edged<float> scale(n);
    const float spread = 400.0f / (float)(1 + depth * 4000);
    for (auto& x : scale) x = rng.below(20) == 0 ? 1e6f : rng.below(8) == 0 ? 0.5f : rng.uniform(0, spread);
    g.out = GemmS8::Out::bytes;
    Edged<uint8_t> table(256);
    for (auto& x : table) x = (uint8_t)rng.next();
    for (size_t kind = 0; kind < 4; ++kind) {
        ToBytes& y = g.bytes;
        y = ToBytes();
        y.scale = scale.data();
        y.is_signed = rng.below(2) != 0;
        const int32_t low = y.is_signed ? -128 : 0;
        const auto byte = [&] { return low + (int32_t)rng.below(256); };
        y.zero = byte();
        const int32_t p = byte(), q = byte();
        const bool whole = rng.below(2) != 0;
        y.lo = whole ? low : std::min(p, q);
        y.hi = whole ? low + 255 : std::max(p, q);
        if (kind & 1) y.table = table.data();
        Guarded<uint8_t> out(m * ldc);
        for (size_t i = 0; i < m * ldc; ++i) out[i] = (uint8_t)rng.next();
        const std::vector<uint8_t> before(out.data(), out.data() + m * ldc);
        if (kind & 2) {
            const bool in_place = rng.below(2) != 0;
            y.add = in_place ? out.data() : (const void*)before.data();
            y.add_stride = (ptrdiff_t)ldc;
            // Multiples of 0.05 meet in halves, where a product that is not rounded by itself shows.
            const auto factor = [&] { return rng.below(3) ? 0.05f * (float)(1 + rng.below(40)) : rng.uniform(0, 2); };
            y.own_scale = factor();
            y.add_scale = factor();
            y.own_zero = byte();
            y.add_zero = byte();
            y.sum_zero = byte();
            y.sum_lo = low + (int32_t)rng.below(20);
            y.sum_hi = low + 255 - (int32_t)rng.below(20);
        }
        ToBytes meant = y;
        if (meant.add) meant.add = before.data();
        check_out(K, tally, rng, t, g, out, "gemm_s8 bytes", [&](size_t i, size_t j, uint8_t got) {
            return got == reference_bytes(meant, sums[i * n + j], i, j);
        });
    }

    g.out = GemmS8::Out::floats;
    g.scale = scale.data();
    Guarded<float> y(m * ldc);
    const auto column = random_floats(rng, n), tensor = random_floats(rng, m * ldc);
    const auto steps = epilogue_variant(rng.below(epilogue_variants), column.data(), tensor.data(), (ptrdiff_t)ldc);
    g.epilogue = {steps.data(), steps.size()};
    check_out(K, tally, rng, t, g, y, "gemm_s8 floats", [&](size_t i, size_t j, float got) {
        const double x = (double)sums[i * n + j] * scale[j];
        return near(got, reference_epilogue(g.epilogue, x, i, j), 2e-6 * (2 + std::fabs(x)));
    });
}

}  // namespace

void test_gemm_s8(const Kernels& K, Tally& tally) {
    Random rng;
    const size_t ks[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 27, 33, 63, 64, 65, 100, 128, 150};
    size_t turn = 0;
    for (size_t m = 1; m <= 40; m += m < 26 ? 1 : 3)
        for (const size_t n : {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 100, 129}) {
            const bool indirect = turn % 3 == 0;
            const size_t taps = indirect ? 1 + rng.below(9) : 1;
            const Fill fill = (Fill)(turn % (size_t)Fill::count);
            gemm_s8_case(K, tally, rng, {m, n, taps, ks[turn % 18], turn % 2 == 0, indirect, fill, rng.below(7)});
            ++turn;
        }
    for (const size_t m : {49, 63, 64, 65, 100, 196})
        for (const bool a_signed : {false, true})
            gemm_s8_case(K, tally, rng, {m, 72, 9, 80, a_signed, true, Fill::alternating, m % 7});
    for (const Fill fill : {Fill::random, Fill::rare, Fill::often, Fill::highest, Fill::lowest, Fill::alternating})
        for (size_t activations = 0; activations < 5; ++activations)
            gemm_s8_case(K, tally, rng, {33, 65, 1, 2000, activations % 2 != 0, false, fill, activations});
}

}  // namespace linnet::kernels::test
