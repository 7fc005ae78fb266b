// The internal MatMulBits: float32 times a constant matrix of 2, 4 or 8 bit integers with a scale (and a zero point)
// per column and block of k, or of 4 bit codes of the values of one book, which stays as narrow as it is.
//
// Inputs a [..., K]; b; scales; zero points or none; operands of the epilogue. Attributes K, N, bits, block_size (K and
// more: one block), epilogue. b is MatMulNBits' uint8 [N, blocks, bytes] with its scales and zero points (rank 3), or
// what DequantizeLinear takes: a matrix of (u)int4 or (u)int8 with k along `k_axis`, scales one per block and column,
// or per column, or one. With the attribute book, b and the scales are what Codebook takes, with its attribute pairs.
#include <algorithm>

#include "ops/epilogue.h"
#include "ops/shared/codebook.h"
#include "ops/shared/product.h"

namespace linnet {
namespace {

size_t z(int64_t value) { return static_cast<size_t>(value); }

// How the integers and their parameters lie in the constants.
struct Source {
    int64_t k, n, bits, block, blocks, k_axis, row_bytes, pairs;
    bool packed;  // as in MatMulNBits
    bool book;
    int centre;  // is taken off integers and zero points: they become signed
    DType dtype;

    Source(const Attributes& attributes, const Fact& b)
        : k(attributes.i("K", 0)),
          n(attributes.i("N", 0)),
          bits(attributes.i("bits", 4)),
          block(std::min(k, attributes.i("block_size", 0))),
          k_axis(attributes.i("k_axis", 0)),
          pairs(attributes.i("pairs", kNoPairs)),
          packed(b.rank() == 3),
          book(attributes.i("book", 0) != 0),
          dtype(b.dtype) {
        require(k > 0 && n > 0 && block > 0 && (bits == 2 || bits == 4 || bits == 8), "K ", k, ", N ", n, ", bits ",
                bits, ", block_size ", block);
        require(block % 8 == 0 || block == k, "block_size ", block, " is no multiple of 8");
        blocks = (k + block - 1) / block;
        row_bytes = checked_mul(blocks, attributes.i("block_size", 0)) * bits / 8;
        centre = packed || dtype == DType::u4 || dtype == DType::u8 ? 1 << (bits - 1) : 0;
    }
    int64_t kernel_bits() const { return bits == 8 ? 8 : 4; }

