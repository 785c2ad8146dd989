// Checks a call's arguments, cuts its tokens into passes and commits the cache's new length when all went well.
#include "model.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "forward.h"

namespace leanto {

Cache::Cache(const Model& model, const ModelConfig& config, size_t capacity)
    : model_(&model), heads_(config.num_kv_heads), head_dim_(config.head_dim), capacity_(capacity) {
    if (capacity < 1) throw std::invalid_argument("a cache needs a capacity of at least one token");
    const size_t each = config.num_layers * config.kv_size();
    if (capacity > (size_t{1} << 40) / each) throw std::invalid_argument("a cache of that capacity would not fit in memory");
    keys_.reset(new float[each * capacity]);
    values_.reset(new float[each * capacity]);
}

void Cache::truncate(size_t length) {
    const std::lock_guard lock(in_use_);
    if (length > length_)
        throw std::invalid_argument("a cache of length " + std::to_string(length_) + " cannot be cut to " + std::to_string(length));
    length_ = length;
}

Model::Model(const ModelConfig& config, const Parts& parts) : config_(config), weights_(parts, config) {}

void Model::prefill(Cache& cache, std::span<const int32_t> ids, int threads, float* out) const {
    const std::lock_guard lock(cache.in_use_);
    append(cache, ids, threads, false, out);
}

void Model::logits(Cache& cache, std::span<const int32_t> ids, int threads, float* out) const {
    const std::lock_guard lock(cache.in_use_);
    append(cache, ids, threads, true, out);
}

Sample Model::step(Cache& cache, int32_t token, const SamplingParams& params, const Allowed& allowed, int threads) const {
    params.check();
    check_allowed(allowed, config_.vocab_size);
    const std::lock_guard lock(cache.in_use_);
    float* out = cache.work_.logits.reserve(config_.vocab_size);
    append(cache, {&token, 1}, threads, false, out);
    return sample({out, config_.vocab_size}, params, allowed);
}

void Model::append(Cache& cache, std::span<const int32_t> ids, int threads, bool every, float* out) const {
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

    for (size_t done = 0; done < ids.size(); done += kMaxTokens) {
        const auto part = ids.subspan(done, std::min(kMaxTokens, ids.size() - done));
        Forward pass(*this, cache, cache.length() + done, part, threads);
        pass.run_layers();
        if (every) pass.head(0, out + done * config_.vocab_size);
        else if (done + part.size() == ids.size()) pass.head(part.size() - 1, out);
    }
    check_finite({out, (every ? ids.size() : 1) * config_.vocab_size});
    cache.length_ += ids.size();
}

}  // namespace leanto
