// The Viterbi step, eight groups at a time.
#ifdef LEANTO_AVX2
#include <immintrin.h>

#include "viterbi_step.h"

namespace leanto {
namespace {

struct Avx2 {
    using Vector = __m256;
    static constexpr int count = 8;
    static Vector load(const float* from) { return _mm256_loadu_ps(from); }
    static void store(float* to, Vector v) { _mm256_storeu_ps(to, v); }
    static Vector broadcast(float x) { return _mm256_set1_ps(x); }
    static Vector min(Vector a, Vector b) { return _mm256_min_ps(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return _mm256_fmadd_ps(a, b, c); }
    template <int Bits> static Vector onward(const float* after) {
        if constexpr (Bits >= 3) return _mm256_broadcast_ss(after);
        const __m256i spread = _mm256_srli_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), Bits);
        return _mm256_permutevar8x32_ps(load(after), spread);
    }
};

}  // namespace

ViterbiStep viterbi_step_avx2(Coding coding, int bits) { return viterbi_step_for<Avx2>(coding, bits); }

}  // namespace leanto
#endif
