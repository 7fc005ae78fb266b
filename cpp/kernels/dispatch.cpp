// The table of kernels in use: the best that this CPU runs, or the one that LINNET_ISA names.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/kernels.h"

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace linnet::kernels {

namespace generic {
extern const Kernels table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#elif defined(__aarch64__)
namespace neon {
extern const Kernels table;
}
namespace neon_dot {
extern const Kernels table;
}
#endif

namespace {

bool always() { return true; }

#if defined(__x86_64__)
// The compiler's runtime asks cpuid, and xgetbv whether the system saves the wide registers.
bool has_avx2() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx");
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
bool has_dot() {
#if defined(__linux__)
    constexpr unsigned long asimddp = 1ul << 20;
    return (getauxval(AT_HWCAP) & asimddp) != 0;
#else
    return true;  // every 64-bit Apple machine that runs a current system
#endif
}
#endif

struct Row {
    const Kernels* table;
    bool (*supported)();
};
constexpr Row rows[] = {
#if defined(__x86_64__)
    {&avx512::table, has_avx512},
    {&avx2::table, has_avx2},
#elif defined(__aarch64__)
    {&neon_dot::table, has_dot},
    {&neon::table, always},
#endif
    {&generic::table, always},
};

std::atomic<const Kernels*> current{nullptr};

const Kernels& best() {
    for (const Row& row : rows)
        if (row.supported()) return *row.table;
    return generic::table;
}

}  // namespace

const char* const* kernel_names() noexcept {
    static const char* const names[] = {
#if defined(__x86_64__)
        "avx512",
        "avx2",
#elif defined(__aarch64__)
        "neon_dot",
        "neon",
#endif
        "generic",
        nullptr
    };
    return names;
}

const Kernels* kernels_for(const char* name) noexcept {
    for (const Row& row : rows)
        if (name && std::strcmp(row.table->isa, name) == 0) return row.supported() ? row.table : nullptr;
    return nullptr;
}

const Kernels& select_kernels(const char* name) {
    if (!name || !*name) name = std::getenv("LINNET_ISA");
    const Kernels* chosen = name && *name ? kernels_for(name) : &best();
    if (!chosen) {
        std::string known;
        for (const char* const* n = kernel_names(); *n; ++n)
            if (kernels_for(*n)) known += std::string(known.empty() ? "" : ", ") + *n;
        throw std::runtime_error("instruction set '" + std::string(name) +
                                 "' (LINNET_ISA) is unknown or not supported by this CPU; it can run: " + known);
    }
    current.store(chosen, std::memory_order_release);
    return *chosen;
}

const Kernels& kernels() noexcept {
    const Kernels* chosen = current.load(std::memory_order_acquire);
    if (!chosen) {
        const char* name = std::getenv("LINNET_ISA");
        chosen = name && *name ? kernels_for(name) : nullptr;
        if (!chosen) chosen = &best();
        current.store(chosen, std::memory_order_release);
    }
    return *chosen;
}

}  // namespace linnet::kernels
