// Matrix products on strides: shapes, loops, the choice of algorithm and the split over threads.
#include "ops/shared/product.h"

#include <algorithm>
#include <map>
#include <type_traits>

#include "base/give_way.h"
#include "base/half.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

// Packed matrices held in scratch at once stay below this, or one matrix.
constexpr int64_t kScratchBytes = int64_t{24} << 20;

Shape permuted(const Shape& shape, const Shape& perm) {
    if (perm.empty()) return shape;
    require(perm.size() == shape.size(), "a permutation of ", perm.size(), " axes for rank ", shape.size());
    Shape out;
    uint64_t seen = 0;
    for (int64_t axis : perm) {
        require(axis >= 0 && axis < static_cast<int64_t>(shape.size()) && axis < 64 && !(seen >> axis & 1),
                "not a permutation of the axes");
        seen |= uint64_t{1} << axis;
        out.push_back(shape[static_cast<size_t>(axis)]);
    }
    return out;
}

// Shape and strides with at least two axes: vectors get the axis that numpy adds.
struct Matrices {
    Shape shape, strides;
    size_t batch_rank() const { return shape.size() - 2; }
};

Matrices matrices(const Shape& shape, const Shape& perm, bool left) {
    Matrices out{permuted(shape, perm), permuted(strides_of(shape), perm)};
    if (shape.size() == 1) {
        const int64_t* place = left ? out.shape.begin() : out.shape.end();
        const int64_t* stride_place = left ? out.strides.begin() : out.strides.end();
        out.shape.insert(place, 1);
        out.strides.insert(stride_place, 0);
    }
    return out;
}

}  // namespace

Fact product_fact(const Fact& a, const Shape& perm_a, const Fact& b, const Shape& perm_b, const Shape& perm_c,
                  DType dtype, DimTable& dims) {
    if (!a.ranked || !b.ranked) return Fact::unranked(dtype);
    require(a.rank() > 0 && b.rank() > 0, "a product of a scalar");
    const Shape sa = permuted(a.shape, perm_a), sb = permuted(b.shape, perm_b);
    const size_t ra = sa.size(), rb = sb.size();
    const int64_t ka = sa.back(), kb = rb == 1 ? sb[0] : sb[rb - 2];
    if (is_number(ka) && is_number(kb) && ka != kb)
        fail(ErrorKind::invalid_argument, "a of shape ", dims.text(sa), " times b of shape ", dims.text(sb), ": ", ka,
             " columns against ", kb, " rows");
    const size_t batch_a = ra > 2 ? ra - 2 : 0, batch_b = rb > 2 ? rb - 2 : 0, batch = std::max(batch_a, batch_b);
    Shape out;
    for (size_t i = 0; i < batch; ++i) {
        const int64_t da = i + batch_a < batch ? 1 : sa[i + batch_a - batch];
        const int64_t db = i + batch_b < batch ? 1 : sb[i + batch_b - batch];
        out.push_back(dims.broadcast(da, db));
    }
    if (ra > 1) out.push_back(sa[ra - 2]);
    if (rb > 1) out.push_back(sb[rb - 1]);
    if (!perm_c.empty()) {
        require(ra > 1 && rb > 1 && perm_c.back() == static_cast<int64_t>(out.size()) - 1,
                "the product's permutation must keep the last axis");
        out = permuted(out, perm_c);
    }
    return Fact::of(dtype, out);
}

