// Derivatives of operators. Those of elementwise and of reducing operators are programs (ops/shared/compose.h), one for
// each input, over g (the output's gradient), y (output 0), a, b, c (the inputs), and the words
//   mask: of bool, 1 or 0;  sum: along the attribute axis;  keep: with the axes, as 1, that the node has reduced;
//   expand: as large as a;  reshape: the shape of a;  share: divided by the elements of a for one of y.
// Results are summed where an input was broadcast. An empty program: no derivative goes there.
#include <cstring>
#include <string>

#include "passes/gradient.h"

namespace linnet {
namespace {

constexpr char kRules[] =
    "Abs|g a Sign/1 Mul\n"
    "Acos|g 1 a a Mul Sub Sqrt/1 Div Neg/1\n"
    "Acosh|g a a Mul 1 Sub Sqrt/1 Div\n"
    "Add|g|g\n"
    "Asin|g 1 a a Mul Sub Sqrt/1 Div\n"
    "Asinh|g a a Mul 1 Add Sqrt/1 Div\n"
    "Atan|g a a Mul 1 Add Div\n"
    "Atanh|g 1 a a Mul Sub Div\n"
    "Clip|g a y Equal mask Mul\n"
    "Cos|g a Sin/1 Mul Neg/1\n"
    "Cosh|g a Sinh/1 Mul\n"
    "Div|g b Div|g y Mul b Div Neg/1\n"
    "Elu|a 0 Less g y alpha:1 Add Mul g Where/3\n"
    "Erf|g 1.1283791670955126 Mul a a Mul Neg/1 Exp/1 Mul\n"
    "Exp|g y Mul\n"
    "Expand|g\n"
    "Flatten|g reshape\n"
    "GlobalAveragePool|g expand share\n"
    "HardSigmoid|g y 0 Greater y 1 Less And mask Mul alpha:0.2 Mul\n"
    "Identity|g\n"
    "LeakyRelu|a 0 Less g alpha:0.01 Mul g Where/3\n"
    "Log|g a Div\n"
    "LogSoftmax|g y Exp/1 g sum Mul Sub\n"
    "Mul|g b Mul|g a Mul\n"
    "Neg|g Neg/1\n"
    "PRelu|a 0 Less g b Mul g Where/3|a 0 Less g a Mul 0 Where/3\n"
    "Pow|g b Mul a b 1 Sub Pow Mul|g y Mul a Log/1 Mul\n"
    "Reciprocal|g y y Mul Mul Neg/1\n"
    "ReduceL2|g y Div keep a Mul\n"
    "ReduceLogSumExp|g keep a y keep Sub Exp/1 Mul\n"
    "ReduceMean|g keep expand share\n"
    "ReduceSum|g keep expand\n"
    "ReduceSumSquare|g keep 2 Mul a Mul\n"
    "Relu|g y 0 Greater mask Mul\n"
    "Reshape|g reshape\n"
    "Sigmoid|g y 1 y Sub Mul Mul\n"
    "Sin|g a Cos/1 Mul\n"
    "Sinh|g a Cosh/1 Mul\n"
    "Softmax|g g y Mul sum Sub y Mul\n"
    "Softplus|g a Sigmoid/1 Mul\n"
    "Softsign|g 1 a Abs/1 Add 1 a Abs/1 Add Mul Div\n"
    "Sqrt|g 2 y Mul Div\n"
    "Squeeze|g reshape\n"
    "Sub|g|g Neg/1\n"
    "Tan|g y y Mul 1 Add Mul\n"
    "Tanh|g 1 y y Mul Sub Mul\n"
    "Unsqueeze|g reshape\n"
    "Where||a g 0 Where/3|a 0 g Where/3\n";

// The program for input i, or null.
const char* program_of(const std::string& op, size_t i) {
    for (const char* line = kRules; *line != '\0'; line = std::strchr(line, '\n') + 1) {
        if (std::strncmp(line, op.c_str(), op.size()) != 0 || line[op.size()] != '|') continue;
        const char* program = line + op.size() + 1;
        for (; i > 0; --i) {
            program += std::strcspn(program, "|\n");
            if (*program != '|') return nullptr;
            ++program;
        }
        return program;
    }
    return nullptr;
}

ValueId summed(const BackwardNode& back, ValueId v) {
    const bool matrix = back.node.op->since < 13;  // then all axes from `axis` on are normalized together
    const int64_t rank = back.rank(v);
    int64_t axis = back.node.attributes.i("axis", matrix ? 1 : -1);
    if (axis < 0) axis += rank;
    if (matrix && axis != rank - 1) BackwardNode::refuse("known along the last axis only before opset 13");
    return back.sum(v, {axis});
}

ValueId word(const void* context, const char* word, ValueId v) {
    const BackwardNode& back = *static_cast<const BackwardNode*>(context);
    const ValueId a = back.x(0);
    switch (word[0]) {
        case 'm': return back.cast(v, back.patch.fact(back.dy[0]).dtype);
        case 'r': return back.reshape_as(v, a);
        case 'e': return back.op("Expand", {v, back.shape(a)});
        case 'k': {
            if (back.patch.fact(v).ranked && back.patch.fact(v).rank() == back.rank(a)) return v;
            Node copy = copy_of(back.node);
            copy.attributes.set("keepdims", int64_t{1});
            return back.reshape_as(v, back.patch.node(std::move(copy), 1)[0]);
        }
        default:
            if (word[1] == 'u') return summed(back, v);
            const ValueId count = back.op("Div", {back.op("Size", {a}), back.op("Size", {back.node.outputs[0]})});
            return back.op("Div", {v, back.cast(count, back.patch.fact(v).dtype)});
    }
}

void by_program(BackwardNode& back, size_t i, const char* program) {
    ValueIds letters;
    for (size_t k = 0; k < 26; ++k) letters.push_back(k < back.node.inputs.size() ? back.x(k) : kNoValue);
    letters['g' - 'a'] = back.dy[0];
    letters['y' - 'a'] = back.node.outputs[0];
    const DType dtype = back.patch.fact(back.dy[0]).dtype;
    back.dx[i] = back.unbroadcast(back.run({program, dtype, back.node.attributes, letters, word, &back})[0], back.x(i));
}

void cast_back(BackwardNode& back) { back.dx[0] = back.cast(back.dy[0], back.patch.fact(back.x(0)).dtype); }

// Sum and Mean of any number of operands; Max and Min give each operand that is the result its gradient.
void variadic_back(BackwardNode& back) {
    const char second = back.node.op_type[1];
    const DType dtype = back.patch.fact(back.dy[0]).dtype;
    for (size_t i = 0; i < back.dx.size(); ++i) {
        if (back.wanted[i] == kNoValue) continue;
        ValueId g = back.dy[0];
        if (second == 'e') g = back.op("Div", {g, back.number(static_cast<double>(back.dx.size()), dtype)});
        else if (second != 'u')
            g = back.op("Mul", {g, back.cast(back.op("Equal", {back.x(i), back.node.outputs[0]}), dtype)});
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
    back.dx[0] = back.op("Transpose", {back.dy[0]}, "perm", inverse);
}

void matmul_back(BackwardNode& back) {
    // Vectors become matrices of one row or column.
    const ValueId one = back.ints({1});
    const bool row = back.rank(back.x(0)) == 1, column = back.rank(back.x(1)) == 1;
    ValueId a = back.x(0), b = back.x(1), g = back.dy[0];
    if (row) a = back.op("Reshape", {a, back.join({one, back.shape(a)})});
    if (column) b = back.op("Reshape", {b, back.join({back.shape(b), one})});
    if (row || column) {
        ValueId sizes = back.shape(g);
        const ValueId last = back.ints({back.rank(g) - 1});
        if (column) sizes = row ? back.ints({1, 1}) : back.join({sizes, one});
        else if (back.rank(g) == 1) sizes = back.join({one, sizes});
        else
            sizes = back.join({back.op("Slice", {sizes, back.ints({0}), last}), one, back.op("Gather", {sizes, last})});
        g = back.op("Reshape", {g, sizes});
    }
    for (const size_t i : {0, 1}) {
        if (back.wanted[i] == kNoValue) continue;
        const ValueId made =
            i == 0 ? back.op("MatMul", {g, back.transposed(b)}) : back.op("MatMul", {back.transposed(a), g});
        back.dx[i] = back.unbroadcast(made, i == 0 ? a : b);
        if (i == 0 ? row : column) back.dx[i] = back.reshape_as(back.dx[i], back.x(i));
    }
}

void gemm_back(BackwardNode& back) {
    const Attributes& attributes = back.node.attributes;
    const bool turn_a = attributes.i("transA", 0) != 0, turn_b = attributes.i("transB", 0) != 0;
    const DType dtype = back.patch.fact(back.dy[0]).dtype;
    const auto times = [&](const char* name) {
        return back.op("Mul", {back.dy[0], back.number(static_cast<double>(attributes.f(name, 1)), dtype)});
    };
    const ValueId g = times("alpha"), a = back.x(0), b = back.x(1);
    const auto product = [&](ValueId left, bool turn_left, ValueId right, bool turn_right) {
        if (turn_left) left = back.transposed(left);
        return back.op("MatMul", {left, turn_right ? back.transposed(right) : right});
    };
    if (back.wanted[0] != kNoValue) back.dx[0] = turn_a ? product(b, turn_b, g, true) : product(g, false, b, !turn_b);
    if (back.wanted[1] != kNoValue) back.dx[1] = turn_b ? product(g, true, a, turn_a) : product(a, !turn_a, g, false);
    if (back.dx.size() > 2 && back.wanted[2] != kNoValue) back.dx[2] = back.unbroadcast(times("beta"), back.x(2));
}

void concat_back(BackwardNode& back) {
    int64_t axis = back.node.attributes.i("axis", 1);
    if (axis < 0) axis += back.rank(back.dy[0]);
    const ValueId along = back.ints({axis});
    ValueId begin = back.ints({0});
    for (size_t i = 0; i < back.dx.size(); ++i) {
        const ValueId end = back.op("Add", {begin, back.op("Gather", {back.shape(back.x(i)), along})});
        if (back.wanted[i] != kNoValue) back.dx[i] = back.op("Slice", {back.dy[0], begin, end, along});
        begin = end;
    }
}

// The gradient goes to the places of x that `places` names, as if x were flat, and adds up there.
ValueId scattered(const BackwardNode& back, ValueId places, ValueId g) {
    if (back.opset() < 16) BackwardNode::refuse("it needs opset 16");
    const ValueId flat = back.ints({-1});
    const ValueId zeros = back.op("Reshape", {back.filled(back.x(0), 0), flat});
    const ValueIds inputs{zeros, back.op("Reshape", {places, flat}), back.op("Reshape", {g, flat})};
    const ValueId sum = back.patch.node("ScatterElements", inputs, Attributes().set("reduction", std::string("add")));
    return back.reshape_as(sum, back.x(0));
}

// What moves elements moves their numbers alike.
void movement_back(BackwardNode& back) {
    const ValueId count = back.op("Size", {back.x(0)});
    const ValueId zero = back.patch.constant_ints({0}, true), one = back.patch.constant_ints({1}, true);
    Node copy = copy_of(back.node);
    copy.inputs[0] = back.reshape_as(back.op("Range", {zero, count, one}), back.x(0));
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
    if (back.node.inputs.size() > 2 && back.x(2) != kNoValue) {
        const Tensor* training = back.graph.constant(back.x(2));
        if (!training || int_at(*training, 0)) BackwardNode::refuse("not known in training mode");
    }
    back.dx[0] = back.dy[0];
}

void conv_back(BackwardNode& back) {
    const Attributes& attributes = back.node.attributes;
    const std::string pad = attributes.s("auto_pad", "NOTSET");
    const Fact &x = back.patch.fact(back.x(0)), &w = back.patch.fact(back.x(1)), &y = back.patch.fact(back.dy[0]);
    if ((pad != "NOTSET" && pad != "VALID") || !w.ranked || !y.ranked) BackwardNode::refuse("it needs explicit pads");
    const size_t spatial = static_cast<size_t>(back.rank(back.x(0))) - 2;
    const auto list = [&](const char* name, size_t n, int64_t absent) {
        return attributes.ints(name, std::vector<int64_t>(n, absent));
    };
    const std::vector<int64_t> strides = list("strides", spatial, 1), dilations = list("dilations", spatial, 1),
                               pads = list("pads", 2 * spatial, 0);
    std::vector<int64_t> axes, sizes, over, zeros(spatial, 0), swap{1, 0}, others{0};
    for (size_t i = 0; i < spatial; ++i) {
        const int64_t in = x.shape[i + 2], out = y.shape[i + 2], k = w.shape[i + 2];
        if (!is_number(in) || !is_number(out) || !is_number(k)) BackwardNode::refuse("it needs known sizes of images");
        axes.push_back(static_cast<int64_t>(i) + 2);
        swap.push_back(axes.back());
        others.push_back(axes.back());
        sizes.push_back(k);
        // What the last window does not reach.
        over.push_back(in + pads[i] + pads[i + spatial] - dilations[i] * (k - 1) - 1 - strides[i] * (out - 1));
    }
    const auto convolve = [&](const char* op, ValueId a, ValueId b, const std::vector<int64_t>& steps,
                              const std::vector<int64_t>& widths) {
        Node made;
        made.op_type = op;
        made.inputs = {a, b};
        made.attributes.set("strides", steps).set("dilations", widths).set("pads", pads);
        return made;
    };
    const int64_t group = attributes.i("group", 1);
    if (back.wanted[0] != kNoValue) {
        Node made = convolve("ConvTranspose", back.dy[0], back.x(1), strides, dilations);
        made.attributes.set("group", group).set("output_padding", over);
        back.dx[0] = back.patch.node(made.op_type, made.inputs, std::move(made.attributes));
    }
    if (back.wanted[1] != kNoValue) {
        if (group != 1) BackwardNode::refuse("by weights known for group 1 only");
        // Images become channels: their product with the gradient, taken at steps of the strides.
        Node made = convolve("Conv", back.op("Transpose", {back.x(0)}, "perm", swap),
                             back.op("Transpose", {back.dy[0]}, "perm", swap), dilations, strides);
        const ValueId product = back.patch.node(made.op_type, made.inputs, std::move(made.attributes));
        const ValueId own = back.op("Slice", {product, back.patch.constant_ints(zeros), back.patch.constant_ints(sizes),
                                              back.patch.constant_ints(axes)});
        back.dx[1] = back.op("Transpose", {own}, "perm", swap);
    }
    if (back.dx.size() > 2 && back.wanted[2] != kNoValue)
        back.dx[2] = back.reshape_as(back.sum(back.dy[0], others), back.x(2));
}

// Of the scores: (probabilities - one-hot labels) weights / what the loss is divided by.
void loss_back(BackwardNode& back) {
    const Node& node = back.node;
    const bool weighted = node.inputs.size() > 2 && back.x(2) != kNoValue;
    if (back.dy[0] == kNoValue || (back.dy.size() > 1 && back.dy[1] != kNoValue) ||
        (weighted && back.wanted[2] != kNoValue))
        BackwardNode::refuse("known for the loss by its scores only");
    const DType dtype = back.patch.fact(back.x(0)).dtype;
    const ValueId one = back.ints({1});
    ValueId labels = back.cast(back.x(1), DType::i64), weight = back.cast(back.op("Equal", {labels, labels}), dtype);
    if (node.attributes.has("ignore_index")) {
        const ValueId ignored = back.op("Equal", {labels, back.ints({node.attributes.i("ignore_index", 0)})});
        weight = back.cast(back.op("Not", {ignored}), dtype);
        labels = back.op("Where", {ignored, back.ints({0}), labels});
    }
    if (weighted) weight = back.op("Mul", {weight, back.op("Gather", {back.x(2), labels})});
    ValueId g = back.op("Mul", {back.dy[0], weight});
    if (node.attributes.s("reduction", "mean") == "mean")
        g = back.op("Div", {g, back.op("ReduceSum", {weight}, "keepdims", 0)});
    const ValueId classes = back.op("Gather", {back.shape(back.x(0)), one});
    const ValueId off_on = back.cast(back.ints({0, -1}), dtype);
    ValueId d = back.op("OneHot", {labels, classes, off_on}, "axis", 1);
    if (node.op_type[0] == 'S') {
        const ValueId most = back.opset() < 18 ? back.op("ReduceMax", {back.x(0)}, "axes", std::vector<int64_t>{1})
                                               : back.op("ReduceMax", {back.x(0), one});
        const ValueId e = back.op("Exp", {back.op("Sub", {back.x(0), most})});
        d = back.op("Add", {d, back.op("Div", {e, back.sum(e, {1})})});
    }
    g = back.opset() < 13 ? back.op("Unsqueeze", {g}, "axes", std::vector<int64_t>{1}) : back.op("Unsqueeze", {g, one});
    back.dx[0] = back.op("Mul", {d, g});
}

struct Derivative {
    const char* ops;  // between blanks
    void (*backward)(BackwardNode&);
};

constexpr Derivative kDerivatives[] = {
    {" Cast ", cast_back},
    {" Concat ", concat_back},
    {" Conv ", conv_back},
    {" Dropout ", dropout_back},
    {" Gemm ", gemm_back},
    {" MatMul ", matmul_back},
    {" MaxPool ", max_pool_back},
    {" Transpose ", transpose_back},
    {" Max Mean Min Sum ", variadic_back},
    {" NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss ", loss_back},
    {" DepthToSpace Gather GatherElements GatherND Slice SpaceToDepth Split Tile ", movement_back},
};

}  // namespace

bool differentiate(BackwardNode& back) {
    const std::string& op = back.node.op_type;
    if (!back.node.domain.empty()) return false;
    if (program_of(op, 0)) {
        for (size_t i = 0; i < back.dx.size(); ++i) {
            if (back.wanted[i] == kNoValue) continue;
            const char* program = program_of(op, i);
            if (!program || *program == '|') BackwardNode::refuse("not known by one of its inputs");
            by_program(back, i, program);
        }
        return true;
    }
    for (const Derivative& d : kDerivatives)
        if (std::strstr(d.ops, (' ' + op + ' ').c_str())) {
            d.backward(back);
            return true;
        }
    return false;
}

}  // namespace linnet
