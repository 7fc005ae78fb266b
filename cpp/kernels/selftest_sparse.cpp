// Sparse GEMM: values, guards, and the same bits for any split.
#include <algorithm>
#include <chrono>

#include "kernels/selftest.h"

namespace linnet::kernels::test {

SparseMatrix::SparseMatrix(const float* b, size_t k, size_t n, bool blocks) : blocks(blocks) {
    for (size_t col = 0; col < n; col += 4) {
        const size_t cols = std::min<size_t>(4, n - col);
        std::vector<size_t> rows[4];
        for (size_t r = 0; r < k; ++r) {
            bool any = false;
            for (size_t c = 0; c < cols; ++c) any = any || b[r * n + col + c] != 0;
            for (size_t c = 0; c < cols; ++c)
                if (blocks ? any : b[r * n + col + c] != 0) rows[c].push_back(r);
        }
        size_t steps = 0;
        for (const auto& r : rows) steps = std::max(steps, r.size());
        for (size_t s = 0; s < steps; ++s)
            for (size_t c = 0; c < 4; ++c) {
                const bool there = s < rows[c].size();
                if (!blocks || c == 0) index.push_back((uint16_t)(there ? rows[c][s] : k));
                values.push_back(there ? b[rows[c][s] * n + col + c] : 0.0f);
            }
        start.push_back((uint32_t)(values.size() / 4));
    }
}

namespace {

// Random weights, zeros in the given share of the elements or of the blocks of four columns.
Edged<float> pruned(Random& rng, size_t k, size_t n, bool blocks, size_t percent) {
    auto b = random_floats(rng, k * n);
    for (size_t r = 0; r < k; ++r)
        for (size_t c = 0; c < n; c += blocks ? 4 : 1)
            if (rng.below(100) < percent) std::fill_n(&b[r * n + c], std::min<size_t>(blocks ? 4 : 1, n - c), 0.0f);
    return b;
}

void sparse_case(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t n, size_t k, size_t variant, bool blocks,
                 size_t percent) {
    const size_t lda = k + rng.below(4), ldc = n + rng.below(4), ldr = n + 1;
    const auto a = random_floats(rng, m ? (m - 1) * lda + k : 0), column = random_floats(rng, n),
               tensor = random_floats(rng, m * ldr);
    const auto b = pruned(rng, k, n, blocks, percent);
    const SparseMatrix sparse(b.data(), k, n, blocks);
    const Edged<uint32_t> start(sparse.start.begin(), sparse.start.end());
    const Edged<uint16_t> index(sparse.index.begin(), sparse.index.end());
    const Edged<float> values(sparse.values.begin(), sparse.values.end());
    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldr);
    Guarded<float> c(m * ldc), split(m * ldc), scratch((k + 1) * K.sparse_rows);
    SparseF32 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.b = {blocks, start.data(), index.data(), values.data()};
    g.c = c.data();
    g.ldc = (ptrdiff_t)ldc;
    g.epilogue = {steps.data(), steps.size()};
    g.scratch = scratch.data();
    const size_t groups = (n + 3) / 4;
    K.sparse_f32(g, 0, m, 0, groups);
    bool ok = true, gaps = true;
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) {
            double sum = 0, scale = 1;
            for (size_t q = 0; q < k; ++q) {
                const double p = (double)a[i * lda + q] * b[q * n + j];
                sum += p;
                scale += std::fabs(p);
            }
            ok = ok && near(c[i * ldc + j], reference_epilogue(g.epilogue, sum, i, j), 2e-6 * scale);
        }
        for (size_t j = n; j < ldc; ++j) gaps = gaps && c[i * ldc + j] == 77;
    }
    tally.check(ok, name("sparse_f32 m n k epilogue blocks", {m, n, k, variant, blocks}));
    tally.check(gaps && c.intact() && scratch.intact(), name("sparse_f32 writes outside, m n k", {m, n, k}));
    g.c = split.data();
    for (size_t r = 0; r < m;) {
        const size_t r1 = std::min(m, r + 1 + rng.below(m));
        for (size_t p = 0; p < groups;) {
            const size_t p1 = std::min(groups, p + 1 + rng.below(groups));
            K.sparse_f32(g, r, r1, p, p1);
            p = p1;
        }
        r = r1;
    }
    tally.check(!std::memcmp(c.data(), split.data(), m * ldc * 4) && split.intact(),
                name("sparse_f32 split m n k epilogue blocks", {m, n, k, variant, blocks}));
    // The residual may be the output itself.
    if (variant == 2 || variant == 3 || variant == 5) {
        Guarded<float> in_place(m * ldc);
        for (size_t i = 0; i < m; ++i)
            for (size_t j = 0; j < n; ++j) in_place[i * ldc + j] = tensor[i * ldr + j];
        const auto own = epilogue_variant(variant, column.data(), in_place.data(), (ptrdiff_t)ldc);
        g.c = in_place.data();
        g.epilogue = {own.data(), own.size()};
        K.sparse_f32(g, 0, m, 0, groups);
        tally.check(!std::memcmp(c.data(), in_place.data(), m * ldc * 4), name("sparse_f32 in place", {m, n, k}));
    }
}

}  // namespace

