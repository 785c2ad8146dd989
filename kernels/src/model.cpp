// Checks a call's arguments, cuts its tokens into passes and commits the cache's new length when all went well.
#include "model.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "forward.h"

namespace leanto {

Cache::Cache(const Model& model, const ModelConfig& config, size_t capacity, Storage storage)
    : model_(&model), capacity_(capacity), key_values_(config.num_layers * config.num_kv_heads, capacity, config.head_dim, storage),
      hidden_size_(config.hidden_size) {
    if (capacity < 1) throw std::invalid_argument("a cache needs a capacity of at least one token");
}

void Cache::truncate(size_t length) {
    const std::lock_guard lock(in_use_);
    if (length > length_)
        throw std::invalid_argument("a cache of length " + std::to_string(length_) + " cannot be cut to " + std::to_string(length));
    length_ = length;
}

std::vector<float> Cache::state() {
    const std::lock_guard lock(in_use_);
    if (!state_row_) throw std::invalid_argument("a cache that has read nothing has no state");
    const float* row = work_.normed.get() + *state_row_ * hidden_size_;
    return {row, row + hidden_size_};
}

Model::Model(const ModelConfig& config, const Parts& parts) : config_(config), weights_(parts, config) {}

void Model::prefill(Cache& cache, std::span<const int32_t> ids, int threads, float* out) const {
    const std::lock_guard lock(cache.in_use_);
    append(cache, ids, threads, 1, out);
}

void Model::logits(Cache& cache, std::span<const int32_t> ids, int threads, float* out) const {
    const std::lock_guard lock(cache.in_use_);
    append(cache, ids, threads, ids.size(), out);
}

std::vector<Sample> Model::steps(Cache& cache, std::span<const int32_t> tokens, SamplingParams params, std::span<const double> us,
                                 const Allowed& allowed, size_t top, int threads) const {
    if (us.empty() || us.size() > tokens.size()) throw std::invalid_argument("there must be a u for each of the last tokens");
    if (top > config_.vocab_size) throw std::invalid_argument("there are fewer tokens than the top that is asked for");
    for (const double u : us) {
        params.u = u;
        params.check();
    }
    check_allowed(allowed, config_.vocab_size);
    const std::lock_guard lock(cache.in_use_);
    const size_t given = tokens.size() - us.size(), start = cache.length_ + given, vocabulary = config_.vocab_size;
    float* out = cache.work_.logits.reserve(us.size() * vocabulary);
    append(cache, tokens, threads, us.size(), out);
    std::vector<Sample> samples;
    for (size_t i = 0; i < us.size() && (i == 0 || samples.back().token == tokens[given + i]); ++i) {
        params.u = us[i];
        samples.push_back(sample_checked({out + i * vocabulary, vocabulary}, params, allowed, top));
    }
    cache.length_ = start + samples.size();
    return samples;
}

void Model::append(Cache& cache, std::span<const int32_t> ids, int threads, size_t rows, float* out) const {
    if (cache.model_ != this) throw std::invalid_argument("the cache belongs to another model");
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    if (ids.empty()) throw std::invalid_argument("no token ids were given");
    if (ids.size() > cache.capacity() - cache.length())
        throw std::invalid_argument(std::to_string(ids.size()) + " tokens do not fit the cache: " + std::to_string(cache.length()) +
                                    " of " + std::to_string(cache.capacity()) + " places are taken");
    for (const int32_t id : ids)
        if (id < 0 || static_cast<size_t>(id) >= config_.vocab_size)
            throw std::invalid_argument("token id " + std::to_string(id) + " is outside the vocabulary of " +
                                        std::to_string(config_.vocab_size));

    const size_t silent = ids.size() - rows;  // tokens whose logits nobody wants
    cache.state_row_.reset();
    for (size_t done = 0; done < ids.size(); done += kMaxTokens) {
        const auto part = ids.subspan(done, std::min(kMaxTokens, ids.size() - done));
        Forward pass(*this, cache, cache.length() + done, part, threads);
        pass.run_layers();
        const size_t end = done + part.size(), first = std::max(done, silent);
        if (end > first) pass.head(first - done, out + (first - silent) * config_.vocab_size);
    }
    check_finite({out, rows * config_.vocab_size});
    cache.length_ += ids.size();
    cache.state_row_ = (ids.size() - 1) % kMaxTokens;
}

}  // namespace leanto
