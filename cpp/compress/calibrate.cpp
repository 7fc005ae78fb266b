// Runs that are watched: the elements of inner values are counted, or compared with those of another model.
#include "compress/calibrate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace linnet::compress {
namespace {

const Tensor& floats(const std::string& name, const Value& value) {
    if (value.kind != Value::Kind::tensor || value.tensor.dtype != DType::f32)
        fail(ErrorKind::invalid_argument, "value '", name, "' is no float32 tensor");
    return value.tensor;
}

// The least and the greatest element; throws for what is not finite.
Range seen(const std::string& name, const Tensor& tensor) {
    const float* x = tensor.as<float>();
    float low = std::numeric_limits<float>::infinity(), high = -low;
    int64_t strange = 0;
    for (int64_t i = 0, n = tensor.count(); i < n; ++i) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        strange += !std::isfinite(x[i]);
    }
    if (strange)
        fail(ErrorKind::invalid_argument, "value '", name, "': ", strange, " of ", tensor.count(),
             " elements are NaN or infinite");
    return {low, high};
}

void add_channels(const std::string& name, const Tensor& tensor, int64_t axis, Statistics& s) {
    const int64_t rank = tensor.rank();
    if (axis < 0) axis += rank;
    if (axis < 0 || axis >= rank)
        fail(ErrorKind::invalid_argument, "value '", name, "' of rank ", rank, " has no axis ", axis);
    const int64_t channels = tensor.shape[static_cast<size_t>(axis)];
    if (s.channel_sum.empty()) {
        const auto size = static_cast<size_t>(channels);
        s.channel_min.assign(size, std::numeric_limits<float>::infinity());
        s.channel_max.assign(size, -std::numeric_limits<float>::infinity());
        s.channel_sum.assign(size, 0);
    }
    if (static_cast<int64_t>(s.channel_sum.size()) != channels)
        fail(ErrorKind::invalid_argument, "value '", name, "' has ", channels, " channels, and had ",
             s.channel_sum.size(), " in a sample before");
    int64_t outer = 1, inner = 1;
    for (int64_t i = 0; i < rank; ++i)
        (i < axis ? outer : inner) *= i == axis ? 1 : tensor.shape[static_cast<size_t>(i)];
    const float* x = tensor.as<float>();
    for (int64_t o = 0; o < outer; ++o)
        for (int64_t c = 0; c < channels; ++c) {
            const auto i = static_cast<size_t>(c);
            float low = s.channel_min[i], high = s.channel_max[i];
            double sum = 0;
            for (int64_t k = 0; k < inner; ++k, ++x) {
                low = std::min(low, *x);
                high = std::max(high, *x);
                sum += *x;
            }
            s.channel_min[i] = low;
            s.channel_max[i] = high;
            s.channel_sum[i] += sum;
        }
}

}  // namespace

Calibrator::Calibrator(Session& session, std::vector<std::string> values, std::map<std::string, int64_t> axes)
    : session_(session), values_(std::move(values)), axes_(std::move(axes)) {
    for (const std::string& name : values_) statistics_[name];
}

void Calibrator::add(const Feeds& feeds) {
    if (values_.empty()) return;
    const std::vector<Value> results = session_.run(feeds, values_);
    std::vector<Range> ranges;
    for (size_t i = 0; i < values_.size(); ++i) ranges.push_back(seen(values_[i], floats(values_[i], results[i])));
    for (size_t i = 0; i < values_.size(); ++i) {
        const Tensor& tensor = results[i].tensor;
        const int64_t count = tensor.count();
        if (count == 0) continue;
        Statistics& s = statistics_[values_[i]];
        const auto low = static_cast<float>(ranges[i].low), high = static_cast<float>(ranges[i].high);
        s.min = s.count ? std::min(s.min, low) : low;
        s.max = s.count ? std::max(s.max, high) : high;
        s.count += count;
        s.histogram.cover(low, high);
        s.histogram.add(tensor.as<float>(), count);
        if (const auto axis = axes_.find(values_[i]); axis != axes_.end())
            add_channels(values_[i], tensor, axis->second, s);
    }
    ++samples_;
}

NoiseMeter::NoiseMeter(Session& reference, Session& other, std::vector<std::string> values)
    : reference_(reference), other_(other), values_(std::move(values)) {
    for (const std::string& name : values_) noise_[name];
}

void NoiseMeter::add(const Feeds& feeds) {
    if (values_.empty()) return;
    const std::vector<Value> expected = reference_.run(feeds, values_), given = other_.run(feeds, values_);
    for (size_t i = 0; i < values_.size(); ++i) {
        const Tensor &x = floats(values_[i], expected[i]), &y = floats(values_[i], given[i]);
        if (x.shape != y.shape) fail(ErrorKind::invalid_argument, "value '", values_[i], "' has another shape");
        Noise& sums = noise_[values_[i]];
        const float *a = x.as<float>(), *b = y.as<float>();
        for (int64_t k = 0, n = x.count(); k < n; ++k) {
            const double difference = static_cast<double>(b[k]) - a[k];
            sums.signal += static_cast<double>(a[k]) * a[k];
            sums.noise += difference * difference;
        }
    }
}

}  // namespace linnet::compress
