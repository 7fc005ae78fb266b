// The C interface to operators that a program registers.
#include <algorithm>
#include <memory>
#include <vector>

#include "bindings/c.h"
#include "graph/custom.h"

using namespace linnet;
using namespace linnet::c;

struct linnet_node {
    explicit linnet_node(InferContext& context) : attributes(context.attributes), infer(&context) {}
    explicit linnet_node(CustomRun& context) : attributes(context.context.attributes), run(&context) {}

    const Attributes& attributes;
    InferContext* infer = nullptr;  // one of the two is set
    CustomRun* run = nullptr;
    mutable std::vector<std::unique_ptr<linnet_value>> values;  // handles that belong to the node
    bool failed = false;                                        // by linnet_node_fail, with last_error

    const linnet_value* hold(Value value) const {
        values.emplace_back(new linnet_value{std::move(value)});
        return values.back().get();
    }
    size_t inputs() const { return static_cast<size_t>(infer ? infer->inputs() : run->context.inputs()); }
    size_t outputs() const { return static_cast<size_t>(infer ? infer->outputs() : run->context.outputs()); }
    bool has_input(int i) const { return infer ? infer->has_input(i) : run->context.has_input(i); }
};

namespace {

int index_of(const linnet_node& node, size_t index) {
    if (index >= node.inputs()) refuse("input ", index, " of ", node.inputs());
    return static_cast<int>(index);
}

ErrorKind kind_of(linnet_status status) {
    for (int kind = 0; kind <= static_cast<int>(ErrorKind::cancelled); ++kind)
        if (status_of(static_cast<ErrorKind>(kind)) == status) return static_cast<ErrorKind>(kind);
    return ErrorKind::runtime;
}

void call(linnet_status (*function)(linnet_node*, void*), linnet_node& node, void* context) {
    last_error.clear();
    const linnet_status status = function(&node, context);
    if (status == LINNET_OK) return;
    const ErrorKind own = node.infer ? ErrorKind::invalid_graph : ErrorKind::runtime;
    const char* text = last_error.empty() ? linnet_status_text(status) : last_error.c_str();
    fail(node.failed ? own : kind_of(status), text);
}

struct CallbackOp : CustomOp {
    explicit CallbackOp(const linnet_operator& op)
        : CustomOp(&needed(op.domain, "domain"), &needed(op.name, "name"), op.since_version), given(op) {
        if (given.infer)
            infer_outputs = [](const CustomOp& op, InferContext& ctx) {
                const linnet_operator& callbacks = static_cast<const CallbackOp&>(op).given;
                linnet_node node(ctx);
                call(callbacks.infer, node, callbacks.context);
            };
        if (given.run)
            compute = [](const CustomOp& op, CustomRun& run) {
                const linnet_operator& callbacks = static_cast<const CallbackOp&>(op).given;
                linnet_node node(run);
                call(callbacks.run, node, callbacks.context);
            };
    }
    const linnet_operator given;
};

// Null when the node has no such attribute.
const Attribute* find_attribute(const linnet_node* node, const char* name, size_t type) {
    const Attribute* found = needed(node, "node").attributes.find(&needed(name, "name"));
    if (found && found->data.index() != type) fail(ErrorKind::invalid_graph, "attribute '", name, "' has another type");
    return found;
}

// Calls each(value) with the attribute's value when the node has it.
template <class T, class Fn>
linnet_status attribute(const linnet_node* node, const char* name, const Fn& each) {
    return guarded([&] {
        if (const Attribute* found = find_attribute(node, name, Attribute::Data(T()).index()))
            each(*std::get_if<T>(&found->data));
    });
}

template <class T>
linnet_status list_attribute(const linnet_node* node, const char* name, const T** values, size_t* count) {
    return attribute<std::vector<T>>(node, name, [&](const std::vector<T>& list) {
        needed(values, "values") = list.data();
        needed(count, "count") = list.size();
    });
}

}  // namespace

