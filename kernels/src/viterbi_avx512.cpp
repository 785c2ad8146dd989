// The Viterbi step, sixteen groups at a time: the portable step's arithmetic in the same order, so the codes are the same.
#ifdef LEANTO_AVX512
#include <immintrin.h>

#include <cmath>

#include "viterbi.h"

namespace leanto {
namespace {

// after[i >> Bits] for i = 0..15.
template <int Bits> __m512 onward(const float* after) {
    if constexpr (Bits == 4) return _mm512_set1_ps(*after);
    const __m512i spread = _mm512_srli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), Bits);
    return _mm512_permutexvar_ps(spread, _mm512_castps256_ps512(_mm256_loadu_ps(after)));
}

template <int Window, int Bits> void step(const float* values, const float* after, float* before, float linear, float square) {
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    const __m512 slope = _mm512_set1_ps(linear), bend = _mm512_set1_ps(square);
    for (int g = 0; g < groups; g += 16) {
        __m512 least = _mm512_set1_ps(INFINITY);
        for (int b = 0; b < branches; ++b) {
            const __m512 value = _mm512_loadu_ps(values + g + b * groups), way = onward<Bits>(after + (g >> Bits) + b * (groups >> Bits));
            least = _mm512_min_ps(_mm512_fmadd_ps(value, _mm512_fmadd_ps(bend, value, slope), way), least);
        }
        _mm512_storeu_ps(before + g, least);
    }
}

}  // namespace

ViterbiStep viterbi_step_avx512(Coding coding, int bits) {
    constexpr ViterbiStep trellis[] = {step<kTrellisWindow, 1>, step<kTrellisWindow, 2>, step<kTrellisWindow, 3>, step<kTrellisWindow, 4>};
    constexpr ViterbiStep additive[] = {step<kAdditiveWindow, 1>, step<kAdditiveWindow, 2>, step<kAdditiveWindow, 3>,
                                        step<kAdditiveWindow, 4>};
    return coding == Coding::trellis ? trellis[bits - 1] : coding == Coding::additive ? additive[bits - 1] : nullptr;
}

}  // namespace leanto
#endif
