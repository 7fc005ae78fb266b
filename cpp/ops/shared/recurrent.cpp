// Facts, packing and plan of a recurrent layer: see recurrent.h.
#include "ops/shared/recurrent.h"

#include <algorithm>
#include <cctype>

#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

using kernels::Unary;

struct KnownActivation {
    const char* name;
    Activation::Form form;
    Unary fn;
    bool has_alpha, has_beta;
    float alpha, beta;  // defaults
};
constexpr KnownActivation kActivations[] = {
    {"relu", Activation::Form::unary, Unary::relu, false, false, 0, 0},
    {"tanh", Activation::Form::unary, Unary::tanh, false, false, 0, 0},
    {"sigmoid", Activation::Form::unary, Unary::sigmoid, false, false, 0, 0},
    {"softsign", Activation::Form::unary, Unary::softsign, false, false, 0, 0},
    {"softplus", Activation::Form::unary, Unary::softplus, false, false, 0, 0},
    {"leakyrelu", Activation::Form::unary, Unary::leaky_relu, true, false, 0.01f, 0},
    {"thresholdedrelu", Activation::Form::unary, Unary::thresholded_relu, true, false, 1, 0},
    {"elu", Activation::Form::unary, Unary::elu, true, false, 1, 0},
    {"hardsigmoid", Activation::Form::unary, Unary::hard_sigmoid, true, true, 0.2f, 0.5f},
    {"affine", Activation::Form::affine, Unary::identity, true, true, 1, 0},
    {"scaledtanh", Activation::Form::scaled_tanh, Unary::tanh, true, true, 1, 1},
};

const KnownActivation& known_activation(const std::string& name) {
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    for (const KnownActivation& known : kActivations)
        if (lower == known.name) return known;
    fail(ErrorKind::not_implemented, "activation '", name, "'");
}

std::vector<Activation> read_activations(const Attributes& attributes, const RecurrentCell& cell, int64_t directions) {
    std::vector<std::string> names = attributes.strings("activations");
    const size_t wanted = cell.activations * static_cast<size_t>(directions);
    if (names.empty())
        for (size_t i = 0; i < wanted; ++i) names.push_back(cell.defaults[i % cell.activations]);
    require(names.size() == wanted, names.size(), " activations, expected ", wanted);
    const std::vector<float> alphas = attributes.floats("activation_alpha"),
                             betas = attributes.floats("activation_beta");
    size_t next_alpha = 0, next_beta = 0;
    std::vector<Activation> out;
    for (const std::string& name : names) {
        const KnownActivation& known = known_activation(name);
        Activation activation{known.form, known.fn, known.alpha, known.beta};
        // Each function takes what it has from the front of the lists.
        if (known.has_alpha && next_alpha < alphas.size()) activation.alpha = alphas[next_alpha++];
        if (known.has_beta && next_beta < betas.size()) activation.beta = betas[next_beta++];
        out.push_back(activation);
    }
    return out;
}

int64_t direction_count(const Attributes& attributes) {
    const std::string direction = attributes.s("direction", "forward");
    require(direction == "forward" || direction == "reverse" || direction == "bidirectional", "direction is '",
            direction, "'");
    return direction == "bidirectional" ? 2 : 1;
}

// Throws unless input i, when it is there, has this shape (unknown sizes fit).
void check_shape(const InferContext& ctx, int i, DType dtype, const Shape& wanted, const char* name) {
    if (!ctx.has_input(i)) return;
    const Fact& fact = tensor_input(ctx, i);
    require(fact.dtype == dtype || fact.dtype == DType::undefined || dtype == DType::undefined, name, " is ",
            dtype_name(fact.dtype), ", expected ", dtype_name(dtype));
    if (!fact.ranked) return;
    require(fact.shape.size() == wanted.size(), name, " has rank ", fact.rank(), ", expected ", wanted.size());
    for (size_t d = 0; d < wanted.size(); ++d)
        if (is_number(fact.shape[d]) && is_number(wanted[d]) && fact.shape[d] != wanted[d])
            fail(ErrorKind::invalid_argument, name, " has shape ", ctx.dims.text(fact.shape), ", expected ",
                 ctx.dims.text(wanted));
}

}  // namespace

