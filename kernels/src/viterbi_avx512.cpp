// The Viterbi step, sixteen groups at a time.
#ifdef LEANTO_AVX512
#include <immintrin.h>

#include "viterbi_step.h"

namespace leanto {
namespace {

struct Avx512 {
    using Vector = __m512;
    static constexpr int count = 16;
    static Vector load(const float* from) { return _mm512_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm512_storeu_ps(to, v); }
    static Vector broadcast(float x) { return _mm512_set1_ps(x); }
    static Vector min(Vector a, Vector b) { return _mm512_min_ps(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm512_fmadd_ps(a, b, c); }
    template <int Bits> static Vector onward(const float* after) {
        if constexpr (Bits == 4) return broadcast(*after);
        const __m512i spread = _mm512_srli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15), Bits);
        return _mm512_permutexvar_ps(spread, _mm512_castps256_ps512(_mm256_loadu_ps(after)));
    }
};

}  // namespace

ViterbiStep viterbi_step_avx512(Coding coding, int bits) { return viterbi_step_for<Avx512>(coding, bits); }

}  // namespace leanto
#endif
