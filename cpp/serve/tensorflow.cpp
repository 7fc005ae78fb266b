// TensorFlow Serving's Predict over gRPC (protos/tensorflow_serving.proto, tensorflow.proto).
#include <cstring>
#include <utility>

#include "serve/codecs.h"
#include "serve/tensor_bytes.h"
#include "serve/wire_in.h"
#include "serve/wire_out.h"

namespace linnet::serve {
namespace {

struct Version {
    int64_t value = 0;
};

void parse(Cursor& in, Version& out) {
    while (in.next())
        if (in.field() == 1) out.value = in.i64("value");
}

}  // namespace

// A ModelSpec. Cursor finds the function in the namespace of the struct.
static void parse(Cursor& in, Request& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.model = utf8(in, "name"); break;
            case 2: {
                Version version;
                in.message("version", version);
                out.version = std::to_string(version.value);
                out.label.clear();
                break;
            }
            case 3: out.signature = utf8(in, "signature_name"); break;
            case 4:
                out.label = utf8(in, "version_label");
                out.version.clear();
                break;
            default: break;
        }
    }
}

namespace {

struct Dimension {
    int64_t size = 0;
};

struct TensorShape {
    Shape sizes;
    bool unknown_rank = false;
};

// A TensorProto but for its lists of elements, which are read once their type and number are known.
struct Head {
    int64_t dtype = 0;
    TensorShape shape;
    Bytes content;
};

struct Named {  // an entry of the map
    std::string name;
    Bytes value;
    bool has_value = false;
};

struct Message {
    Request request;
    std::vector<Named> inputs;
};

void parse(Cursor& in, Named& out) {
    while (in.next()) {
        if (in.field() == 1) out.name = utf8(in, "key");
        if (in.field() != 2) continue;
        if (out.has_value) in.error("'value' occurs twice");
        out.value = in.bytes("value");
        out.has_value = true;
    }
}

void parse(Cursor& in, Message& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: in.message("model_spec", out.request); break;
            case 2:
                if (out.inputs.size() == kMostTensors) in.error("more than ", kMostTensors, " inputs");
                in.message("inputs", out.inputs);
                break;
            case 3:
                if (out.request.outputs.size() == kMostTensors) in.error("more than ", kMostTensors, " outputs");
                out.request.outputs.emplace_back().name = utf8(in, "output_filter");
                break;
            default: break;
        }
    }
}

void parse(Cursor& in, Dimension& out) {
    while (in.next())
        if (in.field() == 1) out.size = in.i64("size");
}

void parse(Cursor& in, TensorShape& out) {
    while (in.next()) {
        if (in.field() == 3) out.unknown_rank = in.varint("unknown_rank") != 0;
        if (in.field() != 2) continue;
        if (out.sizes.size() == kMostRank) in.error("a shape of more than ", kMostRank, " dimensions");
        Dimension dimension;
        in.message("dim", dimension);
        out.sizes.push_back(dimension.size);
    }
}

void parse(Cursor& in, Head& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.dtype = in.i64("dtype"); break;
            case 2: in.message("tensor_shape", out.shape); break;
            case 4: out.content = in.bytes("tensor_content"); break;
            default: break;
        }
    }
}

// The lists of TensorProto by field number.
ListField list_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return {5, "float_val"};
        case DType::f64: return {6, "double_val"};
        case DType::string: return {8, "string_val"};
        case DType::c64: return {9, "scomplex_val"};
        case DType::i64: return {10, "int64_val"};
        case DType::boolean: return {11, "bool_val"};
        case DType::c128: return {12, "dcomplex_val"};
        case DType::f16:
        case DType::bf16: return {13, "half_val"};
        case DType::u32: return {16, "uint32_val"};
        case DType::u64: return {17, "uint64_val"};
        case DType::f8e5m2:
        case DType::f8e4m3fn:
        case DType::f8e4m3fnuz:
        case DType::f8e5m2fnuz:
        case DType::f4e2m1: return {18, "float8_val"};
        default: return {7, "int_val"};  // int32 and narrower
    }
}

// The elements of a list, and after them the last one again, as often as the shape needs it; without any element, 0.
// `padding` is what the request may still take for such elements, in bytes.
class Filler {
  public:
    Filler(DType dtype, const Shape& shape, Bytes proto, int64_t& padding)
        : list_(list_of(dtype)),
          element_(static_cast<int64_t>(dtype == DType::string ? sizeof(std::string) : dtype_size(dtype))),
          count_(element_count(shape)),
          padding_(padding) {
        // An element takes a byte at least: what is missing for sure is known before memory is asked for.
        check_padding(count_ - static_cast<int64_t>(proto.size()), element_);
        tensor_ = Tensor::allocate(dtype, shape);
    }

