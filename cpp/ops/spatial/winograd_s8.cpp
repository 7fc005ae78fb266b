// Blocks of tiles: each thread takes some, or all of them and some of the filters.
#include "ops/spatial/winograd_s8.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kBlockBytes = 512 << 10;  // of a block's matrices: they stay in the second-level cache

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t aligned(int64_t bytes) { return up(bytes, 64) * 64; }

int64_t tiles_of(const kernels::Window& w, int64_t m) {
    return up(static_cast<int64_t>(w.out[1]), m) * up(static_cast<int64_t>(w.out[2]), m);
}

// Whether no filter's weights are more than F(4, 3) can stand.
bool light(const Tensor& weights, int64_t k, int64_t n) {
    const auto* w = weights.as<int8_t>();
    for (int64_t i = 0; i < n; ++i, w += k * 9) {
        int64_t sum = 0;
        for (int64_t j = 0; j < k * 9; ++j) sum += std::abs(static_cast<int>(w[j]));
        if (sum > kernels::WinogradS8::max_weights) return false;
    }
    return true;
}

}  // namespace

int64_t choose_winograd_s8(const kernels::Window& w, int64_t images, int64_t k, int64_t n, const Tensor& weights) {
    if (!kernels::kernels().winograd_s8_pays || w.in[0] != 1 || w.out[0] != 1 || w.kernel[0] != 1) return 0;
    for (size_t axis : {1, 2})
        if (w.kernel[axis] != 3 || w.stride[axis] != 1 || w.dilation[axis] != 1) return 0;
    // Below some 100 pixels the weights, 3.6 times as many bytes, take longer to come than the products to be made.
    const auto pixels = images * static_cast<int64_t>(w.out[1] * w.out[2]);
    if (k < 32 || n < 32 || pixels < 100 || pixels > INT32_MAX / 2) return 0;
    // Edges that tiles stand over count against the larger ones, and so do their weights, 2.25 times as many.
    const bool large = 36 * tiles_of(w, 4) * 7 < 16 * tiles_of(w, 2) * 5;
    if (large && light(weights, k, n)) return 4;
    return k <= static_cast<int64_t>(kernels::WinogradS8::max_k) ? 2 : 0;
}

WinogradS8Plan plan_winograd_s8(const kernels::Window& window, int64_t m, int64_t images, int64_t k, int64_t n,
                                int threads) {
    const auto& table = kernels::kernels();
    WinogradS8Plan plan;
    plan.m = m;
    plan.k = k;
    plan.n = n;
    plan.window = window;
    plan.tiles_h = up(static_cast<int64_t>(window.out[1]), m);
    plan.tiles_w = up(static_cast<int64_t>(window.out[2]), m);
    plan.tiles = images * plan.tiles_h * plan.tiles_w;
    const auto rows = static_cast<int64_t>(table.winograd_s8_rows);
    const auto panels = up(n, static_cast<int64_t>(table.winograd_s8_cols));
    const auto each =
        static_cast<int64_t>(table.winograd_s8_scratch(static_cast<size_t>(m), 64, static_cast<size_t>(k))) / 64;
    const int64_t target = std::clamp<int64_t>(kBlockBytes / each / rows * rows, rows, 96 / rows * rows);
    const int64_t blocks = up(plan.tiles, target);
    if (blocks >= 2 * threads || panels == 1) plan.parts = std::min<int64_t>(threads, blocks);
    else plan.splits = std::min<int64_t>(threads, panels);
    const int64_t share = up(plan.tiles, plan.parts);
    plan.block = std::min(plan.tiles, up(up(share, up(share, target)), rows) * rows);
    const auto work = static_cast<int64_t>(
        table.winograd_s8_scratch(static_cast<size_t>(m), static_cast<size_t>(plan.block), static_cast<size_t>(k)));
    plan.slot =
        aligned(aligned(work) + plan.block * ((m + 2) * (m + 2) * static_cast<int64_t>(sizeof(void*)) + m * m * 4));
    return plan;
}

void run_winograd_s8(const WinogradS8Plan& plan, const kernels::WinogradS8& shared, const uint8_t* x,
                     const uint8_t* zero, const Parallel& parallel, std::byte* scratch) {
    const auto& table = kernels::kernels();
    const int64_t blocks = up(plan.tiles, plan.block);
    const int64_t panels = up(plan.n, static_cast<int64_t>(table.winograd_s8_cols));
    const int64_t panel_step = up(panels, plan.splits), points = (plan.m + 2) * (plan.m + 2);
    const auto work = aligned(static_cast<int64_t>(table.winograd_s8_scratch(
        static_cast<size_t>(plan.m), static_cast<size_t>(plan.block), static_cast<size_t>(plan.k))));
    parallel_for(parallel, plan.parts * plan.splits, [&](int64_t task) {
        const int64_t split = task % plan.splits, part = task / plan.splits;
        const int64_t panel_begin = split * panel_step, panel_end = std::min(panels, panel_begin + panel_step);
        if (panel_begin >= panel_end) return;
        std::byte* slot = scratch + task * plan.slot;
        auto* pixels = reinterpret_cast<const uint8_t**>(slot + work);
        auto* rows = reinterpret_cast<int32_t*>(pixels + plan.block * points);
        kernels::WinogradS8 call = shared;
        call.m = static_cast<size_t>(plan.m);
        call.k = static_cast<size_t>(plan.k);
        call.n = static_cast<size_t>(plan.n);
        call.scratch = slot;
        call.pixels = reinterpret_cast<const void* const*>(pixels);
        call.rows = rows;
        call.ldy = plan.n;
        for (int64_t index = blocks * part / plan.parts; index < blocks * (part + 1) / plan.parts; ++index) {
            const int64_t begin = index * plan.block, count = std::min(plan.block, plan.tiles - begin);
            for (int64_t i = 0; i < count; ++i)
                find_tile(plan, x, zero, begin + i, pixels + i * points, rows + i * plan.m * plan.m);
            call.tiles = static_cast<size_t>(count);
            table.winograd_s8(call, static_cast<size_t>(panel_begin), static_cast<size_t>(panel_end));
        }
    });
}

}  // namespace linnet
