// The Open Inference Protocol v2 over gRPC (protos/inference.proto).
#include <utility>

#include "serve/codecs.h"
#include "serve/parameters.h"
#include "serve/tensor_bytes.h"
#include "serve/wire_in.h"
#include "serve/wire_out.h"

namespace linnet::serve {

// Cursor finds the functions for a message in the namespace of its struct.
static void parse(Cursor& in, Parameter& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out = Parameter::of(in.varint("bool_param") != 0); break;
            case 2: out = Parameter::of(in.i64("int64_param")); break;
            case 3: out = Parameter::of(utf8(in, "string_param", SIZE_MAX)); break;
            case 4: out = Parameter::of(in.f64("double_param")); break;
            case 5: out = Parameter::of(in.varint("uint64_param")); break;
            default: break;
        }
    }
}

namespace {

struct Entry {  // of a map of parameters
    std::string_view key;
    Parameter value;
};

void parse(Cursor& in, Entry& out) {
    while (in.next()) {
        if (in.field() == 1) out.key = utf8(in, "key");
        else if (in.field() == 2) in.message("value", out.value);
    }
}

void count_parameter(const Cursor& in, size_t& count) {
    if (++count > kMostParameters) in.error("more than ", kMostParameters, " parameters");
}

}  // namespace

static void parse(Cursor& in, WantedOutput& out) {
    size_t parameters = 0;
    while (in.next()) {
        if (in.field() == 1) out.name = utf8(in, "name");
        if (in.field() != 2) continue;
        Entry entry;
        in.message("parameters", entry);
        count_parameter(in, parameters);
        naming("output", out.name, [&] { set_parameter(out, entry.key, entry.value); });
    }
}

namespace {

struct Input {
    std::string name, datatype;
    Shape shape;
    Bytes contents;  // InferTensorContents
    bool typed = false;
};

struct Message {
    Request request;
    std::vector<Input> inputs;
    std::vector<Bytes> raw;
    size_t parameters = 0;
};

void parse(Cursor& in, Input& out) {
    size_t parameters = 0;
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = utf8(in, "name"); break;
            case 2: out.datatype = utf8(in, "datatype"); break;
            case 3:
                in.each_varint("shape", [&](uint64_t size) {
                    if (out.shape.size() == kMostRank) in.error("a shape of more than ", kMostRank, " dimensions");
                    out.shape.push_back(static_cast<int64_t>(size));
                });
                break;
            case 4: {
                Entry entry;
                in.message("parameters", entry);
                count_parameter(in, parameters);
                naming("input", out.name, [&] { refuse_shared_memory(entry.key); });
                break;
            }
            case 5:
                if (out.typed) in.error("'contents' occurs twice");
                out.contents = in.bytes("contents");
                out.typed = true;
                break;
            default: break;
        }
    }
}

void parse(Cursor& in, Message& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.request.model = utf8(in, "model_name"); break;
            case 2: out.request.version = utf8(in, "model_version"); break;
            case 3: out.request.id = utf8(in, "id"); break;
            case 4: {
                Entry entry;
                in.message("parameters", entry);
                count_parameter(in, out.parameters);
                set_parameter(out.request, entry.key, entry.value);
                break;
            }
            case 5:
                if (out.inputs.size() == kMostTensors) in.error("more than ", kMostTensors, " inputs");
                in.message("inputs", out.inputs);
                break;
            case 6:
                if (out.request.outputs.size() == kMostTensors) in.error("more than ", kMostTensors, " outputs");
                in.message("outputs", out.request.outputs);
                break;
            case 7:
                if (out.raw.size() == kMostTensors) in.error("more than ", kMostTensors, " raw_input_contents");
                out.raw.push_back(in.bytes("raw_input_contents"));
                break;
            default: break;
        }
    }
}

// The lists of InferTensorContents by field number.
ListField list_of(DType dtype) {
    switch (dtype) {
        case DType::boolean: return {1, "bool_contents"};
        case DType::i8:
        case DType::i16:
        case DType::i32: return {2, "int_contents"};
        case DType::i64: return {3, "int64_contents"};
        case DType::u8:
        case DType::u16:
        case DType::u32: return {4, "uint_contents"};
        case DType::u64: return {5, "uint64_contents"};
        case DType::f32: return {6, "fp32_contents"};
        case DType::f64: return {7, "fp64_contents"};
        case DType::string: return {8, "bytes_contents"};
        default: return {0, ""};
    }
}

Tensor tensor_of_contents(DType dtype, const Input& input) {
    const ListField list = list_of(dtype);
    if (list.number == 0)
        refuse(Code::invalid_argument, oip_name(dtype), " elements travel in raw_input_contents only");
    const int64_t count = element_count(input.shape);
    // Each element takes a byte, so that memory is asked for within a multiple of what came.
    if (count > static_cast<int64_t>(input.contents.size()))
        refuse(Code::invalid_argument, "'contents' are too short for the ", count, " elements of shape ",
               shape_text(input.shape));
    ListFiller filler(dtype, input.shape, list);
    Cursor in(input.contents);
    while (in.next()) {
        if (in.field() > 8) continue;
        if (in.field() != list.number)
            refuse(Code::invalid_argument, "field ", in.field(), " of 'contents' where ", oip_name(dtype),
                   " elements are expected in ", list.name);
        switch (dtype) {
            case DType::boolean: filler.varints<bool, uint64_t>(in); break;
            case DType::i8: filler.varints<int8_t, int32_t>(in); break;
            case DType::i16: filler.varints<int16_t, int32_t>(in); break;
            case DType::i32: filler.varints<int32_t, int32_t>(in); break;
            case DType::i64: filler.varints<int64_t, int64_t>(in); break;
            case DType::u8: filler.varints<uint8_t, uint32_t>(in); break;
            case DType::u16: filler.varints<uint16_t, uint32_t>(in); break;
            case DType::u32: filler.varints<uint32_t, uint32_t>(in); break;
            case DType::u64: filler.varints<uint64_t, uint64_t>(in); break;
            case DType::string: filler.text(in); break;
            default: filler.bytes(in.fixed_bytes(list.name, dtype_size(dtype))); break;
        }
    }
    if (filler.done() != count)
        refuse(Code::invalid_argument, filler.done(), " elements in ", list.name, " where shape ",
               shape_text(input.shape), " has ", count);
    return std::move(filler.tensor());
}

