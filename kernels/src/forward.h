// One pass of up to kMaxTokens tokens through the layers, working in a cache's scratch memory.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "model.h"
#include "pool.h"

namespace leanto {

class Forward {
  public:
    Forward(const Model& model, Cache& cache, size_t start, std::span<const int32_t> ids, int threads);

    void run_layers();
    void head(size_t first_token, float* logits);  // logits of the tokens from first_token on

  private:
    struct Product {
        const Matrix* w;
        float* y;  // (tokens, rows)
    };
    struct Part {
        float* y;  // (tokens, size)
        size_t size;
    };

    void embed();
    void attention(size_t index, const Layer& layer);
    void mlp(const Layer& layer);
    void place_tables();
    void turn_and_store(size_t index, const Layer& layer);
    void turn(float* head, const std::vector<float>& norm, const Layer& layer, size_t token);
    void attend(size_t index, const Layer& layer);
    // One linear for each part, or a single one with the rows of all.
    void project(const float* x, std::span<const Linear> linears, std::initializer_list<Part> parts);
    void add_bias(const std::vector<float>& bias, float* y);
    void split(const float* together, std::initializer_list<Part> parts);
    void add_to_hidden(const float* x, const Linear& linear, const std::vector<float>& norm);
    // Rotates and quantizes x once for matrices that share it.
    Inputs share(const float* x, std::span<const Product> products);
    void multiply(const float* x, std::span<const Product> products);
    void rotate_back(const Product& product);
    const float* normalize(const std::vector<float>& weight);
    int threads_for(size_t operations) const;
    // Calls body(token, worker) for every token, each of which costs so many operations; a single one is the caller's.
    template <class Body> void each_token(size_t operations, const Body& body) const {
        Pool::shared().run(tokens_ > 1 ? threads_for(tokens_ * operations) : 1, tokens_, [&](size_t begin, size_t end, int worker) {
            for (size_t t = begin; t < end; ++t) body(t, static_cast<size_t>(worker));
        });
    }

    const Model& model_;
    const ModelConfig& config_;
    const Kernels& kernels_;
    Cache& cache_;
    Workspace& work_;
    size_t start_, tokens_;
    std::span<const int32_t> ids_;
    int threads_;
    float* hidden_;  // (tokens, hidden_size)
};

}  // namespace leanto
