// The vector form of the Viterbi step over the lanes of one instruction set: the portable step's arithmetic in the same order, so the
// codes are the same. Include it from the one file that is compiled for that set, after defining its `Lanes`.
//
// Lanes: `Vector`, `count` of floats in it; load, store, broadcast, min, `fma(a, b, c)` = a · b + c in one rounding, and
// `onward<Bits>(after)`, which is after[i >> Bits] for i < count.
#pragma once

#include <cmath>

#include "viterbi.h"

namespace leanto {

template <typename Lanes, int Window, int Bits>
void viterbi_step(const float* values, const float* after, float* before, float linear, float square) {
    using Vector = typename Lanes::Vector;
    constexpr int branches = 1 << Bits, groups = 1 << (Window - Bits);
    const Vector slope = Lanes::broadcast(linear), bend = Lanes::broadcast(square);
    for (int g = 0; g < groups; g += Lanes::count) {
        Vector least = Lanes::broadcast(INFINITY);
        for (int b = 0; b < branches; ++b) {
            const Vector value = Lanes::load(values + g + b * groups);
            const Vector way = Lanes::template onward<Bits>(after + (g >> Bits) + b * (groups >> Bits));
            least = Lanes::min(Lanes::fma(value, Lanes::fma(bend, value, slope), way), least);
        }
        Lanes::store(before + g, least);
    }
}

template <typename Lanes> ViterbiStep viterbi_step_for(Coding coding, int bits) {
    constexpr ViterbiStep trellis[] = {viterbi_step<Lanes, kTrellisWindow, 1>, viterbi_step<Lanes, kTrellisWindow, 2>,
                                       viterbi_step<Lanes, kTrellisWindow, 3>, viterbi_step<Lanes, kTrellisWindow, 4>};
    constexpr ViterbiStep additive[] = {viterbi_step<Lanes, kAdditiveWindow, 1>, viterbi_step<Lanes, kAdditiveWindow, 2>,
                                        viterbi_step<Lanes, kAdditiveWindow, 3>, viterbi_step<Lanes, kAdditiveWindow, 4>};
    return coding == Coding::trellis ? trellis[bits - 1] : coding == Coding::additive ? additive[bits - 1] : nullptr;
}

}  // namespace leanto
