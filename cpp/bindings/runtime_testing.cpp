// linnet._core.testing: where a program's arena has its buffers, and which thread does which task, for tests.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "base/pause.h"
#include "runtime/program.h"
#include "runtime/thread_pool.h"

namespace linnet::bindings {

namespace py = pybind11;

namespace {

// Jobs of `tasks` tasks, one after the other, from each of `callers` threads at a time. For each job: how often each
// task was done, and by how many threads in all.
std::vector<std::pair<std::vector<int>, size_t>> split_work(int callers, int threads, int64_t tasks, int jobs) {
    std::vector<std::pair<std::vector<int>, size_t>> found(static_cast<size_t>(callers) * static_cast<size_t>(jobs));
    std::vector<std::thread> all;
    for (int caller = 0; caller < callers; ++caller)
        all.emplace_back([&, caller] {
            ThreadPool::Scope scope(ThreadPool::shared(), threads);
            for (int job = 0; job < jobs; ++job) {
                std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
                std::vector<std::thread::id> by(static_cast<size_t>(tasks));
                parallel_for(scope.parallel(), tasks, [&](int64_t index) {
                    ++done[static_cast<size_t>(index)];
                    by[static_cast<size_t>(index)] = std::this_thread::get_id();
                    for (int64_t i = 0; i < index % 7 * 20; ++i) pause_briefly();
                });
                auto& [counts, workers] = found[static_cast<size_t>(caller * jobs + job)];
                counts.assign(done.begin(), done.end());
                std::sort(by.begin(), by.end());
                workers = static_cast<size_t>(std::unique(by.begin(), by.end()) - by.begin());
            }
        });
    for (std::thread& thread : all) thread.join();
    return found;
}

}  // namespace

void bind_runtime_testing(py::module_& m) {
    py::module_ testing = m.attr("testing");
    testing.def(
        "split_work", &split_work, py::arg("callers"), py::arg("threads"), py::arg("tasks"), py::arg("jobs"),
        py::call_guard<py::gil_scoped_release>(),
        "For each of so many jobs of each caller: how often each task was done, and by how many threads in all.");
    testing.def(
        "place_lifetimes",
        [](const std::vector<std::tuple<int32_t, int32_t, int64_t>>& given) {
            std::vector<Lifetime> lifetimes;
            for (const auto& [first, last, bytes] : given) lifetimes.push_back({first, last, bytes});
            const Placement placement = place_lifetimes(lifetimes);
            return py::make_tuple(placement.offsets, placement.bytes, placement.visits);
        },
        py::arg("lifetimes"),
        "(offsets, bytes in all, ranges that were looked at) of buffers (first step, last step, bytes).");
}

}  // namespace linnet::bindings
