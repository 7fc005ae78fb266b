// An ONNX file as it stands: the messages of onnx.proto as plain structs. Strings and raw tensor bytes are views into
// the file's bytes, which `Model::bytes` keeps alive. Nothing is interpreted here but the encoding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/tensor.h"

namespace linnet::onnx {

using Bytes = std::span<const std::byte>;
using StringPairs = std::vector<std::pair<std::string_view, std::string_view>>;

struct TensorProto {
    std::string_view name;
    int32_t data_type = 0;
    std::vector<int64_t> dims;
    bool has_raw = false;
    Bytes raw;
    std::vector<float> float_data;
    std::vector<double> double_data;
    std::vector<int32_t> int32_data;
    std::vector<int64_t> int64_data;
    std::vector<uint64_t> uint64_data;
    std::vector<std::string_view> string_data;
    StringPairs external_data;  // location, offset, length, checksum
    bool is_external = false;   // data_location == EXTERNAL
    std::string_view doc_string;
};

struct SparseTensorProto {
    TensorProto values, indices;
    std::vector<int64_t> dims;
};

struct DimProto {
    enum class Kind : uint8_t { unknown, value, param } kind = Kind::unknown;
    int64_t value = 0;
    std::string_view param;
    std::string_view denotation;
};

struct TypeProto {
    enum class Kind : uint8_t { none, tensor, sparse, sequence, optional, map } kind = Kind::none;
    int32_t elem_type = 0;  // of a (sparse) tensor; key type of a map
    bool has_shape = false;
    std::vector<DimProto> shape;
    std::vector<TypeProto> elem;  // always one item: the element of a sequence or optional, the value of a map
    std::string_view denotation;
};

struct ValueInfoProto {
    std::string_view name;
    TypeProto type;
    std::string_view doc_string;
};

struct GraphProto;

// AttributeProto.AttributeType's numbers.
// clang-format off
enum class AttributeType : uint8_t {
    undefined = 0, f = 1, i = 2, s = 3, t = 4, g = 5, floats = 6, ints = 7, strings = 8, tensors = 9, graphs = 10,
    sparse_tensor = 11, sparse_tensors = 12, type_proto = 13, type_protos = 14,
};
// clang-format on

struct AttributeProto {
    std::string_view name;
    std::string_view ref_attr_name;  // inside a function: take the caller's attribute of this name
    AttributeType type = AttributeType::undefined;
    float f = 0;
    int64_t i = 0;
    std::string_view s;
    std::vector<TensorProto> t;  // zero or one: AttributeType::t; more: tensors
    std::vector<GraphProto> g;   // zero or one: AttributeType::g; more: graphs
    std::vector<SparseTensorProto> sparse;
    std::vector<TypeProto> type_protos;
    std::vector<float> floats;
    std::vector<int64_t> ints;
    std::vector<std::string_view> strings;
};

struct NodeProto {
    std::string_view name, op_type, domain, overload, doc_string;
    std::vector<std::string_view> inputs, outputs;
    std::vector<AttributeProto> attributes;
    StringPairs metadata;
};

struct GraphProto {
    std::string_view name, doc_string;
    std::vector<NodeProto> nodes;
    std::vector<TensorProto> initializers;
    std::vector<SparseTensorProto> sparse_initializers;
    std::vector<ValueInfoProto> inputs, outputs, value_infos;
    StringPairs metadata;
};

struct OpsetId {
    std::string_view domain;
    int64_t version = 0;
};

struct FunctionProto {
    std::string_view name, domain, overload, doc_string;
    std::vector<std::string_view> inputs, outputs, attributes;
    std::vector<AttributeProto> attribute_defaults;
    std::vector<NodeProto> nodes;
    std::vector<OpsetId> opsets;
    std::vector<ValueInfoProto> value_infos;
};

// What a model without a version says it has, here as in onnxruntime.
constexpr int64_t kNoVersion = std::numeric_limits<int64_t>::max();

struct ModelProto {
    int64_t ir_version = 0;
    std::vector<OpsetId> opsets;
    std::string_view producer_name, producer_version, domain, doc_string;
    int64_t model_version = kNoVersion;
    GraphProto graph;
    std::vector<FunctionProto> functions;
    StringPairs metadata;
};

// Files with external data that are mapped at the moment (tensor_data.cpp).
struct ExternalFiles;

// A parsed model with what its views point into.
struct Model {
    ModelProto proto;
    std::shared_ptr<const void> bytes;  // keeps the file's bytes (and text made while parsing) alive
    std::filesystem::path folder;       // where external data may lie; empty for a model given as bytes
    std::string origin;                 // for messages: the path, or "model bytes"
    std::shared_ptr<ExternalFiles> external;
    Limits limits;
};

// Maps the file and parses it. Throws no_such_file or invalid_protobuf (the caller adds the path to the message).
std::shared_ptr<const Model> read_model(const std::filesystem::path& path, const Limits& limits = {});
// Parses bytes that `owner` keeps alive (pass null to have them copied). `folder`: where external data may lie; empty
// refuses external data.
std::shared_ptr<const Model> read_model(Bytes bytes, std::shared_ptr<const void> owner,
                                        const std::filesystem::path& folder = {}, std::string origin = "model bytes",
                                        const Limits& limits = {});

// The tensor that a TensorProto describes: a view into the model's bytes where the encoding and alignment allow, owned
// memory otherwise. 4- and 2-bit types are unpacked to a byte an element. Checks every size; external data is opened
// beneath the model's folder only (regular files, no links, within the file's length).
Tensor read_tensor(const Model& model, const TensorProto& proto);
// A dense tensor from a sparse one.
Tensor read_sparse_tensor(const Model& model, const SparseTensorProto& proto);
// A serialized TensorProto / SequenceProto / OptionalProto (the test data files of the ONNX suite) as a value.
Value read_value_pb(Bytes bytes, TypeProto::Kind kind = TypeProto::Kind::tensor, std::string* name = nullptr);

}  // namespace linnet::onnx
