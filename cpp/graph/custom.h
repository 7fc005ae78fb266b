// Operators that a program adds at run time to those of ops/. One list serves the process; a model keeps the list that
// there was when it was loaded.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "graph/op.h"

namespace linnet {

// What a registered operator is given to run: inputs and attributes through `context`, outputs through put and
// allocate.
class CustomRun {
  public:
    explicit CustomRun(RunContext& context);

    const RunContext& context;

    // Memory for output i, which need not be one that the node names. Throws invalid_argument when it contradicts what
    // infer has said, or is made twice.
    Tensor& allocate(int i, DType dtype, const Shape& shape);
    // The same with a value, whose elements are copied unless they have an owner.
    void put(int i, const Value& value);
    // Throws runtime when an output that the node names is missing.
    void check_outputs() const;
    // What infer has said of output i, as far as it knew; null beyond the node's outputs.
    const Fact* fact(int i) const;

  private:
    void check(int i, const Fact& given);
    RunContext& context_;
    std::vector<char> made_;
    std::vector<std::unique_ptr<Tensor>> unused_;  // outputs that the node does not name
};

// A registered operator; a face derives its own, with what its functions need.
struct CustomOp : OpDef {
    CustomOp(std::string domain, std::string name, int since);
    CustomOp(const CustomOp&) = delete;  // OpDef's views show the texts here
    CustomOp& operator=(const CustomOp&) = delete;

    const std::string domain_text, name_text;
    // Facts of the outputs; null: nothing is known of them until they are there. Called as OpDef::infer is.
    void (*infer_outputs)(const CustomOp&, InferContext&) = nullptr;
    // From several threads at once, where a session is run by several.
    void (*compute)(const CustomOp&, CustomRun&) = nullptr;
};

struct CustomOps {
    std::vector<std::shared_ptr<const CustomOp>> rows;

    // The newest row of at most that version; null when there is none.
    const OpDef* find(std::string_view domain, std::string_view name, int64_t version) const;
};

// The list as it is now; never null.
std::shared_ptr<const CustomOps> custom_ops();
// Throws invalid_argument for an operator that Linnet has, or that is registered already in this version.
void register_op(std::shared_ptr<const CustomOp> op);
// Models that are loaded keep the operator. Throws invalid_argument when it is not registered.
void unregister_op(std::string_view domain, std::string_view name, int since);

}  // namespace linnet