ProductPlan plan_product(const Shape& a, const Shape& perm_a, const Shape& b, const Shape& perm_b,
                         const Shape& perm_c) {
    const Matrices ma = matrices(a, perm_a, true), mb = matrices(b, perm_b, false);
    const size_t batch = std::max(ma.batch_rank(), mb.batch_rank());
    ProductPlan plan;
    plan.m = ma.shape[ma.shape.size() - 2];
    plan.k = ma.shape.back();
    plan.n = mb.shape.back();
    plan.a_row = ma.strides[ma.strides.size() - 2];
    plan.a_col = ma.strides.back();
    plan.b_row = mb.strides[mb.strides.size() - 2];
    plan.b_col = mb.strides.back();

    // Per batch axis: size and the three strides (0 where an operand is broadcast).
    struct Axis {
        int64_t size, a, b, c;
    };
    std::vector<Axis> axes;
    Shape logical;
    for (size_t i = 0; i < batch; ++i) {
        Axis axis{1, 0, 0, 0};
        if (i + ma.batch_rank() >= batch) {
            const size_t j = i + ma.batch_rank() - batch;
            axis.size = ma.shape[j];
            axis.a = ma.shape[j] == 1 ? 0 : ma.strides[j];
        }
        if (i + mb.batch_rank() >= batch) {
            const size_t j = i + mb.batch_rank() - batch;
            if (axis.size == 1) axis.size = mb.shape[j];
            axis.b = mb.shape[j] == 1 ? 0 : mb.strides[j];
        }
        axes.push_back(axis);
        logical.push_back(axis.size);
    }
    logical.push_back(plan.m);
    logical.push_back(plan.n);
    const Shape stored = permuted(logical, perm_c);
    const Shape stored_strides = strides_of(stored);
    Shape c_strides(logical.size());
    for (size_t i = 0; i < logical.size(); ++i)
        c_strides[perm_c.empty() ? i : static_cast<size_t>(perm_c[i])] = stored_strides[i];
    for (size_t i = 0; i < batch; ++i) axes[i].c = c_strides[i];
    plan.c_row = c_strides[batch];

    axes.erase(std::remove_if(axes.begin(), axes.end(), [](const Axis& axis) { return axis.size == 1; }), axes.end());
    // The innermost batch axes that share b are more rows.
    while (!axes.empty() && axes.back().b == 0) {
        const Axis& axis = axes.back();
        if (plan.m == 1) {
            plan.a_row = axis.a;
            plan.c_row = axis.c;
        } else if (axis.a != plan.m * plan.a_row || axis.c != plan.m * plan.c_row) {
            break;
        }
        plan.m *= axis.size;
        axes.pop_back();
    }

    int64_t count = 1;
    for (const Axis& axis : axes) count = checked_mul(count, axis.size);
    if (plan.m == 0 || plan.n == 0) count = 0;
    plan.a.resize(static_cast<size_t>(count));
    plan.b.resize(static_cast<size_t>(count));
    plan.c.resize(static_cast<size_t>(count));
    int64_t filled = 1;  // offsets of the axes inside the current one, repeated outwards
    for (size_t i = axes.size(); i-- > 0 && count > 0;) {
        for (int64_t j = 1; j < axes[i].size; ++j)
            for (int64_t f = 0; f < filled; ++f) {
                const size_t to = static_cast<size_t>(j * filled + f), from = static_cast<size_t>(f);
                plan.a[to] = plan.a[from] + j * axes[i].a;
                plan.b[to] = plan.b[from] + j * axes[i].b;
                plan.c[to] = plan.c[from] + j * axes[i].c;
            }
        filled *= axes[i].size;
    }
    return plan;
}

