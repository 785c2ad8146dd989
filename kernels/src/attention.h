// Attention of some query heads over one head of cached keys and values, which are read once for all of them; the sums of a softmax.
#pragma once

#include <type_traits>

#include "dot.h"
#include "layers.h"

namespace leanto {

template <class L> float largest(const float* x, size_t n) {
    auto most = L::broadcast(x[0]);
    each_lane<L>(n, [&](size_t i, size_t width) { most = L::max(load_lane<L>(x + i, width, x[0]), most); });
    float lanes[8], result = x[0];
    L::store(lanes, most);
    for (float v : lanes) result = v > result ? v : result;
    return result;
}

// x = exp(x - most); returns the sum.
template <class L> float exponentiate(float* x, size_t n, float most) {
    auto total = L::broadcast(0.0f);
    float rest = 0.0f;
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto e = L::exp(L::subtract(load_lane<L>(x + i, width), L::broadcast(most)));
        store_lane<L>(x + i, e, width);
        if (width == 8) total = L::add(total, e);
        else
            for (size_t k = i; k < n; ++k) rest += x[k];
    });
    return L::sum(total) + rest;
}

template <class L> void scale(float* x, size_t n, float factor, const float* factors) {
    const auto all = L::broadcast(factor);
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto each = factors ? L::multiply(load_lane<L>(factors + i, width), all) : all;
        store_lane<L>(x + i, L::multiply(load_lane<L>(x + i, width), each), width);
    });
}

template <class L> void to_half(const float* x, size_t n, uint16_t* y) {
    each_lane<L>(n, [&](size_t i, size_t width) {
        uint16_t rounded[8];
        L::store_half(rounded, load_lane<L>(x + i, width));
        std::memcpy(y + i, rounded, width * sizeof *y);
    });
}

// scores[q * kKeyRun + k] = query q · key k, the same bits however many of either go together. L's widest floats.
template <class W, int Queries, class Stored>
void key_products(const Query* queries, const Stored* keys, size_t count, size_t head_dim, float* scores) {
    for (size_t k = 0; k < count; k += 4) {
        const Stored* rows[4];
        for (size_t i = 0; i < 4; ++i) rows[i] = keys + (k + i < count ? k + i : count - 1) * head_dim;
        typename W::Floats sums[Queries][4];
        for (auto& of_query : sums)
            for (auto& sum : of_query) sum = W::broadcast(0.0f);
        size_t c = 0;
        for (; c + W::kFloats <= head_dim; c += W::kFloats) {
            typename W::Floats loaded[4];
            for (int i = 0; i < 4; ++i) loaded[i] = load_weights<W>(rows[i] + c);
            for (int q = 0; q < Queries; ++q) {
                const auto x = W::load(queries[q].x + c);
                for (int i = 0; i < 4; ++i) sums[q][i] = W::multiply_add(loaded[i], x, sums[q][i]);
            }
        }
        for (int q = 0; q < Queries; ++q) {
            float products[4];
            W::store_sums(products, sums[q]);
            for (size_t i = 0; i < 4 && k + i < count; ++i) {
                for (size_t rest = c; rest < head_dim; ++rest) products[i] += one_weight<W>(rows[i] + rest) * queries[q].x[rest];
                scores[q * kKeyRun + k + i] = products[i];
            }
        }
    }
}

template <class W, class Stored> typename W::Floats load_first(const Stored* p, size_t n) {
    float values[W::kFloats] = {};
    for (size_t i = 0; i < n; ++i) values[i] = one_weight<W>(p + i);
    return W::load(values);
}

// Columns c.. of out = fading · out + sum_k weights[k] value[k]; `width` of them where that is less than a vector.
template <class W, int Queries, int Vectors, class Stored>
void add_columns(const Query* queries, const float* fading, const float* weights, const Stored* values, size_t count, size_t head_dim,
                 size_t c, size_t width) {
    const bool whole = Vectors > 1 || width == W::kFloats;
    const auto load = [&](const auto* p) { return whole ? load_weights<W>(p) : load_first<W>(p, width); };
    typename W::Floats sums[Queries][Vectors];
    for (int q = 0; q < Queries; ++q)
        for (int j = 0; j < Vectors; ++j) sums[q][j] = W::multiply(load(queries[q].out + c + W::kFloats * j), W::broadcast(fading[q]));
    for (size_t k = 0; k < count; ++k) {
        typename W::Floats loaded[Vectors];
        for (int j = 0; j < Vectors; ++j) loaded[j] = load(values + k * head_dim + c + W::kFloats * j);
        for (int q = 0; q < Queries; ++q) {
            const auto weight = W::broadcast(weights[q * kKeyRun + k]);
            for (int j = 0; j < Vectors; ++j) sums[q][j] = W::multiply_add(weight, loaded[j], sums[q][j]);
        }
    }
    for (int q = 0; q < Queries; ++q)
        for (int j = 0; j < Vectors; ++j) {
            float stored[W::kFloats];
            W::store(stored, sums[q][j]);
            std::memcpy(queries[q].out + c + W::kFloats * j, stored, (whole ? W::kFloats : width) * sizeof(float));
        }
}

template <class W, int Queries, class Stored>
void add_values(const Query* queries, const float* fading, const float* weights, const Stored* values, size_t count, size_t head_dim) {
    constexpr size_t run = 4 * W::kFloats;
    size_t c = 0;
    for (; c + run <= head_dim; c += run)
        add_columns<W, Queries, 4>(queries, fading, weights, values, count, head_dim, c, W::kFloats);
    for (; c < head_dim; c += W::kFloats) {
        const size_t left = head_dim - c;
        add_columns<W, Queries, 1>(queries, fading, weights, values, count, head_dim, c, left < W::kFloats ? left : W::kFloats);
    }
}

