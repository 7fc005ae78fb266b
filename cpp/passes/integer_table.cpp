// Elementwise operators between DequantizeLinear and QuantizeLinear whose only variable is one tensor of bytes are a
// function of a byte: all 256 results are computed now, by the operators themselves.
#include <array>
#include <map>

#include "graph/infer.h"
#include "passes/integer.h"

namespace linnet {
namespace {

constexpr size_t kMostNodes = 64;

// The tensor of bytes that a value depends on, element by element.
class Region {
  public:
    explicit Region(const Graph& graph) : graph_(graph) {}

    // kNoValue for what is constant; nothing where there is no such tensor, or several.
    std::optional<ValueId> root(ValueId value) {
        if (const auto found = roots_.find(value); found != roots_.end()) return found->second;
        if (roots_.size() >= kMostNodes) return std::nullopt;
        roots_[value] = std::nullopt;  // while it is looked for
        return roots_[value] = find_root(value);
    }

    // What the value is for each code of the root.
    Tensor evaluate_on(ValueId value, ValueId root, const Tensor& codes) {
        if (value == root) return codes;
        if (const Tensor* constant = graph_.constant(value)) {
            Tensor scalar = constant->clone();
            scalar.shape = {};
            return scalar;
        }
        if (const auto found = results_.find(value); found != results_.end()) return found->second;
        const Node& node = graph_.node(graph_.value(value).producer);
        std::vector<Value> inputs(node.inputs.size());
        std::vector<Value*> pointers(node.inputs.size(), nullptr);
        for (size_t i = 0; i < inputs.size(); ++i) {
            if (node.inputs[i] == kNoValue) continue;
            inputs[i] = evaluate_on(node.inputs[i], root, codes);
            pointers[i] = &inputs[i];
        }
        Tensor out = evaluate(graph_, node, pointers)[0].tensor;
        if (!out.owner) out = out.clone();
        return results_[value] = out;
    }

  private:
    std::optional<ValueId> find_root(ValueId value) {
        if (const Tensor* constant = graph_.constant(value))
            return constant->count() == 1 ? std::optional(kNoValue) : std::nullopt;
        const NodeId producer = graph_.value(value).producer;
        const DType dtype = graph_.fact(value).dtype;
        const bool byte = dtype == DType::u8 || dtype == DType::i8;
        if (producer == kNoNode) return byte ? std::optional(value) : std::nullopt;
        const Node& node = graph_.node(producer);
        if (is_dequantize(node)) return quantization(graph_, node) ? root(node.inputs[0]) : std::nullopt;
        if (byte) {  // as far back as possible, but not beyond bytes that others read as well
            const bool table = node.op_type == "ByteTable" && node.domain == "linnet";
            const bool steps_back = table || (is_quantize(node) && quantization(graph_, node));
            if (!steps_back || !has_one_reader(value)) return value;
            const auto earlier = root(node.inputs[0]);
            return earlier && same_shape(*earlier, value) ? earlier : value;
        }
        if (!(node.op->flags & kElementwise) || (node.op->flags & kRandom) || !node.op->run || node.captures ||
            node.outputs.size() != 1 || dtype == DType::f16 || dtype == DType::bf16)
            return std::nullopt;
        ValueId common = kNoValue;
        for (ValueId input : node.inputs) {
            if (input == kNoValue) continue;
            const auto found = root(input);
            if (!found) return std::nullopt;
            if (*found == kNoValue) continue;
            if (common != kNoValue && common != *found) return std::nullopt;
            common = *found;
        }
        if (common != kNoValue && !same_shape(common, value)) return std::nullopt;
        return common;
    }

    // Read by DequantizeLinear only, and what that makes by one node.
    bool has_one_reader(ValueId bytes) const {
        if (graph_.is_output(bytes)) return false;
        size_t readers = 0;
        for (NodeId user : graph_.value(bytes).users) {
            const Node& node = graph_.node(user);
            if (!is_dequantize(node) || graph_.is_output(node.outputs[0])) return false;
            readers += graph_.value(node.outputs[0]).users.size();
        }
        return readers == 1;
    }

    bool same_shape(ValueId a, ValueId b) const {
        const Fact &x = graph_.fact(a), &y = graph_.fact(b);
        if (!x.ranked || !y.ranked || !(x.shape == y.shape)) return false;
        return std::none_of(x.shape.begin(), x.shape.end(), [](int64_t d) { return d == kUnknownDim; });
    }

    const Graph& graph_;
    std::map<ValueId, std::optional<ValueId>> roots_;
    std::map<ValueId, Tensor> results_;
};

bool is_identity(const Tensor& table) {
    for (int i = 0; i < 256; ++i)
        if (table.as<uint8_t>()[i] != i) return false;
    return true;
}

}  // namespace

bool integer_table(const Graph& graph, const Node& quantize, Patch& patch, std::string&) {
    Region region(graph);
    const ValueId real = quantize.inputs[0], y = quantize.outputs[0];
    const auto root = region.root(real);
    if (!root || *root == kNoValue || !graph.fact(*root).ranked) return false;
    if (!(graph.fact(*root).shape == graph.fact(y).shape)) return false;
    Tensor codes = Tensor::allocate(graph.fact(*root).dtype, {256});
    for (int i = 0; i < 256; ++i) codes.as<uint8_t>()[i] = static_cast<uint8_t>(i);
    std::array<Value, 3> inputs{Value(region.evaluate_on(real, *root, codes))};
    std::array<Value*, 3> pointers{&inputs[0]};
    for (size_t i = 1; i < quantize.inputs.size(); ++i) {
        if (quantize.inputs[i] == kNoValue) continue;
        inputs[i] = *graph.constant(quantize.inputs[i]);
        pointers[i] = &inputs[i];
    }
    Tensor table = evaluate(graph, quantize, std::span(pointers).first(quantize.inputs.size()))[0].tensor;
    if (table.count() != 256) return false;
    if (table.dtype == codes.dtype && is_identity(table)) {
        patch.replace(y, *root);
        return true;
    }
    patch.replace(y, patch.node("ByteTable", {*root}, Attributes().set("table", std::move(table)), "linnet"));
    return true;
}

}  // namespace linnet
