// A graph as an ONNX model again.
#pragma once
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "graph/graph.h"
#include "onnx/model.h"

namespace linnet {

struct SaveOptions {
    std::string producer_name = "linnet", producer_version, domain, doc_string, graph_doc_string;
    int64_t model_version = onnx::kNoVersion;
    int64_t ir_version = 0;  // 0: the least that the opset and the element types ask for
    std::vector<std::pair<std::string, std::string>> metadata;
    // save_onnx(): weights of a page or more go to a file of their own, "NAME.data" beside the model.
    bool external_data = false;
};

// A serialized ModelProto with the same inputs and outputs, under the same names; values inside get other names where
// two would be equal. Throws invalid_argument for a graph that ONNX cannot express: one that is lowered, an operator
// newer than the opset, more than 2 GiB.
std::string to_onnx(const Graph& graph, const SaveOptions& options = {});
// Writes it to a file; the weights beside it when asked for, or when one file cannot hold them.
void save_onnx(const Graph& graph, const std::filesystem::path& path, const SaveOptions& options = {});

}  // namespace linnet
