// Reading protobuf's wire format with onnx::Cursor: what the codecs' messages have in common.
#pragma once
#include <cstring>
#include <limits>
#include <string_view>
#include <utility>

#include "onnx/wire.h"
#include "serve/json.h"

namespace linnet::serve {

using onnx::Cursor;

// The current field, which is a name or other text of at most so many bytes.
inline std::string_view utf8(const Cursor& in, const char* name, size_t longest = kLongestName) {
    const std::string_view text = in.text(name);
    if (text.size() > longest) in.error("'", name, "' has ", text.size(), " bytes, more than ", longest);
    if (!is_utf8(text)) in.error("'", name, "' is not UTF-8");
    return text;
}

// A list of elements in a message: the field's number and name; 0 where there is none.
struct ListField {
    uint32_t number;
    const char* name;
};

// Fills a tensor with the elements of a list, which may come in several parts but never be more than the shape has.
class ListFiller {
  public:
    ListFiller(DType dtype, const Shape& shape, ListField list)
        : tensor_(Tensor::allocate(dtype, shape)), list_(list), count_(tensor_.count()) {}

    // Elements that are varints: T in the tensor, As in the list.
    template <class T, class As>
    void varints(Cursor& in, T low = std::numeric_limits<T>::min(), T high = std::numeric_limits<T>::max()) {
        in.each_varint(list_.name, [&](uint64_t bits) {
            const As value = static_cast<As>(bits);
            if constexpr (!std::is_same_v<T, bool>) {
                if (!std::in_range<T>(value) || static_cast<T>(value) < low || static_cast<T>(value) > high)
                    refuse(Code::invalid_argument, value, " in ", list_.name, " is no ", dtype_name(tensor_.dtype));
            }
            need_room(1);
            tensor_.as<T>()[done_++] = static_cast<T>(value);
        });
    }
    // Elements that are as in memory.
    void bytes(Bytes found) {
        const size_t size = dtype_size(tensor_.dtype);
        need_room(found.size() / size);
        if (found.empty()) return;
        std::memcpy(tensor_.as<std::byte>() + static_cast<size_t>(done_) * size, found.data(), found.size());
        done_ += static_cast<int64_t>(found.size() / size);
    }
    void text(const Cursor& in) {
        need_room(1);
        tensor_.as<std::string>()[done_++] = in.text(list_.name);
    }

    void need_room(size_t elements) const {
        if (elements > static_cast<size_t>(count_ - done_))
            refuse(Code::invalid_argument, "more elements in ", list_.name, " than the ", count_,
                   " that the shape has");
    }
    int64_t count() const { return count_; }
    int64_t done() const { return done_; }
    void one_more() { ++done_; }  // was written to tensor() by the caller
    Tensor& tensor() { return tensor_; }

  private:
    Tensor tensor_;
    ListField list_;
    int64_t count_, done_ = 0;
};

}  // namespace linnet::serve
