// CenterCropPad (18): cuts or fills with zeros, around the centre.
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

Shape axes_of(const Attributes& attributes, int64_t rank) {
    Shape axes;
    if (attributes.has("axes")) {
        const auto given = attributes.ints("axes");
        return normal_axes(Shape(given.begin(), given.end()), rank);
    }
    for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
    return axes;
}

void infer_center_crop_pad(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const auto sizes = int_list(ctx, 1);
    if (!data.ranked) return ctx.output_unranked(0, data.dtype);
    const Shape axes = axes_of(ctx.attributes, data.rank());
    Shape shape = data.shape;
    require(!sizes || sizes->values.size() == axes.size(), "shape has ", sizes ? sizes->values.size() : 0,
            " values, expected ", axes.size());
    for (size_t i = 0; i < axes.size(); ++i) {
        const int64_t size = sizes ? sizes->values[i] : kUnknownDim;
        if (is_number(size) && size < 0) fail(ErrorKind::invalid_argument, "shape has the size ", size);
        shape[static_cast<size_t>(axes[i])] = size;
    }
    ctx.output(0, data.dtype, shape);
}

void run_center_crop_pad(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const Shape src = strides_of(x.shape), dst = strides_of(y.shape);
    Shape sizes;
    int64_t from = 0, to = 0;
    bool padded = false;
    for (size_t i = 0; i < x.shape.size(); ++i) {
        const int64_t size = x.shape[i], target = y.shape[i];
        sizes.push_back(std::min(size, target));
        from += size > target ? (size - target) / 2 * src[i] : 0;
        to += size < target ? (target - size) / 2 * dst[i] : 0;
        padded = padded || size < target;
    }
    if (padded && x.dtype == DType::string) std::fill_n(y.as<std::string>(), y.count(), std::string());
    else if (padded && y.count() > 0) __builtin_memset(y.data, 0, y.bytes());
    copy_box(ctx.parallel(), x.dtype, sizes, element(x.data, x.dtype, from), src, element(y.data, x.dtype, to), dst);
}

bool permute_center_crop_pad(const Graph&, Node& node, const Shape& perm, Patch&) {
    std::vector<int64_t> axes;
    for (int64_t axis : axes_of(node.attributes, static_cast<int64_t>(perm.size())))
        axes.push_back(permuted_axis(perm, axis));
    node.attributes.set("axes", axes);
    return true;
}

}  // namespace

std::span<const OpDef> center_crop_pad_ops() {
    static const OpDef rows[] = {
        {.name = "CenterCropPad",
         .since = 18,
         .infer = infer_center_crop_pad,
         .run = run_center_crop_pad,
         .permute = permute_center_crop_pad,
         .min_inputs = 2,
         .max_inputs = 2},
    };
    return rows;
}

}  // namespace linnet
