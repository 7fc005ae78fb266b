// Loop (1 ... 25): a body that runs while a count and a condition allow; states go round, other outputs are stacked.
#include <limits>

#include "ops/shared/body.h"
#include "ops/shared/facts.h"
#include "ops/shared/join.h"

namespace linnet {
namespace {

// Inputs in front of the states: trip count, condition. Body inputs: iteration, condition, states. Body outputs:
// condition, states, stacked ones.
constexpr int kFirst = 2;

void infer_loop(InferContext& ctx) {
    for (int i = 0; i < kFirst; ++i)
        if (ctx.has_input(i)) tensor_input(ctx, i);
    const int states = std::max(0, ctx.inputs() - kFirst);
    require(ctx.outputs() >= 0 && ctx.outputs() <= 1 << 16, "too many outputs");
    const Graph& body = body_of(ctx.node(), "body");
    auto declared = [&](DType dtype, size_t input) {
        return Fact::of(dtype, as_declared(Tensor{}, body, input).shape);
    };
    std::vector<Fact> formal{declared(DType::i64, 0), declared(DType::boolean, 1)};
    for (int i = 0; i < states; ++i) formal.push_back(without_value(ctx.input(kFirst + i)));
    const auto results = settle_body(ctx, "body", formal, kFirst, 1, static_cast<size_t>(states));
    require(static_cast<int>(results.size()) - 1 >= ctx.outputs(), "the body has ", results.size(),
            " outputs, the node has ", ctx.outputs());
    for (int i = 0; i < ctx.outputs(); ++i) {
        Fact fact = without_value(results[static_cast<size_t>(i) + 1]);
        if (i >= states && !says_nothing(fact)) {
            require(fact.kind == Value::Kind::tensor, "a stacked output of the body must be a tensor");
            if (fact.ranked) fact.shape.insert(fact.shape.begin(), kUnknownDim);
        }
        ctx.output(i, std::move(fact));
    }
}

bool condition_of(const Value& value) {
    if (value.kind != Value::Kind::tensor || value.tensor.dtype != DType::boolean || value.tensor.count() != 1)
        fail(ErrorKind::invalid_argument, "a loop's condition must be one bool");
    return int_at(value.tensor, 0) != 0;
}

void run_loop(RunContext& ctx) {
    int64_t trips = std::numeric_limits<int64_t>::max();
    if (ctx.has_input(0)) {
        const Tensor& count = ctx.input(0);
        if (count.dtype != DType::i64 || count.count() != 1)
            fail(ErrorKind::invalid_argument, "the trip count must be one int64, not ", dtype_name(count.dtype), " ",
                 shape_text(count.shape));
        trips = int_at(count, 0);
    }
    bool go_on = !ctx.has_input(1) || condition_of(ctx.value(1));
    const auto states = static_cast<size_t>(std::max(0, ctx.inputs() - kFirst));
    const Graph& body = body_of(ctx.node, "body");
    const size_t results = body.outputs.size() - 1;
    std::vector<Value> carried;
    for (size_t i = 0; i < states; ++i) carried.push_back(ctx.value(kFirst + static_cast<int>(i)));
    std::vector<std::vector<Tensor>> stacked(results - states);
    Tensor flag = Tensor::allocate(DType::boolean, {});
    *flag.as<uint8_t>() = 1;
    const Value goes_on = as_declared(std::move(flag), body, 1);
    for (int64_t trip = 0; trip < trips && go_on; ++trip) {
        std::vector<Value> formal;
        formal.push_back(as_declared(Tensor::scalar(trip), body, 0));
        formal.push_back(goes_on);
        for (Value& value : carried) formal.push_back(std::move(value));
        std::vector<Value> out = ctx.subgraph("body", std::move(formal));
        go_on = condition_of(out[0]);
        for (size_t i = 0; i < states; ++i) carried[i] = std::move(out[i + 1]);
        for (size_t i = 0; i < stacked.size(); ++i) {
            Value& value = out[states + 1 + i];
            if (value.kind != Value::Kind::tensor)
                fail(ErrorKind::invalid_argument, "a stacked output of a loop must be a tensor");
            stacked[i].push_back(std::move(value.tensor));
        }
    }
    for (size_t i = 0; i < states; ++i) ctx.set_value(static_cast<int>(i), std::move(carried[i]));
    for (size_t i = 0; i < stacked.size(); ++i) {
        const auto index = static_cast<int>(states + i);
        if (!ctx.has_output(index)) continue;
        ctx.set_value(
            index, stacked[i].empty() ? empty_stack(body, states + 1 + i) : join(ctx.parallel(), stacked[i], 0, true));
    }
}

}  // namespace

std::span<const OpDef> loop_ops() {
    static const OpDef rows[] = {
        {.name = "Loop", .infer = infer_loop, .run = run_loop, .flags = kDynamic, .min_inputs = 2, .may_omit = 0b11},
    };
    return rows;
}

}  // namespace linnet