void Activation::apply(size_t n, const float* x, float* y) const {
    const auto& k = kernels::kernels();
    switch (form) {
        case Form::unary: return k.map_f32(fn, n, x, y, alpha, beta);
        case Form::affine:
            k.map_f32(Unary::mul_scalar, n, x, y, alpha, 0);
            return k.map_f32(Unary::add_scalar, n, y, y, beta, 0);
        case Form::scaled_tanh:
            k.map_f32(Unary::mul_scalar, n, x, y, beta, 0);
            k.map_f32(Unary::tanh, n, y, y, 0, 0);
            return k.map_f32(Unary::mul_scalar, n, y, y, alpha, 0);
    }
}

void RecurrentBlock::activate(size_t which, float* values) const {
    const size_t count = static_cast<size_t>(n);
    if (r.clip > 0) kernels::kernels().map_f32(Unary::clip, count, values, values, -r.clip, r.clip);
    r.activations[static_cast<size_t>(direction) * r.cell->activations + which].apply(count, values, values);
}

RecurrentBuffers::RecurrentBuffers(std::byte* base, const Recurrent& r, bool ordered) {
    const RecurrentSizes& s = r.sizes;
    const auto take = [&](int64_t count) {
        float* piece = base ? reinterpret_cast<float*>(base + bytes) : nullptr;
        bytes = checked_add(bytes, checked_mul(checked_add(count, 15) / 16, 64));
        return piece;
    };
    const int64_t rows = checked_mul(s.steps, s.batch), columns = s.columns();
    if (r.packed_w.empty()) w = take(checked_mul(s.directions, r.w_size));
    if (r.packed_r.empty()) this->r = take(checked_mul(s.directions, r.r_size));
    if (ordered) x = take(checked_mul(s.directions, checked_mul(rows, s.input)));
    bias = take(checked_mul(s.directions, columns));
    gates = take(checked_mul(s.directions, checked_mul(rows, columns)));
    if (!r.fused) sums = take(checked_mul(s.directions, checked_mul(s.batch, columns)));
    state = take(checked_mul(2 * s.directions, checked_mul(s.batch, s.hidden)));
    cell = take(checked_mul(s.directions, checked_mul(s.batch, s.hidden)));
    constexpr int64_t part_floats = sizeof(RecurrentPart) / sizeof(float);
    parts = reinterpret_cast<std::byte*>(take(s.directions * r.splits * part_floats));
}

bool needs_order(const Recurrent& r, bool lengths) {
    const bool any_reversed = r.reversed(0) || r.sizes.directions == 2;
    return (r.sizes.batch_first && r.sizes.batch > 1) || (lengths && any_reversed);
}

namespace {

// Rows [gate][hidden] of `depth` as panels [block][gate].
void pack_gates(const RecurrentSizes& s, int64_t gates, int64_t depth, const float* from, float* to) {
    const auto& k = kernels::kernels();
    const kernels::PackB how{1, static_cast<size_t>(depth), static_cast<size_t>(s.hidden), 0, 1, depth};
    for (int64_t gate = 0; gate < gates; ++gate)
        for (int64_t block = 0; block < s.blocks; ++block)
            k.pack_b_f32(how, from + gate * s.hidden * depth, to + (block * gates + gate - block) * s.unit * depth,
                         static_cast<size_t>(block), static_cast<size_t>(block) + 1);
}

}  // namespace

