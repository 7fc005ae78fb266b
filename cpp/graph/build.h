// Model -> Graph: names become indices, functions are inlined, subgraphs list what they take from outside, every
// operator is looked up, and facts are inferred.
#pragma once
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "graph/custom.h"
#include "graph/graph.h"
#include "onnx/model.h"

namespace linnet {

struct BuildOptions {
    // Symbolic input dimensions that are given a number, by symbol name (onnxruntime's free dimension overrides).
    std::map<std::string, int64_t> dimensions;
    std::map<std::string, int64_t> denotations;  // the same by what a dimension denotes ("DATA_BATCH")
    // Initializers of the model's graph, by name: tensors to take instead of the file's, and those that are listed as
    // inputs and shall be inputs.
    std::map<std::string, Tensor> initializers;
    std::set<std::string> fed;
    // Values of the model's graph, by name, that are outputs behind the model's own.
    std::vector<std::string> extra_outputs;
    // Where operators are looked up that Linnet does not have.
    std::shared_ptr<const CustomOps> custom = custom_ops();
    // Sizes with the same name need not be equal (for models whose names turn out to be wrong).
    bool distinct_dimensions = false;
};

// Throws invalid_graph, or not_implemented listing every unknown operator with its node's name.
std::unique_ptr<Graph> build_graph(const std::shared_ptr<const onnx::Model>& model, const BuildOptions& options = {});

// Sets the facts of all values from those of the inputs and constants (of subgraphs too: their captured inputs take the
// outer facts, and become constants where the outer value is one).
void refresh_facts(Graph& graph);

// The fact that a declared type says; symbols are made in `dims`.
Fact fact_of_type(const onnx::TypeProto& type, DimTable& dims, const BuildOptions& options, const std::string& name);

}  // namespace linnet
