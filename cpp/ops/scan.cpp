// Scan (9 ... 25: scan_input_axes, scan_output_axes and their directions; 8: batches of sequences of given lengths).
#include <algorithm>

#include "ops/shared/body.h"
#include "ops/shared/copy.h"
#include "ops/shared/facts.h"
#include "ops/shared/join.h"

namespace linnet {
namespace {

// How the inputs and outputs of a node divide, and its attributes with their defaults.
struct Layout {
    size_t states = 0, scanned = 0, stacked = 0;
    std::vector<int64_t> in_axes, out_axes;
    std::vector<int64_t> in_backwards, out_backwards;
};

std::vector<int64_t> list_of(const Attributes& attributes, const char* name, size_t length) {
    auto list = attributes.ints(name);
    if (list.empty()) list.assign(length, 0);
    require(list.size() == length, name, " has ", list.size(), " values, expected ", length);
    return list;
}

Layout layout_of(const Node& node) {
    const bool batched = node.op->since < 9;
    const auto inputs = static_cast<int64_t>(node.inputs.size()) - node.captures - (batched ? 1 : 0);
    const int64_t scanned = node.attributes.i("num_scan_inputs", 0);
    require(scanned >= 1 && scanned <= inputs, "num_scan_inputs is ", scanned, ", the node has ", inputs, " inputs");
    Layout l;
    l.scanned = static_cast<size_t>(scanned);
    l.states = static_cast<size_t>(inputs - scanned);
    const size_t results = body_of(node, "body").outputs.size();
    require(results >= l.states && node.outputs.size() <= results, "the body has ", results, " outputs, the node ",
            node.outputs.size());
    l.stacked = results - l.states;
    if (batched) {
        l.in_axes.assign(l.scanned, 0);
        l.in_backwards = list_of(node.attributes, "directions", l.scanned);
        l.out_axes.assign(l.stacked, 0);
        l.out_backwards.assign(l.stacked, 0);
    } else {
        l.in_axes = list_of(node.attributes, "scan_input_axes", l.scanned);
        l.in_backwards = list_of(node.attributes, "scan_input_directions", l.scanned);
        l.out_axes = list_of(node.attributes, "scan_output_axes", l.stacked);
        l.out_backwards = list_of(node.attributes, "scan_output_directions", l.stacked);
    }
    return l;
}

void infer_scan(InferContext& ctx) {
    const Layout l = layout_of(ctx.node());
    const bool batched = ctx.op().since < 9;
    const int first = batched ? 1 : 0;
    int64_t length = kUnknownDim, batch = kUnknownDim;
    // Without the batch axis, which the body does not see.
    auto plain = [&](const Fact& fact) {
        Fact f = without_value(fact);
        if (!batched || !f.ranked) return f;
        require(f.rank() >= 1, "an input of rank 0 has no batch axis");
        batch = same_dim(ctx.dims, batch, f.shape[0], "batch");
        f.shape.erase(f.shape.begin());
        return f;
    };
    std::vector<Fact> formal;
    for (size_t i = 0; i < l.states; ++i) formal.push_back(plain(ctx.input(first + static_cast<int>(i))));
    for (size_t i = 0; i < l.scanned; ++i) {
        Fact fact = plain(tensor_input(ctx, first + static_cast<int>(l.states + i)));
        if (fact.ranked) {
            const auto axis = static_cast<size_t>(normal_axis(l.in_axes[i], fact.rank(), "scan_input_axes"));
            length = same_dim(ctx.dims, length, fact.shape[axis], "scanned inputs");
            fact.shape.erase(fact.shape.begin() + axis);
        }
        formal.push_back(std::move(fact));
    }
    const auto results = settle_body(ctx, "body", formal, 0, 0, l.states);
    for (int i = 0; i < ctx.outputs(); ++i) {
        const auto index = static_cast<size_t>(i);
        Fact fact = without_value(results[index]);
        if (fact.ranked && index >= l.states) {
            const int64_t axis = normal_axis(l.out_axes[index - l.states], fact.rank() + 1, "scan_output_axes");
            fact.shape.insert(fact.shape.begin() + axis, length);
        }
        if (fact.ranked && batched) fact.shape.insert(fact.shape.begin(), batch);
        ctx.output(i, std::move(fact));
    }
}

// One scan: states and inputs in, states and stacked outputs out.
std::vector<Value> scan(const RunContext& ctx, const Layout& l, std::vector<Value> states,
                        const std::vector<Tensor>& inputs, int64_t length) {
    const Graph& body = body_of(ctx.node, "body");
    std::vector<std::vector<Tensor>> stacked(l.stacked);
    for (int64_t step = 0; step < length; ++step) {
        std::vector<Value> formal;
        for (Value& state : states) formal.push_back(std::move(state));
        for (size_t i = 0; i < l.scanned; ++i) {
            const int64_t axis = normal_axis(l.in_axes[i], inputs[i].rank());
            Tensor slice = cut(ctx.parallel(), inputs[i], axis, l.in_backwards[i] ? length - 1 - step : step, 1);
            Shape shape = slice.shape;
            shape.erase(shape.begin() + axis);
            formal.push_back(reshaped(std::move(slice), shape));
        }
        auto out = ctx.subgraph("body", std::move(formal));
        for (size_t i = 0; i < l.states; ++i) states[i] = std::move(out[i]);
        for (size_t i = 0; i < l.stacked; ++i) {
            if (out[l.states + i].kind != Value::Kind::tensor)
                fail(ErrorKind::invalid_argument, "a stacked output of a scan must be a tensor");
            stacked[i].push_back(std::move(out[l.states + i].tensor));
        }
    }
    for (size_t i = 0; i < l.stacked; ++i) {
        if (stacked[i].empty()) {
            states.push_back(empty_stack(body, l.states + i, l.out_axes[i]));
            continue;
        }
        if (l.out_backwards[i]) std::reverse(stacked[i].begin(), stacked[i].end());
        const int64_t axis = normal_axis(l.out_axes[i], stacked[i][0].rank() + 1);
        states.push_back(join(ctx.parallel(), stacked[i], axis, true));
    }
    return states;
}

// The common size of the scanned inputs.
int64_t length_of(const std::vector<Tensor>& inputs, const std::vector<int64_t>& axes) {
    int64_t length = -1;
    for (size_t i = 0; i < inputs.size(); ++i) {
        const int64_t size = inputs[i].shape[static_cast<size_t>(normal_axis(axes[i], inputs[i].rank()))];
        if (length >= 0 && size != length)
            fail(ErrorKind::invalid_argument, "scanned inputs have sizes ", length, " and ", size);
        length = size;
    }
    return length;
}

Tensor scanned_input(const RunContext& ctx, size_t index) {
    const Value& value = ctx.value(static_cast<int>(index));
    if (value.kind != Value::Kind::tensor) fail(ErrorKind::invalid_argument, "scanned inputs must be tensors");
    return value.tensor;
}

void run_scan(RunContext& ctx) {
    const Layout l = layout_of(ctx.node);
    std::vector<Value> states;
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < l.states; ++i) states.push_back(ctx.value(static_cast<int>(i)));
    for (size_t i = 0; i < l.scanned; ++i) inputs.push_back(scanned_input(ctx, l.states + i));
    auto results = scan(ctx, l, std::move(states), inputs, length_of(inputs, l.in_axes));
    for (int i = 0; i < ctx.outputs(); ++i) ctx.set_value(i, std::move(results[static_cast<size_t>(i)]));
}

// Sample `index` of a batch, without the batch axis.
Tensor sample_of(const RunContext& ctx, const Tensor& tensor, int64_t index) {
    Tensor sample = cut(ctx.parallel(), tensor, 0, index, 1);
    return reshaped(sample, Shape(tensor.shape.begin() + 1, tensor.shape.end()));
}

// The stacked output of one sample, with zeros behind its end; `like` has the shape of a sample's steps.
Tensor lengthened(const RunContext& ctx, const Tensor& tensor, const Tensor& like, int64_t length) {
    if (tensor.shape[0] == length) return tensor;
    Shape shape = like.shape;
    shape[0] = length;
    Tensor longer = Tensor::allocate(tensor.dtype, shape);
    if (tensor.dtype != DType::string && longer.count() > 0) __builtin_memset(longer.data, 0, longer.bytes());
    copy_flat(ctx.parallel(), tensor.dtype, std::min(tensor.count(), longer.count()), tensor.data, longer.data);
    return longer;
}

void run_scan_8(RunContext& ctx) {
    const Layout l = layout_of(ctx.node);
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < l.states + l.scanned; ++i) {
        inputs.push_back(scanned_input(ctx, i + 1));
        if (inputs[i].rank() < (i < l.states ? 1 : 2) || inputs[i].shape[0] != inputs[0].shape[0])
            fail(ErrorKind::invalid_argument, "input ", i + 1, " of shape ", shape_text(inputs[i].shape),
                 " does not have the batch (and sequence) axis");
    }
    const int64_t batch = inputs[0].shape[0];
    const int64_t longest =
        length_of({inputs.begin() + static_cast<int64_t>(l.states), inputs.end()}, std::vector<int64_t>(l.scanned, 1));
    if (ctx.has_input(0) && (ctx.input(0).dtype != DType::i64 || ctx.input(0).count() != batch))
        fail(ErrorKind::invalid_argument, "sequence_lens must be ", batch, " int64 values");
    std::vector<std::vector<Tensor>> results(l.states + l.stacked);
    for (int64_t b = 0; b < batch; ++b) {
        const int64_t length = ctx.has_input(0) ? int_at(ctx.input(0), b) : longest;
        if (length < 0 || length > longest)
            fail(ErrorKind::invalid_argument, "sequence length ", length, " is outside [0, ", longest, "]");
        std::vector<Value> states;
        std::vector<Tensor> samples;
        for (size_t i = 0; i < inputs.size(); ++i) {
            Tensor sample = sample_of(ctx, inputs[i], b);
            if (i < l.states) states.push_back(std::move(sample));
            else samples.push_back(cut(ctx.parallel(), sample, 0, 0, length));
        }
        auto out = scan(ctx, l, std::move(states), samples, length);
        for (size_t i = 0; i < out.size(); ++i) {
            if (out[i].kind != Value::Kind::tensor) fail(ErrorKind::invalid_argument, "a state must be a tensor");
            results[i].push_back(out[i].tensor);
        }
    }
    for (int i = 0; i < ctx.outputs(); ++i) {
        const auto index = static_cast<size_t>(i);
        if (index >= l.states) {
            // A sample of no steps does not know what a step looks like.
            std::vector<Tensor>& all = results[index];
            const auto some = std::find_if(all.begin(), all.end(), [](const Tensor& t) { return t.shape[0] > 0; });
            const Tensor like = some != all.end() ? *some : Tensor();
            if (like.defined())
                for (Tensor& tensor : all) tensor = lengthened(ctx, tensor, like, longest);
        }
        if (batch > 0) ctx.set_value(i, join(ctx.parallel(), results[index], 0, true));
        else ctx.set_value(i, empty_stack(body_of(ctx.node, "body"), index));
    }
}

}  // namespace

std::span<const OpDef> scan_ops() {
    static const OpDef rows[] = {
        {.name = "Scan",
         .since = 8,
         .infer = infer_scan,
         .run = run_scan_8,
         .flags = kDynamic,
         .min_inputs = 2,
         .may_omit = 0b1},
        {.name = "Scan", .since = 9, .infer = infer_scan, .run = run_scan, .flags = kDynamic, .min_inputs = 1},
    };
    return rows;
}

}  // namespace linnet