    Tensor fill(Bytes proto) {
        Cursor in(proto);
        while (in.next())
            if (in.field() == list_.number) take(in);
        if (half_of_pair_) refuse(Code::invalid_argument, list_.name, " has an odd number of elements");
        pad();
        return std::move(tensor_);
    }

  private:
    void take(Cursor& in) {
        switch (tensor_.dtype) {
            case DType::string:
                room(1);
                tensor_.as<std::string>()[done_++] = in.text(list_.name);
                return;
            case DType::f32: return bytes(in.fixed_bytes(list_.name, 4));
            case DType::f64: return bytes(in.fixed_bytes(list_.name, 8));
            case DType::c64: return parts(in.fixed_bytes(list_.name, 4), 4);
            case DType::c128: return parts(in.fixed_bytes(list_.name, 8), 8);
            case DType::i64: return varints<int64_t, int64_t>(in);
            case DType::u64: return varints<uint64_t, uint64_t>(in);
            case DType::u32: return varints<uint32_t, uint32_t>(in);
            case DType::boolean: return varints<bool, uint64_t>(in);
            case DType::i32: return varints<int32_t, int32_t>(in);
            case DType::i16: return varints<int16_t, int32_t>(in);
            case DType::i8: return varints<int8_t, int32_t>(in);
            case DType::u8: return varints<uint8_t, int32_t>(in);
            case DType::f16:
            case DType::bf16:  // bits
            case DType::u16: return varints<uint16_t, int32_t>(in);
            case DType::i4: return varints<int8_t, int32_t>(in, -8, 7);
            case DType::u4: return varints<uint8_t, int32_t>(in, 0, 15);
            case DType::i2: return varints<int8_t, int32_t>(in, -2, 1);
            case DType::u2: return varints<uint8_t, int32_t>(in, 0, 3);
            default: return bytes(in.bytes(list_.name));  // float8_val
        }
    }

    template <class T, class As>
    void varints(Cursor& in, T low = std::numeric_limits<T>::min(), T high = std::numeric_limits<T>::max()) {
        in.each_varint(list_.name, [&](uint64_t bits) {
            const As value = static_cast<As>(bits);
            if constexpr (!std::is_same_v<T, bool>) {
                if (!std::in_range<T>(value) || static_cast<T>(value) < low || static_cast<T>(value) > high)
                    refuse(Code::invalid_argument, value, " in ", list_.name, " is no ", dtype_name(tensor_.dtype));
            }
            room(1);
            tensor_.as<T>()[done_++] = static_cast<T>(value);
        });
    }
    void bytes(Bytes found) {
        const auto size = static_cast<size_t>(element_);
        room(found.size() / size);
        if (found.empty()) return;
        std::memcpy(tensor_.as<std::byte>() + static_cast<size_t>(done_) * size, found.data(), found.size());
        done_ += static_cast<int64_t>(found.size() / size);
    }
    // Real and imaginary parts, of `size` bytes each.
    void parts(Bytes found, size_t size) {
        for (size_t at = 0; at < found.size(); at += size) {
            room(1);
            const auto pair = static_cast<size_t>(done_) * 2 + (half_of_pair_ ? 1 : 0);
            std::memcpy(tensor_.as<std::byte>() + pair * size, found.data() + at, size);
            if (half_of_pair_) ++done_;
            half_of_pair_ = !half_of_pair_;
        }
    }

    void room(size_t more) const {
        if (more > static_cast<size_t>(count_ - done_))
            refuse(Code::invalid_argument, "more elements in ", list_.name, " than the ", count_,
                   " that the shape has");
    }
    void check_padding(int64_t elements, int64_t size) const {
        if (elements > 0 && elements > padding_ / size)
            refuse(Code::invalid_argument, "the shape has ", count_, " elements, of which most are not in ", list_.name,
                   ": a request may leave out elements of ", kMostPaddedBytes >> 20, " MiB in all");
    }
    void pad() {
        const int64_t missing = count_ - done_;
        if (missing == 0) return;
        if (tensor_.dtype == DType::string) {
            auto* strings = tensor_.as<std::string>();
            const std::string last = done_ ? strings[done_ - 1] : std::string();
            const int64_t size = element_ + static_cast<int64_t>(last.size());
            check_padding(missing, size);
            padding_ -= missing * size;
            std::fill(strings + done_, strings + count_, last);
            return;
        }
        check_padding(missing, element_);
        padding_ -= missing * element_;
        const auto size = static_cast<size_t>(element_);
        auto* const memory = tensor_.as<std::byte>();
        if (done_ == 0) {
            std::memset(memory, 0, static_cast<size_t>(count_) * size);
            return;
        }
        for (int64_t i = done_; i < count_; ++i)
            std::memcpy(memory + static_cast<size_t>(i) * size, memory + static_cast<size_t>(done_ - 1) * size, size);
    }

