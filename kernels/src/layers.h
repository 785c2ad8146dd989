// The element-wise parts of a decoder layer: activation quantization, RMSNorm, rotary position embedding, gated MLP, residual sums.
#pragma once

#include <cmath>
#include <cstring>

#include "table.h"

namespace leanto {

// Calls each(i, n) for every run of eight values and once more for a rest of n < 8.
template <class L, class Each> void each_lane(size_t size, Each each) {
    size_t i = 0;
    for (; i + 8 <= size; i += 8) each(i, size_t{8});
    if (i < size) each(i, size - i);
}

template <class L> typename L::Floats load_lane(const float* p, size_t n, float fill = 0.0f) {
    return n == 8 ? L::load(p) : L::load_some(p, n, fill);
}

template <class L> void store_lane(float* p, typename L::Floats x, size_t n) {
    if (n == 8) L::store(p, x);
    else L::store_some(p, x, n);
}

template <class L> float quantize(const float* x, size_t n, int8_t* q) {
    const uint32_t bits = L::max_magnitude(x, n);
    float largest;
    std::memcpy(&largest, &bits, sizeof largest);
    if (bits >= 0x7f800000u || largest < 1e-30f) {  // not finite, or too small to divide by
        std::memset(q, 0, n);
        return bits >= 0x7f800000u ? NAN : 0.0f;
    }
    const auto factor = L::broadcast(127.0f / largest);
    each_lane<L>(n, [&](size_t i, size_t width) {
        int8_t rounded[8];
        L::store_rounded(rounded, L::multiply(load_lane<L>(x + i, width), factor));
        std::memcpy(q + i, rounded, width);
    });
    return largest / 127.0f;
}

template <class L> void rms_norm(const float* x, const float* weight, float epsilon, size_t n, float* y) {
    auto squares = L::broadcast(0.0f);
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto v = load_lane<L>(x + i, width);
        squares = L::multiply_add(v, v, squares);
    });
    const auto factor = L::broadcast(1.0f / std::sqrt(L::sum(squares) / static_cast<float>(n) + epsilon));
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto v = L::multiply(load_lane<L>(x + i, width), factor);
        store_lane<L>(y + i, L::multiply(v, load_lane<L>(weight + i, width)), width);
    });
}

// Rotates the pairs (x[i], x[i + half]) by position: the convention of Hugging Face's Llama.
template <class L> void rope(float* x, size_t head_dim, const float* cosine, const float* sine) {
    const size_t half = head_dim / 2;
    each_lane<L>(half, [&](size_t i, size_t width) {
        const auto a = load_lane<L>(x + i, width), b = load_lane<L>(x + half + i, width);
        const auto c = load_lane<L>(cosine + i, width), s = load_lane<L>(sine + i, width);
        store_lane<L>(x + i, L::subtract(L::multiply(a, c), L::multiply(b, s)), width);
        store_lane<L>(x + half + i, L::multiply_add(b, c, L::multiply(a, s)), width);
    });
}

template <class L> void gated_mlp(float* gate, const float* up, size_t n) {
    const auto one = L::broadcast(1.0f), zero = L::broadcast(0.0f);
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto g = load_lane<L>(gate + i, width);
        const auto silu = L::divide(g, L::add(one, L::exp(L::subtract(zero, g))));
        store_lane<L>(gate + i, L::multiply(silu, load_lane<L>(up + i, width)), width);
    });
}

template <class L> void add(float* y, const float* x, size_t n) {
    each_lane<L>(
        n, [&](size_t i, size_t width) { store_lane<L>(y + i, L::add(load_lane<L>(y + i, width), load_lane<L>(x + i, width)), width); });
}

}  // namespace leanto
