// The walk over the steps of a recurrent layer: see recurrent.h.
#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <thread>

#include "base/pause.h"
#include "ops/shared/product.h"
#include "ops/shared/recurrent.h"

namespace linnet {
namespace {

struct Walk {
    const Recurrent& r;
    const RunContext& ctx;
    RecurrentBuffers buffers;
    const int32_t* lengths = nullptr;
    bool ordered = false;  // gates are in the order of the steps, for reversed directions too

    const RecurrentSizes& sizes() const { return r.sizes; }
    int64_t state_size() const { return sizes().batch * sizes().hidden; }
    float* state(int64_t direction, int64_t step) const {
        return buffers.state + (2 * direction + step % 2) * state_size();
    }
    float* cell(int64_t direction) const { return buffers.cell + direction * state_size(); }
    bool active(int64_t step, int64_t b) const { return !lengths || step < lengths[b]; }
    // Where image b's step is in time.
    int64_t time_of(int64_t direction, int64_t step, int64_t b) const {
        if (!r.reversed(direction)) return step;
        const int64_t length = lengths ? lengths[b] : sizes().steps;
        return step < length ? length - 1 - step : step;
    }

    void pack() const;
    void order_inputs(const float* x) const;
    void multiply_inputs(const float* x) const;
    void walk_steps(std::span<RecurrentPart> parts, int64_t direction, int64_t own) const;
    RecurrentBlock whole(int64_t direction, int64_t step, const RecurrentStage& stage) const;
    void compute(int64_t direction, int64_t step, const RecurrentStage& stage, int64_t begin, int64_t end) const;
    void store(int64_t direction, int64_t step, int64_t begin, int64_t end) const;
};

// Weights that are no constants, and the biases in the order of the columns.
void Walk::pack() const {
    const RecurrentSizes& s = sizes();
    const int64_t width = s.gates * s.hidden;
    for (int64_t d = 0; d < s.directions; ++d) {
        if (buffers.w || buffers.r)  // what is packed already may be gone
            pack_direction(r, buffers.w ? ctx.input(1).as<float>() + d * width * s.input : nullptr,
                           buffers.w ? buffers.w + d * r.w_size : nullptr,
                           buffers.r ? ctx.input(2).as<float>() + d * width * s.hidden : nullptr,
                           buffers.r ? buffers.r + d * r.r_size : nullptr);
        float* bias = buffers.bias + d * s.columns();
        std::fill_n(bias, s.columns(), 0.0f);
        if (!ctx.has_input(3)) continue;
        const float* given = ctx.input(3).as<float>() + d * 2 * width;
        for (const RecurrentStage& stage : r.stages) {
            // Both biases add up, except for the recurrent one that the reset gate multiplies.
            const int64_t sums = stage.gates - (stage.cell == kernels::RecurrentF32::Cell::gru);
            for (int64_t gate = 0; gate < stage.gates; ++gate, given += s.hidden)
                for (int64_t u = 0; u < s.hidden; ++u)
                    bias[(u / s.unit * stage.gates + gate) * s.unit + u % s.unit] =
                        gate < sums ? given[u] + given[width + u] : given[u];
            bias += s.blocks * stage.gates * s.unit;
        }
    }
}

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
    const int64_t rows = s.steps * s.batch, columns = s.columns(), panels = columns / s.unit;
    const GemmSplit split = split_gemm(ctx.parallel().threads, rows, columns, s.input, s.directions,
                                       static_cast<int64_t>(k.gemm_rows), s.unit);
    parallel_for(ctx.parallel(), s.directions * split.tasks(), [&](int64_t task) {
        const int64_t d = task / split.tasks(), part = task % split.tasks();
        const int64_t row = part / split.panels * split.row_step, panel = part % split.panels * split.panel_step;
        kernels::EpilogueStep add;
        add.kind = kernels::EpilogueStep::Kind::add;
        add.data = buffers.bias + d * columns;
        kernels::GemmF32 gemm;
        gemm.m = static_cast<size_t>(rows);
        gemm.n = static_cast<size_t>(columns);
        gemm.k = static_cast<size_t>(s.input);
        gemm.a = ordered ? buffers.x + d * rows * s.input : x;
        gemm.lda = s.input;
        gemm.b = buffers.w ? buffers.w + d * r.w_size : r.packed_w[static_cast<size_t>(d)]->as<float>();
        gemm.c = buffers.gates + d * rows * columns;
        gemm.ldc = columns;
        gemm.epilogue = {&add, 1};
        k.gemm_f32(gemm, static_cast<size_t>(row), static_cast<size_t>(std::min(rows, row + split.row_step)),
                   static_cast<size_t>(panel), static_cast<size_t>(std::min(panels, panel + split.panel_step)));
    });
}

// All steps of a direction. Each part of each round is claimed by one thread, and nobody begins a round before the one
// before it is done. A thread takes its own part first, whose weights its cache holds, and those of threads that have
// not come: however few there are, all is done when this returns.
void Walk::walk_steps(std::span<RecurrentPart> parts, int64_t direction, int64_t own) const {
    const int64_t stages = static_cast<int64_t>(r.stages.size()), rounds = sizes().steps * stages;
    const int64_t blocks = sizes().blocks;
    const auto take = [&](int64_t part, int64_t round) {
        RecurrentPart& p = parts[static_cast<size_t>(part)];
        int64_t expected = round;
        if (p.claimed.load(std::memory_order_relaxed) != round ||
            !p.claimed.compare_exchange_strong(expected, round + 1, std::memory_order_acq_rel))
            return false;
        const int64_t step = round / stages, begin = part * blocks / r.splits, end = (part + 1) * blocks / r.splits;
        compute(direction, step, r.stages[static_cast<size_t>(round % stages)], begin, end);
        if (round % stages == stages - 1) store(direction, step, begin, end);
        p.done.store(round + 1, std::memory_order_release);
        return true;
    };
    constexpr int kPatience = 100, kSpinsBeforeYield = 4000;
    int patience = kPatience;
    for (int64_t round = 0; round < rounds; ++round) {
        take(own, round);
        for (size_t part = 0; part < parts.size(); ++part)
            for (int spins = 0; parts[part].done.load(std::memory_order_acquire) <= round; ++spins) {
                if (spins < patience) {
                    pause_briefly();
                } else if (take(static_cast<int64_t>(part), round)) {
                    patience = 0;  // whoever is missing will hardly come now
                } else if (spins < kSpinsBeforeYield) {
                    patience = kPatience;
                    pause_briefly();
                } else {
                    std::this_thread::yield();
                }
            }
    }
}

RecurrentBlock Walk::whole(int64_t direction, int64_t step, const RecurrentStage& stage) const {
    const RecurrentSizes& s = sizes();
    const int64_t row = r.reversed(direction) && !ordered ? s.steps - 1 - step : step;
    RecurrentBlock all{r, stage, direction};
    all.n = s.hidden;
    all.z = buffers.gates + (direction * s.steps + row) * s.batch * s.columns();
    all.x = all.z + stage.column;
    all.s = buffers.sums ? buffers.sums + direction * s.batch * s.columns() : nullptr;
    if (ctx.has_input(3)) all.bias = ctx.input(3).as<float>() + direction * 2 * s.gates * s.hidden;
    if (r.cell->has_cell_state && ctx.has_input(7)) all.peepholes = ctx.input(7).as<float>() + direction * 3 * s.hidden;
    all.state = state(direction, step);
    all.to = &stage == &r.stages.back() ? state(direction, step + 1) : cell(direction);
    all.c = cell(direction);
    return all;
}

// Blocks [begin, end) of one stage of a step.
void Walk::compute(int64_t direction, int64_t step, const RecurrentStage& stage, int64_t begin, int64_t end) const {
    const auto& k = kernels::kernels();
    const RecurrentSizes& s = sizes();
    const RecurrentBlock all = whole(direction, step, stage);
    const float* h = stage.column == 0 ? all.state : cell(direction);
    const Tensor* const packed = buffers.r ? nullptr : r.packed_r[static_cast<size_t>(direction)].get();
    const float* weights = nullptr;
    if (!r.narrow)
        weights = (packed ? packed->as<float>() : buffers.r + direction * r.r_size) + stage.column * s.hidden;
    if (r.fused) {
        if (!active(step, 0)) return;
        kernels::RecurrentF32 args;
        args.cell = stage.cell;
        args.hidden = static_cast<size_t>(s.hidden);
        args.h = h;
        if (r.narrow) {
            const auto* bytes = packed->as<std::byte>() + stage.byte;
            args.r_s8 = bytes;
            args.scale = reinterpret_cast<const float*>(bytes + stage.scale);
        } else {
            args.r = weights;
        }
        args.x = all.x;
        args.z = all.z;
        args.bias = all.bias ? all.bias + (2 * s.gates - 1) * s.hidden : nullptr;
        args.state = all.state;
        args.c = all.c;
        args.h_next = all.to;
        return k.recurrent_f32(args, static_cast<size_t>(begin), static_cast<size_t>(end), step % 2 == 1);
    }
    kernels::GemmF32 gemm;
    gemm.m = static_cast<size_t>(s.batch);
    gemm.n = static_cast<size_t>(stage.gates * s.blocks * s.unit);
    gemm.k = static_cast<size_t>(s.hidden);
    gemm.a = h;
    gemm.lda = s.hidden;
    gemm.b = weights;
    gemm.c = all.s;
    gemm.ldc = s.columns();
    k.gemm_f32(gemm, 0, gemm.m, static_cast<size_t>(begin * stage.gates), static_cast<size_t>(end * stage.gates));
    for (int64_t b = 0; b < s.batch; ++b) {
        if (!active(step, b)) continue;
        for (int64_t i = begin; i < end; ++i) {
            RecurrentBlock block = all;
            block.first = i * s.unit;
            block.n = std::min(s.unit, s.hidden - block.first);
            block.x += b * s.columns() + i * stage.gates * s.unit;
            block.s += b * s.columns() + i * stage.gates * s.unit;
            block.z += b * s.columns() + i * r.stages[0].gates * s.unit;
            block.state += b * s.hidden + block.first;
            block.to += b * s.hidden + block.first;
            block.c += b * s.hidden + block.first;
            r.cell->compute(block);
        }
    }
}

// Y of blocks [begin, end); images that have ended keep their state and give zeros.
void Walk::store(int64_t direction, int64_t step, int64_t begin, int64_t end) const {
    const RecurrentSizes& s = sizes();
    const int64_t first = begin * s.unit, last = std::min(s.hidden, end * s.unit);
    float* const y = ctx.has_output(0) ? ctx.output(0).as<float>() : nullptr;
    const float* const h = state(direction, step);
    float* const h_next = state(direction, step + 1);
    for (int64_t b = 0; b < s.batch; ++b) {
        const int64_t own = b * s.hidden + first;
        const bool go = active(step, b);
        if (!go) std::copy_n(h + own, last - first, h_next + own);
        if (!y) continue;
        const int64_t time = time_of(direction, step, b);
        const int64_t at = s.batch_first ? (b * s.steps + time) * s.directions + direction
                                         : (time * s.directions + direction) * s.batch + b;
        float* to = y + at * s.hidden + first;
        if (go) std::copy_n(h_next + own, last - first, to);
        else std::fill_n(to, last - first, 0.0f);
    }
}

// [directions][batch][hidden] against the order of initial_h and Y_h.
template <class Copy>
void each_state(const RecurrentSizes& s, const Copy& copy) {
    for (int64_t d = 0; d < s.directions; ++d)
        for (int64_t b = 0; b < s.batch; ++b)
            copy((s.batch_first ? b * s.directions + d : d * s.batch + b) * s.hidden, d, b * s.hidden);
}

void load_state(const Walk& walk, int input, bool cell) {
    const RecurrentSizes& s = walk.sizes();
    const float* from = walk.ctx.has_input(input) ? walk.ctx.input(input).as<float>() : nullptr;
    each_state(s, [&](int64_t outer, int64_t d, int64_t inner) {
        float* to = (cell ? walk.cell(d) : walk.state(d, 0)) + inner;
        if (from) std::copy_n(from + outer, s.hidden, to);
        else std::fill_n(to, s.hidden, 0.0f);
    });
}

}  // namespace

