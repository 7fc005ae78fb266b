// The messages of onnx.proto, field by field. Fields that say nothing about what a model computes (device
// configurations, training, quantization annotations) are skipped, as are fields that are not known.
#include <algorithm>

#include "base/mapped_file.h"
#include "base/shape.h"
#include "onnx/messages.h"
#include "onnx/tensor_data.h"

namespace linnet::onnx {
namespace {

constexpr size_t kMaxRank = 64;

struct Pair : std::pair<std::string_view, std::string_view> {};
struct ShapeProto {
    std::vector<DimProto> dims;
};
// The messages inside TypeProto that hold a type and a shape or another type.
struct TensorType {
    TypeProto* out;
};
struct ElementType {
    TypeProto* out;
};
struct MapType {
    TypeProto* out;
};

void parse(Cursor& in, Pair& out) {
    while (in.next()) {
        if (in.field() == 1) out.first = in.text("key");
        else if (in.field() == 2) out.second = in.text("value");
    }
}

void parse(Cursor& in, ShapeProto& out) {
    while (in.next()) {
        if (in.field() != 1) continue;
        if (out.dims.size() == kMaxRank) in.error("more than ", kMaxRank, " dimensions");
        in.message("dim", out.dims);
    }
}

void parse(Cursor& in, TensorType& type) {
    while (in.next()) {
        if (in.field() == 1) {
            type.out->elem_type = in.i32("elem_type");
        } else if (in.field() == 2) {
            ShapeProto shape{std::move(type.out->shape)};
            in.message("shape", shape);
            type.out->shape = std::move(shape.dims);
            type.out->has_shape = true;
        }
    }
}

void parse(Cursor& in, ElementType& type) {
    while (in.next())
        if (in.field() == 1) in.message("elem_type", type.out->elem.front());
}

void parse(Cursor& in, MapType& type) {
    while (in.next()) {
        if (in.field() == 1) type.out->elem_type = in.i32("key_type");
        else if (in.field() == 2) in.message("value_type", type.out->elem.front());
    }
}

void add_pair(Cursor& in, const char* name, StringPairs& list) {
    Pair pair;
    in.message(name, pair, static_cast<int64_t>(list.size()));
    list.push_back(pair);
}

// Makes `out` a type of this kind; the last member of a oneof wins, the same one again merges.
TypeProto* become(TypeProto& out, TypeProto::Kind kind) {
    if (out.kind != kind) {
        const std::string_view denotation = out.denotation;
        out = TypeProto{};
        out.kind = kind;
        out.denotation = denotation;
        if (kind != TypeProto::Kind::tensor && kind != TypeProto::Kind::sparse) out.elem.resize(1);
    }
    return &out;
}

}  // namespace

void parse(Cursor& in, OpsetId& out) {
    while (in.next()) {
        if (in.field() == 1) out.domain = in.text("domain");
        else if (in.field() == 2) out.version = in.i64("version");
    }
}

void parse(Cursor& in, DimProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1:
                out.kind = DimProto::Kind::value;
                out.value = in.i64("dim_value");
                break;
            case 2:
                out.kind = DimProto::Kind::param;
                out.param = in.text("dim_param");
                break;
            case 3: out.denotation = in.text("denotation"); break;
        }
    }
}

void parse(Cursor& in, ValueInfoProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = in.text("name"); break;
            case 2: in.message("type", out.type); break;
            case 3: out.doc_string = in.text("doc_string"); break;
        }
    }
}

void parse(Cursor& in, FunctionProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = in.text("name"); break;
            case 4: out.inputs.push_back(in.text("input")); break;
            case 5: out.outputs.push_back(in.text("output")); break;
            case 6: out.attributes.push_back(in.text("attribute")); break;
            case 7: in.message("node", out.nodes); break;
            case 8: out.doc_string = in.text("doc_string"); break;
            case 9: in.message("opset_import", out.opsets); break;
            case 10: out.domain = in.text("domain"); break;
            case 11: in.message("attribute_proto", out.attribute_defaults); break;
            case 12: in.message("value_info", out.value_infos); break;
            case 13: out.overload = in.text("overload"); break;
        }
    }
}

