// Blocks of tiles: input transform, one GEMM for each of the (m + 2)^2 matrices, output transform with the epilogue.
#include "ops/spatial/winograd.h"

#include <algorithm>
#include <vector>

#include "base/give_way.h"
#include "kernels/kernels.h"

namespace linnet {
namespace {

constexpr int64_t kBlockBytes = 384 << 10;  // of a block's matrices: they stay in the second-level cache
// Matrices start this many floats past a multiple of their size, so that they do not all fall into one cache set.
constexpr int64_t kSkew = 16;

// Multiply-adds that take as long as fetching one weight from the third-level cache or memory.
constexpr double kFetch = 10;
// Multiply-adds that take as long as transforming one element of a tile, in or out.
constexpr double kTransform = 5;

int64_t up(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t aligned(int64_t bytes) { return up(bytes, 64) * 64; }

// out[i] = sum of G[i][j] g[j] over rows of `count` floats.
template <int64_t M>
[[gnu::optimize("O3")]] void filter_line(const float* const* g, float* const* out, int64_t count) {
    const float *a = g[0], *b = g[1], *c = g[2];
    if constexpr (M == 2) {
        float *o0 = out[0], *o1 = out[1], *o2 = out[2], *o3 = out[3];
#pragma GCC ivdep
        for (int64_t i = 0; i < count; ++i) {
            const float ends = a[i] + c[i];
            o0[i] = a[i], o1[i] = 0.5f * (ends + b[i]), o2[i] = 0.5f * (ends - b[i]), o3[i] = c[i];
        }
    } else {
        float *o0 = out[0], *o1 = out[1], *o2 = out[2], *o3 = out[3], *o4 = out[4], *o5 = out[5];
#pragma GCC ivdep
        for (int64_t i = 0; i < count; ++i) {
            const float ends = (a[i] + c[i]) / -6.0f, middle = b[i] / 6.0f;
            const float wide = (a[i] + 4.0f * c[i]) / 24.0f, half = b[i] / 12.0f;
            o0[i] = 0.25f * a[i], o1[i] = ends - middle, o2[i] = ends + middle;
            o3[i] = wide + half, o4[i] = wide - half, o5[i] = c[i];
        }
    }
}

// G g G^T of `count` filters: taps [9][count] to matrices [side * side][stride].
template <int64_t M>
void filter_transform(const float* taps, int64_t count, float* rows, float* out, int64_t stride) {
    constexpr int64_t A = M + 2;
    for (int64_t j = 0; j < 3; ++j) {  // rows: [A][3][count]
        const float* g[3] = {taps + j * count, taps + (3 + j) * count, taps + (6 + j) * count};
        float* o[A];
        for (int64_t i = 0; i < A; ++i) o[i] = rows + (i * 3 + j) * count;
        filter_line<M>(g, o, count);
    }
    for (int64_t i = 0; i < A; ++i) {
        const float* g[3] = {rows + i * 3 * count, rows + (i * 3 + 1) * count, rows + (i * 3 + 2) * count};
        float* o[A];
        for (int64_t j = 0; j < A; ++j) o[j] = out + (i * A + j) * stride;
        filter_line<M>(g, o, count);
    }
}

}  // namespace

WinogradChoice choose_winograd(const kernels::Window& w, int64_t images, int64_t k, int64_t n) {
    if (w.in[0] != 1 || w.out[0] != 1 || w.kernel[0] != 1) return {};
    for (size_t axis : {1, 2})
        if (w.kernel[axis] != 3 || w.stride[axis] != 1 || w.dilation[axis] != 1) return {};
    if (k < 16 || n < 16) return {};
    const auto h = static_cast<int64_t>(w.out[1]), width = static_cast<int64_t>(w.out[2]);
    if (images * h * width > INT32_MAX / 2) return {};
    const auto kd = static_cast<double>(k), nd = static_cast<double>(n);
    const auto direct = 9 * kd * nd * std::max(static_cast<double>(images * h * width), kFetch);
    WinogradChoice chosen;
    double best = 0.85;  // worth its rounding and its larger weights
    for (const int64_t m : {2, 4}) {
        const auto matrices = static_cast<double>((m + 2) * (m + 2));
        const auto tiles = static_cast<double>(images * up(h, m) * up(width, m));
        // Few rows leave part of a register tile's time unused.
        const double cost =
            matrices * (kd * nd * std::max(tiles + 4, kFetch) + kTransform * tiles * (kd + nd)) * (m == 4 ? 1.1 : 1.0);
        if (cost / direct < best) best = cost / direct, chosen = {m, best};
    }
    return chosen;
}

WinogradPlan plan_winograd(const kernels::Window& window, int64_t m, int64_t images, int64_t k, int64_t n, int threads,
                           bool per_batch) {
    const auto& table = kernels::kernels();
    WinogradPlan plan;
    plan.m = m;
    plan.k = k;
    plan.n = n;
    plan.window = window;
    plan.tiles_h = up(static_cast<int64_t>(window.out[1]), m);
    plan.tiles_w = up(static_cast<int64_t>(window.out[2]), m);
    plan.jobs = per_batch ? images : 1;
    plan.tiles = (per_batch ? 1 : images) * plan.tiles_h * plan.tiles_w;
    const auto rows = static_cast<int64_t>(table.gemm_rows);
    // A block's matrices should stay in the second-level cache; but every block reads all weights, and where those are
    // many that is what counts.
    const int64_t fits = kBlockBytes / (plan.matrices() * (k + n) * static_cast<int64_t>(sizeof(float)));
    const int64_t wanted = std::max(fits, k * n / (2 * (k + n)));
    const int64_t target = std::clamp<int64_t>(wanted / rows * rows, std::max<int64_t>(rows, 12), 48);
    // Tiles are split first. Where they are few, every thread takes all of them and its part of the weights.
    const int64_t blocks = up(plan.tiles, target) * plan.jobs;
    const auto panels = up(n, static_cast<int64_t>(table.gemm_cols));
    if (blocks >= 2 * threads || panels == 1) plan.parts = std::min<int64_t>(threads, blocks);
    else plan.splits = std::min<int64_t>(threads, panels);
    const int64_t share = up(plan.tiles, plan.jobs > 1 ? 1 : plan.parts);
    plan.block = std::min(plan.tiles, up(share, up(share, target)));
    plan.matrix = static_cast<int64_t>(table.pack_b_f32_size(1, static_cast<size_t>(k), static_cast<size_t>(n)));
    plan.v_stride = plan.block * k + kSkew;
    plan.t_stride = plan.block * n + kSkew;
    const int64_t matrices = plan.matrices() * (plan.v_stride + plan.t_stride) * static_cast<int64_t>(sizeof(float));
    plan.slot = aligned(
        checked_add(matrices, plan.block * (plan.matrices() * static_cast<int64_t>(sizeof(float*)) + m * m * 4)));
    return plan;
}

void pack_winograd(const WinogradPlan& plan, const float* w, float* out) {
    const auto& table = kernels::kernels();
    const auto columns = static_cast<int64_t>(table.gemm_cols);
    const int64_t stride = columns * plan.k;  // of a panel's matrices
    std::vector<float> taps(static_cast<size_t>(9 * plan.k)), rows(static_cast<size_t>(3 * plan.side() * plan.k)),
        matrices(static_cast<size_t>(plan.matrices() * stride));
    for (int64_t first = 0; first < plan.n; first += columns) {
        give_way();
        const int64_t count = std::min(columns, plan.n - first);
        for (int64_t c = 0; c < count; ++c) {
            table.transpose(4, static_cast<size_t>(plan.k), 9, w + (first + c) * plan.k * 9, 9, taps.data(), plan.k);
            const auto transform = plan.m == 2 ? filter_transform<2> : filter_transform<4>;
            transform(taps.data(), plan.k, rows.data(), matrices.data() + c * plan.k, stride);
        }
        const kernels::PackB layout{1, static_cast<size_t>(plan.k), static_cast<size_t>(count), 0, 1, plan.k};
        for (int64_t i = 0; i < plan.matrices(); ++i) {
            give_way();
            table.pack_b_f32(layout, matrices.data() + i * stride, out + i * plan.matrix + first * plan.k, 0, 1);
        }
    }
}

void run_winograd(const WinogradPlan& plan, const RunContext& ctx, const EpilogueProgram& program, const float* x,
                  const float* zero, const float* weights, const float* bias, float* y, const Parallel& parallel,
                  std::byte* scratch) {
    const auto& table = kernels::kernels();
    const int64_t blocks = up(plan.tiles, plan.block), all = blocks * plan.jobs;
    const auto pixels_in = static_cast<int64_t>(plan.window.in[1] * plan.window.in[2]);
    const auto pixels_out = static_cast<int64_t>(plan.window.out[1] * plan.window.out[2]);
    const auto columns = static_cast<int64_t>(table.gemm_cols);
    const int64_t panels = up(plan.n, columns), panel_step = up(panels, plan.splits);
    parallel_for(parallel, plan.parts * plan.splits, [&](int64_t task) {
        const int64_t split = task % plan.splits, part = task / plan.splits;
        const int64_t panel_begin = split * panel_step, panel_end = std::min(panels, panel_begin + panel_step);
        if (panel_begin >= panel_end) return;
        std::byte* slot = scratch + task * plan.slot;
        auto* v = reinterpret_cast<float*>(slot);
        float* t = v + plan.matrices() * plan.v_stride;
        auto* pixels = reinterpret_cast<const float**>(t + plan.matrices() * plan.t_stride);
        auto* rows = reinterpret_cast<int32_t*>(pixels + plan.block * plan.matrices());
        for (int64_t index = all * part / plan.parts; index < all * (part + 1) / plan.parts; ++index) {
            const int64_t job = index / blocks, begin = index % blocks * plan.block;
            const int64_t count = std::min(plan.block, plan.tiles - begin);
            for (int64_t i = 0; i < count; ++i)
                find_tile(plan, x + job * pixels_in * plan.k, zero, begin + i, pixels + i * plan.matrices(),
                          rows + i * plan.m * plan.m);
            const int64_t offset = job * pixels_out * plan.n;
            const EpilogueSteps steps = program.bind(ctx, bias, {offset, plan.n, 0, job});
            kernels::WinogradF32 call;
            call.m = static_cast<size_t>(plan.m);
            call.tiles = static_cast<size_t>(count);
            call.k = static_cast<size_t>(plan.k);
            call.pixels = pixels;
            call.v = v;
            call.v_stride = plan.v_stride;
            call.t = t;
            call.t_stride = plan.t_stride;
            call.ldt = plan.n;
            call.rows = rows;
            call.y = y + offset;
            call.ldy = plan.n;
            call.epilogue = steps.view();
            table.winograd_in_f32(call);
            for (int64_t i = 0; i < plan.matrices(); ++i) {
                const kernels::GemmF32 product{call.tiles,
                                               static_cast<size_t>(plan.n),
                                               call.k,
                                               v + i * plan.v_stride,
                                               plan.k,
                                               weights + i * plan.matrix,
                                               t + i * plan.t_stride,
                                               plan.n,
                                               {}};
                table.gemm_f32(product, 0, call.tiles, static_cast<size_t>(panel_begin),
                               static_cast<size_t>(panel_end));
            }
            table.winograd_out_f32(call, static_cast<size_t>(panel_begin * columns),
                                   static_cast<size_t>(std::min(plan.n, panel_end * columns)));
        }
    });
}

}  // namespace linnet
