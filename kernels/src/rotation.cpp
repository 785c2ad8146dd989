// The constants of a rotation: signs from splitmix64 and the cosine matrix of the odd factor.
#include "rotation.h"

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <string>

namespace leanto {
namespace {

float sign(uint64_t seed, size_t index) {
    uint64_t z = seed + (index + 1) * 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return (z ^ (z >> 31)) >> 63 ? -1.0f : 1.0f;
}

size_t odd_factor(size_t dimension) {
    while (dimension % 2 == 0) dimension /= 2;
    if (dimension > kMaxOddFactor)
        throw std::invalid_argument("the odd factor " + std::to_string(dimension) + " of a rotated dimension is over " +
                                    std::to_string(kMaxOddFactor));
    return dimension;
}

}  // namespace

Rotation::Rotation(size_t dimension, uint64_t seed) : odd(odd_factor(dimension)), power(dimension / odd), memory_(dimension + 2 * odd * odd) {
    float *sign_row = memory_.data(), *cosine_rows = sign_row + dimension, *transposed_rows = cosine_rows + odd * odd;
    signs = sign_row, cosines = cosine_rows, transposed = transposed_rows;
    const float scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(power)));
    for (size_t i = 0; i < dimension; ++i) sign_row[i] = scale * sign(seed, i);
    for (size_t k = 0; k < odd; ++k) {
        for (size_t j = 0; j < odd; ++j) {
            const double angle = std::numbers::pi * (static_cast<double>(j) + 0.5) * static_cast<double>(k) / static_cast<double>(odd);
            const double value = std::sqrt((k ? 2.0 : 1.0) / static_cast<double>(odd)) * std::cos(angle);
            cosine_rows[k * odd + j] = transposed_rows[j * odd + k] = static_cast<float>(value);
        }
    }
}

}  // namespace leanto
