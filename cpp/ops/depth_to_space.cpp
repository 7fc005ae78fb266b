// DepthToSpace (1: DCR only; 11, 13, 28: `mode`) and SpaceToDepth (1, 13; 28 with `mode`). The rows of domain linnet do
// the same to tensors whose axes are permuted: axis i is the operator's axis `perm`[i].
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"

namespace linnet {
namespace {

// Where each of the operator's axes N, C, H, W is.
Shape places_of(const Attributes& attributes) {
    Shape perm{0, 1, 2, 3};
    if (attributes.has("perm")) {
        const auto given = attributes.ints("perm");
        perm = normal_axes(Shape(given.begin(), given.end()), 4);
        require(perm.size() == 4, "perm must have 4 axes");
    }
    Shape places;
    for (int64_t axis = 0; axis < 4; ++axis) places.push_back(permuted_axis(perm, axis));
    return places;
}

int64_t block_of(const Attributes& attributes) {
    const int64_t block = attributes.i("blocksize", 0);
    require(block >= 1 && block <= (1 << 20), "blocksize ", block, " is not positive or too large");
    return block;
}

bool depth_first(const Attributes& attributes) {
    const std::string& mode = attributes.s("mode", "DCR");
    require(mode == "DCR" || mode == "CRD", "mode '", mode, "' is neither DCR nor CRD");
    return mode == "DCR";
}

// size / divisor, which must leave no remainder.
int64_t divide(DimTable& dims, int64_t size, int64_t divisor, const char* what) {
    if (is_number(size) && size % divisor != 0)
        fail(ErrorKind::invalid_argument, what, " ", size, " is not a multiple of ", divisor);
    return dims.floor_div(size, divisor);
}

template <bool to_space>
void infer(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    const int64_t block = block_of(ctx.attributes);
    depth_first(ctx.attributes);
    if (!data.ranked) return ctx.output(0, data.dtype, unknown_shape(4));
    require(data.rank() == 4, "the input must have rank 4, not ", data.rank());
    const Shape at = places_of(ctx.attributes);
    Shape shape = data.shape;
    int64_t &c = shape[static_cast<size_t>(at[1])], &h = shape[static_cast<size_t>(at[2])],
            &w = shape[static_cast<size_t>(at[3])];
    if (to_space) {
        c = divide(ctx.dims, c, block * block, "depth");
        h = ctx.dims.mul(h, block);
        w = ctx.dims.mul(w, block);
    } else {
        c = ctx.dims.mul(c, block * block);
        h = divide(ctx.dims, h, block, "height");
        w = divide(ctx.dims, w, block, "width");
    }
    ctx.output(0, data.dtype, shape);
}

template <bool to_space>
void run(RunContext& ctx) {
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    const int64_t block = block_of(ctx.attributes);
    const Shape at = places_of(ctx.attributes);
    // `deep` has the channels, `wide` the pixels; the box runs over n, c, h, row of the block, w, column of the block.
    const Tensor &deep = to_space ? x : y, &wide = to_space ? y : x;
    const Shape d = strides_of(deep.shape), s = strides_of(wide.shape);
    auto of = [&](const Shape& values, int axis) { return values[static_cast<size_t>(at[static_cast<size_t>(axis)])]; };
    const int64_t channels = of(wide.shape, 1);
    const bool dcr = depth_first(ctx.attributes);
    const int64_t channel = of(d, 1) * (dcr ? 1 : block * block), sub = of(d, 1) * (dcr ? channels : 1);
    const Shape sizes{of(wide.shape, 0), channels, of(deep.shape, 2), block, of(deep.shape, 3), block};
    const Shape deep_strides{of(d, 0), channel, of(d, 2), sub * block, of(d, 3), sub};
    const Shape wide_strides{of(s, 0), of(s, 1), of(s, 2) * block, of(s, 2), of(s, 3) * block, of(s, 3)};
    if (to_space) copy_box(ctx.parallel(), x.dtype, sizes, x.data, deep_strides, y.data, wide_strides);
    else copy_box(ctx.parallel(), x.dtype, sizes, x.data, wide_strides, y.data, deep_strides);
}

bool permute(const Graph&, Node& node, const Shape& perm, Patch&) {
    if (perm.size() != 4) return false;
    std::vector<int64_t> before{0, 1, 2, 3}, after;
    if (node.attributes.has("perm")) before = node.attributes.ints("perm");
    for (int64_t axis : perm) after.push_back(before[static_cast<size_t>(axis)]);
    node.domain = "linnet";
    node.op = find_op(node.domain, node.op_type, 1);
    node.attributes.set("perm", after);
    return true;
}

constexpr OpDef row(std::string_view name, std::string_view domain, void (*infer)(InferContext&),
                    void (*run)(RunContext&)) {
    return {.name = name,
            .domain = domain,
            .infer = infer,
            .run = run,
            .permute = permute,
            .min_inputs = 1,
            .max_inputs = 1};
}

}  // namespace

std::span<const OpDef> depth_to_space_ops() {
    static const OpDef rows[] = {
        row("DepthToSpace", "", infer<true>, run<true>),
        row("SpaceToDepth", "", infer<false>, run<false>),
        row("DepthToSpace", "linnet", infer<true>, run<true>),
        row("SpaceToDepth", "linnet", infer<false>, run<false>),
    };
    return rows;
}

}  // namespace linnet
