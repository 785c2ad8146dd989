// Chooses the instruction set: the best that the CPU has, unless LEANTO_ISA or choose_isa says otherwise. A wish that cannot be met is an
// error of the first call, never passed over.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>

#include "table.h"

#if defined(LEANTO_AVX2) && defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
#endif
#if defined(LEANTO_NEON) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(LEANTO_NEON) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace leanto {
namespace {

#ifdef LEANTO_AVX2
bool has_avx2() {
#ifdef _MSC_VER
    int info[4];
    __cpuid(info, 1);
    const int needed = (1 << 12) | (1 << 27) | (1 << 28) | (1 << 29);  // FMA, OSXSAVE, AVX, F16C
    if ((info[2] & needed) != needed || (_xgetbv(0) & 6) != 6) return false;
    __cpuidex(info, 7, 0);
    return info[1] & (1 << 5);
#else
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
#endif
}
#endif

#ifdef LEANTO_AVX512
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef LEANTO_NEON
bool has_dotprod() {
#if defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) == 0 && has != 0;
#elif defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
#else
    return false;
#endif
}
#endif

bool always() { return true; }

struct Choice {
    const char* name;
    bool (*runs)();
    const Kernels& (*kernels)();
};

// Best first.
constexpr Choice kChoices[] = {
#ifdef LEANTO_AVX512
    {"avx512", has_avx512, avx512_kernels},
#endif
#ifdef LEANTO_AVX2
    {"avx2", has_avx2, avx2_kernels},
#endif
#ifdef LEANTO_NEON
    {"neon_dotprod", has_dotprod, neon_dotprod_kernels},
    {"neon", always, neon_kernels},
#endif
    {"scalar", always, portable_kernels},
};

const Kernels* find(const char* name) {
    for (const Choice& choice : kChoices)
        if (std::strcmp(name, choice.name) == 0 && choice.runs()) return &choice.kernels();
    return nullptr;
}

const Kernels* first_choice() {
    const char* wish = std::getenv("LEANTO_ISA");
    if (wish && *wish) {
        if (const Kernels* found = find(wish)) return found;
        throw std::invalid_argument("LEANTO_ISA=" + std::string(wish) + " names no instruction set of this machine: set " + isa_names() +
                                    ", or unset it for the best that there is");
    }
    for (const Choice& choice : kChoices)
        if (choice.runs()) return &choice.kernels();
    return nullptr;  // never: scalar always runs
}

std::atomic<const Kernels*>& chosen() {
    static std::atomic<const Kernels*> set{first_choice()};
    return set;
}

}  // namespace

const Kernels& kernels() { return *chosen().load(std::memory_order_relaxed); }

bool choose_isa(const char* name) {
    const Kernels* found = find(name);
    if (found) chosen().store(found, std::memory_order_relaxed);
    return found != nullptr;
}

const char* isa_names() {
    static const std::string names = [] {
        std::string joined;
        for (const Choice& choice : kChoices) {
            const bool last = &choice == std::end(kChoices) - 1;
            joined += joined.empty() ? choice.name : (last ? " or " : ", ") + std::string(choice.name);
        }
        return joined;
    }();
    return names.c_str();
}

}  // namespace leanto
