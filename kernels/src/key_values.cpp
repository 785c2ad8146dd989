// Where each head's keys and values lie.
#include "key_values.h"

#include <cstring>
#include <stdexcept>

namespace leanto {
namespace {

constexpr size_t kMostValues = size_t{1} << 40;

}  // namespace

Storage storage_of(const std::string& name) {
    if (name == "float32") return Storage::float32;
    if (name == "float16") return Storage::float16;
    if (name == "int8") return Storage::int8;
    throw std::invalid_argument("a cache cannot keep '" + name + "': float32, float16 or int8");
}

KeyValues::KeyValues(size_t heads, size_t capacity, size_t head_dim, Storage storage)
    : heads_(heads), capacity_(capacity), head_dim_(head_dim),
      element_bytes_(storage == Storage::float32 ? 4 : storage == Storage::float16 ? 2 : 1), storage_(storage) {
    if (capacity > kMostValues / (heads * head_dim)) throw std::invalid_argument("a cache of that capacity would not fit in memory");
    keys_.reserve(place(heads * capacity));
    values_.reserve(place(heads * capacity));
    if (storage != Storage::int8) return;
    key_scales_.reserve(heads * capacity);
    value_scales_.reserve(heads * capacity);
}

HeadCache KeyValues::head(size_t head) const {
    const size_t at = head * capacity_;
    const bool scaled = storage_ == Storage::int8;
    return {storage_, keys_.get() + place(at), values_.get() + place(at), scaled ? key_scales_.get() + at : nullptr,
            scaled ? value_scales_.get() + at : nullptr};
}

void KeyValues::put(const Kernels& kernels, size_t head, size_t position, const float* key, const float* value) {
    const size_t at = head * capacity_ + position;
    const auto round = [&](const float* x, uint8_t* to, Lines<float>& scales) {
        switch (storage_) {
            case Storage::float32: std::memcpy(to, x, head_dim_ * sizeof(float)); break;
            case Storage::float16: kernels.to_half(x, head_dim_, reinterpret_cast<uint16_t*>(to)); break;
            case Storage::int8: scales.get()[at] = kernels.quantize(x, head_dim_, reinterpret_cast<int8_t*>(to)); break;
        }
    };
    round(key, keys_.get() + place(at), key_scales_);
    round(value, values_.get() + place(at), value_scales_);
}

size_t KeyValues::bytes_per_token() const {
    return 2 * heads_ * (head_dim_ * element_bytes_ + (storage_ == Storage::int8 ? sizeof(float) : 0));
}

}  // namespace leanto
