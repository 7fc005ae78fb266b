// Work split over threads, as operators ask for it.
#include <atomic>
#include <exception>

#include "base/give_way.h"
#include "base/memory.h"
#include "graph/op.h"

namespace linnet {
namespace {

struct Job {
    void (*task)(const void* context, int64_t index);
    const void* context;
    const StopSignal* stop;
    MemoryAccount* memory;  // of the thread that splits the work
    std::atomic<bool> failed{false};
    std::exception_ptr error{};

    void run(int64_t index) {
        if (failed.load(std::memory_order_relaxed)) return;
        try {
            const MemoryAccount::Scope counted(memory);
            if (stop) stop->check();
            task(context, index);
        } catch (...) {
            if (!failed.exchange(true)) error = std::current_exception();
        }
    }
};

}  // namespace

void run_tasks(const Parallel& parallel, int64_t tasks, void (*task)(const void* context, int64_t index),
               const void* context) {
    if (parallel.threads <= 1 || tasks <= 1 || !parallel.call) {
        for (int64_t i = 0; i < tasks; ++i) {
            if (parallel.stop) parallel.stop->check();
            give_way();
            task(context, i);
        }
        return;
    }
    Job job{task, context, parallel.stop, MemoryAccount::current()};
    parallel.call(
        parallel.pool, tasks, [](void* made, int64_t index) { static_cast<Job*>(made)->run(index); }, &job);
    if (job.error) std::rethrow_exception(job.error);
}

}  // namespace linnet
