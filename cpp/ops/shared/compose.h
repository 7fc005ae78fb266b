// For rewrites that make many nodes: short calls, and programs in postfix notation.
#pragma once
#include <initializer_list>
#include <vector>

#include "graph/op.h"

namespace linnet {

struct Compose {
    using Inputs = std::initializer_list<ValueId>;
    Patch& patch;

    ValueId op(const char* type, Inputs inputs) const;
    ValueId op(const char* type, Inputs inputs, const char* attribute, int64_t value) const;
    ValueId op(const char* type, Inputs inputs, const char* attribute, const std::vector<int64_t>& values) const;
    ValueId ints(std::initializer_list<int64_t> values) const;
    ValueId cast(ValueId v, DType to) const;                               // itself if it is of that type
    ValueId number(double value, DType dtype) const;                       // a scalar
    ValueId shape(ValueId v, int64_t first = 0, int64_t last = 99) const;  // a part of it from opset 15 on
    ValueId join(Inputs parts) const;                                      // of vectors

    // Runs a program over single letters, which `values` begins with: values[0] is 'a'; numbers of type `dtype`;
    // name:default, an attribute; operators of two operands unless they say how many, as Neg/1 or Where/3; "=x", which
    // keeps what is on top as x; and any other word, which `word` makes of the top. Numeric operands are cast to
    // `dtype`. Gives what is left.
    struct Program {
        const char* text;
        DType dtype;
        const Attributes& attributes;
        ValueIds values;
        ValueId (*word)(const void* context, const char* word, ValueId top) = nullptr;
        const void* context = nullptr;
    };
    ValueIds run(Program program) const;
};

}  // namespace linnet
