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
    const Product product{&model_.weights_.head(), logits};
    multiply(last, {&product, 1});
    if (config_.logit_softcap > 0.0f) kernels_.softcap(logits, tokens_ * config_.vocab_size, config_.logit_softcap);
    tokens_ += first_token;
}

void Forward::attention(size_t index, const Layer& layer) {
    const size_t wide = config_.query_size(), narrow = config_.kv_size();
    float* query = work_.query.reserve(tokens_ * wide);
    float* key = work_.key.reserve(tokens_ * narrow);
    float* value = work_.value.reserve(tokens_ * narrow);
    project(normalize(layer.attention_norm), layer.query_key_value, {{query, wide}, {key, narrow}, {value, narrow}});
    turn_and_store(index, layer);
    attend(index, layer);
    add_to_hidden(work_.attended.data.get(), layer.output, layer.attention_output_norm);
}

void Forward::mlp(const Layer& layer) {
    const size_t wide = config_.intermediate_size;
    float* gate = work_.gate.reserve(tokens_ * wide);
    float* up = work_.up.reserve(tokens_ * wide);
    project(normalize(layer.mlp_norm), layer.gate_up, {{gate, wide}, {up, wide}});
    (config_.activation == Activation::gelu ? kernels_.gated_gelu : kernels_.gated_silu)(gate, up, tokens_ * wide);
    add_to_hidden(gate, layer.down, layer.mlp_output_norm);
}

void Forward::embed() {
    const size_t n = config_.hidden_size;
    for (size_t t = 0; t < tokens_; ++t)
        model_.weights_.embedding.read_row(static_cast<size_t>(ids_[t]), work_.tiles.data(), work_.rotation_scratch.data.get(),
                                           hidden_ + t * n);
    if (config_.embedding_scale != 1.0f)
        for (size_t i = 0; i < tokens_ * n; ++i) hidden_[i] *= config_.embedding_scale;
}

const float* Forward::normalize(const std::vector<float>& weight) {
    const size_t n = config_.hidden_size;
    float* normed = work_.normed.reserve(tokens_ * n);
    for (size_t t = 0; t < tokens_; ++t) kernels_.rms_norm(hidden_ + t * n, weight.data(), config_.rms_norm_eps, n, normed + t * n);
    return normed;
}

void Forward::add_to_hidden(const float* x, const Linear& linear, const std::vector<float>& norm) {
    const size_t n = config_.hidden_size;
    float* delta = work_.delta.reserve(tokens_ * n);
    project(x, {&linear, 1}, {{delta, n}});
    if (!norm.empty())
        for (size_t t = 0; t < tokens_; ++t) kernels_.rms_norm(delta + t * n, norm.data(), config_.rms_norm_eps, n, delta + t * n);
    kernels_.add(hidden_, delta, tokens_ * n);
}

void Forward::place_tables() {
    const size_t pairs = config_.rotary_pairs(), all = config_.ropes.size() * tokens_ * pairs;
    float* cosine = work_.cosine.reserve(all);
    float* sine = work_.sine.reserve(all);
    for (const Rope& rope : config_.ropes) {
        const std::vector<float>& frequencies = rope.in_cache_of(cache_.capacity());
        for (size_t t = 0; t < tokens_; ++t) {
            for (const float frequency : frequencies) {
                const float angle = static_cast<float>(start_ + t) * frequency;
                *cosine++ = std::cos(angle) * rope.scale;
                *sine++ = std::sin(angle) * rope.scale;
            }
        }
    }
}

void Forward::turn_and_store(size_t index, const Layer& layer) {
    const size_t d = config_.head_dim;
    for (size_t t = 0; t < tokens_; ++t) {
        float* queries = work_.query.data.get() + t * config_.query_size();
        for (size_t h = 0; h < config_.num_heads; ++h) turn(queries + h * d, layer.query_norm, layer, t);
        for (size_t h = 0; h < config_.num_kv_heads; ++h) {
            float* key = work_.key.data.get() + t * config_.kv_size() + h * d;
            turn(key, layer.key_norm, layer, t);
            std::copy_n(key, d, cache_.keys(index, h) + (start_ + t) * d);
            std::copy_n(work_.value.data.get() + t * config_.kv_size() + h * d, d, cache_.values(index, h) + (start_ + t) * d);
        }
    }
}

void Forward::turn(float* head, const std::vector<float>& norm, const Layer& layer, size_t token) {
    if (!norm.empty()) kernels_.rms_norm(head, norm.data(), config_.rms_norm_eps, config_.head_dim, head);
    if (!layer.rope) return;
    const size_t pairs = config_.rotary_pairs(), at = (*layer.rope * tokens_ + token) * pairs;
    kernels_.rope(head, 2 * pairs, work_.cosine.data.get() + at, work_.sine.data.get() + at);
}

