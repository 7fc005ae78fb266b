// Tensors in files: .npy (numpy's format, versions 1 to 3) and .pb (a serialized TensorProto, as ONNX test data has
// it).
#pragma once
#include <filesystem>
#include <string>

#include "base/tensor.h"
#include "graph/fact.h"

namespace linnet::tools {

// The whole file. Throws no_such_file.
std::string read_text(const std::filesystem::path& path);

// `bytes` of a .npy file. Numbers and bools, little-endian; Fortran order is turned into C order. Throws
// invalid_argument.
Tensor parse_npy(const std::string& bytes);
std::string write_npy(const Tensor& tensor);

// A value from a .npy or .pb file. `fact`: what the model says of it (a .pb file does not say whether it holds a tensor
// or a sequence; an .npy file does not know bfloat16 and the narrow types: uint16 and uint8 stand for them).
Value read_value(const std::filesystem::path& path, const Fact& fact);

}  // namespace linnet::tools
