// Tail-biting Viterbi encoder of the trellis format: the codes whose decoded values lie nearest to given targets.
// Knows the 12-bit window, its two tables and the bit string of one column; knows nothing of matrices, Hessians or scales.
#pragma once

#include <cstdint>

namespace leanto {

constexpr int kWindowBits = 12;
constexpr int kWindows = 1 << kWindowBits;  // Viterbi states: all windows

// One step of the search, from row t+1 back to row t. cost[w], (kWindows,): the cheapest way from window w to the end, before at
// row t+1, afterwards at row t. Window w at row t is followed by (w >> bits) | b << (12 - bits); choice[w >> bits] receives the
// cheapest b. values, (kWindows,): what each window decodes to. best: scratch for (kWindows >> bits) + 8 floats.
struct ViterbiStep {
    float *cost, *best;
    const float* values;
};

using ViterbiStepFunction = void (*)(const ViterbiStep& step, uint8_t* choice, float target, float weight);

#ifdef LEANTO_AVX2
ViterbiStepFunction viterbi_step_avx2(int bits);  // bit-equal to the portable step
#endif

}  // namespace leanto
