// Messages to bytes. Every message is walked twice by the same code: once to learn the sizes (a nested message is
// preceded by its length), once to write; so weights are copied exactly once.
#include "onnx/writer.h"

#include "base/error.h"

namespace linnet::onnx {
namespace {

class Sink {
  public:
    // Measures `body`, then writes it.
    template <class Body>
    static std::string serialize(const Body& body) {
        Sink sink;
        body(sink);
        if (sink.size_ > kMaxBytes)
            fail(ErrorKind::invalid_argument, sink.size_, " bytes do not fit into one ONNX file, which holds at most ",
                 kMaxBytes, ": keep the weights in a file of their own (external data)");
        std::string out;
        out.reserve(sink.size_);
        sink.out_ = &out;
        sink.next_ = 0;
        body(sink);
        return out;
    }

    void varint(int field, uint64_t value) {
        tag(field, 0);
        number(value);
    }
    void i64(int field, int64_t value) { varint(field, static_cast<uint64_t>(value)); }
    void f32(int field, float value) {
        tag(field, 5);
        append(&value, sizeof value);
    }
    void bytes(int field, const void* data, size_t size) {
        tag(field, 2);
        number(size);
        append(data, size);
    }
    void text(int field, std::string_view value) { bytes(field, value.data(), value.size()); }
    void optional_text(int field, std::string_view value) {
        if (!value.empty()) text(field, value);
    }
    template <class T>
    void packed(int field, const std::vector<T>& values) {
        if (!values.empty()) bytes(field, values.data(), values.size() * sizeof(T));
    }
    template <class T>
    void packed_varints(int field, const std::vector<T>& values) {
        if (values.empty()) return;
        message(field, [&](Sink& s) {
            for (const T value : values) s.number(static_cast<uint64_t>(static_cast<int64_t>(value)));
        });
    }
    template <class Body>
    void message(int field, const Body& body) {
        tag(field, 2);
        const size_t slot = next_++;
        if (!out_) {
            lengths_.push_back(0);
            const size_t before = size_;
            body(*this);
            lengths_[slot] = size_ - before;
            number(lengths_[slot]);
        } else {
            number(lengths_[slot]);
            body(*this);
        }
    }
    void number(uint64_t value) {
        uint8_t buffer[10];
        size_t size = 0;
        for (; value >= 0x80; value >>= 7) buffer[size++] = static_cast<uint8_t>(value | 0x80);
        buffer[size++] = static_cast<uint8_t>(value);
        append(buffer, size);
    }

  private:
    static constexpr size_t kMaxBytes = (size_t{1} << 31) - 1;  // protobuf's limit, so that of every other reader

    void tag(int field, int wire) { number(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire)); }
    void append(const void* data, size_t size) {
        if (out_) out_->append(static_cast<const char*>(data), size);
        else size_ += size;
    }

