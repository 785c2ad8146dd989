// The Viterbi step, four groups at a time.
#ifdef LEANTO_NEON
#include <arm_neon.h>

#include "viterbi_step.h"

namespace leanto {
namespace {

struct Neon {
    using Vector = float32x4_t;
    static constexpr int count = 4;
    static Vector load(const float* from) { return vld1q_f32(from); }
    static void store(float* to, Vector v) { vst1q_f32(to, v); }
    static Vector broadcast(float x) { return vdupq_n_f32(x); }
    static Vector min(Vector a, Vector b) { return vminnmq_f32(a, b); }
    static Vector fma(Vector a, Vector b, Vector c) { return vfmaq_f32(c, a, b); }
    template <int Bits> static Vector onward(const float* after) {
        if constexpr (Bits >= 2) return vld1q_dup_f32(after);
        const float32x4_t pair = vcombine_f32(vld1_f32(after), vdup_n_f32(0));
        return vzip1q_f32(pair, pair);
    }
};

}  // namespace

ViterbiStep viterbi_step_neon(Coding coding, int bits) { return viterbi_step_for<Neon>(coding, bits); }

}  // namespace leanto
#endif
