// Tensors as the little-endian bytes that the Open Inference Protocol carries, over gRPC and after REST's JSON; and
// what all codecs check of tensors. Failures do not name the tensor: callers add that (naming).
#pragma once
#include <string>
#include <string_view>
#include <utility>

#include "serve/message.h"

namespace linnet::serve {

// In quotes, and cut short where it is long: messages travel in headers.
std::string in_quotes(std::string_view name);

// Does `work` on a tensor: what fails is an invalid argument that says "input 'x': " first.
template <class Fn>
auto naming(const char* what, std::string_view name, Fn&& work) {
    try {
        return std::forward<Fn>(work)();
    } catch (Failure& failure) {
        failure.add_context(std::string(what) + ' ' + in_quotes(name));
        throw;
    } catch (const Error& error) {
        refuse(Code::invalid_argument, what, ' ', in_quotes(name), ": ", error.message());
    }
}

// Refuses a name that occurs twice.
void check_distinct(const std::vector<NamedTensor>& tensors);
void check_distinct(const std::vector<WantedOutput>& outputs);

// Counts the elements of a request's text tensors, before there is memory for them: `total` is of those before.
void count_strings(int64_t& total, DType dtype, const Shape& shape);

// The tensor whose elements (no text) are exactly `bytes`: a view where they are aligned, a copy otherwise.
Tensor view_or_copy(DType dtype, const Shape& shape, Bytes bytes);
// The tensor in the protocol's raw form; BYTES elements begin with their length in four bytes.
Tensor tensor_of_raw(DType dtype, const Shape& shape, Bytes bytes);

// The raw form of text; of other tensors it is their memory.
std::string raw_text(const Tensor& tensor);
inline Bytes memory_of(const Tensor& tensor) { return {static_cast<const std::byte*>(tensor.data), tensor.bytes()}; }

// Triton's classification: the `classes` largest elements of each row (what shares the first index; a tensor of rank 0
// or 1 is one row) in falling order, as text "score:index". Scores are the shortest text that reads back as the same
// number. Throws invalid_argument for text and complex numbers.
Tensor classified(const Tensor& tensor, int64_t classes);
// The outputs as they are to be sent: those that the request wants classified are.
std::vector<NamedTensor> outputs_to_send(const Request& request, const Answer& answer);

}  // namespace linnet::serve
