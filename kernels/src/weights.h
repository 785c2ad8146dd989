// The weights of a Llama-architecture model, checked and ready to multiply.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "matrix.h"
#include "tensor.h"

namespace leanto {

struct ModelConfig {
    size_t hidden_size, intermediate_size, num_layers, num_heads, num_kv_heads, head_dim, vocab_size;
    float rms_norm_eps, rope_theta;
    bool tie_embeddings;

    size_t query_size() const { return num_heads * head_dim; }
    size_t kv_size() const { return num_kv_heads * head_dim; }
    void check() const;  // throws std::invalid_argument
};

struct Layer {
    Layer(const Parts& parts, const ModelConfig& config, const std::string& prefix, Rotations& rotations);

    std::vector<float> attention_norm, mlp_norm;
    Matrix query, key, value, output, gate, up, down;
};

struct Weights {
    Weights(const Parts& parts, const ModelConfig& config);

    const Matrix& head() const { return untied_head ? *untied_head : embedding; }
    // The most that a matrix or rotation needs at once, over all matrices.
    template <class Measure> size_t most(Measure measure) const {
        size_t largest = measure(embedding);
        const auto see = [&](const Matrix& m) { largest = std::max(largest, static_cast<size_t>(measure(m))); };
        if (untied_head) see(*untied_head);
        for (const Layer& l : layers)
            for (const Matrix* m : {&l.query, &l.key, &l.value, &l.output, &l.gate, &l.up, &l.down}) see(*m);
        return largest;
    }

  private:
    Rotations rotations_;

  public:
    Matrix embedding;
    std::optional<Matrix> untied_head;
    std::vector<Layer> layers;
    std::vector<float> final_norm;
};

}  // namespace leanto
