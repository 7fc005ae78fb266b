// Max and average pooling over tap offsets, and mixing of rows.
#pragma once

namespace linnet::kernels::LINNET_ISA {

template <bool is_max>
LINNET_INLINE void pool(const PoolF32& p, size_t begin, size_t end) {
    constexpr int block = 4;
    for (size_t pixel = begin; pixel < end; ++pixel) {
        float* y = p.y + (ptrdiff_t)pixel * p.y_stride;
        const int32_t* offsets = p.offsets + pixel;
        float inverse = 1;
        if constexpr (!is_max) {
            size_t count = 0;
            for (size_t t = 0; t < p.taps; ++t) {
                const int32_t o = offsets[t * p.offsets_ld];
                count += o >= 0 || (p.count_include_pad && o == tap_padding);
            }
            inverse = count ? (float)count : 1;
        }
        const f32 start = splat(is_max ? -__builtin_inff() : 0.0f), divisor = splat(inverse);
        const auto join = LINNET_LAMBDA_2(acc, x) {
            if constexpr (is_max) return max_or_nan(acc, x);
            else return acc + x;
        };
        const auto finish_one = LINNET_LAMBDA(acc) { return is_max ? acc : acc / divisor; };
        size_t c = 0;
        for (; c + block * lanes <= p.channels; c += block * lanes) {
            f32 acc[block];
            unroll<block>(LINNET_LAMBDA(i) { acc[i] = start; });
            for (size_t t = 0; t < p.taps; ++t) {
                const int32_t o = offsets[t * p.offsets_ld];
                if (o < 0) continue;
                const float* x = p.x + o + c;
                unroll<block>(LINNET_LAMBDA(i) { acc[i] = join(acc[i], load(x + i * lanes)); });
            }
            unroll<block>(LINNET_LAMBDA(i) { store(y + c + i * lanes, finish_one(acc[i])); });
        }
        for (; c < p.channels; c += lanes) {
            const size_t left = p.channels - c;
            f32 acc = start;
            for (size_t t = 0; t < p.taps; ++t) {
                const int32_t o = offsets[t * p.offsets_ld];
                if (o >= 0) acc = join(acc, load_some(p.x + o + c, left));
            }
            store_some(y + c, finish_one(acc), left);
        }
    }
}

static void max_pool_f32(const PoolF32& p, size_t begin, size_t end) noexcept { pool<true>(p, begin, end); }
static void avg_pool_f32(const PoolF32& p, size_t begin, size_t end) noexcept { pool<false>(p, begin, end); }

template <bool largest>
static __attribute__((noinline)) void blend(const BlendF32& b) noexcept {
    const f32 start = splat(largest ? -__builtin_inff() : 0.0f);
    const auto join = LINNET_LAMBDA_2(acc, product) { return max_or_nan(acc, product); };
    for (size_t p = 0; p < b.pixels; ++p) {
        float* y = b.y + (ptrdiff_t)p * b.y_stride;
        const int64_t* offsets = b.offsets + p * b.taps;
        const float* weights = b.weights + p * b.taps;
        const auto sum = [&](auto vectors, f32* acc, size_t c, size_t left) __attribute__((always_inline)) {
            constexpr int V = decltype(vectors)::value;
            unroll<V>(LINNET_LAMBDA(v) { acc[v] = b.accumulate ? load_some(y + c + v * lanes, left) : start; });
            for (size_t t = 0; t < b.taps; ++t) {
                if (offsets[t] < 0) continue;
                const float* x = b.x + offsets[t] + c;
                const f32 w = splat(weights[t]);
                unroll<V>(LINNET_LAMBDA(v) {
                    const f32 at = load_some(x + v * lanes, left);
                    if constexpr (largest) acc[v] = join(acc[v], at * w);
                    else acc[v] = fma(at, w, acc[v]);
                });
            }
        };
        f32 acc[4], last;
        if (b.channels < (size_t)lanes) {
            sum(Int<1>{}, &last, 0, b.channels);
            store_some(y, last, b.channels);
            continue;
        }
        // The last vector overlaps the one before, and is read before that is written: a load behind a store of a part
        // of a vector waits for it.
        const bool ragged = b.channels % lanes != 0;
        if (ragged) sum(Int<1>{}, &last, b.channels - lanes, (size_t)lanes);
        size_t c = 0;
        for (; c + 4 * lanes <= b.channels; c += 4 * lanes) {
            sum(Int<4>{}, acc, c, (size_t)lanes);
            unroll<4>(LINNET_LAMBDA(v) { store(y + c + v * lanes, acc[v]); });
        }
        for (; c + lanes <= b.channels; c += lanes) {
            sum(Int<1>{}, acc, c, (size_t)lanes);
            store(y + c, acc[0]);
        }
        if (ragged) store(y + b.channels - lanes, last);
    }
}

static void blend_f32(const BlendF32& b) noexcept {
    if (b.largest) blend<true>(b);
    else blend<false>(b);
}

}  // namespace linnet::kernels::LINNET_ISA
