// Keys and values of the tokens seen so far, and the scratch memory of a forward pass. One cache serves one call at a time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "config.h"
#include "key_values.h"
#include "lines.h"

namespace leanto {

struct Workspace {
    Lines<float> hidden, normed, rotated, query, key, value, attended, fused, gate, up, delta, logits;
    Lines<float> low_rank, input_scales, rotation_scratch, attention_scratch, cosine, sine;
    Lines<int8_t> input_codes, tiles;
};

class Model;

class Cache {
  public:
    // Throws std::invalid_argument or std::bad_alloc.
    Cache(const Model& model, const ModelConfig& config, size_t capacity, Storage storage);

    size_t length() const { return length_; }
    size_t capacity() const { return capacity_; }
    size_t bytes_per_token() const { return key_values_.bytes_per_token(); }
    void truncate(size_t length);  // throws std::invalid_argument if longer than length()
    // The hidden state (hidden_size,), after the final norm, that the last logits were made of; throws std::invalid_argument without any.
    std::vector<float> state();

  private:
    friend class Model;
    friend class Forward;

    const Model* model_;
    size_t capacity_;
    std::atomic<size_t> length_ = 0;  // written under in_use_, read by anyone
    KeyValues key_values_;            // of the heads of all layers, layer by layer
    Workspace work_;
    size_t hidden_size_;
    std::optional<size_t> state_row_;  // of work_.normed
    std::mutex in_use_;
};

}  // namespace leanto
