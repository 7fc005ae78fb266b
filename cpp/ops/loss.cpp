// NegativeLogLikelihoodLoss (12, 13, 22) and SoftmaxCrossEntropyLoss (12, 13): scores [N, C, d ...], labels [N, d ...],
// weights [C]?; attributes ignore_index (none), reduction "mean" ("sum", "none"). The second takes the logarithm of the
// softmax over C first, and gives it as output 1 on demand.
#include <cmath>
#include <limits>
#include <optional>

#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

bool takes_scores(const OpDef& op) { return op.name == "SoftmaxCrossEntropyLoss"; }

void infer_loss(InferContext& ctx) {
    const Fact &x = tensor_input(ctx, 0), &labels = tensor_input(ctx, 1);
    require(x.dtype == DType::undefined || is_float(x.dtype), "scores are ", dtype_name(x.dtype));
    require(labels.dtype == DType::undefined || labels.dtype == DType::i32 || labels.dtype == DType::i64, "labels are ",
            dtype_name(labels.dtype));
    if (ctx.has_input(2)) {
        const Fact& weight = tensor_input(ctx, 2);
        require(weight.dtype == x.dtype, "weights are ", dtype_name(weight.dtype), ", scores are ",
                dtype_name(x.dtype));
        if (weight.ranked) require(weight.rank() == 1, "weights have rank ", weight.rank(), ", expected 1");
        if (weight.ranked && x.ranked && x.rank() >= 2)
            same_dim(ctx.dims, weight.shape[0], x.shape[1], "weights against classes");
    }
    if (x.ranked) require(x.rank() >= 2, "scores have rank ", x.rank(), ", expected at least 2");
    if (x.ranked && labels.ranked) {
        require(labels.rank() == x.rank() - 1, "labels have rank ", labels.rank(), ", scores have rank ", x.rank());
        for (size_t i = 0; i < labels.shape.size(); ++i)
            same_dim(ctx.dims, labels.shape[i], x.shape[i == 0 ? 0 : i + 1], "labels against scores");
    }
    const std::string reduction = ctx.attributes.s("reduction", "mean");
    require(reduction == "mean" || reduction == "sum" || reduction == "none", "reduction is '", reduction, "'");
    if (reduction != "none") {
        ctx.output(0, x.dtype, {});
    } else if (labels.ranked) {
        ctx.output(0, x.dtype, labels.shape);
    } else {
        ctx.output_unranked(0, x.dtype);
    }
    if (ctx.has_output(1)) ctx.output(1, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

template <class T>
void compute(RunContext& ctx) {
    const Tensor &x = ctx.input(0), &labels = ctx.input(1);
    const int64_t classes = x.shape[1], positions = product(x.shape, 2, x.shape.size());
    const int64_t count = labels.count();
    const T* weight = ctx.has_input(2) ? ctx.input(2).as<T>() : nullptr;
    std::optional<int64_t> ignored;
    if (ctx.attributes.has("ignore_index")) ignored = ctx.attributes.i("ignore_index", 0);
    const std::string reduction = ctx.attributes.s("reduction", "mean");
    const bool scores = takes_scores(*ctx.node.op);
    double sum = 0, weights = 0;
    for (int64_t r = 0; r < count; ++r) {
        const T* row = x.as<T>() + r / positions * classes * positions + r % positions;
        double log_sum = 0;
        if (scores) {
            double top = -std::numeric_limits<double>::infinity(), total = 0;
            for (int64_t c = 0; c < classes; ++c) top = std::max(top, static_cast<double>(row[c * positions]));
            for (int64_t c = 0; c < classes; ++c) total += std::exp(static_cast<double>(row[c * positions]) - top);
            log_sum = std::log(total) + top;
            if (ctx.has_output(1)) {
                T* to = ctx.output(1).as<T>() + (row - x.as<T>());
                for (int64_t c = 0; c < classes; ++c)
                    to[c * positions] = static_cast<T>(static_cast<double>(row[c * positions]) - log_sum);
            }
        }
        const int64_t label = int_at(labels, r);
        double loss = 0;
        if (!ignored || label != *ignored) {
            if (label < 0 || label >= classes)
                fail(ErrorKind::invalid_argument, "label ", r, " is ", label, ", there are ", classes, " classes");
            const double w = weight ? static_cast<double>(weight[label]) : 1.0;
            loss = w * (log_sum - static_cast<double>(row[label * positions]));
            sum += loss;
            weights += w;
        }
        if (reduction == "none") ctx.output(0).as<T>()[r] = static_cast<T>(loss);
    }
    if (reduction != "none") *ctx.output(0).as<T>() = static_cast<T>(reduction == "mean" ? sum / weights : sum);
}

void run_loss(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_loss);
    for_float(ctx.input(0).dtype, [&](auto tag) { compute<typename decltype(tag)::type>(ctx); });
}

constexpr OpDef row(std::string_view name) {
    return {.name = name,
            .since = 12,
            .infer = infer_loss,
            .run = run_loss,
            .lower = lower_widened,
            .min_inputs = 2,
            .max_inputs = 3};
}

}  // namespace

std::span<const OpDef> loss_ops() {
    static const OpDef rows[] = {row("NegativeLogLikelihoodLoss"), row("SoftmaxCrossEntropyLoss")};
    return rows;
}

}  // namespace linnet
