// How far what a model is fed, and what it answers, has moved from a reference: histograms of elements, with bins that
// the reference sets.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "base/tensor.h"

namespace linnet::serve {

// What the reference says of one tensor: `edges` ascending; bins.size() == edges.size() + 1, the first and the last bin
// being open. A bin holds what is >= its lower edge.
struct ReferenceSketch {
    std::string name;
    bool output = false;
    std::vector<double> edges;
    std::vector<double> bins;  // counts or shares; their sum is taken as 1
};

struct DriftRow {
    std::string name;
    bool output = false;
    double elements = 0;  // looked at, in the window
    double psi = 0;       // population stability index: sum of (p - q) ln(p / q) over the bins
    double ks = 0;        // Kolmogorov-Smirnov: the largest difference of the two distributions at an edge
    double nans = 0;      // share of elements that are no numbers
    std::vector<double> edges, shares, reference;  // shares of the bins
};

// Thread-safe. The window is the last `window` to 2 * `window` requests.
class Drift {
  public:
    Drift(std::vector<ReferenceSketch> reference, uint64_t window);

    // An element of at most kMostElements of the tensor, evenly spread, is counted. Names that the reference does not
    // have are passed over.
    static constexpr int64_t kMostElements = 256;
    void observe(const std::string& name, bool output, const Tensor& tensor);
    // After all tensors of one request.
    void end_request();
    std::vector<DriftRow> rows() const;

  private:
    struct Sketch {
        ReferenceSketch reference;
        std::vector<std::atomic<uint64_t>> now, before;  // by bin; the last one counts NaNs
        explicit Sketch(ReferenceSketch r);
        Sketch(const Sketch&) = delete;
        Sketch(Sketch&&) = default;
    };
    std::vector<Sketch> sketches_;
    const uint64_t window_;
    std::atomic<uint64_t> requests_{0};
};

}  // namespace linnet::serve
