// Keys and values of the tokens seen so far, and the scratch memory of a forward pass. One cache serves one call at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "config.h"

namespace leanto {

// Memory that the system commits only as it is touched.
struct Buffer {
    std::unique_ptr<float[]> data;
    size_t size = 0;

    float* reserve(size_t wanted) {
        if (wanted > size) {
            data.reset(new float[wanted]);
            size = wanted;
        }
        return data.get();
    }
};

struct Workspace {
    Buffer hidden, normed, rotated, query, key, value, attended, fused, gate, up, delta, logits;
    Buffer low_rank, input_scales, rotation_scratch, scores, cosine, sine;
    std::vector<int8_t> input_codes, tiles;
};

class Model;

class Cache {
  public:
    Cache(const Model& model, const ModelConfig& config, size_t capacity);  // throws std::invalid_argument or std::bad_alloc

    size_t length() const { return length_; }
    size_t capacity() const { return capacity_; }
    void truncate(size_t length);  // throws std::invalid_argument if longer than length()

  private:
    friend class Model;
    friend class Forward;

    // (capacity, head_dim) of one head of one layer
    float* keys(size_t layer, size_t head) { return keys_.get() + (layer * heads_ + head) * capacity_ * head_dim_; }
    float* values(size_t layer, size_t head) { return values_.get() + (layer * heads_ + head) * capacity_ * head_dim_; }

    const Model* model_;
    size_t heads_, head_dim_, capacity_;
    std::atomic<size_t> length_ = 0;  // written under in_use_, read by anyone
    std::unique_ptr<float[]> keys_, values_;
    Workspace work_;
    std::mutex in_use_;
};

}  // namespace leanto
