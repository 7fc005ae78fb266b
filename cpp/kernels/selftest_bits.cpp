// gemm_bits and unpack_b_bits against plain loops in double: odd sizes, blocks, zero points, epilogues, splits.
#include <algorithm>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

struct Case {
    size_t m, n, k, bits, block, epilogue;
    bool zero, transposed, book;
};

void bits_case(const Kernels& K, Tally& tally, Random& rng, const Case& t) {
    const auto [m, n, k, bits, block, variant, has_zero, transposed, has_book] = t;
    const size_t blocks = (k + block - 1) / block, lda = k + rng.below(3), ldc = n + rng.below(3), ldr = n + 1;
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols;
    const auto a = random_floats(rng, m ? (m - 1) * lda + k : 0), scale = random_floats(rng, blocks * n, 0.01f, 1),
               zero = random_floats(rng, blocks * n, -8, 7), column = random_floats(rng, n),
               tensor = random_floats(rng, m * ldr), book = random_floats(rng, 16, -8, 8);
    Edged<int8_t> q(k * n);
    for (int8_t& x : q) x = (int8_t)(bits == 4 ? (int)rng.below(16) - 8 : (int)rng.below(256) - 128);
    const auto value = [&](size_t i, size_t j) {
        const int8_t stored = q[transposed ? j * k + i : i * n + j];
        if (!has_book) return (double)stored;
        return (double)book[(size_t)(stored + 8)];
    };

    const size_t bytes = K.pack_b_bits_size(bits, k, n);
    Guarded<int32_t> packed((bytes + 3) / 4);
    const PackB how{1, k, n, 0, transposed ? 1 : (ptrdiff_t)n, transposed ? (ptrdiff_t)k : 1};
    for (size_t p = 0; p < panels; ++p) K.pack_b_bits(how, bits, q.data(), packed.data(), p, p + 1);
    tally.check(packed.intact(), name("pack_b_bits bits n k", {bits, n, k}));
    const Edged<uint8_t> weights((const uint8_t*)packed.data(), (const uint8_t*)packed.data() + bytes);
    const PackB parameters{1, blocks, n, 0, (ptrdiff_t)n, 1};
    Edged<float> scales(K.pack_b_f32_size(1, blocks, n)), zeros(scales.size());
    K.pack_b_f32(parameters, scale.data(), scales.data(), 0, panels);
    K.pack_b_f32(parameters, zero.data(), zeros.data(), 0, panels);
    Edged<float> sums(m * blocks);
    for (size_t i = 0; i < m; ++i)
        for (size_t x = 0; x < k; ++x) sums[i * blocks + x / block] += a[i * lda + x];

    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldr);
    Guarded<float> c(m * ldc), split(m * ldc);
    GemmBits g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.bits = bits;
    g.block = block;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.b = weights.data();
    if (has_book) g.book = book.data();
    g.scale = scales.data();
    g.zero = has_zero ? zeros.data() : nullptr;
    g.sums = has_zero || (bits == 4 && !has_book) ? sums.data() : nullptr;
    g.c = c.data();
    g.ldc = (ptrdiff_t)ldc;
    g.epilogue = {steps.data(), steps.size()};
    K.gemm_bits(g, 0, m, 0, panels);
    bool ok = true, gaps = true;
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) {
            double sum = 0, size = 1;
            for (size_t x = 0; x < k; ++x) {
                const size_t at = x / block * n + j;
                const double w = (value(x, j) - (has_zero ? (double)zero[at] : 0.0)) * scale[at];
                sum += a[i * lda + x] * w;
                size += std::fabs(a[i * lda + x]) * (double)scale[at] * (bits == 4 ? 16 : 136);
            }
            ok = ok && near(c[i * ldc + j], reference_epilogue(g.epilogue, sum, i, j), 2e-6 * size);
        }
        for (size_t j = n; j < ldc; ++j) gaps = gaps && c[i * ldc + j] == 77;
    }
    tally.check(
        ok, name("gemm_bits m n k bits block epilogue zero book", {m, n, k, bits, block, variant, has_zero, has_book}));
    tally.check(gaps && c.intact(), name("gemm_bits writes outside, m n k bits", {m, n, k, bits}));
    g.c = split.data();
    const size_t p = rng.below(panels + 1);
    K.gemm_bits(g, 0, m, p, panels);
    for (size_t r = 0; r < m; ++r) K.gemm_bits(g, r, r + 1, 0, p);
    tally.check(!std::memcmp(c.data(), split.data(), m * ldc * 4) && split.intact(),
                name("gemm_bits split m n k bits book", {m, n, k, bits, has_book}));

    if (has_book) return;
    Guarded<float> unpacked(panels * K.gemm_cols * k);
    K.unpack_b_bits(g, 0, panels, unpacked.data());
    for (size_t x = 0; x < k; ++x)
        for (size_t j = 0; j < n; ++j) {
            const size_t at = x / block * n + j;
            const double w = (value(x, j) - (has_zero ? (double)zero[at] : 0.0)) * scale[at];
            const float got = unpacked[(j / K.gemm_cols * k + x) * K.gemm_cols + j % K.gemm_cols];
            ok = ok && near(got, w, 2e-7 * (bits == 4 ? 16 : 136) * scale[at]);
        }
    tally.check(ok && unpacked.intact(), name("unpack_b_bits n k bits block", {n, k, bits, block}));
}

}  // namespace

void test_bits(const Kernels& K, Tally& tally) {
    Random rng;
    size_t turn = 0;
    for (const size_t bits : {4, 8})
        for (size_t m = 1; m <= 6; ++m)
            for (const size_t n : {1, 7, 8, 16, 31, 32, 33, 64, 100})
                for (const size_t k : {1, 5, 8, 16, 33, 130, 300}) {
                    const size_t blocks[] = {k, 16, 32, 128, 256}, block = blocks[turn % 5];
                    const bool zero = turn % 3 == 1, transposed = turn % 2 == 0;
                    for (const bool book : {false, true})
                        if (bits == 4 || !book)
                            bits_case(K, tally, rng,
                                      {m, n, k, bits, block, turn % epilogue_variants, zero, transposed, book});
                    ++turn;
                }
    bits_case(K, tally, rng, {1, 40, 1000, 4, 1000, 0, true, true, false});
    bits_case(K, tally, rng, {0, 40, 64, 4, 32, 0, false, true, false});
}

}  // namespace linnet::kernels::test