namespace {

// One direction's R in 8 bits, with its scales.
void pack_narrow(const Recurrent& r, const int8_t* rw, const float* scale, std::byte* to) {
    const auto& k = kernels::kernels();
    const RecurrentSizes& s = r.sizes;
    for (const RecurrentStage& stage : r.stages) {
        std::byte* const bytes = to + stage.byte;
        k.pack_recurrent_s8(static_cast<size_t>(s.hidden), static_cast<size_t>(stage.gates), rw, bytes);
        auto* scales = reinterpret_cast<float*>(bytes + stage.scale);
        for (int64_t block = 0; block < s.blocks; ++block)
            for (int64_t gate = 0; gate < stage.gates; ++gate)
                for (int64_t u = block * s.unit; u < (block + 1) * s.unit; ++u)
                    *scales++ = u < s.hidden ? scale[gate * s.hidden + u] : 0.0f;
        rw += stage.gates * s.hidden * s.hidden;
        scale += stage.gates * s.hidden;
    }
}

// R as float.
std::vector<float> widened(const int8_t* r, const float* scale, int64_t rows, int64_t hidden) {
    std::vector<float> out(static_cast<size_t>(checked_mul(rows, hidden)));
    for (int64_t i = 0; i < rows * hidden; ++i)
        out[static_cast<size_t>(i)] = static_cast<float>(r[i]) * scale[i / hidden];
    return out;
}

}  // namespace

void pack_direction(const Recurrent& r, const float* w, float* to_w, const float* rw, float* to_r) {
    const RecurrentSizes& s = r.sizes;
    for (const RecurrentStage& stage : r.stages) {
        if (to_w) pack_gates(s, stage.gates, s.input, w, to_w);
        if (to_r && r.fused)
            kernels::kernels().pack_recurrent_f32(static_cast<size_t>(s.hidden), static_cast<size_t>(stage.gates), rw,
                                                  to_r);
        else if (to_r) pack_gates(s, stage.gates, s.hidden, rw, to_r);
        const int64_t rows = stage.gates * s.hidden, columns = stage.gates * s.blocks * s.unit;
        if (w) w += rows * s.input;
        if (rw) rw += rows * s.hidden;
        if (to_w) to_w += columns * s.input;
        if (to_r) to_r += columns * s.hidden;
    }
}

std::optional<NarrowRecurrent> narrow_recurrent(const Tensor& r, const Tensor& scale, const Tensor* zero, bool swapped,
                                                bool per_direction) {
    if (r.rank() != 3 || !(r.dtype == DType::i8 || r.dtype == DType::u8)) return std::nullopt;
    const int64_t directions = r.shape[0], rows = r.shape[swapped ? 2 : 1], hidden = r.shape[swapped ? 1 : 2];
    const int64_t count = scale.count(), middle = r.dtype == DType::u8 ? 128 : 0;
    if (count != 1 && count != rows && count != directions * rows && !(per_direction && count == directions))
        return std::nullopt;
    for (int64_t i = 0; zero && i < zero->count(); ++i)
        if (int_at(*zero, i) != middle) return std::nullopt;
    if (!zero && middle != 0) return std::nullopt;
    NarrowRecurrent out{Tensor::allocate(DType::i8, {directions, rows, hidden}),
                        Tensor::allocate(DType::f32, {directions, rows})};
    const auto flip = static_cast<uint8_t>(middle);
    for (int64_t d = 0; d < directions; ++d)
        for (int64_t row = 0; row < rows; ++row) {
            const int64_t at = count == 1                             ? 0
                               : per_direction && count == directions ? d
                               : count == rows                        ? row
                                                                      : d * rows + row;
            out.scale.as<float>()[d * rows + row] = static_cast<float>(double_at(scale, at));
            for (int64_t k = 0; k < hidden; ++k) {
                const int64_t from = swapped ? (d * hidden + k) * rows + row : (d * rows + row) * hidden + k;
                out.r.as<uint8_t>()[(d * rows + row) * hidden + k] = r.as<uint8_t>()[from] ^ flip;
            }
        }
    return out;
}

OpDef narrow_row(const OpDef& row) {
    OpDef out = row;
    out.domain = "linnet";
    out.run = run_recurrent;
    out.lower = nullptr;
    out.min_inputs = out.max_inputs = kRecurrentScale + 1;
    return out;
}

