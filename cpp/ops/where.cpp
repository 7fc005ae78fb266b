// Where: elements of one of two tensors, chosen by a condition, all three broadcast.
#include <memory>
#include <string>

#include "ops/binary.h"

namespace linnet {
namespace {

struct WhereState {
    Broadcast plan;
    size_t size = 0;
};

void infer_where(InferContext& ctx) {
    check_dtype(ctx, 0, kBoolType);
    check_dtype(ctx, 1, kAllTypes);
    check_dtype(ctx, 2, kAllTypes);
    const DType dtype = common_dtype(ctx, 1, 3);
    Shape shape;
    Fact out = ctx.broadcast({0, 1, 2}, shape) ? Fact::of(dtype, shape) : Fact::unranked(dtype);
    Shape storage[3];
    const Shape* ints[3];
    size_t n = 1;
    bool known = out.ranked && out.rank() <= 1 && (is_int(dtype) || dtype == DType::boolean);
    for (int i = 0; i < 3 && known; ++i) {
        ints[i] = small_ints(ctx, i, storage[i]);
        known = ints[i] && !ints[i]->empty();
        if (known) n = std::max(n, ints[i]->size());
    }
    if (known) {
        Shape values(n);
        for (size_t e = 0; e < n; ++e) {
            auto at = [&](int i) { return (*ints[i])[ints[i]->size() == 1 ? 0 : e]; };
            values[e] = is_number(at(0)) ? (at(0) ? at(1) : at(2)) : at(1) == at(2) ? at(1) : kUnknownDim;
        }
        out.ints = values;
    }
    ctx.output(0, std::move(out));
}

std::shared_ptr<const void> prepare_where(PrepareContext& ctx) {
    auto state = std::make_shared<WhereState>();
    state->plan = make_broadcast({&ctx.input(0).shape, &ctx.input(1).shape, &ctx.input(2).shape}, ctx.output(0).shape);
    state->size = dtype_size(ctx.output(0).dtype);
    return state;
}

void kernel_row(const void* context, size_t n, const void* const* in, const size_t* step, void* out) {
    kernels::kernels().where(static_cast<const WhereState*>(context)->size, n, static_cast<const uint8_t*>(in[0]),
                             step[0], in[1], step[1], in[2], step[2], out);
}
struct Wide {
    uint64_t low, high;  // an element of 16 bytes
};
template <class T>
void scalar_where_row(const void*, size_t n, const void* const* in, const size_t* step, void* out) {
    for (size_t i = 0; i < n; ++i) {
        const T& chosen = static_cast<const uint8_t*>(in[0])[i * step[0]] ? static_cast<const T*>(in[1])[i * step[1]]
                                                                          : static_cast<const T*>(in[2])[i * step[2]];
        if constexpr (std::is_same_v<T, std::string>) copy_text(chosen, static_cast<T*>(out)[i]);
        else static_cast<T*>(out)[i] = chosen;
    }
}

void run_where(RunContext& ctx) {
    const WhereState& state = *ctx.state<WhereState>();
    RowFn row = kernel_row;
    if (ctx.output(0).dtype == DType::string) row = scalar_where_row<std::string>;
    else if (state.size == 16) row = scalar_where_row<Wide>;
    run_broadcast(state.plan, {ctx.input(0).data, ctx.input(1).data, ctx.input(2).data}, {1, state.size, state.size},
                  ctx.output(0).data, state.size, ctx.parallel(), kCheapGrain, row, &state);
}

}  // namespace

std::span<const OpDef> where_ops() {
    static const OpDef rows[] = {
        {.name = "Where",
         .since = 9,
         .infer = infer_where,
         .run = run_where,
         .prepare = prepare_where,
         .layout_inputs = ~0u,
         .flags = kElementwise,
         .min_inputs = 3,
         .max_inputs = 3},
    };
    return rows;
}

}  // namespace linnet
