// Equations of Einsum: reading them, and taking them apart into operators that are fast.
#include "ops/shared/einsum.h"

#include <algorithm>
#include <cctype>
#include <map>

#include "ops/shared/facts.h"

namespace linnet {
namespace {

bool contains(const Labels& labels, int label) {
    return std::find(labels.begin(), labels.end(), label) != labels.end();
}

constexpr int kEllipsis = -1;  // while parsing

Labels parse_term(const std::string& text) {
    Labels labels;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == ' ') continue;
        if (c == '.') {
            require(text.compare(i, 3, "...") == 0 && !contains(labels, kEllipsis), "equation has a stray '.' in '",
                    text, "'");
            labels.push_back(kEllipsis);
            i += 2;
            continue;
        }
        require(std::isalpha(static_cast<unsigned char>(c)) != 0, "equation has '", c, "' in '", text, "'");
        labels.push_back(c);
    }
    return labels;
}

Labels expand(const Labels& labels, int64_t dots) {
    Labels out;
    for (int label : labels) {
        if (label != kEllipsis) out.push_back(label);
        else
            for (int64_t i = dots; i-- > 0;) out.push_back(kDots + static_cast<int>(i));
    }
    return out;
}

}  // namespace

bool Equation::has_label(size_t term, int label) const { return contains(terms[term], label); }

std::optional<Equation> parse_equation(const std::string& text, const std::vector<int64_t>& ranks) {
    const size_t arrow = text.find("->");
    const std::string left = text.substr(0, arrow);
    std::vector<Labels> terms;
    for (size_t begin = 0; begin <= left.size();) {
        const size_t end = std::min(left.find(',', begin), left.size());
        terms.push_back(parse_term(left.substr(begin, end - begin)));
        begin = end + 1;
    }
    require(terms.size() == ranks.size(), "equation has ", terms.size(), " terms for ", ranks.size(), " inputs");
    Equation equation;
    int64_t most_dots = 0;
    bool open = false;
    for (size_t i = 0; i < terms.size(); ++i) {
        const bool has_dots = contains(terms[i], kEllipsis);
        const int64_t letters = static_cast<int64_t>(terms[i].size()) - has_dots;
        if (ranks[i] < 0) {
            open = open || has_dots;
            continue;
        }
        require(has_dots ? ranks[i] >= letters : ranks[i] == letters, "term ", i, " of the equation has ", letters,
                " letters, input ", i, " has rank ", ranks[i]);
        if (has_dots) most_dots = std::max(most_dots, ranks[i] - letters);
    }
    Labels output;
    if (arrow != std::string::npos) {
        output = parse_term(text.substr(arrow + 2));
        for (int label : output) {
            require(std::count(output.begin(), output.end(), label) == 1, "output of the equation repeats a label");
            require(label == kEllipsis || std::any_of(terms.begin(), terms.end(),
                                                      [&](const Labels& term) { return contains(term, label); }),
                    "output of the equation has a label that no term has");
        }
    } else {
        std::map<int, int> counts;  // sorted
        for (const Labels& term : terms)
            for (int label : term) ++counts[label];
        if (counts.count(kEllipsis)) output.push_back(kEllipsis);
        for (const auto& [label, count] : counts)
            if (label != kEllipsis && count == 1) output.push_back(label);
    }
    if (open) return std::nullopt;
    for (size_t i = 0; i < terms.size(); ++i) {
        const int64_t letters = static_cast<int64_t>(terms[i].size()) - contains(terms[i], kEllipsis);
        equation.terms.push_back(expand(terms[i], ranks[i] - letters));
    }
    equation.output = expand(output, most_dots);
    return equation;
}

std::optional<std::string> equation_text(const Equation& equation) {
    std::map<int, char> letters;
    std::string text;
    const auto put = [&](int label) {
        if (!letters.count(label)) {
            const size_t next = letters.size();
            if (next >= 52) return false;
            letters[label] = static_cast<char>(next < 26 ? 'a' + next : 'A' + (next - 26));
        }
        text += letters[label];
        return true;
    };
    for (size_t i = 0; i < equation.terms.size(); ++i) {
        if (i) text += ',';
        for (int label : equation.terms[i])
            if (!put(label)) return std::nullopt;
    }
    text += "->";
    for (int label : equation.output)
        if (!put(label)) return std::nullopt;
    return text;
}

