// Tail-biting Viterbi encoder of coded columns: the codes whose decoded values lie nearest to given targets.
// Knows windows, their integers and the bit string of one column; knows nothing of matrices, Hessians or scales.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "lines.h"
#include "table.h"

namespace leanto {

// One step of the search, from row t+1 back to row t. A window at row t is g | b << (window - bits) for its group g of low bits and a
// branch b, and leads to the group w >> bits of row t+1. after[g] and before[g], (groups + 8,), are what the cheapest way to the end
// costs from group g of row t+1 and row t. values: the integer v of each window, which costs v (square · v + linear), each product
// fused with its sum.
using ViterbiStep = void (*)(const float* values, const float* after, float* before, float linear, float square);

// Bit-equal to the portable step; nullptr for scalar codes.
#ifdef LEANTO_AVX2
ViterbiStep viterbi_step_avx2(Coding coding, int bits);
#endif
#ifdef LEANTO_AVX512
ViterbiStep viterbi_step_avx512(Coding coding, int bits);
#endif
#ifdef LEANTO_NEON
ViterbiStep viterbi_step_neon(Coding coding, int bits);
#endif

// Encodes one block of one column after the other; one per thread, it owns the scratch.
class BlockEncoder {
  public:
    BlockEncoder(Coding coding, int bits, const int8_t* tables);

    // targets, weights: (rows,), rows a multiple of 8 and at most 256. Returns the window of each row of the best cyclic string.
    const std::vector<int>& encode(const float* targets, const float* weights, int rows);
    int8_t integer(int window) const { return integers_[static_cast<size_t>(window)]; }

  private:
    void set_costs(const float* targets, const float* weights, int rows);
    void settle_seam(int rows);
    void search_short(int rows);
    float cost_of_path(int rows) const;
    void search(int rows, int start, int count, int seam);
    void lower_costs(int t);
    int best_window(int group, size_t row, const float* after) const;
    void encode_short(const float* targets, const float* weights, int rows);
    float* costs(int t) { return costs_.get() + static_cast<size_t>(t) * cost_stride_; }

    int bits_, window_, groups_;
    std::vector<int8_t> integers_;
    Lines<float> values_;
    ViterbiStep step_;
    std::vector<float> linear_, square_;  // of each row
    size_t cost_stride_;
    std::vector<int> path_;
    Lines<float> costs_;  // (rows + 1, cost_stride_): of every group at every row of a search
};

struct EncodeJob {
    const float *targets, *weights;  // (rows, columns), (rows,)
    const int8_t* tables;            // (2, 16)
    Coding coding;
    int bits;
    size_t rows, columns;
    uint8_t* codes;   // (rows * bits / 8, columns), zeros before
    int8_t* decoded;  // (rows, columns)
};

void encode_columns(const EncodeJob& job, size_t threads);

}  // namespace leanto
