// Elementwise and row kernels.
#include <algorithm>
#include <limits>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

const size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 40, 63, 64, 65, 100, 257};

void map_case(const Kernels& K, Tally& tally, Random& rng, Unary fn) {
    float lo = -12, hi = 12, a = 0.7f, b = 0.3f;
    if (fn == Unary::asin || fn == Unary::acos || fn == Unary::atanh) lo = -1, hi = 1;
    if (fn == Unary::sqrt || fn == Unary::log) lo = 0;
    if (fn == Unary::acosh) lo = 1;
    if (fn == Unary::clip) a = -1.5f, b = 2.5f;
    double worst = 0, worst_at = 0;
    for (const size_t n : sizes) {
        auto x = random_floats(rng, n, lo, hi);
        for (float& v : x) {
            if (rng.below(8) == 0) v = (float)std::lround(v) + (rng.below(2) ? 0.5f : 0.0f);
            v = std::min(hi, std::max(lo, v));
        }
        Guarded<float> y(n), same(n);
        std::copy(x.begin(), x.end(), same.data());
        K.map_f32(fn, n, x.data(), y.data(), a, b);
        K.map_f32(fn, n, same.data(), same.data(), a, b);
        for (size_t i = 0; i < n; ++i) {
            const double want = reference_unary(fn, x[i], a, b);
            const double error = std::fabs(y[i] - want) / (1e-6 + std::fabs(fn == Unary::gelu_erf ? x[i] : want));
            if (!(error <= worst)) worst = error, worst_at = x[i];
        }
        tally.check(y.intact() && same.intact() && !std::memcmp(y.data(), same.data(), n * 4),
                    name("map_f32 guard or in place, fn n", {(size_t)fn, n}));
    }
    // Cancellation is absolute, not relative: 1e-6 is added to the divisor above, which for gelu_erf is |x|.
    tally.check(
        worst < (fn == Unary::gelu_erf ? 2e-7 : 2e-6),
        name("map_f32 fn", {(size_t)fn}) + " error " + std::to_string(worst) + " at " + std::to_string(worst_at));
    // Special values.
    const float special[] = {NAN, INFINITY, -INFINITY, 0.0f, -0.0f, 1e-40f, 3e38f, -3e38f};
    float y[8];
    K.map_f32(fn, 8, special, y, a, b);
    const bool nan_kept = std::isnan(y[0]);
    tally.check(nan_kept, name("map_f32 keeps NaN, fn", {(size_t)fn}));
    const bool plain = fn == Unary::exp || fn == Unary::log || fn == Unary::tanh || fn == Unary::sigmoid ||
                       fn == Unary::erf || fn == Unary::relu || fn == Unary::abs || fn == Unary::floor ||
                       fn == Unary::ceil || fn == Unary::round || fn == Unary::sqrt || fn == Unary::sign ||
                       fn == Unary::clip || fn == Unary::softplus || fn == Unary::elu || fn == Unary::neg;
    if (fn == Unary::gelu_erf) {  // erf must be 1 to the bit there: what it lacks would be scaled by x
        const float far[] = {-5.6f, -8, -1e3f, -1e30f, -3e38f, 5.6f, 1e3f, 3e38f};
        K.map_f32(fn, 8, far, y, a, b);
        for (int i = 0; i < 8; ++i)
            tally.check(y[i] == (far[i] < 0 ? 0 : far[i]),
                        "gelu of " + std::to_string(far[i]) + " is " + std::to_string(y[i]));
    }
    for (int i = 1; i < 8 && plain; ++i) {
        const double want = (float)reference_unary(fn, special[i], a, b);
        tally.check(near(y[i], want, 1e-6 * std::fabs(want) + 1e-38),
                    name("map_f32 special, fn i", {(size_t)fn, (size_t)i}) + " got " + std::to_string(y[i]) + " want " +
                        std::to_string(want));
    }
}

