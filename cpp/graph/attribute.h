// Attributes of a node, as values.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "graph/fact.h"

namespace linnet {

struct Graph;

struct Attribute {
    using Data = std::variant<int64_t, float, std::string, std::vector<int64_t>, std::vector<float>,
                              std::vector<std::string>, Tensor, std::vector<Tensor>, std::shared_ptr<Graph>, Fact>;
    std::string name;
    Data data;
};

class Attributes {
  public:
    Attributes();
    Attributes(const Attributes&);
    Attributes(Attributes&&) noexcept;
    Attributes& operator=(const Attributes&);
    Attributes& operator=(Attributes&&) noexcept;
    ~Attributes();

    // The attribute's value, or the default when it is absent. Throws invalid_graph when it has another type.
    int64_t i(std::string_view name, int64_t absent) const;
    float f(std::string_view name, float absent) const;
    std::string s(std::string_view name, const std::string& absent) const;  // a copy: the default may be a temporary
    std::vector<int64_t> ints(std::string_view name, std::vector<int64_t> absent = {}) const;
    std::vector<float> floats(std::string_view name, std::vector<float> absent = {}) const;
    std::vector<std::string> strings(std::string_view name, std::vector<std::string> absent = {}) const;
    const Tensor* t(std::string_view name) const;                  // null when absent
    const std::shared_ptr<Graph>* g(std::string_view name) const;  // null when absent
    const Fact* type(std::string_view name) const;                 // a TypeProto; null when absent

    bool has(std::string_view name) const { return find(name) != nullptr; }
    const Attribute* find(std::string_view name) const;
    Attributes& set(std::string name, Attribute::Data data);  // replaces or appends; for chaining
    void erase(std::string_view name);
    std::vector<Attribute>& items() noexcept { return items_; }
    const std::vector<Attribute>& items() const noexcept { return items_; }

  private:
    template <class T>
    const T* get(std::string_view name) const;
    std::vector<Attribute> items_;
};

}  // namespace linnet
