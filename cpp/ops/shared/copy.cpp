// Strided copies: axes are merged, the two innermost ones go to a loop that fits them (runs of neighbours, a blocked
// transpose, single elements), the others are counted through, and the blocks are shared among the threads.
#include "ops/shared/copy.h"

#include <algorithm>
#include <cstring>

#include "kernels/kernels.h"

namespace linnet {
namespace {

struct Axis {
    int64_t size = 1, src = 0, dst = 0;  // strides in bytes
};
using Axes = SmallVector<Axis, 6>;

constexpr int64_t kGrainBytes = 64 << 10;  // less is not worth a thread

template <size_t bytes>
void copy_elements_of(const Axis& rows, const Axis& cols, const char* src, char* dst) {
    constexpr auto size = static_cast<int64_t>(bytes);
    for (int64_t r = 0; r < rows.size; ++r) {
        const char* from = src + r * rows.src;
        char* to = dst + r * rows.dst;
        if (cols.src == 0 && cols.dst == size) {
            const size_t all = static_cast<size_t>(cols.size) * bytes, first = std::min<size_t>(all, 64);
            char value[bytes];
            std::memcpy(value, from, bytes);
            for (size_t i = 0; i < first; i += bytes) std::memcpy(to + i, value, bytes);
            repeat_bytes(to, first, all);
            continue;
        }
        for (int64_t c = 0; c < cols.size; ++c) std::memcpy(to + c * cols.dst, from + c * cols.src, bytes);
    }
}

template <size_t bytes>
void gather_of(int64_t count, const char* from, const int64_t* places, char* to) {
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + i * static_cast<int64_t>(bytes), from + places[i] * static_cast<int64_t>(bytes), bytes);
}
template <size_t bytes>
void scatter_of(int64_t count, const char* from, const int64_t* places, char* to) {
    for (int64_t i = 0; i < count; ++i)
        std::memcpy(to + places[i] * static_cast<int64_t>(bytes), from + i * static_cast<int64_t>(bytes), bytes);
}

void copy_strings(const Axis& rows, const Axis& cols, const char* src, char* dst) {
    for (int64_t r = 0; r < rows.size; ++r)
        for (int64_t c = 0; c < cols.size; ++c)
            copy_text(*reinterpret_cast<const std::string*>(src + r * rows.src + c * cols.src),
                      *reinterpret_cast<std::string*>(dst + r * rows.dst + c * cols.dst));
}

enum class Mode { strings, runs, transpose, elements };

struct Block {
    Mode mode = Mode::elements;
    int64_t bytes = 0;  // of an element
    void operator()(const Axis& rows, const Axis& cols, const char* src, char* dst) const {
        switch (mode) {
            case Mode::strings: return copy_strings(rows, cols, src, dst);
            case Mode::runs:
                for (int64_t r = 0; r < rows.size; ++r)
                    std::memcpy(dst + r * rows.dst, src + r * rows.src, static_cast<size_t>(cols.size * bytes));
                return;
            case Mode::transpose:
                // Neighbours in dst are `cols`, neighbours in src are `rows`.
                kernels::kernels().transpose(static_cast<size_t>(bytes), static_cast<size_t>(cols.size),
                                             static_cast<size_t>(rows.size), src, cols.src / bytes, dst,
                                             rows.dst / bytes);
                return;
            case Mode::elements: break;
        }
        switch (bytes) {
            case 1: return copy_elements_of<1>(rows, cols, src, dst);
            case 2: return copy_elements_of<2>(rows, cols, src, dst);
            case 4: return copy_elements_of<4>(rows, cols, src, dst);
            case 8: return copy_elements_of<8>(rows, cols, src, dst);
            default: return copy_elements_of<16>(rows, cols, src, dst);
        }
    }
};

// Without axes of one element, largest destination stride first, neighbours that continue each other merged.
Axes normal_axes(const Shape& sizes, const Shape& src, const Shape& dst, int64_t bytes) {
    Axes axes;
    for (size_t i = 0; i < sizes.size(); ++i)
        if (sizes[i] != 1) axes.push_back({sizes[i], src[i] * bytes, dst[i] * bytes});
    std::stable_sort(axes.begin(), axes.end(), [](const Axis& a, const Axis& b) { return a.dst > b.dst; });
    Axes merged;
    for (const Axis& axis : axes) {
        if (!merged.empty() && merged.back().src == axis.src * axis.size && merged.back().dst == axis.dst * axis.size)
            merged.back() = {merged.back().size * axis.size, axis.src, axis.dst};
        else merged.push_back(axis);
    }
    return merged;
}

// How many pieces of `piece` cover `size`.
int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

}  // namespace

