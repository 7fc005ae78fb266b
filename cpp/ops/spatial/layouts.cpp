// Channels-first to channels-last: see layouts.h.
#include "ops/spatial/layouts.h"

namespace linnet {

int64_t spatial_rank(const Attributes& attributes, const Fact& x, const Fact* weights) {
    if (x.ranked) {
        require(x.rank() >= 2, "x has rank ", x.rank(), ", expected at least 3");
        return x.rank() - 2;
    }
    if (weights && weights->ranked) return weights->rank() - 2;
    const std::vector<int64_t> kernel = attributes.ints("kernel_shape");
    return kernel.empty() ? -1 : static_cast<int64_t>(kernel.size());
}

std::vector<int64_t> to_channels_last(int64_t spatial) {
    std::vector<int64_t> perm{0};
    for (int64_t i = 0; i < spatial; ++i) perm.push_back(i + 2);
    perm.push_back(1);
    return perm;
}

std::vector<int64_t> to_channels_first(int64_t spatial) {
    std::vector<int64_t> perm{0, spatial + 1};
    for (int64_t i = 0; i < spatial; ++i) perm.push_back(i + 1);
    return perm;
}

ValueId transpose(Patch& patch, ValueId value, std::vector<int64_t> perm) {
    Attributes attributes;
    attributes.set("perm", std::move(perm));
    return patch.node("Transpose", {value}, std::move(attributes));
}

bool lower_channels_last(const Graph& graph, NodeId id, std::string_view op_type, int64_t spatial, Patch& patch,
                         const Attributes* attributes) {
    const Node& node = graph.node(id);
    ValueIds inputs = node.inputs;
    inputs[0] = transpose(patch, inputs[0], to_channels_last(spatial));
    Node internal;
    internal.name = node.name;
    internal.op_type = op_type;
    internal.domain = "linnet";
    internal.op = find_op("linnet", op_type, kMaxOpset);
    internal.inputs = inputs;
    internal.attributes = attributes ? *attributes : node.attributes;
    const ValueIds outputs = node.outputs;
    const ValueIds made = patch.node(std::move(internal), static_cast<int>(outputs.size()));
    for (size_t i = 0; i < outputs.size(); ++i)
        if (outputs[i] != kNoValue) patch.replace(outputs[i], transpose(patch, made[i], to_channels_first(spatial)));
    return true;
}

}  // namespace linnet