void test_sparse(const Kernels& K, Tally& tally) {
    Random rng;
    const size_t ks[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 33, 64, 100}, percents[] = {0, 50, 80, 97, 100};
    size_t turn = 0;
    for (const size_t m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 65, 100, 113})
        for (const size_t n : {1, 3, 4, 5, 8, 15, 16, 17, 60, 64, 65, 68, 130}) {
            sparse_case(K, tally, rng, m, n, ks[turn % 12], turn % epilogue_variants, turn % 2, percents[turn % 5]);
            ++turn;
        }
}

namespace {

// Best times of the dense and of the sparse product, in turns.
void race(const Kernels& K, size_t m, size_t k, size_t n, bool blocks, size_t percent, double (&best)[2]) {
    Random rng;
    const auto a = random_floats(rng, m * k), column = random_floats(rng, n), b = pruned(rng, k, n, blocks, percent);
    const SparseMatrix sparse(b.data(), k, n, blocks);
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols, tile = (k + 1) * K.sparse_rows;
    std::vector<float> packed(K.pack_b_f32_size(1, k, n)), c(m * n), scratch(tile + 16);
    K.pack_b_f32({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    const auto steps = epilogue_variant(1, column.data(), nullptr, 0);
    const Epilogue epilogue{steps.data(), steps.size()};
    const GemmF32 dense{m, n, k, a.data(), (ptrdiff_t)k, packed.data(), c.data(), (ptrdiff_t)n, epilogue};
    float* aligned = scratch.data() + (64 - (uintptr_t)scratch.data() % 64) % 64 / sizeof(float);
    const SparseF32 product{m, n, k, a.data(), (ptrdiff_t)k, sparse.view(), c.data(), (ptrdiff_t)n, epilogue, aligned};
    best[0] = best[1] = 1e9;
    using Clock = std::chrono::steady_clock;
    for (const auto start = Clock::now(); Clock::now() - start < std::chrono::milliseconds(60);)
        for (size_t way = 0; way < 2; ++way) {
            const auto begin = Clock::now();
            if (way == 0) K.gemm_f32(dense, 0, m, 0, panels);
            else K.sparse_f32(product, 0, m, 0, (n + 3) / 4);
            best[way] = std::min(best[way], std::chrono::duration<double>(Clock::now() - begin).count());
        }
}

// {rows, k, columns}: those of docs/sparse.md, of MobileNetV2's layers, and of dense layers of one row.
constexpr size_t shapes[][3] = {{784, 128, 128}, {192, 256, 256}, {192, 512, 512}, {3136, 24, 144},
                                {3136, 144, 24}, {196, 384, 64},  {196, 96, 576},  {49, 160, 960},
                                {49, 960, 320},  {1, 512, 512},   {1, 1280, 1000}, {1, 4096, 4096}};

}  // namespace

void bench_sparse(const Kernels& K, bool json) {
    for (const bool blocks : {true, false})
        for (const auto& s : shapes)
            for (const size_t percent : {50, 70, 80, 90}) {
                double best[2];
                race(K, s[0], s[1], s[2], blocks, percent, best);
                const char* group = blocks ? "sparse 4x1" : "sparse columns";
                const auto shape = name("", {s[0], s[1], s[2], percent}).substr(1) + " %";
                if (json)
                    std::printf("{\"isa\": \"%s\", \"group\": \"%s\", \"shape\": \"%s\", \"gain\": %.3f}\n", K.isa,
                                group, shape.c_str(), best[0] / best[1]);
                else std::printf("  %-14s %-20s %8.2f x the dense kernel\n", group, shape.c_str(), best[0] / best[1]);
                std::fflush(stdout);
            }
}

}  // namespace linnet::kernels::test