void run_recurrent(RunContext& ctx) {
    const Recurrent& r = *ctx.state<Recurrent>();
    const RecurrentSizes& s = r.sizes;
    const bool ordered = needs_order(r, ctx.has_input(4));
    Walk walk{r, ctx, RecurrentBuffers(ctx.scratch(), r, ordered), nullptr, ordered};
    if (ctx.has_input(4)) {
        walk.lengths = ctx.input(4).as<int32_t>();
        for (int64_t b = 0; b < s.batch; ++b)
            if (walk.lengths[b] < 0 || walk.lengths[b] > s.steps)
                fail(ErrorKind::invalid_argument, "sequence_lens[", b, "] is ", walk.lengths[b], ", X has ", s.steps,
                     " steps");
    }
    walk.pack();
    const float* x = ctx.input(0).as<float>();
    if (ordered) walk.order_inputs(x);
    if (s.steps * s.batch > 0) walk.multiply_inputs(x);
    load_state(walk, 5, false);
    if (r.cell->has_cell_state) load_state(walk, 6, true);

    const size_t splits = static_cast<size_t>(r.splits), tasks = static_cast<size_t>(s.directions) * splits;
    auto* const parts = reinterpret_cast<RecurrentPart*>(walk.buffers.parts);
    for (size_t i = 0; i < tasks; ++i) new (parts + i) RecurrentPart;
    if (s.batch > 0)
        parallel_for(ctx.parallel(), static_cast<int64_t>(tasks), [&](int64_t task) {
            const int64_t d = task / r.splits;
            walk.walk_steps({parts + static_cast<size_t>(d) * splits, splits}, d, task % r.splits);
        });
    for (int output = 1; output < (r.cell->has_cell_state ? 3 : 2); ++output) {
        if (!ctx.has_output(output)) continue;
        float* to = ctx.output(output).as<float>();
        each_state(s, [&](int64_t outer, int64_t d, int64_t inner) {
            const float* from = output == 1 ? walk.state(d, s.steps) : walk.cell(d);
            std::copy_n(from + inner, s.hidden, to + outer);
        });
    }
}

}  // namespace linnet
