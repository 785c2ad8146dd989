// Assembles the weights by their Hugging Face names and refuses whatever does not fit together.
#include "weights.h"

#include <cmath>
#include <stdexcept>

namespace leanto {
namespace {

constexpr size_t kMostUnits = size_t{1} << 24;  // keeps every product of two sizes far from overflow

void demand_shared_input(const Matrix& a, const Matrix& b) {
    if (a.in_seed != b.in_seed) throw std::invalid_argument("matrices " + a.name + " and " + b.name + " must share their in_seed");
}

}  // namespace

void ModelConfig::check() const {
    for (const size_t size : {hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, vocab_size})
        if (size < 1 || size > kMostUnits) throw std::invalid_argument("config: sizes must lie in 1..2^24");
    if (num_heads % num_kv_heads != 0) throw std::invalid_argument("config: num_heads must be a multiple of num_kv_heads");
    if (head_dim % 2 != 0) throw std::invalid_argument("config: head_dim must be even");
    if (query_size() > kMostUnits) throw std::invalid_argument("config: num_heads * head_dim is too large");
    if (vocab_size < 2) throw std::invalid_argument("config: vocab_size must be at least 2");
    if (!(rms_norm_eps >= 0.0f) || !std::isfinite(rms_norm_eps)) throw std::invalid_argument("config: rms_norm_eps must not be negative");
    if (!(rope_theta > 0.0f) || !std::isfinite(rope_theta)) throw std::invalid_argument("config: rope_theta must be positive");
}

Layer::Layer(const Parts& parts, const ModelConfig& c, const std::string& prefix, Rotations& rotations)
    : attention_norm(parts.floats(prefix + "input_layernorm.weight", static_cast<int64_t>(c.hidden_size))),
      mlp_norm(parts.floats(prefix + "post_attention_layernorm.weight", static_cast<int64_t>(c.hidden_size))),
      query(parts, prefix + "self_attn.q_proj", c.query_size(), c.hidden_size, rotations),
      key(parts, prefix + "self_attn.k_proj", c.kv_size(), c.hidden_size, rotations),
      value(parts, prefix + "self_attn.v_proj", c.kv_size(), c.hidden_size, rotations),
      output(parts, prefix + "self_attn.o_proj", c.hidden_size, c.query_size(), rotations),
      gate(parts, prefix + "mlp.gate_proj", c.intermediate_size, c.hidden_size, rotations),
      up(parts, prefix + "mlp.up_proj", c.intermediate_size, c.hidden_size, rotations),
      down(parts, prefix + "mlp.down_proj", c.hidden_size, c.intermediate_size, rotations) {
    demand_shared_input(query, key);
    demand_shared_input(query, value);
    demand_shared_input(gate, up);
}

Weights::Weights(const Parts& parts, const ModelConfig& config)
    : embedding((config.check(), parts), "model.embed_tokens", config.vocab_size, config.hidden_size, rotations_),
      final_norm(parts.floats("model.norm.weight", static_cast<int64_t>(config.hidden_size))) {
    if (embedding.out) throw std::invalid_argument("matrix model.embed_tokens must not be rotated on its output side");
    if (!config.tie_embeddings) untied_head.emplace(parts, "lm_head", config.vocab_size, config.hidden_size, rotations_);
    for (size_t i = 0; i < config.num_layers; ++i)
        layers.emplace_back(parts, config, "model.layers." + std::to_string(i) + ".", rotations_);
}

}  // namespace leanto