    // Field i of row `row` of fields packed into bytes, each row from a new byte on.
    int field(const uint8_t* bytes, int64_t bytes_a_row, int64_t row, int64_t i) const {
        const int64_t bit = i * bits;
        return bytes[row * bytes_a_row + bit / 8] >> (bit % 8) & ((1 << bits) - 1);
    }
    // Columns [begin, end) of b, signed, as [column][k].
    void columns(const Tensor& b, int64_t begin, int64_t end, int8_t* to) const {
        const auto* bytes = b.as<uint8_t>();
        for (int64_t column = begin; column < end; ++column, to += k) {
            if (packed && bits == 4) {
                const uint8_t* row = bytes + column * row_bytes;
                for (int64_t i = 0; i < k; ++i) to[i] = static_cast<int8_t>((row[i / 2] >> (i % 2 * 4) & 15) - centre);
            } else if (packed) {
                for (int64_t i = 0; i < k; ++i)
                    to[i] = static_cast<int8_t>(field(bytes, row_bytes, column, i) - centre);
            } else {  // a byte each, sign-extended where there is a sign
                const uint8_t* first = bytes + (k_axis == 0 ? column : column * k);
                const int64_t step = k_axis == 0 ? n : 1;
                for (int64_t i = 0; i < k; ++i) to[i] = static_cast<int8_t>(first[i * step] - centre);
            }
        }
    }
    // The same of codes. A matrix of k by columns, or the other way round, whose first or second axis may be halved.
    void codes(const Tensor& b, const BookValues& values, int64_t begin, int64_t end, int8_t* to) const {
        const int64_t rows_of_b = b.shape[1], step = k_axis == 0 ? rows_of_b : 1;
        const int64_t half = pairs == kNoPairs ? 0 : b.shape[z(pairs)];
        uint8_t most = 0;
        for (int64_t column = begin; column < end; ++column, to += k) {
            const bool upper = pairs == 1 - k_axis && column >= half;
            const int64_t at = upper ? column - half : column;
            const uint8_t* first = b.as<uint8_t>() + (k_axis == 0 ? at : at * rows_of_b);
            for (int64_t i = 0; i < k; ++i) {
                const bool high = upper || (pairs == k_axis && i >= half);
                const uint8_t byte = first[(pairs == k_axis && high ? i - half : i) * step];
                const auto code = static_cast<uint8_t>(pairs == kNoPairs ? byte : high ? byte >> 4 : byte & 15);
                most = std::max(most, code);
                to[i] = static_cast<int8_t>(code - kNibbleCodes / 2);
            }
        }
        values.check(most);
    }
    // Where the scale or zero point of a block and column is among `count`.
    int64_t parameter(int64_t count, int64_t b, int64_t column) const {
        if (count == 1) return 0;
        if (count == n && blocks == 1) return column;
        return packed || k_axis == 1 ? column * blocks + b : b * n + column;
    }
    float zero_point(const Tensor* zeros, int64_t b, int64_t column) const {
        if (!zeros) return packed ? 0.0f : static_cast<float>(-centre);
        if (packed && zeros->dtype == DType::u8) {
            return static_cast<float>(field(zeros->as<uint8_t>(), (blocks * bits + 7) / 8, column, b) - centre);
        }
        return static_cast<float>(double_at(*zeros, parameter(zeros->count(), b, column)) - centre);
    }
};

// A value for each block and column, in panels.
template <class Value>
std::shared_ptr<const Tensor> pack_parameters(const Source& source, const Value& value) {
    const auto& kernels = kernels::kernels();
    std::vector<float> rows(z(checked_mul(source.blocks, source.n)));
    for (int64_t b = 0; b < source.blocks; ++b)
        for (int64_t column = 0; column < source.n; ++column) rows[z(b * source.n + column)] = value(b, column);
    const kernels::PackB how{1, z(source.blocks), z(source.n), 0, source.n, 1};
    const size_t size = kernels.pack_b_f32_size(1, how.k, how.n);
    auto packed = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {static_cast<int64_t>(size)}));
    kernels.pack_b_f32(how, rows.data(), packed->as<float>(), 0, (how.n + kernels.gemm_cols - 1) / kernels.gemm_cols);
    return packed;
}

struct State {
    int64_t m = 0, k = 0, n = 0, panels = 0, group = 1;  // group: panels that are unpacked together
    int64_t sums = 0;                                    // floats of scratch for the sums of a's blocks
    kernels::GemmBits gemm;                              // all but a, sums, c and epilogue
    std::shared_ptr<const Tensor> b, scale, zero;
    std::shared_ptr<const BookValues> book;
    ProductF32 floats;  // by a book, of many rows
    EpilogueProgram epilogue;
};

// Up to so many rows read the weights as they are.
constexpr int64_t kFewRows = 4;
constexpr int64_t kUnpackedFloats = 64 * 1024;

void infer(InferContext& ctx) {
    const Fact& a = ctx.input(0);
    const Source source(ctx.attributes, ctx.input(1));
    require(a.dtype == DType::f32 || a.dtype == DType::undefined, "a is ", dtype_name(a.dtype));
    ctx.output(0, product_fact(a, {}, Fact::of(DType::f32, {source.k, source.n}), {}, {}, DType::f32, ctx.dims));
}

