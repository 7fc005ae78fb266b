// Raw bytes to tensors and back, classification, distinct names.
#include "serve/tensor_bytes.h"

#include <cmath>
#include <cstring>
#include <numeric>

#include "base/half.h"
#include "serve/json.h"

namespace linnet::serve {

std::string in_quotes(std::string_view name) {
    constexpr size_t kShown = 200;
    if (name.size() <= kShown) return cat('\'', name, '\'');
    size_t end = kShown;
    while (end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0) == 0x80) --end;  // not inside a character
    return cat('\'', name.substr(0, end), "...'");
}

namespace {

template <class T>
void refuse_twice(const std::vector<T>& list, const char* what) {
    std::vector<std::string_view> names;
    names.reserve(list.size());
    for (const T& item : list) names.push_back(item.name);
    std::sort(names.begin(), names.end());
    const auto twice = std::adjacent_find(names.begin(), names.end());
    if (twice != names.end()) refuse(Code::invalid_argument, what, ' ', in_quotes(*twice), " is named twice");
}

uint32_t length_at(const std::byte* at) {
    uint32_t length;
    std::memcpy(&length, at, 4);
    return length;
}

Tensor strings_of_raw(const Shape& shape, Bytes bytes) {
    const int64_t count = element_count(shape);
    if (count > static_cast<int64_t>(bytes.size() / 4))
        refuse(Code::invalid_argument, bytes.size(), " bytes are too few for ", count,
               " BYTES elements, each of which ", "begins with its length in 4 bytes");
    Tensor tensor = Tensor::allocate(DType::string, shape);
    const std::byte* at = bytes.data();
    const std::byte* const end = at + bytes.size();
    for (int64_t i = 0; i < count; ++i) {
        if (end - at < 4) refuse(Code::invalid_argument, "the bytes end before BYTES element ", i, " of ", count);
        const uint32_t length = length_at(at);
        at += 4;
        if (length > static_cast<size_t>(end - at))
            refuse(Code::invalid_argument, "BYTES element ", i, " has ", length, " bytes, of which ", end - at,
                   " are there");
        tensor.as<std::string>()[i].assign(reinterpret_cast<const char*>(at), length);
        at += length;
    }
    if (at != end) refuse(Code::invalid_argument, end - at, " bytes follow after the last of ", count, " elements");
    return tensor;
}

template <class T>
void put_score(std::string& out, T score) {
    if constexpr (std::is_integral_v<T>) out += std::to_string(score);
    else put_json(out, score);
}

template <class T, class Read>
Tensor classify(const Tensor& tensor, int64_t classes, const Read& read) {
    const int64_t rows = tensor.rank() > 1 ? tensor.shape[0] : 1;
    const int64_t width = rows ? tensor.count() / rows : 0;
    const int64_t taken = std::min(classes, width);
    Tensor result = Tensor::allocate(DType::string, tensor.rank() > 1 ? Shape{rows, taken} : Shape{taken});
    auto* out = result.as<std::string>();
    std::vector<int64_t> order(static_cast<size_t>(width));
    for (int64_t row = 0; row < rows; ++row) {
        const T* scores = tensor.as<T>() + row * width;
        std::iota(order.begin(), order.end(), int64_t{0});
        // NaN comes last; equal scores in the order of their indices.
        std::partial_sort(order.begin(), order.begin() + taken, order.end(), [&](int64_t a, int64_t b) {
            const auto x = read(scores[a]), y = read(scores[b]);
            if (x > y || y > x) return x > y;
            if ((x != x) != (y != y)) return y != y;
            return a < b;
        });
        for (int64_t k = 0; k < taken; ++k) {
            std::string& text = *out++;
            put_score(text, read(scores[order[static_cast<size_t>(k)]]));
            text += ':';
            text += std::to_string(order[static_cast<size_t>(k)]);
        }
    }
    return result;
}

}  // namespace

void check_distinct(const std::vector<NamedTensor>& tensors) { refuse_twice(tensors, "input"); }
void check_distinct(const std::vector<WantedOutput>& outputs) { refuse_twice(outputs, "output"); }