namespace {

// A value with a label for each axis.
struct Labelled {
    ValueId value;
    Labels labels;
};

bool repeats(const Labels& labels) {
    for (int label : labels)
        if (std::count(labels.begin(), labels.end(), label) > 1) return true;
    return false;
}

// Sums over the labels that are not wanted.
void sum_away(Labelled& x, const Labels& wanted, Patch& patch) {
    std::vector<int64_t> axes;
    Labels left;
    for (size_t i = 0; i < x.labels.size(); ++i) {
        if (contains(wanted, x.labels[i])) left.push_back(x.labels[i]);
        else axes.push_back(static_cast<int64_t>(i));
    }
    if (axes.empty()) return;
    x.value = patch.node("ReduceSum", {x.value, patch.constant_ints(axes)}, Attributes().set("keepdims", int64_t{0}));
    x.labels = left;
}

void order(Labelled& x, const Labels& wanted, Patch& patch) {
    if (x.labels == wanted) return;
    std::vector<int64_t> perm;
    for (int label : wanted) perm.push_back(std::find(x.labels.begin(), x.labels.end(), label) - x.labels.begin());
    x.value = patch.node("Transpose", {x.value}, Attributes().set("perm", perm));
    x.labels = wanted;
}

Labels joined(std::initializer_list<const Labels*> parts) {
    Labels out;
    for (const Labels* part : parts) out.insert(out.end(), part->begin(), part->end());
    return out;
}

// Axes [first, first + count) become one; with axes behind them, these must have known sizes.
bool flatten(ValueId& value, size_t first, size_t count, Patch& patch) {
    const Shape shape = patch.fact(value).shape;
    std::vector<int64_t> to;
    for (size_t i = 0; i < first; ++i) {
        if (shape[i] == 0) return false;
        to.push_back(0);
    }
    int64_t size = 1;
    for (size_t i = first; i < first + count; ++i)
        size = is_number(size) && is_number(shape[i]) ? checked_mul(size, shape[i]) : kUnknownDim;
    if (size == 0) return false;
    to.push_back(is_number(size) ? size : -1);
    for (size_t i = first + count; i < shape.size(); ++i) {
        if (!is_number(shape[i]) || shape[i] == 0) return false;
        to.push_back(shape[i]);
    }
    value = patch.node("Reshape", {value, patch.constant_ints(to)});
    return true;
}

ValueId unsqueeze(ValueId value, const std::vector<int64_t>& axes, Patch& patch) {
    return axes.empty() ? value : patch.node("Unsqueeze", {value, patch.constant_ints(axes)});
}

std::vector<int64_t> range(size_t first, size_t count) {
    std::vector<int64_t> axes;
    for (size_t i = 0; i < count; ++i) axes.push_back(static_cast<int64_t>(first + i));
    return axes;
}

// Two operands without repeated labels. Batch labels stay axes of their own, so that sizes of 1 broadcast.
std::optional<Labelled> product_of_two(Labelled a, Labelled b, const Labels& output, Patch& patch) {
    sum_away(a, joined({&b.labels, &output}), patch);
    sum_away(b, joined({&a.labels, &output}), patch);
    Labels batch, m, n, k;
    for (int label : a.labels) {
        if (!contains(b.labels, label)) m.push_back(label);
        else if (contains(output, label)) batch.push_back(label);
        else k.push_back(label);
    }
    for (int label : b.labels)
        if (!contains(a.labels, label)) n.push_back(label);
    const auto size = [&](const Labelled& x, int label) {
        const auto at = std::find(x.labels.begin(), x.labels.end(), label) - x.labels.begin();
        return patch.fact(x.value).shape[static_cast<size_t>(at)];
    };
    for (int label : k)  // a sum over a broadcast axis is no product of matrices
        if (size(a, label) != size(b, label) || size(a, label) == kUnknownDim) return std::nullopt;
    if (n.size() > 1 && m.size() <= 1) {
        std::swap(a, b);
        std::swap(m, n);
    }
    const size_t batches = batch.size();
    Labelled y;
    if (k.empty()) {
        order(a, joined({&batch, &m}), patch);
        order(b, joined({&batch, &n}), patch);
        a.value = unsqueeze(a.value, range(batches + m.size(), n.size()), patch);
        b.value = unsqueeze(b.value, range(batches, m.size()), patch);
        // A product of columns and rows has wider tiles than one of elements.
        y.value = patch.node(m.size() == 1 && n.size() == 1 ? "MatMul" : "Mul", {a.value, b.value});
        y.labels = joined({&batch, &m, &n});
        return y;
    }
    // a: [batch, m ..., K]; b: [batch, 1 for all m but the last, K, N].
    order(a, joined({&batch, &m, &k}), patch);
    if (k.size() > 1 && !flatten(a.value, batches + m.size(), k.size(), patch)) return std::nullopt;
    if (m.empty()) a.value = unsqueeze(a.value, range(batches, 1), patch);
    order(b, joined({&batch, &n, &k}), patch);
    if (k.size() > 1 && !flatten(b.value, batches + n.size(), k.size(), patch)) return std::nullopt;
    Shape n_sizes;
    for (size_t i = 0; i < n.size(); ++i) n_sizes.push_back(patch.fact(b.value).shape[batches + i]);
    if (n.size() > 1) {
        if (!is_known(n_sizes) || std::find(n_sizes.begin(), n_sizes.end(), 0) != n_sizes.end()) return std::nullopt;
        if (!flatten(b.value, batches, n.size(), patch)) return std::nullopt;
    }
    if (n.empty()) b.value = unsqueeze(b.value, range(batches, 1), patch);
    std::vector<int64_t> perm = range(0, batches);
    perm.push_back(static_cast<int64_t>(batches) + 1);
    perm.push_back(static_cast<int64_t>(batches));
    b.value = patch.node("Transpose", {b.value}, Attributes().set("perm", perm));
    if (m.size() > 1) b.value = unsqueeze(b.value, range(batches, m.size() - 1), patch);
    y.value = patch.node("MatMul", {a.value, b.value});
    const size_t rows = std::max<size_t>(1, m.size());
    if (n.size() > 1) {
        std::vector<int64_t> to(batches + rows, 0);
        for (size_t i = 0; i < batches + rows; ++i)
            if (patch.fact(y.value).shape[i] == 0) return std::nullopt;
        to.insert(to.end(), n_sizes.begin(), n_sizes.end());
        y.value = patch.node("Reshape", {y.value, patch.constant_ints(to)});
    }
    std::vector<int64_t> squeezed;
    if (m.empty()) squeezed.push_back(static_cast<int64_t>(batches));
    if (n.empty()) squeezed.push_back(static_cast<int64_t>(batches + rows));
    if (!squeezed.empty()) y.value = patch.node("Squeeze", {y.value, patch.constant_ints(squeezed)});
    y.labels = joined({&batch, &m, &n});
    return y;
}

}  // namespace

