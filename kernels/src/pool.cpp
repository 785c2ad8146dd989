// Workers spin briefly for the next loop, then sleep on a futex. The caller never waits for a worker that has not joined its loop, so
// a busy machine costs at most one chunk. A forked child starts with a pool that has no workers yet, whatever they were doing.
#include "pool.h"

#include <algorithm>
#include <new>
#include <system_error>
#include <thread>

#if __has_include(<pthread.h>)
#include <pthread.h>
#endif

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace leanto {
namespace {

constexpr int kSpins = 2000;

alignas(Pool) std::byte place[sizeof(Pool)];

Pool* make_shared() {
#if __has_include(<pthread.h>)
    pthread_atfork(nullptr, nullptr, [] { new (place) Pool; });  // the child has a copy of the workers' state, but not the workers
#endif
    return new (place) Pool;
}

Pool* const pool = make_shared();  // before anyone can fork in the middle of it; never destroyed: its workers outlive static destructors

void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");  // most cores pass over the instruction named yield
#else
    std::this_thread::yield();
#endif
}

}  // namespace

Pool& Pool::shared() { return *pool; }

void Pool::run_shared(int threads, size_t count, Call call, const void* body) {
    threads = std::min(threads, kMaxThreads);
    try {
        for (; started_ < threads; ++started_) std::thread(&Pool::serve, this, started_).detach();
    } catch (const std::system_error&) {
        // No more threads to be had: those that exist do the work.
    }
    next_.store(0);
    count_ = count;
    shares_ = 2 * static_cast<size_t>(threads);
    call_ = call;
    body_ = body;
    open_.store(threads);
    for (int worker = 1; worker < std::min(threads, started_); ++worker) {
        summons_[static_cast<size_t>(worker)].count.fetch_add(1);
        summons_[static_cast<size_t>(worker)].count.notify_one();
    }
    work(0);
    open_.store(0);  // nobody joins from here on
    for (int spins = 0, inside; (inside = inside_.load()) != 0;) {
        if (++spins < kSpins) pause();
        else inside_.wait(inside);
    }
}

void Pool::work(int worker) {
    for (size_t begin = next_.load(), end; begin < count_;) {
        end = begin + std::max<size_t>(1, (count_ - begin) / shares_);
        if (!next_.compare_exchange_weak(begin, end)) continue;
        call_(body_, begin, end, worker);
        begin = next_.load();
    }
}

void Pool::serve(int worker) {
    std::atomic<uint32_t>& summons = summons_[static_cast<size_t>(worker)].count;
    for (uint32_t seen = 0;;) {
        uint32_t now = summons.load();
        for (int spins = 0; now == seen && spins < kSpins; ++spins) {
            pause();
            now = summons.load();
        }
        if (now == seen) {
            summons.wait(seen);
            continue;
        }
        seen = now;
        inside_.fetch_add(1);
        if (worker < open_.load()) work(worker);
        if (inside_.fetch_sub(1) == 1) inside_.notify_all();
    }
}

}  // namespace leanto
