// Runs a convolution of bytes as planned: tasks of rows, panels and groups.
#include <algorithm>
#include <cstring>

#include "ops/spatial/conv_s8.h"

namespace linnet {
namespace {

constexpr int64_t kSerialWork = 1 << 17;  // multiply-adds below which threads cost more than they give

ConvColumns columns_of(const RunContext& ctx, const ConvPlanS8& plan) {
    if (plan.fixed) return {plan.bias.data(), plan.scale.data(), plan.zero.data(), plan.x_zero, plan.y_zero};
    auto* bias = reinterpret_cast<int32_t*>(ctx.scratch() + plan.bias_at);
    auto* scale = reinterpret_cast<float*>(ctx.scratch() + plan.scale_at);
    auto* zero = reinterpret_cast<uint8_t*>(ctx.scratch() + plan.zero_at);
    ConvColumns out{bias, scale, zero, 0, 0};
    fill_columns(
        plan, [&](int i) { return i >= 0 && ctx.has_input(i) ? &ctx.input(i) : nullptr; }, bias, scale, zero,
        out.x_zero, out.y_zero);
    return out;
}

// Copies the input with zero points before and behind each row.
void copy_padded(const ConvPlanS8& plan, const uint8_t* x, int zero, uint8_t* out, const Parallel& parallel) {
    const int64_t width = static_cast<int64_t>(plan.window.in[2]) * plan.in_channels;
    const int64_t padded = plan.padded_width * plan.in_channels, before = plan.window.pad_begin[2] * plan.in_channels;
    const int64_t rows = plan.images * static_cast<int64_t>(plan.window.in[0] * plan.window.in[1]);
    parallel_ranges(parallel, rows, std::max<int64_t>(1, 131072 / std::max<int64_t>(1, padded)),
                    [&](int64_t begin, int64_t end) {
                        if (padded == width) {
                            const auto bytes = static_cast<size_t>((end - begin) * width);
                            std::memcpy(out + begin * width, x + begin * width, bytes);
                            return;
                        }
                        for (int64_t r = begin; r < end; ++r) {
                            uint8_t* to = out + r * padded;
                            std::memset(to, zero, static_cast<size_t>(before));
                            std::memcpy(to + before, x + r * width, static_cast<size_t>(width));
                            std::memset(to + before + width, zero, static_cast<size_t>(padded - before - width));
                        }
                    });
}

// sums[p][c] over the taps, for channels that each have a filter of their own.
template <class T>
[[gnu::optimize("O3")]] void depthwise_sums(const ConvPlanS8& plan, const T* x, int16_t zero, const int16_t* w,
                                            const int32_t* bias, const int32_t* offsets, size_t ld, int64_t count,
                                            int32_t* sums) {
    for (int64_t p = 0; p < count; ++p, sums += plan.in_channels) {
        std::copy_n(bias, plan.in_channels, sums);
        for (int64_t t = 0; t < plan.all_taps; ++t) {
            const int64_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p)];
            if (offset < 0) continue;
            const T* from = x + offset;
            const int16_t* weights = w + t * plan.in_channels;
            for (int64_t c = 0; c < plan.in_channels; ++c) sums[c] += static_cast<int16_t>(from[c] - zero) * weights[c];
        }
    }
}

// What one run shares between its tasks.
struct Job {
    const RunContext& ctx;
    const ConvPlanS8& plan;
    ConvColumns columns;
    const uint8_t* x = nullptr;
    int64_t image_elements = 0;
    const std::byte* weights = nullptr;
    kernels::ToBytes bytes;
};

