// The walk over the steps of a recurrent layer: see recurrent.h.
#include "ops/shared/recurrent.h"

#include <algorithm>
#include <cctype>
#include <cstring>

#include "ops/shared/facts.h"
#include "ops/shared/product.h"
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

// A scratch area, handed out piece by piece; the first pass measures.
struct Room {
    std::byte* base = nullptr;
    int64_t used = 0;
    float* take(int64_t count) {
        float* piece = base ? reinterpret_cast<float*>(base + used) : nullptr;
        used = checked_add(used, checked_mul(checked_add(count, 15) / 16, 64));
        return piece;
    }
};

struct Buffers {
    float *w = nullptr, *r = nullptr;  // where weights are packed that are no constants
    float* x = nullptr;                // inputs in the order of the steps, where they are not
    float *bias = nullptr, *gates = nullptr, *state = nullptr, *cell = nullptr;
};

bool needs_order(const RecurrentSizes& s, bool lengths, bool any_reversed) {
    return (s.batch_first && s.batch > 1) || (lengths && any_reversed);
}

Buffers carve(Room& room, const Recurrent& r, bool ordered) {
    const RecurrentSizes& s = r.sizes;
    const int64_t rows = checked_mul(s.steps, s.batch), width = checked_mul(s.gates, s.hidden);
    Buffers b;
    if (r.packed_w.empty()) b.w = room.take(checked_mul(s.directions, r.w_size));
    if (r.packed_r.empty()) b.r = room.take(checked_mul(checked_mul(s.directions, s.gates), r.r_size));
    if (ordered) b.x = room.take(checked_mul(s.directions, checked_mul(rows, s.input)));
    b.bias = room.take(checked_mul(s.directions, width));
    b.gates = room.take(checked_mul(s.directions, checked_mul(rows, width)));
    b.state = room.take(checked_mul(2 * s.directions, checked_mul(s.batch, s.hidden)));
    b.cell = room.take(checked_mul(s.directions, checked_mul(s.batch, s.hidden)));
    return b;
}

kernels::PackB pack_w(const RecurrentSizes& s) {
    return {1, static_cast<size_t>(s.input), static_cast<size_t>(s.gates * s.hidden), 0, 1, s.input};
}
kernels::PackB pack_r(const RecurrentSizes& s) {
    return {1, static_cast<size_t>(s.hidden), static_cast<size_t>(s.hidden), 0, 1, s.hidden};
}

size_t panels_of(size_t n) {
    const size_t cols = kernels::kernels().gemm_cols;
    return (n + cols - 1) / cols;
}

