// The list of registered operators, and how the steps of a plan reach their functions.
#include "graph/custom.h"

#include <algorithm>
#include <mutex>

namespace linnet {
namespace {

const CustomOp& custom(const OpDef* op) { return static_cast<const CustomOp&>(*op); }

void infer_custom(InferContext& ctx) {
    const CustomOp& op = custom(&ctx.op());
    if (op.infer_outputs) return op.infer_outputs(op, ctx);
    for (int i = 0; i < ctx.outputs(); ++i) ctx.output_unranked(i, DType::undefined);
}

// What infer said, for run to be held to.
using Said = std::vector<Fact>;

std::shared_ptr<const void> prepare_custom(PrepareContext& ctx) {
    auto said = std::make_shared<Said>();
    for (size_t i = 0; i < ctx.node.outputs.size(); ++i) said->push_back(ctx.output(static_cast<int>(i)));
    return said;
}

void run_custom(RunContext& ctx) {
    CustomRun run(ctx);
    custom(ctx.node.op).compute(custom(ctx.node.op), run);
    run.check_outputs();
}

std::string display_name(std::string_view domain, std::string_view name) {
    return cat(domain.empty() ? "ai.onnx" : domain, '.', name);
}

std::string_view normal(std::string_view domain) { return domain == "ai.onnx" ? std::string_view() : domain; }

// Both live as long as the process: functions of other languages must not be released when static objects are.
std::mutex& list_mutex() {
    static auto* mutex = new std::mutex;
    return *mutex;
}
std::shared_ptr<const CustomOps>& list() {
    static auto* current = new std::shared_ptr<const CustomOps>(std::make_shared<CustomOps>());
    return *current;
}

auto find_row(const CustomOps& ops, std::string_view domain, std::string_view name, int since) {
    return std::find_if(ops.rows.begin(), ops.rows.end(), [&](const auto& row) {
        return row->domain == normal(domain) && row->name == name && row->since == since;
    });
}

}  // namespace

CustomRun::CustomRun(RunContext& run) : context(run), context_(run), made_(static_cast<size_t>(run.outputs()), 0) {}

const Fact* CustomRun::fact(int i) const {
    const auto* said = context.state<Said>();
    return said && i >= 0 && static_cast<size_t>(i) < said->size() ? &(*said)[static_cast<size_t>(i)] : nullptr;
}

void CustomRun::check(int i, const Fact& given) {
    require(i >= 0, "there is no output ", i);
    if (!context.has_output(i)) return;
    if (made_[static_cast<size_t>(i)]++) fail(ErrorKind::invalid_argument, "output ", i, " is made twice");
    const Fact* said = fact(i);
    if (!said || said->dtype == DType::undefined) return;
    bool same = said->kind == given.kind && (given.kind != Value::Kind::tensor || said->dtype == given.dtype);
    if (same && said->ranked && given.ranked) {
        same = said->rank() == given.rank();
        for (size_t d = 0; same && d < given.shape.size(); ++d)
            same = !is_number(said->shape[d]) || said->shape[d] == given.shape[d];
    }
    if (same) return;
    const DimTable none;
    fail(ErrorKind::invalid_argument, "output ", i, " is ", fact_text(given, none), " where infer has said ",
         said->is_static() ? fact_text(*said, none) : cat(dtype_name(said->dtype), ' ', shape_text(said->shape)));
}

Tensor& CustomRun::allocate(int i, DType dtype, const Shape& shape) {
    element_count(shape);
    check(i, Fact::of(dtype, shape));
    if (!context.has_output(i)) {
        unused_.push_back(std::make_unique<Tensor>(Tensor::allocate(dtype, shape)));
        return *unused_.back();
    }
    Tensor& planned = context_.output(i);
    return planned.defined() ? planned : context_.allocate(i, dtype, shape);
}

void CustomRun::put(int i, const Value& value) {
    if (value.kind == Value::Kind::tensor && value.tensor.owner == nullptr) {
        copy_elements(value.tensor, allocate(i, value.tensor.dtype, value.tensor.shape));
        return;
    }
    Fact given;
    given.kind = value.kind;
    if (value.kind == Value::Kind::tensor) given = Fact::of(value.tensor.dtype, value.tensor.shape);
    check(i, given);
    if (!context.has_output(i)) return;
    Tensor& planned = context_.output(i);
    if (planned.defined()) copy_elements(value.tensor, planned);
    else context_.set_value(i, value);
}

void CustomRun::check_outputs() const {
    for (int i = 0; i < context.outputs(); ++i)
        if (context.has_output(i) && !made_[static_cast<size_t>(i)])
            fail(ErrorKind::runtime, "the operator has made no output ", i);
}

CustomOp::CustomOp(std::string in_domain, std::string op_name, int from)
    : domain_text(normal(in_domain)), name_text(std::move(op_name)) {
    domain = domain_text;
    name = name_text;
    since = from;
    infer = infer_custom;
    prepare = prepare_custom;
    run = run_custom;
    flags = kOpen | kRandom;  // it may count its calls: never run early, never merged
}

const OpDef* CustomOps::find(std::string_view domain, std::string_view name, int64_t version) const {
    const OpDef* best = nullptr;
    for (const auto& row : rows)
        if (row->domain == normal(domain) && row->name == name && row->since <= version &&
            (!best || row->since > best->since))
            best = row.get();
    return best;
}

std::shared_ptr<const CustomOps> custom_ops() {
    std::lock_guard lock(list_mutex());
    return list();
}

void register_op(std::shared_ptr<const CustomOp> op) {
    const std::string text = display_name(op->domain, op->name);
    auto refuse = [&](const char* why) { fail(ErrorKind::invalid_argument, "operator ", text, why); };
    if (op->name.empty() || op->since < 1) refuse(": a name and a version from 1 on are needed");
    if (!op->compute) refuse(": a function to run is needed");
    if (op->domain == "linnet") refuse(": the domain 'linnet' holds internal operators; take one of your own");
    for (const OpDef* own : all_ops())
        if (own->domain == op->domain && own->name == op->name)
            refuse(" is one of Linnet's own; register yours in a domain of your own");
    std::lock_guard lock(list_mutex());
    if (find_row(*list(), op->domain, op->name, op->since) != list()->rows.end())
        refuse(cat(" is registered already with version ", op->since, "; unregister it first").c_str());
    auto next = std::make_shared<CustomOps>(*list());
    next->rows.push_back(std::move(op));
    list() = std::move(next);
}

void unregister_op(std::string_view domain, std::string_view name, int since) {
    std::shared_ptr<const CustomOps> last;  // released after the lock
    std::lock_guard lock(list_mutex());
    auto next = std::make_shared<CustomOps>(*list());
    const auto found = find_row(*next, domain, name, since);
    if (found == next->rows.end())
        fail(ErrorKind::invalid_argument, "operator ", display_name(normal(domain), name),
             " is not registered with version ", since);
    next->rows.erase(found);
    last = std::move(list());
    list() = std::move(next);
}

}  // namespace linnet