extern "C" {

linnet_status linnet_operator_register(const linnet_operator* op) {
    return guarded([&] { register_op(std::make_shared<CallbackOp>(needed(op, "op"))); });
}

linnet_status linnet_operator_unregister(const char* domain, const char* name, int since_version) {
    return guarded([&] { unregister_op(&needed(domain, "domain"), &needed(name, "name"), since_version); });
}

linnet_status linnet_node_fail(linnet_node* node, const char* text) {
    if (node) node->failed = true;
    return report(LINNET_FAIL, text ? text : "");
}

size_t linnet_node_input_count(const linnet_node* node) { return node ? node->inputs() : 0; }
size_t linnet_node_output_count(const linnet_node* node) { return node ? node->outputs() : 0; }

linnet_status linnet_node_int(const linnet_node* node, const char* name, int64_t* value) {
    return attribute<int64_t>(node, name, [&](int64_t v) { needed(value, "value") = v; });
}
linnet_status linnet_node_float(const linnet_node* node, const char* name, float* value) {
    return attribute<float>(node, name, [&](float v) { needed(value, "value") = v; });
}
linnet_status linnet_node_string(const linnet_node* node, const char* name, const char** text, size_t* length) {
    return attribute<std::string>(node, name, [&](const std::string& v) {
        needed(text, "text") = v.c_str();
        if (length) *length = v.size();
    });
}
linnet_status linnet_node_ints(const linnet_node* node, const char* name, const int64_t** values, size_t* count) {
    return list_attribute(node, name, values, count);
}
linnet_status linnet_node_floats(const linnet_node* node, const char* name, const float** values, size_t* count) {
    return list_attribute(node, name, values, count);
}
linnet_status linnet_node_tensor(const linnet_node* node, const char* name, const linnet_value** value) {
    return attribute<Tensor>(node, name, [&](const Tensor& t) { needed(value, "value") = node->hold(t); });
}

linnet_status linnet_node_input(linnet_node* node, size_t index, const linnet_value** value) {
    return guarded([&] {
        const int i = index_of(needed(node, "node"), index);
        needed(value, "value") = nullptr;
        if (node->infer) {
            if (const Tensor* t = node->infer->constant(i); t && (t->data || t->count() == 0)) *value = node->hold(*t);
        } else if (node->has_input(i)) {
            *value = node->hold(node->run->context.value(i));
        }
    });
}

linnet_status linnet_node_input_type(linnet_node* node, size_t index, linnet_dtype* dtype, const int64_t** dims,
                                     int64_t* rank) {
    return guarded([&] {
        const int i = index_of(needed(node, "node"), index);
        DType type = DType::undefined;
        const Shape* shape = nullptr;
        if (node->has_input(i) && node->infer) {
            const Fact& fact = node->infer->input(i);
            type = fact.dtype;
            if (fact.ranked) shape = &fact.shape;
        } else if (node->has_input(i) && node->run->context.value(i).kind == Value::Kind::tensor) {
            type = node->run->context.input(i).dtype;
            shape = &node->run->context.input(i).shape;
        }
        if (dtype) *dtype = static_cast<linnet_dtype>(type);
        if (rank) *rank = shape ? static_cast<int64_t>(shape->size()) : -1;
        if (dims) *dims = shape ? shape->data() : nullptr;
    });
}

linnet_status linnet_node_infer(linnet_node* node, size_t index, linnet_dtype dtype, const int64_t* dims,
                                int64_t rank) {
    return guarded([&] {
        InferContext* infer = needed(node, "node").infer;
        if (!infer) refuse("linnet_node_infer is for 'infer', not for 'run'");
        Fact fact = Fact::unranked(dtype == LINNET_UNDEFINED ? DType::undefined : dtype_from(dtype));
        fact.ranked = rank >= 0;
        if (rank > static_cast<int64_t>(kMostDims)) refuse("rank ", rank, " is more than ", kMostDims);
        if (rank > 0) needed(dims, "dims");
        for (int64_t d = 0; d < rank; ++d) {
            const int64_t size = dims[d];
            if (is_number(size)) {
                fact.shape.push_back(size >= 0 ? size : kUnknownDim);
                continue;
            }
            // What is not known yet comes from an input.
            bool known = size == kUnknownDim;
            for (int i = 0; i < infer->inputs() && !known; ++i)
                if (infer->has_input(i))
                    for (int64_t own : infer->input(i).shape) known = known || own == size;
            if (!known) refuse("size ", d, " of output ", index, " was calculated from a size that is not known yet");
            fact.shape.push_back(size);
        }
        infer->output(static_cast<int>(std::min<size_t>(index, node->outputs())), std::move(fact));
    });
}

linnet_status linnet_node_allocate(linnet_node* node, size_t index, linnet_dtype dtype, const int64_t* dims,
                                   size_t rank, void** data) {
    return guarded([&] {
        CustomRun* run = needed(node, "node").run;
        if (!run) refuse("linnet_node_allocate is for 'run', not for 'infer'");
        const DType type = dtype_from(dtype);
        if (type == DType::string) refuse("strings are given by linnet_node_put");
        needed(data, "data");
        *data = run->allocate(static_cast<int>(std::min<size_t>(index, node->outputs())), type, shape_from(dims, rank))
                    .data;
    });
}

linnet_status linnet_node_put(linnet_node* node, size_t index, const linnet_value* value) {
    return guarded([&] {
        CustomRun* run = needed(node, "node").run;
        if (!run) refuse("linnet_node_put is for 'run', not for 'infer'");
        run->put(static_cast<int>(std::min<size_t>(index, node->outputs())), needed(value, "value").value);
    });
}

}  // extern "C"
