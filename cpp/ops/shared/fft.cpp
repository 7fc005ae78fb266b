// Fourier transforms: see fft.h. Bluestein, "A linear filtering approach to the computation of discrete Fourier
// transform", 1970.
#include "ops/shared/fft.h"

#include <cmath>
#include <utility>

namespace linnet {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr int64_t kShort = 32;

// exp(sign 2 pi i k / n) with k reduced first, so that long tables stay exact.
std::complex<double> root(int64_t k, int64_t n, double sign) {
    const double angle = 2 * kPi * static_cast<double>(k % n) / static_cast<double>(n);
    return {std::cos(angle), sign * std::sin(angle)};
}

}  // namespace

Fft::Fft(int64_t length, bool inverse) : n_(length) {
    const double sign = inverse ? 1 : -1;
    if (n_ <= 1) return;
    power_ = (n_ & (n_ - 1)) == 0;
    if (power_ || n_ <= kShort) {
        for (int64_t k = 0; k < n_; ++k) roots_.push_back(root(k, n_, sign));
        return;
    }
    padded_ = 1;
    while (padded_ < 2 * n_ - 1) padded_ *= 2;
    for (int64_t k = 0; k < padded_; ++k) padded_roots_.push_back(root(k, padded_, -1));
    // k^2 modulo 2 N keeps the angle small: (k + 1)^2 = k^2 + 2 k + 1.
    int64_t square = 0;
    for (int64_t k = 0; k < n_; ++k) {
        chirp_.push_back(root(square, 2 * n_, sign));
        square = (square + 2 * k + 1) % (2 * n_);
    }
    filter_.assign(static_cast<size_t>(padded_), {});
    for (int64_t k = 0; k < n_; ++k) {
        const Complex value = std::conj(chirp_[static_cast<size_t>(k)]);
        filter_[static_cast<size_t>(k)] = value;
        if (k) filter_[static_cast<size_t>(padded_ - k)] = value;
    }
    radix2(filter_.data(), padded_, padded_roots_, false);
    for (Complex& value : filter_) value /= static_cast<double>(padded_);
}

void Fft::radix2(Complex* x, int64_t n, const std::vector<Complex>& roots, bool conjugate) {
    for (int64_t i = 1, j = 0; i < n; ++i) {  // bit reversal
        int64_t bit = n >> 1;
        for (; j & bit; bit >>= 1) j ^= bit;
        j ^= bit;
        if (i < j) std::swap(x[i], x[j]);
    }
    for (int64_t half = 1; half < n; half *= 2) {
        const int64_t step = n / (2 * half);
        for (int64_t base = 0; base < n; base += 2 * half)
            for (int64_t k = 0; k < half; ++k) {
                const Complex r = roots[static_cast<size_t>(k * step)];
                const double re = r.real(), im = conjugate ? -r.imag() : r.imag();
                const Complex a = x[base + k], b = x[base + k + half];
                const Complex t{b.real() * re - b.imag() * im, b.real() * im + b.imag() * re};
                x[base + k] = a + t;
                x[base + k + half] = a - t;
            }
    }
}

void Fft::run(Complex* x, std::vector<Complex>& room) const {
    if (n_ <= 1) return;
    if (power_) return radix2(x, n_, roots_, false);
    const auto times = [](Complex a, Complex b) {  // without the checks for infinities of operator*
        return Complex{a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
    };
    if (!padded_) {
        room.assign(x, x + n_);
        for (int64_t k = 0; k < n_; ++k) {
            Complex sum{};
            for (int64_t i = 0; i < n_; ++i)
                sum += times(room[static_cast<size_t>(i)], roots_[static_cast<size_t>(k * i % n_)]);
            x[k] = sum;
        }
        return;
    }
    room.assign(static_cast<size_t>(padded_), {});
    for (int64_t i = 0; i < n_; ++i) room[static_cast<size_t>(i)] = times(x[i], chirp_[static_cast<size_t>(i)]);
    radix2(room.data(), padded_, padded_roots_, false);
    for (size_t i = 0; i < room.size(); ++i) room[i] = times(room[i], filter_[i]);
    radix2(room.data(), padded_, padded_roots_, true);
    for (int64_t i = 0; i < n_; ++i) x[i] = times(room[static_cast<size_t>(i)], chirp_[static_cast<size_t>(i)]);
}

}  // namespace linnet