bool lower_einsum(const Graph& graph, NodeId id, Patch& patch) {
    const Node node = graph.node(id);
    const DType d = graph.fact(node.inputs[0]).dtype;
    if (!is_float(d) && d != DType::i32 && d != DType::i64 && d != DType::u32 && d != DType::u64) return false;
    std::vector<int64_t> ranks;
    for (ValueId v : node.inputs) {
        if (!graph.fact(v).ranked) return false;
        ranks.push_back(graph.fact(v).rank());
    }
    const auto equation = parse_equation(node.attributes.s("equation", ""), ranks);
    if (!equation) return false;
    for (const Labels& term : equation->terms)
        if (repeats(term)) return false;
    if (equation->terms.size() > 2) {
        // The first two become one, with the labels that are still needed.
        Equation first, rest;
        first.terms = {equation->terms[0], equation->terms[1]};
        for (const Labels& term : first.terms)
            for (int label : term) {
                bool needed = contains(equation->output, label);
                for (size_t i = 2; i < equation->terms.size(); ++i) needed = needed || equation->has_label(i, label);
                if (needed && !contains(first.output, label)) first.output.push_back(label);
            }
        rest.terms.push_back(first.output);
        rest.terms.insert(rest.terms.end(), equation->terms.begin() + 2, equation->terms.end());
        rest.output = equation->output;
        const auto first_text = equation_text(first), rest_text = equation_text(rest);
        if (!first_text || !rest_text) return false;
        ValueIds inputs{
            patch.node("Einsum", {node.inputs[0], node.inputs[1]}, Attributes().set("equation", *first_text))};
        for (size_t i = 2; i < node.inputs.size(); ++i) inputs.push_back(node.inputs[i]);
        patch.replace(node.outputs[0], patch.node("Einsum", inputs, Attributes().set("equation", *rest_text)));
        return true;
    }
    Labelled y{node.inputs[0], equation->terms[0]};
    if (equation->terms.size() == 2) {
        auto made = product_of_two(y, {node.inputs[1], equation->terms[1]}, equation->output, patch);
        if (!made) return false;
        y = *made;
    } else {
        sum_away(y, equation->output, patch);
    }
    order(y, equation->output, patch);
    if (y.value == node.inputs[0]) y.value = patch.node("Identity", {y.value});
    patch.replace(node.outputs[0], y.value);
    return true;
}

}  // namespace linnet
