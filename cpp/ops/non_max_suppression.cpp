// NonMaxSuppression (10, 11): boxes [batch, n, 4], scores [batch, classes, n], max_output_boxes_per_class 0,
// iou_threshold 0, score_threshold (none) -> indices [selected, 3] of (batch, class, box). Attribute center_point_box
// 0: boxes are (y1, x1, y2, x2) with corners in any order, else (x centre, y centre, width, height).
#include <algorithm>
#include <cstring>
#include <vector>

#include "ops/shared/facts.h"
#include "ops/shared/rows.h"

namespace linnet {
namespace {

void infer_nms(InferContext& ctx) {
    const Fact &boxes = tensor_input(ctx, 0), &scores = tensor_input(ctx, 1);
    for (const Fact* fact : {&boxes, &scores}) {
        require(fact->dtype == DType::f32 || fact->dtype == DType::undefined, "boxes and scores are ",
                dtype_name(fact->dtype), ", expected float32");
        if (fact->ranked) require(fact->rank() == 3, "boxes and scores have rank ", fact->rank(), ", expected 3");
    }
    if (boxes.ranked && scores.ranked) {
        same_dim(ctx.dims, boxes.shape[0], scores.shape[0], "batch of boxes against scores");
        same_dim(ctx.dims, boxes.shape[1], scores.shape[2], "number of boxes against scores");
    }
    if (boxes.ranked) same_dim(ctx.dims, boxes.shape[2], 4, "coordinates of a box");
    const int64_t form = ctx.attributes.i("center_point_box", 0);
    require(form == 0 || form == 1, "center_point_box is ", form);
    ctx.output(0, DType::i64, {kUnknownDim, 3});
}

struct Box {
    float top, left, bottom, right, area;
};

Box box_of(const float* p, bool centred) {
    Box box;
    if (centred) {
        box = {p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2, 0};
    } else {
        box = {std::min(p[0], p[2]), std::min(p[1], p[3]), std::max(p[0], p[2]), std::max(p[1], p[3]), 0};
    }
    box.area = (box.bottom - box.top) * (box.right - box.left);
    return box;
}

// The boxes that were kept, coordinate by coordinate.
struct Kept {
    std::vector<float> top, left, bottom, right, area;
    void add(const Box& box) {
        top.push_back(box.top);
        left.push_back(box.left);
        bottom.push_back(box.bottom);
        right.push_back(box.right);
        area.push_back(box.area);
    }
    size_t size() const { return top.size(); }
};

// Whether a box overlaps one of those from `begin` to `end` by more than the threshold: their intersection over their
// union. Vectorised by the compiler.
[[gnu::optimize("O3")]] bool overlaps(const Box& box, const Kept& kept, size_t begin, size_t end, float threshold) {
    const float *top = kept.top.data(), *left = kept.left.data(), *bottom = kept.bottom.data(),
                *right = kept.right.data(), *area = kept.area.data();
    int any = 0;
    for (size_t i = begin; i < end; ++i) {
        const float height = std::min(box.bottom, bottom[i]) - std::max(box.top, top[i]);
        const float width = std::min(box.right, right[i]) - std::max(box.left, left[i]);
        const float shared = height * width, joint = box.area + area[i] - shared;
        any |= (height > 0) & (width > 0) & (box.area > 0) & (area[i] > 0) & (joint > 0) & (shared / joint > threshold);
    }
    return any;
}

// Orders as the scores do, NaN below all of them; of equals the first box is the greatest.
uint64_t sort_key(float score, size_t box) {
    const float positive = score + 0.0f;  // no -0
    uint32_t bits;
    std::memcpy(&bits, &positive, sizeof bits);
    bits = score != score ? 0 : bits >> 31 ? ~bits : bits | 0x80000000u;
    return static_cast<uint64_t>(bits) << 32 | static_cast<uint32_t>(~box);
}

// Best score first; each kept box drops what overlaps it too much.
void suppress(const std::vector<Box>& boxes, const float* scores, int64_t most, float iou, const float* least,
              std::vector<int64_t>& kept) {
    std::vector<uint64_t> heap;
    heap.reserve(boxes.size());
    for (size_t i = 0; i < boxes.size(); ++i)
        if (!least || scores[i] > *least) heap.push_back(sort_key(scores[i], i));
    std::make_heap(heap.begin(), heap.end());
    Kept chosen;
    kept.clear();
    while (!heap.empty() && static_cast<int64_t>(kept.size()) < most) {
        std::pop_heap(heap.begin(), heap.end());
        const auto at = static_cast<uint32_t>(~heap.back());
        heap.pop_back();
        const Box& box = boxes[at];
        constexpr size_t kTogether = 64;
        bool dropped = false;
        for (size_t i = 0; i < chosen.size() && !dropped; i += kTogether)
            dropped = overlaps(box, chosen, i, std::min(chosen.size(), i + kTogether), iou);
        if (dropped) continue;
        kept.push_back(at);
        chosen.add(box);
    }
}

// The only element of an optional input.
const Tensor* single(const RunContext& ctx, int i) {
    if (!ctx.has_input(i)) return nullptr;
    const Tensor& t = ctx.input(i);
    if (t.count() == 0) return nullptr;
    if (t.count() != 1) fail(ErrorKind::invalid_argument, "input ", i, " has ", t.count(), " elements, expected 1");
    return &t;
}

void run_nms(RunContext& ctx) {
    const Tensor &boxes = ctx.input(0), &scores = ctx.input(1);
    if (boxes.rank() != 3 || scores.rank() != 3 || boxes.shape[2] != 4 || boxes.shape[0] != scores.shape[0] ||
        boxes.shape[1] != scores.shape[2])
        fail(ErrorKind::invalid_argument, "boxes are ", shape_text(boxes.shape), ", scores are ",
             shape_text(scores.shape));
    const int64_t batch = boxes.shape[0], n = boxes.shape[1], classes = scores.shape[1];
    const Tensor *most = single(ctx, 2), *iou = single(ctx, 3), *least = single(ctx, 4);
    const int64_t limit = most ? std::clamp<int64_t>(int_at(*most, 0), 0, n) : 0;
    const float threshold = iou ? static_cast<float>(double_at(*iou, 0)) : 0.0f;
    if (!(threshold >= 0 && threshold <= 1))
        fail(ErrorKind::invalid_argument, "iou_threshold is ", threshold, ", expected 0 ... 1");
    const float score_threshold = least ? static_cast<float>(double_at(*least, 0)) : 0.0f;
    const bool centred = ctx.attributes.i("center_point_box", 0) == 1;

    if (limit == 0) {
        ctx.allocate(0, DType::i64, {0, 3});
        return;
    }
    std::vector<std::vector<int64_t>> kept(static_cast<size_t>(batch * classes));
    std::vector<std::vector<Box>> prepared(static_cast<size_t>(batch));
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t i = 0; i < n; ++i)
            prepared[static_cast<size_t>(b)].push_back(box_of(boxes.as<float>() + (b * n + i) * 4, centred));
    parallel_for(ctx.parallel(), batch * classes, [&](int64_t task) {
        suppress(prepared[static_cast<size_t>(task / classes)], scores.as<float>() + task * n, limit, threshold,
                 least ? &score_threshold : nullptr, kept[static_cast<size_t>(task)]);
    });
    int64_t count = 0;
    for (const auto& list : kept) count += static_cast<int64_t>(list.size());
    int64_t* to = ctx.allocate(0, DType::i64, {count, 3}).as<int64_t>();
    for (int64_t task = 0; task < batch * classes; ++task)
        for (int64_t box : kept[static_cast<size_t>(task)]) {
            *to++ = task / classes;
            *to++ = task % classes;
            *to++ = box;
        }
}

}  // namespace

std::span<const OpDef> non_max_suppression_ops() {
    static const OpDef rows[] = {
        {.name = "NonMaxSuppression",
         .since = 10,
         .infer = infer_nms,
         .run = run_nms,
         .flags = kDynamic,
         .min_inputs = 2,
         .max_inputs = 5},
    };
    return rows;
}

}  // namespace linnet