void infer_recurrent(InferContext& ctx, const RecurrentCell& cell) {
    const Fact &x = tensor_input(ctx, 0), &w = tensor_input(ctx, 1), &r = tensor_input(ctx, 2);
    require(x.dtype == DType::undefined || is_float(x.dtype), "X is ", dtype_name(x.dtype), ", expected a float type");
    const int64_t directions = direction_count(ctx.attributes);
    read_activations(ctx.attributes, cell, directions);
    const int64_t layout = ctx.attributes.i("layout", 0);
    require(layout == 0 || layout == 1, "layout is ", layout);
    const bool batch_first = layout == 1;
    int64_t hidden = ctx.attributes.i("hidden_size", 0), steps = kUnknownDim, batch = kUnknownDim, input = kUnknownDim;
    require(hidden >= 0 && hidden < (int64_t{1} << 30), "hidden_size is ", hidden);
    if (hidden == 0) hidden = r.ranked && r.rank() == 3 ? r.shape[2] : kUnknownDim;
    if (x.ranked) {
        require(x.rank() == 3, "X has rank ", x.rank(), ", expected 3");
        steps = x.shape[batch_first ? 1 : 0];
        batch = x.shape[batch_first ? 0 : 1];
        input = x.shape[2];
    }
    if (w.ranked && w.rank() == 3 && !is_number(input)) input = w.shape[2];
    const auto times = [&](int64_t factor) { return ctx.dims.mul(hidden, factor); };
    const Shape state = batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
    check_shape(ctx, 1, x.dtype, {directions, times(cell.gates), input}, "W");
    check_shape(ctx, 2, r.dtype == DType::i8 ? r.dtype : x.dtype, {directions, times(cell.gates), hidden}, "R");
    require(r.dtype != DType::i8 || ctx.has_input(kRecurrentScale), "R is int8 and has no scale");
    check_shape(ctx, kRecurrentScale, DType::f32, {directions, times(cell.gates)}, "the scale of R");
    check_shape(ctx, 3, x.dtype, {directions, times(2 * cell.gates)}, "B");
    check_shape(ctx, 4, DType::i32, {batch}, "sequence_lens");
    check_shape(ctx, 5, x.dtype, state, "initial_h");
    if (cell.has_cell_state) {
        check_shape(ctx, 6, x.dtype, state, "initial_c");
        check_shape(ctx, 7, x.dtype, {directions, times(3)}, "P");
    }
    ctx.output(0, x.dtype,
               batch_first ? Shape{batch, steps, directions, hidden} : Shape{steps, directions, batch, hidden});
    for (int i = 1; i < ctx.outputs(); ++i) ctx.output(i, x.dtype, state);
}