void parse(Cursor& in, TensorProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1:
                in.varints("dims", out.dims);
                if (out.dims.size() > kMaxRank) in.error("a tensor of more than ", kMaxRank, " dimensions");
                break;
            case 2: out.data_type = in.i32("data_type"); break;
            case 3: in.error("a tensor in segments, which no tool writes and Linnet does not read"); break;
            case 4: in.fixed("float_data", out.float_data); break;
            case 5: in.varints("int32_data", out.int32_data); break;
            case 6: out.string_data.push_back(in.text("string_data")); break;
            case 7: in.varints("int64_data", out.int64_data); break;
            case 8: out.name = in.text("name"); break;
            case 9:
                out.raw = in.bytes("raw_data");
                out.has_raw = true;
                break;
            case 10: in.fixed("double_data", out.double_data); break;
            case 11: in.varints("uint64_data", out.uint64_data); break;
            case 12: out.doc_string = in.text("doc_string"); break;
            case 13: add_pair(in, "external_data", out.external_data); break;
            case 14: {
                const int32_t location = in.i32("data_location");
                if (location != 0 && location != 1) in.error("data_location ", location, ": 0 or 1 expected");
                out.is_external = location == 1;
                break;
            }
        }
    }
}

void parse(Cursor& in, SparseTensorProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: in.message("values", out.values); break;
            case 2: in.message("indices", out.indices); break;
            case 3:
                in.varints("dims", out.dims);
                if (out.dims.size() > kMaxRank) in.error("a tensor of more than ", kMaxRank, " dimensions");
                break;
        }
    }
}

void parse(Cursor& in, TypeProto& out) {
    using Kind = TypeProto::Kind;
    while (in.next()) {
        switch (in.field()) {
            case 1:
            case 8: {
                const bool dense = in.field() == 1;
                TensorType type{become(out, dense ? Kind::tensor : Kind::sparse)};
                in.message(dense ? "tensor_type" : "sparse_tensor_type", type);
                break;
            }
            case 4:
            case 9: {
                const bool sequence = in.field() == 4;
                ElementType type{become(out, sequence ? Kind::sequence : Kind::optional)};
                in.message(sequence ? "sequence_type" : "optional_type", type);
                break;
            }
            case 5: {
                MapType type{become(out, Kind::map)};
                in.message("map_type", type);
                break;
            }
            case 6: out.denotation = in.text("denotation"); break;
            case 7: in.error("an opaque type, which ONNX's own operators do not use and Linnet does not read"); break;
        }
    }
}

void parse(Cursor& in, AttributeProto& out) {
    // A field that should occur once merges; the repeated one beside it has a list of its own.
    std::vector<TensorProto> tensor, tensors;
    std::vector<GraphProto> graph, graphs;
    std::vector<SparseTensorProto> sparse, sparses;
    std::vector<TypeProto> type, types;
    const auto once = [&](const char* name, auto& list) {
        if (list.empty()) list.emplace_back();
        in.message(name, list.front());
    };
    uint32_t seen = 0;  // bit n: a value for AttributeType n
    while (in.next()) {
        switch (in.field()) {
            case 1: out.name = in.text("name"); continue;
            case 20: {
                const int32_t number = in.i32("type");
                if (number < 0 || number > 14) in.error("an attribute type of ", number);
                out.type = static_cast<AttributeType>(number);
                continue;
            }
            case 21: out.ref_attr_name = in.text("ref_attr_name"); continue;
            case 2: out.f = in.f32("f"), seen |= 1u << 1; continue;
            case 3: out.i = in.i64("i"), seen |= 1u << 2; continue;
            case 4: out.s = in.text("s"), seen |= 1u << 3; continue;
            case 5: once("t", tensor), seen |= 1u << 4; continue;
            case 6: once("g", graph), seen |= 1u << 5; continue;
            case 7: in.fixed("floats", out.floats), seen |= 1u << 6; continue;
            case 8: in.varints("ints", out.ints), seen |= 1u << 7; continue;
            case 9: out.strings.push_back(in.text("strings")), seen |= 1u << 8; continue;
            case 10: in.message("tensors", tensors), seen |= 1u << 9; continue;
            case 11: in.message("graphs", graphs), seen |= 1u << 10; continue;
            case 14: once("tp", type), seen |= 1u << 13; continue;
            case 15: in.message("type_protos", types), seen |= 1u << 14; continue;
            case 22: once("sparse_tensor", sparse), seen |= 1u << 11; continue;
            case 23: in.message("sparse_tensors", sparses), seen |= 1u << 12; continue;
        }
    }
    if (out.type == AttributeType::undefined && seen != 0 && (seen & (seen - 1)) == 0) {
        // The first versions of ONNX had no type: the only value tells it.
        uint8_t number = 0;
        while (seen >> number != 1) ++number;
        out.type = static_cast<AttributeType>(number);
    }
    const auto needs = [&](AttributeType of, const auto& list) {
        if (out.type == of && list.empty() && out.ref_attr_name.empty())
            in.error("attribute '", out.name, "' has no value of its type");
    };
    needs(AttributeType::t, tensor);
    needs(AttributeType::g, graph);
    needs(AttributeType::sparse_tensor, sparse);
    needs(AttributeType::type_proto, type);
    out.t = std::move(out.type == AttributeType::tensors ? tensors : tensor);
    out.g = std::move(out.type == AttributeType::graphs ? graphs : graph);
    out.sparse = std::move(out.type == AttributeType::sparse_tensors ? sparses : sparse);
    out.type_protos = std::move(out.type == AttributeType::type_protos ? types : type);
}