    std::string* out_ = nullptr;  // null while measuring
    size_t size_ = 0;
    std::vector<size_t> lengths_;  // of the nested messages, in the order in which they begin
    size_t next_ = 0;
};

void write(Sink& out, const GraphProto& graph);

void write_pairs(Sink& out, int field, const StringPairs& pairs) {
    for (const auto& [key, value] : pairs)
        out.message(field, [&key = key, &value = value](Sink& s) {
            s.text(1, key);
            s.text(2, value);
        });
}

// A list of messages, each by the write() of its type.
template <class T>
void write_all(Sink& out, int field, const std::vector<T>& list) {
    for (const T& item : list) out.message(field, [&](Sink& s) { write(s, item); });
}

void write(Sink& out, const TensorProto& tensor) {
    for (const int64_t dim : tensor.dims) out.i64(1, dim);
    out.i64(2, tensor.data_type);
    out.packed(4, tensor.float_data);
    out.packed_varints(5, tensor.int32_data);
    for (const auto text : tensor.string_data) out.text(6, text);
    out.packed_varints(7, tensor.int64_data);
    out.optional_text(8, tensor.name);
    if (tensor.has_raw) out.bytes(9, tensor.raw.data(), tensor.raw.size());
    out.packed(10, tensor.double_data);
    out.packed_varints(11, tensor.uint64_data);
    out.optional_text(12, tensor.doc_string);
    write_pairs(out, 13, tensor.external_data);
    if (tensor.is_external) out.varint(14, 1);
}

void write(Sink& out, const SparseTensorProto& tensor) {
    out.message(1, [&](Sink& s) { write(s, tensor.values); });
    out.message(2, [&](Sink& s) { write(s, tensor.indices); });
    for (const int64_t dim : tensor.dims) out.i64(3, dim);
}

void write(Sink& out, const DimProto& dim) {
    if (dim.kind == DimProto::Kind::value) out.i64(1, dim.value);
    if (dim.kind == DimProto::Kind::param) out.text(2, dim.param);
    out.optional_text(3, dim.denotation);
}

void write(Sink& out, const TypeProto& type) {
    using Kind = TypeProto::Kind;
    const auto tensor = [&](Sink& s) {
        s.i64(1, type.elem_type);
        if (type.has_shape) s.message(2, [&](Sink& shape) { write_all(shape, 1, type.shape); });
    };
    const auto element = [&](Sink& s) { s.message(1, [&](Sink& inner) { write(inner, type.elem.at(0)); }); };
    switch (type.kind) {
        case Kind::none: break;
        case Kind::tensor: out.message(1, tensor); break;
        case Kind::sparse: out.message(8, tensor); break;
        case Kind::sequence: out.message(4, element); break;
        case Kind::optional: out.message(9, element); break;
        case Kind::map:
            out.message(5, [&](Sink& s) {
                s.i64(1, type.elem_type);
                s.message(2, [&](Sink& inner) { write(inner, type.elem.at(0)); });
            });
            break;
    }
    out.optional_text(6, type.denotation);
}

void write(Sink& out, const ValueInfoProto& info) {
    out.text(1, info.name);
    if (info.type.kind != TypeProto::Kind::none) out.message(2, [&](Sink& s) { write(s, info.type); });
    out.optional_text(3, info.doc_string);
}

void write(Sink& out, const AttributeProto& attribute) {
    using Type = AttributeType;
    out.text(1, attribute.name);
    switch (attribute.ref_attr_name.empty() ? attribute.type : Type::undefined) {
        case Type::undefined: break;
        case Type::f: out.f32(2, attribute.f); break;
        case Type::i: out.i64(3, attribute.i); break;
        case Type::s: out.text(4, attribute.s); break;
        case Type::t: out.message(5, [&](Sink& s) { write(s, attribute.t.at(0)); }); break;
        case Type::g: out.message(6, [&](Sink& s) { write(s, attribute.g.at(0)); }); break;
        case Type::floats:
            for (const float value : attribute.floats) out.f32(7, value);
            break;
        case Type::ints:
            for (const int64_t value : attribute.ints) out.i64(8, value);
            break;
        case Type::strings:
            for (const auto value : attribute.strings) out.text(9, value);
            break;
        case Type::tensors: write_all(out, 10, attribute.t); break;
        case Type::graphs: write_all(out, 11, attribute.g); break;
        case Type::sparse_tensor: out.message(22, [&](Sink& s) { write(s, attribute.sparse.at(0)); }); break;
        case Type::sparse_tensors: write_all(out, 23, attribute.sparse); break;
        case Type::type_proto: out.message(14, [&](Sink& s) { write(s, attribute.type_protos.at(0)); }); break;
        case Type::type_protos: write_all(out, 15, attribute.type_protos); break;
    }
    out.varint(20, static_cast<uint64_t>(attribute.type));
    out.optional_text(21, attribute.ref_attr_name);
}

void write(Sink& out, const NodeProto& node) {
    for (const auto name : node.inputs) out.text(1, name);
    for (const auto name : node.outputs) out.text(2, name);
    out.optional_text(3, node.name);
    out.text(4, node.op_type);
    write_all(out, 5, node.attributes);
    out.optional_text(6, node.doc_string);
    out.optional_text(7, node.domain);
    out.optional_text(8, node.overload);
    write_pairs(out, 9, node.metadata);
}

void write(Sink& out, const GraphProto& graph) {
    write_all(out, 1, graph.nodes);
    out.text(2, graph.name);
    write_all(out, 5, graph.initializers);
    out.optional_text(10, graph.doc_string);
    write_all(out, 11, graph.inputs);
    write_all(out, 12, graph.outputs);
    write_all(out, 13, graph.value_infos);
    write_all(out, 15, graph.sparse_initializers);
    write_pairs(out, 16, graph.metadata);
}

void write(Sink& out, const OpsetId& opset) {
    out.text(1, opset.domain);
    out.i64(2, opset.version);
}

void write(Sink& out, const FunctionProto& function) {
    out.text(1, function.name);
    for (const auto name : function.inputs) out.text(4, name);
    for (const auto name : function.outputs) out.text(5, name);
    for (const auto name : function.attributes) out.text(6, name);
    write_all(out, 7, function.nodes);
    out.optional_text(8, function.doc_string);
    write_all(out, 9, function.opsets);
    out.optional_text(10, function.domain);
    write_all(out, 11, function.attribute_defaults);
    write_all(out, 12, function.value_infos);
    out.optional_text(13, function.overload);
}

void write(Sink& out, const ModelProto& model) {
    out.i64(1, model.ir_version);
    out.optional_text(2, model.producer_name);
    out.optional_text(3, model.producer_version);
    out.optional_text(4, model.domain);
    if (model.model_version != kNoVersion) out.i64(5, model.model_version);
    out.optional_text(6, model.doc_string);
    out.message(7, [&](Sink& s) { write(s, model.graph); });
    write_all(out, 8, model.opsets);
    write_pairs(out, 14, model.metadata);
    write_all(out, 25, model.functions);
}

// SequenceProto's and OptionalProto's numbers for what they hold.
constexpr int64_t kHoldsTensor = 1, kHoldsSequence = 3, kHoldsMap = 4;

void write_value(Sink& out, const Value& value, std::string_view name);

void write_sequence(Sink& out, const std::vector<Value>& items, std::string_view name) {
    out.optional_text(1, name);
    const auto kind = items.empty() ? Value::Kind::tensor : items[0].kind;
    const bool sequences = kind == Value::Kind::sequence, maps = kind == Value::Kind::map;
    out.i64(2, sequences ? kHoldsSequence : maps ? kHoldsMap : kHoldsTensor);
    for (const Value& item : items) {
        if (item.kind != kind || kind == Value::Kind::absent)
            fail(ErrorKind::invalid_argument, "a sequence of different kinds of values cannot be written");
        out.message(sequences ? 5 : maps ? 6 : 3, [&](Sink& s) { write_value(s, item, {}); });
    }
}

void write_map(Sink& out, const std::vector<Value>& items, std::string_view name) {
    const Tensor& keys = items.at(0).tensor;
    const Tensor& values = items.at(1).tensor;
    out.optional_text(1, name);
    out.i64(2, static_cast<int64_t>(keys.dtype));
    for (int64_t i = 0; i < keys.count(); ++i) {
        if (keys.dtype == DType::string) out.text(4, keys.as<std::string>()[i]);
        else out.i64(3, int_at(keys, i));
    }
    out.message(5, [&](Sink& s) {
        s.i64(2, kHoldsTensor);
        for (int64_t i = 0; i < values.count(); ++i) {
            Tensor item = values;
            item.shape = {};
            item.data = static_cast<std::byte*>(values.data) + static_cast<size_t>(i) * dtype_size(values.dtype);
            s.message(3, [&](Sink& inner) { write_value(inner, item, {}); });
        }
    });
}

void write_value(Sink& out, const Value& value, std::string_view name) {
    switch (value.kind) {
        case Value::Kind::tensor: {
            std::vector<std::shared_ptr<const void>> storage;
            write(out, tensor_proto(name, value.tensor, storage));
            break;
        }
        case Value::Kind::sequence: write_sequence(out, *value.items, name); break;
        case Value::Kind::map: write_map(out, *value.items, name); break;
        case Value::Kind::absent: out.optional_text(1, name); break;  // an empty OptionalProto
    }
}

}  // namespace