std::shared_ptr<const void> prepare_recurrent(PrepareContext& ctx, const RecurrentCell& cell) {
    const auto& k = kernels::kernels();
    auto state = std::make_shared<Recurrent>();
    Recurrent& r = *state;
    const Shape &x = ctx.input(0).shape, &weights = ctx.input(2).shape;
    RecurrentSizes& s = r.sizes;
    s.batch_first = ctx.attributes.i("layout", 0) == 1;
    s.steps = x[s.batch_first ? 1 : 0];
    s.batch = x[s.batch_first ? 0 : 1];
    s.input = x[2];
    s.hidden = weights[2];
    s.directions = direction_count(ctx.attributes);
    s.gates = cell.gates;
    r.cell = &cell;
    r.activations = read_activations(ctx.attributes, cell, s.directions);
    r.first_reversed = ctx.attributes.s("direction", "forward") == "reverse";
    r.clip = ctx.attributes.f("clip", 0.0f);
    r.flag = cell.flag && ctx.attributes.i(cell.flag, 0) != 0;
    r.plain = !(r.clip > 0);
    for (size_t i = 0; i < r.activations.size(); ++i)
        r.plain = r.plain && r.activations[i].form == Activation::Form::unary &&
                  r.activations[i].is(known_activation(cell.defaults[i % cell.activations]).fn);

    s.unit = static_cast<int64_t>(k.gemm_cols);
    s.blocks = (s.hidden + s.unit - 1) / s.unit;
    r.stages = cell.stages(r.flag);
    for (size_t i = 1; i < r.stages.size(); ++i)
        r.stages[i].column = r.stages[i - 1].column + r.stages[i - 1].gates * s.blocks * s.unit;
    const bool special = cell.has_cell_state && (r.flag || ctx.has_input(7));
    r.fused = r.plain && s.batch == 1 && !special;
    r.w_size = checked_mul(s.columns(), s.input);
    r.r_size = checked_mul(s.columns(), s.hidden);
    const bool given_narrow = ctx.input(2).dtype == DType::i8;
    r.narrow = given_narrow && r.fused && s.hidden <= static_cast<int64_t>(kernels::RecurrentF32::max_hidden_s8);
    int64_t narrow_bytes = 0;
    for (RecurrentStage& stage : r.stages) {
        const size_t size = k.pack_recurrent_s8_size(static_cast<size_t>(s.hidden), static_cast<size_t>(stage.gates));
        stage.byte = narrow_bytes;
        stage.scale = static_cast<int64_t>((size + 63) / 64 * 64);
        narrow_bytes += stage.scale + checked_mul(checked_mul(s.blocks, s.unit), stage.gates * 4);
        narrow_bytes = (narrow_bytes + 63) / 64 * 64;
    }
    const auto kind = [&](const char* form, int64_t d) {
        return cat("rnn ", form, ' ', k.isa, ' ', r.stages.size(), ' ', s.gates, ' ', s.hidden, ' ', d);
    };
    const auto pack = [&](int i, bool input_side, int64_t size) {
        std::vector<std::shared_ptr<const Tensor>> packed;
        if (!ctx.is_constant(i) || ctx.input(i).dtype != DType::f32) return packed;
        for (int64_t d = 0; d < s.directions; ++d)
            packed.push_back(ctx.pack<Tensor>(
                i,
                kind(input_side ? "w"
                     : r.fused  ? "r fused"
                                : "r",
                     d),
                [&](const Tensor& constant) {
                    auto out = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {size}));
                    const float* from =
                        constant.as<float>() + d * s.gates * s.hidden * (input_side ? s.input : s.hidden);
                    pack_direction(r, from, input_side ? out->as<float>() : nullptr, from,
                                   input_side ? nullptr : out->as<float>());
                    return out;
                }));
        return packed;
    };
    r.packed_w = pack(1, true, r.w_size);
    r.packed_r = pack(2, false, r.r_size);
    if (given_narrow) {
        const Tensor* scales = ctx.constant(kRecurrentScale);
        require(ctx.is_constant(2) && scales, "R of 8 bits and its scale must be constants");
        const int64_t rows = s.gates * s.hidden;
        for (int64_t d = 0; d < s.directions; ++d)
            r.packed_r.push_back(ctx.pack<Tensor>(
                2,
                kind(r.narrow  ? "r narrow"
                     : r.fused ? "r widened fused"
                               : "r widened",
                     d),
                [&](const Tensor& constant) {
                    const int8_t* from = constant.as<int8_t>() + d * rows * s.hidden;
                    const float* scale = scales->as<float>() + d * rows;
                    auto out = std::make_shared<Tensor>(r.narrow ? Tensor::allocate(DType::u8, {narrow_bytes})
                                                                 : Tensor::allocate(DType::f32, {r.r_size}));
                    if (r.narrow) pack_narrow(r, from, scale, out->as<std::byte>());
                    else
                        pack_direction(r, nullptr, nullptr, widened(from, scale, rows, s.hidden).data(),
                                       out->as<float>());
                    return out;
                }));
    }

    // At least about 1 us of work for each part: every step ends with a rendezvous.
    const double work = static_cast<double>(s.batch + 2) * static_cast<double>(s.gates) *
                        static_cast<double>(s.hidden) * static_cast<double>(s.hidden);
    r.splits = std::max<int64_t>(
        1, std::min({static_cast<int64_t>(std::min(work / 90e3, 1e6)), s.blocks, ctx.threads / s.directions}));
    ctx.scratch(static_cast<size_t>(RecurrentBuffers(nullptr, r, needs_order(r, ctx.has_input(4))).bytes));
    return state;
}

}  // namespace linnet
