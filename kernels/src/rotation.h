// Incoherence rotations R x = (C ⊗ H)(s ∘ x): seeded signs, a Hadamard transform of the power-of-two factor of the dimension,
// a cosine transform of its odd factor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace leanto {

// Plain pointers, and no inline functions: the kernels below are built for other instruction sets than the rest.
struct Rotation {
    size_t odd, power;     // dimension = odd * power
    const float* signs;    // (odd * power), ±1 / sqrt(power)
    const float* cosines;  // (odd, odd) orthonormal DCT-II, row k = frequency
    const float* transposed;

    Rotation(size_t dimension, uint64_t seed);  // throws std::invalid_argument if the odd factor is over kMaxOddFactor
    Rotation(const Rotation&) = delete;

  private:
    std::vector<float> memory_;
};

constexpr size_t kMaxOddFactor = 1024;  // bounds the work and memory that a shape can ask for

template <class L> void hadamard(float* x, size_t n) {
    size_t done = 1;
    if (n >= 8) {
        for (size_t i = 0; i < n; i += 8) L::store(x + i, L::butterfly(L::load(x + i)));
        done = 8;
    }
    for (size_t h = done; h < n; h *= 2) {
        for (size_t start = 0; start < n; start += 2 * h) {
            float *low = x + start, *high = low + h;
            if (h < 8) {
                for (size_t i = 0; i < h; ++i) {
                    const float a = low[i], b = high[i];
                    low[i] = a + b;
                    high[i] = a - b;
                }
            } else {
                for (size_t i = 0; i < h; i += 8) {
                    const auto a = L::load(low + i), b = L::load(high + i);
                    L::store(low + i, L::add(a, b));
                    L::store(high + i, L::subtract(a, b));
                }
            }
        }
    }
}

// y (odd, power) = matrix (odd, odd) times x (odd, power)
template <class L> void mix_rows(const float* matrix, const float* x, size_t odd, size_t power, float* y) {
    for (size_t column = 0; column < power; column += 8) {
        const size_t width = power - column < 8 ? power - column : 8;
        for (size_t k = 0; k < odd; ++k) {
            auto sum = L::broadcast(0.0f);
            for (size_t j = 0; j < odd; ++j) {
                const float* row = x + j * power + column;
                sum = L::multiply_add(L::broadcast(matrix[k * odd + j]), width == 8 ? L::load(row) : L::load_some(row, width, 0.0f), sum);
            }
            L::store_some(y + k * power + column, sum, width);
        }
    }
}

template <class L> void multiply_signs(const Rotation& r, const float* x, float* y) {
    const size_t n = r.odd * r.power;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) L::store(y + i, L::multiply(L::load(x + i), L::load(r.signs + i)));
    for (; i < n; ++i) y[i] = x[i] * r.signs[i];
}

template <class L> void rotate(const Rotation& r, const float* x, float* y, float* scratch) {
    float* signed_x = r.odd == 1 ? y : scratch;
    multiply_signs<L>(r, x, signed_x);
    for (size_t k = 0; k < r.odd; ++k) hadamard<L>(signed_x + k * r.power, r.power);
    if (r.odd > 1) mix_rows<L>(r.cosines, scratch, r.odd, r.power, y);
}

template <class L> void rotate_transpose(const Rotation& r, const float* x, float* y, float* scratch) {
    const size_t n = r.odd * r.power;
    if (r.odd > 1) {
        mix_rows<L>(r.transposed, x, r.odd, r.power, scratch);
    } else {
        for (size_t i = 0; i < n; ++i) scratch[i] = x[i];
    }
    for (size_t k = 0; k < r.odd; ++k) hadamard<L>(scratch + k * r.power, r.power);
    multiply_signs<L>(r, scratch, y);
}

}  // namespace leanto
