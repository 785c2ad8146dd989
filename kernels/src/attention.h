// Attention of one query head over cached keys and values, and the sums of a softmax.
#pragma once

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

// x = exp(x - max x); returns the sum.
template <class L> float exponentiate(float* x, size_t n) {
    const auto most = L::broadcast(largest<L>(x, n));
    auto total = L::broadcast(0.0f);
    float rest = 0.0f;
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto e = L::exp(L::subtract(load_lane<L>(x + i, width), most));
        store_lane<L>(x + i, e, width);
        if (width == 8) total = L::add(total, e);
        else
            for (size_t k = i; k < n; ++k) rest += x[k];
    });
    return L::sum(total) + rest;
}

// out = factor · sum_k weights[k] value[k], by runs of 32 so that each weight is broadcast for four vectors.
template <class L>
void weighted_sum(const float* weights, float factor, const float* value, size_t keys, size_t stride, size_t head_dim, float* out) {
    const auto scale = L::broadcast(factor);
    size_t i = 0;
    for (; i + 32 <= head_dim; i += 32) {
        typename L::Floats sums[4];
        for (auto& sum : sums) sum = L::broadcast(0.0f);
        for (size_t k = 0; k < keys; ++k) {
            const auto weight = L::broadcast(weights[k]);
            for (int j = 0; j < 4; ++j) sums[j] = L::multiply_add(weight, L::load(value + k * stride + i + 8 * j), sums[j]);
        }
        for (int j = 0; j < 4; ++j) L::store(out + i + 8 * j, L::multiply(sums[j], scale));
    }
    each_lane<L>(head_dim - i, [&](size_t j, size_t width) {
        auto sum = L::broadcast(0.0f);
        for (size_t k = 0; k < keys; ++k)
            sum = L::multiply_add(L::broadcast(weights[k]), load_lane<L>(value + k * stride + i + j, width), sum);
        store_lane<L>(out + i + j, L::multiply(sum, scale), width);
    });
}

template <class L>
void attend(const float* query, const float* key, const float* value, size_t keys, size_t stride, size_t head_dim, float scale, float cap,
            float* scores, float* out) {
    size_t t = 0;
    for (; t + 4 <= keys; t += 4) {
        float products[4];
        float_rows<L>(key + t * stride, stride, head_dim, query, products);
        for (size_t i = 0; i < 4; ++i) scores[t + i] = products[i] * scale;
    }
    for (; t < keys; ++t) {
        float product[1];
        float_rows<L>(key + t * stride, stride, head_dim, query, product);
        scores[t] = product[0] * scale;
    }
    if (cap > 0.0f) softcap<L>(scores, keys, cap);
    weighted_sum<L>(scores, 1.0f / exponentiate<L>(scores, keys), value, keys, stride, head_dim, out);
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