// The product by the values of the book: for many rows they are as fast, and codes would be widened in each run.
ProductF32 float_product(PrepareContext& ctx, const Source& source, const BookValues& book, int64_t m,
                         const std::string& kind) {
    const auto& kernels = kernels::kernels();
    ProductF32 product;
    product.plan = plan_product({m, source.k}, {}, {source.k, source.n}, {}, {});
    if (product.plan.empty()) return product;
    const auto k = z(source.k), width = kernels.gemm_cols;
    product.slot = {0};
    product.slot_b = {0};
    product.slots_at_once = 1;
    product.pack_size = static_cast<int64_t>(kernels.pack_b_f32_size(1, k, z(source.n)));
    product.packed = ctx.pack<Tensor>(1, "floats of " + kind, [&](const Tensor& b) {
        auto packed = std::make_shared<Tensor>(Tensor::allocate(DType::f32, {product.pack_size}));
        std::vector<int8_t> columns(k * width);
        std::vector<float> values(k * width);
        for (int64_t begin = 0; begin < source.n; begin += static_cast<int64_t>(width)) {
            const int64_t end = std::min(source.n, begin + static_cast<int64_t>(width));
            source.codes(b, book, begin, end, columns.data());
            for (size_t i = 0; i < columns.size(); ++i)
                values[i] = book[static_cast<uint8_t>(columns[i] + kNibbleCodes / 2)];
            kernels.pack_b_f32({1, k, z(end - begin), 0, 1, source.k}, values.data(),
                               packed->as<float>() + begin * source.k, 0, 1);
        }
        return packed;
    });
    return product;
}

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    const auto& kernels = kernels::kernels();
    const Source source(ctx.attributes, ctx.input(1));
    require(ctx.is_constant(1) && ctx.is_constant(2), "the weights of MatMulBits must be constants");
    auto state = std::make_shared<State>();
    const size_t width = kernels.gemm_cols;
    state->k = source.k;
    state->n = source.n;
    state->m = element_count(ctx.input(0).shape) / source.k;
    state->panels = (source.n + static_cast<int64_t>(width) - 1) / static_cast<int64_t>(width);
    state->epilogue = EpilogueProgram(ctx.attributes);
    state->epilogue.resolve(ctx, ctx.output(0).shape);
    require(!state->epilogue.per_batch(), "epilogue: MatMulBits takes full and vector operands only");

    const auto kind = cat("bits ", kernels.isa, ' ', source.k, ' ', source.n, ' ', source.bits, ' ', source.block, ' ',
                          source.k_axis, ' ', source.packed);
    const size_t bits = z(source.kernel_bits()), panel_bytes = kernels.pack_b_bits_size(bits, z(source.k), 1);
    if (source.book) {
        state->book = ctx.pack<BookValues>(2, "book",
                                           [](const Tensor& book) { return std::make_shared<const BookValues>(book); });
        if (state->m > static_cast<int64_t>(kernels.book_gain.rows)) {
            state->floats = float_product(ctx, source, *state->book, state->m, kind);
            return state;
        }
    }
    state->b = ctx.pack<Tensor>(1, kind, [&](const Tensor& b) {
        auto packed = std::make_shared<Tensor>(
            Tensor::allocate(DType::u8, {checked_mul(static_cast<int64_t>(panel_bytes), state->panels)}));
        std::vector<int8_t> columns(z(checked_mul(static_cast<int64_t>(width), source.k)));
        for (int64_t p = 0; p < state->panels; ++p) {
            const int64_t begin = p * static_cast<int64_t>(width);
            const int64_t end = std::min(source.n, begin + static_cast<int64_t>(width));
            if (source.book) source.codes(b, *state->book, begin, end, columns.data());
            else source.columns(b, begin, end, columns.data());
            const kernels::PackB how{1, z(source.k), z(end - begin), 0, 1, source.k};
            kernels.pack_b_bits(how, bits, columns.data(),
                                packed->as<uint8_t>() + p * static_cast<int64_t>(panel_bytes), 0, 1);
        }
        return packed;
    });
    state->scale = ctx.pack<Tensor>(2, "scale of " + kind, [&](const Tensor& scales) {
        return pack_parameters(source, [&](int64_t b, int64_t column) {
            return source.book ? 1.0f
                               : static_cast<float>(double_at(scales, source.parameter(scales.count(), b, column)));
        });
    });
    const auto pack_zeros = [&](const Tensor* zeros) {
        bool any = false;
        auto packed = pack_parameters(source, [&](int64_t b, int64_t column) {
            const float zero = source.zero_point(zeros, b, column);
            any |= zero != 0;
            return zero;
        });
        return any ? packed : std::make_shared<const Tensor>();
    };
    if (ctx.has_input(3))
        state->zero = ctx.pack<Tensor>(3, "zero of " + kind, [&](const Tensor& zeros) { return pack_zeros(&zeros); });
    else if (!source.packed && !source.book && source.centre)
        state->zero = ctx.pack<Tensor>(2, "no zero of " + kind, [&](const Tensor&) { return pack_zeros(nullptr); });

    kernels::GemmBits& gemm = state->gemm;
    gemm.m = z(state->m);
    gemm.n = z(source.n);
    gemm.k = z(source.k);
    gemm.bits = bits;
    gemm.block = z(source.block);
    gemm.lda = source.k;
    gemm.b = state->b->data;
    gemm.book = state->book ? state->book->data() : nullptr;
    gemm.scale = state->scale->as<float>();
    gemm.zero = state->zero ? state->zero->as<float>() : nullptr;
    gemm.ldc = source.n;
    const int64_t panel_floats = checked_mul(source.k, static_cast<int64_t>(width));
    if (state->m <= kFewRows) {
        if (gemm.zero || (bits == 4 && !gemm.book)) state->sums = checked_mul(state->m, source.blocks);
        ctx.scratch(z(checked_mul(state->sums, 4)));
    } else {
        state->group = std::clamp<int64_t>(kUnpackedFloats / panel_floats, 1, state->panels);
        ctx.scratch(z(checked_mul(checked_mul(panel_floats, state->group), 4 * ctx.threads)));
    }
    return state;
}

