// What is known about a value before it exists.
#pragma once
#include <memory>
#include <optional>
#include <string>

#include "base/tensor.h"
#include "graph/dims.h"

namespace linnet {

struct Fact {
    Value::Kind kind = Value::Kind::tensor;
    bool optional = false;                   // may be absent at run time (ONNX optional types)
    DType dtype = DType::undefined;          // of the tensor; of the elements of a sequence; of the values of a map
    DType map_key = DType::undefined;        // of the keys of a map, or of the maps in a sequence
    bool ranked = false;                     // shape.size() is the rank
    Shape shape;                             // dims may be numbers, symbols or kUnknownDim
    std::shared_ptr<const Tensor> constant;  // the value itself, when known
    // The elements of an integer tensor of rank 0 or 1 as dimension expressions, when at least their number is known
    // (this is how Shape -> Gather -> Concat -> Reshape stays readable with symbolic sizes). Also set when `constant`
    // is (at most 64 elements).
    std::optional<Shape> ints;

    Fact();
    Fact(const Fact&);
    Fact(Fact&&) noexcept;
    Fact& operator=(const Fact&);
    Fact& operator=(Fact&&) noexcept;
    ~Fact();

    static Fact of(DType dtype, const Shape& shape) {
        Fact f;
        f.dtype = dtype;
        f.ranked = true;
        f.shape = shape;
        return f;
    }
    static Fact unranked(DType dtype) {
        Fact f;
        f.dtype = dtype;
        return f;
    }
    static Fact of_constant(Tensor tensor);

    int64_t rank() const noexcept { return static_cast<int64_t>(shape.size()); }  // only if ranked
    bool is_tensor() const noexcept { return kind == Value::Kind::tensor && !optional; }
    // dtype and every dimension are numbers: memory can be planned.
    bool is_static() const noexcept { return is_tensor() && dtype != DType::undefined && ranked && is_known(shape); }
};

// "float32 [batch, 3, 224, 224]".
std::string fact_text(const Fact& fact, const DimTable& dims);

}  // namespace linnet
