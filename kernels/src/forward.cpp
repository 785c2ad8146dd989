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
    work_.tiles.reserve(workers * w.most([](const Matrix& m) { return m.tile_bytes(); }));
    work_.attention_scratch.reserve(workers * attention_scratch(config_.head_dim));
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
    add_to_hidden(work_.attended.get(), layer.output, layer.attention_output_norm);
}

void Forward::mlp(const Layer& layer) {
    const size_t wide = config_.intermediate_size;
    float* gate = work_.gate.reserve(tokens_ * wide);
    float* up = work_.up.reserve(tokens_ * wide);
    project(normalize(layer.mlp_norm), layer.gate_up, {{gate, wide}, {up, wide}});
    const auto gated = config_.activation == Activation::gelu ? kernels_.gated_gelu : kernels_.gated_silu;
    each_token(wide * 8, [&](size_t t, size_t) { gated(gate + t * wide, up + t * wide, wide); });
    add_to_hidden(gate, layer.down, layer.mlp_output_norm);
}

void Forward::embed() {
    const size_t n = config_.hidden_size;
    for (size_t t = 0; t < tokens_; ++t)
        model_.weights_.embedding.read_row(static_cast<size_t>(ids_[t]), work_.tiles.get(), work_.rotation_scratch.get(), hidden_ + t * n);
    if (config_.embedding_scale != 1.0f)
        for (size_t i = 0; i < tokens_ * n; ++i) hidden_[i] *= config_.embedding_scale;
}

const float* Forward::normalize(const std::vector<float>& weight) {
    const size_t n = config_.hidden_size;
    float* normed = work_.normed.reserve(tokens_ * n);
    each_token(n * 2, [&](size_t t, size_t) {
        kernels_.rms_norm(hidden_ + t * n, weight.data(), config_.rms_norm_eps, n, normed + t * n);
    });
    return normed;
}

void Forward::add_to_hidden(const float* x, const Linear& linear, const std::vector<float>& norm) {
    const size_t n = config_.hidden_size;
    float* delta = work_.delta.reserve(tokens_ * n);
    project(x, {&linear, 1}, {{delta, n}});
    each_token(n * 2, [&](size_t t, size_t) {
        if (!norm.empty()) kernels_.rms_norm(delta + t * n, norm.data(), config_.rms_norm_eps, n, delta + t * n);
        kernels_.add(hidden_ + t * n, delta + t * n, n);
    });
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
    const size_t d = config_.head_dim, narrow = config_.kv_size();
    each_token(config_.query_size() * 4, [&](size_t t, size_t) {
        float* queries = work_.query.get() + t * config_.query_size();
        for (size_t h = 0; h < config_.num_heads; ++h) turn(queries + h * d, layer.query_norm, layer, t);
        for (size_t h = 0; h < config_.num_kv_heads; ++h) {
            float* key = work_.key.get() + t * narrow + h * d;
            turn(key, layer.key_norm, layer, t);
            cache_.key_values_.put(kernels_, index * config_.num_kv_heads + h, start_ + t, key, work_.value.get() + t * narrow + h * d);
        }
    });
}

void Forward::turn(float* head, const std::vector<float>& norm, const Layer& layer, size_t token) {
    if (!norm.empty()) kernels_.rms_norm(head, norm.data(), config_.rms_norm_eps, config_.head_dim, head);
    if (!layer.rope) return;
    const size_t pairs = config_.rotary_pairs(), at = (*layer.rope * tokens_ + token) * pairs;
    kernels_.rope(head, 2 * pairs, work_.cosine.get() + at, work_.sine.get() + at);
}

// Queries that share a head of the cache attend together: the heads of its group, token by token, as many as the kernel takes. Where
// that makes fewer runs than threads, each has fewer heads.
void Forward::attend(size_t index, const Layer& layer) {
    const size_t d = config_.head_dim, heads = config_.num_heads, shared = config_.num_kv_heads, group = heads / shared;
    const float* query = work_.query.get();
    float* out = work_.attended.reserve(tokens_ * config_.query_size());
    const AttentionForm form{d, config_.attention_scale, config_.attention_softcap};
    const int threads = threads_for(tokens_ * heads * std::min(start_ + tokens_, layer.window) * d);
    const size_t queries = tokens_ * group, wanted = (static_cast<size_t>(threads) + shared - 1) / shared;
    const size_t most = std::min(kQueryRun, (queries + wanted - 1) / wanted), runs = (queries + most - 1) / most;
    Pool::shared().run(threads, shared * runs, [&](size_t begin, size_t end, int worker) {
        float* scratch = work_.attention_scratch.get() + static_cast<size_t>(worker) * attention_scratch(d);
        for (size_t i = begin; i < end; ++i) {
            const size_t head = i / runs, first = i % runs * most, last = std::min(first + most, queries);
            Query run[kQueryRun];
            for (size_t q = first; q < last; ++q) {
                const size_t token = q / group, at = token * config_.query_size() + (head * group + q % group) * d;
                const size_t past = start_ + token + 1, seen = std::min(past, layer.window);
                run[q - first] = {query + at, out + at, past - seen, past};
            }
            kernels_.attend(cache_.key_values_.head(index * shared + head), form, run, last - first, scratch);
        }
    });
}