// Calls use(rows): the stored ones, or, where several queries share them, their floats in `block`.
template <class L, class Stored, class Use> void as_floats(const Stored* rows, size_t size, bool shared, float* block, Use use) {
    if constexpr (!std::is_same_v<Stored, float>) {
        if (shared) {
            each_lane<L>(size, [&](size_t i, size_t width) {
                store_lane<L>(block + i, width == 8 ? load_weights<L>(rows + i) : load_first<L>(rows + i, width), width);
            });
            return use(static_cast<const float*>(block));
        }
    }
    use(rows);
}

// Calls body(q, number) for the queries by twos and the last alone.
template <class Body> void by_twos(size_t count, Body body) {
    size_t q = 0;
    for (; q + 2 <= count; q += 2) body(q, std::integral_constant<int, 2>());
    if (q < count) body(q, std::integral_constant<int, 1>());
}

// What one query makes of its scores for keys begin..end: weights, 0 for those that it does not see. Returns by what earlier sums fade.
template <class L>
float weigh(const Query& query, const HeadCache& cache, const AttentionForm& form, size_t begin, size_t end, float* scores, float& most,
            float& total) {
    const size_t first = query.first > begin ? query.first : begin, last = query.last < end ? query.last : end;
    for (size_t k = begin; k < end; ++k)
        if (k < first || k >= last) scores[k - begin] = 0.0f;
    if (first >= last) return 1.0f;
    float* const seen = scores + (first - begin);
    const size_t n = last - first;
    scale<L>(seen, n, form.scale, cache.key_scales ? cache.key_scales + first : nullptr);
    if (form.softcap > 0.0f) softcap<L>(seen, n, form.softcap);
    const float before = most, here = largest<L>(seen, n);
    most = here > before || here != here ? here : before;
    float fading = before - most;
    fading = before == -INFINITY ? 0.0f : exponentiate<L>(&fading, 1, 0.0f);
    total = total * fading + exponentiate<L>(seen, n, most);
    if (cache.value_scales) scale<L>(seen, n, 1.0f, cache.value_scales + first);
    return fading;
}

// A softmax in one pass over the keys, by runs that begin at multiples of kKeyRun, so that a query's bits do not depend on its neighbours.
template <class L, class Stored>
void attend_stored(const HeadCache& cache, const AttentionForm& form, const Query* queries, size_t count, float* scratch) {
    const size_t d = form.head_dim;
    float *const scores = scratch, *const block = scratch + kQueryRun * kKeyRun;
    float most[kQueryRun], total[kQueryRun], fading[kQueryRun];
    size_t first = queries[0].first, last = queries[0].last;
    for (size_t q = 0; q < count; ++q) {
        first = queries[q].first < first ? queries[q].first : first;
        last = queries[q].last > last ? queries[q].last : last;
        most[q] = -INFINITY;
        total[q] = 0.0f;
        std::memset(queries[q].out, 0, d * sizeof(float));
    }
    for (size_t begin = first, end; begin < last; begin = end) {
        end = begin / kKeyRun * kKeyRun + kKeyRun;
        end = end < last ? end : last;
        const size_t n = end - begin;
        as_floats<L>(static_cast<const Stored*>(cache.keys) + begin * d, n * d, count > 1, block, [&](const auto* keys) {
            by_twos(count, [&](size_t q, auto number) { key_products<typename L::Wide, number>(queries + q, keys, n, d, scores + q * kKeyRun); });
        });
        for (size_t q = 0; q < count; ++q)
            fading[q] = weigh<L>(queries[q], cache, form, begin, end, scores + q * kKeyRun, most[q], total[q]);
        as_floats<L>(static_cast<const Stored*>(cache.values) + begin * d, n * d, count > 1, block, [&](const auto* values) {
            by_twos(count, [&](size_t q, auto number) {
                add_values<typename L::Wide, number>(queries + q, fading + q, scores + q * kKeyRun, values, n, d);
            });
        });
    }
    for (size_t q = 0; q < count; ++q) scale<L>(queries[q].out, d, 1.0f / total[q], nullptr);
}

template <class L> void attend(const HeadCache& cache, const AttentionForm& form, const Query* queries, size_t count, float* scratch) {
    switch (cache.storage) {
        case Storage::float32: return attend_stored<L, float>(cache, form, queries, count, scratch);
        case Storage::float16: return attend_stored<L, uint16_t>(cache, form, queries, count, scratch);
        case Storage::int8: return attend_stored<L, int8_t>(cache, form, queries, count, scratch);
    }
}

template <class L> void softmax_sums(const float* x, size_t n, float max, double* total, double* moment) {
    constexpr size_t kRun = 512;  // float sums of this length lose little; the runs are added as doubles
    const auto most = L::broadcast(max);
    *total = *moment = 0.0;
    for (size_t start = 0; start < n; start += kRun) {
        auto sum = L::broadcast(0.0f), weighted = L::broadcast(0.0f);
        each_lane<L>(n - start < kRun ? n - start : kRun, [&](size_t i, size_t width) {
            const auto below = L::subtract(load_lane<L>(x + start + i, width, -INFINITY), most);
            const auto finite = L::max(L::broadcast(-1000.0f), below);  // 0 · -inf would be NaN
            const auto e = L::exp(finite);
            sum = L::add(sum, e);
            weighted = L::multiply_add(e, finite, weighted);
        });
        *total += L::sum(sum);
        *moment += L::sum(weighted);
    }
}

}  // namespace leanto
