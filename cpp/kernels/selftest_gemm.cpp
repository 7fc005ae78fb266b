// GEMM in float: values, guards, and the same bits for any split.
#include "kernels/selftest.h"

#include <algorithm>

namespace linnet::kernels::test {
namespace {

void gemm_case(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t n, size_t k, size_t variant,
               bool transposed, bool dense = false) {
    const size_t lda = dense ? k : k + rng.below(4), ldc = n + rng.below(4), ldr = n + 1;
    const auto a = random_floats(rng, m ? (m - 1) * lda + k : 0), b = random_floats(rng, k * n),
               column = random_floats(rng, n), tensor = random_floats(rng, m * ldr);
    const PackB pack{1, k, n, 0, transposed ? 1 : (ptrdiff_t)n, transposed ? (ptrdiff_t)k : 1};
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols;
    Guarded<float> packed(K.pack_b_f32_size(1, k, n));
    K.pack_b_f32(pack, b.data(), packed.data(), 0, panels);
    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldr);
    Guarded<float> c(m * ldc), split(m * ldc);
    GemmF32 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.b = packed.data();
    g.c = c.data();
    g.ldc = (ptrdiff_t)ldc;
    g.epilogue = {steps.data(), steps.size()};
    K.gemm_f32(g, 0, m, 0, panels);
    bool ok = true, gaps = true;
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) {
            double sum = 0, scale = 1;
            for (size_t q = 0; q < k; ++q) {
                const double p = (double)a[i * lda + q] * b[transposed ? j * k + q : q * n + j];
                sum += p;
                scale += std::fabs(p);
            }
            ok = ok && near(c[i * ldc + j], reference_epilogue(g.epilogue, sum, i, j), 2e-6 * scale);
        }
        for (size_t j = n; j < ldc; ++j) gaps = gaps && c[i * ldc + j] == 77;
    }
    tally.check(ok, name("gemm_f32 m n k epilogue", {m, n, k, variant}));
    tally.check(gaps && c.intact() && packed.intact(), name("gemm_f32 writes outside, m n k", {m, n, k}));
    // Another split into rows and panels gives the same bits.
    g.c = split.data();
    for (size_t r = 0; r < m;) {
        const size_t r1 = std::min(m, r + 1 + rng.below(m));
        for (size_t p = 0; p < panels;) {
            const size_t p1 = std::min(panels, p + 1 + rng.below(panels));
            K.gemm_f32(g, r, r1, p, p1);
            p = p1;
        }
        r = r1;
    }
    tally.check(!std::memcmp(c.data(), split.data(), m * ldc * 4) && split.intact(),
                name("gemm_f32 split m n k epilogue", {m, n, k, variant}));
    // The residual may be the output itself.
    if (variant == 2 || variant == 3 || variant == 5) {
        Guarded<float> in_place(m * ldc);
        for (size_t i = 0; i < m; ++i)
            for (size_t j = 0; j < n; ++j) in_place[i * ldc + j] = tensor[i * ldr + j];
        const auto own = epilogue_variant(variant, column.data(), in_place.data(), (ptrdiff_t)ldc);
        g.c = in_place.data();
        g.epilogue = {own.data(), own.size()};
        K.gemm_f32(g, 0, m, 0, panels);
        tally.check(!std::memcmp(c.data(), in_place.data(), m * ldc * 4), name("gemm_f32 in place", {m, n, k}));
    }
}

// Strides of every kind; columns of c in two parts give the same bits.
template <class T>
void plain_case(void (*gemm)(const GemmPlain<T>&) noexcept, Tally& tally, Random& rng, size_t m, size_t n, size_t k,
                bool a_turned, bool b_turned) {
    const auto draw = [&] { return std::is_integral_v<T> ? (T)rng.next() : (T)rng.uniform(-1, 1); };
    const size_t lda = (a_turned ? m : k) + rng.below(3), ldb = (b_turned ? k : n) + rng.below(3);
    const size_t ldc = n + rng.below(3);
    Edged<T> a((a_turned ? k : m) * lda), b((b_turned ? n : k) * ldb);
    for (T& v : a) v = draw();
    for (T& v : b) v = draw();
    Guarded<T> c(m * ldc), split(m * ldc);
    GemmPlain<T> g{m, n, k, a.data(), (ptrdiff_t)lda, 1, b.data(), (ptrdiff_t)ldb, 1, c.data(), (ptrdiff_t)ldc};
    if (a_turned) std::swap(g.a_row, g.a_col);
    if (b_turned) std::swap(g.b_row, g.b_col);
    gemm(g);
    bool ok = c.intact();
    for (size_t i = 0; i < m; ++i)
        for (size_t j = 0; j < n; ++j) {
            T sum{};
            double scale = 1;
            for (size_t q = 0; q < k; ++q) {
                const T p = a[a_turned ? q * lda + i : i * lda + q] * b[b_turned ? j * ldb + q : q * ldb + j];
                sum += p;
                scale += std::fabs((double)p);
            }
            if constexpr (std::is_integral_v<T>) ok = ok && c[i * ldc + j] == sum;
            else ok = ok && near(c[i * ldc + j], sum, 1e-15 * scale);
        }
    const size_t left = rng.below(n);
    g.c = split.data();
    g.n = left;
    gemm(g);
    g.n = n - left;
    g.b += (ptrdiff_t)left * g.b_col;
    g.c += left;
    gemm(g);
    tally.check(ok && !std::memcmp(c.data(), split.data(), m * ldc * sizeof(T)) && split.intact(),
                name("gemm_f64, gemm_u32, gemm_u64: bytes m n k", {sizeof(T), m, n, k}));
}

}  // namespace

void test_gemm(const Kernels& K, Tally& tally) {
    Random rng;
    const size_t ks[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 33, 64, 100};
    size_t turn = 0;
    for (size_t m = 1; m <= 26; ++m)
        for (const size_t n : {1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 40, 63, 64, 65, 100, 129}) {
            gemm_case(K, tally, rng, m, n, ks[turn % 12], turn % epilogue_variants, turn % 3 == 0);
            ++turn;
        }
    for (const size_t m : {36, 37, 49, 63, 64, 65, 100, 196}) {
        gemm_case(K, tally, rng, m, 72, 130, m % epilogue_variants, false);
    }
    gemm_case(K, tally, rng, 150, 40, 2100, 1, false);
    // Rows 4 KB apart have tiles of their own.
    for (const size_t m : {20, 25, 37})
        for (const size_t n : {64, 100, 130})
            gemm_case(K, tally, rng, m, n, 1024, (m + n) % epilogue_variants, false, true);
    for (const size_t m : {1, 2, 3, 4, 5, 8, 9, 17})
        for (const size_t n : {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 70})
            for (const size_t k : {0, 1, 5, 127, 128, 129, 260}) {
                const bool a_turned = turn % 3 == 0, b_turned = turn % 2 == 0;
                plain_case(K.gemm_f64, tally, rng, m, n, k, a_turned, b_turned);
                plain_case(K.gemm_u32, tally, rng, m, n, k, a_turned, b_turned);
                plain_case(K.gemm_u64, tally, rng, m, n, k, a_turned, b_turned);
                ++turn;
            }
}

}  // namespace linnet::kernels::test
