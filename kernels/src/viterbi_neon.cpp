// The Viterbi step, four groups at a time: the portable step's arithmetic in the same order, so the codes are the same.
#ifdef LEANTO_NEON
#include <arm_neon.h>

#include <cmath>

#include "viterbi.h"

namespace leanto {
namespace {

// after[i >> Bits] for i = 0..3.
template <int Bits> float32x4_t onward(const float* after) {
    if constexpr (Bits >= 2) return vld1q_dup_f32(after);
    const float32x4_t pair = vcombine_f32(vld1_f32(after), vdup_n_f32(0));
    return vzip1q_f32(pair, pair);
}

template <int Window, int Bits> void step(const float* values, const float* after, float* before, float linear, float square) {
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    const float32x4_t slope = vdupq_n_f32(linear), bend = vdupq_n_f32(square);
    for (int g = 0; g < groups; g += 4) {
        float32x4_t least = vdupq_n_f32(INFINITY);
        for (int b = 0; b < branches; ++b) {
            const float32x4_t value = vld1q_f32(values + g + b * groups), way = onward<Bits>(after + (g >> Bits) + b * (groups >> Bits));
            least = vminnmq_f32(vfmaq_f32(way, value, vfmaq_f32(slope, bend, value)), least);
        }
        vst1q_f32(before + g, least);
    }
}

}  // namespace

ViterbiStep viterbi_step_neon(Coding coding, int bits) {
    constexpr ViterbiStep trellis[] = {step<kTrellisWindow, 1>, step<kTrellisWindow, 2>, step<kTrellisWindow, 3>, step<kTrellisWindow, 4>};
    constexpr ViterbiStep additive[] = {step<kAdditiveWindow, 1>, step<kAdditiveWindow, 2>, step<kAdditiveWindow, 3>,
                                        step<kAdditiveWindow, 4>};
    return coding == Coding::trellis ? trellis[bits - 1] : coding == Coding::additive ? additive[bits - 1] : nullptr;
}

}  // namespace leanto
#endif
