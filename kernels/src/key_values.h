// Keys and values of some heads by position, in the form that a cache keeps them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "lines.h"
#include "table.h"

namespace leanto {

Storage storage_of(const std::string& name);  // throws std::invalid_argument for a name that is none

class KeyValues {
  public:
    // Throws std::invalid_argument or std::bad_alloc.
    KeyValues(size_t heads, size_t capacity, size_t head_dim, Storage storage);

    HeadCache head(size_t head) const;
    // Rounds a key and a value, (head_dim,), into a head's place for a position.
    void put(const Kernels& kernels, size_t head, size_t position, const float* key, const float* value);
    size_t bytes_per_token() const;

  private:
    size_t place(size_t at) const { return at * head_dim_ * element_bytes_; }

    size_t heads_, capacity_, head_dim_, element_bytes_;
    Storage storage_;
    Lines<uint8_t> keys_, values_;            // (heads, capacity, head_dim)
    Lines<float> key_scales_, value_scales_;  // (heads, capacity); of int8 alone
};

}  // namespace leanto