// Largest error in units in the last place over a sweep.
void ulp_case(const Kernels& K, Tally& tally, Unary fn, float lo, float hi, double limit) {
    constexpr size_t n = 200000;
    Edged<float> x(n), y(n);
    for (size_t i = 0; i < n; ++i) x[i] = lo + (hi - lo) * (float)i / (float)n;
    K.map_f32(fn, n, x.data(), y.data(), 0, 0);
    double worst = 0;
    float at = 0;
    for (size_t i = 0; i < n; ++i) {
        const double want = reference_unary(fn, x[i], 0, 0);
        int exponent;
        std::frexp(want, &exponent);
        const double ulp = std::ldexp(1.0, std::max(exponent - 24, -149));
        const double error = std::fabs(y[i] - want) / ulp;
        if (!(error <= worst)) worst = error, at = x[i];
    }
    tally.check(worst <= limit,
                name("ulp of fn", {(size_t)fn}) + ": " + std::to_string(worst) + " at " + std::to_string(at));
}

// A lane's sine does not depend on a huge or a NaN neighbour.
void far_angle_case(const Kernels& K, Tally& tally, Unary fn) {
    constexpr size_t n = 64;
    Edged<float> x(n), near(n), y(n);
    for (size_t i = 0; i < n; ++i) x[i] = 0.37f * (float)i - 5;
    K.map_f32(fn, n, x.data(), near.data(), 0, 0);
    x[3] = 1e6f, x[17] = NAN, x[40] = -3e9f;
    K.map_f32(fn, n, x.data(), y.data(), 0, 0);
    bool same = std::isnan(y[17]);
    for (size_t i = 0; i < n; ++i) {
        if (std::fabs(x[i]) > 8192) same &= std::fabs(y[i] - reference_unary(fn, x[i], 0, 0)) < 1e-6;
        else if (!std::isnan(x[i])) same &= std::memcmp(&y[i], &near[i], sizeof(float)) == 0;
    }
    tally.check(same, name("huge angles beside small ones, fn", {(size_t)fn}));
}

void binary_cases(const Kernels& K, Tally& tally, Random& rng) {
    for (int op = 0; op < (int)Binary::count; ++op)
        for (const size_t n : sizes)
            for (int steps = 0; steps < 3; ++steps) {
                const size_t sa = steps != 1, sb = steps != 2;
                auto a = random_floats(rng, n + 1, (Binary)op == Binary::pow ? 0.1f : -3, 3),
                     b = random_floats(rng, n + 1, -3, 3);
                if (n > 2) a[n / 2] = NAN, b[n / 3] = NAN;
                a.resize(sa ? n : 1);
                b.resize(sb ? n : 1);
                Guarded<float> y(n);
                K.binary_f32((Binary)op, n, a.data(), sa, b.data(), sb, y.data());
                bool ok = y.intact();
                for (size_t i = 0; i < n; ++i) {
                    const double u = a[i * sa], v = b[i * sb], nan = u != u || v != v ? NAN : 0;
                    const double want[] = {u + v,
                                           u - v,
                                           u * v,
                                           u / v,
                                           nan + std::min(u, v),
                                           nan + std::max(u, v),
                                           std::pow(u, v),
                                           u < 0 ? u * v : u,
                                           std::fmod(u, v)};
                    ok = ok && near(y[i], want[op], 1e-6 * std::fabs(want[op]));
                }
                tally.check(ok, name("binary_f32 op n steps", {(size_t)op, n, (size_t)steps}));
                for (int c = 0; c < (int)Compare::count; ++c) {
                    Guarded<uint8_t> r(n);
                    K.compare_f32((Compare)c, n, a.data(), sa, a.data(), 0, r.data());
                    bool good = r.intact();
                    for (size_t i = 0; i < n; ++i) {
                        const float u = a[i * sa], v = a[0];
                        const bool want[] = {u == v, u<v, u <= v, u> v, u >= v};
                        good = good && r[i] == want[c];
                    }
                    tally.check(good, name("compare_f32 op n", {(size_t)c, n}));
                }
            }
    const int32_t a[] = {INT32_MAX, -5, 7, INT32_MIN, 3}, b[] = {1, 2, -3, -1, 3};
    int32_t y[5];
    K.binary_i32(Binary::add, 5, a, 1, b, 1, y);
    tally.check(y[0] == INT32_MIN && y[1] == -3 && y[4] == 6, "binary_i32 add");
    K.binary_i32(Binary::max, 5, a, 1, b, 0, y);
    tally.check(y[0] == INT32_MAX && y[1] == 1 && y[3] == 1, "binary_i32 max");
    const uint8_t cond[] = {1, 0, 1, 0, 2};
    K.where(4, 5, cond, 1, a, 1, b, 0, y);
    tally.check(y[0] == a[0] && y[1] == 1 && y[2] == 7 && y[3] == 1 && y[4] == 3, "where");
    for (const size_t es : {1, 2, 4, 8})
        for (const size_t n : sizes)
            for (int steps = 0; steps < 8; ++steps) {
                const size_t sc = steps & 1, sa = steps >> 1 & 1, sb = steps >> 2;
                const auto bytes = [&](size_t step, size_t size) {
                    Edged<uint8_t> v((step ? n : 1) * size);
                    for (auto& byte : v) byte = (uint8_t)rng.next();
                    return v;
                };
                auto c = bytes(sc, 1), u = bytes(sa, es), v = bytes(sb, es);
                for (auto& byte : c) byte = byte % 3 ? byte : 0;
                Guarded<uint8_t> chosen(n * es);
                K.where(es, n, c.data(), sc, u.data(), sa, v.data(), sb, chosen.data());
                bool ok = chosen.intact();
                for (size_t i = 0; i < n; ++i)
                    ok = ok && !std::memcmp(chosen.data() + i * es,
                                            c[i * sc] ? u.data() + i * sa * es : v.data() + i * sb * es, es);
                tally.check(ok, name("where size n steps", {es, n, (size_t)steps}));
            }
}

