// Einsum (12, 28): attribute `equation`; any number of operands of one dtype. Axes of size 1 broadcast. What lowering
// does not take apart is summed element by element here, floats in double.
#include <algorithm>
#include <map>
#include <type_traits>

#include "ops/shared/einsum.h"
#include "ops/shared/facts.h"
#include "ops/shared/numbers.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_einsum(InferContext& ctx) {
    const DType d = ctx.input(0).dtype;
    require(d == DType::undefined || is_float(d) || is_int(d), "Einsum does not take ", dtype_name(d));
    std::vector<int64_t> ranks;
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Fact& fact = tensor_input(ctx, i);
        require(fact.dtype == d, "input ", i, " is ", dtype_name(fact.dtype), ", input 0 is ", dtype_name(d));
        ranks.push_back(fact.ranked ? fact.rank() : -1);
    }
    const auto equation = parse_equation(ctx.attributes.s("equation", ""), ranks);
    if (!equation) return ctx.output_unranked(0, d);
    std::map<int, int64_t> sizes;
    for (size_t i = 0; i < equation->terms.size(); ++i) {
        if (ranks[i] < 0) {
            for (int label : equation->terms[i]) sizes[label] = kUnknownDim;
            continue;
        }
        for (size_t axis = 0; axis < equation->terms[i].size(); ++axis) {
            const int64_t size = ctx.input(static_cast<int>(i)).shape[axis];
            const auto [at, fresh] = sizes.try_emplace(equation->terms[i][axis], size);
            if (!fresh) at->second = ctx.dims.broadcast(at->second, size);
        }
    }
    Shape shape;
    for (int label : equation->output) shape.push_back(sizes[label]);
    ctx.output(0, d, shape);
}

// A loop over one label: its size, and what a step means to each operand.
struct Loop {
    int64_t size = 1;
    std::vector<int64_t> steps;
};

std::vector<Loop> loops_of(const RunContext& ctx, const Equation& equation, const Labels& labels) {
    std::vector<Loop> loops;
    for (int label : labels) {
        Loop loop;
        for (size_t i = 0; i < equation.terms.size(); ++i) {
            const Tensor& x = ctx.input(static_cast<int>(i));
            const Shape strides = strides_of(x.shape);
            int64_t step = 0;
            for (size_t axis = 0; axis < equation.terms[i].size(); ++axis) {
                if (equation.terms[i][axis] != label) continue;
                const int64_t size = x.shape[axis];
                if (size == 1) continue;
                if (loop.size != 1 && loop.size != size)
                    fail(ErrorKind::invalid_argument, "axes of sizes ", loop.size, " and ", size, " share a label");
                loop.size = size;
                step += strides[axis];
            }
            loop.steps.push_back(step);
        }
        loops.push_back(std::move(loop));
    }
    return loops;
}

int64_t space_of(const std::vector<Loop>& loops) {
    int64_t space = 1;
    for (const Loop& loop : loops) space = checked_mul(space, loop.size);
    return space;
}

template <class T>
void sum_products(RunContext& ctx, const std::vector<Loop>& outer, const std::vector<Loop>& inner) {
    using Acc = std::conditional_t<std::is_floating_point_v<T>, double, uint64_t>;
    const size_t operands = static_cast<size_t>(ctx.inputs());
    const int64_t terms = space_of(inner), count = ctx.output(0).count();
    parallel_ranges(ctx.parallel(), count, row_grain(terms, 4), [&](int64_t begin, int64_t end) {
        std::vector<int64_t> at(operands), base(operands), index(inner.size());
        for (int64_t o = begin; o < end; ++o) {
            std::fill(base.begin(), base.end(), 0);
            int64_t rest = o;
            for (size_t l = outer.size(); l-- > 0;) {
                const int64_t i = rest % outer[l].size;
                rest /= outer[l].size;
                for (size_t x = 0; x < operands; ++x) base[x] += i * outer[l].steps[x];
            }
            at = base;
            std::fill(index.begin(), index.end(), 0);
            Acc sum{};
            for (int64_t t = 0; t < terms; ++t) {
                Acc product{1};
                for (size_t x = 0; x < operands; ++x)
                    product *= static_cast<Acc>(ctx.input(static_cast<int>(x)).as<T>()[at[x]]);
                sum += product;
                for (size_t l = inner.size(); l-- > 0;) {
                    for (size_t x = 0; x < operands; ++x) at[x] += inner[l].steps[x];
                    if (++index[l] < inner[l].size) break;
                    for (size_t x = 0; x < operands; ++x) at[x] -= inner[l].steps[x] * inner[l].size;
                    index[l] = 0;
                }
            }
            ctx.output(0).as<T>()[o] = static_cast<T>(sum);
        }
    });
}

void run_einsum(RunContext& ctx) {
    if (has_half(ctx)) return run_widened(ctx, run_einsum);
    std::vector<int64_t> ranks;
    for (int i = 0; i < ctx.inputs(); ++i) ranks.push_back(ctx.input(i).rank());
    const Equation equation = *parse_equation(ctx.attributes.s("equation", ""), ranks);
    Labels summed;
    for (const Labels& term : equation.terms)
        for (int label : term)
            if (std::count(equation.output.begin(), equation.output.end(), label) == 0 &&
                std::count(summed.begin(), summed.end(), label) == 0)
                summed.push_back(label);
    const auto outer = loops_of(ctx, equation, equation.output), inner = loops_of(ctx, equation, summed);
    for_number(ctx.input(0).dtype, [&](auto tag) { sum_products<typename decltype(tag)::type>(ctx, outer, inner); });
}

}  // namespace

std::span<const OpDef> einsum_ops() {
    static const OpDef rows[] = {
        {.name = "Einsum",
         .since = 12,
         .infer = infer_einsum,
         .run = run_einsum,
         .lower = lower_einsum,
         .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