void pack_direction(const Recurrent& r, const float* w, float* to_w, const float* rw, float* to_r) {
    const auto& k = kernels::kernels();
    const RecurrentSizes& s = r.sizes;
    const kernels::PackB how_w = pack_w(s), how_r = pack_r(s);
    if (to_w) k.pack_b_f32(how_w, w, to_w, 0, panels_of(how_w.n));
    for (int64_t g = 0; g < s.gates && to_r; ++g)
        k.pack_b_f32(how_r, rw + g * s.hidden * s.hidden, to_r + g * r.r_size, 0, panels_of(how_r.n));
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

void RecurrentStep::multiply(int64_t gate, const float* from, float* to, int64_t to_stride, bool accumulate,
                             const float* column_bias) const {
    const RecurrentSizes& s = r.sizes;
    kernels::EpilogueStep add;
    add.kind = kernels::EpilogueStep::Kind::add;
    add.data = accumulate ? to : column_bias;
    add.stride = accumulate ? to_stride : 0;
    kernels::GemmF32 gemm;
    gemm.m = static_cast<size_t>(s.batch);
    gemm.n = gemm.k = static_cast<size_t>(s.hidden);
    gemm.a = from;
    gemm.lda = s.hidden;
    gemm.b = packed_r + gate * r.r_size;
    gemm.c = to;
    gemm.ldc = to_stride;
    if (add.data) gemm.epilogue = {&add, 1};
    kernels::kernels().gemm_f32(gemm, 0, gemm.m, panel_begin, panel_end);
}

void RecurrentStep::activate(size_t which, int64_t n, float* x) const {
    const size_t count = static_cast<size_t>(n);
    if (r.clip > 0) kernels::kernels().map_f32(Unary::clip, count, x, x, -r.clip, r.clip);
    r.activations[static_cast<size_t>(direction) * r.cell->activations + which].apply(count, x, x);
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
    check_shape(ctx, 2, x.dtype, {directions, times(cell.gates), hidden}, "R");
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

    const kernels::PackB how_w = pack_w(s), how_r = pack_r(s);
    r.w_size = static_cast<int64_t>(k.pack_b_f32_size(1, how_w.k, how_w.n) + 15) / 16 * 16;
    r.r_size = static_cast<int64_t>(k.pack_b_f32_size(1, how_r.k, how_r.n) + 15) / 16 * 16;
    const auto pack = [&](int i, bool input_side, int64_t size) {
        std::vector<std::shared_ptr<const Tensor>> packed;
        if (!ctx.is_constant(i) || ctx.input(i).dtype != DType::f32) return packed;
        for (int64_t d = 0; d < s.directions; ++d)
            packed.push_back(ctx.pack<Tensor>(
                i, cat(input_side ? "rnn w " : "rnn r ", k.isa, ' ', s.gates, ' ', s.hidden, ' ', d),
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
    r.packed_r = pack(2, false, checked_mul(s.gates, r.r_size));

    // About 10 us of work for each part: every step ends with a rendezvous.
    const double work = static_cast<double>(s.batch + 2) * static_cast<double>(s.gates) *
                        static_cast<double>(s.hidden) * static_cast<double>(s.hidden);
    const int64_t panels = static_cast<int64_t>(panels_of(how_r.n));
    r.splits = std::max<int64_t>(
        1, std::min({static_cast<int64_t>(std::min(work / 200e3, 1e6)), panels, ctx.threads / s.directions}));
    Room room;
    carve(room, r, needs_order(s, ctx.has_input(4), r.reversed(0) || s.directions == 2));
    ctx.scratch(static_cast<size_t>(room.used));
    return state;
}

namespace {

struct Walk {
    const Recurrent& r;
    const RunContext& ctx;
    Buffers buffers;
    const int32_t* lengths = nullptr;
    bool ordered = false;  // gates are in the order of the steps, for reversed directions too

    const RecurrentSizes& sizes() const { return r.sizes; }
    int64_t state_size() const { return sizes().batch * sizes().hidden; }
    float* state(int64_t direction, int64_t step) const {
        return buffers.state + (2 * direction + step % 2) * state_size();
    }
    // Where image b's step is in time.
    int64_t time_of(int64_t direction, int64_t step, int64_t b) const {
        if (!r.reversed(direction)) return step;
        const int64_t length = lengths ? lengths[b] : sizes().steps;
        return step < length ? length - 1 - step : step;
    }

    void order_inputs(const float* x) const;
    void multiply_inputs(const float* x) const;
    void compute(int64_t direction, int64_t step, int stage, int64_t part, int64_t parts) const;
    void store(const RecurrentStep& s) const;
};

void Walk::order_inputs(const float* x) const {
    const RecurrentSizes& s = sizes();
    for (int64_t d = 0; d < s.directions; ++d)
        for (int64_t t = 0; t < s.steps; ++t)
            for (int64_t b = 0; b < s.batch; ++b) {
                const int64_t time = time_of(d, t, b);
                const int64_t from = s.batch_first ? b * s.steps + time : time * s.batch + b;
                std::memcpy(buffers.x + ((d * s.steps + t) * s.batch + b) * s.input, x + from * s.input,
                            static_cast<size_t>(s.input) * sizeof(float));
            }
}

void Walk::multiply_inputs(const float* x) const {
    const auto& k = kernels::kernels();
    const RecurrentSizes& s = sizes();
    const int64_t rows = s.steps * s.batch, width = s.gates * s.hidden;
    const int64_t panels = static_cast<int64_t>(panels_of(static_cast<size_t>(width)));
    const GemmSplit split = split_gemm(ctx.parallel().threads, rows, width, s.input, s.directions,
                                       static_cast<int64_t>(k.gemm_rows), static_cast<int64_t>(k.gemm_cols));
    parallel_for(ctx.parallel(), s.directions * split.tasks(), [&](int64_t task) {
        const int64_t d = task / split.tasks(), part = task % split.tasks();
        const int64_t row = part / split.panels * split.row_step, panel = part % split.panels * split.panel_step;
        kernels::EpilogueStep add;
        add.kind = kernels::EpilogueStep::Kind::add;
        add.data = buffers.bias + d * width;
        kernels::GemmF32 gemm;
        gemm.m = static_cast<size_t>(rows);
        gemm.n = static_cast<size_t>(width);
        gemm.k = static_cast<size_t>(s.input);
        gemm.a = ordered ? buffers.x + d * rows * s.input : x;
        gemm.lda = s.input;
        gemm.b = r.packed_w.empty() ? buffers.w + d * r.w_size : r.packed_w[static_cast<size_t>(d)]->as<float>();
        gemm.c = buffers.gates + d * rows * width;
        gemm.ldc = width;
        gemm.epilogue = {&add, 1};
        k.gemm_f32(gemm, static_cast<size_t>(row), static_cast<size_t>(std::min(rows, row + split.row_step)),
                   static_cast<size_t>(panel), static_cast<size_t>(std::min(panels, panel + split.panel_step)));
    });
}

void Walk::compute(int64_t direction, int64_t step, int stage, int64_t part, int64_t parts) const {
    const RecurrentSizes& s = sizes();
    const int64_t cols = static_cast<int64_t>(kernels::kernels().gemm_cols);
    const int64_t panels = static_cast<int64_t>(panels_of(static_cast<size_t>(s.hidden)));
    const int64_t per_part = (panels + parts - 1) / parts;
    RecurrentStep args{r, ctx};
    args.direction = direction;
    args.panel_begin = static_cast<size_t>(std::min(panels, part * per_part));
    args.panel_end = static_cast<size_t>(std::min(panels, (part + 1) * per_part));
    args.first = std::min(s.hidden, static_cast<int64_t>(args.panel_begin) * cols);
    args.last = std::min(s.hidden, static_cast<int64_t>(args.panel_end) * cols);
    if (args.first >= args.last) return;
    args.packed_r = r.packed_r.empty() ? buffers.r + direction * s.gates * r.r_size
                                       : r.packed_r[static_cast<size_t>(direction)]->as<float>();
    if (ctx.has_input(3)) args.bias = ctx.input(3).as<float>() + direction * 2 * s.gates * s.hidden;
    if (r.cell->has_cell_state && ctx.has_input(7))
        args.peepholes = ctx.input(7).as<float>() + direction * 3 * s.hidden;
    const int64_t row = r.reversed(direction) && !ordered ? s.steps - 1 - step : step;
    args.gates = buffers.gates + (direction * s.steps + row) * s.batch * s.gates * s.hidden;
    args.h = state(direction, step);
    args.h_next = state(direction, step + 1);
    args.c = buffers.cell + direction * state_size();
    args.lengths = lengths;
    args.step = step;
    r.cell->compute(stage, args);
    if (stage + 1 == r.cell->stages) store(args);
}

// Y of the units; images that have ended keep their state and give zeros.
void Walk::store(const RecurrentStep& args) const {
    const RecurrentSizes& s = sizes();
    float* const y = ctx.has_output(0) ? ctx.output(0).as<float>() : nullptr;
    const int64_t n = args.last - args.first;
    for (int64_t b = 0; b < s.batch; ++b) {
        const int64_t own = b * s.hidden + args.first;
        const bool active = args.active(b);
        if (!active) std::copy_n(args.h + own, n, args.h_next + own);
        if (!y) continue;
        const int64_t time = time_of(args.direction, args.step, b);
        const int64_t at = s.batch_first ? (b * s.steps + time) * s.directions + args.direction
                                         : (time * s.directions + args.direction) * s.batch + b;
        float* to = y + at * s.hidden + args.first;
        if (active) std::copy_n(args.h_next + own, n, to);
        else std::fill_n(to, n, 0.0f);
    }
}

// [directions][batch][hidden] against the order of initial_h and Y_h.
template <class Copy>
void each_state(const RecurrentSizes& s, const Copy& copy) {
    for (int64_t d = 0; d < s.directions; ++d)
        for (int64_t b = 0; b < s.batch; ++b)
            copy((s.batch_first ? b * s.directions + d : d * s.batch + b) * s.hidden, d, b * s.hidden);
}

void load_state(const RecurrentSizes& s, const RunContext& ctx, int input, const Walk& walk, bool cell) {
    const float* from = ctx.has_input(input) ? ctx.input(input).as<float>() : nullptr;
    each_state(s, [&](int64_t outer, int64_t d, int64_t inner) {
        float* to = (cell ? walk.buffers.cell + d * walk.state_size() : walk.state(d, 0)) + inner;
        if (from) std::copy_n(from + outer, s.hidden, to);
        else std::fill_n(to, s.hidden, 0.0f);
    });
}

}  // namespace

void run_recurrent(RunContext& ctx) {
    const Recurrent& r = *ctx.state<Recurrent>();
    const RecurrentSizes& s = r.sizes;
    Walk walk{r, ctx, {}};
    if (ctx.has_input(4)) {
        walk.lengths = ctx.input(4).as<int32_t>();
        for (int64_t b = 0; b < s.batch; ++b)
            if (walk.lengths[b] < 0 || walk.lengths[b] > s.steps)
                fail(ErrorKind::invalid_argument, "sequence_lens[", b, "] is ", walk.lengths[b], ", X has ", s.steps,
                     " steps");
    }
    walk.ordered = needs_order(s, walk.lengths != nullptr, r.reversed(0) || s.directions == 2);
    Room room{ctx.scratch()};
    walk.buffers = carve(room, r, walk.ordered);
    const int64_t width = s.gates * s.hidden;
    for (int64_t d = 0; d < s.directions; ++d) {
        if (r.packed_w.empty() || r.packed_r.empty())
            pack_direction(r, ctx.input(1).as<float>() + d * width * s.input,
                           walk.buffers.w ? walk.buffers.w + d * r.w_size : nullptr,
                           ctx.input(2).as<float>() + d * width * s.hidden,
                           walk.buffers.r ? walk.buffers.r + d * s.gates * r.r_size : nullptr);
        // Both biases add up, except that GRU may want the last gate's recurrent one inside the reset.
        float* bias = walk.buffers.bias + d * width;
        const float* given = ctx.has_input(3) ? ctx.input(3).as<float>() + d * 2 * width : nullptr;
        const bool apart = r.flag && !r.cell->has_cell_state;
        for (int64_t i = 0; i < width; ++i)
            bias[i] = !given ? 0.0f : apart && i >= width - s.hidden ? given[i] : given[i] + given[width + i];
    }
    const float* x = ctx.input(0).as<float>();
    if (walk.ordered) walk.order_inputs(x);
    if (s.steps * s.batch > 0) walk.multiply_inputs(x);
    load_state(s, ctx, 5, walk, false);
    if (r.cell->has_cell_state) load_state(s, ctx, 6, walk, true);

    if (s.batch > 0 && r.splits == 1) {
        parallel_for(ctx.parallel(), s.directions, [&](int64_t d) {
            for (int64_t step = 0; step < s.steps; ++step)
                for (int stage = 0; stage < r.cell->stages; ++stage) walk.compute(d, step, stage, 0, 1);
        });
    } else if (s.batch > 0) {
        for (int64_t step = 0; step < s.steps; ++step)
            for (int stage = 0; stage < r.cell->stages; ++stage)
                parallel_for(ctx.parallel(), s.directions * r.splits, [&](int64_t task) {
                    walk.compute(task / r.splits, step, stage, task % r.splits, r.splits);
                });
    }
    for (int output = 1; output < (r.cell->has_cell_state ? 3 : 2); ++output) {
        if (!ctx.has_output(output)) continue;
        float* to = ctx.output(output).as<float>();
        each_state(s, [&](int64_t outer, int64_t d, int64_t inner) {
            const float* from = output == 1 ? walk.state(d, s.steps) : walk.buffers.cell + d * walk.state_size();
            std::copy_n(from + inner, s.hidden, to + outer);
        });
    }
}

}  // namespace linnet
