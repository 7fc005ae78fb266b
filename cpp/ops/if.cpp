// If (1 ... 25): one of two branches, chosen when the condition is known.
#include "ops/shared/body.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// Facts of a branch. A branch that is not taken need not fit the shapes of this run, so what goes wrong in it only
// means that nothing is known; if it is taken, running it says what is wrong.
std::vector<Fact> branch_facts(const InferContext& ctx, std::string_view branch) {
    try {
        return ctx.subgraph(branch, {});
    } catch (const Error&) {
        return std::vector<Fact>(static_cast<size_t>(ctx.outputs()));
    }
}

void infer_if(InferContext& ctx) {
    const Fact& condition = tensor_input(ctx, 0);
    require(condition.dtype == DType::boolean || condition.dtype == DType::undefined,
            "the condition must be bool, not ", dtype_name(condition.dtype));
    const auto outputs = static_cast<size_t>(ctx.outputs());
    for (const char* branch : {"then_branch", "else_branch"}) {
        require(ctx.attributes.g(branch) != nullptr, "the graph '", branch, "' is missing");
        const Graph& body = body_of(ctx.node(), branch);
        const auto captures = static_cast<size_t>(ctx.node().captures);
        require(body.inputs.size() == captures, "'", branch, "' has ", body.inputs.size() - captures,
                " inputs, a branch takes none");
        require(body.outputs.size() >= outputs, "'", branch, "' has ", body.outputs.size(), " outputs, the node has ",
                outputs);
    }
    const auto yes = branch_facts(ctx, "then_branch"), no = branch_facts(ctx, "else_branch");
    const Tensor* known = ctx.constant(0);
    for (size_t i = 0; i < outputs; ++i) {
        const auto index = static_cast<int>(i);
        if (known && known->count() == 1) ctx.output(index, int_at(*known, 0) ? yes[i] : no[i]);
        else if (says_nothing(yes[i]) || says_nothing(no[i])) ctx.output(index, Fact());
        else ctx.output(index, merge_facts(without_value(yes[i]), without_value(no[i])));
    }
}

void run_if(RunContext& ctx) {
    const Tensor& condition = ctx.input(0);
    if (condition.dtype != DType::boolean || condition.count() != 1)
        fail(ErrorKind::invalid_argument, "the condition must be one bool, not ", dtype_name(condition.dtype), " ",
             shape_text(condition.shape));
    auto results = ctx.subgraph(int_at(condition, 0) ? "then_branch" : "else_branch", {});
    for (int i = 0; i < ctx.outputs(); ++i) ctx.set_value(i, std::move(results[static_cast<size_t>(i)]));
}

}  // namespace

std::span<const OpDef> if_ops() {
    static const OpDef rows[] = {
        {.name = "If", .infer = infer_if, .run = run_if, .flags = kDynamic, .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
