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
    std::string name, datatype;
    Shape shape;
    bool has_shape = false;
    int64_t binary_size = -1;  // bytes after the JSON; -1: none
    std::optional<JsonReader> data;
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

Input read_input(JsonReader& in) {
    Input input;
    std::string key;
    in.begin_object();
    while (in.next_key(key)) {
        if (key == "name") input.name = name_text(in);
        else if (key == "datatype") input.datatype = name_text(in);
        else if (key == "shape") {
            read_shape(in, input.shape);
            input.has_shape = true;
        } else if (key == "data") {  // read when the type is known
            if (input.data) in.error("\"data\" occurs twice");
            in.kind();
            input.data = in;
            in.skip();
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

Tensor tensor_of_data(DType dtype, const Input& input) {
    const int64_t count = element_count(input.shape);
    if (!input.data) {
        if (count == 0) return Tensor::allocate(dtype, input.shape);
        refuse(Code::invalid_argument, "has neither \"data\" nor \"binary_data_size\"");
    }
    JsonReader data = *input.data;
    if (data.kind() != Kind::array) data.error("\"data\" must be a list");
    ListReader list(dtype);
    list.read(data);
    // Flat, or nested as the shape is; lists without elements say too little.
    const Shape& found = list.item_shape();
    const bool fits =
        list.count() == count && (count == 0 || found.size() == 1 ||
                                  std::equal(found.begin(), found.end(), input.shape.begin(), input.shape.end()));
    if (!fits)
        refuse(Code::invalid_argument, "\"data\" of shape ", shape_text(found), " where \"shape\" is ",
               shape_text(input.shape));
    return list.take(input.shape);
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
    struct Wanted {
        WantedOutput output;
        bool says = false;  // whether it is binary
    };
    std::vector<Wanted> wanted;
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
                if (wanted.size() == kMostTensors) in.error("more than ", kMostTensors, " outputs");
                Wanted& output = wanted.emplace_back();
                std::string field;
                in.begin_object();
                while (in.next_key(field)) {
                    if (field == "name") output.output.name = name_text(in);
                    else if (field == "parameters")
                        read_parameters(in, [&](const std::string& name, const Parameter& value) {
                            set_parameter(output.output, name, value);
                            output.says = output.says || name == "binary_data";
                        });
                    else in.skip();
                }
            }
        } else {
            in.skip();
        }
    }
    in.finish();
    if (!has_inputs) refuse(Code::invalid_argument, "the request has no \"inputs\"");
    for (Wanted& output : wanted) {
        if (!output.says) output.output.binary = request.binary_outputs;
        request.outputs.push_back(std::move(output.output));
    }
    request.inputs.reserve(inputs.size());
    for (Input& input : inputs) {
        Tensor tensor = naming("input", input.name, [&] {
            const DType dtype = dtype_of_oip(input.datatype);
            if (dtype == DType::undefined)
                refuse(Code::invalid_argument, "no datatype is called ", in_quotes(input.datatype));
            if (!input.has_shape) refuse(Code::invalid_argument, "has no \"shape\"");
            if (input.binary_size < 0) return tensor_of_data(dtype, input);
            if (input.data) refuse(Code::invalid_argument, "has both \"data\" and \"binary_data_size\"");
            if (!binary)
                refuse(Code::invalid_argument, "has \"binary_data_size\", but the header ",
                       "Inference-Header-Content-Length is missing");
            if (static_cast<size_t>(input.binary_size) > after.size())
                refuse(Code::invalid_argument, "has \"binary_data_size\" ", input.binary_size, ", but only ",
                       after.size(), " bytes are left after the JSON and the inputs before");
            const Bytes own = after.first(static_cast<size_t>(input.binary_size));
            after = after.subspan(own.size());
            return tensor_of_raw(dtype, input.shape, own);
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
