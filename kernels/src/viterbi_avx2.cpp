// The Viterbi step, eight groups at a time: the portable step's arithmetic in the same order, so the codes are the same.
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

template <int Window, int Bits>
void step(const float* values, const float* after, float* before, uint8_t* choice, float target, float weight) {
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    const __m256 x = _mm256_set1_ps(target), scale = _mm256_set1_ps(weight);
    const __m256i spread = _mm256_srli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), Bits);
    for (int g = 0; g < groups; g += 8) {
        __m256 least, at = _mm256_setzero_ps();
        for (int b = 0; b < branches; ++b) {
            const int w = g + b * groups;
            const __m256 onward = _mm256_permutevar8x32_ps(_mm256_loadu_ps(after + (w >> Bits)), spread);
            const __m256 miss = _mm256_sub_ps(x, _mm256_loadu_ps(values + w));
            const __m256 cost = _mm256_add_ps(onward, _mm256_mul_ps(scale, _mm256_mul_ps(miss, miss)));
            if (b == 0) {
                least = cost;
            } else {
                at = _mm256_blendv_ps(at, _mm256_castsi256_ps(_mm256_set1_epi32(b)), _mm256_cmp_ps(cost, least, _CMP_LT_OQ));
                least = _mm256_min_ps(cost, least);
            }
        }
        _mm256_storeu_ps(before + g, least);
        store_bytes(choice + g, _mm256_castps_si256(at));
    }
}

}  // namespace

ViterbiStep viterbi_step_avx2(Coding coding, int bits) {
    constexpr ViterbiStep trellis[] = {step<kTrellisWindow, 1>, step<kTrellisWindow, 2>, step<kTrellisWindow, 3>, step<kTrellisWindow, 4>};
    constexpr ViterbiStep additive[] = {step<kAdditiveWindow, 1>, step<kAdditiveWindow, 2>, step<kAdditiveWindow, 3>,
                                        step<kAdditiveWindow, 4>};
    return coding == Coding::trellis ? trellis[bits - 1] : coding == Coding::additive ? additive[bits - 1] : nullptr;
}

}  // namespace leanto
