// Nested lists of JSON to tensors and back.
#include "serve/json_tensor.h"

#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/narrow.h"
#include "serve/base64.h"
#include "serve/tensor_bytes.h"

namespace linnet::serve {
namespace {

std::string_view shown(const JsonNumber& number) { return number.text.substr(0, 40); }

[[noreturn, gnu::noinline]] void refuse_number(JsonReader& in, const JsonNumber& number, DType dtype) {
    in.error(shown(number), " is no ", dtype_name(dtype));
}

template <class T>
T whole(JsonReader& in, DType dtype, int64_t low = std::numeric_limits<T>::min(),
        uint64_t high = static_cast<uint64_t>(std::numeric_limits<T>::max())) {
    const JsonNumber number = in.number();
    uint64_t digits;
    if (!to_whole(number, digits)) refuse_number(in, number, dtype);
    const uint64_t most = number.negative ? uint64_t{0} - static_cast<uint64_t>(low) : high;
    if (digits > most) refuse_number(in, number, dtype);
    return static_cast<T>(number.negative ? uint64_t{0} - digits : digits);
}

template <class T>
T real(JsonReader& in, DType dtype) {
    const JsonNumber number = in.number();
    T value;
    if constexpr (std::is_same_v<T, float>) value = to_float(number);
    else value = to_double(number);
    if (std::isinf(value) && number.finite) refuse_number(in, number, dtype);
    return value;
}

bool flag(JsonReader& in) {
    return in.kind() == JsonReader::Kind::number ? whole<uint8_t>(in, DType::boolean, 0, 1) != 0 : in.boolean();
}

template <class T>
T narrow_real(JsonReader& in, DType dtype) {
    const JsonNumber number = in.number();
    T code;
    if constexpr (sizeof(T) == 2) code.bits = encode_float(dtype, to_double(number));
    else if (dtype == DType::f8e8m0) code = encode_e8m0(to_float(number), false, RoundMode::nearest);
    else code = static_cast<T>(encode_float(dtype, to_double(number)));
    if constexpr (sizeof(T) == 2) {
        if (number.finite && std::isinf(linnet::to_float(code))) refuse_number(in, number, dtype);
    }
    return code;
}

std::string string_element(JsonReader& in) {
    std::string text;
    if (in.kind() != JsonReader::Kind::object) return in.text();
    if (!take_base64(in, text)) in.error("text or {\"b64\": \"...\"} is expected");
    return text;
}

}  // namespace

bool take_base64(JsonReader& in, std::string& text) {
    JsonReader ahead = in;
    if (ahead.kind() != JsonReader::Kind::object) return false;
    ahead.begin_object();
    std::string key;
    if (!ahead.next_key(key) || key != "b64" || ahead.kind() != JsonReader::Kind::string) return false;
    const std::string coded = ahead.text();
    if (ahead.next_key(key)) return false;
    if (!from_base64(coded, text)) ahead.error("the text of \"b64\" is not base64");
    in = ahead;
    return true;
}

ListReader::ListReader(DType dtype) : dtype_(dtype) {
    if (dtype == DType::c64 || dtype == DType::c128 || dtype == DType::undefined)
        refuse(Code::invalid_argument, "JSON has no form for elements of type ", dtype_name(dtype));
}

std::string ListReader::place() const {
    std::string text;
    for (const int64_t index : position_) text += cat('[', index, ']');
    return text;
}

void ListReader::read(JsonReader& in) {
    position_ = {};
    try {
        value(in, 0);
    } catch (Failure& failure) {
        if (const std::string where = place(); !where.empty()) failure.add_context(where);
        throw;
    }
    ++items_;
}

// The size of the list at `depth` of the item, which must be that of the lists beside it.
void ListReader::close(JsonReader& in, size_t depth, int64_t size) {
    if (dims_[depth] < 0) dims_[depth] = size;
    else if (dims_[depth] != size)
        in.error(size, size == 1 ? " element" : " elements", " where the lists before have ", dims_[depth]);
}

void ListReader::value(JsonReader& in, size_t depth) {
    if (in.kind() == JsonReader::Kind::array) return list(in, depth);
    if (!ranked_) ranked_ = true;  // the first element: its depth is the rank
    else if (depth != dims_.size()) in.error("a value where a list is expected");
    element(in);
}

void ListReader::list(JsonReader& in, size_t depth) {
    if (depth == dims_.size()) {
        if (ranked_) in.error("a list where a value is expected");
        if (depth == kMostRank) in.error("lists are nested more than ", kMostRank, " deep");
        dims_.push_back(-1);
    }
    in.begin_array();
    // Lists of values, the innermost ones, are read in loops of their own.
    if (ranked_ && depth + 1 == dims_.size()) {
        close(in, depth, elements(in, 0));
        return;
    }
    position_.push_back(0);
    int64_t size = 0;
    for (; in.next_element(); ++size) {
        position_[depth] = size;
        if (size == 0 && !ranked_ && in.kind() != JsonReader::Kind::array) {
            value(in, depth + 1);
            position_.resize(depth);
            close(in, depth, elements(in, 1));
            return;
        }
        value(in, depth + 1);
    }
    if (size == 0) ranked_ = true;
    position_.resize(depth);
    close(in, depth, size);
}

template <class T>
T* ListReader::room() {
    if (count_ == capacity_) {
        const int64_t larger = std::max<int64_t>(capacity_ * 2, 64);
        Tensor memory = Tensor::allocate(dtype_, {larger});
        if (count_) std::copy_n(memory_.as<T>(), count_, memory.as<T>());
        memory_ = std::move(memory);
        capacity_ = larger;
    }
    return memory_.as<T>();
}

template <class T, class Read>
void ListReader::run(JsonReader& in, int64_t& index, const Read& read) {
    for (; in.next_element(); ++index) {
        if (in.comes('[')) in.error("a list where a value is expected");
        const T value = read(in);
        room<T>()[count_++] = value;
    }
}

// The rest of a list of values of which `size` were read. Returns how many these are in the end.
int64_t ListReader::elements(JsonReader& in, int64_t size) {
    position_.push_back(size);
    int64_t& index = position_.back();
    switch (dtype_) {
        case DType::f32: run<float>(in, index, [](JsonReader& r) { return real<float>(r, DType::f32); }); break;
        case DType::i64: run<int64_t>(in, index, [](JsonReader& r) { return whole<int64_t>(r, DType::i64); }); break;
        default:
            for (; in.next_element(); ++index) {
                if (in.comes('[')) in.error("a list where a value is expected");
                element(in);
            }
    }
    size = index;
    position_.pop_back();
    return size;
}

void ListReader::element(JsonReader& in) {
    const auto put = [&](auto value) {
        using T = decltype(value);
        room<T>()[count_++] = value;
    };
    switch (dtype_) {
        case DType::f32: return put(real<float>(in, dtype_));
        case DType::f64: return put(real<double>(in, dtype_));
        case DType::f16: return put(narrow_real<Half>(in, dtype_));
        case DType::bf16: return put(narrow_real<BFloat16>(in, dtype_));
        case DType::boolean: return put(flag(in));
        case DType::u8: return put(whole<uint8_t>(in, dtype_));
        case DType::i8: return put(whole<int8_t>(in, dtype_));
        case DType::u16: return put(whole<uint16_t>(in, dtype_));
        case DType::i16: return put(whole<int16_t>(in, dtype_));
        case DType::u32: return put(whole<uint32_t>(in, dtype_));
        case DType::i32: return put(whole<int32_t>(in, dtype_));
        case DType::u64: return put(whole<uint64_t>(in, dtype_));
        case DType::i64: return put(whole<int64_t>(in, dtype_));
        case DType::u4: return put(whole<uint8_t>(in, dtype_, 0, 15));
        case DType::i4: return put(whole<int8_t>(in, dtype_, -8, 7));
        case DType::u2: return put(whole<uint8_t>(in, dtype_, 0, 3));
        case DType::i2: return put(whole<int8_t>(in, dtype_, -2, 1));
        case DType::string:
            if (count_ == kMostStrings) in.error("more than ", kMostStrings, " texts");
            strings_.push_back(string_element(in));
            ++count_;
            return;
        default: return put(narrow_real<uint8_t>(in, dtype_));  // eight bits and less of floating point
    }
}

Tensor ListReader::take(const Shape& shape) {
    Tensor tensor;
    if (dtype_ == DType::string) {
        const auto strings = std::make_shared<std::vector<std::string>>(std::move(strings_));
        tensor.data = strings->data();
        tensor.owner = strings;
    } else if (count_ == 0) {
        return Tensor::allocate(dtype_, shape);
    } else {
        tensor = std::move(memory_);
    }
    tensor.dtype = dtype_;
    tensor.shape = shape;
    return tensor;
}

namespace {

void put_value(std::string& out, const Tensor& tensor, int64_t i, bool base64) {
    switch (tensor.dtype) {
        case DType::f32: return put_json(out, tensor.as<float>()[i]);
        case DType::f64: return put_json(out, tensor.as<double>()[i]);
        case DType::f16: return put_json(out, to_float(tensor.as<Half>()[i]));
        case DType::bf16: return put_json(out, to_float(tensor.as<BFloat16>()[i]));
        case DType::boolean: out += tensor.as<uint8_t>()[i] ? "true" : "false"; return;
        case DType::u64: return put_json(out, tensor.as<uint64_t>()[i]);
        case DType::u8:
        case DType::i8:
        case DType::u16:
        case DType::i16:
        case DType::u32:
        case DType::i32:
        case DType::i64:
        case DType::u4:
        case DType::i4:
        case DType::u2:
        case DType::i2: return put_json(out, int_at(tensor, i));
        case DType::string: break;
        default:
            if (!is_narrow_float(tensor.dtype))
                refuse(Code::invalid_argument, "JSON has no form for elements of type ", dtype_name(tensor.dtype));
            return put_json(out, narrow_values(tensor.dtype)[tensor.as<uint8_t>()[i]]);
    }
    const std::string& text = tensor.as<std::string>()[i];
    if (!base64) return put_json(out, std::string_view(text));
    out += "{\"b64\":\"";
    put_base64(out, text);
    out += "\"}";
}

void put_run(std::string& out, const Tensor& tensor, int64_t first, int64_t count, bool base64) {
    out += '[';
    for (int64_t i = 0; i < count; ++i) {
        if (i) out += ',';
        put_value(out, tensor, first + i, base64);
    }
    out += ']';
}

}  // namespace

void put_json(std::string& out, const Tensor& tensor, size_t from, int64_t first, bool base64) {
    const size_t rank = tensor.shape.size();
    if (from == rank) return put_value(out, tensor, first, base64);
    if (from + 1 == rank) return put_run(out, tensor, first, tensor.shape[from], base64);
    const int64_t step = product(tensor.shape, from + 1, rank);
    out += '[';
    for (int64_t i = 0; i < tensor.shape[from]; ++i) {
        if (i) out += ',';
        put_json(out, tensor, from + 1, first + i * step, base64);
    }
    out += ']';
}

void put_json_flat(std::string& out, const Tensor& tensor) { put_run(out, tensor, 0, tensor.count(), false); }

}  // namespace linnet::serve
