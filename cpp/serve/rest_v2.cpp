// REST v2: JSON with tensors inside it, or as raw bytes after it.
#include <algorithm>
#include <optional>
#include <utility>

#include "serve/codecs.h"
#include "serve/json_tensor.h"
#include "serve/parameters.h"
#include "serve/tensor_bytes.h"

namespace linnet::serve {
namespace {

using Kind = JsonReader::Kind;

struct Input {
    std::string name;
    DType dtype = DType::undefined;
    Shape shape;
    bool has_dtype = false, has_shape = false, has_data = false;
    int64_t binary_size = -1;             // bytes after the JSON; -1: none
    std::optional<JsonReader> postponed;  // where "data" begins, which came before the type and the shape
    Tensor tensor;                        // made of "data"
};

std::string name_text(JsonReader& in) {
    std::string text = in.text();
    if (text.size() > kLongestName) in.error("text of ", text.size(), " bytes, more than ", kLongestName);
    return text;
}

// Calls `set` with each parameter; values that are no parameters (null, lists, objects) are skipped.
template <class Fn>
void read_parameters(JsonReader& in, const Fn& set) {
    std::string key, text;
    size_t count = 0;
    in.begin_object();
    while (in.next_key(key)) {
        if (++count > kMostParameters) in.error("more than ", kMostParameters, " parameters");
        switch (in.kind()) {
            case Kind::boolean: set(key, Parameter::of(in.boolean())); break;
            case Kind::string:
                text = in.text();
                set(key, Parameter::of(std::string_view(text)));
                break;
            case Kind::number: {
                const JsonNumber number = in.number();
                uint64_t magnitude;
                if (!to_whole(number, magnitude)) set(key, Parameter::of(to_double(number)));
                else if (!number.negative) set(key, Parameter::of(magnitude));
                else if (magnitude <= uint64_t{1} << 63)
                    set(key, Parameter::of(static_cast<int64_t>(uint64_t{0} - magnitude)));
                else set(key, Parameter::of(to_double(number)));
                break;
            }
            default: in.skip();
        }
    }
}

void read_shape(JsonReader& in, Shape& shape) {
    shape = {};
    in.begin_array();
    while (in.next_element()) {
        const JsonNumber size = in.number();
        if (!size.whole || !size.exact || size.negative || size.digits >> 62 != 0)
            in.error(size.text.substr(0, 40), " is no size of a dimension");
        if (shape.size() == kMostRank) in.error("a shape of more than ", kMostRank, " dimensions");
        shape.push_back(static_cast<int64_t>(size.digits));
    }
}

// Reads "data".
Tensor tensor_of_data(JsonReader& in, const Input& input) {
    if (in.kind() != Kind::array) in.error("\"data\" must be a list");
    ListReader list(input.dtype);
    list.read(in);
    // Flat, or nested as the shape is; lists without elements say too little.
    const int64_t count = element_count(input.shape);
    const Shape& found = list.item_shape();
    const bool fits =
        list.count() == count && (count == 0 || found.size() == 1 ||
                                  std::equal(found.begin(), found.end(), input.shape.begin(), input.shape.end()));
    if (!fits)
        refuse(Code::invalid_argument, "\"data\" of shape ", shape_text(found), " where \"shape\" is ",
               shape_text(input.shape));
    return list.take(input.shape);
}

Input read_input(JsonReader& in) {
    Input input;
    const auto once = [&](bool& has, const char* key) {
        if (has) in.error('"', key, "\" occurs twice");
        has = true;
    };
    std::string key;
    in.begin_object();
    while (in.next_key(key)) {
        if (key == "name") {
            input.name = name_text(in);
        } else if (key == "datatype") {
            once(input.has_dtype, "datatype");
            const std::string datatype = name_text(in);
            input.dtype = dtype_of_oip(datatype);
            if (input.dtype == DType::undefined)
                naming("input", input.name,
                       [&] { refuse(Code::invalid_argument, "no datatype is called ", in_quotes(datatype)); });
        } else if (key == "shape") {
            once(input.has_shape, "shape");
            read_shape(in, input.shape);
        } else if (key == "data") {
            once(input.has_data, "data");
            if (input.has_dtype && input.has_shape) {
                input.tensor = naming("input", input.name, [&] { return tensor_of_data(in, input); });
            } else {
                input.postponed = in;
                in.skip();
            }
        } else if (key == "parameters") {
            read_parameters(in, [&](const std::string& name, const Parameter& value) {
                refuse_shared_memory(name);
                if (name != "binary_data_size") return;
                if (value.kind != Parameter::Kind::natural || value.bits >> 62 != 0)
                    in.error("\"binary_data_size\" must be a whole number that is not negative");
                input.binary_size = static_cast<int64_t>(value.bits);
            });
        } else {
            in.skip();
        }
    }
    return input;
}

// The tensor of an input. `after`: the bytes after the JSON that are not yet taken; null: none can follow.
Tensor tensor_of(Input& input, Bytes* after) {
    if (!input.has_dtype) refuse(Code::invalid_argument, "has no \"datatype\"");
    if (!input.has_shape) refuse(Code::invalid_argument, "has no \"shape\"");
    if (input.binary_size < 0) {
        if (input.postponed) return tensor_of_data(*input.postponed, input);
        if (input.has_data) return std::move(input.tensor);
        if (element_count(input.shape) == 0) return Tensor::allocate(input.dtype, input.shape);
        refuse(Code::invalid_argument, "has neither \"data\" nor \"binary_data_size\"");
    }
    if (input.has_data) refuse(Code::invalid_argument, "has both \"data\" and \"binary_data_size\"");
    if (!after)
        refuse(Code::invalid_argument,
               "has \"binary_data_size\", but the header Inference-Header-Content-Length is missing");
    if (static_cast<size_t>(input.binary_size) > after->size())
        refuse(Code::invalid_argument, "has \"binary_data_size\" ", input.binary_size, ", but only ", after->size(),
               " bytes are left after the JSON and the inputs before");
    const Bytes own = after->first(static_cast<size_t>(input.binary_size));
    *after = after->subspan(own.size());
    return tensor_of_raw(input.dtype, input.shape, own);
}

// An element of "outputs". `says_binary`: whether it says so itself.
WantedOutput read_output(JsonReader& in, bool& says_binary) {
    WantedOutput output;
    std::string key;
    says_binary = false;
    in.begin_object();
    while (in.next_key(key)) {
        if (key == "name") {
            output.name = name_text(in);
        } else if (key == "parameters") {
            read_parameters(in, [&](const std::string& name, const Parameter& value) {
                set_parameter(output, name, value);
                says_binary = says_binary || name == "binary_data";
            });
        } else {
            in.skip();
        }
    }
    return output;
}

Request decode(Bytes body, int64_t json_size) {
    if (json_size > static_cast<int64_t>(body.size()))
        refuse(Code::invalid_argument, "Inference-Header-Content-Length is ", json_size, ", but the body has only ",
               body.size(), " bytes");
    const bool binary = json_size >= 0;
    JsonReader in(binary ? body.first(static_cast<size_t>(json_size)) : body);
    Bytes after = binary ? body.subspan(static_cast<size_t>(json_size)) : Bytes{};
    Request request;
    std::vector<Input> inputs;
    std::vector<bool> says_binary;  // of the outputs
    bool has_inputs = false;
    std::string key;
    in.begin_object();
    while (in.next_key(key)) {
        if (key == "id") {
            request.id = name_text(in);
        } else if (key == "parameters") {
            read_parameters(
                in, [&](const std::string& name, const Parameter& value) { set_parameter(request, name, value); });
        } else if (key == "inputs") {
            if (has_inputs) in.error("\"inputs\" occurs twice");
            has_inputs = true;
            in.begin_array();
            while (in.next_element()) {
                if (inputs.size() == kMostTensors) in.error("more than ", kMostTensors, " inputs");
                inputs.push_back(read_input(in));
            }
        } else if (key == "outputs") {
            in.begin_array();
            while (in.next_element()) {
                if (request.outputs.size() == kMostTensors) in.error("more than ", kMostTensors, " outputs");
                bool says = false;
                request.outputs.push_back(read_output(in, says));
                says_binary.push_back(says);
            }
        } else {
            in.skip();
        }
    }
    in.finish();
    if (!has_inputs) refuse(Code::invalid_argument, "the request has no \"inputs\"");
    for (size_t i = 0; i < request.outputs.size(); ++i)
        if (!says_binary[i]) request.outputs[i].binary = request.binary_outputs;
    request.inputs.reserve(inputs.size());
    int64_t strings = 0;
    for (Input& input : inputs) {
        Tensor tensor = naming("input", input.name, [&] {
            count_strings(strings, input.dtype, input.shape);
            return tensor_of(input, binary ? &after : nullptr);
        });
        request.inputs.push_back({std::move(input.name), std::move(tensor)});
    }
    if (!after.empty()) refuse(Code::invalid_argument, after.size(), " bytes follow after those of the last input");
    check_distinct(request.inputs);
    check_distinct(request.outputs);
    return request;
}

Pieces encode(const Request& request, const Answer& answer, int64_t& json_size) {
    const std::vector<NamedTensor> outputs = outputs_to_send(request, answer);
    Pieces binary;
    bool any_binary = false;
    std::string json = "{\"model_name\":";
    put_json(json, std::string_view(answer.model));
    json += cat(",\"model_version\":\"", answer.version, "\"");
    if (!request.id.empty()) {
        json += ",\"id\":";
        put_json(json, std::string_view(request.id));
    }
    json += ",\"outputs\":[";
    for (size_t i = 0; i < outputs.size(); ++i) {
        const auto& [name, tensor] = outputs[i];
        const std::string_view datatype = oip_name(tensor.dtype);
        if (datatype.empty())
            refuse(Code::unimplemented, "output ", in_quotes(name), " is of type ", dtype_name(tensor.dtype),
                   ", for which the protocol has no name");
        json += i ? ",{\"name\":" : "{\"name\":";
        put_json(json, std::string_view(name));
        json += cat(",\"datatype\":\"", datatype, "\",\"shape\":[");
        for (size_t d = 0; d < tensor.shape.size(); ++d) json += cat(d ? "," : "", tensor.shape[d]);
        const bool as_bytes = i < request.outputs.size() ? request.outputs[i].binary : request.binary_outputs;
        if (as_bytes) {
            any_binary = true;
            const size_t before = binary.size();
            if (tensor.dtype == DType::string) binary.add(raw_text(tensor));
            else binary.add(memory_of(tensor));
            json += cat("],\"parameters\":{\"binary_data_size\":", binary.size() - before, "}}");
        } else {
            json += "],\"data\":";
            naming("output", name, [&, &tensor = tensor] { put_json_flat(json, tensor); });
            json += '}';
        }
    }
    json += "]}";
    json_size = any_binary ? static_cast<int64_t>(json.size()) : -1;
    Pieces out;
    out.add(std::move(json));
    out.append(std::move(binary));
    return out;
}

}  // namespace

Request decode_rest_v2(Bytes body, int64_t json_size) {
    return as_failures([&] { return decode(body, json_size); });
}

Pieces encode_rest_v2(const Request& request, const Answer& answer, int64_t& json_size) {
    return as_failures([&] { return encode(request, answer, json_size); });
}

}  // namespace linnet::serve
