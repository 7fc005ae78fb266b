// linnet.Codebook: y[...] = book[code[...]]. Inputs: codes u8, book f32. Attributes: pairs, the axis along which a byte
// holds two codes of 4 bits, those of the first half of that axis (the lower ones) and of the second, absent: a byte a
// code; axis, each of whose places has a book of its own, one after the other, absent: one book. Lowering makes it from
// the operators that put a tensor together from its codes.
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
    const int64_t axis = ctx.attributes.i("axis", kOneBook);
    require(axis >= kOneBook && axis < static_cast<int64_t>(codes.rank()), "axis ", axis, ", rank ", codes.rank());
    ctx.output(0, Fact::of(DType::f32, shape));
}

void run(RunContext& ctx) {
    const Tensor &codes = ctx.input(0), &book = ctx.input(1);
    const Shape& shape = ctx.output(0).shape;
    auto* const y = ctx.output(0).as<float>();
    const int64_t pairs = ctx.attributes.i("pairs", kNoPairs), axis = ctx.attributes.i("axis", kOneBook);
    const auto at = static_cast<size_t>(axis);
    const int64_t books = axis == kOneBook ? 1 : shape[at];
    const int64_t inner = axis == kOneBook ? product(shape, 0, shape.size()) : product(shape, at + 1, shape.size());
    const int64_t width = books ? book.count() / books : 0;
    // The elements [first, first + n) of y, of one half of each byte or of the whole one.
    const auto look_up = [&](const uint8_t* in, int shift, int mask, int64_t first, int64_t n) {
        uint8_t most = 0;
        for (int64_t i = 0; i < n; ++i) most = std::max(most, static_cast<uint8_t>(in[i] >> shift & mask));
        for (int64_t i = 0; i < n;) {
            const int64_t start = (first + i) / inner % books * width;
            const int64_t end = std::min(n, i + inner - (first + i) % inner);
            if (start + most >= book.count())
                for (int64_t j = i; j < end; ++j) check_code(start + (in[j] >> shift & mask), book.count());
            const float* values = book.as<float>() + start;
            for (; i < end; ++i) y[first + i] = values[in[i] >> shift & mask];
        }
    };
    const auto* from = codes.as<uint8_t>();
    if (pairs == kNoPairs) {
        parallel_ranges(ctx.parallel(), codes.count(), kCheapGrain,
                        [&](int64_t begin, int64_t end) { look_up(from + begin, 0, 255, begin, end - begin); });
        return;
    }
    // A row of codes makes the halves of one of y that is twice as long.
    const auto split = static_cast<size_t>(pairs);
    const int64_t length = product(codes.shape, split, codes.shape.size());
    const int64_t grain = std::max<int64_t>(1, kCheapGrain / std::max<int64_t>(1, length));
    parallel_ranges(ctx.parallel(), product(codes.shape, 0, split), grain, [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row) {
            look_up(from + row * length, 0, 15, 2 * row * length, length);
            look_up(from + row * length, 4, 15, (2 * row + 1) * length, length);
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
