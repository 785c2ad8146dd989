// Chooses the instruction set: the best that the CPU has, unless LEANTO_ISA or choose_isa says otherwise. A wish that cannot be met is an
// error of the first call, never passed over.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "table.h"

#if defined(LEANTO_AVX2) && defined(_MSC_VER)
#include <immintrin.h>
#include <intrin.h>
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

const Kernels* find(const char* name) {
    if (std::strcmp(name, "scalar") == 0) return &portable_kernels();
#ifdef LEANTO_AVX2
    if (std::strcmp(name, "avx2") == 0 && has_avx2()) return &avx2_kernels();
#endif
#ifdef LEANTO_AVX512
    if (std::strcmp(name, "avx512") == 0 && has_avx512()) return &avx512_kernels();
#endif
    return nullptr;
}

const Kernels* first_choice() {
    const char* wish = std::getenv("LEANTO_ISA");
    if (wish && *wish) {
        if (const Kernels* found = find(wish)) return found;
        throw std::invalid_argument("LEANTO_ISA=" + std::string(wish) +
                                    " names no instruction set of this machine: set avx512, avx2 or scalar, or unset it for the best that there is");
    }
    for (const char* name : {"avx512", "avx2"})
        if (const Kernels* best = find(name)) return best;
    return find("scalar");
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

}  // namespace leanto
