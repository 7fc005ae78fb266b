// Sizes as expressions: known numbers, named symbols ("batch") and sums, products ... of them, so that an analysis with
// symbolic inputs can still tell that two sizes are equal.
#pragma once
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "base/shape.h"

namespace linnet {

// Hands out a code (base/shape.h) per distinct expression; equal expressions get equal codes. Any operand kUnknownDim
// gives kUnknownDim. Not thread-safe: belongs to one graph while it is analysed.
class DimTable {
  public:
    int64_t symbol(const std::string& name);
    int64_t add(int64_t a, int64_t b);
    int64_t sub(int64_t a, int64_t b);
    int64_t mul(int64_t a, int64_t b);
    int64_t floor_div(int64_t a, int64_t b);  // rounds towards minus infinity; b == 0 gives kUnknownDim
    int64_t ceil_div(int64_t a, int64_t b);
    int64_t max(int64_t a, int64_t b);
    int64_t min(int64_t a, int64_t b);
    // The size of two broadcast sizes; throws invalid_argument when they are numbers that do not broadcast.
    int64_t broadcast(int64_t a, int64_t b);
    // "batch", "2*batch+1", "224", "?".
    std::string text(int64_t dim) const { return text(dim, 0); }
    std::string text(const Shape& shape) const;

  private:
    int64_t expression(char op, int64_t a, int64_t b);
    std::string text(int64_t dim, int depth) const;
    struct Entry {
        std::string name;  // of a symbol; empty for an expression
        char op = 0;
        int64_t a = 0, b = 0;
    };
    std::vector<Entry> entries_;
    const Entry& entry(int64_t code) const;
    std::map<std::string, int64_t> by_name_;
    std::map<std::tuple<char, int64_t, int64_t>, int64_t> by_expression_;
};

}  // namespace linnet
