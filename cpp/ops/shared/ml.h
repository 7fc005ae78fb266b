// What the operators of ai.onnx.ml share: inputs seen as rows of features, post_transform, class labels.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// [C] is one row, [N, C] are N; other ranks are refused.
struct FeatureRows {
    int64_t rows = 1, columns = 1;
};
FeatureRows feature_rows(const Shape& shape);  // of numbers

// The fact of input 0, checked to be numbers of rank 1 or 2. `rows` becomes the number of rows, which may be unknown.
const Fact& features_input(const InferContext& ctx, int64_t& rows);

// Numbers of any dtype as float32; float32 itself is not copied.
Tensor as_f32(const Parallel& parallel, const Tensor& tensor);

// What a score becomes in the end.
enum class PostTransform : uint8_t { none, softmax, logistic, softmax_zero, probit };
PostTransform post_transform_of(const Attributes& attributes);

// How a single score of two classes becomes two; with `logistic` they are the logistic function of -s and s.
enum class SecondScore : uint8_t {
    none,        // it stays alone
    complement,  // 1 - s, s
    opposite,    // -s, s
};

// Transforms one row of scores in place. With n == 1 and a second score, scores[1] is written as well.
template <class T>
void finish_scores(PostTransform transform, SecondScore second, int64_t n, T* scores);

// Class labels from a list of strings or of integers, whichever is there.
struct ClassLabels {
    std::vector<std::string> strings;
    std::vector<int64_t> ints;
    bool text() const noexcept { return !strings.empty(); }
    int64_t count() const noexcept { return static_cast<int64_t>(text() ? strings.size() : ints.size()); }
    DType dtype() const noexcept { return text() ? DType::string : DType::i64; }
    // Writes label `index`; where there is none, the index itself.
    void write(Tensor& out, int64_t row, int64_t index) const;
};
ClassLabels class_labels(const Attributes& attributes, std::string_view ints, std::string_view strings);

}  // namespace linnet
