// Conversion kernels: casts, 16-bit floats, bytes.
#include <algorithm>
#include <limits>

#include "kernels/selftest.h"

namespace linnet::kernels::test {
namespace {

const size_t sizes[] = {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 31, 32, 33, 40, 63, 64, 65, 100, 257};

template <class X, class Y, class F>
void convert_case(const Kernels& K, Tally& tally, Convert pair, const std::vector<X>& values, F want) {
    for (const size_t n : sizes) {
        Edged<X> x(n);
        Edged<Y> y(n);
        for (size_t i = 0; i < n; ++i) x[i] = values[(i * 7 + n) % values.size()];
        K.convert(pair, n, x.data(), y.data());
        bool good = true;
        for (size_t i = 0; i < n; ++i) good &= y[i] == (Y)want(x[i]);
        tally.check(good, name("convert pair n", {(size_t)pair, n}));
    }
}
void convert_cases(const Kernels& K, Tally& tally) {
    const std::vector<float> floats = {0.0f,       -0.0f,      1.5f,    -1.5f,    255.9f,   -3.99f,    300.0f,
                                       8388609.0f, 2147483520, 0x1p31f, -0x1p31f, 0x1p40f,  0x1p62f,   0x1p63f,
                                       -0x1p63f,   -0x1p64f,   1e30f,   NAN,      INFINITY, -INFINITY, 1e-45f};
    const auto in = [](float x, float end) { return x >= -end && x < end; };
    convert_case<float, int64_t>(K, tally, Convert::f32_i64, floats,
                                 [&](float x) { return in(x, 0x1p63f) ? (int64_t)x : INT64_MIN; });
    const auto to_i32 = [&](float x) { return in(x, 0x1p31f) ? (int32_t)x : INT32_MIN; };
    convert_case<float, int32_t>(K, tally, Convert::f32_i32, floats, to_i32);
    convert_case<float, uint8_t>(K, tally, Convert::f32_u8, floats, to_i32);
    convert_case<float, uint8_t>(K, tally, Convert::f32_bool, floats, [](float x) { return x != 0; });
    std::vector<float> numbers = floats;
    std::erase_if(numbers, [](float x) { return std::isnan(x); });
    convert_case<float, double>(K, tally, Convert::f32_f64, numbers, [](float x) { return x; });
    const std::vector<double> doubles = {0, -1.1, 1e-50, 3e38, 1e300, 0.1, 16777217};
    convert_case<double, float>(K, tally, Convert::f64_f32, doubles, [](double x) { return (float)x; });
    const std::vector<int64_t> longs = {0, -1, 16777217, INT64_MAX, INT64_MIN, (int64_t)1 << 40, 77};
    convert_case<int64_t, float>(K, tally, Convert::i64_f32, longs, [](int64_t x) { return (float)x; });
    const std::vector<uint8_t> bytes = {0, 1, 2, 0, 255, 128, 0};
    convert_case<uint8_t, float>(K, tally, Convert::bool_f32, bytes, [](uint8_t x) { return x != 0; });
}

}  // namespace

void test_convert(const Kernels& K, Tally& tally) {
    convert_cases(K, tally);
    Random rng;
    // Every half: to float and back must be the identity (NaN stays NaN).
    Edged<uint16_t> half(65536), back(65536);
    Edged<float> f(65536);
    for (size_t i = 0; i < 65536; ++i) half[i] = (uint16_t)i;
    K.f16_to_f32(65535, half.data(), f.data());
    K.f32_to_f16(65535, f.data(), back.data());
    bool ok = true;
    for (size_t i = 0; i < 65535; ++i) {
        const int e = (int)(i >> 10 & 31), mant = (int)(i & 1023);
        const double mag = e == 31 ? (mant ? NAN : INFINITY)
                           : e     ? std::ldexp(1024 + mant, e - 25)
                                   : std::ldexp(mant, -24);
        ok = ok && near(f[i], i >> 15 ? -mag : mag, 0) &&
             (mag != mag ? std::isnan(f[i]) && (back[i] & 0x7fff) > 0x7c00 : back[i] == i);
    }
    tally.check(ok, "f16 round trip");
    // Rounding: halfway between neighbours goes to the even one.
    ok = true;
    for (size_t i = 0; i + 1 < 0x7c00; ++i) {
        const float mid[3] = {(f[i] + f[i + 1]) / 2, std::nextafter((f[i] + f[i + 1]) / 2, 0.0f),
                              -(f[i] + f[i + 1]) / 2};
        uint16_t got[3];
        K.f32_to_f16(3, mid, got);
        const uint16_t even = (uint16_t)(i & 1 ? i + 1 : i);
        ok = ok && (i == 0x7bff - 0 || (got[0] == even && got[1] == i && got[2] == (even | 0x8000)));
    }
    tally.check(ok, "f16 rounding");
    const float values[] = {1.0f, 1.00390625f, 1.01171875f, NAN, INFINITY, -2.5f, 3.4e38f};
    uint16_t b16[7];
    K.f32_to_bf16(7, values, b16);
    tally.check(b16[0] == 0x3f80 && b16[1] == 0x3f80 && b16[2] == 0x3f82 && (b16[3] & 0x7fff) > 0x7f80 &&
                    b16[4] == 0x7f80 && b16[5] == 0xc020 && b16[6] == 0x7f80,
                "bf16 rounding");
    float wide[7];
    K.bf16_to_f32(7, b16, wide);
    tally.check(wide[0] == 1 && wide[5] == -2.5f && std::isnan(wide[3]), "bf16 to f32");
    for (const size_t n : sizes)
        for (int step = 0; step < 2; ++step) {
            auto x = random_floats(rng, n, -40, 40);
            for (float& v : x)
                if (rng.below(3) == 0) v = (float)(int)v * 0.25f + 0.125f;
            if (n > 4) x[1] = 1e30f, x[2] = -INFINITY, x[3] = NAN;
            Edged<float> scale(step ? n : 1);
            Edged<uint8_t> zu(scale.size());
            Edged<int8_t> zs(scale.size());
            for (size_t i = 0; i < scale.size(); ++i)
                scale[i] = step ? rng.uniform(0.1f, 0.5f) : 0.25f, zu[i] = (uint8_t)rng.next(),
                zs[i] = (int8_t)rng.next();
            Guarded<uint8_t> u(n);
            Guarded<int8_t> s(n);
            Guarded<float> du(n), ds(n);
            K.quantize_u8(n, x.data(), scale.data(), (size_t)step, zu.data(), (size_t)step, u.data());
            K.quantize_s8(n, x.data(), scale.data(), (size_t)step, zs.data(), (size_t)step, s.data());
            K.dequantize_u8(n, u.data(), scale.data(), (size_t)step, zu.data(), (size_t)step, du.data());
            K.dequantize_s8(n, s.data(), scale.data(), (size_t)step, zs.data(), (size_t)step, ds.data());
            bool good = u.intact() && s.intact() && du.intact() && ds.intact();
            for (size_t i = 0; i < n; ++i) {
                const size_t k = step ? i : 0;
                double q = std::nearbyint(x[i] / scale[k]);
                if (q != q) q = 0;
                good = good && u[i] == std::min(255.0, std::max(0.0, q + zu[k])) &&
                       s[i] == std::min(127.0, std::max(-128.0, q + zs[k]));
                good = good && du[i] == (float)(u[i] - zu[k]) * scale[k] && ds[i] == (float)(s[i] - zs[k]) * scale[k];
            }
            tally.check(good, name("quantize, dequantize n step", {n, (size_t)step}));
            Edged<int32_t> acc(n);
            for (auto& v : acc) v = (int32_t)rng.next() % 4000 - 2000;
            K.requantize_u8(n, acc.data(), scale.data(), (size_t)step, 100, u.data());
            K.requantize_s8(n, acc.data(), scale.data(), (size_t)step, -5, s.data());
            good = true;
            for (size_t i = 0; i < n; ++i) {
                const float q = std::nearbyint((float)acc[i] * scale[step ? i : 0]);
                good = good && u[i] == std::min(255.0f, std::max(0.0f, q + 100)) &&
                       s[i] == std::min(127.0f, std::max(-128.0f, q - 5));
            }
            tally.check(good && u.intact() && s.intact(), name("requantize n step", {n, (size_t)step}));
        }
    // Quotients a few units in the last place from the middle between two steps, by one scale for all.
    for (size_t turn = 0; turn < 400; ++turn) {
        constexpr size_t n = 301;
        const float scale = turn == 0   ? 0x1p-70f
                            : turn == 1 ? std::nextafter(1.0f, 0.0f)
                                        : std::ldexp(rng.uniform(1, 2), (int)rng.below(100) - 50);
        Edged<float> x(n);
        for (float& v : x) {
            v = ((float)rng.below(400) - 200 + 0.5f) * scale;
            for (size_t steps = rng.below(4); steps > 0; --steps)
                v = std::nextafter(v, turn % 2 ? INFINITY : -INFINITY);
        }
        x[0] = NAN, x[1] = INFINITY, x[2] = -3e38f;
        const auto zu = (uint8_t)rng.next();
        const auto zs = (int8_t)rng.next();
        Guarded<uint8_t> u(n);
        Guarded<int8_t> s(n);
        K.quantize_u8(n, x.data(), &scale, 0, &zu, 0, u.data());
        K.quantize_s8(n, x.data(), &scale, 0, &zs, 0, s.data());
        bool good = u.intact() && s.intact();
        for (size_t i = 0; i < n; ++i) {
            const float quotient = x[i] / scale, q = quotient != quotient ? 0 : std::nearbyint(quotient);
            good = good && u[i] == std::min(255.0f, std::max(0.0f, q + zu)) &&
                   s[i] == std::min(127.0f, std::max(-128.0f, q + zs));
        }
        tally.check(good, name("quantize near the middle, turn", {turn}));
    }
}

}  // namespace linnet::kernels::test
