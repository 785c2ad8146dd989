// The element-wise parts of a decoder layer: activation quantization, RMSNorm, rotary position embedding, gated MLP,
// soft caps, residual sums.
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
    const auto factor = L::broadcast(1.0f / ::sqrtf(L::sum(squares) / static_cast<float>(n) + epsilon));
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

// gate = gate · up / (1 + exp(-sharpness(gate))): the logistic function of what the activation makes of the gate.
template <class L, class Sharpness> void gated_mlp(float* gate, const float* up, size_t n, Sharpness sharpness) {
    const auto one = L::broadcast(1.0f), zero = L::broadcast(0.0f);
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto g = load_lane<L>(gate + i, width);
        const auto active = L::divide(g, L::add(one, L::exp(L::subtract(zero, sharpness(g)))));
        store_lane<L>(gate + i, L::multiply(active, load_lane<L>(up + i, width)), width);
    });
}

template <class L> void gated_silu(float* gate, const float* up, size_t n) {
    gated_mlp<L>(gate, up, n, [](auto g) { return g; });
}

// GELU by its tanh approximation: (1 + tanh u) / 2 is the logistic function of 2u, u = sqrt(2 / pi) (g + 0.044715 g^3).
template <class L> void gated_gelu(float* gate, const float* up, size_t n) {
    const auto linear = L::broadcast(1.5957691216f), cubic = L::broadcast(1.5957691216f * 0.044715f);
    gated_mlp<L>(gate, up, n, [&](auto g) { return L::multiply(g, L::multiply_add(L::multiply(g, g), cubic, linear)); });
}

// x = cap · tanh(x / cap), the tanh from an exponential.
template <class L> void softcap(float* x, size_t n, float cap) {
    const auto one = L::broadcast(1.0f), two = L::broadcast(2.0f), most = L::broadcast(cap), steep = L::broadcast(2.0f / cap);
    each_lane<L>(n, [&](size_t i, size_t width) {
        const auto e = L::exp(L::multiply(load_lane<L>(x + i, width), steep));
        store_lane<L>(x + i, L::multiply(most, L::subtract(one, L::divide(two, L::add(e, one)))), width);
    });
}

template <class L> void add(float* y, const float* x, size_t n) {
    each_lane<L>(
        n, [&](size_t i, size_t width) { store_lane<L>(y + i, L::add(load_lane<L>(y + i, width), load_lane<L>(x + i, width)), width); });
}

}  // namespace leanto
