// The epilogue attribute: text to program to kernel steps. Also the internal operator Epilogue (inputs: x, operands),
// which runs a program by itself: what a chain of elementwise operators with nothing to merge into becomes.
#include "ops/epilogue.h"

#include <cmath>
#include <limits>
#include <locale>
#include <sstream>

namespace linnet {
namespace {

using kernels::Unary;
using Kind = kernels::EpilogueStep::Kind;

struct Name {
    std::string_view text;
    Unary fn;
    int parameters;
};
constexpr Name kNames[] = {
    {"abs", Unary::abs, 0},
    {"neg", Unary::neg, 0},
    {"sign", Unary::sign, 0},
    {"floor", Unary::floor, 0},
    {"ceil", Unary::ceil, 0},
    {"round", Unary::round, 0},
    {"reciprocal", Unary::reciprocal, 0},
    {"sqrt", Unary::sqrt, 0},
    {"exp", Unary::exp, 0},
    {"log", Unary::log, 0},
    {"sin", Unary::sin, 0},
    {"cos", Unary::cos, 0},
    {"erf", Unary::erf, 0},
    {"relu", Unary::relu, 0},
    {"clip", Unary::clip, 2},
    {"leaky_relu", Unary::leaky_relu, 1},
    {"thresholded_relu", Unary::thresholded_relu, 1},
    {"shrink", Unary::shrink, 2},
    {"elu", Unary::elu, 1},
    {"selu", Unary::selu, 2},
    {"celu", Unary::celu, 1},
    {"sigmoid", Unary::sigmoid, 0},
    {"tanh", Unary::tanh, 0},
    {"softplus", Unary::softplus, 0},
    {"softsign", Unary::softsign, 0},
    {"hard_sigmoid", Unary::hard_sigmoid, 2},
    {"hard_swish", Unary::hard_swish, 0},
    {"silu", Unary::silu, 0},
    {"mish", Unary::mish, 0},
    {"gelu_erf", Unary::gelu_erf, 0},
    {"gelu_tanh", Unary::gelu_tanh, 0},
    {"quick_gelu", Unary::quick_gelu, 1},
    {"shift", Unary::add_scalar, 1},
    {"scale", Unary::mul_scalar, 1},
};

struct Operand {
    std::string_view text;
    Kind kind;
};
constexpr Operand kOperands[] = {{"add", Kind::add}, {"mul", Kind::mul}, {"prelu", Kind::prelu}};

std::string number_text(float value) {
    if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
    std::ostringstream out;
    out.imbue(std::locale::classic());
    out.precision(std::numeric_limits<float>::max_digits10);
    out << value;
    return out.str();
}

float parse_number(const std::string& text) {
    if (text == "inf" || text == "-inf") return text[0] == '-' ? -INFINITY : INFINITY;
    std::istringstream in(text);
    in.imbue(std::locale::classic());
    double value = 0;  // as double: reading a subnormal float fails
    in >> value;
    require(!in.fail() && in.peek() == std::istringstream::traits_type::eof(), "epilogue: '", text,
            "' is not a number");
    return static_cast<float>(value);
}

// The form "full" is decided by shape; a shape that fits both ways means the same elements.
bool is_vector(const Shape& operand, int64_t columns) {
    if (operand.empty() || operand.back() != columns) return false;
    for (size_t i = 0; i + 1 < operand.size(); ++i)
        if (operand[i] != 1) return false;
    return true;
}

}  // namespace

std::string epilogue_text(Unary fn, float a, float b) {
    for (const Name& name : kNames) {
        if (name.fn != fn) continue;
        std::string text(name.text);
        if (name.parameters > 0) text += ':' + number_text(a);
        if (name.parameters > 1) text += ',' + number_text(b);
        return text;
    }
    fail(ErrorKind::fail, "epilogue: function ", static_cast<int>(fn), " has no name");
}

std::string epilogue_operand(std::string_view kind, size_t input) { return cat(kind, ':', input); }

EpilogueProgram::EpilogueProgram(const Attributes& attributes) {
    const auto steps = attributes.strings("epilogue");
    require(steps.size() <= kMaxEpilogue, "epilogue: ", steps.size(), " steps, at most ", kMaxEpilogue);
    for (const std::string& step : steps) {
        const size_t colon = step.find(':');
        const std::string_view head = std::string_view(step).substr(0, colon);
        const std::string tail = colon == std::string::npos ? std::string() : step.substr(colon + 1);
        Item item;
        bool known = false;
        for (const Operand& operand : kOperands) {
            if (operand.text != head) continue;
            const float index = parse_number(tail);
            require(index >= 1 && index < 1000 && index == std::floor(index), "epilogue: '", step, "' names no input");
            item.kind = operand.kind;
            item.input = static_cast<int>(index);
            known = true;
        }
        for (const Name& name : kNames) {
            if (name.text != head) continue;
            item.fn = name.fn;
            const size_t comma = tail.find(',');
            const int given = tail.empty() ? 0 : comma == std::string::npos ? 1 : 2;
            require(given == name.parameters, "epilogue: '", step, "' has ", given, " parameters, expected ",
                    name.parameters);
            if (given > 0) item.a = parse_number(tail.substr(0, comma));
            if (given > 1) item.b = parse_number(tail.substr(comma + 1));
            known = true;
        }
        require(known, "epilogue: unknown step '", step, "'");
        items_.push_back(item);
    }
}

void EpilogueProgram::resolve(const PrepareContext& ctx, const Shape& output) {
    columns_ = output.empty() ? 1 : output.back();
    per_batch_ = false;
    for (Item& item : items_) {
        if (item.input < 0) continue;
        require(ctx.has_input(item.input), "epilogue: the node has no input ", item.input);
        const Fact& fact = ctx.input(item.input);
        require(fact.dtype == DType::f32, "epilogue: input ", item.input, " is ", dtype_name(fact.dtype),
                ", expected float32");
        const Shape& shape = fact.shape;
        if (shape == output) {
            item.form = Form::full;
        } else if (is_vector(shape, columns_)) {
            item.form = Form::vector;
        } else {
            bool fits =
                shape.size() == output.size() && shape.size() >= 2 && shape[0] == output[0] && shape.back() == columns_;
            for (size_t i = 1; fits && i + 1 < shape.size(); ++i) fits = shape[i] == 1;
            require(fits, "epilogue: input ", item.input, " of shape ", shape_text(shape), " does not fit output ",
                    shape_text(output));
            item.form = Form::batch_vector;
            per_batch_ = true;
        }
    }
}

EpilogueSteps EpilogueProgram::bind(const RunContext& ctx, const float* bias, const Place& place) const {
    EpilogueSteps bound;
    if (bias) {
        bound.steps[0] = {Kind::add, Unary::identity, 0, 0, bias, 0};
        bound.count = 1;
    }
    for (const Item& item : items_) {
        kernels::EpilogueStep step{item.kind, item.fn, item.a, item.b, nullptr, 0};
        if (item.form != Form::none) {
            step.data = ctx.input(item.input).as<float>();
            if (item.form == Form::full) {
                step.data += place.offset;
                step.stride = place.row_stride;
            } else {
                step.data += place.column + (item.form == Form::batch_vector ? place.batch * columns_ : 0);
            }
        }
        bound.steps[bound.count++] = step;
    }
    return bound;
}

namespace {

void infer_epilogue(InferContext& ctx) {
    const Fact& x = ctx.input(0);
    require(x.dtype == DType::f32, "x is ", dtype_name(x.dtype), ", expected float32");
    Fact y = x;
    y.constant = nullptr;
    y.ints.reset();
    ctx.output(0, std::move(y));
}

std::shared_ptr<const void> prepare_epilogue(PrepareContext& ctx) {
    auto program = std::make_shared<EpilogueProgram>(ctx.attributes);
    program->resolve(ctx, ctx.output(0).shape);
    return program;
}

void run_epilogue(RunContext& ctx) {
    const auto& program = *ctx.state<EpilogueProgram>();
    const Tensor& x = ctx.input(0);
    const Shape& shape = x.shape;
    const int64_t count = x.count(), columns = shape.empty() ? 1 : shape.back();
    if (count == 0) return;
    const int64_t batches = program.per_batch() ? shape[0] : 1;
    const int64_t rows = count / columns / batches;
    const int64_t grain = std::max<int64_t>(1, 16384 / columns);
    const float* from = x.as<float>();
    float* to = ctx.output(0).as<float>();
    for (int64_t batch = 0; batch < batches; ++batch) {
        const int64_t offset = batch * rows * columns;
        const EpilogueSteps steps = program.bind(ctx, nullptr, {offset, columns, 0, batch});
        parallel_ranges(ctx.parallel(), rows, grain, [&](int64_t begin, int64_t end) {
            kernels::kernels().epilogue_f32(steps.view(), static_cast<size_t>(begin), static_cast<size_t>(end),
                                            static_cast<size_t>(columns), from + offset, columns, to + offset, columns);
        });
    }
}

}  // namespace

std::span<const OpDef> epilogue_ops() {
    static const OpDef rows[] = {
        {.name = "Epilogue",
         .domain = "linnet",
         .infer = infer_epilogue,
         .run = run_epilogue,
         .prepare = prepare_epilogue,
         .min_inputs = 1,
         .max_inputs = -1},
    };
    return rows;
}

}  // namespace linnet