// Sums, differences, products, extremes of T, with operands that stand still, NaN and -0 among the floats.
template <class T>
void plain_binary_cases(void (*binary)(Binary, size_t, const T*, size_t, const T*, size_t, T*) noexcept, Tally& tally,
                        Random& rng, const char* type) {
    for (const Binary op : {Binary::add, Binary::sub, Binary::mul, Binary::min, Binary::max})
        for (const size_t n : sizes)
            for (int steps = 0; steps < 4; ++steps) {
                const size_t sa = steps & 1, sb = steps >> 1;
                Edged<T> a(sa ? n : 1), b(sb ? n : 1), y(n);
                for (T& v : a) v = (T)((int64_t)rng.below(2001) - 1000);
                for (T& v : b) v = (T)((int64_t)rng.below(2001) - 1000);
                if constexpr (std::numeric_limits<T>::has_quiet_NaN) {
                    if (a.size() > 4) a[1] = (T)NAN, a[2] = (T)-0.0;
                    if (b.size() > 4) b[3] = (T)NAN;
                    if (b.size() == 1) b[0] = (T)-0.0;
                }
                binary(op, n, a.data(), sa, b.data(), sb, y.data());
                bool good = true;
                for (size_t i = 0; i < n; ++i) {
                    const T u = a[i * sa], v = b[i * sb];
                    const T least = u != u ? u : v < u || v != v ? v : u, most = u != u ? u : u < v || v != v ? v : u;
                    const T want = op == Binary::add   ? (T)(u + v)
                                   : op == Binary::sub ? (T)(u - v)
                                   : op == Binary::mul ? (T)(u * v)
                                   : op == Binary::min ? least
                                                       : most;
                    good &= want != want ? y[i] != y[i] : std::memcmp(&want, &y[i], sizeof want) == 0;
                }
                tally.check(good, name("binary of op n steps", {(size_t)op, n, (size_t)steps}) + " " + type);
            }
}

