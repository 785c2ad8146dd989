// A small persistent thread pool for loops over rows. One loop runs at a time; a caller that finds the pool busy does its loop alone.
// Threads do not survive a fork: the child's pool starts its own.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <type_traits>

namespace leanto {

class Pool {
  public:
    static constexpr int kMaxThreads = 64;

    static Pool& shared();

    // Calls body(begin, end, worker) until [0, count) is covered, on up to `threads` threads, the caller (worker 0) among them: in long
    // runs first, so that memory is read as a stream, and in short ones towards the end, so that nobody waits long. The body must not
    // throw. With threads == 1 the pool is not touched.
    template <class Body> void run(int threads, size_t count, const Body& body) {
        if (count == 0) return;
        if (threads <= 1 || count == 1 || !busy_.try_lock()) return body(0, count, 0);
        run_shared(
            threads, count,
            [](const void* b, size_t begin, size_t end, int worker) { (*static_cast<const Body*>(b))(begin, end, worker); }, &body);
        busy_.unlock();
    }

  private:
    using Call = void (*)(const void* body, size_t begin, size_t end, int worker);

    void run_shared(int threads, size_t count, Call call, const void* body);
    void work(int worker);
    void serve(int worker);

    std::mutex busy_;                      // held for the length of one loop
    struct alignas(64) Summons {
        std::atomic<uint32_t> count{0};
    };
    std::array<Summons, kMaxThreads> summons_;  // of each worker to a loop; it waits for its own to change, so that none wakes for nothing
    std::atomic<int> open_{0};             // workers 1..open_-1 may join the loop
    std::atomic<int> inside_{0};           // workers that may be using the fields below
    int started_ = 1;                      // threads that exist, the caller counted
    std::atomic<size_t> next_{0};
    size_t count_ = 0, shares_ = 1;  // a run is one of so many shares of what is left
    Call call_ = nullptr;
    const void* body_ = nullptr;
};

}  // namespace leanto
