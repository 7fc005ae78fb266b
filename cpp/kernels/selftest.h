// Shared by the parts of linnet-kernel-test: counting, random data, buffers with guards.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "kernels/kernels.h"
#include "kernels/taps.h"

namespace linnet::kernels::test {

struct Tally {
    size_t checks = 0, failures = 0;
    void check(bool ok, const std::string& what) {
        ++checks;
        if (ok) return;
        if (++failures <= 20) std::printf("  FAILED %s\n", what.c_str());
    }
};

struct Random {
    uint64_t state = 0x9e3779b97f4a7c15u;
    uint32_t next() {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return (uint32_t)(state >> 33);
    }
    float uniform(float lo, float hi) { return lo + (hi - lo) * (float)(next() & 0xffffff) / 16777216.0f; }
    size_t below(size_t n) { return next() % n; }
};

// Places an array so that it ends where an unreadable page begins: a kernel that reads past its input is stopped there.
template <class T>
struct EdgeAllocator {
    using value_type = T;
    static size_t whole_pages(size_t n) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        return (n * sizeof(T) + page - 1) / page * page;
    }
    T* allocate(size_t n) {
        const size_t bytes = whole_pages(n), page = (size_t)sysconf(_SC_PAGESIZE);
        char* p = (char*)mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED || mprotect(p + bytes, page, PROT_NONE)) std::abort();
        return (T*)(p + bytes - n * sizeof(T));
    }
    void deallocate(T* p, size_t n) {
        const size_t bytes = whole_pages(n), page = (size_t)sysconf(_SC_PAGESIZE);
        munmap((char*)p + n * sizeof(T) - bytes, bytes + page);
    }
    bool operator==(const EdgeAllocator&) const { return true; }
};
template <class T>
using Edged = std::vector<T, EdgeAllocator<T>>;

// Values with marks on both sides that intact() checks: what a kernel writes outside shows.
template <class T>
struct Guarded {
    static constexpr size_t guard = 32;
    std::vector<T> all;
    T mark;
    explicit Guarded(size_t n, T m = (T)77) : all(n + 2 * guard, m), mark(m) {}
    T* data() { return all.data() + guard; }
    T& operator[](size_t i) { return all[guard + i]; }
    size_t size() const { return all.size() - 2 * guard; }
    bool intact() const {
        for (size_t i = 0; i < guard; ++i)
            if (std::memcmp(&all[i], &mark, sizeof(T)) || std::memcmp(&all[all.size() - 1 - i], &mark, sizeof(T)))
                return false;
        return true;
    }
};

inline Edged<float> random_floats(Random& r, size_t n, float lo = -1, float hi = 1) {
    Edged<float> v(n);
    for (float& x : v) x = r.uniform(lo, hi);
    return v;
}

inline bool near(double got, double want, double tolerance) {
    if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got);
    if (std::isinf(want) || std::isinf(got)) return got == want;
    return std::fabs(got - want) <= tolerance;
}

inline std::string name(const char* what, std::initializer_list<size_t> sizes) {
    std::string s = what;
    for (const size_t n : sizes) s += " " + std::to_string(n);
    return s;
}

// The meaning of an epilogue, in double.
double reference_unary(Unary fn, double x, double a, double b);
double reference_epilogue(const Epilogue&, double x, size_t row, size_t col);
// Names of the epilogues tried everywhere; fills steps, which point into the given data.
constexpr size_t epilogue_variants = 7;
std::vector<EpilogueStep> epilogue_variant(size_t variant, const float* per_column, const float* tensor,
                                           ptrdiff_t stride);

// The form of a row-major k x n matrix that sparse_f32 takes, made in the plainest way.
struct SparseMatrix {
    SparseB::Form form;
    std::vector<uint32_t> start{0}, index;
    std::vector<float> values;
    std::vector<uint8_t> order;
    std::vector<uint16_t> bits;
    SparseMatrix(const Kernels& K, const float* b, size_t k, size_t n, SparseB::Form form);
    SparseB view() const { return {form, start.data(), index.data(), values.data(), order.data(), bits.data()}; }
};

int32_t as_byte(uint8_t x, bool is_signed);
// clamp(round_half_even(x) + zero, lo, hi), as u8 or s8.
uint8_t rounded_byte(float x, int32_t zero, int32_t lo, int32_t hi);
// The definition of ToBytes, for the sum of output (row, col).
uint8_t reference_bytes(const ToBytes&, int32_t sum, size_t row, size_t col);

void test_gemm(const Kernels&, Tally&);
void test_sparse(const Kernels&, Tally&);
void test_bytes(const Kernels&, Tally&);
void test_gemm_s8(const Kernels&, Tally&);
void test_bits(const Kernels&, Tally&);
void test_conv(const Kernels&, Tally&);
void test_elementwise(const Kernels&, Tally&);
void test_rows(const Kernels&, Tally&);
void test_recurrent(const Kernels&, Tally&);
void test_causal(const Kernels&, Tally&);
void test_convert(const Kernels&, Tally&);
void bench(const Kernels&, bool json);
void bench_sparse(const Kernels&, bool json);

}  // namespace linnet::kernels::test
