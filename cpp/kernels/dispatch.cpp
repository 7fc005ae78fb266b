// The table of kernels in use: the best that this CPU runs, or the one that LINNET_ISA names.
#include <cstdlib>
#include <cstring>

#include "kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#ifdef LINNET_AMX
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(__aarch64__) && defined(__linux__)
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
#ifdef LINNET_AMX
extern const Kernels table_amx;
#endif
}  // namespace avx512
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
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;  // f16c by hand: GCC 10 does not know its name
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &eax, &ebx, &ecx, &edx) &&
           (ecx & bit_F16C) != 0;
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}
#ifdef LINNET_AMX
bool has_amx() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    constexpr unsigned tile = 1u << 24, int8 = 1u << 25, osxsave = 1u << 27;
    if (!has_avx512() || !__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) || (edx & tile) == 0 || (edx & int8) == 0)
        return false;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || (ecx & osxsave) == 0) return false;
    __asm__("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
    constexpr unsigned tile_state = 3u << 17;
    if ((eax & tile_state) != tile_state) return false;
    // Linux gives the 8 KB of tile data to those who ask, once for the whole process.
    constexpr long req_xcomp_perm = 0x1023, tile_data = 18;
    static const bool granted = syscall(SYS_arch_prctl, req_xcomp_perm, tile_data) == 0;
    return granted;
}
#endif
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
#ifdef LINNET_AMX
    {&avx512::table_amx, has_amx},
#endif
    {&avx512::table, has_avx512},
    {&avx2::table, has_avx2},
#elif defined(__aarch64__)
    {&neon_dot::table, has_dot},
    {&neon::table, always},
#endif
    {&generic::table, always},
};

const Kernels& best() {
    for (const Row& row : rows)
        if (row.supported()) return *row.table;
    return generic::table;
}

}  // namespace

const char* const* kernel_names() noexcept {
    static const char* const names[] = {
#if defined(__x86_64__)
#ifdef LINNET_AMX
        "amx",
#endif
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

const Kernels& kernels() noexcept {
    static const Kernels& chosen = [&]() -> const Kernels& {
        const Kernels* asked = kernels_for(std::getenv("LINNET_ISA"));
        return asked ? *asked : best();
    }();
    return chosen;
}

}  // namespace linnet::kernels
