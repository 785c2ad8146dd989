// One weight matrix W ≈ Q + L·R in its rotated space, of any kind, with everything about it checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "inputs.h"
#include "low_rank.h"
#include "rotation.h"
#include "table.h"
#include "tensor.h"

namespace leanto {

enum class Kind { dense, int8, coded };

// The rotations of a model, each made once.
class Rotations {
  public:
    const Rotation* get(size_t dimension, uint64_t seed);  // nullptr for seed 0

  private:
    std::map<std::pair<size_t, uint64_t>, std::unique_ptr<Rotation>> made_;
};

struct Matrix {
    // Throws std::invalid_argument if the parts do not hold a (rows, columns) matrix of this name.
    Matrix(const Parts& parts, const std::string& module, size_t rows, size_t columns, Rotations& rotations);

    // Rows first..last (a chunk of at most kChunkRows that starts at a multiple of it) of y = W' x', for `tokens` <= kMaxTokens vectors.
    // `low_rank` is what reduce_rank wrote; y is (tokens, rows).
    void multiply_rows(const Inputs& x, const float* low_rank, size_t first, size_t last, int8_t* tile, float* y) const;
    // Elements first..last (first a multiple of kChunkRanks) of R x', into low_rank (tokens, rank).
    void reduce_rank(const Inputs& x, size_t first, size_t last, float* low_rank) const { factors_.reduce(x, first, last, low_rank); }
    // Row `row` of W itself, (columns,): an embedding. Needs out == nullptr; tile and scratch as for products and rotations.
    void read_row(size_t row, int8_t* tile, float* scratch, float* out) const;

    size_t tile_bytes() const { return kRowGroup * padded_columns; }

    std::string name;
    Kind kind;
    size_t rows, columns, padded_rows, padded_columns, rank;
    const Rotation *in, *out;  // nullptr: that side is not rotated
    uint64_t in_seed;

  private:
    TrellisCodes coded_{};
    const int8_t* int8_ = nullptr;
    Aligned<float> dense_;
    std::vector<float> scales_;
    LowRank factors_;
};

}  // namespace leanto
