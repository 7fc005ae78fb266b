// Joining and cutting tensors.
#include "ops/shared/join.h"

#include "ops/shared/copy.h"

namespace linnet {

Tensor join(const Parallel& parallel, std::span<const Tensor> parts, int64_t axis, bool new_axis) {
    const auto at = static_cast<size_t>(axis);
    const Tensor& first = parts.front();
    int64_t size = 0;
    for (const Tensor& part : parts) {
        bool fits = part.dtype == first.dtype && part.rank() == first.rank();
        for (size_t i = 0; fits && i < part.shape.size(); ++i)
            fits = part.shape[i] == first.shape[i] || (!new_axis && i == at);
        if (!fits)
            fail(ErrorKind::invalid_argument, "cannot join ", dtype_name(part.dtype), " ", shape_text(part.shape),
                 " and ", dtype_name(first.dtype), " ", shape_text(first.shape), " along axis ", axis);
        size = checked_add(size, new_axis ? 1 : part.shape[at]);
    }
    Shape shape = first.shape;
    if (new_axis) shape.insert(shape.begin() + at, size);
    else shape[at] = size;
    Tensor joined = Tensor::allocate(first.dtype, shape);
    const int64_t outer = product(shape, 0, at), inner = product(shape, at + 1, shape.size());
    int64_t to = 0;
    for (const Tensor& part : parts) {
        const int64_t run = (new_axis ? 1 : part.shape[at]) * inner;
        copy_box(parallel, first.dtype, {outer, run}, part.data, {run, 1}, element(joined.data, joined.dtype, to),
                 {size * inner, 1});
        to += run;
    }
    return joined;
}

Tensor cut(const Parallel& parallel, const Tensor& tensor, int64_t axis, int64_t begin, int64_t size) {
    const auto at = static_cast<size_t>(axis);
    const int64_t outer = product(tensor.shape, 0, at), inner = product(tensor.shape, at + 1, tensor.shape.size());
    Shape shape = tensor.shape;
    shape[at] = size;
    const void* from = element(tensor.data, tensor.dtype, begin * inner);
    if (outer == 1) {
        Tensor view = tensor;
        view.shape = shape;
        view.data = const_cast<void*>(from);
        return view;
    }
    Tensor copy = Tensor::allocate(tensor.dtype, shape);
    copy_box(parallel, tensor.dtype, {outer, size * inner}, from, {tensor.shape[at] * inner, 1}, copy.data,
             {size * inner, 1});
    return copy;
}

Tensor reshaped(Tensor tensor, const Shape& shape) {
    tensor.shape = shape;
    return tensor;
}

}  // namespace linnet