void count_strings(int64_t& total, DType dtype, const Shape& shape) {
    if (dtype != DType::string) return;
    const int64_t count = element_count(shape);
    if (count > kMostStrings - total)
        refuse(Code::invalid_argument, count, " texts", total ? " after those before" : "", " are more than the ",
               kMostStrings, " that a request may have");
    total += count;
}

Tensor view_or_copy(DType dtype, const Shape& shape, Bytes bytes) {
    const size_t size = dtype_size(dtype);
    const int64_t expected = checked_mul(element_count(shape), static_cast<int64_t>(size));
    if (bytes.size() != static_cast<size_t>(expected))
        refuse(Code::invalid_argument, bytes.size(), " bytes where shape ", shape_text(shape), " of ",
               dtype_name(dtype), " takes ", expected);
    const bool complex = dtype == DType::c64 || dtype == DType::c128;
    if (bytes.empty() || reinterpret_cast<uintptr_t>(bytes.data()) % (complex ? size / 2 : size) != 0) {
        Tensor tensor = Tensor::allocate(dtype, shape);
        if (!bytes.empty()) std::memcpy(tensor.data, bytes.data(), bytes.size());
        return tensor;
    }
    Tensor tensor;
    tensor.dtype = dtype;
    tensor.shape = shape;
    tensor.data = const_cast<std::byte*>(bytes.data());
    return tensor;
}

Tensor tensor_of_raw(DType dtype, const Shape& shape, Bytes bytes) {
    return dtype == DType::string ? strings_of_raw(shape, bytes) : view_or_copy(dtype, shape, bytes);
}

std::string raw_text(const Tensor& tensor) {
    const std::span<const std::string> strings(tensor.as<std::string>(), static_cast<size_t>(tensor.count()));
    size_t size = 0;
    for (const std::string& s : strings) {
        if (s.size() > UINT32_MAX) refuse(Code::invalid_argument, "an element of ", s.size(), " bytes");
        size += 4 + s.size();
    }
    std::string out;
    out.reserve(size);
    for (const std::string& s : strings) {
        const auto length = static_cast<uint32_t>(s.size());
        out.append(reinterpret_cast<const char*>(&length), 4);
        out += s;
    }
    return out;
}

Tensor classified(const Tensor& tensor, int64_t classes) {
    const auto as_it_is = [](auto value) { return value; };
    switch (tensor.dtype) {
        case DType::f32: return classify<float>(tensor, classes, as_it_is);
        case DType::f64: return classify<double>(tensor, classes, as_it_is);
        case DType::f16: return classify<Half>(tensor, classes, [](Half h) { return to_float(h); });
        case DType::bf16: return classify<BFloat16>(tensor, classes, [](BFloat16 b) { return to_float(b); });
        case DType::boolean:
        case DType::u8: return classify<uint8_t>(tensor, classes, as_it_is);
        case DType::i8: return classify<int8_t>(tensor, classes, as_it_is);
        case DType::u16: return classify<uint16_t>(tensor, classes, as_it_is);
        case DType::i16: return classify<int16_t>(tensor, classes, as_it_is);
        case DType::u32: return classify<uint32_t>(tensor, classes, as_it_is);
        case DType::i32: return classify<int32_t>(tensor, classes, as_it_is);
        case DType::u64: return classify<uint64_t>(tensor, classes, as_it_is);
        case DType::i64: return classify<int64_t>(tensor, classes, as_it_is);
        default: refuse(Code::invalid_argument, "elements of type ", dtype_name(tensor.dtype), " have no order");
    }
}

std::vector<NamedTensor> outputs_to_send(const Request& request, const Answer& answer) {
    std::vector<NamedTensor> outputs = answer.outputs;
    for (size_t i = 0; i < request.outputs.size() && i < outputs.size(); ++i) {
        const int64_t classes = request.outputs[i].classes;
        if (classes <= 0) continue;
        naming("output", outputs[i].name, [&] { outputs[i].tensor = classified(outputs[i].tensor, classes); });
    }
    return outputs;
}

}  // namespace linnet::serve
