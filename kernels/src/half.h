// IEEE 754 binary16 to binary32, without hardware help.
#pragma once

#include <cstdint>
#include <cstring>

namespace leanto {

static inline float half_to_float(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ff;
    if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
        const float magnitude = float(fraction) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

}  // namespace leanto
