// Short ways to make nodes.
#include "ops/shared/compose.h"

namespace linnet {

ValueId Compose::op(const char* type, Inputs inputs) const { return patch.node(type, inputs); }

ValueId Compose::op(const char* type, Inputs inputs, const char* attribute, int64_t value) const {
    return patch.node(type, inputs, Attributes().set(attribute, value));
}

ValueId Compose::op(const char* type, Inputs inputs, const char* attribute, const std::vector<int64_t>& values) const {
    return patch.node(type, inputs, Attributes().set(attribute, values));
}

ValueId Compose::ints(std::initializer_list<int64_t> values) const { return patch.constant_ints(values); }

ValueId Compose::cast(ValueId v, DType to) const {
    if (patch.fact(v).dtype == to) return v;
    return op("Cast", {v}, "to", static_cast<int64_t>(to));
}

ValueId Compose::number(double value, DType dtype) const {
    if (dtype != DType::f64) return patch.constant_float(static_cast<float>(value), dtype);
    return patch.constant(Tensor::scalar<double>(value));
}

ValueId Compose::shape(ValueId v, int64_t first, int64_t last) const {
    if (first == 0 && last == 99) return op("Shape", {v});
    return patch.node("Shape", {v}, Attributes().set("start", first).set("end", last));
}

ValueId Compose::join(Inputs parts) const { return op("Concat", parts, "axis", int64_t{0}); }

}  // namespace linnet