std::string write_model(const ModelProto& model) {
    return Sink::serialize([&](Sink& out) { write(out, model); });
}

std::string write_value_pb(const Value& value, std::string_view name) {
    return Sink::serialize([&](Sink& out) { write_value(out, value, name); });
}

TensorProto tensor_proto(std::string_view name, const Tensor& tensor,
                         std::vector<std::shared_ptr<const void>>& storage) {
    TensorProto proto;
    proto.name = name;
    proto.data_type = static_cast<int32_t>(tensor.dtype);
    proto.dims.assign(tensor.shape.begin(), tensor.shape.end());
    storage.push_back(tensor.owner);
    const auto count = static_cast<size_t>(tensor.count());
    if (tensor.dtype == DType::string) {
        for (size_t i = 0; i < count; ++i) proto.string_data.push_back(tensor.as<std::string>()[i]);
        return proto;
    }
    proto.has_raw = true;
    const auto bits = static_cast<size_t>(dtype_file_bits(tensor.dtype));
    if (bits >= 8) {
        proto.raw = {static_cast<const std::byte*>(tensor.data), count * dtype_size(tensor.dtype)};
        return proto;
    }
    const size_t per_byte = 8 / bits;
    const auto packed = std::make_shared<std::vector<uint8_t>>((count + per_byte - 1) / per_byte);
    const uint8_t mask = static_cast<uint8_t>((1u << bits) - 1);
    for (size_t i = 0; i < count; ++i) {
        const auto value = static_cast<uint8_t>(tensor.as<uint8_t>()[i] & mask);
        (*packed)[i / per_byte] |= static_cast<uint8_t>(value << (i % per_byte * bits));
    }
    proto.raw = std::as_bytes(std::span<const uint8_t>(*packed));
    storage.push_back(packed);
    return proto;
}

}  // namespace linnet::onnx
