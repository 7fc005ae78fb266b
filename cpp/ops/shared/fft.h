// Discrete Fourier transforms of any length, in double.
#pragma once
#include <complex>
#include <cstdint>
#include <vector>

namespace linnet {

// The transform of one length and direction: X[k] = sum of x[n] exp(-+ 2 pi i k n / N), not scaled. O(N log N): powers
// of two by radix 2, short lengths by the sum itself, others as a convolution (Bluestein). Can be shared by threads.
class Fft {
  public:
    Fft(int64_t length, bool inverse);
    int64_t length() const noexcept { return n_; }
    // In place; `room` is resized as needed and can be used again.
    void run(std::complex<double>* x, std::vector<std::complex<double>>& room) const;

  private:
    using Complex = std::complex<double>;
    static void radix2(Complex* x, int64_t n, const std::vector<Complex>& roots, bool conjugate);
    int64_t n_ = 0, padded_ = 0;  // padded_: of the convolution, 0 when there is none
    bool power_ = false;
    std::vector<Complex> roots_;   // exp(-+ 2 pi i k / N)
    std::vector<Complex> chirp_;   // exp(-+ pi i k^2 / N)
    std::vector<Complex> filter_;  // transform of the conjugate chirp
    std::vector<Complex> padded_roots_;
};

}  // namespace linnet
