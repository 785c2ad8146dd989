// Assembles the weights by their Hugging Face names and refuses whatever does not fit together.
#include "weights.h"

#include <cstdint>
#include <initializer_list>
#include <stdexcept>

namespace leanto {
namespace {

std::vector<float> read_norm(const Parts& parts, const std::string& name, size_t size, float offset) {
    std::vector<float> weight = parts.floats(name + ".weight", static_cast<int64_t>(size));
    for (float& w : weight) w += offset;
    return weight;
}

// The parts of one layer, by their names behind its prefix.
class LayerParts {
  public:
    LayerParts(const Parts& parts, const ModelConfig& config, size_t index, Rotations& rotations)
        : parts_(parts), config_(config), prefix_("model.layers." + std::to_string(index) + "."), rotations_(rotations) {}

    std::vector<float> norm(const char* name, size_t size) const { return read_norm(parts_, prefix_ + name, size, config_.norm_offset); }

    Linear linear(const char* name, size_t rows, size_t columns, bool bias) const {
        return {Matrix(parts_, prefix_ + name, rows, columns, rotations_),
                bias ? parts_.floats(prefix_ + name + ".bias", static_cast<int64_t>(rows)) : std::vector<float>{}};
    }

    struct Rows {
        const char* name;
        size_t count;
    };

    // Linears that read the same input: one for each of `apart`, or `together` with all their rows.
    std::vector<Linear> sharing(std::initializer_list<Rows> apart, const char* together, size_t columns, bool bias) const {
        std::vector<Linear> linears;
        size_t all = 0;
        for (const Rows& rows : apart) all += rows.count;
        if (config_.fused_projections) linears.push_back(linear(together, all, columns, bias));
        else
            for (const Rows& rows : apart) linears.push_back(linear(rows.name, rows.count, columns, bias));
        for (const Linear& other : linears)
            if (other.matrix.in_seed != linears.front().matrix.in_seed)
                throw std::invalid_argument("matrices " + linears.front().matrix.name + " and " + other.matrix.name +
                                            " must share their in_seed");
        return linears;
    }

  private:
    const Parts& parts_;
    const ModelConfig& config_;
    std::string prefix_;
    Rotations& rotations_;
};

Layer read_layer(const LayerParts& parts, const ModelConfig& c, size_t index) {
    const size_t hidden = c.hidden_size, inner = c.intermediate_size, query = c.query_size(), kv = c.kv_size();
    const auto norm_if = [&](bool wanted, const char* name, size_t size) { return wanted ? parts.norm(name, size) : std::vector<float>{}; };
    const bool sandwich = c.sandwich_norms;
    const int64_t rope = c.layer_ropes.empty() ? 0 : c.layer_ropes[index], window = c.layer_windows.empty() ? 0 : c.layer_windows[index];
    return {
        .attention_norm = parts.norm("input_layernorm", hidden),
        .mlp_norm = parts.norm(sandwich ? "pre_feedforward_layernorm" : "post_attention_layernorm", hidden),
        .attention_output_norm = norm_if(sandwich, "post_attention_layernorm", hidden),
        .mlp_output_norm = norm_if(sandwich, "post_feedforward_layernorm", hidden),
        .query_norm = norm_if(c.head_norms, "self_attn.q_norm", c.head_dim),
        .key_norm = norm_if(c.head_norms, "self_attn.k_norm", c.head_dim),
        .query_key_value = parts.sharing({{"self_attn.q_proj", query}, {"self_attn.k_proj", kv}, {"self_attn.v_proj", kv}},
                                         "self_attn.qkv_proj", hidden, c.qkv_bias),
        .output = parts.linear("self_attn.o_proj", hidden, query, c.output_bias),
        .gate_up = parts.sharing({{"mlp.gate_proj", inner}, {"mlp.up_proj", inner}}, "mlp.gate_up_proj", hidden, c.mlp_bias),
        .down = parts.linear("mlp.down_proj", hidden, inner, c.mlp_bias),
        .rope = rope < 0 ? std::nullopt : std::optional(static_cast<size_t>(rope)),
        .window = window > 0 ? static_cast<size_t>(window) : SIZE_MAX,
    };
}

}  // namespace

Weights::Weights(const Parts& parts, const ModelConfig& config)
    : embedding((config.check(), parts), "model.embed_tokens", config.vocab_size, config.hidden_size, rotations_),
      final_norm(read_norm(parts, "model.norm", config.hidden_size, config.norm_offset)) {
    if (embedding.out) throw std::invalid_argument("matrix model.embed_tokens must not be rotated on its output side");
    if (!config.tie_embeddings) untied_head.emplace(parts, "lm_head", config.vocab_size, config.hidden_size, rotations_);
    for (size_t i = 0; i < config.num_layers; ++i) layers.push_back(read_layer(LayerParts(parts, config, i, rotations_), config, i));
}

}  // namespace leanto
