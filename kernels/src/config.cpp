// Refuses configs on which the arithmetic of a model would overflow or make no sense.
#include "config.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace leanto {
namespace {

constexpr size_t kMostUnits = size_t{1} << 24;  // keeps every product of two sizes far from overflow

void demand(bool condition, const char* message) {
    if (!condition) throw std::invalid_argument(std::string("config: ") + message);
}

bool positive(float x) { return x > 0.0f && std::isfinite(x); }
bool not_negative(float x) { return x >= 0.0f && std::isfinite(x); }
bool all_finite(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

// One number for each layer, or none at all.
bool fits_layers(const std::vector<int64_t>& values, size_t layers, int64_t least, int64_t most) {
    return (values.empty() || values.size() == layers) &&
           std::all_of(values.begin(), values.end(), [&](int64_t value) { return value >= least && value <= most; });
}

}  // namespace

void ModelConfig::check() const {
    for (const size_t size : {hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, vocab_size})
        demand(size >= 1 && size <= kMostUnits, "sizes must lie in 1..2^24");
    demand(num_heads % num_kv_heads == 0, "num_heads must be a multiple of num_kv_heads");
    demand(head_dim % 2 == 0, "head_dim must be even");
    demand(query_size() <= kMostUnits, "num_heads * head_dim is too large");
    demand(vocab_size >= 2, "vocab_size must be at least 2");
    demand(not_negative(rms_norm_eps), "rms_norm_eps must not be negative");
    demand(positive(attention_scale), "attention_scale must be positive");
    demand(not_negative(attention_softcap) && not_negative(logit_softcap), "a softcap must not be negative");
    demand(positive(embedding_scale), "embedding_scale must be positive");
    demand(std::isfinite(norm_offset), "norm_offset must be finite");
    demand(!ropes.empty(), "ropes must hold at least one table");
    for (const Rope& rope : ropes) {
        const size_t pairs = rope.frequencies.size();
        demand(pairs == rotary_pairs() && 2 * pairs <= head_dim, "ropes must all turn the same number of pairs within a head");
        demand(rope.long_frequencies.empty() || rope.long_frequencies.size() == pairs, "long_frequencies must be as many as frequencies");
        demand(all_finite(rope.frequencies) && all_finite(rope.long_frequencies), "frequencies must be finite");
        demand(positive(rope.scale), "the scale of a rope must be positive");
    }
    demand(fits_layers(layer_ropes, num_layers, -1, static_cast<int64_t>(ropes.size()) - 1),
           "layer_ropes must name a rope for every layer, or -1");
    demand(fits_layers(layer_windows, num_layers, 0, INT64_MAX), "layer_windows must have a number of tokens for every layer, or 0");
}

}  // namespace leanto