void Forward::project(const float* x, std::span<const Linear> linears, std::initializer_list<Part> parts) {
    std::array<Product, 3> products;
    const bool apart = linears.size() == parts.size();
    for (size_t i = 0; i < linears.size(); ++i) {
        const Matrix& w = linears[i].matrix;
        products[i] = {&w, apart ? parts.begin()[i].y : work_.fused.reserve(tokens_ * w.rows)};
    }
    multiply(x, {products.data(), linears.size()});
    for (size_t i = 0; i < linears.size(); ++i) add_bias(linears[i].bias, products[i].y);
    if (!apart) split(work_.fused.get(), parts);
}

void Forward::add_bias(const std::vector<float>& bias, float* y) {
    if (bias.empty()) return;
    for (size_t t = 0; t < tokens_; ++t) kernels_.add(y + t * bias.size(), bias.data(), bias.size());
}

void Forward::split(const float* together, std::initializer_list<Part> parts) {
    for (size_t t = 0; t < tokens_; ++t) {
        for (const Part& part : parts) {
            std::copy_n(together, part.size, part.y + t * part.size);
            together += part.size;
        }
    }
}

Inputs Forward::share(const float* x, std::span<const Product> products) {
    const Matrix& w = *products.front().w;
    const bool quantized = std::any_of(products.begin(), products.end(), [](const Product& p) { return p.w->kind != Kind::dense; });
    const size_t n = w.columns, padded = w.padded_columns;
    float* rotated = w.in ? work_.rotated.reserve(tokens_ * n) : nullptr;
    float* scales = work_.input_scales.reserve(tokens_);
    int8_t* codes = quantized ? work_.input_codes.reserve(tokens_ * padded) : nullptr;
    each_token(n * 8, [&](size_t t, size_t worker) {
        const float* vector = x + t * n;
        if (w.in) {
            kernels_.rotate(*w.in, vector, rotated + t * n, work_.rotation_scratch.get() + worker * n);
            vector = rotated + t * n;
        }
        if (quantized) {
            scales[t] = kernels_.quantize(vector, n, codes + t * padded);
            std::fill_n(codes + t * padded + n, padded - n, int8_t{0});
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
    Pool::shared().run(threads_for(tokens_ * ranks * products.front().w->columns), rank_chunks, [&](size_t begin, size_t end, int) {
        for (size_t i = begin; i < end; ++i) {
            const Task task = owner(i, &Task::first_rank_chunk);
            const size_t rank = (i - task.first_rank_chunk) * kChunkRanks;
            task.w->reduce_rank(inputs, rank, std::min(rank + kChunkRanks, task.w->rank), task.low_rank);
        }
    });
    const size_t tile_bytes = products.front().w->tile_bytes();
    Pool::shared().run(threads_for(operations), chunks, [&](size_t begin, size_t end, int worker) {
        for (size_t i = begin; i < end; ++i) {
            const Task task = owner(i, &Task::first_chunk);
            const size_t row = (i - task.first_chunk) * kChunkRows;
            task.w->multiply_rows(inputs, task.low_rank, row, std::min(row + kChunkRows, task.w->rows),
                                  work_.tiles.get() + static_cast<size_t>(worker) * tile_bytes, task.y);
        }
    });
    for (const Product& p : products) rotate_back(p);
}

void Forward::rotate_back(const Product& product) {
    if (!product.w->out) return;
    const size_t m = product.w->rows;
    each_token(m * 8, [&](size_t t, size_t worker) {
        float* y = product.y + t * m;
        kernels_.rotate_transpose(*product.w->out, y, y, work_.rotation_scratch.get() + worker * m);
    });
}

int Forward::threads_for(size_t operations) const { return operations < kThreadGrain ? 1 : threads_; }

}  // namespace leanto