GemmSplit split_gemm(int threads, int64_t m, int64_t n, int64_t k, int64_t copies, int64_t tile_rows, int64_t tile_cols,
                     int64_t most_rows) {
    const int64_t panels = std::max<int64_t>(1, (n + tile_cols - 1) / tile_cols);
    const auto parts_of = [](int64_t items, int64_t step) { return std::max<int64_t>(1, (items + step - 1) / step); };
    const double one = static_cast<double>(m + 8) * static_cast<double>(n) * static_cast<double>(k);
    // Runs are stopped between tasks only: none takes much longer than 0.1 s.
    const int64_t stops = std::min(parts_of(m, tile_rows), static_cast<int64_t>(std::min(one / 4e9, 4096.0)));
    const int64_t fewest = std::max<int64_t>(stops, most_rows > 0 ? parts_of(m, most_rows) : 1);
    // About 3 us of work a task: a short product streams b and is slower per multiplication.
    const double work = one * static_cast<double>(copies);
    const auto tasks = static_cast<int64_t>(threads > 1 ? std::min(work / 150e3, threads * 4.0) : 1.0);
    const int64_t each = std::max<int64_t>(1, (tasks + copies - 1) / std::max<int64_t>(1, copies));
    const int64_t most_parts =
        std::min(parts_of(m, tile_rows), std::max(each, threads > 1 && fewest > 1 ? fewest + threads - 1 : 0));

    // The split whose busiest thread has least to do; of equals the finest, which evens out threads that come late.
    GemmSplit best;
    double least = 0;
    for (int64_t rows = fewest; rows <= std::max(fewest, most_parts); ++rows)
        for (int64_t columns = 1; columns <= std::clamp<int64_t>(each / rows, 1, panels); ++columns) {
            GemmSplit split;
            split.row_step = std::max<int64_t>(1, parts_of(m, rows));
            split.rows = parts_of(m, split.row_step);
            split.panel_step = parts_of(panels, columns);
            split.panels = parts_of(panels, split.panel_step);
            // Each tile costs a bit, and each part of the rows reads all its panels.
            const auto height = static_cast<double>(std::min(m, split.row_step));
            const double tiles = static_cast<double>(parts_of(split.row_step, tile_rows));
            const double cost = static_cast<double>(parts_of(copies * split.tasks(), std::max(threads, 1))) *
                                (height + 1.5 * tiles + 2) *
                                static_cast<double>(std::min(n, split.panel_step * tile_cols));
            if (least > 0 && cost > least) continue;
            best = split;
            least = cost;
        }
    return best;
}

ProductF32 prepare_product(PrepareContext& ctx, ProductPlan plan, int b) {
    ProductF32 product;
    if (plan.empty()) {
        product.plan = std::move(plan);
        return product;
    }
    const auto& kernels = kernels::kernels();
    std::map<int64_t, int32_t> slots;
    for (int64_t offset : plan.b) slots.try_emplace(offset, 0);
    for (auto& [offset, slot] : slots) {
        slot = static_cast<int32_t>(product.slot_b.size());
        product.slot_b.push_back(offset);
    }
    for (int64_t offset : plan.b) product.slot.push_back(slots[offset]);
    // In the order of the slots, so that a group of slots is a range of batches.
    if (!std::is_sorted(product.slot.begin(), product.slot.end())) {
        std::vector<size_t> order(plan.batches());
        for (size_t i = 0; i < order.size(); ++i) order[i] = i;
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t x, size_t y) { return product.slot[x] < product.slot[y]; });
        auto reorder = [&](auto& items) {
            auto copy = items;
            for (size_t i = 0; i < order.size(); ++i) copy[i] = items[order[i]];
            items = std::move(copy);
        };
        reorder(plan.a);
        reorder(plan.b);
        reorder(plan.c);
        reorder(product.slot);
    }
    const int64_t slot_count = static_cast<int64_t>(product.slot_b.size());
    product.copy_a = plan.a_col != 1 && plan.k > 1 && plan.m > 0;
    // Packing b costs as much as a product of a few rows.
    const bool constant = b >= 0 && ctx.is_constant(b);
    product.dot = plan.k > 0 && plan.b_row == 1 && (plan.n == 1 || (!constant && plan.m <= 2));
    if (plan.n == 1 && plan.k == 1) product.dot = false;
    const size_t k = static_cast<size_t>(plan.k), n = static_cast<size_t>(plan.n);
    product.pack_size = product.dot ? 0 : static_cast<int64_t>(kernels.pack_b_f32_size(1, k, n) + 15) / 16 * 16;
    const kernels::PackB how{1, k, n, 0, plan.b_row, plan.b_col};
    if (constant && !product.dot && slot_count == 1) {
        if (const SparseChoice choice = choose_sparse(ctx, b, how, plan.m)) {
            product.sparse = plan_sparse(ctx, b, how, choice, plan.m, static_cast<int64_t>(plan.batches()));
            product.pack_size = 0;
            ctx.algorithm(choice.text());
        }
    }
    if (constant && !product.dot && !product.sparse) {
        product.packed = ctx.pack<Tensor>(
            b, cat("gemm ", kernels.isa, ' ', k, ' ', n, ' ', plan.b_row, ' ', plan.b_col, ' ', slot_count),
            [&](const Tensor& from) {
                auto packed = std::make_shared<Tensor>(
                    Tensor::allocate(DType::f32, {checked_mul(product.pack_size, slot_count)}));
                for (int64_t s = 0; s < slot_count; ++s)
                    for (size_t panel = 0; panel * kernels.gemm_cols < n; ++panel) {
                        give_way();
                        kernels.pack_b_f32(how, from.as<float>() + product.slot_b[static_cast<size_t>(s)],
                                           packed->as<float>() + s * product.pack_size, panel, panel + 1);
                    }
                return packed;
            });
    }
    // Scratch: packed b's, then copies of a, for as many slots as fit.
    std::vector<int64_t> users(static_cast<size_t>(slot_count));
    for (int32_t s : product.slot) ++users[static_cast<size_t>(s)];
    const int64_t most_users = *std::max_element(users.begin(), users.end());
    const int64_t copy_size = product.copy_a ? checked_mul(checked_mul(plan.m, plan.k), most_users) : 0;
    const int64_t slot_bytes = checked_mul(checked_add(product.packed ? 0 : product.pack_size, copy_size), 4);
    product.slots_at_once =
        slot_bytes == 0 ? slot_count : std::clamp<int64_t>(kScratchBytes / slot_bytes, 1, slot_count);
    product.scratch = static_cast<size_t>(checked_mul(product.slots_at_once, slot_bytes));
    if (product.sparse) {
        product.scratch = (product.scratch + 63) / 64 * 64;
        product.sparse_at = product.scratch;
        product.scratch += static_cast<size_t>(product.sparse.scratch()) * sizeof(float);
    }
    product.plan = std::move(plan);
    return product;
}

