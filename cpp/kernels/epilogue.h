// The epilogue program: what of it is free, and the pass through L1 for the rest.
#pragma once

#include "kernels/map.h"

namespace linnet::kernels::LINNET_ISA {

// bias + add + clamp ride along in registers; `rest` is run on a buffer that is still in L1.
struct Program {
    const float* bias = nullptr;
    const float* add = nullptr;
    ptrdiff_t add_stride = 0;
    float lo = -__builtin_inff(), hi = __builtin_inff();
    const EpilogueStep* rest = nullptr;
    size_t rest_count = 0;
};

static Program parse(const Epilogue& e) noexcept {
    Program p;
    size_t i = 0;
    const auto is_add = [&](bool per_column) {
        return i < e.count && e.steps[i].kind == EpilogueStep::Kind::add && (e.steps[i].stride == 0) == per_column;
    };
    if (is_add(true)) p.bias = e.steps[i++].data;
    const size_t after_bias = i;
    if (is_add(false)) {
        p.add = e.steps[i].data;
        p.add_stride = e.steps[i++].stride;
    }
    if (i < e.count && e.steps[i].kind == EpilogueStep::Kind::unary) {
        if (e.steps[i].fn == Unary::relu) {
            p.lo = 0;
            ++i;
        } else if (e.steps[i].fn == Unary::clip) {
            p.lo = e.steps[i].a;
            p.hi = e.steps[i++].b;
        }
    }
    if (i < e.count) {
        const float* bias = p.bias;
        p = Program();
        p.bias = bias;
        p.rest = e.steps + after_bias;
        p.rest_count = e.count - after_bias;
    }
    return p;
}

// x: rows of ld floats, all of them writable scratch; the first `cols` of each row count. Runs add, clamp and rest,
// then stores to y. row and col place the block in the whole output.
static __attribute__((noinline)) void finish(const Program& p, size_t row, size_t rows, size_t col, size_t cols,
                                             float* x, size_t ld, float* y, ptrdiff_t y_stride) noexcept {
    for (size_t s = 0; s < p.rest_count; ++s) {
        const EpilogueStep& step = p.rest[s];
        const bool last = s + 1 == p.rest_count;
        float* to = last ? y : x;
        const ptrdiff_t to_stride = last ? y_stride : (ptrdiff_t)ld;
        if (step.kind == EpilogueStep::Kind::unary) {
            map_of(step.fn)(rows, cols, x, (ptrdiff_t)ld, to, to_stride, step.a, step.b);
            continue;
        }
        for (size_t r = 0; r < rows; ++r) {
            const float* d = step.data + (ptrdiff_t)(row + r) * step.stride + col;
            const float* v = x + r * ld;
            for (size_t c = 0; c < cols; c += lanes) {
                const size_t left = cols - c;
                const f32 data = load_some(d + c, left), in = load_some(v + c, left);
                f32 out;
                if (step.kind == EpilogueStep::Kind::add) out = in + data;
                else if (step.kind == EpilogueStep::Kind::mul) out = in * data;
                else out = leaky(in, data);
                store_some(to + (ptrdiff_t)r * to_stride + c, out, left);
            }
        }
    }
    if (p.rest_count) return;
    const f32 lo = splat(p.lo), hi = splat(p.hi);
    for (size_t r = 0; r < rows; ++r) {
        const float* add = p.add ? p.add + (ptrdiff_t)(row + r) * p.add_stride + col : nullptr;
        for (size_t c = 0; c < cols; c += lanes) {
            const size_t left = cols - c;
            f32 v = load_some(x + r * ld + c, left);
            if (add) v = v + load_some(add + c, left);
            store_some(y + (ptrdiff_t)r * y_stride + c, clip(v, lo, hi), left);
        }
    }
}

static void epilogue_f32(const Epilogue& e, size_t row_begin, size_t row_end, size_t cols, const float* x,
                         ptrdiff_t x_stride, float* y, ptrdiff_t y_stride) noexcept {
    constexpr size_t chunk = 256;
    float t[chunk];
    const Program p = parse(e);
    for (size_t r = row_begin; r < row_end; ++r)
        for (size_t c = 0; c < cols; c += chunk) {
            const size_t n = cols - c < chunk ? cols - c : chunk;
            const float* in = x + (ptrdiff_t)r * x_stride + c;
            for (size_t i = 0; i < n; i += lanes) {
                const size_t left = n - i;
                f32 v = load_some(in + i, left);
                if (p.bias) v = v + load_some(p.bias + c + i, left);
                store_some(t + i, v, left);
            }
            finish(p, r, 1, c, n, t, chunk, y + (ptrdiff_t)r * y_stride + c, y_stride);
        }
}

}  // namespace linnet::kernels::LINNET_ISA
