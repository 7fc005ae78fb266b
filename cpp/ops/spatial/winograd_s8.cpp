// Blocks of tiles: each thread takes some, or all of them and some of the filters.
#include "ops/spatial/winograd_s8.h"

#include <algorithm>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kBlockBytes = 512 << 10;  // of a block's matrices: they stay in the second-level cache

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t aligned(int64_t bytes) { return up(bytes, 64) * 64; }

}  // namespace

bool winograd_s8_pays(const kernels::Window& w, int64_t images, int64_t k, int64_t n) {
    if (!kernels::kernels().winograd_s8_pays || w.in[0] != 1 || w.out[0] != 1 || w.kernel[0] != 1) return false;
    for (size_t axis : {1, 2})
        if (w.kernel[axis] != 3 || w.stride[axis] != 1 || w.dilation[axis] != 1) return false;
    const auto pixels = images * static_cast<int64_t>(w.out[1] * w.out[2]);
    return k >= 32 && n >= 32 && k <= static_cast<int64_t>(kernels::WinogradS8::max_k) && pixels >= 36 &&
           pixels <= INT32_MAX / 2;
}

WinogradS8Plan plan_winograd_s8(const kernels::Window& window, int64_t images, int64_t k, int64_t n, int threads) {
    const auto& table = kernels::kernels();
    WinogradS8Plan plan;
    plan.m = 2;
    plan.k = k;
    plan.n = n;
    plan.window = window;
    plan.tiles_h = up(static_cast<int64_t>(window.out[1]), 2);
    plan.tiles_w = up(static_cast<int64_t>(window.out[2]), 2);
    plan.tiles = images * plan.tiles_h * plan.tiles_w;
    const auto rows = static_cast<int64_t>(table.winograd_s8_rows);
    const auto panels = up(n, static_cast<int64_t>(table.winograd_s8_cols));
    const auto each = static_cast<int64_t>(table.winograd_s8_scratch(64, static_cast<size_t>(k))) / 64;
    const int64_t target = std::clamp<int64_t>(kBlockBytes / each / rows * rows, rows, 96 / rows * rows);
    const int64_t blocks = up(plan.tiles, target);
    if (blocks >= 2 * threads || panels == 1) plan.parts = std::min<int64_t>(threads, blocks);
    else plan.splits = std::min<int64_t>(threads, panels);
    const int64_t share = up(plan.tiles, plan.parts);
    plan.block = std::min(plan.tiles, up(up(share, up(share, target)), rows) * rows);
    const auto work =
        static_cast<int64_t>(table.winograd_s8_scratch(static_cast<size_t>(plan.block), static_cast<size_t>(k)));
    plan.slot = aligned(aligned(work) + plan.block * (16 * static_cast<int64_t>(sizeof(void*)) + 16));
    return plan;
}

void run_winograd_s8(const WinogradS8Plan& plan, const kernels::WinogradS8& shared, const uint8_t* x,
                     const uint8_t* zero, const Parallel& parallel, std::byte* scratch) {
    const auto& table = kernels::kernels();
    const int64_t blocks = up(plan.tiles, plan.block);
    const int64_t panels = up(plan.n, static_cast<int64_t>(table.winograd_s8_cols));
    const int64_t panel_step = up(panels, plan.splits);
    const auto work = aligned(
        static_cast<int64_t>(table.winograd_s8_scratch(static_cast<size_t>(plan.block), static_cast<size_t>(plan.k))));
    parallel_for(parallel, plan.parts * plan.splits, [&](int64_t task) {
        const int64_t split = task % plan.splits, part = task / plan.splits;
        const int64_t panel_begin = split * panel_step, panel_end = std::min(panels, panel_begin + panel_step);
        if (panel_begin >= panel_end) return;
        std::byte* slot = scratch + task * plan.slot;
        auto* pixels = reinterpret_cast<const uint8_t**>(slot + work);
        auto* rows = reinterpret_cast<int32_t*>(pixels + plan.block * 16);
        kernels::WinogradS8 call = shared;
        call.k = static_cast<size_t>(plan.k);
        call.n = static_cast<size_t>(plan.n);
        call.scratch = slot;
        call.pixels = reinterpret_cast<const void* const*>(pixels);
        call.rows = rows;
        call.ldy = plan.n;
        for (int64_t index = blocks * part / plan.parts; index < blocks * (part + 1) / plan.parts; ++index) {
            const int64_t begin = index * plan.block, count = std::min(plan.block, plan.tiles - begin);
            for (int64_t i = 0; i < count; ++i) find_tile(plan, x, zero, begin + i, pixels + i * 16, rows + i * 4);
            call.tiles = static_cast<size_t>(count);
            table.winograd_s8(call, static_cast<size_t>(panel_begin), static_cast<size_t>(panel_end));
        }
    });
}

}  // namespace linnet
