// Common subexpressions: two nodes with the same operator, inputs and attributes give the same values.
#include <cstring>
#include <map>
#include <string>

#include "passes/pipeline.h"

namespace linnet {
namespace {

void put(std::string& key, const void* bytes, size_t size) { key.append(static_cast<const char*>(bytes), size); }

template <class T>
void put(std::string& key, const std::vector<T>& items) {
    const size_t count = items.size();
    put(key, &count, sizeof count);
    put(key, items.data(), count * sizeof(T));
}

// Small constants with equal elements count as one value.
constexpr size_t kSmallBytes = 4096;

bool put_tensor(std::string& key, const Tensor& t) {
    if (t.dtype == DType::string || t.bytes() > kSmallBytes) return false;
    key += static_cast<char>(t.dtype);
    const size_t rank = t.shape.size();
    put(key, &rank, sizeof rank);
    put(key, t.shape.data(), rank * sizeof(int64_t));
    put(key, t.data, t.bytes());
    return true;
}

bool put_attribute(std::string& key, const Attribute& a) {
    key += a.name;
    key += '\0';
    key += static_cast<char>(a.data.index());
    if (const auto* i = std::get_if<int64_t>(&a.data)) return put(key, i, sizeof *i), true;
    if (const auto* f = std::get_if<float>(&a.data)) return put(key, f, sizeof *f), true;
    if (const auto* is = std::get_if<std::vector<int64_t>>(&a.data)) return put(key, *is), true;
    if (const auto* fs = std::get_if<std::vector<float>>(&a.data)) return put(key, *fs), true;
    if (const auto* t = std::get_if<Tensor>(&a.data)) return put_tensor(key, *t);
    if (const auto* s = std::get_if<std::string>(&a.data)) {
        const size_t size = s->size();
        put(key, &size, sizeof size);
        key += *s;
        return true;
    }
    if (const auto* ss = std::get_if<std::vector<std::string>>(&a.data)) {
        for (const std::string& s : *ss) {
            const size_t size = s.size();
            put(key, &size, sizeof size);
            key += s;
        }
        return true;
    }
    return false;  // subgraphs, types: not compared
}

}  // namespace

bool merge_equal(Graph& graph) {
    std::map<std::string, ValueId> constants;
    std::vector<ValueId> canonical(graph.values.size());
    for (size_t v = 0; v < canonical.size(); ++v) {
        canonical[v] = static_cast<ValueId>(v);
        const auto& value = graph.values[v];
        if (value.users.empty() || !value.fact.constant) continue;
        std::string key;
        if (put_tensor(key, *value.fact.constant))
            canonical[v] = constants.try_emplace(std::move(key), static_cast<ValueId>(v)).first->second;
    }
    std::map<std::string, NodeId> seen;
    bool changed = false;
    for (NodeId id : graph.order) {
        const Node& n = graph.node(id);
        if (n.op->flags & kRandom || n.captures) continue;
        std::string key;
        put(key, &n.op, sizeof n.op);
        for (ValueId v : n.inputs) {
            const ValueId c = v == kNoValue ? v : canonical[static_cast<size_t>(v)];
            put(key, &c, sizeof c);
        }
        key += '|';
        for (ValueId v : n.outputs) key += v == kNoValue ? '0' : '1';
        bool comparable = true;
        for (const Attribute& a : n.attributes.items()) comparable = comparable && put_attribute(key, a);
        if (!comparable) continue;
        const auto [it, fresh] = seen.try_emplace(std::move(key), id);
        if (fresh) continue;
        const Node& first = graph.node(it->second);
        for (size_t i = 0; i < n.outputs.size(); ++i) {
            if (n.outputs[i] == kNoValue) continue;
            canonical[static_cast<size_t>(n.outputs[i])] = first.outputs[i];
            if (graph.value(n.outputs[i]).users.empty() && !graph.is_output(n.outputs[i])) continue;
            graph.replace_uses(n.outputs[i], first.outputs[i]);
            changed = true;
        }
    }
    if (changed) graph.remove_unused();
    return changed;
}

}  // namespace linnet
