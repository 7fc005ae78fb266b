// Multiply-adds by operator family; a table, since most operators have none.
#include "runtime/cost.h"

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace linnet {
namespace {

// Shapes of a node's operands; `valid` asks for those that a formula reads.
struct Operands {
    const Node& node;
    std::span<const Shape* const> in;
    std::span<const Shape* const> out;
    const Shape& input(size_t i) const { return *in[i]; }
    const Shape& output() const { return *out[0]; }
    bool has_input(size_t i) const { return i < in.size() && in[i] && is_known(*in[i]); }
    bool has_output() const { return !out.empty() && out[0] && is_known(*out[0]); }
};

int64_t product_of(const Shape& shape) { return product(shape, 0, shape.size()); }

// Weights [M, C / group, taps ...]: each output element takes one row of them.
int64_t convolution(const Operands& o, size_t weights) {
    if (!o.has_input(weights) || !o.has_output() || o.input(weights).empty()) return 0;
    const Shape& w = o.input(weights);
    return checked_mul(product_of(o.output()), product(w, 1, w.size()));
}
int64_t conv(const Operands& o) { return convolution(o, 1); }
// x [N, H, W, C], w1 [M, C, 1, 1], bias, w2 [M, 1, kh, kw]: rows that bands compute twice are not counted twice.
int64_t pointwise_depthwise(const Operands& o) {
    if (!o.has_input(0) || !o.has_input(1)) return 0;
    const Shape &x = o.input(0), &w = o.input(1);
    return checked_add(checked_mul(product_of(x), w[0]), convolution(o, 3));
}
int64_t qlinear_conv(const Operands& o) { return convolution(o, 3); }

// Weights [C, M / group, taps ...]: each input element is scattered over one row of them.
int64_t conv_transpose(const Operands& o) {
    if (!o.has_input(0) || !o.has_input(1) || o.input(1).empty()) return 0;
    const Shape& w = o.input(1);
    return checked_mul(product_of(o.input(0)), product(w, 1, w.size()));
}

// Each output element sums over the last axis of a (read through "perm_a" by the internal product).
int64_t matmul(const Operands& o) {
    if (!o.has_input(0) || !o.has_output() || o.input(0).empty()) return 0;
    const Shape& a = o.input(0);
    const std::vector<int64_t> perm = o.node.attributes.ints("perm_a");
    const size_t last = perm.size() == a.size() ? static_cast<size_t>(perm.back()) : a.size() - 1;
    return last < a.size() ? checked_mul(product_of(o.output()), a[last]) : 0;
}

int64_t gemm(const Operands& o) {
    if (!o.has_input(0) || !o.has_output() || o.input(0).size() != 2) return 0;
    return checked_mul(product_of(o.output()), o.input(0)[o.node.attributes.i("transA", 0) ? 0 : 1]);
}

// x [steps, batch, ...], w and r [directions, gates * hidden, ...]: all weights at every step.
int64_t recurrent(const Operands& o) {
    if (!o.has_input(0) || !o.has_input(1) || !o.has_input(2) || o.input(0).size() < 2) return 0;
    const int64_t steps = checked_mul(o.input(0)[0], o.input(0)[1]);
    return checked_mul(steps, checked_add(product_of(o.input(1)), product_of(o.input(2))));
}

Shape permuted(const Shape& shape, const std::vector<int64_t>& perm) {
    if (perm.size() != shape.size()) return shape;
    Shape result;
    for (int64_t axis : perm) result.push_back(shape[static_cast<size_t>(axis)]);
    return result;
}

// q [.., queries, depth], k [.., keys, depth], v [.., keys, value_depth]; 3-D ONNX operands hold heads in the last
// axis, which changes nothing about the number of products. A past lengthens the keys.
int64_t attention(const Operands& o) {
    if (!o.has_input(0) || !o.has_input(1) || !o.has_input(2)) return 0;
    const Attributes& a = o.node.attributes;
    const Shape q = permuted(o.input(0), a.ints("perm_q")), k = permuted(o.input(1), a.ints("perm_k")),
                v = permuted(o.input(2), a.ints("perm_v"));
    if (q.size() < 2 || k.size() < 2 || v.size() < 2) return 0;
    int64_t keys = k[k.size() - 2];
    const bool onnx = o.node.domain.empty();
    if (onnx && o.has_input(4) && o.input(4).size() == 4) keys = checked_add(keys, o.input(4)[2]);
    int64_t value_depth = v.back();
    if (onnx && q.size() == 3) {  // every query head has its own sum, also where several share keys
        const int64_t heads = a.i("q_num_heads", 1), kv_heads = a.i("kv_num_heads", 1);
        if (kv_heads > 0) value_depth = value_depth / kv_heads * heads;
        return checked_mul(checked_mul(checked_mul(q[0], q[1]), keys), checked_add(q.back(), value_depth));
    }
    return checked_mul(checked_mul(product(q, 0, q.size() - 1), keys), checked_add(q.back(), value_depth));
}

// One product for every combination of the letters; "..." counts once, by what the output or an operand has there.
int64_t einsum(const Operands& o) {
    const std::string equation = o.node.attributes.s("equation", "");
    std::map<char, int64_t> sizes;
    std::string term;
    size_t operand = 0;
    int64_t others = 1;
    auto take = [&]() -> bool {
        if (!o.has_input(operand)) return false;
        const Shape& shape = o.input(operand++);
        size_t letters = 0;
        for (char c : term) letters += c != '.';
        if (letters > shape.size()) return false;
        size_t axis = 0;
        int64_t hidden = 1;
        for (size_t i = 0; i < term.size(); ++i) {
            if (term[i] == '.') {
                if (i + 2 < term.size() && term[i + 1] == '.') {
                    for (size_t skipped = shape.size() - letters; skipped > 0; --skipped)
                        hidden = checked_mul(hidden, shape[axis++]);
                    i += 2;
                }
                continue;
            }
            if (axis >= shape.size()) return false;
            int64_t& size = sizes[term[i]];
            size = std::max(size, shape[axis++]);
        }
        others = std::max(others, hidden);
        term.clear();
        return true;
    };
    for (char c : equation.substr(0, equation.find("->"))) {
        if (c == ',') {
            if (!take()) return 0;
        } else if (c != ' ') {
            term += c;
        }
    }
    if (!take() || operand < 2) return 0;
    int64_t total = others;
    for (const auto& [letter, size] : sizes) total = checked_mul(total, size);
    return total;
}

struct Cost {
    std::string_view op;
    int64_t (*macs)(const Operands&);
};

// By name alone: the internal operators are called like the ONNX ones they stand for.
constexpr std::array kCosts{
    Cost{"Conv", conv},
    Cost{"PointwiseDepthwise", pointwise_depthwise},
    Cost{"ConvInteger", conv},
    Cost{"QLinearConv", qlinear_conv},
    Cost{"ConvTranspose", conv_transpose},
    Cost{"MatMul", matmul},
    Cost{"MatMulBits", matmul},
    Cost{"MatMulInteger", matmul},
    Cost{"MatMulIntegerToFloat", matmul},
    Cost{"QLinearMatMul", matmul},
    Cost{"Gemm", gemm},
    Cost{"LSTM", recurrent},
    Cost{"GRU", recurrent},
    Cost{"RNN", recurrent},
    Cost{"Attention", attention},
    Cost{"Einsum", einsum},
};

}  // namespace

int64_t count_macs(const Node& node, std::span<const Shape* const> inputs, std::span<const Shape* const> outputs) {
    if (!node.domain.empty() && node.domain != "linnet") return 0;
    const auto row = std::find_if(kCosts.begin(), kCosts.end(), [&](const Cost& c) { return c.op == node.op_type; });
    if (row == kCosts.end()) return 0;
    try {
        return row->macs({node, inputs, outputs});
    } catch (const Error&) {  // more than int64 holds: no such run ends
        return 0;
    }
}

}  // namespace linnet
