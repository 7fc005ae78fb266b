// RotaryEmbedding (ONNX 23; com.microsoft 1): rotates pairs of a head's first rotary_embedding_dim elements by the
// angle of the token's position. Inputs, ONNX: x, cos_cache, sin_cache, position_ids (optional; without it the caches
// are [batch, sequence, half]); com.microsoft: x, position_ids ([1]: of the first token; or [batch, sequence]),
// cos_cache, sin_cache. x is [batch, heads, sequence, head] or [batch, sequence, heads * head]. Attributes:
// interleaved, num_heads, rotary_embedding_dim (0: the whole head).
#include <algorithm>

#include "ops/shared/product.h"
#include "ops/shared/rotary.h"

namespace linnet {
namespace {

struct Inputs {
    int cos, sin, positions;
};
Inputs inputs_of(const Node& node) { return node.domain.empty() ? Inputs{1, 2, 3} : Inputs{2, 3, 1}; }

void infer(InferContext& ctx) {
    const Inputs in = inputs_of(ctx.node());
    const Fact& x = ctx.input(0);
    require(x.dtype == DType::undefined || is_float(x.dtype), "x is ", dtype_name(x.dtype), ", expected a float type");
    require(!x.ranked || x.rank() == 3 || x.rank() == 4, "x has rank ", x.rank(), ", expected 3 or 4");
    require(ctx.attributes.i("is_packed_batching", 0) == 0, "packed batches are not supported");
    for (int i : {in.cos, in.sin}) {
        const Fact& cache = ctx.input(i);
        require(cache.dtype == x.dtype, "a cache is ", dtype_name(cache.dtype), ", x is ", dtype_name(x.dtype));
        const int64_t rank = ctx.has_input(in.positions) ? 2 : 3;
        require(!cache.ranked || cache.rank() == rank, "a cache has rank ", cache.rank(), ", expected ", rank);
    }
    if (ctx.has_input(in.positions)) {
        const Fact& positions = ctx.input(in.positions);
        require(positions.dtype == DType::i64, "position_ids are ", dtype_name(positions.dtype), ", expected int64");
    }
    ctx.output(0, x.ranked ? Fact::of(x.dtype, x.shape) : Fact::unranked(x.dtype));
}

struct Sizes {
    int64_t batch, heads, sequence, head, rotary, half;
    int64_t batch_stride, head_stride, row_stride;
};

Sizes sizes_of(const RunContext& ctx) {
    const Inputs in = inputs_of(ctx.node);
    const Shape &x = ctx.input(0).shape, &cos = ctx.input(in.cos).shape, &sin = ctx.input(in.sin).shape;
    Sizes s{};
    int64_t heads = ctx.attributes.i("num_heads", 0);
    const int64_t rotary = ctx.attributes.i("rotary_embedding_dim", 0);
    s.batch = x[0];
    if (x.size() == 4) {
        s.heads = x[1];
        s.sequence = x[2];
        s.head = x[3];
        s.row_stride = s.head;
        s.head_stride = s.sequence * s.head;
    } else {
        // com.microsoft may leave num_heads out: then the caches tell the head.
        if (heads == 0 && !ctx.node.domain.empty() && rotary == 0 && cos.back() > 0) heads = x[2] / (2 * cos.back());
        if (heads <= 0 || x[2] % heads != 0)
            fail(ErrorKind::invalid_argument, "a width of ", x[2], " does not split into ", heads, " heads");
        s.heads = heads;
        s.sequence = x[1];
        s.head = x[2] / heads;
        s.row_stride = x[2];
        s.head_stride = s.head;
    }
    s.batch_stride = s.heads * s.sequence * s.head;
    s.rotary = rotary == 0 ? s.head : rotary;
    s.half = s.rotary / 2;
    if (s.rotary < 0 || s.rotary > s.head || s.rotary % 2 != 0)
        fail(ErrorKind::invalid_argument, "rotary_embedding_dim is ", s.rotary, " for heads of ", s.head);
    if (!(cos == sin) || cos.back() != s.half)
        fail(ErrorKind::invalid_argument, "caches of shapes ", shape_text(cos), " and ", shape_text(sin), ", expected ",
             s.half, " columns");
    if (!ctx.has_input(in.positions) && (cos[0] != s.batch || cos[1] != s.sequence))
        fail(ErrorKind::invalid_argument, "caches of shape ", shape_text(cos), " for ", s.batch, " x ", s.sequence,
             " tokens");
    return s;
}

// The cache row of each token.
std::vector<int64_t> rows_of(const RunContext& ctx, const Sizes& s) {
    const Inputs in = inputs_of(ctx.node);
    std::vector<int64_t> rows(static_cast<size_t>(checked_mul(s.batch, s.sequence)));
    if (!ctx.has_input(in.positions)) {
        for (size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<int64_t>(i);
        return rows;
    }
    const Tensor& positions = ctx.input(in.positions);
    const int64_t count = positions.count(), limit = ctx.input(in.cos).shape[0];
    const bool first_only = !ctx.node.domain.empty() && count == 1;
    if (!first_only && count != static_cast<int64_t>(rows.size()))
        fail(ErrorKind::invalid_argument, count, " position_ids for ", rows.size(), " tokens");
    for (size_t i = 0; i < rows.size(); ++i) {
        int64_t row = positions.as<int64_t>()[first_only ? 0 : i];
        if (row < -limit || row >= limit)
            fail(ErrorKind::invalid_argument, "position ", row, " of a cache with ", limit, " rows");
        if (first_only) row += static_cast<int64_t>(i) % s.sequence;
        if (row < 0) row += limit;
        if (row >= limit) fail(ErrorKind::invalid_argument, "position ", row, " of a cache with ", limit, " rows");
        rows[i] = row;
    }
    return rows;
}

template <class T>
void rotate(const RunContext& ctx, const Sizes& s, const T* x, const T* cos, const T* sin, T* y) {
    const std::vector<int64_t> rows = rows_of(ctx, s);
    const bool interleaved = ctx.attributes.i("interleaved", 0) != 0;
    const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, s.heads * s.head));
    parallel_ranges(ctx.parallel(), static_cast<int64_t>(rows.size()), grain, [&](int64_t begin, int64_t end) {
        for (int64_t token = begin; token < end; ++token) {
            const T* c = cos + rows[static_cast<size_t>(token)] * s.half;
            const T* d = sin + rows[static_cast<size_t>(token)] * s.half;
            const int64_t base = token / s.sequence * s.batch_stride + token % s.sequence * s.row_stride;
            for (int64_t h = 0; h < s.heads; ++h) {
                const T* from = x + base + h * s.head_stride;
                T* to = y + base + h * s.head_stride;
                rotate_pairs(from, s.half, interleaved, c, d, to);
                std::copy(from + s.rotary, from + s.head, to + s.rotary);
            }
        }
    });
}

void run(RunContext& ctx) {
    const Inputs in = inputs_of(ctx.node);
    const Sizes s = sizes_of(ctx);
    const Tensor &x = ctx.input(0), &cos = ctx.input(in.cos), &sin = ctx.input(in.sin);
    Tensor& y = ctx.output(0);
    if (x.count() == 0) return;
    if (x.dtype == DType::f64)
        return rotate(ctx, s, x.as<double>(), cos.as<double>(), sin.as<double>(), y.as<double>());
    if (x.dtype == DType::f32) return rotate(ctx, s, x.as<float>(), cos.as<float>(), sin.as<float>(), y.as<float>());
    const Tensor x32 = convert_float(x, DType::f32), cos32 = convert_float(cos, DType::f32),
                 sin32 = convert_float(sin, DType::f32);
    Tensor y32 = Tensor::allocate(DType::f32, y.shape);
    rotate(ctx, s, x32.as<float>(), cos32.as<float>(), sin32.as<float>(), y32.as<float>());
    copy_elements(convert_float(y32, y.dtype), y);
}

}  // namespace

std::span<const OpDef> rotary_embedding_ops() {
    static const OpDef rows[] = {
        {.name = "RotaryEmbedding", .since = 23, .infer = infer, .run = run, .min_inputs = 3, .max_inputs = 4},
        {.name = "RotaryEmbedding",
         .domain = "com.microsoft",
         .infer = infer,
         .run = run,
         .min_inputs = 4,
         .max_inputs = 4},
    };
    return rows;
}

}  // namespace linnet