void Forward::attend(size_t index, const Layer& layer) {
    const size_t d = config_.head_dim, heads = config_.num_heads, group = heads / config_.num_kv_heads;
    const float* query = work_.query.data.get();
    float* out = work_.attended.reserve(tokens_ * config_.query_size());
    const int threads = threads_for(tokens_ * heads * std::min(start_ + tokens_, layer.window) * d);
    Pool::shared().run(threads, tokens_ * heads, 1, [&](size_t begin, size_t end, int worker) {
        float* scores = work_.scores.data.get() + static_cast<size_t>(worker) * cache_.capacity();
        for (size_t i = begin; i < end; ++i) {
            const size_t token = i / heads, shared = i % heads / group;
            const size_t past = start_ + token + 1, seen = std::min(past, layer.window), first = (past - seen) * d;
            kernels_.attend(query + i * d, cache_.keys(index, shared) + first, cache_.values(index, shared) + first, seen, d, d,
                            config_.attention_scale, config_.attention_softcap, scores, out + i * d);
        }
    });
}

void Forward::project(const float* x, std::span<const Linear> linears, std::initializer_list<Part> parts) {
    std::array<Product, 3> products;
    const Part* part = parts.begin();
    const bool apart = linears.size() == parts.size();
    for (size_t i = 0; i < linears.size(); ++i) {
        const Matrix& w = linears[i].matrix;
        products[i] = {&w, apart ? part[i].y : work_.fused.reserve(tokens_ * w.rows)};
    }
    multiply(x, {products.data(), linears.size()});
    for (size_t i = 0; i < linears.size(); ++i) {
        const std::vector<float>& bias = linears[i].bias;
        if (bias.empty()) continue;
        for (size_t t = 0; t < tokens_; ++t) kernels_.add(products[i].y + t * bias.size(), bias.data(), bias.size());
    }
    if (apart) return;
    const float* row = work_.fused.data.get();
    for (size_t t = 0; t < tokens_; ++t)
        for (const Part& p : parts) {
            std::copy_n(row, p.size, p.y + t * p.size);
            row += p.size;
        }
}

Inputs Forward::share(const float* x, std::span<const Product> products) {
    const Matrix& w = *products.front().w;
    const bool quantized = std::any_of(products.begin(), products.end(), [](const Product& p) { return p.w->kind != Kind::dense; });
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

void Forward::multiply(const float* x, std::span<const Product> products) {
    struct Task {
        const Matrix* w;
        float *y, *low_rank;
        size_t first_chunk, first_rank_chunk;  // where it begins in the two loops below
    };
    std::array<Task, 3> tasks;
    size_t count = 0, chunks = 0, rank_chunks = 0, ranks = 0, operations = 0;
    for (const Product& p : products) {
        tasks[count++] = {p.w, p.y, nullptr, chunks, rank_chunks};
        chunks += (p.w->rows + kChunkRows - 1) / kChunkRows;
        rank_chunks += (p.w->rank + kChunkRanks - 1) / kChunkRanks;
        ranks += p.w->rank;
        operations += tokens_ * p.w->rows * p.w->columns;
    }
    float* low_rank = work_.low_rank.reserve(tokens_ * ranks);
    for (size_t i = 0; i < count; low_rank += tokens_ * tasks[i++].w->rank) tasks[i].low_rank = low_rank;
    const auto owner = [&](size_t chunk, size_t Task::* first) {
        size_t i = count - 1;
        while (tasks[i].*first > chunk) --i;
        return tasks[i];
    };

    const Inputs inputs = share(x, products);
    Pool::shared().run(threads_for(tokens_ * ranks * products.front().w->columns), rank_chunks, 1, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
            const Task task = owner(i, &Task::first_rank_chunk);
            const size_t rank = (i - task.first_rank_chunk) * kChunkRanks;
            task.w->reduce_rank(inputs, rank, std::min(rank + kChunkRanks, task.w->rank), task.low_rank);
        }
    });
    const size_t tile_bytes = products.front().w->tile_bytes();
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
    if (!product.w->out) return;
    const size_t m = product.w->rows;
    Pool::shared().run(threads_for(tokens_ > 1 ? tokens_ * m * 8 : 0), tokens_, 1, [&](size_t begin, size_t end, int worker) {
        for (size_t t = begin; t < end; ++t)
            kernels_.rotate_transpose(*product.w->out, product.y + t * m, product.y + t * m,
                                      work_.rotation_scratch.data.get() + static_cast<size_t>(worker) * m);
    });
}

int Forward::threads_for(size_t operations) const { return operations < kThreadGrain ? 1 : threads_; }

}  // namespace leanto