void parse(Cursor& in, NodeProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: out.inputs.push_back(in.text("input")); break;
            case 2: out.outputs.push_back(in.text("output")); break;
            case 3: out.name = in.text("name"); break;
            case 4: out.op_type = in.text("op_type"); break;
            case 5: in.message("attribute", out.attributes); break;
            case 6: out.doc_string = in.text("doc_string"); break;
            case 7: out.domain = in.text("domain"); break;
            case 8: out.overload = in.text("overload"); break;
            case 9: add_pair(in, "metadata_props", out.metadata); break;
        }
    }
}

void parse(Cursor& in, GraphProto& out) {
    while (in.next()) {
        switch (in.field()) {
            case 1: in.message("node", out.nodes); break;
            case 2: out.name = in.text("name"); break;
            case 5: in.message("initializer", out.initializers); break;
            case 10: out.doc_string = in.text("doc_string"); break;
            case 11: in.message("input", out.inputs); break;
            case 12: in.message("output", out.outputs); break;
            case 13: in.message("value_info", out.value_infos); break;
            case 15: in.message("sparse_initializer", out.sparse_initializers); break;
            case 16: add_pair(in, "metadata_props", out.metadata); break;
        }
    }
}

void parse(Cursor& in, ModelProto& out) {
    bool has_graph = false;
    while (in.next()) {
        switch (in.field()) {
            case 1: out.ir_version = in.i64("ir_version"); break;
            case 2: out.producer_name = in.text("producer_name"); break;
            case 3: out.producer_version = in.text("producer_version"); break;
            case 4: out.domain = in.text("domain"); break;
            case 5: out.model_version = in.i64("model_version"); break;
            case 6: out.doc_string = in.text("doc_string"); break;
            case 7:
                in.message("graph", out.graph);
                has_graph = true;
                break;
            case 8: in.message("opset_import", out.opsets); break;
            case 14: add_pair(in, "metadata_props", out.metadata); break;
            case 25: in.message("functions", out.functions); break;
        }
    }
    if (!has_graph) in.error("the model has no graph");
}

std::shared_ptr<const Model> read_model(Bytes bytes, std::shared_ptr<const void> owner,
                                        const std::filesystem::path& folder, std::string origin, const Limits& limits) {
    const auto size = static_cast<int64_t>(bytes.size());
    if (size > limits.model_bytes)
        fail(ErrorKind::invalid_argument, "the model has ", size, " bytes, more than the ", limits.model_bytes,
             " that are allowed (option max_model_bytes)");
    auto model = std::make_shared<Model>();
    model->limits = limits;
    if (!owner) {
        const auto copy = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
        bytes = *copy;
        owner = copy;
    }
    model->bytes = std::move(owner);
    model->folder = folder;
    model->origin = std::move(origin);
    model->external = std::make_shared<ExternalFiles>();
    model->external->most_bytes = limits.model_bytes - size;
    if (bytes.empty()) fail(ErrorKind::invalid_protobuf, "not an ONNX model: there is not a single byte");
    try {
        Cursor in(bytes);
        parse(in, model->proto);
    } catch (const Error& error) {
        const std::string_view other = recognise(bytes);
        if (!other.empty()) fail(ErrorKind::invalid_protobuf, "not an ONNX model; it looks like ", other);
        fail(error.kind(), "not a readable ONNX model: ", error.message());
    }
    return model;
}

std::shared_ptr<const Model> read_model(const std::filesystem::path& path, const Limits& limits) {
    const auto file = map_file(path);
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    return read_model(file->bytes(), file, folder, path.string(), limits);
}

}  // namespace linnet::onnx
