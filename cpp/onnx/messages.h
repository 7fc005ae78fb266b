// Parsers of the single messages of onnx.proto; parsing into an object that has contents merges, as protobuf says.
#pragma once
#include "onnx/model.h"
#include "onnx/wire.h"

namespace linnet::onnx {

void parse(Cursor& in, OpsetId& out);
void parse(Cursor& in, DimProto& out);
void parse(Cursor& in, ValueInfoProto& out);
void parse(Cursor& in, FunctionProto& out);
void parse(Cursor& in, TensorProto& out);
void parse(Cursor& in, SparseTensorProto& out);
void parse(Cursor& in, TypeProto& out);
void parse(Cursor& in, AttributeProto& out);
void parse(Cursor& in, NodeProto& out);
void parse(Cursor& in, GraphProto& out);
void parse(Cursor& in, ModelProto& out);

// What a file that is no ONNX model seems to be ("a zip archive, as PyTorch and Keras write them"); empty when unknown.
std::string_view recognise(Bytes bytes);

}  // namespace linnet::onnx
