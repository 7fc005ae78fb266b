// numpy's broadcasting for elementwise operators: shapes are collapsed once, then rows are handed to an inner loop
// whose operands each advance by one element or stand still.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "base/shape.h"
#include "graph/op.h"

namespace linnet {

constexpr int kMaxOperands = 3;

// How the operands of an elementwise step meet: neighbouring axes that all operands walk alike are one axis.
struct Broadcast {
    int operands = 0;
    int64_t count = 0;                   // output elements
    Shape dims;                          // collapsed output, at least one axis; the last is the row
    Shape strides[kMaxOperands];         // in elements per axis of dims, 0 where the operand is repeated
    bool contiguous[kMaxOperands] = {};  // the operand is laid out as the output
};

// Each input's shape must broadcast to `output` (infer has checked it).
inline Broadcast make_broadcast(std::initializer_list<const Shape*> inputs, const Shape& output) {
    Broadcast plan;
    plan.operands = static_cast<int>(inputs.size());
    plan.count = element_count(output);
    Shape full[kMaxOperands];  // strides by output axis
    int operand = 0;
    for (const Shape* shape : inputs) {
        Shape& strides = full[operand];
        strides.resize(output.size(), 0);
        if (shape->size() > output.size())
            fail(ErrorKind::invalid_argument, "shape ", shape_text(*shape), " does not broadcast to ",
                 shape_text(output));
        const size_t shift = output.size() - shape->size();
        int64_t step = 1;
        for (size_t i = shape->size(); i-- > 0;) {
            if ((*shape)[i] != 1 && (*shape)[i] != output[i + shift])
                fail(ErrorKind::invalid_argument, "shape ", shape_text(*shape), " does not broadcast to ",
                     shape_text(output));
            strides[i + shift] = (*shape)[i] == 1 ? 0 : step;
            step *= (*shape)[i];
        }
        plan.contiguous[operand++] = step == plan.count;
    }
    for (size_t axis = 0; axis < output.size(); ++axis) {
        if (output[axis] == 1) continue;
        bool merge = !plan.dims.empty();
        for (int k = 0; k < plan.operands && merge; ++k) merge = plan.strides[k].back() == full[k][axis] * output[axis];
        if (merge) plan.dims.back() *= output[axis];
        else plan.dims.push_back(output[axis]);
        for (int k = 0; k < plan.operands; ++k) {
            if (merge) plan.strides[k].back() = full[k][axis];
            else plan.strides[k].push_back(full[k][axis]);
        }
    }
    if (plan.dims.empty()) {
        plan.dims.push_back(1);
        for (int k = 0; k < plan.operands; ++k) plan.strides[k].push_back(0);
    }
    return plan;
}

// n elements: out[i] = f(in[k][i * step[k]] ...); steps are 0 or 1. Must not throw.
using RowFn = void (*)(const void* context, size_t n, const void* const* in, const size_t* step, void* out);

namespace broadcast_detail {

struct Run {
    const Broadcast* plan;
    const void* in[kMaxOperands];
    size_t in_size[kMaxOperands];
    void* out;
    size_t out_size;
    RowFn row;
    const void* context;
};

// Offsets of the operands at output element `index` = (row, column).
inline void locate(const Broadcast& plan, int64_t index, Shape& at, int64_t* offsets) {
    at.resize(plan.dims.size(), 0);
    for (int k = 0; k < plan.operands; ++k) offsets[k] = 0;
    for (size_t axis = plan.dims.size(); axis-- > 0;) {
        at[axis] = index % plan.dims[axis];
        index /= plan.dims[axis];
        for (int k = 0; k < plan.operands; ++k) offsets[k] += at[axis] * plan.strides[k][axis];
    }
}

// Moves from the end of a row to the start of the next one.
inline void next_row(const Broadcast& plan, Shape& at, int64_t* offsets) {
    const size_t last = plan.dims.size() - 1;
    for (int k = 0; k < plan.operands; ++k) offsets[k] -= at[last] * plan.strides[k][last];
    at[last] = 0;
    for (size_t axis = last; axis-- > 0;) {
        ++at[axis];
        for (int k = 0; k < plan.operands; ++k) offsets[k] += plan.strides[k][axis];
        if (at[axis] < plan.dims[axis]) return;
        for (int k = 0; k < plan.operands; ++k) offsets[k] -= at[axis] * plan.strides[k][axis];
        at[axis] = 0;
    }
}

inline void run_range(const Run& run, int64_t begin, int64_t end) {
    const Broadcast& plan = *run.plan;
    const size_t last = plan.dims.size() - 1;
    Shape at;
    int64_t offsets[kMaxOperands];
    locate(plan, begin, at, offsets);
    size_t step[kMaxOperands];
    for (int k = 0; k < plan.operands; ++k) step[k] = static_cast<size_t>(plan.strides[k][last]);
    while (begin < end) {
        const int64_t n = std::min(end - begin, plan.dims[last] - at[last]);
        const void* in[kMaxOperands] = {};
        for (int k = 0; k < plan.operands; ++k)
            in[k] = static_cast<const std::byte*>(run.in[k]) + static_cast<size_t>(offsets[k]) * run.in_size[k];
        run.row(run.context, static_cast<size_t>(n), in, step,
                static_cast<std::byte*>(run.out) + static_cast<size_t>(begin) * run.out_size);
        begin += n;
        at[last] += n;
        for (int k = 0; k < plan.operands; ++k) offsets[k] += n * plan.strides[k][last];
        if (at[last] == plan.dims[last]) next_row(plan, at, offsets);
    }
}

// Narrow rows: operands that are not laid out as the output are spread into small buffers, so that the inner loop sees
// long runs.
inline void run_range_narrow(const Run& run, int64_t begin, int64_t end) {
    constexpr int64_t kBlock = 512;
    alignas(64) std::byte buffers[kMaxOperands][kBlock * 8];
    const Broadcast& plan = *run.plan;
    const size_t last = plan.dims.size() - 1;
    Shape at;
    int64_t offsets[kMaxOperands];
    locate(plan, begin, at, offsets);
    size_t step[kMaxOperands] = {1, 1, 1};
    // Operands that are the same in every row are spread once: blocks then hold whole rows.
    bool same_rows = true, spread = false;
    for (int k = 0; k < plan.operands; ++k)
        for (size_t axis = 0; axis < last && !plan.contiguous[k]; ++axis)
            same_rows = same_rows && plan.strides[k][axis] == 0;
    const int64_t block = same_rows ? kBlock / plan.dims[last] * plan.dims[last] : kBlock;
    while (begin < end) {
        const int64_t n = std::min(end - begin, block);
        const void* in[kMaxOperands] = {};
        for (int k = 0; k < plan.operands; ++k)
            in[k] = plan.contiguous[k]
                        ? static_cast<const std::byte*>(run.in[k]) + static_cast<size_t>(begin) * run.in_size[k]
                        : buffers[k];
        for (int64_t i = 0; i < n && !(same_rows && spread);) {
            const int64_t width = std::min(n - i, plan.dims[last] - at[last]);
            for (int k = 0; k < plan.operands; ++k) {
                if (plan.contiguous[k]) continue;
                const size_t size = run.in_size[k];
                const std::byte* from =
                    static_cast<const std::byte*>(run.in[k]) + static_cast<size_t>(offsets[k]) * size;
                std::byte* to = buffers[k] + static_cast<size_t>(i) * size;
                const size_t advance = static_cast<size_t>(plan.strides[k][last]) * size;
                for (int64_t j = 0; j < width; ++j, from += advance, to += size) {
                    if (size == 4) std::memcpy(to, from, 4);
                    else if (size == 8) std::memcpy(to, from, 8);
                    else std::memcpy(to, from, size);
                }
            }
            i += width;
            at[last] += width;
            for (int k = 0; k < plan.operands; ++k) offsets[k] += width * plan.strides[k][last];
            if (at[last] == plan.dims[last]) next_row(plan, at, offsets);
        }
        spread = true;
        run.row(run.context, static_cast<size_t>(n), in, step,
                static_cast<std::byte*>(run.out) + static_cast<size_t>(begin) * run.out_size);
        begin += n;
    }
}

}  // namespace broadcast_detail

// Runs the inner loop over the whole output. `sizes`: bytes of an element of each operand. `grain`: fewest elements
// worth a thread. Elements of more than 8 bytes (strings among them) always come in their own rows.
inline void run_broadcast(const Broadcast& plan, std::initializer_list<const void*> in,
                          std::initializer_list<size_t> sizes, void* out, size_t out_size, const Parallel& parallel,
                          int64_t grain, RowFn row, const void* context) {
    if (plan.count == 0) return;
    broadcast_detail::Run run{&plan, {}, {}, out, out_size, row, context};
    std::copy(in.begin(), in.end(), run.in);
    std::copy(sizes.begin(), sizes.end(), run.in_size);
    bool narrow = plan.dims.back() < 32 && plan.dims.size() > 1;
    for (size_t size : sizes) narrow = narrow && size <= 8;
    parallel_ranges(
        parallel, plan.count, grain,
        [&](int64_t begin, int64_t end) {
            if (narrow) broadcast_detail::run_range_narrow(run, begin, end);
            else broadcast_detail::run_range(run, begin, end);
        },
        64);
}

// The shape of the second operand of Add, Mul ... before opset 7 in terms of today's rule. With `broadcast` set its
// axes match those of the first operand from `axis` on (default: the last ones); otherwise shapes are equal.
inline Shape legacy_operand_shape(const Attributes& attributes, int64_t a_rank, const Shape& b) {
    if (attributes.i("broadcast", 0) == 0 || !attributes.has("axis")) return b;
    const int64_t b_rank = static_cast<int64_t>(b.size());
    const int64_t axis = b_rank == 0 ? 0 : normal_axis(attributes.i("axis", 0), a_rank);
    if (axis + b_rank > a_rank)
        fail(ErrorKind::invalid_graph, "an operand of rank ", b_rank, " at axis ", axis, " does not fit into rank ",
             a_rank);
    Shape shape = b;
    if (b_rank > 0) shape.resize(static_cast<size_t>(a_rank - axis), 1);
    return shape;
}

}  // namespace linnet
