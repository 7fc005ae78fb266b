// Shapes: products that are checked, strides, axes counted from the end, their text.
#include "base/shape.h"

#include "base/error.h"

namespace linnet {

bool is_known(const Shape& shape) noexcept {
    for (int64_t dim : shape)
        if (!is_number(dim)) return false;
    return true;
}

int64_t checked_mul(int64_t a, int64_t b) {
    int64_t result;
    if (__builtin_mul_overflow(a, b, &result)) fail(ErrorKind::invalid_argument, "size ", a, " x ", b, " overflows");
    return result;
}

int64_t checked_add(int64_t a, int64_t b) {
    int64_t result;
    if (__builtin_add_overflow(a, b, &result)) fail(ErrorKind::invalid_argument, "size ", a, " + ", b, " overflows");
    return result;
}

// The sizes beside a 0 count as well: strides and offsets are made of them, empty tensor or not.
int64_t product(const Shape& shape, size_t first, size_t last) {
    constexpr int64_t kMost = int64_t{1} << 59;  // whose bytes can still be counted
    int64_t result = 1;
    bool empty = false;
    for (size_t i = first; i < last; ++i) {
        if (shape[i] < 0) fail(ErrorKind::invalid_argument, "shape ", shape_text(shape), " is not a size");
        empty = empty || shape[i] == 0;
        if (shape[i] != 0) result = checked_mul(result, shape[i]);
    }
    if (result > kMost) fail(ErrorKind::invalid_argument, "shape ", shape_text(shape), ": size overflows");
    return empty ? 0 : result;
}

int64_t element_count(const Shape& shape) { return product(shape, 0, shape.size()); }

std::string shape_text(const Shape& shape) {
    if (shape.empty()) return "scalar";
    std::string text;
    for (size_t i = 0; i < shape.size(); ++i) {
        if (i) text += 'x';
        text += is_number(shape[i]) ? std::to_string(shape[i]) : "?";
    }
    return text;
}

Shape strides_of(const Shape& shape) {
    Shape strides(shape.size());
    int64_t step = 1;
    for (size_t i = shape.size(); i-- > 0;) {
        strides[i] = step;
        // Wraps for a shape that is no tensor's, whose strides nobody uses.
        step = static_cast<int64_t>(static_cast<uint64_t>(step) * static_cast<uint64_t>(shape[i]));
    }
    return strides;
}

int64_t normal_axis(int64_t axis, int64_t rank, const char* what) {
    if (axis < -rank || axis >= rank)
        fail(ErrorKind::invalid_graph, what, " ", axis, " is outside [", -rank, ", ", rank - 1, "] of rank ", rank);
    return axis < 0 ? axis + rank : axis;
}

}  // namespace linnet
