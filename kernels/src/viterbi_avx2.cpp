// The Viterbi step, eight groups at a time: the portable step's arithmetic in the same order, so the codes are the same.
#ifdef LEANTO_AVX2
#include <immintrin.h>

#include <cmath>

#include "viterbi.h"

namespace leanto {
namespace {

// after[i >> Bits] for i = 0..7.
template <int Bits> __m256 onward(const float* after) {
    if constexpr (Bits >= 3) return _mm256_broadcast_ss(after);
    const __m256i spread = _mm256_srli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), Bits);
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(after), spread);
}

template <int Window, int Bits> void step(const float* values, const float* after, float* before, float linear, float square) {
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    const __m256 slope = _mm256_set1_ps(linear), bend = _mm256_set1_ps(square);
    for (int g = 0; g < groups; g += 8) {
        __m256 least = _mm256_set1_ps(INFINITY);
        for (int b = 0; b < branches; ++b) {
            const __m256 value = _mm256_loadu_ps(values + g + b * groups), way = onward<Bits>(after + (g >> Bits) + b * (groups >> Bits));
            least = _mm256_min_ps(_mm256_fmadd_ps(value, _mm256_fmadd_ps(bend, value, slope), way), least);
        }
        _mm256_storeu_ps(before + g, least);
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
#endif
