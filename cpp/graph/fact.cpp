// Facts of constants, and facts as text.
#include "graph/fact.h"

#include "base/error.h"

namespace linnet {

Fact::Fact() = default;
Fact::Fact(const Fact&) = default;
Fact::Fact(Fact&&) noexcept = default;
Fact& Fact::operator=(const Fact&) = default;
Fact& Fact::operator=(Fact&&) noexcept = default;
Fact::~Fact() = default;

Fact Fact::of_constant(Tensor tensor) {
    Fact f = Fact::of(tensor.dtype, tensor.shape);
    constexpr int64_t kMostInts = 64;
    if ((tensor.dtype == DType::i64 || tensor.dtype == DType::i32) && tensor.rank() <= 1 &&
        tensor.count() <= kMostInts) {
        f.ints = ints_of(tensor);
        for (int64_t& value : *f.ints) value = as_dim(value);
    }
    f.constant = std::make_shared<const Tensor>(std::move(tensor));
    return f;
}

std::string fact_text(const Fact& fact, const DimTable& dims) {
    std::string text;
    if (fact.optional) text += "optional ";
    if (fact.kind == Value::Kind::sequence) text += "sequence of ";
    if (fact.map_key != DType::undefined) text += cat("map from ", dtype_name(fact.map_key), " to ");
    text += dtype_name(fact.dtype);
    text += ' ';
    text += fact.ranked ? dims.text(fact.shape) : "[...]";
    if (fact.ints && !fact.constant) text += " = " + dims.text(*fact.ints);
    return text;
}

}  // namespace linnet
