// The Viterbi step, eight windows at a time: the portable step's arithmetic in the same order, so the codes are the same.
#include <immintrin.h>

#include <cstring>

#include "viterbi.h"

namespace leanto {
namespace {

// The lowest byte of each 32-bit lane, in order.
inline void store_bytes(uint8_t* to, __m256i lanes) {
    const __m256i lowest = _mm256_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,  //
                                            0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
    const __m256i bytes = _mm256_shuffle_epi8(lanes, lowest);
    const int first = _mm256_extract_epi32(bytes, 0), second = _mm256_extract_epi32(bytes, 4);
    std::memcpy(to, &first, 4);
    std::memcpy(to + 4, &second, 4);
}

template <int Bits>
void step(const ViterbiStep& s, uint8_t* choice, float target, float weight) {
    constexpr int branches = 1 << Bits, groups = kWindows >> Bits;
    float *const cost = s.cost, *const best = s.best;  // locals: vector stores may alias the struct
    const float* const values = s.values;
    for (int g = 0; g < groups; g += 8) {
        __m256 least = _mm256_loadu_ps(cost + g), at = _mm256_setzero_ps();
        for (int b = 1; b < branches; ++b) {
            const __m256 other = _mm256_loadu_ps(cost + g + b * groups);
            at = _mm256_blendv_ps(at, _mm256_castsi256_ps(_mm256_set1_epi32(b)), _mm256_cmp_ps(other, least, _CMP_LT_OQ));
            least = _mm256_min_ps(other, least);
        }
        _mm256_storeu_ps(best + g, least);
        store_bytes(choice + g, _mm256_castps_si256(at));
    }
    const __m256 x = _mm256_set1_ps(target), scale = _mm256_set1_ps(weight);
    const __m256i spread = _mm256_srli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), Bits);
    for (int w = 0; w < kWindows; w += 8) {
        const __m256 before = _mm256_permutevar8x32_ps(_mm256_loadu_ps(best + (w >> Bits)), spread);
        const __m256 miss = _mm256_sub_ps(x, _mm256_loadu_ps(values + w));
        _mm256_storeu_ps(cost + w, _mm256_add_ps(before, _mm256_mul_ps(scale, _mm256_mul_ps(miss, miss))));
    }
}

}  // namespace

ViterbiStepFunction viterbi_step_avx2(int bits) {
    constexpr ViterbiStepFunction steps[] = {step<1>, step<2>, step<3>, step<4>};
    return steps[bits - 1];
}

}  // namespace leanto
