// Memory from a cache line's beginning on, not initialized: the system commits it only as it is touched.
#pragma once

#include <cstddef>
#include <memory>
#include <new>

namespace leanto {

template <class T> class Lines {
  public:
    Lines() = default;
    explicit Lines(size_t size) : data_(static_cast<T*>(::operator new(size * sizeof(T), kLine))), size_(size) {}

    T* get() const { return data_.get(); }

    // At least `wanted` elements; if they are more than there were, the old ones are lost.
    T* reserve(size_t wanted) {
        if (wanted > size_) *this = Lines(wanted);
        return get();
    }

  private:
    static constexpr std::align_val_t kLine{64};
    struct Free {
        void operator()(T* p) const { ::operator delete(p, kLine); }
    };
    std::unique_ptr<T, Free> data_;
    size_t size_ = 0;
};

}  // namespace leanto