Request decode(Bytes bytes) {
    Message message;
    Cursor in(bytes);
    parse(in, message);
    Request& request = message.request;
    const bool raw = !message.raw.empty();
    if (raw && message.raw.size() != message.inputs.size())
        refuse(Code::invalid_argument, message.raw.size(), " raw_input_contents for ", message.inputs.size(),
               " inputs: each input needs one, in the same order");
    request.raw = true;
    request.inputs.reserve(message.inputs.size());
    int64_t strings = 0;
    for (size_t i = 0; i < message.inputs.size(); ++i) {
        Input& input = message.inputs[i];
        Tensor tensor = naming("input", input.name, [&] {
            if (raw && input.typed)
                refuse(Code::invalid_argument, "has 'contents' although the request has raw_input_contents: all ",
                       "inputs must come in one of the two ways");
            const DType dtype = dtype_of_oip(input.datatype);
            if (dtype == DType::undefined)
                refuse(Code::invalid_argument, "no datatype is called ", in_quotes(input.datatype));
            request.raw = request.raw && !input.typed;
            count_strings(strings, dtype, input.shape);
            return raw ? tensor_of_raw(dtype, input.shape, message.raw[i]) : tensor_of_contents(dtype, input);
        });
        request.inputs.push_back({std::move(input.name), std::move(tensor)});
    }
    check_distinct(request.inputs);
    check_distinct(request.outputs);
    return std::move(request);
}

// InferTensorContents of a tensor.
std::string contents_of(const Tensor& tensor) {
    const ListField list = list_of(tensor.dtype);
    std::string out;
    const int64_t count = tensor.count();
    if (tensor.dtype == DType::string) {
        for (int64_t i = 0; i < count; ++i) put_bytes(out, list.number, tensor.as<std::string>()[i]);
        return out;
    }
    if (tensor.dtype == DType::f32 || tensor.dtype == DType::f64) {
        const Bytes memory = memory_of(tensor);
        if (count) put_bytes(out, list.number, {reinterpret_cast<const char*>(memory.data()), memory.size()});
        return out;
    }
    std::string elements;
    for (int64_t i = 0; i < count; ++i) put_varint(elements, static_cast<uint64_t>(int_at(tensor, i)));
    put_text(out, list.number, elements);
    return out;
}

Pieces encode(const Request& request, const Answer& answer) {
    const std::vector<NamedTensor> outputs = outputs_to_send(request, answer);
    // Typed lists to whoever sent them, unless an element type has none: raw contents are of all outputs or of none.
    bool raw = request.raw;
    for (const NamedTensor& output : outputs) {
        if (oip_name(output.tensor.dtype).empty())
            refuse(Code::unimplemented, "output ", in_quotes(output.name), " is of type ",
                   dtype_name(output.tensor.dtype), ", for which the protocol has no name");
        raw = raw || list_of(output.tensor.dtype).number == 0;
    }
    PieceWriter out;
    put_text(out.text, 1, answer.model);
    put_text(out.text, 2, std::to_string(answer.version));
    put_text(out.text, 3, request.id);
    for (const NamedTensor& output : outputs) {
        std::string head, sizes;
        put_text(head, 1, output.name);
        put_text(head, 2, oip_name(output.tensor.dtype));
        for (const int64_t size : output.tensor.shape) put_varint(sizes, static_cast<uint64_t>(size));
        put_text(head, 3, sizes);
        if (!raw) put_text(head, 5, contents_of(output.tensor));
        put_bytes(out.text, 5, head);
    }
    for (size_t i = 0; raw && i < outputs.size(); ++i) {
        const Tensor& tensor = outputs[i].tensor;
        if (tensor.dtype == DType::string) {
            put_bytes(out.text, 6, raw_text(tensor));
        } else {
            put_head(out.text, 6, tensor.bytes());
            out.put(memory_of(tensor));
        }
    }
    return out.finish();
}

}  // namespace

Request decode_oip(Bytes model_infer_request) {
    return as_failures([&] { return decode(model_infer_request); });
}

Pieces encode_oip(const Request& request, const Answer& answer) {
    return as_failures([&] { return encode(request, answer); });
}

Pieces encode_oip_stream(const Request& request, const Answer& answer) {
    Pieces response = encode_oip(request, answer);
    std::string head;
    put_head(head, 2, response.size());
    Pieces out;
    out.add(std::move(head));
    out.append(std::move(response));
    return out;
}

Pieces encode_oip_stream_error(std::string_view id, std::string_view message) {
    std::string response, text;
    put_text(response, 3, id);
    put_text(text, 1, message);
    put_text(text, 2, response);
    Pieces out;
    out.add(std::move(text));
    return out;
}

}  // namespace linnet::serve
