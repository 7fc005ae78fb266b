// The sketches: sorted into bins as requests pass, compared when somebody looks.
#include "serve/drift.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"

namespace linnet::serve {
namespace {

// A bin that one side has never seen counts as this share: PSI stays finite.
constexpr double kLeastShare = 1e-4;

bool has_numbers(DType dtype) {
    return is_float(dtype) || is_int(dtype) || dtype == DType::boolean || dtype >= DType::f8e4m3fn;
}

}  // namespace

Drift::Sketch::Sketch(ReferenceSketch r)
    : reference(std::move(r)), now(reference.bins.size() + 1), before(reference.bins.size() + 1) {
    const double sum = std::accumulate(reference.bins.begin(), reference.bins.end(), 0.0);
    if (reference.bins.size() != reference.edges.size() + 1 || !(sum > 0) ||
        !std::is_sorted(reference.edges.begin(), reference.edges.end()))
        fail(ErrorKind::invalid_argument, "the reference of '", reference.name,
             "' needs ascending edges and one more bin than edges, not all empty");
    for (double& bin : reference.bins) bin /= sum;
}

Drift::Drift(std::vector<ReferenceSketch> reference, uint64_t window) : window_(std::max<uint64_t>(1, window)) {
    sketches_.reserve(reference.size());
    for (ReferenceSketch& r : reference) sketches_.emplace_back(std::move(r));
}

void Drift::observe(const std::string& name, bool output, const Tensor& tensor) {
    if (!has_numbers(tensor.dtype)) return;
    for (Sketch& sketch : sketches_) {
        if (sketch.reference.output != output || sketch.reference.name != name) continue;
        const auto& edges = sketch.reference.edges;
        const int64_t count = tensor.count();
        const int64_t step = std::max<int64_t>(1, count / kMostElements);
        // Another place in every request, so that all elements of a large tensor are looked at.
        const int64_t first =
            static_cast<int64_t>(requests_.load(std::memory_order_relaxed) % static_cast<uint64_t>(step));
        for (int64_t i = first; i < count; i += step) {
            const double x = double_at(tensor, i);
            const size_t bin =
                std::isnan(x) ? sketch.reference.bins.size()
                              : static_cast<size_t>(std::upper_bound(edges.begin(), edges.end(), x) - edges.begin());
            sketch.now[bin].fetch_add(1, std::memory_order_relaxed);
        }
        return;
    }
}

void Drift::end_request() {
    if ((requests_.fetch_add(1, std::memory_order_relaxed) + 1) % window_ != 0) return;
    for (Sketch& sketch : sketches_)
        for (size_t b = 0; b < sketch.now.size(); ++b) sketch.before[b].store(sketch.now[b].exchange(0));
}

std::vector<DriftRow> Drift::rows() const {
    std::vector<DriftRow> rows;
    for (const Sketch& sketch : sketches_) {
        const ReferenceSketch& reference = sketch.reference;
        const size_t bins = reference.bins.size();
        std::vector<double> counts(bins + 1);
        for (size_t b = 0; b <= bins; ++b)
            counts[b] = static_cast<double>(sketch.now[b].load() + sketch.before[b].load());
        const double numbers = std::accumulate(counts.begin(), counts.end() - 1, 0.0), all = numbers + counts[bins];
        DriftRow row;
        row.name = reference.name;
        row.output = reference.output;
        row.elements = all;
        row.nans = all > 0 ? counts[bins] / all : 0;
        row.edges = reference.edges;
        row.reference = reference.bins;
        row.shares.assign(bins, 0.0);
        double below = 0, reference_below = 0;
        for (size_t b = 0; numbers > 0 && b < bins; ++b) {
            row.shares[b] = counts[b] / numbers;
            const double p = std::max(kLeastShare, row.shares[b]), q = std::max(kLeastShare, reference.bins[b]);
            row.psi += (p - q) * std::log(p / q);
            below += row.shares[b];
            reference_below += reference.bins[b];
            row.ks = std::max(row.ks, std::abs(below - reference_below));
        }
        rows.push_back(std::move(row));
    }
    return rows;
}

}  // namespace linnet::serve
