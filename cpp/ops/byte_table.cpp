// linnet.ByteTable: y = table[x as u8], element by element. Input: u8 or s8; attribute table: 256 elements of u8 or s8,
// the result's dtype. Lowering makes it from elementwise operators between DequantizeLinear and QuantizeLinear.
#include "kernels/kernels.h"
#include "ops/elementwise.h"

namespace linnet {
namespace {

void infer(InferContext& ctx) {
    check_dtype(ctx, 0, set_of({DType::u8, DType::i8}));
    const Tensor* table = ctx.attributes.t("table");
    require(table && table->count() == 256 && (table->dtype == DType::u8 || table->dtype == DType::i8),
            "the table must be 256 bytes");
    const Fact& x = ctx.input(0);
    ctx.output(0, x.ranked ? Fact::of(table->dtype, x.shape) : Fact::unranked(table->dtype));
}

void run(RunContext& ctx) {
    const auto* table = ctx.attributes.t("table")->as<uint8_t>();
    const auto* x = ctx.input(0).as<uint8_t>();
    auto* y = ctx.output(0).as<uint8_t>();
    parallel_ranges(
        ctx.parallel(), ctx.input(0).count(), kCheapGrain,
        [&](int64_t begin, int64_t end) {
            kernels::kernels().map_bytes(static_cast<size_t>(end - begin), x + begin, table, y + begin);
        },
        64);
}

}  // namespace

std::span<const OpDef> byte_table_ops() {
    static const OpDef rows[] = {
        {.name = "ByteTable",
         .domain = "linnet",
         .infer = infer,
         .run = run,
         .flags = kElementwise | kInPlace,
         .min_inputs = 1,
         .max_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