// Exact wherever libm's is: small and large quotients, quotients that round up to an integer, infinities and zeros.
void fmod_case(const Kernels& K, Tally& tally, Random& rng) {
    constexpr size_t n = 4096;
    Edged<float> a = random_floats(rng, n, -1000, 1000), b = random_floats(rng, n, -3, 3), y(n);
    for (size_t i = 0; i < n; i += 3) a[i] = b[i] * (float)(int)a[i];
    for (size_t i = 1; i < n; i += 3) a[i] = std::nextafter(a[i - 1], i % 2 ? 1e9f : -1e9f), b[i] = b[i - 1];
    const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e30f, 1e-40f, 2.0f, -7.5f};
    for (size_t i = 0; i < std::size(special) * std::size(special); ++i) {
        a[40 * i] = special[i % std::size(special)];
        b[40 * i] = special[i / std::size(special)];
    }
    K.binary_f32(Binary::fmod, n, a.data(), 1, b.data(), 1, y.data());
    for (size_t i = 0; i < n; ++i) {
        const float want = std::fmod(a[i], b[i]);
        const bool good = std::isnan(want) ? std::isnan(y[i]) : std::memcmp(&want, &y[i], sizeof want) == 0;
        tally.check(good, name("fmod", {i}) + " of " + std::to_string(a[i]) + " and " + std::to_string(b[i]) + " is " +
                              std::to_string(y[i]));
    }
}

void logic_cases(const Kernels& K, Tally& tally, Random& rng) {
    for (int op = 0; op < (int)Logic::count; ++op)
        for (const size_t n : sizes)
            for (int steps = 0; steps < 4; ++steps) {
                const size_t sa = steps & 1, sb = steps >> 1;
                Edged<uint8_t> a(sa ? n : 1), b(sb ? n : 1), y(n);
                for (uint8_t& v : a) v = rng.below(2) ? (uint8_t)rng.next() : 0;
                for (uint8_t& v : b) v = rng.below(2) ? (uint8_t)rng.next() : 0;
                K.logic_bytes((Logic)op, n, a.data(), sa, b.data(), sb, y.data());
                bool good = true;
                for (size_t i = 0; i < n; ++i) {
                    const int u = a[i * sa], v = b[i * sb];
                    const int want[] = {u && v, u || v, !u != !v, !u == !v, u & v, u | v, u ^ v};
                    good &= y[i] == want[op];
                }
                tally.check(good, name("logic_bytes op n steps", {(size_t)op, n, (size_t)steps}));
            }
}

void classify_cases(const Kernels& K, Tally& tally) {
    const float special[] = {0, -1, INFINITY, -INFINITY, NAN, -NAN, 3.4e38f, 1e-45f};
    for (const size_t n : sizes)
        for (int classes = 0; classes < 8; ++classes) {
            Edged<float> x(n);
            Edged<uint8_t> y(n);
            for (size_t i = 0; i < n; ++i) x[i] = special[(i * 5 + n) % std::size(special)];
            const bool nan = classes & 1, up = classes & 2, down = classes & 4;
            K.classify_f32(n, x.data(), nan, up, down, y.data());
            bool good = true;
            for (size_t i = 0; i < n; ++i)
                good &= y[i] == ((nan && std::isnan(x[i])) || (up && x[i] == INFINITY) || (down && x[i] == -INFINITY));
            tally.check(good, name("classify_f32 n classes", {n, (size_t)classes}));
        }
}

}  // namespace

