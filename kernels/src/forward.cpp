// The decoder's mathematics, layer by layer. Loops over rows, heads and tokens go to the thread pool.
#include "forward.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "pool.h"

namespace leanto {
namespace {

constexpr size_t kThreadGrain = 65536;  // operations below which waking a second thread costs more than it saves

}  // namespace

Forward::Forward(const Model& model, Cache& cache, size_t start, std::span<const int32_t> ids, int threads)
    : model_(model), config_(model.config_), kernels_(kernels()), cache_(cache), work_(cache.work_), start_(start), tokens_(ids.size()),
      ids_(ids), threads_(std::clamp(threads, 1, Pool::kMaxThreads)) {
    const Weights& w = model.weights_;
    hidden_ = work_.hidden.reserve(tokens_ * config_.hidden_size);
    const size_t widest = w.most([](const Matrix& m) { return std::max(m.rows, m.columns); });
    const auto workers = static_cast<size_t>(threads_);
    work_.rotation_scratch.reserve(workers * widest);
    work_.tiles.resize(std::max(work_.tiles.size(), workers * w.most([](const Matrix& m) { return m.tile_bytes(); })));
    work_.scores.reserve(workers * cache.capacity());
}

void Forward::run_layers() {
    embed();
    place_tables();
    for (size_t i = 0; i < config_.num_layers; ++i) {
        attention(i, model_.weights_.layers[i]);
        mlp(model_.weights_.layers[i]);
    }
}

void Forward::head(size_t first_token, float* logits) {
    const float* last = normalize(model_.weights_.final_norm) + first_token * config_.hidden_size;
    tokens_ -= first_token;
    multiply(last, {{model_.weights_.head(), logits}});
    tokens_ += first_token;
}

void Forward::attention(size_t index, const Layer& layer) {
    float* query = work_.query.reserve(tokens_ * config_.query_size());
    float* key = work_.key.reserve(tokens_ * config_.kv_size());
    float* value = work_.value.reserve(tokens_ * config_.kv_size());
    multiply(normalize(layer.attention_norm), {{layer.query, query}, {layer.key, key}, {layer.value, value}});
    turn_and_store(index);
    attend(index);
    float* delta = work_.delta.reserve(tokens_ * config_.hidden_size);
    multiply(work_.attended.data.get(), {{layer.output, delta}});
    add_to_hidden(delta);
}

void Forward::mlp(const Layer& layer) {
    float* gate = work_.gate.reserve(tokens_ * config_.intermediate_size);
    float* up = work_.up.reserve(tokens_ * config_.intermediate_size);
    multiply(normalize(layer.mlp_norm), {{layer.gate, gate}, {layer.up, up}});
    kernels_.gated_mlp(gate, up, tokens_ * config_.intermediate_size);
    float* delta = work_.delta.reserve(tokens_ * config_.hidden_size);
    multiply(gate, {{layer.down, delta}});
    add_to_hidden(delta);
}

void Forward::embed() {
    for (size_t t = 0; t < tokens_; ++t)
        model_.weights_.embedding.read_row(static_cast<size_t>(ids_[t]), work_.tiles.data(), work_.rotation_scratch.data.get(),
                                           hidden_ + t * config_.hidden_size);
}

const float* Forward::normalize(const std::vector<float>& weight) {
    const size_t n = config_.hidden_size;
    float* normed = work_.normed.reserve(tokens_ * n);
    for (size_t t = 0; t < tokens_; ++t) kernels_.rms_norm(hidden_ + t * n, weight.data(), config_.rms_norm_eps, n, normed + t * n);
    return normed;
}

void Forward::add_to_hidden(const float* delta) { kernels_.add(hidden_, delta, tokens_ * config_.hidden_size); }

void Forward::place_tables() {
    const size_t half = config_.head_dim / 2;
    float* cosine = work_.cosine.reserve(tokens_ * half);
    float* sine = work_.sine.reserve(tokens_ * half);
    for (size_t t = 0; t < tokens_; ++t) {
        for (size_t i = 0; i < half; ++i) {
            const float angle = static_cast<float>(start_ + t) * model_.frequencies_[i];
            cosine[t * half + i] = std::cos(angle);
            sine[t * half + i] = std::sin(angle);
        }
    }
}

void Forward::turn_and_store(size_t layer) {
    const size_t d = config_.head_dim, half = d / 2;
    for (size_t t = 0; t < tokens_; ++t) {
        const float *cosine = work_.cosine.data.get() + t * half, *sine = work_.sine.data.get() + t * half;
        float* queries = work_.query.data.get() + t * config_.query_size();
        for (size_t h = 0; h < config_.num_heads; ++h) kernels_.rope(queries + h * d, d, cosine, sine);
        for (size_t h = 0; h < config_.num_kv_heads; ++h) {
            float* key = work_.key.data.get() + t * config_.kv_size() + h * d;
            kernels_.rope(key, d, cosine, sine);
            std::copy_n(key, d, cache_.keys(layer, h) + (start_ + t) * d);
            std::copy_n(work_.value.data.get() + t * config_.kv_size() + h * d, d, cache_.values(layer, h) + (start_ + t) * d);
        }
    }
}

void Forward::attend(size_t layer) {
    const size_t d = config_.head_dim, heads = config_.num_heads, group = heads / config_.num_kv_heads;
    const float* query = work_.query.data.get();
    float* out = work_.attended.reserve(tokens_ * config_.query_size());
    const int threads = threads_for(tokens_ * heads * (start_ + tokens_) * d);
    Pool::shared().run(threads, tokens_ * heads, 1, [&](size_t begin, size_t end, int worker) {
        float* scores = work_.scores.data.get() + static_cast<size_t>(worker) * cache_.capacity();
        for (size_t i = begin; i < end; ++i) {
            const size_t token = i / heads, shared = i % heads / group;
            kernels_.attend(query + i * d, cache_.keys(layer, shared), cache_.values(layer, shared), start_ + token + 1, d, d, scores,
                            out + i * d);
        }
    });
}

Inputs Forward::share(const float* x, std::initializer_list<Product> products) {
    const Matrix& w = products.begin()->w;
    const bool quantized = std::any_of(products.begin(), products.end(), [](const Product& p) { return p.w.kind != Kind::dense; });
    const size_t n = w.columns, padded = w.padded_columns;
    float* rotated = w.in ? work_.rotated.reserve(tokens_ * n) : nullptr;
    float* scales = work_.input_scales.reserve(tokens_);
    if (quantized && work_.input_codes.size() < tokens_ * padded) work_.input_codes.resize(tokens_ * padded);
    int8_t* codes = work_.input_codes.data();
    Pool::shared().run(threads_for(tokens_ > 1 ? tokens_ * n * 8 : 0), tokens_, 1, [&](size_t begin, size_t end, int worker) {
        for (size_t t = begin; t < end; ++t) {
            const float* vector = x + t * n;
            if (w.in) {
                kernels_.rotate(*w.in, vector, rotated + t * n, work_.rotation_scratch.data.get() + static_cast<size_t>(worker) * n);
                vector = rotated + t * n;
            }
            if (quantized) {
                scales[t] = kernels_.quantize(vector, n, codes + t * padded);
                std::fill_n(codes + t * padded + n, padded - n, int8_t{0});
            }
        }
    });
    return {tokens_, w.in ? rotated : x, codes, scales};
}

void Forward::multiply(const float* x, std::initializer_list<Product> products) {
    struct Task {
        const Matrix* w;
        float *y, *low_rank;
        size_t first_chunk, first_rank_chunk;  // where it begins in the two loops below
    };
    std::array<Task, 3> tasks;
    size_t count = 0, chunks = 0, rank_chunks = 0, ranks = 0, operations = 0;
    for (const Product& p : products) {
        tasks[count++] = {&p.w, p.y, nullptr, chunks, rank_chunks};
        chunks += (p.w.rows + kChunkRows - 1) / kChunkRows;
        rank_chunks += (p.w.rank + kChunkRanks - 1) / kChunkRanks;
        ranks += p.w.rank;
        operations += tokens_ * p.w.rows * p.w.columns;
    }
    float* low_rank = work_.low_rank.reserve(tokens_ * ranks);
    for (size_t i = 0; i < count; low_rank += tokens_ * tasks[i++].w->rank) tasks[i].low_rank = low_rank;
    const auto owner = [&](size_t chunk, size_t Task::* first) {
        size_t i = count - 1;
        while (tasks[i].*first > chunk) --i;
        return tasks[i];
    };

    const Inputs inputs = share(x, products);
    Pool::shared().run(threads_for(tokens_ * ranks * products.begin()->w.columns), rank_chunks, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
            const Task task = owner(i, &Task::first_rank_chunk);
            const size_t rank = (i - task.first_rank_chunk) * kChunkRanks;
            task.w->reduce_rank(inputs, rank, std::min(rank + kChunkRanks, task.w->rank), task.low_rank);
        }
    });
    const size_t tile_bytes = products.begin()->w.tile_bytes();
    Pool::shared().run(threads_for(operations), chunks, 1, [&](size_t begin, size_t end, int worker) {
        for (size_t i = begin; i < end; ++i) {
            const Task task = owner(i, &Task::first_chunk);
            const size_t row = (i - task.first_chunk) * kChunkRows;
            task.w->multiply_rows(inputs, task.low_rank, row, std::min(row + kChunkRows, task.w->rows),
                                  work_.tiles.data() + static_cast<size_t>(worker) * tile_bytes, task.y);
        }
    });
    for (const Product& p : products) rotate_back(p);
}

void Forward::rotate_back(const Product& product) {
    if (!product.w.out) return;
    const size_t m = product.w.rows;
    Pool::shared().run(threads_for(tokens_ > 1 ? tokens_ * m * 8 : 0), tokens_, 1, [&](size_t begin, size_t end, int worker) {
        for (size_t t = begin; t < end; ++t)
            kernels_.rotate_transpose(*product.w.out, product.y + t * m, product.y + t * m,
                                      work_.rotation_scratch.data.get() + static_cast<size_t>(worker) * m);
    });
}

int Forward::threads_for(size_t operations) const { return operations < kThreadGrain ? 1 : threads_; }

}  // namespace leanto
