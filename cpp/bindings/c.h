// What the files of the C interface share: errors as statuses, checked arguments.
#pragma once
#include <string>

#include "base/error.h"
#include "base/tensor.h"
#include "linnet/linnet.h"

struct linnet_value {
    linnet::Value value;
};

namespace linnet::c {

extern thread_local std::string last_error;

constexpr size_t kMostDims = 64;

linnet_status report(linnet_status status, const char* text) noexcept;
// The exception that is being handled, as a status and a text.
linnet_status report_exception() noexcept;
linnet_status status_of(ErrorKind kind);

template <class Fn>
linnet_status guarded(const Fn& fn) noexcept {
    try {
        fn();
        return LINNET_OK;
    } catch (...) {
        return report_exception();
    }
}

template <class... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
    fail(ErrorKind::invalid_argument, parts...);
}

template <class T>
T& needed(T* pointer, const char* name) {
    if (!pointer) refuse("'", name, "' is NULL");
    return *pointer;
}

DType dtype_from(linnet_dtype dtype);
// Throws invalid_argument for a rank above kMostDims, a negative size, or more elements than fit.
Shape shape_from(const int64_t* dims, size_t rank);
const Tensor& tensor_of(const linnet_value* value);

}  // namespace linnet::c
