// Sparse GEMM: values, guards, and the same bits for any split.
#include <algorithm>
#include <chrono>

#include "kernels/selftest.h"

namespace linnet::kernels::test {

using Form = SparseB::Form;

SparseMatrix::SparseMatrix(const Kernels& K, const float* b, size_t k, size_t n, Form form) : form(form) {
    const bool blocks = form == Form::blocks || form == Form::row_blocks;
    for (size_t strip = 0; strip < n; strip += sparse_strip) {
        const size_t cols = std::min(sparse_strip, n - strip);
        if (form == Form::row_bits) {
            for (size_t r = 0; r < k; ++r) {
                bits.push_back(0);
                for (size_t c = 0; c < cols; ++c) {
                    const float value = b[r * n + strip + c];
                    if (value == 0) continue;
                    bits.back() |= (uint16_t)(1u << c);
                    values.push_back(value);
                }
            }
            start.push_back((uint32_t)values.size());
            continue;
        }
        const size_t groups = (cols + 3) / 4;
        for (size_t g = 0; g < groups; ++g) {
            std::vector<size_t> rows[4];
            // Columns for tiles may come in any order: here spread over the groups and back to front.
            size_t from[4];
            for (size_t c = 0; c < 4; ++c)
                from[c] = form != Form::columns ? g * 4 + c : groups * 4 - 1 - (c * groups + g);
            for (size_t r = 0; r < k; ++r) {
                bool any = false;
                for (const size_t c : from) any = any || (c < cols && b[r * n + strip + c] != 0);
                for (size_t c = 0; c < 4; ++c)
                    if (blocks ? any : from[c] < cols && b[r * n + strip + from[c]] != 0) rows[c].push_back(r);
            }
            size_t steps = 0;
            for (const auto& r : rows) steps = std::max(steps, r.size());
            const size_t unit = form == Form::row_blocks || form == Form::row_columns ? 1 : K.sparse_rows;
            for (size_t s = 0; s < steps; ++s)
                for (size_t c = 0; c < 4; ++c) {
                    const bool there = s < rows[c].size();
                    if (!blocks || c == 0) index.push_back((uint32_t)((there ? rows[c][s] : k) * unit));
                    values.push_back(there && from[c] < cols ? b[rows[c][s] * n + strip + from[c]] : 0.0f);
                }
            for (const size_t c : from) order.push_back((uint8_t)c);
            start.push_back((uint32_t)(values.size() / 4));
        }
    }
    if (form == Form::row_bits) values.insert(values.end(), sparse_strip, 1.0f);
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

void sparse_case(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t n, size_t k, size_t variant, Form form,
                 size_t percent) {
    const size_t lda = k + rng.below(4), ldc = n + rng.below(4), ldr = n + 1;
    const auto a = random_floats(rng, m ? (m - 1) * lda + k : 0), column = random_floats(rng, n),
               tensor = random_floats(rng, m * ldr);
    const auto b = pruned(rng, k, n, form == Form::blocks || form == Form::row_blocks, percent);
    const SparseMatrix sparse(K, b.data(), k, n, form);
    const Edged<uint32_t> start(sparse.start.begin(), sparse.start.end()),
        index(sparse.index.begin(), sparse.index.end());
    const Edged<float> values(sparse.values.begin(), sparse.values.end());
    const Edged<uint8_t> order(sparse.order.begin(), sparse.order.end());
    const Edged<uint16_t> bits(sparse.bits.begin(), sparse.bits.end());
    const auto steps = epilogue_variant(variant, column.data(), tensor.data(), (ptrdiff_t)ldr);
    Guarded<float> c(m * ldc), split(m * ldc), scratch((k + 1) * K.sparse_rows);
    SparseF32 g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.b = {form, start.data(), index.data(), values.data(), order.data(), bits.data()};
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
    tally.check(ok, name("sparse_f32 m n k epilogue form", {m, n, k, variant, (size_t)form}));
    tally.check(gaps && c.intact() && scratch.intact(), name("sparse_f32 writes outside, m n k", {m, n, k}));
    g.c = split.data();
    for (size_t r = 0; r < m;) {
        const size_t r1 = std::min(m, r + 1 + rng.below(m));
        for (size_t p = 0; p < groups;) {
            const size_t p1 = std::min(groups, p + 4 * (1 + rng.below(groups / 4 + 1)));
            K.sparse_f32(g, r, r1, p, p1);
            p = p1;
        }
        r = r1;
    }
    tally.check(!std::memcmp(c.data(), split.data(), m * ldc * 4) && split.intact(),
                name("sparse_f32 split m n k epilogue form", {m, n, k, variant, (size_t)form}));
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

struct SparseBytes {
    std::vector<uint32_t> start{0};
    std::vector<uint16_t> index;
    std::vector<int8_t> values;
    std::vector<int32_t> sums;
    SparseBytes(const int8_t* b, size_t k, size_t n) : sums(n) {
        for (size_t r = 0; r < k; ++r)
            for (size_t c = 0; c < n; ++c) sums[c] += b[r * n + c];
        for (size_t col = 0; col < n; col += 4) {
            for (size_t r = 0; r < k; r += 4) {
                int8_t block[16] = {};
                bool any = false;
                for (size_t c = 0; c < 4 && col + c < n; ++c)
                    for (size_t i = 0; i < 4 && r + i < k; ++i) {
                        block[c * 4 + i] = b[(r + i) * n + col + c];
                        any = any || block[c * 4 + i] != 0;
                    }
                if (!any) continue;
                index.push_back((uint16_t)(r / 4));
                values.insert(values.end(), block, block + 16);
            }
            start.push_back((uint32_t)index.size());
        }
    }
};

Edged<int8_t> pruned_bytes(Random& rng, size_t k, size_t n, size_t percent) {
    Edged<int8_t> b(k * n);
    const bool extreme = rng.below(3) == 0;
    for (size_t r = 0; r < k; r += 4)
        for (size_t c = 0; c < n; c += 4) {
            const bool zero = rng.below(100) < percent;
            for (size_t i = r; i < std::min(k, r + 4); ++i)
                for (size_t j = c; j < std::min(n, c + 4); ++j)
                    b[i * n + j] = zero ? 0 : extreme ? (rng.below(4) ? -128 : 127) : (int8_t)rng.next();
        }
    return b;
}

// Against the dense kernel, whose own test has plain loops.
void sparse_s8_case(const Kernels& K, Tally& tally, Random& rng, size_t m, size_t n, size_t k, size_t percent,
                    GemmS8::Out out) {
    const size_t lda = k + rng.below(3), ldc = n + rng.below(3), ldr = n + 1;
    Edged<uint8_t> a(m ? (m - 1) * lda + k : 0), add(m * ldr);
    Edged<int32_t> bias(n);
    const bool extreme = rng.below(3) == 0, is_signed = rng.below(2);
    for (auto& x : a) x = extreme ? (rng.below(2) ? 255 : 127) : (uint8_t)rng.next();
    for (auto& x : add) x = (uint8_t)rng.next();
    for (auto& x : bias) x = (int32_t)rng.next() % 100000;
    const auto b = pruned_bytes(rng, k, n, percent);
    const SparseBytes sparse(b.data(), k, n);
    const auto scale = random_floats(rng, n, 1e-4f, 1e-2f), column = random_floats(rng, n);
    const auto steps = epilogue_variant(rng.below(2), column.data(), nullptr, 0);
    const size_t panels = (n + K.gemm_s8_cols - 1) / K.gemm_s8_cols, groups = (n + 3) / 4;
    std::vector<int32_t> packed(K.pack_b_s8_size(1, k, n) / 4 + 1);
    K.pack_b_s8({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    Guarded<int32_t> want(m * ldc), got(m * ldc), split(m * ldc);  // as bytes, too many
    Guarded<uint32_t> scratch((k + 3) / 4 * K.sparse_s8_rows);
    SparseS8 s;
    GemmS8& g = s.gemm;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)lda;
    g.a_signed = is_signed;
    g.a_zero = is_signed ? -3 : 130;
    g.b = packed.data();
    g.bias = rng.below(2) ? bias.data() : nullptr;
    g.out = out;
    g.ldc = (ptrdiff_t)ldc;
    g.bytes.scale = g.scale = scale.data();
    g.bytes.zero = 100;
    if (rng.below(2)) {
        g.bytes.add = add.data();
        g.bytes.add_stride = (ptrdiff_t)ldr;
        g.bytes.own_scale = 0.5f;
        g.bytes.add_scale = 0.75f;
        g.bytes.sum_zero = 9;
    }
    g.epilogue = {steps.data(), steps.size()};
    s.start = sparse.start.data();
    s.index = sparse.index.data();
    s.values = sparse.values.data();
    s.column_sums = sparse.sums.data();
    s.scratch = scratch.data();
    g.c = want.data();
    K.gemm_s8(g, 0, m, 0, panels);
    g.c = got.data();
    K.sparse_s8(s, 0, m, 0, groups);
    tally.check(!std::memcmp(want.data(), got.data(), m * ldc * 4) && got.intact() && scratch.intact(),
                name("sparse_s8 m n k out", {m, n, k, (size_t)out}));
    g.c = split.data();
    const size_t r = rng.below(m + 1), p = rng.below(groups + 1);
    K.sparse_s8(s, 0, r, 0, p);
    K.sparse_s8(s, r, m, 0, p);
    K.sparse_s8(s, 0, m, p, groups);
    tally.check(!std::memcmp(want.data(), split.data(), m * ldc * 4), name("sparse_s8 split", {m, n, k}));
}

}  // namespace

void test_sparse(const Kernels& K, Tally& tally) {
    Random rng;
    const size_t ks[] = {0, 1, 2, 3, 4, 5, 7, 8, 15, 33, 64, 100}, percents[] = {0, 50, 80, 97, 100};
    size_t turn = 0;
    for (const size_t m : {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 47, 48, 49, 65, 100, 113})
        for (const size_t n : {1, 3, 4, 5, 8, 15, 16, 17, 60, 64, 65, 68, 130}) {
            // Few rows take every form.
            const size_t form = turn % (m <= 3 ? 5 : 2);
            sparse_case(K, tally, rng, m, n, ks[turn % 12], turn % epilogue_variants, (Form)form, percents[turn % 5]);
            sparse_s8_case(K, tally, rng, m, n, ks[(turn / 3) % 12], percents[turn % 5], (GemmS8::Out)(turn % 3));
            ++turn;
        }
}

namespace {

// Best times of the dense and of the sparse product.
template <class Dense, class Sparse>
void take_turns(const Dense& dense, const Sparse& sparse, double (&best)[2]) {
    using Clock = std::chrono::steady_clock;
    best[0] = best[1] = 1e9;
    const auto start = Clock::now();
    for (size_t turn = 0; turn < 10 || Clock::now() - start < std::chrono::milliseconds(100); ++turn)
        for (size_t way = 0; way < 2; ++way) {
            const auto begin = Clock::now();
            if (way == 0) dense();
            else sparse();
            best[way] = std::min(best[way], std::chrono::duration<double>(Clock::now() - begin).count());
        }
}

void race(const Kernels& K, size_t m, size_t k, size_t n, bool blocks, size_t percent, double (&best)[2]) {
    Random rng;
    const auto a = random_floats(rng, m * k), column = random_floats(rng, n), b = pruned(rng, k, n, blocks, percent);
    const Form tall = blocks ? Form::blocks : Form::columns, low = blocks         ? Form::row_blocks
                                                                   : percent > 75 ? Form::row_columns
                                                                                  : Form::row_bits;
    const SparseMatrix sparse(K, b.data(), k, n, m == 1 ? low : tall);
    const size_t panels = (n + K.gemm_cols - 1) / K.gemm_cols, tile = (k + 1) * K.sparse_rows;
    std::vector<float> packed(K.pack_b_f32_size(1, k, n)), c(m * n), scratch(tile + 16);
    K.pack_b_f32({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    const auto steps = epilogue_variant(1, column.data(), nullptr, 0);
    const Epilogue epilogue{steps.data(), steps.size()};
    const GemmF32 dense{m, n, k, a.data(), (ptrdiff_t)k, packed.data(), c.data(), (ptrdiff_t)n, epilogue};
    float* aligned = scratch.data() + (64 - (uintptr_t)scratch.data() % 64) % 64 / sizeof(float);
    const SparseF32 product{m, n, k, a.data(), (ptrdiff_t)k, sparse.view(), c.data(), (ptrdiff_t)n, epilogue, aligned};
    take_turns([&] { K.gemm_f32(dense, 0, m, 0, panels); }, [&] { K.sparse_f32(product, 0, m, 0, (n + 3) / 4); }, best);
}

void race_s8(const Kernels& K, size_t m, size_t k, size_t n, size_t percent, double (&best)[2]) {
    Random rng;
    const auto b = pruned_bytes(rng, k, n, percent);
    const SparseBytes sparse(b.data(), k, n);
    const std::vector<uint8_t> a(m * k, 3);
    const std::vector<float> scale(n, 1e-3f);
    const size_t panels = (n + K.gemm_s8_cols - 1) / K.gemm_s8_cols;
    std::vector<int32_t> packed(K.pack_b_s8_size(1, k, n) / 4);
    std::vector<uint8_t> c(m * n);
    std::vector<uint32_t> scratch((k + 3) / 4 * K.sparse_s8_rows + 16);
    K.pack_b_s8({1, k, n, 0, (ptrdiff_t)n, 1}, b.data(), packed.data(), 0, panels);
    SparseS8 s;
    GemmS8& g = s.gemm;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = (ptrdiff_t)k;
    g.b = packed.data();
    g.out = GemmS8::Out::bytes;
    g.c = c.data();
    g.ldc = (ptrdiff_t)n;
    g.bytes.scale = scale.data();
    s.start = sparse.start.data();
    s.index = sparse.index.data();
    s.values = sparse.values.data();
    s.column_sums = sparse.sums.data();
    s.scratch = scratch.data() + (64 - (uintptr_t)scratch.data() % 64) % 64 / sizeof(uint32_t);
    take_turns([&] { K.gemm_s8(g, 0, m, 0, panels); }, [&] { K.sparse_s8(s, 0, m, 0, (n + 3) / 4); }, best);
}

// {rows, k, columns}: those of docs/sparse.md, of MobileNetV2's layers, and of dense layers of one row.
constexpr size_t shapes[][3] = {{784, 128, 128}, {192, 256, 256}, {192, 512, 512}, {3136, 24, 144},
                                {3136, 144, 24}, {196, 384, 64},  {196, 96, 576},  {49, 160, 960},
                                {49, 960, 320},  {1, 512, 512},   {1, 1280, 1000}, {1, 4096, 4096}};

}  // namespace

void bench_sparse(const Kernels& K, bool json) {
    const char* const groups[] = {"sparse 4x1", "sparse columns", "sparse int8 4x4"};
    for (size_t form = 0; form < 3; ++form)
        for (const auto& s : shapes)
            for (const size_t percent : {50, 70, 80, 90}) {
                if (form == 2 && s[0] == 1) continue;
                double best[2];
                if (form < 2) race(K, s[0], s[1], s[2], form == 0, percent, best);
                else race_s8(K, s[0], s[1], s[2], percent, best);
                const auto shape = name("", {s[0], s[1], s[2], percent}).substr(1) + " %";
                if (json)
                    std::printf("{\"isa\": \"%s\", \"group\": \"%s\", \"shape\": \"%s\", \"gain\": %.3f}\n", K.isa,
                                groups[form], shape.c_str(), best[0] / best[1]);
                else
                    std::printf("  %-15s %-19s %8.2f x the dense kernel\n", groups[form], shape.c_str(),
                                best[0] / best[1]);
                std::fflush(stdout);
            }
}

}  // namespace linnet::kernels::test
