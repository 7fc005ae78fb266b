// The wire writer: messages to bytes, the mirror of model.h.
#pragma once
#include <filesystem>
#include <string>

#include "onnx/model.h"

namespace linnet::onnx {

// Serialized ModelProto. Tensors are written as raw_data.
std::string write_model(const ModelProto& model);
// Writes to a temporary name beside `path` and renames it. Throws fail when the file cannot be written.
void write_file(const std::filesystem::path& path, const std::string& bytes);
void write_file(const std::filesystem::path& path, std::span<const Bytes> pieces);  // one after the other
// A TensorProto whose raw bytes are `tensor`'s (narrow types packed again); strings as string_data. `storage` keeps
// packed bytes alive for as long as the proto is used.
TensorProto tensor_proto(std::string_view name, const Tensor& tensor,
                         std::vector<std::shared_ptr<const void>>& storage);
// A serialized TensorProto / SequenceProto / OptionalProto.
std::string write_value_pb(const Value& value, std::string_view name = {});

}  // namespace linnet::onnx