namespace {

// A dense copy of rows [begin, end) of a.
void copy_rows(const ProductPlan& plan, const float* a, float* to, int64_t begin, int64_t end) {
    const auto& kernels = kernels::kernels();
    if (plan.a_row == 1) {
        kernels.transpose(4, static_cast<size_t>(plan.k), static_cast<size_t>(end - begin), a + begin, plan.a_col,
                          to + begin * plan.k, plan.k);
        return;
    }
    for (int64_t i = begin; i < end; ++i)
        for (int64_t j = 0; j < plan.k; ++j) to[i * plan.k + j] = a[i * plan.a_row + j * plan.a_col];
}

}  // namespace

void run_product(const ProductF32& product, const RunContext& ctx, const float* a, const float* b, float* c,
                 const EpilogueProgram& epilogue, const float* bias, std::byte* scratch) {
    const ProductPlan& plan = product.plan;
    if (plan.empty()) return;
    const auto& kernels = kernels::kernels();
    const Parallel& parallel = ctx.parallel();
    const size_t k = static_cast<size_t>(plan.k), n = static_cast<size_t>(plan.n), m = static_cast<size_t>(plan.m);
    const int64_t panels = static_cast<int64_t>((n + kernels.gemm_cols - 1) / kernels.gemm_cols);
    const int64_t slot_count = static_cast<int64_t>(product.slot_b.size());
    float* const packs = reinterpret_cast<float*>(scratch);
    float* const copies = packs + (product.packed ? 0 : product.slots_at_once * product.pack_size);
    const kernels::PackB how{1, k, n, 0, plan.b_row, plan.b_col};

    for (int64_t first = 0; first < slot_count; first += product.slots_at_once) {
        const int64_t last = std::min(slot_count, first + product.slots_at_once);
        const int64_t batch_begin =
            std::lower_bound(product.slot.begin(), product.slot.end(), first) - product.slot.begin();
        const int64_t batch_end =
            std::lower_bound(product.slot.begin(), product.slot.end(), last) - product.slot.begin();
        const int64_t batches = batch_end - batch_begin;
        if (!product.packed && !product.dot && !product.sparse) {
            const int64_t step = std::max<int64_t>(1, 65536 / (plan.k * static_cast<int64_t>(kernels.gemm_cols) + 1));
            const int64_t parts = (panels + step - 1) / step;
            parallel_for(parallel, (last - first) * parts, [&](int64_t task) {
                const int64_t s = task / parts, panel = task % parts * step;
                kernels.pack_b_f32(how, b + product.slot_b[static_cast<size_t>(first + s)],
                                   packs + s * product.pack_size, static_cast<size_t>(panel),
                                   static_cast<size_t>(std::min(panels, panel + step)));
            });
        }
        if (product.copy_a) {
            const int64_t step = std::max<int64_t>(16, 65536 / plan.k);
            const int64_t parts = (plan.m + step - 1) / step;
            parallel_for(parallel, batches * parts, [&](int64_t task) {
                const int64_t i = task / parts, row = task % parts * step;
                copy_rows(plan, a + plan.a[static_cast<size_t>(batch_begin + i)], copies + i * plan.m * plan.k, row,
                          std::min(plan.m, row + step));
            });
        }
        auto rows_of_a = [&](int64_t batch) {
            return product.copy_a ? copies + (batch - batch_begin) * plan.m * plan.k
                                  : a + plan.a[static_cast<size_t>(batch)];
        };
        const int64_t lda = product.copy_a ? plan.k : plan.a_row;
        if (product.sparse) {
            run_sparse(product.sparse, parallel, reinterpret_cast<float*>(scratch + product.sparse_at),
                       [&](const SparsePart& part) {
                           const int64_t offset = plan.c[static_cast<size_t>(part.copy)] + part.begin * plan.c_row;
                           const EpilogueSteps steps = epilogue.bind(ctx, bias, {offset, plan.c_row, 0, 0});
                           sparse_product(product.sparse, part, product.sparse.weights->view(),
                                          rows_of_a(part.copy) + part.begin * lda, lda, c + offset, plan.c_row,
                                          steps.view());
                       });
            continue;
        }
        if (product.dot) {
            const int64_t step = std::max<int64_t>(1, 32768 / (plan.k * plan.n + 1));
            const int64_t parts = (plan.m + step - 1) / step;
            parallel_for(parallel, batches * parts, [&](int64_t task) {
                const int64_t batch = batch_begin + task / parts, row = task % parts * step;
                const int64_t end = std::min(plan.m, row + step), offset = plan.c[static_cast<size_t>(batch)];
                const float* rows = rows_of_a(batch);
                const float* columns = b + plan.b[static_cast<size_t>(batch)];
                for (int64_t i = row; i < end; ++i)
                    for (int64_t j = 0; j < plan.n; ++j)
                        c[offset + i * plan.c_row + j] = kernels.dot_f32(k, rows + i * lda, columns + j * plan.b_col);
                const EpilogueSteps steps = epilogue.bind(ctx, bias, {offset, plan.c_row, 0, 0});
                if (steps.count)
                    kernels.epilogue_f32(steps.view(), static_cast<size_t>(row), static_cast<size_t>(end), n,
                                         c + offset, plan.c_row, c + offset, plan.c_row);
            });
            continue;
        }
        const GemmSplit split =
            split_gemm(parallel.threads, plan.m, plan.n, plan.k, batches, static_cast<int64_t>(kernels.gemm_rows),
                       static_cast<int64_t>(kernels.gemm_cols));
        parallel_for(parallel, batches * split.tasks(), [&](int64_t task) {
            const int64_t batch = batch_begin + task / split.tasks(), part = task % split.tasks();
            const int64_t row = part / split.panels * split.row_step, panel = part % split.panels * split.panel_step;
            const int64_t s = product.slot[static_cast<size_t>(batch)];
            const int64_t offset = plan.c[static_cast<size_t>(batch)];
            const EpilogueSteps steps = epilogue.bind(ctx, bias, {offset, plan.c_row, 0, 0});
            kernels::GemmF32 gemm;
            gemm.m = m;
            gemm.n = n;
            gemm.k = k;
            gemm.a = rows_of_a(batch);
            gemm.lda = lda;
            gemm.b = product.packed ? product.packed->as<float>() + s * product.pack_size
                                    : packs + (s - first) * product.pack_size;
            gemm.c = c + offset;
            gemm.ldc = plan.c_row;
            gemm.epilogue = steps.view();
            kernels.gemm_f32(gemm, static_cast<size_t>(row),
                             static_cast<size_t>(std::min(plan.m, row + split.row_step)), static_cast<size_t>(panel),
                             static_cast<size_t>(std::min(panels, panel + split.panel_step)));
        });
    }
}

