// Dense, row-major values at run time.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/shape.h"

namespace linnet {

// A typed view of contiguous memory, which `owner` keeps alive (null: somebody else does, for as long as documented).
// Copying a Tensor copies the view, never the elements.
struct Tensor {
    DType dtype = DType::undefined;
    Shape shape;
    void* data = nullptr;
    std::shared_ptr<const void> owner;

    // Out of line here and in Value, Fact and Attributes: every file copies them, no loop does.
    Tensor();
    Tensor(const Tensor&);
    Tensor(Tensor&&) noexcept;
    Tensor& operator=(const Tensor&);
    Tensor& operator=(Tensor&&) noexcept;
    ~Tensor();

    bool defined() const noexcept { return dtype != DType::undefined; }
    int64_t rank() const noexcept { return static_cast<int64_t>(shape.size()); }
    int64_t count() const { return element_count(shape); }
    size_t bytes() const { return static_cast<size_t>(count()) * dtype_size(dtype); }

    // The elements; T must match dtype (checked by assertion only).
    template <class T>
    T* as() noexcept {
        return static_cast<T*>(data);
    }
    template <class T>
    const T* as() const noexcept {
        return static_cast<const T*>(data);
    }

    // 64-byte aligned, owned memory; elements uninitialised, strings empty. Throws invalid_argument when the size
    // overflows or memory is refused.
    static Tensor allocate(DType dtype, const Shape& shape);
    // An owned copy of the elements.
    Tensor clone() const;
    template <class T>
    static Tensor scalar(T value) {
        Tensor t = allocate(dtype_of<T>, {});
        *t.as<T>() = value;
        return t;
    }
    template <class T>
    static Tensor vector(const std::vector<T>& values) {
        Tensor t = allocate(dtype_of<T>, {static_cast<int64_t>(values.size())});
        std::copy(values.begin(), values.end(), t.as<T>());
        return t;
    }
};

// Assigns; the text counts on the thread's account (base/memory.h). Whoever makes strings longer than those it was
// given, or more of them, must count them.
void copy_text(const std::string& from, std::string& to);
void count_text(size_t bytes);

// Copies the elements of `from` into `to` (same dtype and count; strings are handled).
void copy_elements(const Tensor& from, Tensor& to);

// The tensor itself, or a copy, such that every bool is 0 or 1 and every integer narrower than a byte is sign- or
// zero-extended: what operators rely on and memory from outside may break.
Tensor canonical(const Tensor& tensor);

// Element `index` of an integer, bool or float tensor as int64 / double (any numeric dtype but the complex ones).
int64_t int_at(const Tensor& tensor, int64_t index);
double double_at(const Tensor& tensor, int64_t index);
// All elements of an integer tensor of any integer dtype.
Shape ints_of(const Tensor& tensor);

// What flows along an edge at run time: a tensor, a sequence of values, a map (items: keys tensor, values tensor), or
// nothing (an absent optional).
struct Value {
    enum class Kind : uint8_t { absent, tensor, sequence, map };
    Kind kind = Kind::absent;
    Tensor tensor;
    std::shared_ptr<const std::vector<Value>> items;

    Value();
    Value(const Value&);
    Value(Value&&) noexcept;
    Value& operator=(const Value&);
    Value& operator=(Value&&) noexcept;
    ~Value();
    Value(Tensor t) : kind(Kind::tensor), tensor(std::move(t)) {}
    static Value sequence(std::vector<Value> values) {
        Value v;
        v.kind = Kind::sequence;
        v.items = std::make_shared<const std::vector<Value>>(std::move(values));
        return v;
    }
    static Value map(Tensor keys, Tensor values) {
        Value v;
        v.kind = Kind::map;
        v.items = std::make_shared<const std::vector<Value>>(std::vector<Value>{std::move(keys), std::move(values)});
        return v;
    }
};

}  // namespace linnet
