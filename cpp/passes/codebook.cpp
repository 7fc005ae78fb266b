// Tensors of constants that standard operators put together from a codebook and indices of a byte, two of which may
// share one, become one Codebook: Gather(book, Cast(bytes)) and Gather(book, Concat(Sub(p, Mul(Div(p, 16), 16)),
// Div(p, 16))) with p = Cast(bytes). An Add of 0, n, 2 n ... along an axis chooses among books of n values there. A
// Gather of rows of such a tensor picks codes first.
#include "passes/codebook.h"

#include "ops/shared/codebook.h"

namespace linnet {
namespace {

// An int32 that says 16.
bool is_sixteen(const Graph& graph, ValueId value) {
    const Tensor* t = graph.constant(value);
    return t && t->data && t->dtype == DType::i32 && t->count() == 1 && *t->as<int32_t>() == 16;
}

// Reads the operators in front of a value, and remembers them.
class Reader {
  public:
    explicit Reader(const Graph& graph) : graph_(graph) {}
    std::vector<NodeId> nodes;

    const Node* producer(ValueId value, std::string_view op_type) {
        const Node* node = graph_.producer(value, op_type);
        if (node) nodes.push_back(graph_.value(value).producer);
        return node;
    }
    // The constant bytes behind a Cast to int32.
    ValueId bytes(ValueId value) {
        const Node* cast = producer(value, "Cast");
        if (!cast || graph_.fact(value).dtype != DType::i32) return kNoValue;
        const Tensor* codes = graph_.constant(cast->inputs[0]);
        return codes && codes->dtype == DType::u8 ? cast->inputs[0] : kNoValue;
    }
    // p of Div(p, 16).
    ValueId divided(ValueId value) {
        const Node* div = producer(value, "Div");
        return div && is_sixteen(graph_, div->inputs[1]) ? div->inputs[0] : kNoValue;
    }
    // p of Sub(p, Mul(Div(p, 16), 16)).
    ValueId rest(ValueId value) {
        const Node* sub = producer(value, "Sub");
        const Node* mul = sub ? producer(sub->inputs[1], "Mul") : nullptr;
        if (!mul || !is_sixteen(graph_, mul->inputs[1]) || divided(mul->inputs[0]) != sub->inputs[0]) return kNoValue;
        return sub->inputs[0];
    }

    // Takes the Add of where books begin off `index`, and gives their axis.
    int64_t books(ValueId& index, int64_t values) {
        const Node* add = producer(index, "Add");
        const Tensor* starts = add ? graph_.constant(add->inputs[1]) : nullptr;
        if (!starts || !starts->data || starts->dtype != DType::i32) return kOneBook;
        const int64_t count = starts->count();
        const Shape& shape = starts->shape;
        const Fact &sum = graph_.fact(index), &codes = graph_.fact(add->inputs[0]);
        if (count < 2 || values % count || !codes.ranked || codes.shape != sum.shape ||
            shape.size() != sum.shape.size())
            return kOneBook;
        for (int64_t i = 0; i < count; ++i)
            if (starts->as<int32_t>()[i] != values / count * i) return kOneBook;
        for (size_t axis = 0; axis < shape.size(); ++axis) {
            if (shape[axis] != count || sum.shape[axis] != count) continue;
            index = add->inputs[0];
            return static_cast<int64_t>(axis);
        }
        return kOneBook;
    }

  private:
    const Graph& graph_;
};

}  // namespace

std::optional<CodedTensor> coded_tensor(const Graph& graph, NodeId id) {
    const Node& gather = graph.node(id);
    if (gather.op_type != "Gather" || !gather.domain.empty()) return std::nullopt;
    const Tensor* book = graph.constant(gather.inputs[0]);
    if (!book || book->dtype != DType::f32 || book->rank() != 1) return std::nullopt;
    CodedTensor coded;
    coded.book = gather.inputs[0];
    Reader reader(graph);
    ValueId index = gather.inputs[1];
    coded.axis = reader.books(index, book->count());
    if (const Node* concat = reader.producer(index, "Concat")) {
        if (concat->inputs.size() != 2 || !graph.fact(index).ranked) return std::nullopt;
        const ValueId low = reader.rest(concat->inputs[0]), high = reader.divided(concat->inputs[1]);
        if (low == kNoValue || low != high) return std::nullopt;
        coded.codes = reader.bytes(low);
        coded.pairs = normal_axis(concat->attributes.i("axis", 0), graph.fact(index).rank());
    } else {
        coded.codes = reader.bytes(index);
        coded.pairs = kNoPairs;
    }
    if (coded.codes == kNoValue) return std::nullopt;
    coded.nodes = std::move(reader.nodes);
    coded.nodes.push_back(id);
    return coded;
}

bool read_codes(const Graph& graph, NodeId id, Patch& patch) {
    const auto coded = coded_tensor(graph, id);
    if (!coded) return false;
    Attributes attributes;
    if (coded->axis != kOneBook) attributes.set("axis", coded->axis);
    if (coded->pairs != kNoPairs) attributes.set("pairs", coded->pairs);
    patch.replace(graph.node(id).outputs[0], patch.node("Codebook", {coded->codes, coded->book}, attributes, "linnet"));
    return true;
}

// In a smaller table, which a cache holds, floats are found as fast.
constexpr int64_t kLeastTable = 256 * 1024;

bool gather_codes(const Graph& graph, NodeId id, Patch& patch) {
    const Node& gather = graph.node(id);
    if (gather.op_type != "Gather" || !gather.domain.empty()) return false;
    const Node* table = graph.producer(gather.inputs[0], "Codebook", "linnet");
    const Fact& rows = graph.fact(gather.inputs[1]);
    if (!table || table->attributes.has("axis") || !graph.constant(table->inputs[0]) || !rows.ranked || rows.constant)
        return false;
    const Fact& all = graph.fact(gather.inputs[0]);
    const int64_t axis = normal_axis(gather.attributes.i("axis", 0), all.rank());
    const int64_t pairs = table->attributes.i("pairs", kNoPairs);
    if (pairs == axis || element_count(all.shape) < kLeastTable) return false;
    Node codes = copy_of(gather);
    codes.inputs[0] = table->inputs[0];
    Node made = copy_of(*table);
    made.inputs[0] = patch.node(std::move(codes), 1)[0];
    if (pairs > axis) made.attributes.set("pairs", pairs + static_cast<int64_t>(rows.rank()) - 1);
    patch.replace(gather.outputs[0], patch.node(std::move(made), 1)[0]);
    return true;
}

}  // namespace linnet