namespace {

void gemm_plain(const kernels::GemmPlain<double>& g) { kernels::kernels().gemm_f64(g); }
void gemm_plain(const kernels::GemmPlain<uint32_t>& g) { kernels::kernels().gemm_u32(g); }
void gemm_plain(const kernels::GemmPlain<uint64_t>& g) { kernels::kernels().gemm_u64(g); }

}  // namespace

template <class T>
void run_plain_product(const ProductPlan& plan, const Parallel& parallel, const T* a, const T* b, T* c) {
    if (plan.empty()) return;
    constexpr int64_t kRows = 8, kColumns = 64;  // whole tiles of every table
    // A multiplication costs about four of float32's.
    const auto batches = static_cast<int64_t>(plan.batches());
    const GemmSplit split =
        split_gemm(parallel.threads, plan.m, plan.n, checked_mul(plan.k, 4), batches, kRows, kColumns);
    parallel_for(parallel, batches * split.tasks(), [&](int64_t task) {
        const auto batch = static_cast<size_t>(task / split.tasks());
        const int64_t part = task % split.tasks(), row = part / split.panels * split.row_step,
                      column = part % split.panels * split.panel_step * kColumns;
        kernels::GemmPlain<T> gemm;
        gemm.m = static_cast<size_t>(std::min(split.row_step, plan.m - row));
        gemm.n = static_cast<size_t>(std::min(split.panel_step * kColumns, plan.n - column));
        gemm.k = static_cast<size_t>(plan.k);
        gemm.a = a + plan.a[batch] + row * plan.a_row;
        gemm.a_row = plan.a_row;
        gemm.a_col = plan.a_col;
        gemm.b = b + plan.b[batch] + column * plan.b_col;
        gemm.b_row = plan.b_row;
        gemm.b_col = plan.b_col;
        gemm.c = c + plan.c[batch] + row * plan.c_row + column;
        gemm.c_row = plan.c_row;
        gemm_plain(gemm);
    });
}

