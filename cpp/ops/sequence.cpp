// Sequences of tensors: SequenceEmpty, SequenceConstruct, SequenceInsert, SequenceErase, SequenceAt, SequenceLength
// (11), SplitToSequence (11, 24), ConcatFromSequence (11) and SequenceMap (17).
#include <algorithm>

#include "base/held_memory.h"
#include "ops/shared/body.h"
#include "ops/shared/facts.h"
#include "ops/shared/join.h"

namespace linnet {
namespace {

Fact sequence_of(const Fact& element) {
    Fact fact = without_value(element);
    fact.kind = Value::Kind::sequence;
    return fact;
}

// Input i as the fact of a sequence; one that says nothing passes.
Fact sequence_fact(const InferContext& ctx, int i) {
    const Fact& fact = ctx.input(i);
    require((fact.kind == Value::Kind::sequence && !fact.optional) || says_nothing(fact), "input ", i,
            " must be a sequence");
    return fact;
}

// What an element of the sequence is.
Fact element_of(Fact sequence) {
    sequence.kind = Value::Kind::tensor;
    return sequence;
}

const std::vector<Value>& items_of(const RunContext& ctx, int i) {
    const Value& value = ctx.value(i);
    if (value.kind != Value::Kind::sequence) fail(ErrorKind::invalid_argument, "input ", i, " must be a sequence");
    return *value.items;
}

const Tensor& tensor_of(const RunContext& ctx, int i) {
    const Value& value = ctx.value(i);
    if (value.kind != Value::Kind::tensor) fail(ErrorKind::invalid_argument, "input ", i, " must be a tensor");
    return value.tensor;
}

// A position in [0, last], counted from the end when negative.
int64_t position_of(const RunContext& ctx, int i, int64_t size, int64_t last) {
    const Tensor& tensor = tensor_of(ctx, i);
    if ((tensor.dtype != DType::i64 && tensor.dtype != DType::i32) || tensor.count() != 1)
        fail(ErrorKind::invalid_argument, "a position must be one int32 or int64");
    const int64_t position = int_at(tensor, 0);
    if (position < -size || position > last)
        fail(ErrorKind::invalid_argument, "position ", position, " is outside [", -size, ", ", last,
             "] in a sequence of ", size);
    return position < 0 ? position + size : position;
}

void infer_empty(InferContext& ctx) {
    const int64_t number = ctx.attributes.i("dtype", static_cast<int64_t>(DType::f32));
    require(number > 0 && number < kDTypeCount, "dtype ", number, " is no element type");
    ctx.output(0, sequence_of(Fact::unranked(static_cast<DType>(number))));
}
void run_empty(RunContext& ctx) { ctx.set_value(0, Value::sequence({})); }

void infer_construct(InferContext& ctx) {
    Fact all = without_value(tensor_input(ctx, 0));
    for (int i = 1; i < ctx.inputs(); ++i) {
        const Fact& input = tensor_input(ctx, i);
        require(input.dtype == all.dtype || input.dtype == DType::undefined || all.dtype == DType::undefined, "input ",
                i, " is ", dtype_name(input.dtype), ", input 0 is ", dtype_name(all.dtype));
        all = merge_facts(all, input);
    }
    ctx.output(0, sequence_of(all));
}
void run_construct(RunContext& ctx) {
    std::vector<Value> items;
    for (int i = 0; i < ctx.inputs(); ++i) items.push_back(tensor_of(ctx, i));
    ctx.set_value(0, Value::sequence(std::move(items)));
}

void infer_insert(InferContext& ctx) {
    const Fact sequence = sequence_fact(ctx, 0);
    const Fact& tensor = tensor_input(ctx, 1);
    require(tensor.dtype == sequence.dtype || tensor.dtype == DType::undefined || sequence.dtype == DType::undefined,
            "the tensor is ", dtype_name(tensor.dtype), ", the sequence holds ", dtype_name(sequence.dtype));
    // An empty sequence says nothing of shapes, so what it is said to hold stays unranked.
    Fact all = says_nothing(sequence) ? Fact::unranked(tensor.dtype) : merge_facts(element_of(sequence), tensor);
    ctx.output(0, sequence_of(all));
}
void run_insert(RunContext& ctx) {
    std::vector<Value> items = items_of(ctx, 0);
    const auto size = static_cast<int64_t>(items.size());
    const Tensor& tensor = tensor_of(ctx, 1);
    if (!items.empty() && items[0].tensor.dtype != tensor.dtype)
        fail(ErrorKind::invalid_argument, "a ", dtype_name(tensor.dtype), " tensor for a sequence of ",
             dtype_name(items[0].tensor.dtype));
    const int64_t position = ctx.has_input(2) ? position_of(ctx, 2, size, size) : size;
    items.insert(items.begin() + position, tensor);
    ctx.set_value(0, Value::sequence(std::move(items)));
}

void infer_erase(InferContext& ctx) { ctx.output(0, sequence_of(sequence_fact(ctx, 0))); }
void run_erase(RunContext& ctx) {
    std::vector<Value> items = items_of(ctx, 0);
    const auto size = static_cast<int64_t>(items.size());
    if (size == 0) fail(ErrorKind::invalid_argument, "nothing to erase in an empty sequence");
    items.erase(items.begin() + (ctx.has_input(1) ? position_of(ctx, 1, size, size - 1) : size - 1));
    ctx.set_value(0, Value::sequence(std::move(items)));
}

void infer_at(InferContext& ctx) { ctx.output(0, element_of(sequence_fact(ctx, 0))); }
void run_at(RunContext& ctx) {
    const auto& items = items_of(ctx, 0);
    const auto size = static_cast<int64_t>(items.size());
    ctx.set_value(0, items[static_cast<size_t>(position_of(ctx, 1, size, size - 1))]);
}

void infer_length(InferContext& ctx) {
    sequence_fact(ctx, 0);
    ctx.output(0, DType::i64, {});
}
void run_length(RunContext& ctx) {
    *ctx.allocate(0, DType::i64, {}).as<int64_t>() = static_cast<int64_t>(items_of(ctx, 0).size());
}

void infer_split(InferContext& ctx) {
    const Fact& data = tensor_input(ctx, 0);
    if (ctx.has_input(1)) {
        const DType split = tensor_input(ctx, 1).dtype;
        require(split == DType::i64 || split == DType::i32 || split == DType::undefined, "split is ", dtype_name(split),
                ", expected int32 or int64");
    }
    Fact part = Fact::unranked(data.dtype);
    if (data.ranked) {
        const auto axis = static_cast<size_t>(normal_axis(ctx.attributes.i("axis", 0), data.rank()));
        part = Fact::of(data.dtype, data.shape);
        if (ctx.has_input(1)) part.shape[axis] = kUnknownDim;
        else if (ctx.attributes.i("keepdims", 1)) part.shape[axis] = 1;
        else part.shape.erase(part.shape.begin() + axis);
    }
    ctx.output(0, sequence_of(part));
}
void run_split(RunContext& ctx) {
    const Tensor& x = tensor_of(ctx, 0);
    const int64_t axis = normal_axis(ctx.attributes.i("axis", 0), x.rank());
    const int64_t size = x.shape[static_cast<size_t>(axis)];
    Shape sizes;
    bool drop = false;
    const HeldMemory list(checked_mul(size, static_cast<int64_t>(sizeof(int64_t))));
    if (!ctx.has_input(1)) {
        sizes.resize(static_cast<size_t>(size), 1);
        drop = ctx.attributes.i("keepdims", 1) == 0;
    } else if (const Tensor& split = tensor_of(ctx, 1); split.rank() == 0) {
        const int64_t each = int_at(split, 0);
        if (each <= 0) fail(ErrorKind::invalid_argument, "parts of size ", each);
        for (int64_t at = 0; at < size; at += std::min(each, size - at)) sizes.push_back(std::min(each, size - at));
    } else {
        sizes = ints_of(split);
        int64_t sum = 0;
        for (int64_t part : sizes) {
            if (part < 0) fail(ErrorKind::invalid_argument, "a part of size ", part);
            sum = checked_add(sum, part);
        }
        if (sum != size) fail(ErrorKind::invalid_argument, "split sums to ", sum, ", axis ", axis, " has size ", size);
    }
    std::vector<Value> parts;
    int64_t at = 0;
    for (int64_t part : sizes) {
        Tensor piece = cut(ctx.parallel(), x, axis, at, part);
        if (drop) {
            Shape shape = piece.shape;
            shape.erase(shape.begin() + axis);
            piece = reshaped(std::move(piece), shape);
        }
        parts.push_back(std::move(piece));
        at += part;
    }
    ctx.set_value(0, Value::sequence(std::move(parts)));
}

void infer_concat(InferContext& ctx) {
    const Fact sequence = sequence_fact(ctx, 0);
    require(ctx.attributes.has("axis"), "attribute axis is missing");
    Fact out = element_of(sequence);
    if (out.ranked) {
        const bool new_axis = ctx.attributes.i("new_axis", 0) != 0;
        const int64_t axis = normal_axis(ctx.attributes.i("axis", 0), out.rank() + (new_axis ? 1 : 0));
        if (new_axis) out.shape.insert(out.shape.begin() + axis, kUnknownDim);
        else out.shape[static_cast<size_t>(axis)] = kUnknownDim;
    }
    ctx.output(0, std::move(out));
}
void run_concat(RunContext& ctx) {
    std::vector<Tensor> parts;
    for (const Value& item : items_of(ctx, 0)) parts.push_back(item.tensor);
    if (parts.empty()) fail(ErrorKind::invalid_argument, "cannot join an empty sequence");
    const bool new_axis = ctx.attributes.i("new_axis", 0) != 0;
    const int64_t axis = normal_axis(ctx.attributes.i("axis", 0), parts[0].rank() + (new_axis ? 1 : 0));
    ctx.set_value(0, join(ctx.parallel(), parts, axis, new_axis));
}

void infer_map(InferContext& ctx) {
    std::vector<Fact> formal;
    sequence_fact(ctx, 0);
    for (int i = 0; i < ctx.inputs(); ++i) {
        const Fact fact = without_value(ctx.input(i));
        formal.push_back(fact.kind == Value::Kind::sequence ? element_of(fact) : fact);
    }
    const auto results = ctx.subgraph("body", formal);
    require(static_cast<int>(results.size()) >= ctx.outputs(), "the body has ", results.size(), " outputs, the node ",
            ctx.outputs());
    for (int i = 0; i < ctx.outputs(); ++i) ctx.output(i, sequence_of(results[static_cast<size_t>(i)]));
}
void run_map(RunContext& ctx) {
    const size_t count = items_of(ctx, 0).size();
    for (int i = 1; i < ctx.inputs(); ++i)
        if (ctx.value(i).kind == Value::Kind::sequence && items_of(ctx, i).size() != count)
            fail(ErrorKind::invalid_argument, "sequences of ", count, " and ", items_of(ctx, i).size(), " items");
    std::vector<std::vector<Value>> results(static_cast<size_t>(ctx.outputs()));
    for (size_t item = 0; item < count; ++item) {
        std::vector<Value> formal;
        for (int i = 0; i < ctx.inputs(); ++i)
            formal.push_back(ctx.value(i).kind == Value::Kind::sequence ? items_of(ctx, i)[item] : ctx.value(i));
        auto out = ctx.subgraph("body", std::move(formal));
        for (size_t i = 0; i < results.size(); ++i) results[i].push_back(std::move(out[i]));
    }
    for (int i = 0; i < ctx.outputs(); ++i)
        ctx.set_value(i, Value::sequence(std::move(results[static_cast<size_t>(i)])));
}

constexpr OpDef row(std::string_view name, int since, void (*infer)(InferContext&), void (*run)(RunContext&),
                    int min_inputs, int max_inputs) {
    return {.name = name,
            .since = since,
            .infer = infer,
            .run = run,
            .flags = kDynamic,
            .min_inputs = min_inputs,
            .max_inputs = max_inputs};
}

}  // namespace

std::span<const OpDef> sequence_ops() {
    static const OpDef rows[] = {
        row("SequenceEmpty", 11, infer_empty, run_empty, 0, 0),
        row("SequenceConstruct", 11, infer_construct, run_construct, 1, -1),
        row("SequenceInsert", 11, infer_insert, run_insert, 2, 3),
        row("SequenceErase", 11, infer_erase, run_erase, 1, 2),
        row("SequenceAt", 11, infer_at, run_at, 2, 2),
        row("SequenceLength", 11, infer_length, run_length, 1, 1),
        row("SplitToSequence", 11, infer_split, run_split, 1, 2),
        row("ConcatFromSequence", 11, infer_concat, run_concat, 1, 1),
        row("SequenceMap", 17, infer_map, run_map, 1, -1),
    };
    return rows;
}

}  // namespace linnet
