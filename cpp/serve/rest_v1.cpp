// TensorFlow Serving's REST: JSON by rows ("instances") or by columns ("inputs").
#include <algorithm>
#include <utility>

#include "serve/codecs.h"
#include "serve/json_tensor.h"
#include "serve/tensor_bytes.h"

namespace linnet::serve {
namespace {

using Kind = JsonReader::Kind;
using Ports = std::span<const PortInfo>;

DType dtype_of_port(const PortInfo& port) {
    if (port.fact.kind != Value::Kind::tensor)
        refuse(Code::invalid_argument, "is no tensor, and cannot be given as JSON");
    return port.fact.dtype;
}

const PortInfo& port_named(Ports ports, const std::string& name) {
    for (const PortInfo& port : ports)
        if (port.name == name) return port;
    std::string names;
    for (const PortInfo& port : ports) names += cat(names.empty() ? "" : ", ", in_quotes(port.name));
    refuse(Code::invalid_argument, "the model has no input ", in_quotes(name), "; its inputs are ", names);
}

const PortInfo& only_port(Ports ports, const char* key) {
    if (ports.size() == 1) return ports[0];
    refuse(Code::invalid_argument, "\"", key, "\" must name the inputs, since the model has ", ports.size());
}

bool is_base64(const JsonReader& in) {
    JsonReader ahead = in;
    std::string text;
    return take_base64(ahead, text);
}

// An input, as far as it was read.
struct Column {
    const PortInfo* port;
    ListReader list;
};

void read_rows(JsonReader& in, Ports ports, std::vector<NamedTensor>& inputs) {
    in.begin_array();
    JsonReader ahead = in;
    if (!ahead.next_element()) in.error("\"instances\" is empty");
    const bool named = ahead.kind() == Kind::object && !is_base64(ahead);
    std::vector<Column> columns;
    if (!named) {
        const PortInfo& port = only_port(ports, "instances");
        columns.push_back({&port, naming("input", port.name, [&] { return ListReader(dtype_of_port(port)); })});
    }
    std::string key;
    int64_t row = 0;
    for (; in.next_element(); ++row) {
        try {
            if (!named) {
                columns[0].list.read(in);
                continue;
            }
            if (in.kind() != Kind::object || is_base64(in)) in.error("an object with the inputs is expected");
            in.begin_object();
            size_t given = 0;
            while (in.next_key(key)) {
                auto column =
                    std::find_if(columns.begin(), columns.end(), [&](const Column& c) { return c.port->name == key; });
                if (column == columns.end()) {
                    const PortInfo& port = port_named(ports, key);
                    if (row > 0) in.error("input ", in_quotes(key), " is not in the instances before");
                    naming("input", key, [&] { columns.push_back({&port, ListReader(dtype_of_port(port))}); });
                    column = columns.end() - 1;
                }
                if (column->list.items() > row) in.error("input ", in_quotes(key), " is named twice");
                naming("input", key, [&] { column->list.read(in); });
                ++given;
            }
            if (given != columns.size())
                for (const Column& column : columns)
                    if (column.list.items() <= row) in.error("input ", in_quotes(column.port->name), " is missing");
        } catch (Failure& failure) {
            failure.add_context(cat("instances[", row, ']'));
            throw;
        }
    }
    for (Column& column : columns) {
        Shape shape{row};
        for (const int64_t size : column.list.item_shape()) shape.push_back(size);
        inputs.push_back({column.port->name, column.list.take(shape)});
    }
}

void read_column(JsonReader& in, const PortInfo& port, std::vector<NamedTensor>& inputs) {
    naming("input", port.name, [&] {
        ListReader list(dtype_of_port(port));
        list.read(in);
        const Shape shape = list.item_shape();
        inputs.push_back({port.name, list.take(shape)});
    });
}

void read_columns(JsonReader& in, Ports ports, std::vector<NamedTensor>& inputs) {
    if (in.kind() != Kind::object || is_base64(in)) return read_column(in, only_port(ports, "inputs"), inputs);
    std::string key;
    in.begin_object();
    while (in.next_key(key)) {
        const PortInfo& port = port_named(ports, key);
        if (inputs.size() == kMostTensors) in.error("more than ", kMostTensors, " inputs");
        read_column(in, port, inputs);
    }
    check_distinct(inputs);
}

Request decode(Bytes body, Ports ports) {
    JsonReader in(body);
    Request request;
    bool given = false;
    std::string key;
    in.begin_object();
    while (in.next_key(key)) {
        const bool rows = key == "instances";
        if (rows || key == "inputs") {
            if (given) in.error("only one of \"instances\" and \"inputs\" may be given, and once");
            given = true;
            request.rows = rows;
            if (rows) read_rows(in, ports, request.inputs);
            else read_columns(in, ports, request.inputs);
        } else if (key == "signature_name") {
            request.signature = in.text();
            if (request.signature.size() > kLongestName) in.error("\"signature_name\" is too long");
        } else {
            in.skip();
        }
    }
    in.finish();
    if (!given) refuse(Code::invalid_argument, "the request has neither \"instances\" nor \"inputs\"");
    return request;
}

// Text of these outputs is written as {"b64": "..."}; so is text that JSON cannot carry.
bool as_base64(const NamedTensor& output) {
    if (output.tensor.dtype != DType::string) return false;
    constexpr std::string_view kSuffix = "_bytes";
    const std::string& name = output.name;
    if (name.size() >= kSuffix.size() && name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0)
        return true;
    const std::span<const std::string> strings(output.tensor.as<std::string>(),
                                               static_cast<size_t>(output.tensor.count()));
    return !std::all_of(strings.begin(), strings.end(), [](const std::string& s) { return is_utf8(s); });
}

void put_tensor(std::string& json, const NamedTensor& output, size_t from, int64_t first, bool base64) {
    naming("output", output.name, [&] { put_json(json, output.tensor, from, first, base64); });
}

void put_rows(std::string& json, const std::vector<NamedTensor>& outputs, const std::vector<bool>& base64) {
    int64_t rows = -1;
    for (const auto& [name, tensor] : outputs) {
        const bool fits = tensor.rank() > 0 && (rows < 0 || tensor.shape[0] == rows);
        if (!fits)
            refuse(Code::invalid_argument, "output ", in_quotes(name), " of shape ", shape_text(tensor.shape),
                   " does not have a row for each of the instances: ask with \"inputs\" instead");
        rows = tensor.shape[0];
    }
    json += '[';
    for (int64_t row = 0; row < rows; ++row) {
        if (row) json += ',';
        if (outputs.size() > 1) json += '{';
        for (size_t i = 0; i < outputs.size(); ++i) {
            const auto& [name, tensor] = outputs[i];
            if (outputs.size() > 1) {
                if (i) json += ',';
                put_json(json, std::string_view(name));
                json += ':';
            }
            const int64_t first = row * product(tensor.shape, 1, tensor.shape.size());
            put_tensor(json, outputs[i], 1, first, base64[i]);
        }
        if (outputs.size() > 1) json += '}';
    }
    json += ']';
}

Pieces encode(const Request& request, const Answer& answer) {
    const std::vector<NamedTensor>& outputs = answer.outputs;
    std::vector<bool> base64;
    for (const NamedTensor& output : outputs) base64.push_back(as_base64(output));
    std::string json = request.rows ? "{\"predictions\":" : "{\"outputs\":";
    if (request.rows) {
        put_rows(json, outputs, base64);
    } else if (outputs.size() == 1) {
        put_tensor(json, outputs[0], 0, 0, base64[0]);
    } else {
        json += '{';
        for (size_t i = 0; i < outputs.size(); ++i) {
            if (i) json += ',';
            put_json(json, std::string_view(outputs[i].name));
            json += ':';
            put_tensor(json, outputs[i], 0, 0, base64[i]);
        }
        json += '}';
    }
    json += '}';
    Pieces out;
    out.add(std::move(json));
    return out;
}

}  // namespace

Request decode_rest_v1(Bytes body, Ports inputs) {
    return as_failures([&] { return decode(body, inputs); });
}

Pieces encode_rest_v1(const Request& request, const Answer& answer) {
    return as_failures([&] { return encode(request, answer); });
}

}  // namespace linnet::serve