void copy_box(const Parallel& parallel, DType dtype, const Shape& sizes, const void* src, const Shape& src_strides,
              void* dst, const Shape& dst_strides) {
    for (int64_t size : sizes)
        if (size <= 0) return;
    Block block;
    block.bytes = static_cast<int64_t>(dtype_size(dtype));
    Axes axes = normal_axes(sizes, src_strides, dst_strides, block.bytes);

    // A short run of neighbours is one wider element.
    if (dtype != DType::string && axes.size() > 1 && axes.back().src == block.bytes && axes.back().dst == block.bytes) {
        const int64_t run = axes.back().size * block.bytes;
        if (run == 2 || run == 4 || run == 8 || run == 16) {
            block.bytes = run;
            axes.pop_back();
        }
    }
    Axis cols{1, block.bytes, block.bytes}, rows{1, 0, 0};
    if (!axes.empty()) {
        cols = axes.back();
        axes.pop_back();
    }
    size_t row_axis = axes.size();  // none
    if (dtype == DType::string) {
        block.mode = Mode::strings;
    } else if (cols.src == block.bytes && cols.dst == block.bytes) {
        block.mode = Mode::runs;
    } else if (cols.dst == block.bytes && block.bytes <= 8 && cols.src % block.bytes == 0) {
        for (size_t i = axes.size(); i-- > 0;)
            if (axes[i].src == block.bytes && axes[i].dst % block.bytes == 0) {
                block.mode = Mode::transpose;
                row_axis = i;
                break;
            }
    }
    if (block.mode != Mode::transpose && !axes.empty()) row_axis = axes.size() - 1;
    if (row_axis < axes.size()) {
        rows = axes[row_axis];
        axes.erase(axes.begin() + row_axis);
    }

    // Pieces that fit the first-level cache: about square for a transpose, long runs otherwise.
    int64_t piece_cols = std::max<int64_t>(1, kGrainBytes / block.bytes);
    if (block.mode == Mode::transpose) piece_cols = rows.size < 64 ? 4096 / rows.size : 64;
    piece_cols = std::min(cols.size, piece_cols);
    int64_t piece_rows = std::max<int64_t>(1, kGrainBytes / (piece_cols * block.bytes));
    if (block.mode == Mode::transpose) piece_rows = 4096 / std::min<int64_t>(64, piece_cols);
    piece_rows = std::min(rows.size, piece_rows);
    const int64_t across = pieces(cols.size, piece_cols), down = pieces(rows.size, piece_rows);
    int64_t units = across * down;
    for (const Axis& axis : axes) units *= axis.size;
    const int64_t grain = std::max<int64_t>(1, kGrainBytes / (piece_cols * piece_rows * block.bytes));

    parallel_ranges(parallel, units, grain, [&](int64_t begin, int64_t end) {
        int64_t col = begin % across, row = begin / across % down, rest = begin / across / down;
        SmallVector<int64_t, 6> index(axes.size());
        const char* from = static_cast<const char*>(src);
        char* to = static_cast<char*>(dst);
        for (size_t i = axes.size(); i-- > 0;) {
            index[i] = rest % axes[i].size;
            rest /= axes[i].size;
            from += index[i] * axes[i].src;
            to += index[i] * axes[i].dst;
        }
        for (int64_t unit = begin; unit < end; ++unit) {
            const int64_t r = row * piece_rows, c = col * piece_cols;
            block({std::min(piece_rows, rows.size - r), rows.src, rows.dst},
                  {std::min(piece_cols, cols.size - c), cols.src, cols.dst}, from + r * rows.src + c * cols.src,
                  to + r * rows.dst + c * cols.dst);
            if (++col < across) continue;
            col = 0;
            if (++row < down) continue;
            row = 0;
            for (size_t i = axes.size(); i-- > 0;) {
                from += axes[i].src;
                to += axes[i].dst;
                if (++index[i] < axes[i].size) break;
                from -= axes[i].src * axes[i].size;
                to -= axes[i].dst * axes[i].size;
                index[i] = 0;
            }
        }
    });
}

void gather_runs(size_t bytes, int64_t count, const void* from, const int64_t* places, void* to) {
    const auto* src = static_cast<const char*>(from);
    auto* dst = static_cast<char*>(to);
    switch (bytes) {
        case 1: return gather_of<1>(count, src, places, dst);
        case 2: return gather_of<2>(count, src, places, dst);
        case 4: return gather_of<4>(count, src, places, dst);
        case 8: return gather_of<8>(count, src, places, dst);
        default:
            for (int64_t i = 0; i < count; ++i)
                std::memcpy(dst + static_cast<size_t>(i) * bytes, src + static_cast<size_t>(places[i]) * bytes, bytes);
    }
}

void scatter_runs(size_t bytes, int64_t count, const void* from, const int64_t* places, void* to) {
    const auto* src = static_cast<const char*>(from);
    auto* dst = static_cast<char*>(to);
    switch (bytes) {
        case 1: return scatter_of<1>(count, src, places, dst);
        case 2: return scatter_of<2>(count, src, places, dst);
        case 4: return scatter_of<4>(count, src, places, dst);
        case 8: return scatter_of<8>(count, src, places, dst);
        default:
            for (int64_t i = 0; i < count; ++i)
                std::memcpy(dst + static_cast<size_t>(places[i]) * bytes, src + static_cast<size_t>(i) * bytes, bytes);
    }
}

void repeat_bytes(void* data, size_t done, size_t size) {
    // Pieces grow until they are about a page: then they come from the first-level cache.
    auto* const bytes = static_cast<char*>(data);
    for (size_t piece = done; done < size; done += piece) {
        if (piece < 4096) piece = done;
        piece = std::min(piece, size - done);
        std::memcpy(bytes + done, bytes, piece);
    }
}

void copy_flat(const Parallel& parallel, DType dtype, int64_t count, const void* src, void* dst) {
    if (src == dst) return;
    copy_box(parallel, dtype, {count}, src, {1}, dst, {1});
}

void fill_flat(const Parallel& parallel, DType dtype, int64_t count, const void* value, void* dst) {
    copy_box(parallel, dtype, {count}, value, {0}, dst, {1});
}

}  // namespace linnet
