// What the machine can do at most: bytes read from memory per second, and products of bytes summed per second, on one thread and on
// several. Prints one line of JSON. Built by bounds.py for the machine that it runs on.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#define REGISTER "x"
#elif defined(__aarch64__)
#include <arm_neon.h>
#define REGISTER "w"
#else
#define REGISTER "r"
#endif

namespace {

constexpr size_t kBytes = size_t{1} << 28;  // for each thread, far more than caches hold
constexpr size_t kRounds = 1 << 21;
constexpr int kChains = 10;  // independent sums, enough to hide the latency of each

uint64_t read_all(const uint64_t* x) {
    uint64_t sums[16] = {};
    for (size_t i = 0; i < kBytes / 8; i += 64) {
        __builtin_prefetch(x + i + 512);
        for (int k = 0; k < 64; ++k) sums[k % 16] += x[i + k];
    }
    uint64_t sum = 0;
    for (const uint64_t s : sums) sum += s;
    return sum;
}

// Products of bytes that one round of `dots` sums.
#if defined(__AVX512VNNI__)
using Ints = __m512i;
constexpr size_t kProducts = 64;
Ints dot(Ints sum, Ints x) { return _mm512_dpbusd_epi32(sum, x, x); }
#elif defined(__AVX2__)
using Ints = __m256i;
constexpr size_t kProducts = 32;
Ints dot(Ints sum, Ints x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), _mm256_set1_epi16(1))); }
#elif defined(__ARM_FEATURE_DOTPROD)
using Ints = int32x4_t;
constexpr size_t kProducts = 16;
Ints dot(Ints sum, Ints x) { return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(x)); }
#else
using Ints = int32_t;
constexpr size_t kProducts = 1;
Ints dot(Ints sum, Ints x) { return sum + int8_t(x) * int8_t(x); }
#endif

void dots() {
    Ints sums[kChains] = {}, x{};
    for (size_t i = 0; i < kRounds; ++i) {
        for (auto& sum : sums) {
            sum = dot(sum, x);
            asm volatile("" : "+" REGISTER(sum));  // each product is made, in a register
        }
    }
}

// The least time of several runs on `threads` threads at once.
double best(size_t threads, const std::function<void(size_t)>& work) {
    double least = 1e9;
    for (int run = 0; run < 7; ++run) {
        const auto start = std::chrono::steady_clock::now();
        std::vector<std::thread> all;
        for (size_t t = 0; t < threads; ++t) all.emplace_back(work, t);
        for (auto& thread : all) thread.join();
        const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        if (s < least) least = s;
    }
    return least;
}

}  // namespace

int main(int, char** arguments) {
    const auto threads = static_cast<size_t>(std::atoi(arguments[1]));
    std::vector<std::vector<uint64_t>> memory(threads, std::vector<uint64_t>(kBytes / 8, 1));
    volatile uint64_t sink = 0;
    const double reading = best(threads, [&](size_t t) { sink = read_all(memory[t].data()); });
    const double summing = best(threads, [](size_t) { dots(); });
    std::printf("{\"bytes_per_second\": %.4g, \"products_per_second\": %.4g}\n", double(threads * kBytes) / reading,
                double(threads * kRounds * kChains * kProducts) / summing);
}
