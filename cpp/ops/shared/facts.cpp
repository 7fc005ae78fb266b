// Helpers of infer functions.
#include "ops/shared/facts.h"

#include <algorithm>

namespace linnet {

const Fact& tensor_input(const InferContext& ctx, int i) {
    const Fact& fact = ctx.input(i);
    require(fact.kind == Value::Kind::tensor && !fact.optional, "input ", i, " must be a tensor");
    return fact;
}

void require_index_type(const Fact& indices) {
    require(indices.dtype == DType::i64 || indices.dtype == DType::i32 || indices.dtype == DType::undefined,
            "indices must be int32 or int64, not ", dtype_name(indices.dtype));
}

namespace {

// The lowest int64s are codes of symbols: as axes, sizes and bounds of slices they mean what the lowest number means.
Shape numbers_of(Shape values) {
    for (int64_t& value : values) value = std::max(value, kFirstNumber);
    return values;
}

}  // namespace

std::optional<IntList> int_list(const InferContext& ctx, int i) {
    if (!ctx.has_input(i)) return std::nullopt;
    const Fact& fact = tensor_input(ctx, i);
    if (fact.ranked) require(fact.rank() <= 1, "input ", i, " must have rank 0 or 1, not ", fact.rank());
    if (const Tensor* constant = ctx.constant(i)) {
        require(is_int(constant->dtype), "input ", i, " must be integers, not ", dtype_name(constant->dtype));
        return IntList{numbers_of(ints_of(*constant)), true};
    }
    if (const Shape* ints = ctx.ints(i)) return IntList{*ints, false};
    const int64_t length = list_length(ctx, i);
    if (length < 0 || length > 1024) return std::nullopt;
    return IntList{unknown_shape(length), false};
}

std::optional<IntList> int_list(const Attributes& attributes, std::string_view name) {
    if (!attributes.has(name)) return std::nullopt;
    const auto values = attributes.ints(name);
    return IntList{numbers_of(Shape(values.begin(), values.end())), true};
}

int64_t list_length(const InferContext& ctx, int i) {
    const Fact& fact = ctx.input(i);
    if (!fact.ranked) return -1;
    if (fact.rank() == 0) return 1;
    return is_number(fact.shape[0]) ? fact.shape[0] : -1;
}

Shape normal_axes(const Shape& axes, int64_t rank) {
    Shape result;
    for (int64_t axis : axes) {
        const int64_t normal = normal_axis(axis, rank);
        require(std::find(result.begin(), result.end(), normal) == result.end(), "axis ", axis, " is given twice");
        result.push_back(normal);
    }
    return result;
}

int64_t same_dim(const DimTable& dims, int64_t a, int64_t b, const char* what) {
    if (is_number(a) && is_number(b) && a != b)
        fail(ErrorKind::invalid_argument, what, ": sizes ", dims.text(a), " and ", dims.text(b), " differ");
    if (is_number(a) || b == kUnknownDim) return a;
    if (is_number(b) || a == kUnknownDim) return b;
    return a;
}

Fact merge_facts(const Fact& a, const Fact& b) {
    Fact merged;
    if (a.kind == Value::Kind::absent || b.kind == Value::Kind::absent) {
        merged = a.kind == Value::Kind::absent ? b : a;
        merged.optional = true;
        merged.constant = nullptr;
        merged.ints.reset();
        return merged;
    }
    require(a.kind == b.kind, "a tensor in one branch, a sequence, map or optional in the other");
    require(a.dtype == b.dtype || a.dtype == DType::undefined || b.dtype == DType::undefined, dtype_name(a.dtype),
            " in one branch, ", dtype_name(b.dtype), " in the other");
    merged.kind = a.kind;
    merged.map_key = a.map_key;
    merged.optional = a.optional || b.optional;
    merged.dtype = a.dtype == DType::undefined ? b.dtype : a.dtype;
    merged.ranked = a.ranked && b.ranked && a.rank() == b.rank();
    if (merged.ranked) {
        merged.shape = a.shape;
        for (size_t i = 0; i < merged.shape.size(); ++i)
            if (a.shape[i] != b.shape[i]) merged.shape[i] = kUnknownDim;
    }
    return merged;
}

bool same_fact(const Fact& a, const Fact& b) {
    return a.kind == b.kind && a.optional == b.optional && a.dtype == b.dtype && a.ranked == b.ranked &&
           (!a.ranked || a.shape == b.shape);
}

Fact ints_fact(DType dtype, const Shape& shape, Shape ints) {
    Fact fact = Fact::of(dtype, shape);
    if (ints.size() <= kMaxInts) fact.ints = std::move(ints);
    return fact;
}

int64_t product_of(DimTable& dims, const Shape& shape, size_t first, size_t last) {
    int64_t result = 1;
    for (size_t i = first; i < last; ++i) result = dims.mul(result, shape[i]);
    return result;
}

int64_t permuted_axis(const Shape& perm, int64_t axis) {
    for (size_t i = 0; i < perm.size(); ++i)
        if (perm[i] == axis) return static_cast<int64_t>(i);
    return axis;
}

}  // namespace linnet
