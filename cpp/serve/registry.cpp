// Models by name; versions by number, label, weight or default.
#include "serve/registry.h"

#include <algorithm>
#include <charconv>
#include <mutex>

namespace linnet::serve {
namespace {

const std::shared_ptr<Served>* find_version(const ModelEntry& entry, int64_t number) {
    for (const auto& served : entry.versions)
        if (served->version == number) return &served;
    return nullptr;
}

std::optional<int64_t> as_number(std::string_view text) {
    int64_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return number;
}

// By weight among the versions that are there; none when no weight is left.
const std::shared_ptr<Served>* choose(const ModelEntry& entry, uint64_t key) {
    double total = 0;
    for (const auto& [number, weight] : entry.split) total += find_version(entry, number) ? weight : 0;
    if (!(total > 0)) return nullptr;
    // Mixes the bits (Fibonacci hashing): keys may be counters.
    const double at = static_cast<double>((key * 0x9e3779b97f4a7c15u) >> 11) / 9007199254740992.0 * total;
    double passed = 0;
    const std::shared_ptr<Served>* last = nullptr;
    for (const auto& [number, weight] : entry.split) {
        const auto* served = find_version(entry, number);
        if (!served || !(weight > 0)) continue;
        last = served;
        passed += weight;
        if (at < passed) break;
    }
    return last;
}

}  // namespace

void Registry::set(const std::string& name, ModelEntry entry) {
    auto fresh = std::make_shared<const ModelEntry>(std::move(entry));
    std::lock_guard lock(mutex_);
    models_[name].swap(fresh);
}

void Registry::remove(const std::string& name) {
    std::shared_ptr<const ModelEntry> gone;  // freed after the lock
    std::lock_guard lock(mutex_);
    const auto it = models_.find(name);
    if (it == models_.end()) return;
    gone = std::move(it->second);
    models_.erase(it);
}

std::shared_ptr<Served> Registry::resolve(std::string_view name, std::string_view version, std::string_view label,
                                          uint64_t key) const {
    std::shared_ptr<const ModelEntry> entry;
    {
        std::shared_lock lock(mutex_);
        const auto it = models_.find(name);
        if (it != models_.end()) entry = it->second;
    }
    if (!entry) refuse(Code::not_found, "there is no model '", name, "' here");
    if (entry->versions.empty())
        refuse(Code::unavailable, "model '", name,
               "' is not ready: it has no available version (the repository's index says why)");
    if (!label.empty()) {
        const auto it = entry->labels.find(std::string(label));
        if (it == entry->labels.end())
            refuse(Code::invalid_argument, "model '", name, "' has no version with the label '", label, "'");
        if (const auto* served = find_version(*entry, it->second)) return *served;
        refuse(Code::unavailable, "version ", it->second, " of model '", name, "', which the label '", label,
               "' stands for, is not ready");
    }
    if (!version.empty() && version != "-1") {
        std::optional<int64_t> number = as_number(version);
        if (!number) {
            const auto it = entry->labels.find(std::string(version));
            if (it != entry->labels.end()) number = it->second;
        }
        if (!number)
            refuse(Code::invalid_argument, "'", version, "' is neither a number nor a label of a version of model '",
                   name, "'");
        if (const auto* served = find_version(*entry, *number)) return *served;
        refuse(Code::not_found, "model '", name, "' has no version ", *number, " that is available");
    }
    if (const auto* served = choose(*entry, key)) return *served;
    if (entry->preferred)
        if (const auto* served = find_version(*entry, *entry->preferred)) return *served;
    return *std::max_element(entry->versions.begin(), entry->versions.end(),
                             [](const auto& a, const auto& b) { return a->version < b->version; });
}

std::vector<std::pair<std::string, std::shared_ptr<const ModelEntry>>> Registry::all() const {
    std::shared_lock lock(mutex_);
    return {models_.begin(), models_.end()};
}

}  // namespace linnet::serve
