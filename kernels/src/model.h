// A decoder over compressed weights: prefill, logits and the decode step. Knows nothing of Python, files or text.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cache.h"
#include "sampling.h"
#include "weights.h"

namespace leanto {

// Every call throws std::invalid_argument for ids outside the vocabulary, a full cache, a cache of another model and logits that are not
// finite; the cache keeps its length then. Calls with different caches may run at the same time.
class Model {
  public:
    Model(const ModelConfig& config, const Parts& parts);
    Model(const Model&) = delete;  // caches point at it

    const ModelConfig& config() const { return config_; }
    std::unique_ptr<Cache> new_cache(size_t capacity, Storage storage) const {
        return std::make_unique<Cache>(*this, config_, capacity, storage);
    }

    // Appends the ids; writes the logits of the last one (vocab_size,).
    void prefill(Cache& cache, std::span<const int32_t> ids, int threads, float* logits) const;
    // Appends the ids; writes the logits of each (ids, vocab_size).
    void logits(Cache& cache, std::span<const int32_t> ids, int threads, float* logits) const;
    // Appends the tokens up to the first of the last us.size(), samples what follows it with us[0], and goes on for as long as that is
    // the next of the tokens: what samples one by one would be, at the cost of a batch. Tokens behind a surprise are not appended.
    std::vector<Sample> steps(Cache& cache, std::span<const int32_t> tokens, SamplingParams params, std::span<const double> us,
                              const Allowed& allowed, size_t top, int threads) const;

  private:
    // Appends the ids; writes the logits of the last `rows` of them.
    void append(Cache& cache, std::span<const int32_t> ids, int threads, size_t rows, float* logits) const;

    friend class Forward;
    ModelConfig config_;
    Weights weights_;
};

}  // namespace leanto