void test_elementwise(const Kernels& K, Tally& tally) {
    Random rng;
    for (int fn = 0; fn < (int)Unary::count; ++fn) map_case(K, tally, rng, (Unary)fn);
    const double loose = std::strcmp(K.isa, "generic") ? 1 : 1.5;  // no fused multiply-add there
    ulp_case(K, tally, Unary::exp, -103, 88.7f, 3 * loose);
    ulp_case(K, tally, Unary::log, 1e-30f, 4, 2 * loose);
    ulp_case(K, tally, Unary::log, 4, 1e30f, 2 * loose);
    ulp_case(K, tally, Unary::tanh, -10, 10, 3 * loose);
    ulp_case(K, tally, Unary::erf, -5, 5, 6 * loose);
    ulp_case(K, tally, Unary::sigmoid, -87, 20, 4 * loose);
    ulp_case(K, tally, Unary::sin, -3, 3, 2 * loose);
    ulp_case(K, tally, Unary::cos, -1.5f, 1.5f, 2 * loose);
    ulp_case(K, tally, Unary::tan, -1.5f, 1.5f, 4 * loose);
    for (const Unary fn : {Unary::asin, Unary::acos}) ulp_case(K, tally, fn, -1, 1, 2 * loose);
    for (const float end : {1.0f, 100.0f}) ulp_case(K, tally, Unary::atan, -end, end, 2 * loose);
    for (const Unary fn : {Unary::sinh, Unary::cosh})
        for (const float end : {1.5f, 89.4f}) ulp_case(K, tally, fn, -end, end, 3 * loose);
    for (const float end : {1.0f, 1e20f}) ulp_case(K, tally, Unary::asinh, -end, end, 4 * loose);
    for (const float end : {2.0f, 1e20f}) ulp_case(K, tally, Unary::acosh, 1, end, 4 * loose);
    ulp_case(K, tally, Unary::atanh, -1, 1, 4 * loose);
    far_angle_case(K, tally, Unary::sin);
    far_angle_case(K, tally, Unary::tan);
    plain_binary_cases(K.binary_f64, tally, rng, "double");
    plain_binary_cases(K.binary_i32, tally, rng, "int32");
    plain_binary_cases(K.binary_i64, tally, rng, "int64");
    fmod_case(K, tally, rng);
    logic_cases(K, tally, rng);
    classify_cases(K, tally);
    far_angle_case(K, tally, Unary::cos);
    binary_cases(K, tally, rng);
}

// The largest and the least at every place, in turn.
static void extremes_case(const Kernels& K, size_t n, Tally& tally, Random& rng) {
    using Limits = std::numeric_limits<int64_t>;
    Edged<int64_t> x(n);
    for (int64_t& v : x) v = (int64_t)rng.below(2000) - 1000;
    int64_t least = 0, largest = 0;
    K.extremes_i64(n, x.data(), &least, &largest);
    bool ok = n > 0 || (least == Limits::max() && largest == Limits::min());
    for (size_t at = 0; at < n; ++at) {
        const size_t other = (at + n / 2) % n;
        const int64_t was = x[at], was_other = x[other];
        x[other] = Limits::min() + 1;
        x[at] = Limits::max() - 1;
        K.extremes_i64(n, x.data(), &least, &largest);
        ok = ok && largest == Limits::max() - 1 && least == (n > 1 ? Limits::min() + 1 : largest);
        x[other] = was_other;
        x[at] = was;
    }
    tally.check(ok, name("extremes_i64 n", {n}));
}

