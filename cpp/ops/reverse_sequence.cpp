// ReverseSequence (10, 28): the first sequence_lens[b] steps of sample b backwards, the rest as it is.
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_reverse_sequence(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &lengths = tensor_input(ctx, 1);
    const int64_t batch = ctx.attributes.i("batch_axis", 1), time = ctx.attributes.i("time_axis", 0);
    require((batch == 0 && time == 1) || (batch == 1 && time == 0), "batch_axis ", batch, " and time_axis ", time,
            " must be 0 and 1 in some order");
    require(lengths.dtype == DType::i64 || lengths.dtype == DType::undefined, "sequence_lens must be int64, not ",
            dtype_name(lengths.dtype));
    require(!lengths.ranked || lengths.rank() == 1, "sequence_lens must have rank 1, not ", lengths.rank());
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    require(data.rank() >= 2, "the input must have rank 2 or more, not ", data.rank());
    if (lengths.ranked)
        same_dim(ctx.dims, data.shape[static_cast<size_t>(batch)], lengths.shape[0], "batch and sequence_lens");
    ctx.output(0, data.dtype, data.shape);
}

void run_reverse_sequence(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &lengths = ctx.input(1);
    Tensor& y = ctx.output(0);
    const auto batch = static_cast<size_t>(ctx.attributes.i("batch_axis", 1)), time = 1 - batch;
    const Shape strides = strides_of(x.shape);
    const int64_t inner = product(x.shape, 2, x.shape.size()), step = strides[time];
    for (int64_t b = 0; b < x.shape[batch]; ++b)
        if (const int64_t n = lengths.as<int64_t>()[b]; n < 0 || n > x.shape[time])
            fail(ErrorKind::invalid_argument, "sequence length ", n, " is outside [0, ", x.shape[time], "]");
    for (int64_t b = 0; b < x.shape[batch]; ++b) {
        const int64_t n = lengths.as<int64_t>()[b], base = b * strides[batch];
        copy_box(ctx.parallel(), x.dtype, {n, inner}, element(x.data, x.dtype, base + (n - 1) * step), {-step, 1},
                 element(y.data, x.dtype, base), {step, 1});
        copy_box(ctx.parallel(), x.dtype, {x.shape[time] - n, inner}, element(x.data, x.dtype, base + n * step),
                 {step, 1}, element(y.data, x.dtype, base + n * step), {step, 1});
    }
}

}  // namespace

std::span<const OpDef> reverse_sequence_ops() {
    static const OpDef rows[] = {
        {.name = "ReverseSequence",
         .since = 10,
         .infer = infer_reverse_sequence,
         .run = run_reverse_sequence,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
