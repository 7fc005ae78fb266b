// Derivatives of operators. Those of elementwise and of reducing operators are short programs in postfix notation, one
// for each input, over
//   g (the output's gradient), y (output 0), a, b, c (the inputs), numbers, name:default (an attribute), and operators,
//   of two operands unless they say how many: Neg/1, Where/3;
//   mask: of bool, 1 or 0;  sum: along the attribute axis;  keep: with the axes, as 1, that the node has reduced;
//   expand: as large as a;  reshape: the shape of a;  share: divided by the elements of a for one of y.
// Results are summed where an input was broadcast. "": no derivative goes there.
#include <cmath>
#include <cstdlib>
#include <string>

#include "passes/gradient.h"

namespace linnet {
namespace {

struct Rule {
    std::string_view op, a, b = "", c = "";
};

constexpr Rule kRules[] = {
    {"Abs", "g a Sign/1 Mul"},
    {"Acos", "g 1 a a Mul Sub Sqrt/1 Div Neg/1"},
    {"Acosh", "g a a Mul 1 Sub Sqrt/1 Div"},
    {"Add", "g", "g"},
    {"Asin", "g 1 a a Mul Sub Sqrt/1 Div"},
    {"Asinh", "g a a Mul 1 Add Sqrt/1 Div"},
    {"Atan", "g a a Mul 1 Add Div"},
    {"Atanh", "g 1 a a Mul Sub Div"},
    {"Clip", "g a y Equal mask Mul"},
    {"Cos", "g a Sin/1 Mul Neg/1"},
    {"Cosh", "g a Sinh/1 Mul"},
    {"Div", "g b Div", "g y Mul b Div Neg/1"},
    {"Elu", "a 0 Less g y alpha:1 Add Mul g Where/3"},
    {"Erf", "g 1.1283791670955126 Mul a a Mul Neg/1 Exp/1 Mul"},
    {"Exp", "g y Mul"},
    {"Expand", "g"},
    {"Flatten", "g reshape"},
    {"GlobalAveragePool", "g expand share"},
    {"HardSigmoid", "g y 0 Greater y 1 Less And mask Mul alpha:0.2 Mul"},
    {"Identity", "g"},
    {"LeakyRelu", "a 0 Less g alpha:0.01 Mul g Where/3"},
    {"Log", "g a Div"},
    {"LogSoftmax", "g y Exp/1 g sum Mul Sub"},
    {"Mul", "g b Mul", "g a Mul"},
    {"Neg", "g Neg/1"},
    {"PRelu", "a 0 Less g b Mul g Where/3", "a 0 Less g a Mul 0 Where/3"},
    {"Pow", "g b Mul a b 1 Sub Pow Mul", "g y Mul a Log/1 Mul"},
    {"Reciprocal", "g y y Mul Mul Neg/1"},
    {"ReduceL2", "g y Div keep a Mul"},
    {"ReduceLogSumExp", "g keep a y keep Sub Exp/1 Mul"},
    {"ReduceMean", "g keep expand share"},
    {"ReduceSum", "g keep expand"},
    {"ReduceSumSquare", "g keep 2 Mul a Mul"},
    {"Relu", "g y 0 Greater mask Mul"},
    {"Reshape", "g reshape"},
    {"Sigmoid", "g y 1 y Sub Mul Mul"},
    {"Sin", "g a Cos/1 Mul"},
    {"Sinh", "g a Cosh/1 Mul"},
    {"Softmax", "g g y Mul sum Sub y Mul"},
    {"Softplus", "g a Sigmoid/1 Mul"},
    {"Softsign", "g 1 a Abs/1 Add 1 a Abs/1 Add Mul Div"},
    {"Sqrt", "g 2 y Mul Div"},
    {"Squeeze", "g reshape"},
    {"Sub", "g", "g Neg/1"},
    {"Tan", "g y y Mul 1 Add Mul"},
    {"Tanh", "g 1 y y Mul Sub Mul"},
    {"Unsqueeze", "g reshape"},
    {"Where", "", "a g 0 Where/3", "a 0 g Where/3"},
};

const Rule* rule_of(std::string_view op) {
    for (const Rule& rule : kRules)
        if (rule.op == op) return &rule;
    return nullptr;
}

// g with the axes that the node has reduced.
ValueId kept(const BackwardNode& back, ValueId g) {
    if (back.patch.fact(g).ranked && back.patch.fact(back.x(0)).ranked && back.rank(g) == back.rank(back.x(0)))
        return g;
    Node copy = copy_of(back.node);
    copy.attributes.set("keepdims", int64_t{1});
    return back.reshape_as(g, back.patch.node(std::move(copy), 1)[0]);
}

ValueId summed(const BackwardNode& back, ValueId v) {
    const bool matrix = back.node.op->since < 13;  // then all axes from `axis` on are normalized together
    const int64_t rank = back.rank(v);
    int64_t axis = back.node.attributes.i("axis", matrix ? 1 : -1);
    if (axis < 0) axis += rank;
    if (matrix && axis != rank - 1)
        fail(ErrorKind::not_implemented, "it is known along the last axis only before opset 13");
    return back.sum(v, {axis});
}

ValueId evaluate(const BackwardNode& back, std::string_view program) {
    const DType dtype = back.patch.fact(back.dy[0]).dtype;
    ValueIds stack;
    const auto operand = [&](ValueId v) {
        const DType own = back.patch.fact(v).dtype;
        stack.push_back(own == DType::boolean || own == DType::undefined ? v : back.cast(v, dtype));
    };
    while (!program.empty()) {
        const size_t end = std::min(program.find(' '), program.size());
        const std::string word(program.substr(0, end));
        program.remove_prefix(std::min(end + 1, program.size()));
        const size_t mark = word.find_first_of(":/");
        if (word == "g") {
            stack.push_back(back.dy[0]);
        } else if (word == "y") {
            operand(back.y(0));
        } else if (word.size() == 1 && word[0] >= 'a' && word[0] <= 'c') {
            operand(back.x(static_cast<size_t>(word[0] - 'a')));
        } else if (word[0] >= '0' && word[0] <= '9') {
            stack.push_back(back.number(std::strtod(word.c_str(), nullptr), dtype));
        } else if (mark != std::string::npos && word[mark] == ':') {
            const float absent = std::strtof(word.c_str() + mark + 1, nullptr);
            stack.push_back(
                back.number(static_cast<double>(back.node.attributes.f(word.substr(0, mark), absent)), dtype));
        } else {
            ValueId& top = stack.back();
            if (word == "mask") top = back.cast(top, dtype);
            else if (word == "sum") top = summed(back, top);
            else if (word == "keep") top = kept(back, top);
            else if (word == "expand") top = back.op("Expand", {top, back.shape_of(back.x(0))});
            else if (word == "reshape") top = back.reshape_as(top, back.x(0));
            else if (word == "share") {
                const ValueId count = back.op("Div", {back.op("Size", {back.x(0)}), back.op("Size", {back.y(0)})});
                top = back.op("Div", {top, back.cast(count, dtype)});
            } else {
                const size_t count = mark == std::string::npos ? 2 : static_cast<size_t>(word[mark + 1] - '0');
                ValueIds inputs;
                for (size_t i = stack.size() - count; i < stack.size(); ++i) inputs.push_back(stack[i]);
                for (size_t i = 0; i < count; ++i) stack.pop_back();
                stack.push_back(back.op(word.substr(0, mark), inputs));
            }
        }
    }
    return stack.back();
}

void by_rule(BackwardNode& back) {
    const Rule& rule = *rule_of(back.node.op_type);
    const std::string_view programs[] = {rule.a, rule.b, rule.c};
    for (size_t i = 0; i < back.dx.size(); ++i) {
        if (!back.wanted[i]) continue;
        if (i >= 3 || programs[i].empty())
            fail(ErrorKind::not_implemented, "it is not known for input ", static_cast<int64_t>(i));
        back.dx[i] = back.unbroadcast(evaluate(back, programs[i]), back.x(i));
    }
}

void cast_back(BackwardNode& back) { back.dx[0] = back.cast(back.dy[0], back.patch.fact(back.x(0)).dtype); }

// Sum and Mean of any number of operands; Max and Min give each operand that is the result its gradient.
void variadic_back(BackwardNode& back) {
    const std::string_view type = back.node.op_type;
    for (size_t i = 0; i < back.dx.size(); ++i) {
        if (!back.wanted[i]) continue;
        ValueId g = back.dy[0];
        const DType dtype = back.patch.fact(g).dtype;
        if (type == "Mean") g = back.op("Div", {g, back.number(static_cast<double>(back.dx.size()), dtype)});
        if (type == "Max" || type == "Min")
            g = back.op("Mul", {g, back.cast(back.op("Equal", {back.x(i), back.y(0)}), dtype)});
        back.dx[i] = back.unbroadcast(g, back.x(i));
    }
}

void transpose_back(BackwardNode& back) {
    const std::vector<int64_t> perm = back.node.attributes.ints("perm");
    std::vector<int64_t> inverse(static_cast<size_t>(back.rank(back.x(0))));
    for (size_t i = 0; i < inverse.size(); ++i) {
        if (perm.empty()) inverse[i] = static_cast<int64_t>(inverse.size() - 1 - i);
        else inverse[static_cast<size_t>(perm[i])] = static_cast<int64_t>(i);
    }
    back.dx[0] = back.transposed(back.dy[0], inverse);
}

void matmul_back(BackwardNode& back) {
    // Vectors become matrices of one row or column.
    const auto sizes = [&](ValueId v) { return back.shape_of(v); };
    const auto join = [&](const ValueIds& parts) {
        return back.op("Concat", parts, Attributes().set("axis", int64_t{0}));
    };
    const ValueId one = back.patch.constant_ints({1});
    const bool row = back.rank(back.x(0)) == 1, column = back.rank(back.x(1)) == 1;
    const ValueId a = row ? back.op("Reshape", {back.x(0), join({one, sizes(back.x(0))})}) : back.x(0);
    const ValueId b = column ? back.op("Reshape", {back.x(1), join({sizes(back.x(1)), one})}) : back.x(1);
    ValueId g = back.dy[0];
    if (row || column) {
        const int64_t rank = back.rank(g);
        const ValueId whole = sizes(g), last = back.patch.constant_ints({rank - 1});
        if (column) g = back.op("Reshape", {g, row ? back.patch.constant_ints({1, 1}) : join({whole, one})});
        else if (rank == 1) g = back.op("Reshape", {g, join({one, whole})});
        else
            g = back.op("Reshape", {g, join({back.op("Slice", {whole, back.patch.constant_ints({0}), last}), one,
                                             back.op("Gather", {whole, last})})});
    }
    const auto finish = [&](size_t i, ValueId product, ValueId matrix, bool vector) {
        const ValueId own = back.unbroadcast(product, matrix);
        back.dx[i] = vector ? back.reshape_as(own, back.x(i)) : own;
    };
    if (back.wanted[0]) finish(0, back.op("MatMul", {g, back.transposed(b)}), a, row);
    if (back.wanted[1]) finish(1, back.op("MatMul", {back.transposed(a), g}), b, column);
}

void gemm_back(BackwardNode& back) {
    const Attributes& attributes = back.node.attributes;
    const bool turn_a = attributes.i("transA", 0) != 0, turn_b = attributes.i("transB", 0) != 0;
    const DType dtype = back.patch.fact(back.dy[0]).dtype;
    const auto times = [&](ValueId v, const char* name) {
        const float factor = attributes.f(name, 1);
        return factor == 1.0f ? v : back.op("Mul", {v, back.number(static_cast<double>(factor), dtype)});
    };
    const ValueId g = times(back.dy[0], "alpha"), a = back.x(0), b = back.x(1);
    const auto product = [&](ValueId left, bool turn_left, ValueId right, bool turn_right) {
        return back.op("MatMul",
                       {turn_left ? back.transposed(left) : left, turn_right ? back.transposed(right) : right});
    };
    if (back.wanted[0]) back.dx[0] = turn_a ? product(b, turn_b, g, true) : product(g, false, b, !turn_b);
    if (back.wanted[1]) back.dx[1] = turn_b ? product(g, true, a, turn_a) : product(a, !turn_a, g, false);
    if (back.dx.size() > 2 && back.wanted[2]) back.dx[2] = back.unbroadcast(times(back.dy[0], "beta"), back.x(2));
}

void concat_back(BackwardNode& back) {
    int64_t axis = back.node.attributes.i("axis", 1);
    if (axis < 0) axis += back.rank(back.dy[0]);
    ValueIds sizes;
    for (size_t i = 0; i < back.dx.size(); ++i)
        sizes.push_back(back.op("Gather", {back.shape_of(back.x(i)), back.patch.constant_ints({axis})}));
    const ValueId zero = back.patch.constant_ints({0}), along = back.patch.constant_ints({axis});
    ValueId begin = zero;
    for (size_t i = 0; i < back.dx.size(); ++i) {
        const ValueId end = back.op("Add", {begin, sizes[i]});
        if (back.wanted[i]) back.dx[i] = back.op("Slice", {back.dy[0], begin, end, along});
        begin = end;
    }
}

// The gradient goes to the places of x that `places` names, as if x were flat, and adds up there.
ValueId scattered(const BackwardNode& back, ValueId places, ValueId g) {
    const ValueId flat = back.patch.constant_ints({-1});
    const ValueId zeros = back.op("Reshape", {back.filled(back.x(0), 0), flat});
    Attributes add;
    add.set("reduction", std::string("add"));
    if (back.opset() < 16) fail(ErrorKind::not_implemented, "it needs opset 16");
    const ValueId sum =
        back.op("ScatterElements", {zeros, back.op("Reshape", {places, flat}), back.op("Reshape", {g, flat})}, add);
    return back.reshape_as(sum, back.x(0));
}

// What moves elements moves their numbers alike.
void movement_back(BackwardNode& back) {
    const ValueId count = back.op("Size", {back.x(0)});
    const ValueId numbers =
        back.op("Range", {back.patch.constant_ints({0}, true), count, back.patch.constant_ints({1}, true)});
    Node copy = copy_of(back.node);
    copy.inputs[0] = back.reshape_as(numbers, back.x(0));
    const ValueIds places = back.patch.node(std::move(copy), static_cast<int>(back.node.outputs.size()));
    for (size_t i = 0; i < places.size(); ++i) {
        if (back.dy[i] == kNoValue) continue;
        const ValueId own = scattered(back, places[i], back.dy[i]);
        back.dx[0] = back.dx[0] == kNoValue ? own : back.op("Add", {back.dx[0], own});
    }
}

void max_pool_back(BackwardNode& back) {
    Node copy = copy_of(back.node);
    copy.attributes.set("storage_order", int64_t{0});
    back.dx[0] = scattered(back, back.patch.node(std::move(copy), 2)[1], back.dy[0]);
}

void dropout_back(BackwardNode& back) {
    const Node& node = back.node;
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
        const Tensor* training = back.graph.constant(node.inputs[2]);
        if (!training || int_at(*training, 0)) fail(ErrorKind::not_implemented, "it is not known in training mode");
    }
    back.dx[0] = back.dy[0];
}

void conv_back(BackwardNode& back) {
    const Attributes& attributes = back.node.attributes;
    const std::string pad = attributes.s("auto_pad", "NOTSET");
    const Fact &x = back.patch.fact(back.x(0)), &w = back.patch.fact(back.x(1)), &y = back.patch.fact(back.dy[0]);
    const size_t spatial = static_cast<size_t>(back.rank(back.x(0))) - 2;
    if ((pad != "NOTSET" && pad != "VALID") || !x.ranked || !w.ranked || !y.ranked)
        fail(ErrorKind::not_implemented, "it is known for explicit pads only");
    const auto list = [&](const char* name, size_t n, int64_t absent) {
        return attributes.ints(name, std::vector<int64_t>(n, absent));
    };
    const std::vector<int64_t> strides = list("strides", spatial, 1), dilations = list("dilations", spatial, 1);
    const std::vector<int64_t> pads = list("pads", 2 * spatial, 0);
    const int64_t group = attributes.i("group", 1);
    std::vector<int64_t> axes, sizes, over, swap{1, 0};
    for (size_t i = 0; i < spatial; ++i) {
        const int64_t in = x.shape[i + 2], out = y.shape[i + 2], k = w.shape[i + 2];
        if (!is_number(in) || !is_number(out) || !is_number(k))
            fail(ErrorKind::not_implemented, "the sizes of its images must be known when the model is loaded");
        axes.push_back(static_cast<int64_t>(i) + 2);
        sizes.push_back(k);
        swap.push_back(static_cast<int64_t>(i) + 2);
        // What the last window does not reach.
        over.push_back(in + pads[i] + pads[i + spatial] - dilations[i] * (k - 1) - 1 - strides[i] * (out - 1));
    }
    if (back.wanted[0])
        back.dx[0] = back.op("ConvTranspose", {back.dy[0], back.x(1)},
                             Attributes()
                                 .set("strides", strides)
                                 .set("dilations", dilations)
                                 .set("pads", pads)
                                 .set("group", group)
                                 .set("output_padding", over));
    if (back.wanted[1]) {
        if (group != 1) fail(ErrorKind::not_implemented, "that of the weights is known for group 1 only");
        // Images become channels: their product with the gradient, taken at steps of the strides.
        const ValueId product =
            back.op("Conv", {back.transposed(back.x(0), swap), back.transposed(back.dy[0], swap)},
                    Attributes().set("strides", dilations).set("dilations", strides).set("pads", pads));
        const ValueId zero = back.patch.constant_ints(std::vector<int64_t>(spatial, 0));
        const ValueId own =
            back.op("Slice", {product, zero, back.patch.constant_ints(sizes), back.patch.constant_ints(axes)});
        back.dx[1] = back.transposed(own, swap);
    }
    if (back.dx.size() > 2 && back.wanted[2]) {
        std::vector<int64_t> others{0};
        others.insert(others.end(), axes.begin(), axes.end());
        back.dx[2] = back.reshape_as(back.sum(back.dy[0], others), back.x(2));
    }
}

// Of the scores: (probabilities - one-hot labels) weights / what the loss is divided by.
void loss_back(BackwardNode& back) {
    const Node& node = back.node;
    if (!back.wanted[0] || back.dy[0] == kNoValue || (back.dy.size() > 1 && back.dy[1] != kNoValue) ||
        (node.inputs.size() > 2 && back.wanted[2]))
        fail(ErrorKind::not_implemented, "it is known for the loss by its scores only");
    const DType dtype = back.patch.fact(back.x(0)).dtype;
    const ValueId axis = back.patch.constant_ints({1});
    const auto unsqueezed = [&](ValueId v) {
        if (back.opset() >= 13) return back.op("Unsqueeze", {v, axis});
        return back.op("Unsqueeze", {v}, Attributes().set("axes", std::vector<int64_t>{1}));
    };
    ValueId labels = back.cast(back.x(1), DType::i64), weight = kNoValue;
    if (node.attributes.has("ignore_index")) {
        const ValueId ignored =
            back.op("Equal", {labels, back.patch.constant_ints({node.attributes.i("ignore_index", 0)}, true)});
        labels = back.op("Where", {ignored, back.patch.constant_ints({0}, true), labels});
        weight = back.cast(back.op("Not", {ignored}), dtype);
    }
    if (node.inputs.size() > 2 && node.inputs[2] != kNoValue) {
        const ValueId own = back.op("Gather", {node.inputs[2], labels});
        weight = weight == kNoValue ? own : back.op("Mul", {weight, own});
    }
    if (weight == kNoValue)
        weight =
            back.op("Cast", {back.op("Equal", {labels, labels})}, Attributes().set("to", static_cast<int64_t>(dtype)));
    const std::string reduction = node.attributes.s("reduction", "mean");
    ValueId g = back.op("Mul", {back.dy[0], weight});
    if (reduction == "mean")
        g = back.op("Div", {g, back.op("ReduceSum", {weight}, Attributes().set("keepdims", int64_t{0}))});
    Tensor off_on = Tensor::allocate(DType::f32, {2});
    off_on.as<float>()[0] = 0;
    off_on.as<float>()[1] = -1;
    const ValueId classes = back.op("Gather", {back.shape_of(back.x(0)), axis});
    ValueId d = back.cast(back.op("OneHot", {labels, classes, back.patch.constant(std::move(off_on))},
                                  Attributes().set("axis", int64_t{1})),
                          dtype);
    if (node.op_type == "SoftmaxCrossEntropyLoss") {
        // Along axis 1, which before opset 13 must be the last.
        const std::vector<int64_t> one{1};
        const ValueId most = back.opset() >= 18 ? back.op("ReduceMax", {back.x(0), axis})
                                                : back.op("ReduceMax", {back.x(0)}, Attributes().set("axes", one));
        const ValueId e = back.op("Exp", {back.op("Sub", {back.x(0), most})});
        d = back.op("Add", {d, back.op("Div", {e, back.sum(e, one)})});
    }
    back.dx[0] = back.op("Mul", {d, unsqueezed(g)});
}

struct Derivative {
    std::string_view op;
    void (*backward)(BackwardNode&);
};

constexpr Derivative kDerivatives[] = {
    {"Cast", cast_back},
    {"Concat", concat_back},
    {"Conv", conv_back},
    {"DepthToSpace", movement_back},
    {"Dropout", dropout_back},
    {"Gather", movement_back},
    {"GatherElements", movement_back},
    {"GatherND", movement_back},
    {"Gemm", gemm_back},
    {"MatMul", matmul_back},
    {"Max", variadic_back},
    {"MaxPool", max_pool_back},
    {"Mean", variadic_back},
    {"Min", variadic_back},
    {"NegativeLogLikelihoodLoss", loss_back},
    {"Slice", movement_back},
    {"SoftmaxCrossEntropyLoss", loss_back},
    {"SpaceToDepth", movement_back},
    {"Split", movement_back},
    {"Sum", variadic_back},
    {"Tile", movement_back},
    {"Transpose", transpose_back},
};

}  // namespace

void (*backward_of(const Node& node))(BackwardNode&) {
    if (!node.domain.empty()) return nullptr;
    if (rule_of(node.op_type)) return by_rule;
    for (const Derivative& d : kDerivatives)
        if (d.op == node.op_type) return d.backward;
    return nullptr;
}

}  // namespace linnet