void test_rows(const Kernels& K, Tally& tally) {
    Random rng;
    for (const size_t n : sizes)
        for (int op = 0; op < (int)Reduce::count; ++op) {
            const auto x = random_floats(rng, n, 0.5f, 1.5f);
            const double start[] = {0, -INFINITY, INFINITY, 1, 0, 0};
            const auto join = [op](double acc, double v) {
                const double out[] = {acc + v, std::max(acc, v),   std::min(acc, v),
                                      acc * v, acc + std::fabs(v), acc + v * v};
                return out[op];
            };
            double want = start[op];
            for (const float v : x) want = join(want, v);
            // The rows in front of and behind it must not change what this one gives.
            const size_t before = rng.below(3), each = before + 1 + rng.below(3), apart = n + rng.below(5);
            std::vector<float> many(each * apart + n, NAN);
            std::copy(x.begin(), x.end(), many.begin() + (ptrdiff_t)(before * apart));
            Guarded<float> totals(each);
            K.reduce_f32((Reduce)op, each, n, many.data(), (ptrdiff_t)apart, totals.data());
            tally.check(near(totals[before], want, 4e-6 * std::fabs(want)) && totals.intact(),
                        name("reduce_f32 op n", {(size_t)op, n}));
            const size_t rows = 1 + rng.below(600), stride = n + 2;
            const auto m = random_floats(rng, rows * stride, 0.9f, 1.1f);
            Guarded<float> y(n), z(n);
            K.reduce_rows_f32((Reduce)op, rows, n, m.data(), (ptrdiff_t)stride, y.data(), false);
            K.reduce_rows_f32((Reduce)op, rows / 2, n, m.data(), (ptrdiff_t)stride, z.data(), false);
            K.reduce_rows_f32((Reduce)op, rows - rows / 2, n, m.data() + rows / 2 * stride, (ptrdiff_t)stride, z.data(),
                              true);
            bool ok = y.intact() && z.intact();
            for (size_t c = 0; c < n; ++c) {
                want = start[op];
                for (size_t r = 0; r < rows; ++r) want = join(want, m[r * stride + c]);
                ok = ok && near(y[c], want, 3e-5 * std::fabs(want)) && near(z[c], want, 3e-5 * std::fabs(want));
            }
            tally.check(ok, name("reduce_rows_f32 op rows n", {(size_t)op, rows, n}));
        }
    for (const size_t n : sizes) {
        const auto x = random_floats(rng, n, -5, 5), g = random_floats(rng, n), h = random_floats(rng, n);
        Guarded<float> y(n), z(n);
        double top = -INFINITY, sum = 0, mean = 0, var = 0, sq = 0, dot = 0;
        for (size_t i = 0; i < n; ++i) {
            top = std::max(top, (double)(x[i] * 0.5f + g[i]));
            mean += x[i] / (double)n;
            sq += (double)x[i] * x[i] / (double)n;
            dot += (double)x[i] * g[i];
        }
        for (size_t i = 0; i < n; ++i) {
            sum += std::exp(x[i] * 0.5f + g[i] - top);
            var += (x[i] - mean) * (x[i] - mean) / (double)n;
        }
        K.softmax_f32(n, x.data(), 0.5f, g.data(), y.data());
        bool ok = y.intact();
        for (size_t i = 0; i < n; ++i) ok = ok && near(y[i], std::exp(x[i] * 0.5f + g[i] - top) / sum, 1e-6);
        tally.check(ok, name("softmax_f32 n", {n}));
        K.softmax_f32(n, x.data(), 1, nullptr, y.data());
        K.log_softmax_f32(n, x.data(), z.data());
        ok = y.intact() && z.intact();
        for (size_t i = 0; i < n; ++i) ok = ok && near(std::log(y[i]), z[i], 1e-5);
        tally.check(ok, name("log_softmax_f32 n", {n}));
        float m = 0, inv = 0;
        K.layer_norm_f32(n, x.data(), g.data(), h.data(), 1e-5f, y.data(), &m, &inv);
        K.rms_norm_f32(n, x.data(), g.data(), 1e-5f, z.data());
        ok = y.intact() && z.intact();
        for (size_t i = 0; i < n; ++i) {
            ok = ok && near(y[i], (x[i] - mean) / std::sqrt(var + 1e-5) * g[i] + h[i], 2e-5 * (n < 2 ? 100 : 1));
            ok = ok && near(z[i], x[i] / std::sqrt(sq + 1e-5) * g[i], 1e-5);
        }
        tally.check(ok, name("layer_norm_f32, rms_norm_f32 n", {n}));
        tally.check(near(K.dot_f32(n, x.data(), g.data()), dot, 1e-5 * (1 + (double)n)), name("dot_f32 n", {n}));
        Guarded<float> c(n), hh(n);
        K.lstm_cell_f32(n, x.data(), g.data(), h.data(), x.data(), g.data(), c.data(), hh.data());
        K.gru_update_f32(n, x.data(), g.data(), h.data(), z.data());
        ok = c.intact() && hh.intact() && z.intact();
        const auto s = [](double v) { return 1 / (1 + std::exp(-v)); };
        for (size_t i = 0; i < n; ++i) {
            const double cell = s(h[i]) * g[i] + s(x[i]) * std::tanh(x[i]);
            ok = ok && near(c[i], cell, 1e-6) && near(hh[i], s(g[i]) * std::tanh(cell), 1e-6);
            ok = ok && near(z[i], (1 - s(x[i])) * std::tanh(g[i]) + s(x[i]) * h[i], 1e-6);
        }
        tally.check(ok, name("lstm_cell_f32, gru_update_f32 n", {n}));
        Edged<float> minus(n, -INFINITY);
        K.softmax_f32(n, x.data(), 1, minus.data(), y.data());
        ok = true;
        for (size_t i = 0; i < n; ++i) ok = ok && y[i] == 0;
        tally.check(ok, name("softmax_f32 all masked n", {n}));
    }
    for (const size_t n : sizes) extremes_case(K, n, tally, rng);
    for (const size_t rows : {1, 2, 5, 40})
        for (const size_t cols : sizes) {
            const size_t stride = cols + rng.below(3);
            auto x = random_floats(rng, rows * stride), w = random_floats(rng, rows);
            Guarded<float> sums(cols);
            K.weighted_rows_f32(rows, cols, w.data(), x.data(), (ptrdiff_t)stride, sums.data());
            bool ok = sums.intact();
            for (size_t c = 0; c < cols; ++c) {
                double want = 0;
                for (size_t r = 0; r < rows; ++r) want += (double)w[r] * x[r * stride + c];
                ok = ok && near(sums[c], want, 1e-5);
            }
            tally.check(ok, name("weighted_rows_f32 rows cols", {rows, cols}));
            for (const bool exclusive : {false, true}) {
                Guarded<float> y(rows * stride);
                K.running_sums_f32(rows, cols, x.data(), (ptrdiff_t)stride, exclusive, y.data());
                ok = y.intact();
                for (size_t c = 0; c < cols; ++c) {
                    double sum = 0;
                    for (size_t r = 0; r < rows; ++r) {
                        const double before = sum;
                        sum += x[r * stride + c];
                        ok = ok && y[r * stride + c] == (float)(exclusive ? before : sum);
                    }
                }
                tally.check(ok, name("running_sums_f32 rows cols", {rows, cols}));
            }
            // Few values, so that many are equal.
            for (float& v : x) v = rng.below(20) ? (float)rng.below(4) : NAN;
            for (int mode = 0; mode < 4; ++mode) {
                const bool largest = mode & 1, last = mode & 2;
                Guarded<int64_t> at(cols);
                K.arg_rows_f32(largest, last, rows, cols, x.data(), (ptrdiff_t)stride, at.data());
                ok = at.intact();
                for (size_t c = 0; c < cols; ++c) {
                    int64_t best = 0;
                    for (size_t r = 1; r < rows; ++r) {
                        const float u = x[(size_t)best * stride + c], v = x[r * stride + c];
                        const bool nan = u != u, better = nan ? v != v && last
                                                              : v != v || (largest ? v > u : v < u) || (last && v == u);
                        if (better) best = (int64_t)r;
                    }
                    ok = ok && at[c] == best;
                }
                tally.check(ok, name("arg_rows_f32 rows cols mode", {rows, cols, (size_t)mode}));
            }
        }
    for (const size_t es : {1, 2, 4, 8})
        for (const size_t rows : {1, 3, 4, 5, 16, 17, 40})
            for (const size_t cols : {1, 2, 3, 4, 7, 16, 33, 100}) {
                const bool dense = rng.below(2) != 0;
                const size_t ss = dense ? cols : cols + 1, ds = dense ? rows : rows + 2;
                Edged<uint8_t> src(((rows - 1) * ss + cols) * es);
                for (auto& v : src) v = (uint8_t)rng.next();
                Guarded<uint8_t> dst(cols * ds * es);
                K.transpose(es, rows, cols, src.data(), (ptrdiff_t)ss, dst.data(), (ptrdiff_t)ds);
                bool ok = dst.intact();
                for (size_t r = 0; r < rows; ++r)
                    for (size_t c = 0; c < cols; ++c)
                        ok = ok && !std::memcmp(dst.data() + (c * ds + r) * es, src.data() + (r * ss + c) * es, es);
                tally.check(ok, name("transpose size rows cols", {es, rows, cols}));
            }
}

}  // namespace linnet::kernels::test
