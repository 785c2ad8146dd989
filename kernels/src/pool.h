// A small persistent thread pool for loops over rows. One loop runs at a time; a caller that finds the pool busy does its loop alone.
// Threads do not survive a fork: the child's pool starts its own.
#pragma once

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

    // Calls body(begin, end, worker) until [0, count) is covered in runs of `chunk`, on up to `threads` threads, the caller (worker 0)
    // among them. The body must not throw. With threads == 1 the pool is not touched.
    template <class Body> void run(int threads, size_t count, size_t chunk, const Body& body) {
        if (threads <= 1 || count <= chunk || !busy_.try_lock()) {
            for (size_t begin = 0; begin < count; begin += chunk) body(begin, count - begin < chunk ? count : begin + chunk, 0);
            return;
        }
        run_shared(
            threads, count, chunk,
            [](const void* b, size_t begin, size_t end, int worker) { (*static_cast<const Body*>(b))(begin, end, worker); }, &body);
        busy_.unlock();
    }

  private:
    using Call = void (*)(const void* body, size_t begin, size_t end, int worker);

    void run_shared(int threads, size_t count, size_t chunk, Call call, const void* body);
    void work(int worker);
    void serve(int worker);

    std::mutex busy_;                      // held for the length of one loop
    std::atomic<uint32_t> generation_{0};  // counts loops; workers wait for it to change
    std::atomic<int> open_{0};             // workers 1..open_-1 may join the loop
    std::atomic<int> inside_{0};           // workers that may be using the fields below
    int started_ = 1;                      // threads that exist, the caller counted
    std::atomic<size_t> next_{0};
    size_t count_ = 0, chunk_ = 1;
    Call call_ = nullptr;
    const void* body_ = nullptr;
};

}  // namespace leanto
