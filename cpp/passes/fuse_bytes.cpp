// A table or a sum behind a QLinearConv that nobody else reads is done to each byte before it is stored.
#include "passes/integer.h"

namespace linnet {
namespace {

// The convolution that makes `value` for one reader only, that adds nothing yet, and whose weights are not wide.
const Node* host_of(const Graph& graph, ValueId value) {
    const Node* conv = graph.producer(value, "QLinearConv", "linnet");
    if (!conv || !graph.single_use(value) || conv->attributes.has("own_scale")) return nullptr;
    return graph.fact(conv->inputs[3]).dtype == DType::i8 && conv->inputs[5] == kNoValue ? conv : nullptr;
}

// The table second(first(byte)).
Tensor composed(const Tensor& first, const Tensor& second) {
    Tensor out = Tensor::allocate(second.dtype, {256});
    for (int i = 0; i < 256; ++i) out.as<uint8_t>()[i] = second.as<uint8_t>()[first.as<uint8_t>()[i]];
    return out;
}

bool fuse_table(const Graph& graph, const Node& node, Patch& patch) {
    const Tensor& table = *node.attributes.t("table");
    if (const Node* before = graph.producer(node.inputs[0], "ByteTable", "linnet");
        before && graph.single_use(node.inputs[0])) {
        Attributes attributes;
        attributes.set("table", composed(*before->attributes.t("table"), table));
        patch.replace(node.outputs[0], patch.node("ByteTable", {before->inputs[0]}, std::move(attributes), "linnet"));
        return true;
    }
    const Node* host = host_of(graph, node.inputs[0]);
    if (!host) return false;
    Node made = copy_of(*host);
    const Tensor* own = host->attributes.t("table");
    made.attributes.set("table", own ? composed(*own, table) : table);
    patch.replace(node.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

bool fuse_sum(const Graph& graph, const Node& node, size_t side, Patch& patch) {
    const Node* host = host_of(graph, node.inputs[side]);
    const ValueId other = node.inputs[1 - side];
    const Fact &own = graph.fact(node.inputs[side]), &added = graph.fact(other), &sum = graph.fact(node.outputs[0]);
    if (!host || other == node.inputs[side] || own.dtype != sum.dtype || added.dtype != sum.dtype) return false;
    // The convolution's own bytes are of the sum's kind too, also where a table stands between.
    const ValueId zero = host->inputs[7];
    if (graph.fact(zero == kNoValue ? host->inputs[0] : zero).dtype != sum.dtype) return false;
    if (!own.ranked || !added.ranked || !(own.shape == added.shape)) return false;
    for (int64_t d : own.shape)
        if (d == kUnknownDim) return false;
    const char *a = side == 0 ? "a_" : "b_", *b = side == 0 ? "b_" : "a_";
    const Attributes& from = node.attributes;
    const float y_scale = from.f("y_scale", 1);
    Node made = copy_of(*host);
    made.attributes.set("own_scale", from.f(cat(a, "scale"), 1) / y_scale);
    made.attributes.set("own_zero", from.i(cat(a, "zero"), 0));
    made.attributes.set("add_scale", from.f(cat(b, "scale"), 1) / y_scale);
    made.attributes.set("add_zero", from.i(cat(b, "zero"), 0));
    made.attributes.set("sum_zero", from.i("y_zero", 0));
    made.attributes.set("sum_lo", from.i("lo", 0));
    made.attributes.set("sum_hi", from.i("hi", 0));
    while (made.inputs.size() < 9) made.inputs.push_back(kNoValue);  // input 8 is the bias
    made.inputs.push_back(other);
    patch.replace(node.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

}  // namespace

bool fuse_bytes(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    if (node.domain != "linnet") return false;
    if (node.op_type == "ByteTable") return fuse_table(graph, node, patch);
    if (node.op_type != "QLinearAdd") return false;
    return fuse_sum(graph, node, 0, patch) || fuse_sum(graph, node, 1, patch);
}

}  // namespace linnet