template void run_plain_product(const ProductPlan&, const Parallel&, const double*, const double*, double*);
template void run_plain_product(const ProductPlan&, const Parallel&, const uint32_t*, const uint32_t*, uint32_t*);
template void run_plain_product(const ProductPlan&, const Parallel&, const uint64_t*, const uint64_t*, uint64_t*);

Tensor convert_float(const Tensor& tensor, DType to) {
    const auto& kernels = kernels::kernels();
    Tensor out = Tensor::allocate(to, tensor.shape);
    const size_t n = static_cast<size_t>(tensor.count());
    if (tensor.dtype == DType::f16) kernels.f16_to_f32(n, tensor.as<uint16_t>(), out.as<float>());
    else if (tensor.dtype == DType::bf16) kernels.bf16_to_f32(n, tensor.as<uint16_t>(), out.as<float>());
    else if (to == DType::f16) kernels.f32_to_f16(n, tensor.as<float>(), out.as<uint16_t>());
    else kernels.f32_to_bf16(n, tensor.as<float>(), out.as<uint16_t>());
    return out;
}

ValueId as_float32(Patch& patch, ValueId value) {
    const Graph& graph = patch.graph();
    if (graph.fact(value).dtype == DType::f32) return value;
    if (const Tensor* constant = graph.constant(value))
        return patch.constant(convert_float(*constant, DType::f32), graph.value(value).name);
    return patch.node("Cast", {value}, Attributes().set("to", static_cast<int64_t>(DType::f32)));
}

std::shared_ptr<const AnyProduct> prepare_any_product(PrepareContext& ctx, const Shape& perm_a, const Shape& perm_b) {
    auto state = std::make_shared<AnyProduct>();
    ProductPlan plan = plan_product(ctx.input(0).shape, perm_a, ctx.input(1).shape, perm_b, {});
    const DType d = ctx.input(0).dtype;
    if (d == DType::f32 || is_half(d)) {
        state->f32 = prepare_product(ctx, std::move(plan), d == DType::f32 ? 1 : -1);
        ctx.scratch(state->f32.scratch);
    } else {
        state->plan = std::move(plan);
    }
    return state;
}

}  // namespace linnet
