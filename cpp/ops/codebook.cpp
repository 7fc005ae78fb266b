// linnet.Codebook: y[...] = book[code[...]]. Inputs: codes u8, book f32 [1 to 256]. Attribute pairs: the axis along
// which a byte holds two codes of 4 bits, those of the first half of that axis (the lower ones) and of the second;
// absent: a byte a code. Lowering makes it from the operators that put a tensor together from its codes.
#include "ops/shared/codebook.h"

#include "ops/elementwise.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8}));
    check_dtype(ctx, 1, set_of({DType::f32}));
    const Fact& codes = ctx.input(0);
    if (!codes.ranked) return ctx.output_unranked(0, DType::f32);
    Shape shape = codes.shape;
    const int64_t pairs = ctx.attributes.i("pairs", kNoPairs);
    if (pairs != kNoPairs) {
        require(pairs >= 0 && pairs < static_cast<int64_t>(codes.rank()), "pairs ", pairs, ", rank ", codes.rank());
        int64_t& dim = shape[static_cast<size_t>(pairs)];
        dim = is_number(dim) ? checked_mul(dim, 2) : kUnknownDim;
    }
    ctx.output(0, Fact::of(DType::f32, shape));
}

void run(RunContext& ctx) {
    const Tensor& codes = ctx.input(0);
    const auto* from = codes.as<uint8_t>();
    auto* y = ctx.output(0).as<float>();
    const BookValues book(ctx.input(1));
    const int64_t pairs = ctx.attributes.i("pairs", kNoPairs);
    if (pairs == kNoPairs) {
        parallel_ranges(ctx.parallel(), codes.count(), kCheapGrain, [&](int64_t begin, int64_t end) {
            uint8_t most = 0;
            for (int64_t i = begin; i < end; ++i) most = std::max(most, from[i]);
            book.check(most);
            for (int64_t i = begin; i < end; ++i) y[i] = book[from[i]];
        });
        return;
    }
    // A row of codes makes the halves of one of y that is twice as long.
    const auto axis = static_cast<size_t>(pairs);
    const int64_t length = product(codes.shape, axis, codes.shape.size());
    const int64_t grain = std::max<int64_t>(1, kCheapGrain / std::max<int64_t>(1, length));
    parallel_ranges(ctx.parallel(), product(codes.shape, 0, axis), grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            const uint8_t* in = from + row * length;
            float *first = y + 2 * row * length, *second = first + length;
            uint8_t low = 0, high = 0;
            for (int64_t i = 0; i < length; ++i) {
                low = std::max<uint8_t>(low, in[i] & 15);
                high = std::max<uint8_t>(high, in[i] >> 4);
            }
            book.check(std::max(low, high));
            for (int64_t i = 0; i < length; ++i) {
                first[i] = book[in[i] & 15];
                second[i] = book[in[i] >> 4];
            }
        }
    });
}

}  // namespace

std::span<const OpDef> codebook_ops() {
    static const OpDef rows[] = {
        {.name = "Codebook", .domain = "linnet", .infer = infer, .run = run, .min_inputs = 2, .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
