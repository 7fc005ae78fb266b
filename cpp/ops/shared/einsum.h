// Equations of Einsum.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "graph/op.h"

namespace linnet {

// A label is a letter, or kDots + i for the i-th axis from the right that an ellipsis stands for.
constexpr int kDots = 1000;
using Labels = std::vector<int>;

struct Equation {
    std::vector<Labels> terms;
    Labels output;
    bool has_label(size_t term, int label) const;
};

// Parses the attribute for operands of these ranks (-1: not known). Nothing when an unknown rank leaves it open what an
// ellipsis stands for; throws invalid_graph for what is no equation or does not fit the ranks.
std::optional<Equation> parse_equation(const std::string& text, const std::vector<int64_t>& ranks);

// The equation with other letters, for nodes made by rewriting; nothing when there are too many labels.
std::optional<std::string> equation_text(const Equation& equation);

// Reduces, transposes and products instead of one node; false when it has to stay.
bool lower_einsum(const Graph& graph, NodeId id, Patch& patch);

}  // namespace linnet
