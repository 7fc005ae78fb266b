// Statistics of a model's inner values while it runs on samples, and the noise of one model against another.
#pragma once
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "compress/range.h"
#include "runtime/session.h"

namespace linnet::compress {

using Feeds = std::vector<std::pair<std::string, Value>>;

// What was seen of one float32 value.
struct Statistics {
    int64_t count = 0;  // elements
    float min = 0, max = 0;
    Histogram histogram;
    // By index along the axis asked for; empty where none was.
    std::vector<float> channel_min, channel_max;
    std::vector<double> channel_sum;
};

// Adds up statistics of `values` (names of float32 tensors). The session must have them among its outputs. The memory
// needed is that of one sample.
class Calibrator {
  public:
    // `axes`: for some values, the axis along which to have statistics by index (negative: from the end).
    Calibrator(Session& session, std::vector<std::string> values, std::map<std::string, int64_t> axes = {});
    // Runs the model once. Throws invalid_argument, and adds nothing, when a value holds NaN or infinity or is no
    // float32 tensor.
    void add(const Feeds& feeds);
    int64_t samples() const { return samples_; }
    const std::map<std::string, Statistics>& statistics() const { return statistics_; }

  private:
    Session& session_;
    std::vector<std::string> values_;
    std::map<std::string, int64_t> axes_;
    std::map<std::string, Statistics> statistics_;
    int64_t samples_ = 0;
};

// Sums of squares over all elements and samples.
struct Noise {
    double signal = 0;  // of the reference
    double noise = 0;   // of the difference
};

// Adds up the noise of `values` of the `other` session against the same of `reference`, both run on the same samples.
class NoiseMeter {
  public:
    NoiseMeter(Session& reference, Session& other, std::vector<std::string> values);
    void add(const Feeds& feeds);
    const std::map<std::string, Noise>& noise() const { return noise_; }

  private:
    Session &reference_, &other_;
    std::vector<std::string> values_;
    std::map<std::string, Noise> noise_;
};

}  // namespace linnet::compress
