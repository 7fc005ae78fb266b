// Serialized values, as the test data of the ONNX suite has them: TensorProto, and SequenceProto, OptionalProto and
// MapProto of onnx-data.proto.
#include "base/error.h"
#include "onnx/messages.h"
#include "onnx/tensor_data.h"

namespace linnet::onnx {

// The messages of onnx-data.proto, read straight into values (their bytes are gone afterwards, so tensors are copied).
struct SequenceData {
    std::string_view name;
    std::vector<Value> items;
};
struct OptionalData {
    std::string_view name;
    Value value;
};
struct MapData {
    std::string_view name;
    int32_t key_type = 0;
    std::vector<int64_t> keys;
    std::vector<std::string_view> string_keys;
    SequenceData values;
};

void parse(Cursor& in, SequenceData& out);
void parse(Cursor& in, OptionalData& out);
void parse(Cursor& in, MapData& out);

namespace {

template <class Proto>
Proto message(Cursor& in, const char* name, size_t index) {
    Proto proto;
    in.message(name, proto, static_cast<int64_t>(index));
    return proto;
}

// All values are scalars (or of one element) of one type: one tensor, in order.
Tensor joined(const std::vector<Value>& items) {
    if (items.empty()) return Tensor::allocate(DType::f32, {0});
    Tensor all = Tensor::allocate(items[0].tensor.dtype, {static_cast<int64_t>(items.size())});
    for (size_t i = 0; i < items.size(); ++i) {
        const Tensor& item = items[i].tensor;
        if (items[i].kind != Value::Kind::tensor || item.dtype != all.dtype || item.count() != 1)
            fail(ErrorKind::not_implemented, "a map whose values are not single numbers or strings of one type");
        Tensor place = all;
        place.shape = item.shape;
        place.data = static_cast<std::byte*>(all.data) + i * dtype_size(all.dtype);
        copy_elements(item, place);
    }
    return all;
}

Value map_value(const MapData& map) {
    Tensor keys;
    if (!map.string_keys.empty()) {
        keys = Tensor::allocate(DType::string, {static_cast<int64_t>(map.string_keys.size())});
        for (size_t i = 0; i < map.string_keys.size(); ++i) keys.as<std::string>()[i] = std::string(map.string_keys[i]);
    } else {
        keys = Tensor::vector(map.keys);
    }
    Tensor values = joined(map.values.items);
    if (keys.count() != values.count())
        fail(ErrorKind::invalid_protobuf, "a map of ", keys.count(), " keys and ", values.count(), " values");
    return Value::map(std::move(keys), std::move(values));
}

}  // namespace

void parse(Cursor& in, SequenceData& out) {
    while (in.next()) {
        const size_t index = out.items.size();
        switch (in.field()) {
            case 1: out.name = in.text("name"); break;
            case 3: out.items.emplace_back(decode_tensor(message<TensorProto>(in, "tensor_values", index), {})); break;
            case 4:
                out.items.emplace_back(
                    decode_sparse_tensor(message<SparseTensorProto>(in, "sparse_tensor_values", index), {}));
                break;
            case 5:
                out.items.push_back(Value::sequence(message<SequenceData>(in, "sequence_values", index).items));
                break;
            case 6: out.items.push_back(map_value(message<MapData>(in, "map_values", index))); break;
            case 7: out.items.push_back(message<OptionalData>(in, "optional_values", index).value); break;
        }
    }
}

void parse(Cursor& in, OptionalData& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = in.text("name"); break;
            case 3: out.value = decode_tensor(message<TensorProto>(in, "tensor_value", 0), {}); break;
            case 4:
                out.value = decode_sparse_tensor(message<SparseTensorProto>(in, "sparse_tensor_value", 0), {});
                break;
            case 5: out.value = Value::sequence(message<SequenceData>(in, "sequence_value", 0).items); break;
            case 6: out.value = map_value(message<MapData>(in, "map_value", 0)); break;
            case 7: out.value = message<OptionalData>(in, "optional_value", 0).value; break;
        }
    }
}

void parse(Cursor& in, MapData& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = in.text("name"); break;
            case 2: out.key_type = in.i32("key_type"); break;
            case 3: in.varints("keys", out.keys); break;
            case 4: out.string_keys.push_back(in.text("string_keys")); break;
            case 5: in.message("values", out.values); break;
        }
    }
}

Value read_value_pb(Bytes bytes, TypeProto::Kind kind, std::string* name) {
    using Kind = TypeProto::Kind;
    Cursor in(bytes);
    const auto read = [&](auto message, const auto& value) {
        parse(in, message);
        if (name) *name = std::string(message.name);
        return value(message);
    };
    switch (kind) {
        case Kind::sequence:
            return read(SequenceData{}, [](SequenceData& data) { return Value::sequence(std::move(data.items)); });
        case Kind::optional: return read(OptionalData{}, [](OptionalData& data) { return data.value; });
        case Kind::map: return read(MapData{}, [](MapData& data) { return map_value(data); });
        case Kind::sparse: {
            SparseTensorProto proto;
            parse(in, proto);
            if (name) *name = std::string(proto.values.name);
            return decode_sparse_tensor(proto, {});
        }
        default: return read(TensorProto{}, [](TensorProto& proto) { return Value(decode_tensor(proto, {})); });
    }
}

}  // namespace linnet::onnx