// All rows of a, group by group of panels that are unpacked into one buffer a thread.
void run_unpacked(RunContext& ctx, const State& state, const float* a, float* c) {
    const auto& kernels = kernels::kernels();
    const auto width = static_cast<int64_t>(kernels.gemm_cols);
    const int64_t groups = (state.panels + state.group - 1) / state.group;
    const int64_t tasks = std::min<int64_t>(groups, std::max(1, ctx.parallel().threads));
    parallel_for(ctx.parallel(), tasks, [&](int64_t task) {
        float* const unpacked = reinterpret_cast<float*>(ctx.scratch()) + task * state.group * width * state.k;
        for (int64_t g = groups * task / tasks; g < groups * (task + 1) / tasks; ++g) {
            const int64_t begin = g * state.group, end = std::min(state.panels, begin + state.group);
            kernels.unpack_b_bits(state.gemm, z(begin), z(end), unpacked);
            const int64_t column = begin * width;
            const EpilogueSteps steps = state.epilogue.bind(ctx, nullptr, {column, state.n, column, 0});
            kernels::GemmF32 gemm;
            gemm.m = z(state.m);
            gemm.n = z(std::min(state.n - column, (end - begin) * width));
            gemm.k = z(state.k);
            gemm.a = a;
            gemm.lda = state.k;
            gemm.b = unpacked;
            gemm.c = c + column;
            gemm.ldc = state.n;
            gemm.epilogue = steps.view();
            kernels.gemm_f32(gemm, 0, gemm.m, 0, z(end - begin));
        }
    });
}

void run(RunContext& ctx) {
    const auto& kernels = kernels::kernels();
    const State& state = *ctx.state<State>();
    if (state.m == 0) return;
    const auto* const a = ctx.input(0).as<float>();
    auto* const c = ctx.output(0).as<float>();
    if (state.floats.packed)
        return run_product(state.floats, ctx, a, nullptr, c, state.epilogue, nullptr, ctx.scratch());
    if (state.m > kFewRows) return run_unpacked(ctx, state, a, c);
    kernels::GemmBits gemm = state.gemm;
    const EpilogueSteps steps = state.epilogue.bind(ctx, nullptr, {0, state.n, 0, 0});
    gemm.a = a;
    gemm.c = c;
    gemm.epilogue = steps.view();
    auto* sum = reinterpret_cast<float*>(ctx.scratch());
    gemm.sums = sum;
    if (state.sums)
        for (int64_t row = 0; row < state.m; ++row)
            for (size_t k = 0; k < gemm.k; k += gemm.block)
                kernels.reduce_f32(kernels::Reduce::sum, 1, std::min(gemm.block, gemm.k - k),
                                   a + row * state.k + static_cast<int64_t>(k), 0, sum++);
    const GemmSplit split = split_gemm(ctx.parallel().threads, state.m, state.n, state.k, 1, kFewRows,
                                       static_cast<int64_t>(kernels.gemm_cols));
    parallel_for(ctx.parallel(), split.panels, [&](int64_t part) {
        const int64_t begin = part * split.panel_step;
        kernels.gemm_bits(gemm, 0, gemm.m, z(begin), z(std::min(state.panels, begin + split.panel_step)));
    });
}

}  // namespace

std::span<const OpDef> matmul_bits_ops() {
    static const OpDef rows[] = {
        {.name = "MatMulBits",
         .domain = "linnet",
         .infer = infer,
         .run = run,
         .prepare = prepare,
         .flags = kEpilogue,
         .min_inputs = 3,
         .max_inputs = -1},
    };
    return rows;
}

}  // namespace linnet
