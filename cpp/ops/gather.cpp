// Gather (1, 11, 13): rows of `data` along `axis`, picked by `indices`.
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

void infer_gather(InferContext& ctx) {
    const Fact &data = tensor_input(ctx, 0), &indices = tensor_input(ctx, 1);
    require_index_type(indices);
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()));
    if (!indices.ranked) return ctx.output_unranked(0, data.dtype);
    Shape shape(data.shape.begin(), data.shape.begin() + axis);
    for (int64_t dim : indices.shape) shape.push_back(dim);
    for (size_t i = axis + 1; i < data.shape.size(); ++i) shape.push_back(data.shape[i]);
    Fact out = Fact::of(data.dtype, shape);
    const Shape* picks = indices.rank() <= 1 ? ctx.ints(1) : nullptr;
    if (data.ints && data.rank() == 1 && picks) {
        Shape ints;
        const auto size = static_cast<int64_t>(data.ints->size());
        for (int64_t pick : *picks) {
            if (is_number(pick) && pick < 0) pick += size;
            const bool inside = is_number(pick) && pick >= 0 && pick < size;
            ints.push_back(inside ? (*data.ints)[static_cast<size_t>(pick)] : kUnknownDim);
        }
        out.ints = std::move(ints);
    }
    ctx.output(0, std::move(out));
}

template <class Index>
void gather(RunContext& ctx, int64_t size, int64_t outer, int64_t inner) {
    const Tensor &x = ctx.input(0), &indices = ctx.input(1);
    const int64_t picks = indices.count();
    const Index* pick = indices.as<Index>();
    for (int64_t i = 0; i < picks; ++i)
        if (pick[i] < -size || pick[i] >= size)
            fail(ErrorKind::invalid_argument, "index ", pick[i], " is outside [", -size, ", ", size - 1, "]");
    Tensor& y = ctx.output(0);
    const auto bytes = static_cast<int64_t>(dtype_size(y.dtype)) * inner;
    const int64_t grain = std::max<int64_t>(1, (int64_t{64} << 10) / std::max<int64_t>(1, bytes));
    const auto* from = static_cast<const char*>(x.data);
    auto* to = static_cast<char*>(y.data);
    parallel_ranges(ctx.parallel(), outer * picks, grain, [&](int64_t begin, int64_t end) {
        int64_t o = begin / picks, p = begin % picks;
        for (int64_t i = begin; i < end; ++i) {
            const int64_t at = pick[p] < 0 ? pick[p] + size : pick[p];
            const char* source = from + (o * size + at) * bytes;
            char* target = to + i * bytes;
            if (y.dtype == DType::string) copy_run(y.dtype, inner, source, target);
            else if (bytes == 4) __builtin_memcpy(target, source, 4);
            else if (bytes == 8) __builtin_memcpy(target, source, 8);
            else __builtin_memcpy(target, source, static_cast<size_t>(bytes));
            if (++p == picks) p = 0, ++o;
        }
    });
}

void run_gather(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), x.rank()));
    const int64_t outer = product(x.shape, 0, axis), inner = product(x.shape, axis + 1, x.shape.size());
    if (ctx.input(1).dtype == DType::i64) gather<int64_t>(ctx, x.shape[axis], outer, inner);
    else gather<int32_t>(ctx, x.shape[axis], outer, inner);
}

bool permute_gather(const Graph& graph, Node& node, const Shape& perm, Patch&) {
    const Fact& indices = graph.fact(node.inputs[1]);
    if (!indices.ranked || indices.rank() != 1) return false;
    const int64_t axis = normal_axis(node.attributes.i("axis", 0), static_cast<int64_t>(perm.size()));
    node.attributes.set("axis", permuted_axis(perm, axis));
    return true;
}

}  // namespace

std::span<const OpDef> gather_ops() {
    static const OpDef rows[] = {
        {.name = "Gather",
         .infer = infer_gather,
         .run = run_gather,
         .permute = permute_gather,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
