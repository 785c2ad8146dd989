// The vectors that a product reads, and in what portions its rows are asked for.
#pragma once

#include <cstddef>
#include <cstdint>

namespace leanto {

constexpr size_t kChunkRows = 32;
constexpr size_t kChunkRanks = 8;  // a group of rows of 4-bit factors
constexpr size_t kMaxTokens = 64;

// Vectors that several matrices share: rotated, and quantized unless every matrix is dense.
struct Inputs {
    size_t tokens;
    const float* x;       // (tokens, columns)
    const int8_t* codes;  // (tokens, padded columns)
    const float* scales;  // (tokens,)
};

}  // namespace leanto
