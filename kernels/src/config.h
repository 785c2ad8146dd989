// What a decoder looks like: its sizes, and the few things in which architectures differ. The defaults are Llama's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace leanto {

// One way to turn heads by position.
struct Rope {
    std::vector<float> frequencies;       // radians for each position, of each turned pair
    std::vector<float> long_frequencies;  // the same in caches with room for over original_length tokens; empty: no difference
    size_t original_length = 0;
    float scale = 1.0f;  // of sines and cosines

    const std::vector<float>& in_cache_of(size_t capacity) const {
        return long_frequencies.empty() || capacity <= original_length ? frequencies : long_frequencies;
    }
};

enum class Activation { silu, gelu };  // gelu: its tanh approximation

struct ModelConfig {
    size_t hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, vocab_size;
    float rms_norm_eps;
    bool tie_embeddings;
    float attention_scale;  // of the products of queries and keys
    std::vector<Rope> ropes;

    std::vector<int64_t> layer_ropes;    // which of the ropes each layer uses, -1: none; empty: all use the first
    std::vector<int64_t> layer_windows;  // the latest tokens that each layer sees, 0: all; empty: all layers see all
    bool fused_projections = false;      // qkv_proj and gate_up_proj in the place of five matrices
    bool qkv_bias = false, output_bias = false, mlp_bias = false;
    bool head_norms = false;      // an RMS norm for queries and one for keys, head by head
    bool sandwich_norms = false;  // norms also behind attention and MLP, before they are added to the hidden state
    float norm_offset = 0.0f;     // added to the stored weights of norms
    Activation activation = Activation::silu;
    float attention_softcap = 0.0f, logit_softcap = 0.0f;  // 0: none
    float embedding_scale = 1.0f;

    size_t query_size() const { return num_heads * head_dim; }
    size_t kv_size() const { return num_kv_heads * head_dim; }
    size_t rotary_pairs() const { return ropes.front().frequencies.size(); }
    void check() const;  // throws std::invalid_argument
};

}  // namespace leanto
