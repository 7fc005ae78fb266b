// Rows of several requests in one run of the session, and back.
#include <algorithm>
#include <cstring>
#include <new>

#include "serve/scheduler.h"

namespace linnet::serve {
namespace {

// The rows of all jobs' input `index`, one after the other.
Tensor gather_rows(const std::vector<Job*>& jobs, size_t index, int64_t rows) {
    const Tensor& first = jobs[0]->inputs[index].tensor;
    Shape shape = first.shape;
    shape[0] = rows;
    Tensor all = Tensor::allocate(first.dtype, shape);
    if (first.dtype == DType::string) {
        auto* to = all.as<std::string>();
        for (const Job* job : jobs) {
            const Tensor& t = job->inputs[index].tensor;
            to = std::copy_n(t.as<std::string>(), t.count(), to);
        }
        return all;
    }
    auto* to = static_cast<std::byte*>(all.data);
    for (const Job* job : jobs) {
        const Tensor& t = job->inputs[index].tensor;
        const size_t bytes = t.bytes();
        if (bytes > 0) std::memcpy(to, t.data, bytes);
        to += bytes;
    }
    return all;
}

Tensor rows_of(const Tensor& all, int64_t from, int64_t rows) {
    Tensor part = all;
    part.shape[0] = rows;
    const size_t row = static_cast<size_t>(product(all.shape, 1, all.shape.size())) * dtype_size(all.dtype);
    part.data = static_cast<std::byte*>(all.data) + static_cast<size_t>(from) * row;
    return part;
}

}  // namespace

void run_batch(const std::vector<Job*>& jobs, int threads) {
    const Job& first = *jobs[0];
    Session& session = *first.served->session;
    int64_t rows = 0;
    for (const Job* job : jobs) rows += job->rows;
    std::vector<std::pair<std::string, Value>> feeds;
    for (size_t i = 0; i < first.inputs.size(); ++i) {
        if (first.inputs[i].kind == Value::Kind::absent) continue;
        feeds.emplace_back(session.inputs()[i].name,
                           jobs.size() == 1 ? first.inputs[i] : Value(gather_rows(jobs, i, rows)));
    }
    std::vector<std::string> wanted;
    for (size_t index : first.wanted) wanted.push_back(session.outputs()[index].name);
    RunOptions options;
    options.threads = threads;
    const std::vector<Value> results = session.run(feeds, wanted, options);
    for (const Value& result : results)
        if (jobs.size() > 1 &&
            (result.kind != Value::Kind::tensor || result.tensor.shape.empty() || result.tensor.shape[0] != rows))
            throw NotSeparable();
    int64_t from = 0;
    for (Job* job : jobs) {
        job->outputs.clear();
        for (size_t i = 0; i < results.size(); ++i) {
            if (results[i].kind != Value::Kind::tensor)
                refuse(Code::unimplemented, "output '", wanted[i], "' is no tensor; only tensors can be sent");
            job->outputs.push_back(jobs.size() == 1 ? results[i].tensor : rows_of(results[i].tensor, from, job->rows));
        }
        from += job->rows;
    }
}

Failure failure_of(std::exception_ptr error) {
    try {
        std::rethrow_exception(error);
    } catch (const Failure& failure) {
        return failure;
    } catch (const Error& e) {
        switch (e.kind()) {
            case ErrorKind::invalid_argument:
            case ErrorKind::invalid_protobuf: return {Code::invalid_argument, e.message()};
            case ErrorKind::not_implemented: return {Code::unimplemented, e.message()};
            case ErrorKind::cancelled: return {Code::cancelled, e.message()};
            default: return {Code::internal, e.message()};
        }
    } catch (const std::bad_alloc&) {
        return {Code::resource_exhausted, "no memory is left for this request"};
    } catch (const std::exception& e) {
        return {Code::internal, e.what()};
    }
}

}  // namespace linnet::serve
