// Calibration and its ranges.
#include "compress/calibrate.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "bindings/convert.h"

namespace linnet::bindings {
namespace {

using namespace linnet::compress;

template <class T>
py::array_t<T> array(const T* data, size_t count) {
    return py::array_t<T>(static_cast<py::ssize_t>(count), data);
}

py::dict to_dict(const Statistics& s) {
    py::dict d;
    d["count"] = s.count;
    d["min"] = s.min;
    d["max"] = s.max;
    d["zeros"] = s.histogram.zeros;
    d["low"] = s.histogram.low;
    d["high"] = s.histogram.high;
    d["histogram"] = array(s.histogram.counts.data(), s.histogram.counts.size());
    d["channel_min"] = array(s.channel_min.data(), s.channel_min.size());
    d["channel_max"] = array(s.channel_max.data(), s.channel_max.size());
    d["channel_sum"] = array(s.channel_sum.data(), s.channel_sum.size());
    return d;
}

// Runs on the feeds without the interpreter's lock.
template <class T>
void add(T& to, const py::dict& feeds, const Session& session) {
    std::vector<py::object> kept;
    Feeds values = to_feeds(feeds, session, kept);
    py::gil_scoped_release release;
    to.add(values);
    values.clear();
}

struct BoundCalibrator {
    Session& session;
    Calibrator calibrator;
};

struct BoundNoiseMeter {
    Session& reference;
    NoiseMeter meter;
};

}  // namespace

void bind_compress(py::module_& m) {
    using Axes = std::map<std::string, int64_t>;
    py::class_<BoundCalibrator>(m, "Calibrator")
        .def(py::init([](Session& session, std::vector<std::string> values, Axes axes) {
                 return BoundCalibrator{session, Calibrator(session, std::move(values), std::move(axes))};
             }),
             py::arg("session"), py::arg("values"), py::arg("axes") = Axes(), py::keep_alive<1, 2>())
        .def("add", [](BoundCalibrator& c, const py::dict& feeds) { add(c.calibrator, feeds, c.session); })
        .def_property_readonly("samples", [](const BoundCalibrator& c) { return c.calibrator.samples(); })
        .def("statistics",
             [](const BoundCalibrator& c) {
                 py::dict d;
                 for (const auto& [name, s] : c.calibrator.statistics()) d[readable(name)] = to_dict(s);
                 return d;
             })
        .def(
            "range",
            [](const BoundCalibrator& c, const std::string& value, const std::string& method, int levels,
               bool symmetric, double percentile) {
                const auto& all = c.calibrator.statistics();
                const auto found = all.find(value);
                if (found == all.end())
                    fail(ErrorKind::invalid_argument, "value '", value, "' is not among those that are observed");
                const Statistics& s = found->second;
                const Range range = choose_range(s.histogram, {s.min, s.max}, method, {levels, symmetric, percentile});
                return std::pair(range.low, range.high);
            },
            py::arg("value"), py::arg("method"), py::arg("levels") = 256, py::arg("symmetric") = false,
            py::arg("percentile") = RangeOptions().percentile);
    py::class_<BoundNoiseMeter>(m, "NoiseMeter")
        .def(py::init([](Session& reference, Session& other, std::vector<std::string> values) {
                 return BoundNoiseMeter{reference, NoiseMeter(reference, other, std::move(values))};
             }),
             py::arg("reference"), py::arg("other"), py::arg("values"), py::keep_alive<1, 2>(), py::keep_alive<1, 3>())
        .def("add", [](BoundNoiseMeter& n, const py::dict& feeds) { add(n.meter, feeds, n.reference); })
        .def("noise", [](const BoundNoiseMeter& n) {
            py::dict d;
            for (const auto& [name, sums] : n.meter.noise())
                d[readable(name)] = py::make_tuple(sums.signal, sums.noise);
            return d;
        });
}

}  // namespace linnet::bindings
