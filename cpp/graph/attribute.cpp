// Attributes of a node found by name, and what stands for an absent one.
#include "graph/attribute.h"

#include "base/error.h"

namespace linnet {

Attributes::Attributes() = default;
Attributes::Attributes(const Attributes&) = default;
Attributes::Attributes(Attributes&&) noexcept = default;
Attributes& Attributes::operator=(const Attributes&) = default;
Attributes& Attributes::operator=(Attributes&&) noexcept = default;
Attributes::~Attributes() = default;

const Attribute* Attributes::find(std::string_view name) const {
    for (const Attribute& a : items_)
        if (a.name == name) return &a;
    return nullptr;
}

template <class T>
const T* Attributes::get(std::string_view name) const {
    const Attribute* a = find(name);
    if (!a) return nullptr;
    const T* data = std::get_if<T>(&a->data);
    if (!data) fail(ErrorKind::invalid_graph, "attribute '", name, "' has the wrong type");
    return data;
}

int64_t Attributes::i(std::string_view name, int64_t absent) const {
    const auto* v = get<int64_t>(name);
    return v ? *v : absent;
}
float Attributes::f(std::string_view name, float absent) const {
    const auto* v = get<float>(name);
    return v ? *v : absent;
}
std::string Attributes::s(std::string_view name, const std::string& absent) const {
    const auto* v = get<std::string>(name);
    return v ? *v : absent;
}
std::vector<int64_t> Attributes::ints(std::string_view name, std::vector<int64_t> absent) const {
    const auto* v = get<std::vector<int64_t>>(name);
    return v ? *v : absent;
}
std::vector<float> Attributes::floats(std::string_view name, std::vector<float> absent) const {
    const auto* v = get<std::vector<float>>(name);
    return v ? *v : absent;
}
std::vector<std::string> Attributes::strings(std::string_view name, std::vector<std::string> absent) const {
    const auto* v = get<std::vector<std::string>>(name);
    return v ? *v : absent;
}
const Tensor* Attributes::t(std::string_view name) const { return get<Tensor>(name); }
const std::shared_ptr<Graph>* Attributes::g(std::string_view name) const { return get<std::shared_ptr<Graph>>(name); }
const Fact* Attributes::type(std::string_view name) const { return get<Fact>(name); }

Attributes& Attributes::set(std::string name, Attribute::Data data) {
    for (Attribute& a : items_) {
        if (a.name != name) continue;
        a.data = std::move(data);
        return *this;
    }
    items_.push_back({std::move(name), std::move(data)});
    return *this;
}

void Attributes::erase(std::string_view name) {
    std::erase_if(items_, [&](const Attribute& a) { return a.name == name; });
}

}  // namespace linnet
