// Resize (ai.onnx 10, 11, 13, 18, 19): attributes mode "nearest", coordinate_transformation_mode "half_pixel",
// nearest_mode "round_prefer_floor", cubic_coeff_a -0.75, exclude_outside 0, extrapolation_value 0, antialias 0, axes
// (all), keep_aspect_ratio_policy "stretch". Resize 10 and Upsample (1, 7, 9): mode "nearest" or "linear", asymmetric.
// Inputs: x, roi, scales, sizes (10 and Upsample 9: x, scales; Upsample 7 and 1: attributes).
//
// linnet.QLinearResize is the newest Resize of bytes: QuantizeLinear of what it gives for the floats of
// DequantizeLinear. More attributes: x_scale, x_zero, y_scale, y_zero, lo, hi (bounds of the result), dtype (its type).
//
// The rows need no particular order of axes: a permuted input only permutes `axes`.
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>

#include "graph/op.h"
#include "ops/spatial/resample.h"

namespace linnet {
namespace {

bool is_simple(const OpDef& op) { return op.name == "Upsample" || (op.since < 11 && op.domain.empty()); }

Shape axes_of(const Attributes& attributes, int64_t rank) {
    const std::vector<int64_t> given = attributes.ints("axes");
    Shape axes;
    if (!attributes.has("axes"))
        for (int64_t i = 0; i < rank; ++i) axes.push_back(i);
    for (int64_t axis : given) {
        axis = normal_axis(axis, rank, "axes entry");
        require(std::find(axes.begin(), axes.end(), axis) == axes.end(), "axes names ", axis, " twice");
        axes.push_back(axis);
    }
    return axes;
}

// Scales from the attributes of the first Upsample versions.
std::vector<float> attribute_scales(const Attributes& attributes, int64_t rank) {
    if (attributes.has("scales")) return attributes.floats("scales");
    std::vector<float> scales(static_cast<size_t>(rank), 1.0f);
    require(rank == 4, "x has rank ", rank, ", expected 4");
    scales[2] = attributes.f("height_scale", 1);
    scales[3] = attributes.f("width_scale", 1);
    return scales;
}

// Which inputs give scales and sizes; -1: none.
struct Operands {
    int scales = -1, sizes = -1;
};
Operands operands_of(const OpDef& op) {
    if (op.name == "Upsample") return {op.since >= 9 ? 1 : -1, -1};
    return is_simple(op) ? Operands{1, -1} : Operands{2, 3};
}

// What a Resize does to each of `axes`.
struct Request {
    Shape axes;
    Shape out;                  // per axis; may hold codes
    std::vector<float> scales;  // per axis; empty: not known
    bool known = false;
};

std::vector<float> floats_of(const Tensor& t) {
    std::vector<float> values;
    for (int64_t i = 0; i < t.count(); ++i) values.push_back(static_cast<float>(double_at(t, i)));
    return values;
}

int64_t scaled_size(DimTable* dims, int64_t in, float scale) {
    if (is_number(in)) {
        const double size = std::floor(static_cast<double>(static_cast<float>(in) * scale));
        if (!(size >= 0 && size < 9e15)) fail(ErrorKind::invalid_argument, "scale ", scale, " of size ", in);
        return static_cast<int64_t>(size);
    }
    if (scale == std::floor(scale) && scale < 1e6f && dims) return dims->mul(in, static_cast<int64_t>(scale));
    return kUnknownDim;
}

// sizes of the outputs under a keep_aspect_ratio_policy.
void keep_aspect(const std::string& policy, const Shape& in, Request& request) {
    if (policy == "stretch") return;
    require(policy == "not_larger" || policy == "not_smaller", "keep_aspect_ratio_policy '", policy, "' is unknown");
    if (!is_known(in) || !is_known(request.out)) {
        std::fill(request.out.begin(), request.out.end(), kUnknownDim);
        return;
    }
    double best = 0;
    for (size_t i = 0; i < in.size(); ++i) {
        const double scale = static_cast<double>(request.out[i]) / static_cast<double>(std::max<int64_t>(1, in[i]));
        if (i == 0) best = scale;
        best = policy == "not_larger" ? std::min(best, scale) : std::max(best, scale);
    }
    request.scales.assign(in.size(), static_cast<float>(best));
    for (size_t i = 0; i < in.size(); ++i)
        request.out[i] = static_cast<int64_t>(std::floor(best * static_cast<double>(in[i]) + 0.5));
}

// `constant(i)` and `ints(i)` give what is known of input i.
template <class Constant, class Ints>
Request read_request(const Attributes& attributes, const OpDef& op, const Shape& x, DimTable* dims,
                     const Constant& constant, const Ints& ints) {
    Request r;
    r.axes = axes_of(attributes, static_cast<int64_t>(x.size()));
    Shape in;
    for (int64_t axis : r.axes) in.push_back(x[static_cast<size_t>(axis)]);
    r.out = Shape(in.size(), kUnknownDim);
    const Operands at = operands_of(op);
    std::vector<float> scales;
    if (at.scales < 0) scales = attribute_scales(attributes, static_cast<int64_t>(x.size()));
    else if (const Tensor* t = constant(at.scales)) scales = floats_of(*t);
    if (!scales.empty()) {
        require(scales.size() == in.size(), "scales has ", scales.size(), " entries, expected ", in.size());
        // Of the whole axis, cropped or not, as ONNX's own shape inference has it.
        for (size_t i = 0; i < in.size(); ++i) {
            require(scales[i] > 0 && std::isfinite(scales[i]), "scale ", scales[i], " is not positive");
            r.out[i] = scaled_size(dims, in[i], scales[i]);
        }
        r.scales = std::move(scales);
        r.known = true;
        return r;
    }
    if (at.sizes < 0) return r;
    if (const Shape* sizes = ints(at.sizes); sizes && !sizes->empty()) {
        require(sizes->size() == in.size(), "sizes has ", sizes->size(), " entries, expected ", in.size());
        r.out = *sizes;
        for (int64_t size : r.out) require(!is_number(size) || size >= 0, "size ", size, " is negative");
        keep_aspect(attributes.s("keep_aspect_ratio_policy", "stretch"), in, r);
        if (r.scales.empty() && is_known(in) && is_known(r.out))
            for (size_t i = 0; i < in.size(); ++i)
                r.scales.push_back(static_cast<float>(r.out[i]) / static_cast<float>(std::max<int64_t>(1, in[i])));
        r.known = !r.scales.empty();
    }
    return r;
}

ResampleMode mode_of(const Attributes& attributes, const OpDef& op) {
    ResampleMode mode;
    const std::string text = attributes.s("mode", "nearest");
    if (text == "nearest") mode.interpolation = Interpolation::nearest;
    else if (text == "linear" || text == "bilinear") mode.interpolation = Interpolation::linear;
    else if (text == "cubic" && !is_simple(op)) mode.interpolation = Interpolation::cubic;
    else fail(ErrorKind::invalid_graph, "mode '", text, "' is unknown");
    if (is_simple(op)) {
        mode.coordinates = Coordinates::asymmetric;
        mode.rounding = Rounding::simple;
        return mode;
    }
    constexpr std::pair<std::string_view, Coordinates> kCoordinates[] = {
        {"half_pixel", Coordinates::half_pixel},
        {"half_pixel_symmetric", Coordinates::half_pixel_symmetric},
        {"pytorch_half_pixel", Coordinates::pytorch_half_pixel},
        {"align_corners", Coordinates::align_corners},
        {"asymmetric", Coordinates::asymmetric},
        {"tf_half_pixel_for_nn", Coordinates::tf_half_pixel_for_nn},
        {"tf_crop_and_resize", Coordinates::tf_crop_and_resize},
    };
    constexpr std::pair<std::string_view, Rounding> kRoundings[] = {
        {"round_prefer_floor", Rounding::prefer_floor},
        {"round_prefer_ceil", Rounding::prefer_ceil},
        {"floor", Rounding::floor},
        {"ceil", Rounding::ceil},
    };
    const std::string coordinates = attributes.s("coordinate_transformation_mode", "half_pixel");
    const std::string rounding = attributes.s("nearest_mode", "round_prefer_floor");
    const auto* c = std::find_if(std::begin(kCoordinates), std::end(kCoordinates),
                                 [&](const auto& row) { return row.first == coordinates; });
    const auto* r = std::find_if(std::begin(kRoundings), std::end(kRoundings),
                                 [&](const auto& row) { return row.first == rounding; });
    require(c != std::end(kCoordinates), "coordinate_transformation_mode '", coordinates, "' is unknown");
    require(r != std::end(kRoundings), "nearest_mode '", rounding, "' is unknown");
    mode.coordinates = c->second;
    mode.rounding = r->second;
    mode.cubic_a = attributes.f("cubic_coeff_a", -0.75f);
    mode.extrapolation = attributes.f("extrapolation_value", 0);
    mode.exclude_outside = attributes.i("exclude_outside", 0) != 0;
    mode.antialias = attributes.i("antialias", 0) != 0;
    return mode;
}

DType result_dtype(const Attributes& attributes, DType x) {
    return static_cast<DType>(attributes.i("dtype", static_cast<int64_t>(x)));
}

void infer(InferContext& ctx) {
    const Fact& x = ctx.input(0);
    mode_of(ctx.attributes, ctx.op());
    if (!x.ranked) return ctx.output_unranked(0, result_dtype(ctx.attributes, x.dtype));
    const Request request = read_request(
        ctx.attributes, ctx.op(), x.shape, &ctx.dims, [&](int i) { return ctx.constant(i); },
        [&](int i) { return ctx.ints(i); });
    Shape out = x.shape;
    for (size_t i = 0; i < request.axes.size(); ++i) {
        const auto axis = static_cast<size_t>(request.axes[i]);
        out[axis] = request.out[i];
        if (is_number(out[axis]) && is_number(x.shape[axis]))
            require(x.shape[axis] > 0 || out[axis] == 0, "axis ", axis, " of size 0 cannot become ", out[axis]);
    }
    ctx.output(0, result_dtype(ctx.attributes, x.dtype), out);
}

std::optional<ByteScales> byte_scales(const Attributes& from, const OpDef& op) {
    if (op.domain != "linnet") return std::nullopt;
    const auto whole = [&](const char* name) { return static_cast<int32_t>(from.i(name, 0)); };
    return ByteScales{from.f("x_scale", 1), from.f("y_scale", 1), whole("x_zero"),
                      whole("y_zero"),      whole("lo"),          whole("hi")};
}

// Tables for what is known of the inputs: `input` gives those that are there.
Resampler make_resampler(const Attributes& attributes, const OpDef& op, const Shape& x, const Shape& y, DType dtype,
                         int threads, const std::function<const Tensor*(int)>& input) {
    const ResampleMode mode = mode_of(attributes, op);
    Shape sizes;
    const Request request = read_request(attributes, op, x, nullptr, input, [&](int i) -> const Shape* {
        const Tensor* t = input(i);
        if (!t) return nullptr;
        sizes = ints_of(*t);
        return &sizes;
    });
    if (!request.known) fail(ErrorKind::invalid_argument, "neither scales nor sizes are given");
    Resampler resampler;
    resampler.extrapolation = mode.extrapolation;
    resampler.scales = byte_scales(attributes, op);
    std::vector<float> roi;
    if (mode.coordinates == Coordinates::tf_crop_and_resize) {
        if (const Tensor* t = input(1)) roi = floats_of(*t);
        require(roi.size() == 2 * request.axes.size(), "roi has ", roi.size(), " entries, expected ",
                2 * request.axes.size());
    }
    for (size_t i = 0; i < request.axes.size(); ++i) {
        const auto axis = static_cast<size_t>(request.axes[i]);
        if (x[axis] == 0 || y[axis] == 0) continue;
        // Whole tables of an axis that stays are not made.
        if (x[axis] == y[axis] && request.scales[i] == 1.0f && roi.empty()) continue;
        AxisTable table =
            make_axis_table(mode, request.axes[i], x[axis], y[axis], request.scales[i], roi.empty() ? 0.0f : roi[i],
                            roi.empty() ? 1.0f : roi[request.axes.size() + i]);
        if (table.is_identity()) continue;
        auto at = resampler.tables.begin();  // by axis
        while (at != resampler.tables.end() && at->axis < table.axis) ++at;
        resampler.tables.insert(at, std::move(table));
    }
    resampler.prepare(dtype, x, y, threads);
    return resampler;
}

struct State {
    std::optional<Resampler> resampler;  // none: made in run(), when the inputs are there
};

std::shared_ptr<const void> prepare(PrepareContext& ctx) {
    auto state = std::make_shared<State>();
    const Operands at = operands_of(*ctx.node.op);
    bool constant = true;
    for (int i : {1, at.scales, at.sizes})
        if (i >= 1 && ctx.has_input(i) && !ctx.constant(i)) constant = false;
    if (!constant) return state;
    state->resampler = make_resampler(ctx.attributes, *ctx.node.op, ctx.input(0).shape, ctx.output(0).shape,
                                      ctx.input(0).dtype, ctx.threads, [&](int i) { return ctx.constant(i); });
    ctx.scratch(state->resampler->scratch_floats * sizeof(float));
    return state;
}

void run(RunContext& ctx) {
    const State& state = *ctx.state<State>();
    const Tensor& x = ctx.input(0);
    Tensor& y = ctx.output(0);
    if (state.resampler) return state.resampler->run(ctx.parallel(), x, y, reinterpret_cast<float*>(ctx.scratch()));
    const Resampler resampler =
        make_resampler(ctx.attributes, *ctx.node.op, x.shape, y.shape, x.dtype, ctx.parallel().threads,
                       [&](int i) { return ctx.has_input(i) ? &ctx.input(i) : nullptr; });
    std::vector<float> scratch(resampler.scratch_floats);
    resampler.run(ctx.parallel(), x, y, scratch.data());
}

bool permute(const Graph&, Node& node, const Shape& perm, Patch&) {
    if (node.attributes.has("height_scale")) return false;
    std::vector<int64_t> moved;
    for (int64_t axis : axes_of(node.attributes, static_cast<int64_t>(perm.size())))
        moved.push_back(std::find(perm.begin(), perm.end(), axis) - perm.begin());
    node.attributes.set("axes", std::move(moved));
    return true;
}

constexpr OpDef row(std::string_view name, int since, int least, int most) {
    return {.name = name,
            .since = since,
            .infer = infer,
            .run = run,
            .prepare = prepare,
            .permute = permute,
            .min_inputs = least,
            .max_inputs = most};
}

}  // namespace

std::span<const OpDef> resize_ops() {
    constexpr OpDef bytes = [] {
        OpDef made = row("QLinearResize", 1, 1, 4);
        made.domain = "linnet";
        return made;
    }();
    static const OpDef rows[] = {
        row("Resize", 10, 2, 2),  row("Resize", 11, 1, 4),  row("Upsample", 1, 1, 1),
        row("Upsample", 7, 1, 1), row("Upsample", 9, 2, 2), bytes,
    };
    return rows;
}

}  // namespace linnet
