// Which models are served, by name; what a request's version or label stands for. A model's entry is replaced as a
// whole: a request sees the old one or the new one.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/served.h"

namespace linnet::serve {

struct ModelEntry {
    std::vector<std::shared_ptr<Served>> versions;  // that may be used; none: the model is known, but not ready
    std::map<std::string, int64_t> labels;          // "stable" -> 3
    std::map<int64_t, double> split;   // weights of requests that name no version; empty: all to `preferred`
    std::optional<int64_t> preferred;  // for requests that name no version; none: the highest
};

class Registry {
  public:
    void set(const std::string& name, ModelEntry entry);
    void remove(const std::string& name);
    // `version`: the text of a number, a label, or empty; `label`: a label, or empty. `key` settles the choice of a
    // weighted split: equal keys, equal versions. Throws Failure: not_found, unavailable (no version is ready).
    std::shared_ptr<Served> resolve(std::string_view name, std::string_view version, std::string_view label,
                                    uint64_t key) const;
    std::vector<std::pair<std::string, std::shared_ptr<const ModelEntry>>> all() const;

  private:
    mutable std::shared_mutex mutex_;
    std::map<std::string, std::shared_ptr<const ModelEntry>, std::less<>> models_;
};

}  // namespace linnet::serve