// `n` sums of the filters from `column` on, to the output's element `at`. No table or residual comes with wide weights.
void finish(const Job& job, int64_t n, int64_t column, const int32_t* sums, int64_t at) {
    Tensor& y = job.ctx.output(0);
    const kernels::ToBytes& to = job.bytes;
    if (!job.plan.linear) {
        std::copy_n(sums, n, y.as<int32_t>() + at);
    } else if (to.is_signed) {
        auto* out = y.as<int8_t>() + at;
        kernels::kernels().requantize_s8(static_cast<size_t>(n), sums, to.scale + column, 1, to.zero, out);
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int8_t>(std::clamp<int32_t>(out[i], to.lo, to.hi));
    } else {
        auto* out = y.as<uint8_t>() + at;
        kernels::kernels().requantize_u8(static_cast<size_t>(n), sums, to.scale + column, 1, to.zero, out);
        for (int64_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(std::clamp<int32_t>(out[i], to.lo, to.hi));
    }
}

// Rows [begin, end) of some group's columns, and the slots of scratch that the task may use.
struct Block {
    int64_t image = 0, group = 0, begin = 0, end = 0, panel_begin = 0, panel_end = 0;
    uint8_t* rows = nullptr;
    int32_t* sums = nullptr;
};

// The windows of the pixels, one after another: runs of bytes, which are copied in steps of eight. What is written
// past a run's end the next one covers; rows and the padded input end with room for it. From a pixel to the next in its
// row all runs are equally far apart.
void gather_rows(const ConvPlanS8& plan, const uint8_t* x, const uint8_t* zero, int64_t begin, const int32_t* offsets,
                 size_t ld, int64_t count, uint8_t* out) {
    const auto width = static_cast<int64_t>(plan.window.out[2]);
    const int64_t step = static_cast<int64_t>(plan.window.stride[2]) * plan.in_channels, stride = plan.row_stride;
    for (int64_t p = 0, n = 0; p < count; p += n, out += n * stride) {
        n = std::min(count - p, width - (begin + p) % width);
        for (int64_t t = 0; t < plan.runs; ++t) {
            const int32_t offset = offsets[static_cast<size_t>(t) * ld + static_cast<size_t>(p)];
            for (int64_t i = 0; i < plan.run; i += 8) {
                const uint8_t* from = (offset < 0 ? zero : x + offset) + i;
                const int64_t next = offset < 0 ? 0 : step;
                uint8_t* to = out + t * plan.run + i;
#pragma GCC unroll 4
                for (int64_t j = 0; j < n; ++j, to += stride, from += next) std::memcpy(to, from, 8);
            }
        }
    }
}

kernels::GemmS8 gemm_call(const Job& job, const Block& block, int32_t* buffer) {
    const ConvPlanS8& plan = job.plan;
    kernels::GemmS8 call;
    call.m = static_cast<size_t>(block.end - block.begin);
    call.n = static_cast<size_t>(plan.columns());
    call.taps = static_cast<size_t>(plan.taps);
    call.k = static_cast<size_t>(plan.k);
    const uint8_t* a = job.x + block.image * job.image_elements + block.group * plan.k;
    call.a = a;
    if (plan.path == ConvPath::gemm || plan.path == ConvPath::sparse) {
        call.lda = plan.groups > 1 ? plan.in_channels : plan.k;
        call.a = a + block.begin * call.lda;
    } else if (plan.runs) {
        size_t ld = 0;
        const int32_t* offsets = plan.table.taps(block.begin, block.end, buffer, ld);
        gather_rows(plan, a, job.columns.zero, block.begin, offsets, ld, block.end - block.begin, block.rows);
        call.a = block.rows;
        call.lda = plan.row_stride;
    } else {
        call.offsets = plan.table.taps(block.begin, block.end, buffer, call.offsets_ld);
    }
    call.zero = job.columns.zero;
    call.a_signed = job.ctx.input(0).dtype == DType::i8;
    call.a_zero = job.columns.x_zero;
    call.b = job.weights + static_cast<size_t>(block.group) * plan.packed_group;
    call.bias = job.columns.bias + block.group * plan.columns();
    return call;
}

// As above, straight to the output.
kernels::GemmS8 output_call(const Job& job, const Block& block, int32_t* buffer) {
    const ConvPlanS8& plan = job.plan;
    const int64_t column = block.group * plan.n;
    const int64_t offset = (block.image * plan.pixels + block.begin) * plan.filters + column;
    kernels::GemmS8 call = gemm_call(job, block, buffer);
    call.ldc = plan.filters;
    if (plan.linear) {
        call.out = kernels::GemmS8::Out::bytes;
        call.bytes = job.bytes;
        call.bytes.scale += column;
        if (call.bytes.add) call.bytes.add = static_cast<const uint8_t*>(call.bytes.add) + offset;
        call.c = job.ctx.output(0).as<uint8_t>() + offset;
    } else {
        call.c = job.ctx.output(0).as<int32_t>() + offset;
    }
    return call;
}

void run_block(const Job& job, const Block& block) {
    int32_t buffer[TapTable::kBuffer];
    const kernels::GemmS8 call = output_call(job, block, buffer);
    kernels::kernels().gemm_s8(call, 0, call.m, static_cast<size_t>(block.panel_begin),
                               static_cast<size_t>(block.panel_end));
}

void run_sparse_gemm(const Job& job, const Parallel& parallel) {
    const ConvPlanS8& plan = job.plan;
    const SparseWeights& weights = *plan.sparse.weights;
    auto* scratch = reinterpret_cast<float*>(job.ctx.scratch() + plan.packed_at);
    run_sparse(plan.sparse, parallel, scratch, [&](const SparsePart& part) {
        Block block;
        block.begin = part.begin, block.end = part.begin + static_cast<int64_t>(part.rows);
        kernels::SparseS8 call;
        call.gemm = output_call(job, block, nullptr);
        call.start = weights.start.data();
        call.index = weights.byte_index.data();
        call.values = weights.bytes.data();
        call.column_sums = weights.column_sums.data();
        call.scratch = reinterpret_cast<uint32_t*>(part.scratch);
        kernels::kernels().sparse_s8(call, 0, part.rows, part.group_begin, part.group_end);
    });
}

// Through sums in memory.
void run_sums(const Job& job, const Block& block) {
    const ConvPlanS8& plan = job.plan;
    const ConvOperands& at = operands(plan);
    const int64_t count = block.end - block.begin, row0 = block.image * plan.pixels + block.begin;
    int32_t* sums = block.sums;
    int32_t buffer[TapTable::kBuffer];
    if (plan.path == ConvPath::depthwise_sums) {
        size_t ld = 0;
        const int32_t* offsets = plan.table.taps(block.begin, block.end, buffer, ld);
        const auto* w = reinterpret_cast<const int16_t*>(job.weights);
        const uint8_t* x = job.x + block.image * job.image_elements;
        const auto zero = static_cast<int16_t>(job.columns.x_zero);
        if (job.ctx.input(0).dtype == DType::u8)
            depthwise_sums(plan, x, zero, w, job.columns.bias, offsets, ld, count, sums);
        else
            depthwise_sums(plan, reinterpret_cast<const int8_t*>(x), zero, w, job.columns.bias, offsets, ld, count,
                           sums);
        for (int64_t p = 0; p < count; ++p)
            finish(job, plan.filters, 0, sums + p * plan.filters, (row0 + p) * plan.filters);
        return;
    }
    kernels::GemmS8 call = gemm_call(job, block, buffer);
    call.c = sums;
    call.ldc = plan.columns();
    kernels::kernels().gemm_s8(call, 0, call.m, 0, static_cast<size_t>(plan.panels()));
    const Tensor* w_zero = job.ctx.has_input(at.w_zero) ? &job.ctx.input(at.w_zero) : nullptr;
    const int64_t neutral = neutral_zero(job.ctx.input(at.w).dtype), column = block.group * plan.n;
    for (int64_t p = 0; p < count; ++p) {
        int32_t* row = sums + p * plan.columns();
        for (int64_t j = 0; j < plan.n; ++j)
            row[j] = static_cast<int32_t>(static_cast<uint32_t>(row[j]) -
                                          static_cast<uint32_t>(conv_parameter(w_zero, column + j) - neutral) *
                                              static_cast<uint32_t>(row[plan.n]));
        finish(job, plan.n, column, row, (row0 + p) * plan.filters + column);
    }
}

void run_blocks(const Job& job, const Parallel& parallel) {
    const ConvPlanS8& plan = job.plan;
    const bool depthwise = plan.path == ConvPath::depthwise_sums;
    const int64_t images = plan.one_matrix() ? 1 : plan.images;
    const int64_t rows = plan.one_matrix() ? plan.images * plan.pixels : plan.pixels;
    const int64_t blocks = (rows + plan.row_block - 1) / plan.row_block, groups = depthwise ? 1 : plan.groups;
    const int64_t splits = plan.in_parts() ? 1 : (plan.panels() + plan.panel_block - 1) / plan.panel_block;
    const int64_t tasks = images * blocks * groups * splits;
    const int64_t parts = plan.in_parts() ? std::min(plan.parts, tasks) : tasks;
    parallel_for(parallel, parts, [&](int64_t part) {
        Block block;
        std::byte* scratch = job.ctx.scratch();
        if (plan.runs) block.rows = reinterpret_cast<uint8_t*>(scratch + plan.rows_at) + part * plan.rows_slot;
        if (plan.sums) block.sums = reinterpret_cast<int32_t*>(scratch + plan.sums_at) + part * plan.sums_slot;
        for (int64_t task = tasks * part / parts; task < tasks * (part + 1) / parts; ++task) {
            block.panel_begin = task % splits * plan.panel_block;
            block.panel_end = std::min(plan.panels(), block.panel_begin + plan.panel_block);
            block.group = task / splits % groups;
            block.begin = task / splits / groups % blocks * plan.row_block;
            block.end = std::min(rows, block.begin + plan.row_block);
            block.image = task / splits / groups / blocks;
            if (plan.sums) run_sums(job, block);
            else run_block(job, block);
        }
    });
}

void run_depthwise(const Job& job, const Parallel& parallel) {
    const ConvPlanS8& plan = job.plan;
    const kernels::Window& w = plan.window;
    kernels::DepthwiseS8 call;
    call.in_h = w.in[1], call.in_w = w.in[2], call.out_h = w.out[1], call.out_w = w.out[2];
    call.channels = static_cast<size_t>(plan.in_channels);
    call.kernel_h = w.kernel[1], call.kernel_w = w.kernel[2];
    call.stride_h = w.stride[1], call.stride_w = w.stride[2];
    call.dilation_h = w.dilation[1], call.dilation_w = w.dilation[2];
    call.pad_top = w.pad_begin[1], call.pad_left = w.pad_begin[2];
    call.x_signed = job.ctx.input(0).dtype == DType::i8;
    call.x_zero = job.columns.x_zero;
    call.x_stride = call.y_stride = plan.in_channels;
    call.x_row_stride = static_cast<ptrdiff_t>(w.in[2]) * plan.in_channels;
    call.y_row_stride = static_cast<ptrdiff_t>(w.out[2]) * plan.in_channels;
    call.w = job.weights;
    call.zero = job.columns.zero;
    call.bias = job.columns.bias;
    call.bytes = job.bytes;
    const auto length = static_cast<int64_t>(w.out[1]);
    const int64_t chunk = even_chunk(length, plan.images, parallel.threads, 6), chunks = (length + chunk - 1) / chunk;
    parallel_for(parallel, plan.images * chunks, [&](int64_t task) {
        const int64_t image = task / chunks, begin = task % chunks * chunk, end = std::min(length, begin + chunk);
        kernels::DepthwiseS8 part = call;
        const int64_t offset = image * plan.pixels * plan.filters;
        part.x = job.x + image * plan.in_elements;
        part.y = job.ctx.output(0).as<uint8_t>() + offset;
        if (part.bytes.add) part.bytes.add = static_cast<const uint8_t*>(part.bytes.add) + offset;
        kernels::kernels().depthwise_s8(part, static_cast<size_t>(begin), static_cast<size_t>(end));
    });
}

void run(RunContext& ctx) {
    const ConvPlanS8& plan = *ctx.state<ConvPlanS8>();
    if (plan.images * plan.pixels * plan.filters == 0) return;
    const ConvOperands& at = operands(plan);
    const double work = static_cast<double>(plan.images * plan.pixels) * static_cast<double>(plan.filters) *
                        static_cast<double>(std::max<int64_t>(1, plan.taps * plan.k));
    const Parallel serial;
    const Parallel& parallel = work < kSerialWork ? serial : ctx.parallel();
    Job job{ctx, plan, columns_of(ctx, plan), ctx.input(at.x).as<uint8_t>(), plan.in_elements, nullptr, plan.bytes};
    job.bytes.scale = job.columns.scale;
    job.bytes.zero = job.columns.y_zero;
    if (at.add >= 0 && ctx.has_input(at.add)) job.bytes.add = ctx.input(at.add).data;
    job.weights = ctx.scratch() + plan.packed_at;
    if (plan.packed) job.weights = static_cast<const std::byte*>(plan.packed->data);
    else if (plan.path != ConvPath::sparse)
        pack_weights(plan, ctx.input(at.w), ctx.has_input(at.w_zero) ? &ctx.input(at.w_zero) : nullptr,
                     ctx.scratch() + plan.packed_at);
    if (plan.padded) {
        auto* padded = reinterpret_cast<uint8_t*>(ctx.scratch() + plan.padded_at);
        copy_padded(plan, job.x, job.columns.zero[0], padded, parallel);
        job.x = padded;
        job.image_elements = plan.padded_elements;
    }
    if (plan.path == ConvPath::winograd) {
        kernels::WinogradS8 call;
        call.x_signed = ctx.input(at.x).dtype == DType::i8;
        call.x_zero = job.columns.x_zero;
        call.w = job.weights;
        call.bias = job.columns.bias;
        call.y = ctx.output(0).data;
        call.bytes = job.bytes;
        run_winograd_s8(plan.winograd, call, job.x, job.columns.zero, parallel, ctx.scratch() + plan.sums_at);
    } else if (plan.path == ConvPath::depthwise) run_depthwise(job, parallel);
    else if (plan.path == ConvPath::sparse) run_sparse_gemm(job, parallel);
    else run_blocks(job, parallel);
}

}  // namespace

void run_conv_integer(RunContext& ctx) { run(ctx); }
void run_qlinear_conv(RunContext& ctx) { run(ctx); }

}  // namespace linnet
