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

// What the inputs of one request take together.
struct Taken {
    int64_t padding = kMostPaddedBytes;  // left
    int64_t strings = 0;
};

void check_padding(int64_t missing, int64_t size, int64_t left) {
    if (missing > 0 && missing > left / size)
        refuse(Code::invalid_argument, missing,
               " of the elements that the shape has are not in the list: a request may ", "leave out elements of ",
               kMostPaddedBytes >> 20, " MiB in all");
}

// Real and imaginary parts, of `size` bytes each. `half`: a real part waits for its imaginary one.
void take_parts(ListFiller& filler, Bytes found, size_t size, bool& half) {
    for (size_t at = 0; at < found.size(); at += size) {
        filler.need_room(1);
        const auto part = static_cast<size_t>(filler.done()) * 2 + (half ? 1 : 0);
        std::memcpy(filler.tensor().as<std::byte>() + part * size, found.data() + at, size);
        if (half) filler.one_more();
        half = !half;
    }
}

void take_elements(ListFiller& filler, Cursor& in, const char* name, bool& half) {
    switch (filler.tensor().dtype) {
        case DType::string: return filler.text(in);
        case DType::f32: return filler.bytes(in.fixed_bytes(name, 4));
        case DType::f64: return filler.bytes(in.fixed_bytes(name, 8));
        case DType::c64: return take_parts(filler, in.fixed_bytes(name, 4), 4, half);
        case DType::c128: return take_parts(filler, in.fixed_bytes(name, 8), 8, half);
        case DType::i64: return filler.varints<int64_t, int64_t>(in);
        case DType::u64: return filler.varints<uint64_t, uint64_t>(in);
        case DType::u32: return filler.varints<uint32_t, uint32_t>(in);
        case DType::boolean: return filler.varints<bool, uint64_t>(in);
        case DType::i32: return filler.varints<int32_t, int32_t>(in);
        case DType::i16: return filler.varints<int16_t, int32_t>(in);
        case DType::i8: return filler.varints<int8_t, int32_t>(in);
        case DType::u8: return filler.varints<uint8_t, int32_t>(in);
        case DType::f16:
        case DType::bf16:  // bits
        case DType::u16: return filler.varints<uint16_t, int32_t>(in);
        case DType::i4: return filler.varints<int8_t, int32_t>(in, -8, 7);
        case DType::u4: return filler.varints<uint8_t, int32_t>(in, 0, 15);
        case DType::i2: return filler.varints<int8_t, int32_t>(in, -2, 1);
        case DType::u2: return filler.varints<uint8_t, int32_t>(in, 0, 3);
        default: return filler.bytes(in.bytes(name));  // float8_val
    }
}

// The last of the `done` elements is that of all that follow; without any, these are 0.
void pad(Tensor& tensor, int64_t done, int64_t count, int64_t& left) {
    if (done == count) return;
    if (tensor.dtype == DType::string) {
        auto* strings = tensor.as<std::string>();
        const std::string last = done ? strings[done - 1] : std::string();
        const auto size = static_cast<int64_t>(sizeof(std::string) + last.size());
        check_padding(count - done, size, left);
        left -= (count - done) * size;
        std::fill(strings + done, strings + count, last);
        return;
    }
    const size_t size = dtype_size(tensor.dtype);
    check_padding(count - done, static_cast<int64_t>(size), left);
    left -= (count - done) * static_cast<int64_t>(size);
    auto* const memory = tensor.as<std::byte>();
    if (done == 0) std::memset(memory, 0, static_cast<size_t>(count) * size);
    for (int64_t i = done; i < count && done > 0; ++i)
        std::memcpy(memory + static_cast<size_t>(i) * size, memory + static_cast<size_t>(done - 1) * size, size);
}

// The elements of the list of their type in a TensorProto.
Tensor tensor_of_list(DType dtype, const Shape& shape, Bytes proto, Taken& taken) {
    const ListField list = list_of(dtype);
    const size_t size = dtype == DType::string ? sizeof(std::string) : dtype_size(dtype);
    // An element takes a byte at least: how many are missing for sure is known before memory is asked for.
    check_padding(element_count(shape) - static_cast<int64_t>(proto.size()), static_cast<int64_t>(size), taken.padding);
    ListFiller filler(dtype, shape, list);
    bool half = false;
    Cursor in(proto);
    while (in.next())
        if (in.field() == list.number) take_elements(filler, in, list.name, half);
    if (half) refuse(Code::invalid_argument, list.name, " has an odd number of elements");
    pad(filler.tensor(), filler.done(), filler.count(), taken.padding);
    return std::move(filler.tensor());
}

Tensor tensor_of_proto(Bytes proto, Taken& taken) {
    Head head;
    Cursor in(proto);
    parse(in, head);
    const DType dtype = dtype_of_tensorflow(head.dtype);
    if (dtype == DType::undefined)
        refuse(Code::invalid_argument, "its dtype is number ", head.dtype, ", which is not supported");
    if (head.shape.unknown_rank) refuse(Code::invalid_argument, "its shape has no rank");
    count_strings(taken.strings, dtype, head.shape.sizes);
    if (head.content.empty()) return tensor_of_list(dtype, head.shape.sizes, proto, taken);
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