    ListField list_;
    int64_t element_, count_, done_ = 0;
    int64_t& padding_;
    bool half_of_pair_ = false;
    Tensor tensor_;
};

// What the inputs of one request take together.
struct Taken {
    int64_t padding = kMostPaddedBytes;  // left
    int64_t strings = 0;
};

Tensor tensor_of_proto(Bytes proto, Taken& taken) {
    Head head;
    Cursor in(proto);
    parse(in, head);
    const DType dtype = dtype_of_tensorflow(head.dtype);
    if (dtype == DType::undefined)
        refuse(Code::invalid_argument, "its dtype is number ", head.dtype, ", which is not supported");
    if (head.shape.unknown_rank) refuse(Code::invalid_argument, "its shape has no rank");
    count_strings(taken.strings, dtype, head.shape.sizes);
    if (head.content.empty()) return Filler(dtype, head.shape.sizes, proto, taken.padding).fill(proto);
    if (dtype == DType::string) refuse(Code::invalid_argument, "text is expected in string_val, not in tensor_content");
    return view_or_copy(dtype, head.shape.sizes, head.content);
}

Request decode(Bytes bytes) {
    Message message;
    Cursor in(bytes);
    parse(in, message);
    Request& request = message.request;
    // Of entries with one name the last counts.
    std::vector<const Named*> named;
    named.reserve(message.inputs.size());
    for (const Named& input : message.inputs) named.push_back(&input);
    std::stable_sort(named.begin(), named.end(), [](const Named* a, const Named* b) { return a->name < b->name; });
    Taken taken;
    request.inputs.reserve(named.size());
    for (size_t i = 0; i < named.size(); ++i) {
        if (i + 1 < named.size() && named[i]->name == named[i + 1]->name) continue;
        const Named& input = *named[i];
        request.inputs.push_back(
            {input.name, naming("input", input.name, [&] { return tensor_of_proto(input.value, taken); })});
    }
    check_distinct(request.outputs);
    return std::move(request);
}

std::string shape_message(const Shape& shape) {
    std::string out, size;
    for (const int64_t n : shape) {
        size.clear();
        put_number(size, 1, static_cast<uint64_t>(n));
        put_bytes(out, 2, size);
    }
    return out;
}

Pieces encode(const Request& request, const Answer& answer) {
    PieceWriter out;
    for (const NamedTensor& output : answer.outputs) {
        const Tensor& tensor = output.tensor;
        const int64_t number = tensorflow_number(tensor.dtype);
        if (number == 0)
            refuse(Code::unimplemented, "output ", in_quotes(output.name), " is of type ", dtype_name(tensor.dtype),
                   ", for which TensorFlow has no name");
        // The TensorProto but for the bytes at its end.
        std::string proto;
        put_number(proto, 1, static_cast<uint64_t>(number));
        put_bytes(proto, 2, shape_message(tensor.shape));
        Bytes content;
        if (tensor.dtype == DType::string) {
            for (int64_t i = 0; i < tensor.count(); ++i) put_bytes(proto, 8, tensor.as<std::string>()[i]);
        } else if (tensor.count() > 0) {
            content = memory_of(tensor);
            put_head(proto, 4, content.size());
        }
        std::string entry;
        put_text(entry, 1, output.name);
        put_head(entry, 2, proto.size() + content.size());
        put_head(out.text, 1, entry.size() + proto.size() + content.size());
        out.text += entry;
        out.text += proto;
        out.put(content);
    }
    std::string version, spec;
    put_number(version, 1, static_cast<uint64_t>(answer.version));
    put_text(spec, 1, answer.model);
    put_bytes(spec, 2, version);
    put_text(spec, 3, request.signature.empty() ? "serving_default" : request.signature);
    put_bytes(out.text, 2, spec);
    return out.finish();
}

}  // namespace

Request decode_tensorflow(Bytes predict_request) {
    return as_failures([&] { return decode(predict_request); });
}

Pieces encode_tensorflow(const Request& request, const Answer& answer) {
    return as_failures([&] { return encode(request, answer); });
}

}  // namespace linnet::serve
