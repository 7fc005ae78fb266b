// Rows of features, post_transform, class labels (ai.onnx.ml).
#include "ops/shared/ml.h"

#include <algorithm>
#include <cmath>

#include "ops/convert.h"
#include "ops/shared/facts.h"

namespace linnet {

FeatureRows feature_rows(const Shape& shape) {
    if (shape.size() == 1) return {1, shape[0]};
    if (shape.size() == 2) return {shape[0], shape[1]};
    fail(ErrorKind::invalid_argument, "the input must have shape [C] or [N, C], not ", shape_text(shape));
}

const Fact& features_input(const InferContext& ctx, int64_t& rows) {
    const Fact& x = tensor_input(ctx, 0);
    require(x.dtype == DType::f32 || x.dtype == DType::f64 || x.dtype == DType::i64 || x.dtype == DType::i32 ||
                x.dtype == DType::f16 || x.dtype == DType::undefined,
            "the input must be float, double, int64 or int32, not ", dtype_name(x.dtype));
    require(!x.ranked || x.rank() == 1 || x.rank() == 2, "the input must have rank 1 or 2, not ", x.rank());
    rows = !x.ranked ? kUnknownDim : x.rank() == 1 ? 1 : x.shape[0];
    return x;
}

Tensor as_f32(const Parallel& parallel, const Tensor& tensor) {
    if (tensor.dtype == DType::f32) return tensor;
    Tensor out = Tensor::allocate(DType::f32, tensor.shape);
    convert_elements(tensor.dtype, tensor.data, DType::f32, out.data, tensor.count(), {}, parallel);
    return out;
}

PostTransform post_transform_of(const Attributes& attributes) {
    const std::string& name = attributes.s("post_transform", "NONE");
    if (name == "NONE") return PostTransform::none;
    if (name == "SOFTMAX") return PostTransform::softmax;
    if (name == "LOGISTIC") return PostTransform::logistic;
    if (name == "SOFTMAX_ZERO") return PostTransform::softmax_zero;
    if (name == "PROBIT") return PostTransform::probit;
    fail(ErrorKind::invalid_graph, "post_transform '", name,
         "' is none of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT");
}

namespace {

template <class T>
T logistic(T x) {
    const T v = 1 / (1 + std::exp(-std::fabs(x)));
    return x < 0 ? 1 - v : v;
}

// sqrt(2) * erfinv(2 p - 1) with Winitzki's approximation of erfinv ("A handy approximation for the error function and
// its inverse", 2008; a = 0.147, and pi as 3.14159 as other runtimes have it).
template <class T>
T probit(T p) {
    const T x = 2 * p - 1, log = std::log((1 - x) * (1 + x)), a = T(0.147);
    const T half = 2 / (T(3.14159) * a) + log / 2;
    const T root = std::sqrt(std::sqrt(half * half - log / a) - half);
    return T(1.41421356) * (x < 0 ? -root : root);
}

// `zeros`: scores of 0 stay 0.
template <class T>
void softmax(int64_t n, T* x, bool zeros) {
    const T top = *std::max_element(x, x + n);
    T sum = 0;
    for (int64_t i = 0; i < n; ++i) {
        if (zeros && std::fabs(x[i]) <= T(1e-7)) {
            x[i] *= std::exp(-top);
            continue;
        }
        x[i] = std::exp(x[i] - top);
        sum += x[i];
    }
    for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

}  // namespace

template <class T>
void finish_scores(PostTransform transform, SecondScore second, int64_t n, T* scores) {
    if (n == 1) {
        const T s = scores[0];
        if (transform == PostTransform::probit) {
            scores[0] = probit(s);
            if (second != SecondScore::none) scores[1] = 0;
        } else if (second != SecondScore::none) {
            const bool squash = transform == PostTransform::logistic;
            scores[0] = squash ? logistic(-s) : second == SecondScore::complement ? 1 - s : -s;
            scores[1] = squash ? logistic(s) : s;
        }
        return;
    }
    switch (transform) {
        case PostTransform::none: return;
        case PostTransform::softmax: return softmax(n, scores, false);
        case PostTransform::softmax_zero: return softmax(n, scores, true);
        case PostTransform::logistic:
            for (int64_t i = 0; i < n; ++i) scores[i] = logistic(scores[i]);
            return;
        case PostTransform::probit:
            for (int64_t i = 0; i < n; ++i) scores[i] = probit(scores[i]);
            return;
    }
}
template void finish_scores(PostTransform, SecondScore, int64_t, float*);
template void finish_scores(PostTransform, SecondScore, int64_t, double*);

void ClassLabels::write(Tensor& out, int64_t row, int64_t index) const {
    const auto i = static_cast<size_t>(index);
    if (text()) copy_text(i < strings.size() ? strings[i] : std::to_string(index), out.as<std::string>()[row]);
    else out.as<int64_t>()[row] = i < ints.size() ? ints[i] : index;
}

ClassLabels class_labels(const Attributes& attributes, std::string_view ints, std::string_view strings) {
    ClassLabels labels{attributes.strings(strings), attributes.ints(ints)};
    require(labels.strings.empty() || labels.ints.empty(), ints, " and ", strings, " must not both be given");
    return labels;
}

}  // namespace linnet
