// Drives the thread pool from several callers at once; built with -fsanitize=thread by test_pool.py. Exits with 1 for a wrong result.
#include <cstdio>
#include <numeric>
#include <thread>
#include <vector>

#include "pool.h"

namespace {

constexpr int kCallers = 4, kLoops = 6000;

// Each loop writes plain memory that the caller wrote before it and reads after it: whatever the pool fails to order is a race.
bool call(size_t caller) {
    std::vector<size_t> out(257);
    for (size_t loop = 0; loop < kLoops; ++loop) {
        const size_t count = 1 + (loop * 37 + caller) % out.size();
        std::vector<size_t> by_worker(leanto::Pool::kMaxThreads);
        out.assign(out.size(), 0);
        leanto::Pool::shared().run(static_cast<int>(1 + loop % 4), count, [&](size_t begin, size_t end, int worker) {
            for (size_t i = begin; i < end; ++i) out[i] += i + loop;
            by_worker[static_cast<size_t>(worker)] += end - begin;
        });
        for (size_t i = 0; i < out.size(); ++i)
            if (out[i] != (i < count ? i + loop : 0)) return false;
        if (std::accumulate(by_worker.begin(), by_worker.end(), size_t{0}) != count) return false;
    }
    return true;
}

}  // namespace

int main() {
    std::vector<char> right(kCallers);
    std::vector<std::thread> callers;
    for (size_t i = 0; i < kCallers; ++i) callers.emplace_back([&right, i] { right[i] = call(i); });
    for (std::thread& caller : callers) caller.join();
    for (const char one : right)
        if (!one) return std::puts("a loop left something out, or did it twice"), 1;
    return 0;
}
